//! The PatchGAN discriminator: real or reconstructed, judged patch by patch.
//!
//! Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks" (2017), section 3.2.2; numbering
//! of the layers (`main.0`, `main.2`, `main.3`, ...) as in the reference implementation, where activations
//! count as layers.

use burn::{
    module::Module,
    nn::{
        BatchNorm, BatchNormConfig, Initializer, PaddingConfig2d,
        conv::{Conv2d, Conv2dConfig},
    },
    tensor::{Device, Tensor, activation},
};
use serde::{Deserialize, Serialize};

use crate::block::convolve;

/// Slope of the leaky rectifier below zero.
const NEGATIVE_SLOPE: f64 = 0.2;
/// Standard deviation of the reference implementation's initial weights.
const WEIGHT_STD: f64 = 0.02;

/// Shape of the discriminator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiscriminatorConfig {
    /// Channels of the first convolution (64 in the paper).
    pub width: usize,
    /// Strided convolutions (3 in the paper: patches of 70 pixels; 2 suits films of 64 pixels).
    pub layers: usize,
}

/// One numbered layer.
#[derive(Module, Debug)]
pub enum Layer {
    /// A 4x4 convolution.
    Convolution(Conv2d),
    /// Batch normalisation.
    Normalization(BatchNorm),
    /// The leaky rectifier, which has no weights.
    Activation(LeakyRectifier),
}

/// `max(x, 0.2 x)`.
#[derive(Module, Debug)]
pub struct LeakyRectifier;

/// The discriminator.
#[derive(Module, Debug)]
pub struct Discriminator {
    main: Vec<Layer>,
}

impl DiscriminatorConfig {
    /// Builds the network with fresh weights.
    pub fn init(&self, device: &Device) -> Discriminator {
        let conv = |channels_in: usize, channels_out: usize, stride: usize, bias: bool| {
            Layer::Convolution(
                Conv2dConfig::new([channels_in, channels_out], [4, 4])
                    .with_stride([stride, stride])
                    .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                    .with_bias(bias)
                    .with_initializer(Initializer::Normal { mean: 0.0, std: WEIGHT_STD })
                    .init(device),
            )
        };
        let mut channels = self.width.max(1);
        let mut main = vec![conv(1, channels, 2, true), Layer::Activation(LeakyRectifier)];
        for layer in 1..=self.layers.max(1) {
            let next = self.width.max(1) << layer.min(3);
            let stride = if layer < self.layers { 2 } else { 1 };
            main.push(conv(channels, next, stride, false));
            main.push(Layer::Normalization(BatchNormConfig::new(next).init(device)));
            main.push(Layer::Activation(LeakyRectifier));
            channels = next;
        }
        main.push(conv(channels, 1, 1, true));
        Discriminator { main }
    }
}

impl Discriminator {
    /// Logits, positive for "real", one per patch.
    ///
    /// # Shapes
    ///
    /// `[batch, 1, height, width]` to `[batch, 1, patches, patches]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.main.iter().fold(x, |h, layer| match layer {
            Layer::Convolution(conv) => convolve(conv, h),
            Layer::Normalization(norm) => norm.forward(h),
            Layer::Activation(_) => activation::leaky_relu(h, NEGATIVE_SLOPE),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_of_a_64_pixel_film() {
        let device = Device::flex();
        let net = DiscriminatorConfig { width: 8, layers: 2 }.init(&device);
        let logits = net.forward(Tensor::zeros([2, 1, 64, 64], &device));
        assert_eq!(logits.dims(), [2, 1, 14, 14]);
    }
}
