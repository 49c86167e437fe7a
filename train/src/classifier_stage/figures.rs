//! What training logs: figures of a step, and their sums over an epoch.

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
