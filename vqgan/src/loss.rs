//! Reconstruction and adversarial losses, and the adaptive weight between them.
//!
//! Esser et al. (2021), equations 5 to 7:
//! `lambda = ||grad_L[L_rec]|| / (||grad_L[L_GAN]|| + delta)`, with gradients taken at the decoder's last layer L.
//!
//! Burn keeps no graph after a backward pass, so the two gradients cannot be taken through one graph as PyTorch
//! does with `retain_graph`. They need not be: both losses depend on the network through the film
//! `x̂` alone. The discriminator is run on a detached leaf of `x̂`, which gives `dL_GAN/dx̂`;
//! `dL_rec/dx̂` comes from a second leaf; the last layer's gradients follow from its inputs; and the
//! sum `<x̂, dL_rec/dx̂ + lambda dL_GAN/dx̂>` has the same gradient as the weighted loss itself.

use burn::tensor::{Tensor, activation, module::conv2d_weight_backward, ops::ConvOptions};
use serde::{Deserialize, Serialize};

/// Added to the denominator of the adaptive weight.
const DELTA: f64 = 1e-4;
/// Largest adaptive weight, as in the reference implementation.
const LARGEST_WEIGHT: f64 = 1e4;

/// Distance between a film and its reconstruction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReconstructionLoss {
    /// Mean squared difference, the `||x - x̂||^2` of the paper.
    #[default]
    L2,
    /// Mean absolute difference, the reference implementation's choice.
    L1,
}

impl ReconstructionLoss {
    /// The mean over all pixels.
    pub fn forward(self, x: Tensor<4>, film: Tensor<4>) -> Tensor<1> {
        match self {
            Self::L2 => (x - film).square().mean(),
            Self::L1 => (x - film).abs().mean(),
        }
    }
}

/// The game between decoder and discriminator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdversarialLoss {
    /// `relu(1 - D(x)) + relu(1 + D(x̂))`, the reference implementation's choice.
    #[default]
    Hinge,
    /// `-log D(x) - log(1 - D(x̂))`, the paper's text.
    Vanilla,
}

impl AdversarialLoss {
    /// What the discriminator minimises, from its logits on real and reconstructed films.
    pub fn discriminator(self, real: Tensor<4>, fake: Tensor<4>) -> Tensor<1> {
        let (real, fake) = match self {
            Self::Hinge => (
                activation::relu(real.neg().add_scalar(1.0)).mean(),
                activation::relu(fake.add_scalar(1.0)).mean(),
            ),
            Self::Vanilla => {
                (activation::softplus(real.neg(), 1.0).mean(), activation::softplus(fake, 1.0).mean())
            }
        };
        (real + fake).mul_scalar(0.5)
    }

    /// What the decoder minimises: `-mean D(x̂)`, in both games as in the reference implementation.
    pub fn generator(self, fake: Tensor<4>) -> Tensor<1> {
        fake.mean().neg()
    }
}

/// Gradient of `loss` at a film, through a leaf of its own.
///
/// # Panics
///
/// Panics if `loss` does not depend on its argument.
pub fn gradient_at(film: &Tensor<4>, loss: impl FnOnce(Tensor<4>) -> Tensor<1>) -> (f64, Tensor<4>) {
    let leaf = film.clone().inner().autodiff().require_grad();
    let loss = loss(leaf.clone());
    let mut grads = loss.backward();
    let value = f64::from(loss.into_scalar::<f32>());
    let gradient = leaf.grad_remove(&mut grads).expect("the loss depends on the film");
    (value, gradient)
}

/// The adaptive weight from the gradients at the film, the last layer's input and its weight.
///
/// # Shapes
///
/// `features`: `[batch, channels, height, width]`, `weight`: `[1, channels, 3, 3]`, gradients: `[batch, 1, height, width]`
pub fn adaptive_weight(
    features: &Tensor<4>,
    weight: &Tensor<4>,
    reconstruction: &Tensor<4>,
    adversarial: &Tensor<4>,
) -> f64 {
    let norm = |gradient: &Tensor<4>| {
        let options = ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
        let gradient = conv2d_weight_backward(
            features.clone().inner(),
            weight.clone().inner(),
            gradient.clone().inner(),
            options,
        );
        f64::from(gradient.square().sum().into_scalar::<f32>()).sqrt()
    };
    (norm(reconstruction) / (norm(adversarial) + DELTA)).clamp(0.0, LARGEST_WEIGHT)
}

/// A scalar whose gradient at `film` is the given one.
pub fn with_gradient(film: Tensor<4>, gradient: Tensor<4>) -> Tensor<1> {
    (film * gradient.inner().autodiff()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::{
        module::Module,
        nn::conv::{Conv2d, Conv2dConfig},
        optim::GradientsParams,
        tensor::{Device, Distribution},
    };

    /// Surrogate and direct loss have the same gradient at every weight.
    #[test]
    fn the_surrogate_has_the_gradient_of_the_loss() {
        let device = Device::flex().autodiff();
        let conv: Conv2d = Conv2dConfig::new([3, 1], [3, 3])
            .with_padding(burn::nn::PaddingConfig2d::Explicit(1, 1, 1, 1))
            .init(&device);
        let h = Tensor::<4>::random([2, 3, 6, 6], Distribution::Normal(0.0, 1.0), &device);
        let x = Tensor::<4>::random([2, 1, 6, 6], Distribution::Normal(0.0, 1.0), &device);
        let gradients = |loss: Tensor<1>| GradientsParams::from_grads(loss.backward(), &conv);

        let film = conv.forward(h.clone());
        let (value, gradient) = gradient_at(&film, |film| ReconstructionLoss::L2.forward(x.clone(), film));
        let surrogate = gradients(with_gradient(film, gradient.clone()));
        let direct_loss = ReconstructionLoss::L2.forward(x.clone(), conv.forward(h.clone()));
        assert!((value - f64::from(direct_loss.clone().into_scalar::<f32>())).abs() < 1e-6);
        let direct = gradients(direct_loss);
        let id = conv.weight.id;
        let a = surrogate.get::<4>(id).unwrap();
        let b = direct.get::<4>(id).unwrap();
        let difference = (a.clone() - b).abs().max().into_scalar::<f32>();
        assert!(difference < 1e-6, "{difference}");

        // The adaptive weight of a loss against itself is one.
        let weight = adaptive_weight(&h, &conv.weight.val(), &gradient, &gradient);
        let norm = f64::from(a.square().sum().into_scalar::<f32>()).sqrt();
        assert!((weight - norm / (norm + DELTA)).abs() < 1e-5, "{weight}");
        let _ = conv.num_params();
    }

    #[test]
    fn a_confident_discriminator_has_no_hinge_loss() {
        let device = Device::flex();
        let high = Tensor::<4>::full([1, 1, 2, 2], 5.0, &device);
        let low = high.clone().neg();
        let loss = AdversarialLoss::Hinge.discriminator(high.clone(), low.clone());
        assert_eq!(loss.into_scalar::<f32>(), 0.0);
        let loss = AdversarialLoss::Vanilla.discriminator(high, low);
        assert!(loss.into_scalar::<f32>() < 0.01);
    }
}
