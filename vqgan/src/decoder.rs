//! The decoder: latent cells back to a film.

use burn::{
    module::Module,
    nn::{GroupNorm, conv::Conv2d},
    tensor::{Device, Tensor},
};

use crate::{
    VqganConfig,
    block::{AttnBlock, Middle, ResnetBlock, See, Upsample, convolve, group_norm, norm_swish, same_conv},
};

/// One level: residual blocks, attention where the config asks for it, then twice the side.
#[derive(Module, Debug)]
pub struct DecoderLevel {
    block: Vec<ResnetBlock>,
    attn: Vec<AttnBlock>,
    upsample: Option<Upsample>,
}

/// `G(z)`. The levels in `up` are numbered from the film, as in the reference implementation, and run
/// from the last to the first.
#[derive(Module, Debug)]
pub struct Decoder {
    conv_in: Conv2d,
    mid: Middle,
    up: Vec<DecoderLevel>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Decoder {
    /// A decoder of the given shape; the config has been validated.
    pub fn new(config: &VqganConfig, device: &Device) -> Self {
        let last = config.multipliers.len() - 1;
        let bottom = config.width * config.multipliers[last];
        let mut channels = bottom;
        let mut side = config.side >> last;
        let mut up = Vec::with_capacity(config.multipliers.len());
        for (level, multiplier) in config.multipliers.iter().enumerate().rev() {
            let channels_out = config.width * multiplier;
            let mut block = Vec::with_capacity(config.residual_blocks + 1);
            let mut attn = Vec::new();
            for _ in 0..=config.residual_blocks {
                block.push(ResnetBlock::new(channels, channels_out, device));
                channels = channels_out;
                if config.attention_sides.contains(&side) {
                    attn.push(AttnBlock::new(channels, device));
                }
            }
            let upsample = (level != 0).then(|| Upsample::new(channels, device));
            if level != 0 {
                side *= 2;
            }
            up.push(DecoderLevel { block, attn, upsample });
        }
        up.reverse();
        Self {
            conv_in: same_conv(config.latent_channels, bottom, 3, device),
            mid: Middle::new(bottom, config.middle_attention, device),
            up,
            norm_out: group_norm(channels, device),
            conv_out: same_conv(channels, 1, 3, device),
        }
    }

    /// Everything but the last convolution: what the adaptive weight needs besides the film itself.
    ///
    /// # Shapes
    ///
    /// `[batch, latent_channels, height / f, width / f]` to `[batch, width, height, width]`
    pub fn features(&self, z: Tensor<4>) -> Tensor<4> {
        self.features_seen(z, &mut |_, _| {})
    }

    /// As [`Decoder::features`], with every layer's output shown to `see`.
    pub fn features_seen(&self, z: Tensor<4>, see: See<'_>) -> Tensor<4> {
        let mut h = convolve(&self.conv_in, z);
        see(&"conv_in", &h);
        h = self.mid.forward(h, &mut *see);
        for (number, level) in self.up.iter().enumerate().rev() {
            for (i, block) in level.block.iter().enumerate() {
                h = block.forward(h);
                see(&format_args!("up.{number}.block.{i}"), &h);
                if let Some(attention) = level.attn.get(i) {
                    h = attention.forward(h);
                    see(&format_args!("up.{number}.attn.{i}"), &h);
                }
            }
            if let Some(upsample) = &level.upsample {
                h = upsample.forward(h);
                see(&format_args!("up.{number}.upsample"), &h);
            }
        }
        h = norm_swish(&self.norm_out, h);
        see(&"norm_out", &h);
        h
    }

    /// The last convolution, from [`Decoder::features`] to a film in `[-1, 1]`.
    pub fn film(&self, features: Tensor<4>) -> Tensor<4> {
        convolve(&self.conv_out, features)
    }

    /// # Shapes
    ///
    /// `[batch, latent_channels, height / f, width / f]` to `[batch, 1, height, width]`
    pub fn forward(&self, z: Tensor<4>) -> Tensor<4> {
        self.film(self.features(z))
    }

    /// The last convolution's weight, on which the adaptive weight compares gradients.
    pub fn last_layer(&self) -> Tensor<4> {
        self.conv_out.weight.val()
    }
}
