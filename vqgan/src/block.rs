//! The blocks that encoder and decoder are made of.
//!
//! Names and order of operations are those of the reference implementation's `modules/diffusionmodules/
//! model.py`: pre-activation residual blocks (normalise, swish, convolve, twice), one-head
//! attention over all cells, and nearest-neighbour upsampling followed by a convolution.

use burn::{
    module::{Module, Param},
    nn::{
        GroupNorm, GroupNormConfig, PaddingConfig2d,
        conv::{Conv2d, Conv2dConfig},
    },
    tensor::{Device, Tensor, activation},
};
use kernels::{Window, matmul};

/// Told the name of each layer and what it gave, in the order in which layers run.
pub type See<'a> = &'a mut dyn FnMut(&dyn std::fmt::Display, &Tensor<4>);

/// Groups of the paper's normalisation; narrow networks use the largest common divisor.
const GROUPS: usize = 32;
/// Epsilon of the reference implementation's normalisation.
const NORM_EPSILON: f64 = 1e-6;

/// `swish(norm(x))` with swish `h sigmoid(h)`, in one operation.
///
/// # Panics
///
/// Panics if the normalisation has no weights; those of [`group_norm`] do.
pub fn norm_swish(norm: &GroupNorm, x: Tensor<4>) -> Tensor<4> {
    let weight = |param: &Option<Param<Tensor<1>>>| param.as_ref().expect("an affine normalisation").val();
    let (gamma, beta) = (weight(&norm.gamma), weight(&norm.beta));
    kernels::group_norm_swish(x, gamma, beta, norm.num_groups, norm.epsilon)
}

/// `conv(x)`, with the backward pass of [`kernels::conv2d`].
pub fn convolve(conv: &Conv2d, x: Tensor<4>) -> Tensor<4> {
    let PaddingConfig2d::Explicit(top, left, bottom, right) = conv.padding else { return conv.forward(x) };
    let window = Window { stride: conv.stride, padding: [top, left, bottom, right], groups: conv.groups };
    kernels::conv2d(x, conv.weight.val(), conv.bias.as_ref().map(Param::val), window)
}

/// Group normalisation with `gcd(32, channels)` groups.
pub fn group_norm(channels: usize, device: &Device) -> GroupNorm {
    GroupNormConfig::new(greatest_common_divisor(GROUPS, channels), channels)
        .with_epsilon(NORM_EPSILON)
        .init(device)
}

/// A convolution of stride 1 that keeps the side; `kernel` is odd.
pub fn same_conv(channels_in: usize, channels_out: usize, kernel: usize, device: &Device) -> Conv2d {
    let pad = kernel / 2;
    Conv2dConfig::new([channels_in, channels_out], [kernel, kernel])
        .with_padding(PaddingConfig2d::Explicit(pad, pad, pad, pad))
        .init(device)
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// Residual block: `x + conv2(swish(norm2(conv1(swish(norm1(x))))))`, with a 1x1 shortcut where the number
/// of channels changes.
#[derive(Module, Debug)]
pub struct ResnetBlock {
    norm1: GroupNorm,
    conv1: Conv2d,
    norm2: GroupNorm,
    conv2: Conv2d,
    nin_shortcut: Option<Conv2d>,
}

impl ResnetBlock {
    /// A block from `channels_in` to `channels_out` channels.
    pub fn new(channels_in: usize, channels_out: usize, device: &Device) -> Self {
        Self {
            norm1: group_norm(channels_in, device),
            conv1: same_conv(channels_in, channels_out, 3, device),
            norm2: group_norm(channels_out, device),
            conv2: same_conv(channels_out, channels_out, 3, device),
            nin_shortcut: (channels_in != channels_out)
                .then(|| same_conv(channels_in, channels_out, 1, device)),
        }
    }

    /// # Shapes
    ///
    /// `[batch, channels_in, height, width]` to `[batch, channels_out, height, width]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let h = convolve(&self.conv1, norm_swish(&self.norm1, x.clone()));
        let h = convolve(&self.conv2, norm_swish(&self.norm2, h));
        match &self.nin_shortcut {
            Some(shortcut) => convolve(shortcut, x) + h,
            None => x + h,
        }
    }
}

