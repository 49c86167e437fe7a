//! The encoder: a film down to one vector per latent cell.

use burn::{
    module::Module,
    nn::{GroupNorm, conv::Conv2d},
    tensor::{Device, Tensor},
};

use crate::{
    VqganConfig,
    block::{AttnBlock, Downsample, Middle, ResnetBlock, See, convolve, group_norm, norm_swish, same_conv},
};

/// One level: residual blocks, attention where the config asks for it, then half the side.
#[derive(Module, Debug)]
pub struct EncoderLevel {
    block: Vec<ResnetBlock>,
    attn: Vec<AttnBlock>,
    downsample: Option<Downsample>,
}

/// `E(x)`, before the 1x1 projection onto the codebook's vector length.
#[derive(Module, Debug)]
pub struct Encoder {
    conv_in: Conv2d,
    down: Vec<EncoderLevel>,
    mid: Middle,
    norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Encoder {
    /// An encoder of the given shape; the config has been validated.
    pub fn new(config: &VqganConfig, device: &Device) -> Self {
        let mut channels = config.width;
        let mut side = config.side;
        let last = config.multipliers.len() - 1;
        let mut down = Vec::with_capacity(config.multipliers.len());
        for (level, multiplier) in config.multipliers.iter().enumerate() {
            let channels_out = config.width * multiplier;
            let mut block = Vec::with_capacity(config.residual_blocks);
            let mut attn = Vec::new();
            for _ in 0..config.residual_blocks {
                block.push(ResnetBlock::new(channels, channels_out, device));
                channels = channels_out;
                if config.attention_sides.contains(&side) {
                    attn.push(AttnBlock::new(channels, device));
                }
            }
            let downsample = (level != last).then(|| Downsample::new(channels, device));
            if level != last {
                side /= 2;
            }
            down.push(EncoderLevel { block, attn, downsample });
        }
        Self {
            conv_in: same_conv(1, config.width, 3, device),
            down,
            mid: Middle::new(channels, config.middle_attention, device),
            norm_out: group_norm(channels, device),
            conv_out: same_conv(channels, config.latent_channels, 3, device),
        }
    }

    /// # Shapes
    ///
    /// `[batch, 1, height, width]` to `[batch, latent_channels, height / f, width / f]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.forward_seen(x, &mut |_, _| {})
    }

    /// As [`Encoder::forward`], with every layer's output shown to `see`.
    pub fn forward_seen(&self, x: Tensor<4>, see: See<'_>) -> Tensor<4> {
        let mut h = convolve(&self.conv_in, x);
        see(&"conv_in", &h);
        for (number, level) in self.down.iter().enumerate() {
            for (i, block) in level.block.iter().enumerate() {
                h = block.forward(h);
                see(&format_args!("down.{number}.block.{i}"), &h);
                if let Some(attention) = level.attn.get(i) {
                    h = attention.forward(h);
                    see(&format_args!("down.{number}.attn.{i}"), &h);
                }
            }
            if let Some(downsample) = &level.downsample {
                h = downsample.forward(h);
                see(&format_args!("down.{number}.downsample"), &h);
            }
        }
        h = norm_swish(&self.norm_out, self.mid.forward(h, &mut *see));
        see(&"norm_out", &h);
        h = convolve(&self.conv_out, h);
        see(&"conv_out", &h);
        h
    }
}
