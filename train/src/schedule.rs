//! The learning rate over the steps of a run.

use serde::{Deserialize, Serialize};

/// A linear warm-up, then a cosine down to a fraction of the learning rate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// Steps over which the learning rate rises from zero.
    pub warmup_steps: u64,
    /// What is left of the learning rate at the last step; 1 keeps it constant.
    pub final_fraction: f64,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { warmup_steps: 0, final_fraction: 1.0 }
    }
}

impl Schedule {
    /// The factor on the learning rate at a step, counted from 0, of `total`.
    #[must_use]
    pub fn factor(&self, step: u64, total: u64) -> f64 {
        if step < self.warmup_steps {
            return (step + 1) as f64 / (self.warmup_steps + 1) as f64;
        }
        let span = total.saturating_sub(self.warmup_steps).max(1) as f64;
        let position = ((step - self.warmup_steps) as f64 / span).min(1.0);
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * position).cos());
        self.final_fraction + (1.0 - self.final_fraction) * cosine
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_then_falls() {
        let schedule = Schedule { warmup_steps: 10, final_fraction: 0.1 };
        assert!(schedule.factor(0, 100) < 0.1);
        assert!((schedule.factor(10, 100) - 1.0).abs() < 1e-12);
        assert!((schedule.factor(100, 100) - 0.1).abs() < 1e-12);
        assert_eq!(Schedule::default().factor(50, 100), 1.0);
    }
}