/// One-head self-attention over all cells, with a residual connection.
#[derive(Module, Debug)]
pub struct AttnBlock {
    norm: GroupNorm,
    q: Conv2d,
    k: Conv2d,
    v: Conv2d,
    proj_out: Conv2d,
}

impl AttnBlock {
    /// Attention over cells of `channels` channels.
    pub fn new(channels: usize, device: &Device) -> Self {
        let project = || same_conv(channels, channels, 1, device);
        Self {
            norm: group_norm(channels, device),
            q: project(),
            k: project(),
            v: project(),
            proj_out: project(),
        }
    }

    /// # Shapes
    ///
    /// `[batch, channels, height, width]` to the same
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, channels, height, width] = x.dims();
        let cells = |t: Tensor<4>| t.reshape([batch, channels, height * width]);
        let h = self.norm.forward(x.clone());
        let q = cells(convolve(&self.q, h.clone())).swap_dims(1, 2);
        let k = cells(convolve(&self.k, h.clone()));
        let v = cells(convolve(&self.v, h));
        let scale = (channels as f64).powf(-0.5);
        let weights = activation::softmax(matmul(q, k).mul_scalar(scale), 2);
        let h = matmul(v, weights.swap_dims(1, 2)).reshape([batch, channels, height, width]);
        x + convolve(&self.proj_out, h)
    }
}

/// Halves the side with a strided 3x3 convolution, padded on the right and below only.
#[derive(Module, Debug)]
pub struct Downsample {
    conv: Conv2d,
}

impl Downsample {
    /// Keeps the number of channels.
    pub fn new(channels: usize, device: &Device) -> Self {
        let conv = Conv2dConfig::new([channels, channels], [3, 3])
            .with_stride([2, 2])
            .with_padding(PaddingConfig2d::Explicit(0, 0, 1, 1))
            .init(device);
        Self { conv }
    }

    /// # Shapes
    ///
    /// `[batch, channels, height, width]` to `[batch, channels, height / 2, width / 2]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        convolve(&self.conv, x)
    }
}

/// Doubles the side by repetition, then convolves.
#[derive(Module, Debug)]
pub struct Upsample {
    conv: Conv2d,
}

impl Upsample {
    /// Keeps the number of channels.
    pub fn new(channels: usize, device: &Device) -> Self {
        Self { conv: same_conv(channels, channels, 3, device) }
    }

    /// # Shapes
    ///
    /// `[batch, channels, height, width]` to `[batch, channels, 2 height, 2 width]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, channels, height, width] = x.dims();
        let x = x
            .reshape([batch, channels, height, 1, width, 1])
            .expand([batch, channels, height, 2, width, 2])
            .reshape([batch, channels, 2 * height, 2 * width]);
        convolve(&self.conv, x)
    }
}

/// The bottom of encoder and decoder: residual, attention, residual.
#[derive(Module, Debug)]
pub struct Middle {
    block_1: ResnetBlock,
    attn_1: Option<AttnBlock>,
    block_2: ResnetBlock,
}

impl Middle {
    /// Keeps the number of channels.
    pub fn new(channels: usize, attention: bool, device: &Device) -> Self {
        Self {
            block_1: ResnetBlock::new(channels, channels, device),
            attn_1: attention.then(|| AttnBlock::new(channels, device)),
            block_2: ResnetBlock::new(channels, channels, device),
        }
    }

    /// # Shapes
    ///
    /// `[batch, channels, height, width]` to the same
    pub fn forward(&self, x: Tensor<4>, see: See<'_>) -> Tensor<4> {
        let mut x = self.block_1.forward(x);
        see(&"mid.block_1", &x);
        if let Some(attention) = &self.attn_1 {
            x = attention.forward(x);
            see(&"mid.attn_1", &x);
        }
        x = self.block_2.forward(x);
        see(&"mid.block_2", &x);
        x
    }
}
