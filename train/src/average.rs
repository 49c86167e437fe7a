//! Averages over training steps: of all weights, and of what a codebook's codes stand for.
//!
//! Weights: Polyak and Juditsky (1992), with the decay that TensorFlow's `ExponentialMovingAverage` uses at the
//! beginning, `min(decay, (1 + t) / (10 + t))`. Running statistics of batch norms are averaged as weights are. A
//! tensor whose values jump (the codebook, where dead codes are revived) is copied instead.

use serde::{Deserialize, Serialize};

use crate::{Result, TrainError, state::State};

/// How weights are averaged.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AverageConfig {
    /// What is left of the average at each update, below 1.
    pub decay: f64,
    /// Steps from one update to the next; more than 1 spares large networks the copy. 1.
    #[serde(default = "one")]
    pub every: u64,
}

impl AverageConfig {
    /// Checks decay and interval; `field` names the section.
    ///
    /// # Errors
    ///
    /// One of them cannot work.
    pub fn check(self, field: &'static str) -> Result<()> {
        if (0.0..1.0).contains(&self.decay) && self.every > 0 {
            return Ok(());
        }
        let expected = "decay must be at least 0 and below 1, every at least 1".to_owned();
        Err(TrainError::Value { field, found: format!("{self:?}"), expected })
    }
}

fn one() -> u64 {
    1
}

/// The tensor that is copied.
const CODEBOOK: &str = "quantize.embedding.weight";

/// A moving average of weights.
#[derive(Clone, Debug)]
pub struct Average {
    config: AverageConfig,
    weights: Option<State>,
}

impl Average {
    /// An average of nothing yet.
    #[must_use]
    pub fn new(config: AverageConfig) -> Self {
        Self { config, weights: None }
    }

    /// An average as it was; what holds no tensors begins again.
    #[must_use]
    pub fn restore(config: AverageConfig, weights: State) -> Self {
        Self { config, weights: (!weights.is_empty()).then_some(weights) }
    }

    /// Follows training: takes in the weights after `step` steps where they are wanted, and begins again where weights
    /// have jumped.
    pub fn follow(&mut self, step: u64, jumped: bool, weights: impl FnOnce() -> State) {
        if jumped {
            self.weights = None;
        }
        if self.is_due(step) {
            self.add(step, weights());
        }
    }

    fn is_due(&self, step: u64) -> bool {
        self.weights.is_none() || step.is_multiple_of(self.config.every.max(1))
    }

    fn add(&mut self, step: u64, weights: State) {
        let Some(average) = &mut self.weights else {
            self.weights = Some(weights);
            return;
        };
        let updates = (step / self.config.every.max(1)) as f64;
        let decay = self.config.decay.min((1.0 + updates) / (10.0 + updates)) as f32;
        for (name, (shape, values)) in weights {
            match average.get_mut(&name) {
                Some((known, average)) if *known == shape && name != CODEBOOK => {
                    for (average, value) in average.iter_mut().zip(values) {
                        *average += (1.0 - decay) * (value - *average);
                    }
                }
                _ => {
                    average.insert(name, (shape, values));
                }
            }
        }
    }

    /// The average, if there is one.
    #[must_use]
    pub fn weights(&self) -> Option<&State> {
        self.weights.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(value: f32) -> State {
        [("w".to_owned(), (vec![1], vec![value])), (CODEBOOK.to_owned(), (vec![1], vec![value]))].into()
    }

    #[test]
    fn follows_its_formula_and_copies_the_codebook() {
        let mut average = Average::new(AverageConfig { decay: 0.5, every: 1 });
        assert!(average.is_due(7) && average.weights().is_none());
        average.add(1, state(1.0));
        average.add(2, state(3.0));
        // decay at step 2: min(0.5, 3 / 12)
        let weights = average.weights().unwrap();
        assert_eq!(weights["w"].1, [2.5]);
        assert_eq!(weights[CODEBOOK].1, [3.0]);
        average.add(1000, state(0.5));
        assert_eq!(average.weights().unwrap()["w"].1, [1.5]);
        let back =
            Average::restore(AverageConfig { decay: 0.5, every: 4 }, average.weights().unwrap().clone());
        assert_eq!(back.weights().unwrap()["w"].1, [1.5]);
        assert!(back.is_due(8) && !back.is_due(9));
    }
}
