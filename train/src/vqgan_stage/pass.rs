//! The forward pass of one part of a step, up to its loss.

use burn::{
    module::Module,
    tensor::{Int, Tensor},
};
use vqgan::{
    Discriminator, Vqgan,
    loss::{adaptive_weight, gradient_at, with_gradient},
};

use super::{
    losses::{Losses, scalar},
    perceptual::Loaded,
};
use crate::{
    config::{DiscriminatorTraining, VqganTraining},
    not_finite::Broken,
};

/// What a part of a step leaves behind once its graph of gradients is gone.
pub(super) struct Outcome {
    pub film: Tensor<4>,
    pub continuous: Tensor<4>,
    pub indices: Option<Tensor<1, Int>>,
}

/// The forward pass of one part of a step, on the device of the part.
pub(super) struct Pass<'a> {
    pub config: &'a VqganTraining,
    pub net: &'a Vqgan,
    /// The discriminator, once the game has begun.
    pub game: Option<(&'a DiscriminatorTraining, &'a Discriminator)>,
    pub perceptual: Option<&'a Loaded>,
    pub quantise: bool,
}

impl Pass<'_> {
    /// The loss before its backward pass.
    pub fn run(
        &self,
        x: &Tensor<4>,
        part: usize,
    ) -> std::result::Result<(Tensor<1>, Losses, Outcome), Broken> {
        let out = self.net.reconstruct(x.clone(), self.quantise);
        let mut losses = Losses {
            reconstruction: f64::NAN,
            perceptual: f64::NAN,
            codebook: scalar(&out.codebook_loss),
            commitment: scalar(&out.commitment_loss),
            generator: f64::NAN,
            discriminator: f64::NAN,
            adaptive_weight: f64::NAN,
            gradient_norm: f64::NAN,
            perplexity: f64::NAN,
        };
        // The distance of a film and its reconstruction, and its two terms.
        let distance = |film: Tensor<4>| {
            let pixels = self.config.reconstruction.forward(x.clone(), film.clone());
            let Some(perceptual) = self.perceptual else { return (pixels.clone(), pixels, None) };
            let features = perceptual.forward(x.clone(), film);
            let sum = pixels.clone() + features.clone().mul_scalar(perceptual.weight());
            (sum, pixels, Some(features))
        };
        let mut take = |pixels: &Tensor<1>, features: &Option<Tensor<1>>| {
            losses.reconstruction = scalar(pixels);
            losses.perceptual = features.as_ref().map_or(f64::NAN, scalar);
        };
        let film = out.film.clone();
        let loss = match self.game {
            None => {
                let (loss, pixels, features) = distance(film);
                take(&pixels, &features);
                loss
            }
            Some((game, discriminator)) => {
                let (_, towards_film) = gradient_at(&film, |film| {
                    let (loss, pixels, features) = distance(film);
                    take(&pixels, &features);
                    loss
                });
                let (generator, towards_real) =
                    gradient_at(&film, |film| game.loss.generator(discriminator.forward(film)));
                let weight =
                    adaptive_weight(&out.features, &self.net.last_layer(), &towards_film, &towards_real);
                (losses.generator, losses.adaptive_weight) = (generator, weight);
                let gradient = towards_film + towards_real.mul_scalar(weight * game.weight);
                with_gradient(film, gradient)
            }
        };
        let game = if self.game.is_some() { losses.generator } else { 0.0 };
        let features = if self.perceptual.is_some() { losses.perceptual } else { 0.0 };
        let all = [losses.reconstruction, losses.codebook, losses.commitment, features, game];
        if let Some(value) = all.into_iter().find(|value| !value.is_finite()) {
            let layer = self.net.valid().first_not_finite(x.clone().inner(), self.quantise);
            let other = if features.is_finite() { "discriminator" } else { "the perceptual distance" };
            return Err(Broken::loss(value, layer.or_else(|| Some(other.to_owned())), part));
        }
        let commitment = out.commitment_loss.mul_scalar(self.config.commitment);
        let quantisation = match self.config.codebook.average_decay {
            // The codes follow averages: their own term would move them a second time.
            Some(_) => commitment,
            None => out.codebook_loss + commitment,
        };
        let loss = loss + quantisation.mul_scalar(self.config.codebook_weight);
        let outcome =
            Outcome { film: out.film.inner(), continuous: out.continuous.inner(), indices: out.indices };
        Ok((loss, losses, outcome))
    }
}
