//! Forward and backward pass of one batch of a step.

use burn::{optim::GradientsParams, tensor::Tensor};
use classifier::{Classifier, masked_bce};
use datasets::LatentSet;

use super::{
    batches::{Batch, share_of_labels},
    examples::Example,
    targets::{Auxiliary, Teachers},
};
use crate::{config::ClassifierTraining, not_finite::Broken, workers::statistics};

/// What every batch of a step has in common.
pub(super) struct Pass<'a> {
    pub(super) settings: &'a ClassifierTraining,
    pub(super) latents: &'a LatentSet,
    /// All examples of the step.
    pub(super) step: &'a [Example],
    /// Labels of the films; logits beyond them are those of attributes.
    pub(super) labels: usize,
    pub(super) positive_weights: Option<&'a [f32]>,
    pub(super) auxiliary: Option<&'a Auxiliary>,
}

/// What a batch leaves behind.
pub(super) struct Passed {
    pub(super) gradients: GradientsParams,
    /// Its shares of loss, penalty and peak penalty.
    pub(super) losses: [f64; 3],
    /// The watched layers, and the largest pre-activation of each.
    pub(super) layers: Vec<String>,
    pub(super) largest: Vec<f64>,
    /// Its share of the step's films, and the running statistics after it.
    pub(super) statistics: (f64, Vec<Tensor<1>>),
}

impl Pass<'_> {
    /// `net` and `teachers` lie on the device of `batch`.
    pub(super) fn run(
        &self,
        part: usize,
        examples: &[Example],
        batch: Batch,
        net: &Classifier,
        teachers: Option<&Teachers>,
    ) -> Result<Passed, Broken> {
        let settings = self.settings;
        let device = batch.latents.device();
        let (all, ranges) = net.forward_watched(batch.latents.clone());
        let logits = all.clone().narrow(1, 0, self.labels);
        let weights = self.positive_weights.map(|w| Tensor::<1>::from_floats(w, &device));
        let mut loss = masked_bce(logits.clone(), batch.targets, batch.known.clone(), weights);
        if let Some(teachers) = teachers {
            loss = teachers.mix(loss, logits, batch.known, &batch.latents.inner());
        }
        if let Some(auxiliary) = self.auxiliary {
            let attributes = all.dims()[1] - self.labels;
            loss = loss + auxiliary.loss(all.narrow(1, self.labels, attributes), examples);
        }
        let value = f64::from(loss.clone().into_scalar::<f32>());
        let [penalty, peaks] =
            [&ranges.penalty, &ranges.peaks].map(|t| f64::from(t.clone().into_scalar::<f32>()));
        let largest = ranges.largest.inner().into_data().iter::<f32>().map(f64::from).collect::<Vec<_>>();
        if !(value + penalty + peaks).is_finite() {
            let first = largest.iter().position(|l| !l.is_finite()).and_then(|i| ranges.names.get(i));
            // Every activation saw numbers: what comes after the last of them is the head.
            let layer = first.cloned().unwrap_or_else(|| "head".to_owned());
            return Err(Broken::loss(value + penalty + peaks, Some(layer), part));
        }
        // The loss is a mean over known labels, the penalties are means over films.
        let of_films = examples.len() as f64 / self.step.len() as f64;
        let of_labels = share_of_labels(self.latents, examples, self.step);
        let mut loss =
            loss.mul_scalar(of_labels) + ranges.penalty.mul_scalar(settings.range_penalty * of_films);
        if settings.peak_penalty > 0.0 {
            loss = loss + ranges.peaks.mul_scalar(settings.peak_penalty * of_films);
        }
        Ok(Passed {
            gradients: GradientsParams::from_grads(loss.backward(), net),
            losses: [of_labels * value, of_films * penalty, of_films * peaks],
            layers: ranges.names,
            largest,
            statistics: (of_films, statistics(net)),
        })
    }
}
