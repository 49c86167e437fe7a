//! What a bootstrap does to the noise.
//!
//! Errors are followed as variances of the real part of a value v; the result is a [`Estimate`] whose noise
//! gives the same error. With q_0 / D the factor from x = v D / q_0 + I back to v, D the scale of the coefficients:
//!
//! | what | variance of v |
//! |---|---|
//! | noise of the input | half of that of the complex slot |
//! | maps to coefficients: d diagonals, of which 2^g count, rounded by r | v^2 r^2 d / 2^g / 2 each |
//! | rounding the coefficients, then under the sparse secret of weight h | (1 + 2N/3) / 12 D^2, (1 + h) / 12 D^2 |
//! | maps to slots | (q_0 / D)^2 (h + 2)/12 r^2 d / 2^g each |
//! | rounding after the last map, at scale s | (q_0 / D)^2 N (1 + 2N/3) / 24 s^2 |
//! | the series, and the noise of its evaluation | (q_0 / 2 pi D)^2 of theirs |
//!
//! The sine itself is a function that is known, not noise: see [`crate::RingPlan::bootstrap_function`].

use std::f64::consts::{FRAC_1_SQRT_2, TAU};

use crate::bootstrap::plan::BootstrapPlan;
use crate::bootstrap::scales::Scales;
use crate::bootstrap::series::Series;
use crate::bootstrap::shapes::{MATRICES, MatrixShape};
use crate::error::Result;
use crate::evaluator::Evaluator;
use crate::noise::{Estimate, NoiseModel};

impl Evaluator {
    /// What [`Self::bootstrap`] does to the noise of real slots, with keys made for it. `message` is the root mean square of the slots.
    ///
    /// # Errors
    /// As there.
    pub fn estimate_bootstrap(&self, a: Estimate) -> Result<Estimate> {
        let p = &self.parameters;
        let plan = p.bootstrap_plan()?;
        let (l, scales, series) = (&plan.literal, Scales::new(p, plan), Series::fit(plan)?);
        let model = NoiseModel::new(p);
        let n = p.ring_degree() as f64;
        let back = scales.period(plan, a.scale)?;
        let coefficient_scale = scales.base / back;

        let shapes = MatrixShape::of(p.slots());
        let relative = |scales: [f64; MATRICES], shapes: [MatrixShape; MATRICES]| -> f64 {
            let one = |(scale, s): (f64, MatrixShape)| (s.rounding() / scale).powi(2) * s.overhead();
            scales.into_iter().zip(shapes).map(one).sum()
        };
        let [first, second, third] = shapes;
        let weight = l.sparse_weight as f64;
        let mut value = model.slot_error(a).powi(2) / 2.0;
        value += a.message.powi(2) * relative(scales.to_coefficients, shapes) / 2.0;
        value += (model.rounding() + (1.0 + weight) / 12.0) / coefficient_scale.powi(2);
        let multiples = (weight + 2.0) / 12.0;
        let mut x = multiples * relative(scales.to_slots, [third, second, first]);
        x += n * model.rounding() / (2.0 * scales.sine.powi(2));
        value += x * back.powi(2);

        let y = self.estimate_sine(plan, &scales, &series)?;
        // Noise of the sine is as large in the imaginary part, which counts in the slot's error.
        value += (series.rms.powi(2) + model.slot_error(y).powi(2)) * (back / TAU).powi(2);
        let scale = y.scale * TAU / back;
        Ok(Estimate { level: y.level, scale, message: a.message, variance: value * scale * scale / n })
    }

    /// The noise that evaluating the sine adds to it.
    fn estimate_sine(&self, plan: &BootstrapPlan, scales: &Scales, series: &Series) -> Result<Estimate> {
        let p = &self.parameters;
        let (model, stride) = (NoiseModel::new(p), plan.literal.primes_per_level);
        let x = Estimate { level: plan.sine, scale: scales.sine, message: 1.0, variance: 0.0 };
        let level = plan.sine - stride * series.cosine.depth();
        let scale = p.rung(level, stride);
        let mut y = self.estimate_polynomial_by(x, &series.cosine, scale, stride, plan.sine)?;
        for _ in 0..plan.literal.doublings {
            // Cosines of angles spread evenly have this root mean square.
            y.message = FRAC_1_SQRT_2;
            let square = model.square(y);
            y = Estimate { variance: 4.0 * square.variance + model.key_switch(y.level, plan.sine), ..square };
            y = (0..stride).try_fold(y, |y, _| model.rescale(y))?;
        }
        Ok(y)
    }
}
