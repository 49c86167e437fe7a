//! What training logs: figures of a step, their sums over an epoch, and those on validation films.

use classifier::Metrics;
use datasets::LatentSet;
use serde::{Deserialize, Serialize};

/// Figures on validation films, by which an epoch is chosen.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Validated {
    #[serde(flatten)]
    pub(super) metrics: Metrics,
    /// Mean cross-entropy over the known labels; no number where none is known. Absent in checkpoints of version 0.1.0.
    #[serde(default)]
    loss: Option<f64>,
}

impl Validated {
    /// The figures of logits, one list per film of `indices`.
    pub(super) fn new(metrics: Metrics, latents: &LatentSet, indices: &[usize], logits: &[Vec<f64>]) -> Self {
        let (mut sum, mut count) = (0.0, 0u64);
        for (&film, logits) in indices.iter().zip(logits) {
            for (logit, known) in logits.iter().zip(&latents.labels[film]) {
                let Some(label) = known else { continue };
                // -log of the sigmoid, without its overflow.
                let against = if *label { -logit } else { *logit };
                sum += against.max(0.0) + (-against.abs()).exp().ln_1p();
                count += 1;
            }
        }
        let loss = sum / count as f64;
        Self { metrics, loss: loss.is_finite().then_some(loss) }
    }

    /// Whether these figures are better: a higher macro AUROC, any at all against none, and where both have none, a
    /// lower loss.
    pub(super) fn is_better_than(&self, best: &Self) -> bool {
        match (self.metrics.macro_.auroc, best.metrics.macro_.auroc) {
            (Some(own), Some(best)) => own > best,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => self.loss.unwrap_or(f64::INFINITY) < best.loss.unwrap_or(f64::INFINITY),
        }
    }

    /// Names and values as tables have them; an epoch without figures has no number anywhere.
    pub(super) fn named(of: Option<&Self>) -> [(&'static str, f64); 4] {
        let read = |read: fn(&Self) -> Option<f64>| of.and_then(read).unwrap_or(f64::NAN);
        [
            ("validation/macro_auroc", read(|v| v.metrics.macro_.auroc)),
            ("validation/micro_auroc", read(|v| v.metrics.micro.auroc)),
            ("validation/macro_f1", read(|v| v.metrics.macro_.f1)),
            ("validation/loss", read(|v| v.loss)),
        ]
    }

    /// What was kept and by which figure it was chosen.
    pub(super) fn summary(&self) -> String {
        match self.metrics.macro_.auroc {
            Some(auroc) => format!("validation macro AUROC {auroc:.3}"),
            None => format!(
                "validation macro AUROC undefined in every epoch (no finding has both positive and negative validation films), \
                 chosen by the lowest validation loss instead: {:.4}",
                self.loss.unwrap_or(f64::NAN)
            ),
        }
    }
}

/// Figures of one step, added up over its parts.
#[derive(Default)]
pub(super) struct StepFigures {
    pub(super) loss: f64,
    penalty: f64,
    peaks: f64,
    /// The largest pre-activation of each layer.
    largest: Vec<(String, f64)>,
}

impl StepFigures {
    /// Adds a part of the step: its shares of loss, penalty and peak penalty, and the largest values of the named layers.
    pub(super) fn add(&mut self, [loss, penalty, peaks]: [f64; 3], names: &[String], largest: &[f64]) {
        self.loss += loss;
        self.penalty += penalty;
        self.peaks += peaks;
        widen(&mut self.largest, names.iter().map(String::as_str).zip(largest.iter().copied()));
    }
}

/// Keeps the larger value of each layer.
fn widen<'a>(kept: &mut Vec<(String, f64)>, seen: impl Iterator<Item = (&'a str, f64)>) {
    for (i, (name, value)) in seen.enumerate() {
        match kept.get_mut(i) {
            Some((_, largest)) => *largest = largest.max(value),
            None => kept.push((name.to_owned(), value)),
        }
    }
}

/// Sums of figures over an epoch.
#[derive(Default)]
pub(super) struct Sums {
    steps: f64,
    loss: f64,
    penalty: f64,
    peaks: f64,
    norm: f64,
    largest: Vec<(String, f64)>,
}

impl Sums {
    pub(super) fn add(&mut self, step: StepFigures, norm: f64) {
        self.steps += 1.0;
        self.loss += step.loss;
        self.penalty += step.penalty;
        self.peaks += step.peaks;
        self.norm += norm;
        widen(&mut self.largest, step.largest.iter().map(|(name, value)| (name.as_str(), *value)));
    }

    pub(super) fn take(&mut self) -> Vec<(String, f64)> {
        let sums = std::mem::take(self);
        let mut figures = vec![
            ("train/loss".to_owned(), sums.loss / sums.steps),
            ("train/range_penalty".to_owned(), sums.penalty / sums.steps),
            ("train/peak_penalty".to_owned(), sums.peaks / sums.steps),
            ("train/gradient_norm".to_owned(), sums.norm / sums.steps),
        ];
        figures.extend(sums.largest.into_iter().map(|(name, value)| (format!("largest/{name}"), value)));
        figures
    }
}
