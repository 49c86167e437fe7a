//! The losses of a step, and their means over some steps.

use burn::tensor::Tensor;

/// The losses of one step; what did not take part is `NaN`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Losses {
    pub reconstruction: f64,
    pub perceptual: f64,
    pub codebook: f64,
    pub commitment: f64,
    pub generator: f64,
    pub discriminator: f64,
    pub adaptive_weight: f64,
    pub gradient_norm: f64,
    pub perplexity: f64,
}

impl Losses {
    /// Adds the losses of a part of a step.
    pub fn add(&mut self, part: &Self, share: f64) {
        for (sum, value) in [
            (&mut self.reconstruction, part.reconstruction),
            (&mut self.perceptual, part.perceptual),
            (&mut self.codebook, part.codebook),
            (&mut self.commitment, part.commitment),
            (&mut self.generator, part.generator),
            (&mut self.discriminator, part.discriminator),
            (&mut self.adaptive_weight, part.adaptive_weight),
            (&mut self.gradient_norm, part.gradient_norm),
            (&mut self.perplexity, part.perplexity),
        ] {
            *sum += share * value;
        }
    }
}

/// Means of losses over some steps.
#[derive(Default)]
pub(super) struct Averages {
    sums: Vec<(&'static str, f64, u64)>,
}

impl Averages {
    pub fn add(&mut self, losses: &Losses) {
        for (name, value) in [
            ("train/reconstruction_loss", losses.reconstruction),
            ("train/perceptual_loss", losses.perceptual),
            ("train/codebook_loss", losses.codebook),
            ("train/commitment_loss", losses.commitment),
            ("train/generator_loss", losses.generator),
            ("train/discriminator_loss", losses.discriminator),
            ("train/adaptive_weight", losses.adaptive_weight),
            ("train/gradient_norm", losses.gradient_norm),
            ("train/batch_perplexity", losses.perplexity),
        ] {
            if value.is_nan() {
                continue;
            }
            match self.sums.iter_mut().find(|(known, _, _)| *known == name) {
                Some((_, sum, count)) => {
                    *sum += value;
                    *count += 1;
                }
                None => self.sums.push((name, value, 1)),
            }
        }
    }

    /// The means, and begins again.
    pub fn take(&mut self) -> Vec<(String, f64)> {
        let sums = std::mem::take(&mut self.sums);
        sums.into_iter().map(|(name, sum, count)| (name.to_owned(), sum / count as f64)).collect()
    }
}

/// The value of a loss.
pub(super) fn scalar(loss: &Tensor<1>) -> f64 {
    f64::from(loss.clone().into_scalar::<f32>())
}
