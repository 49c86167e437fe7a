//! The scales of a bootstrap, from the plan alone: what is encoded and what is foreseen follow from them.

use crate::bootstrap::plan::{BootstrapPlan, INPUT_SCALE_LOG2};
use crate::bootstrap::shapes::{MATRICES, MatrixShape};
use crate::error::{Error, Result};
use crate::plan::RingPlan;

/// Scales of the plaintexts of the maps, and of the values between them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scales {
    /// Of the plaintexts of the maps to coefficients, in the order of application.
    pub(crate) to_coefficients: [f64; MATRICES],
    /// Of the plaintexts of the maps to slots, in the order of application.
    pub(crate) to_slots: [f64; MATRICES],
    /// q_0.
    pub(crate) base: f64,
    /// Of x = v + I when the sine begins.
    pub(crate) sine: f64,
}

impl Scales {
    pub(crate) fn new(p: &RingPlan, plan: &BootstrapPlan) -> Self {
        let l = &plan.literal;
        let log2 = |levels: std::ops::RangeInclusive<usize>| -> f64 {
            levels.map(|i| f64::from(p.modulus(i)).log2()).sum()
        };
        let base: f64 = (0..l.base).map(|i| f64::from(p.modulus(i))).product();
        // In the end, q_0 is the ratio times the bound times the scale.
        let target = base.log2() - f64::from(l.ratio_log2 + l.bound_log2);
        let shapes = MatrixShape::of(p.slots());
        let to_coefficients = split(target + log2(l.base..=plan.input) - INPUT_SCALE_LOG2, shapes);
        // The series starts at a scale that makes its variable, in [-1, 1], as large as one level's primes.
        let sine = p.rung(plan.sine, l.primes_per_level) / plan.half_interval();
        // The maps multiply by the number of slots, adding the conjugate by two.
        let gain = (2.0 * p.slots() as f64 * base).log2();
        let [first, second, third] = shapes;
        let dropped = log2(plan.sine + 1..=plan.top);
        let to_slots = split(sine.log2() + dropped - gain, [third, second, first]);
        Self { to_coefficients, to_slots, base, sine }
    }

    /// The value that q_0 stands for, when a ciphertext of scale `scale` is bootstrapped.
    ///
    /// # Errors
    /// As [`BootstrapPlan::input_scale`].
    pub(crate) fn period(&self, plan: &BootstrapPlan, scale: f64) -> Result<f64> {
        let (input, _) = plan.input_scale(scale)?;
        let target = self.base / f64::from(plan.literal.ratio_log2 + plan.literal.bound_log2).exp2();
        Ok(self.base / (target * input / INPUT_SCALE_LOG2.exp2()))
    }

    /// For a function on values up to `reach` from its middle: the scale and the whole factor at the input, and the whole factor of
    /// the coefficients, that make q_0 / 4 of a value at the reach.
    ///
    /// # Errors
    /// [`Error::Bootstrap`] for a scale so large that whole factors miss by more than 2^-9, or a reach that is too small.
    pub(crate) fn function(&self, plan: &BootstrapPlan, scale: f64, reach: f64) -> Result<((f64, f64), f64)> {
        // Scale of the coefficients over that of the input.
        let target = self.base / f64::from(plan.literal.ratio_log2 + plan.literal.bound_log2).exp2();
        let maps = target / INPUT_SCALE_LOG2.exp2();
        let wanted = self.base / (4.0 * reach) / maps;
        let gain = (wanted / INPUT_SCALE_LOG2.exp2()).log2().ceil().exp2();
        let factor = (wanted / gain / scale).round();
        if gain < 1.0 || factor < 512.0 {
            return Err(Error::Bootstrap(format!(
                "a scale of 2^{:.1} and values up to {reach} leave no room for a function: rescale the ciphertext, or scale its values",
                scale.log2()
            )));
        }
        Ok(((scale * factor, factor), gain))
    }
}

/// Scales of three maps whose product is 2^`log2`. A plaintext that repeats after p slots is rounded by sqrt(p / 6) / scale, so that
/// scales in the ratio of sqrt(p / 6) are equally exact.
fn split(log2: f64, shapes: [MatrixShape; MATRICES]) -> [f64; MATRICES] {
    let coarseness = shapes.map(|s| s.rounding().log2());
    let accuracy = (log2 - coarseness.iter().sum::<f64>()) / MATRICES as f64;
    coarseness.map(|c| (accuracy + c).exp2())
}
