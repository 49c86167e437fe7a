//! The sine by which a bootstrap removes multiples of q_0: a Chebyshev series of a slow cosine, then doublings.
//!
//! After raising, a coefficient is x = v + I, with v small and I an integer. cos(2 pi (x - 1/4) / 2^r) is approximated
//! by a series, and r doublings c -> 2 c^2 - 1 make it cos(2 pi (x - 1/4)) = sin(2 pi v): I is gone.
//! Source: Han and Ki, Better bootstrapping for approximate homomorphic encryption (2019), section 4, for the
//! doublings. The series is the least squares one over the intervals about the integers that occur, weighted
//! with the probability of each I ([`crate::bootstrap::multiples`]) and with what the doublings make of an error there: an
//! error at an I that never comes costs nothing.

use std::f64::consts::{PI, TAU};

use crate::bootstrap::fit::{Point, least_squares};
use crate::bootstrap::literal::BootstrapLiteral;
use crate::bootstrap::multiples::probabilities;
use crate::bootstrap::plan::{BootstrapPlan, WIDTH};
use crate::error::Result;
use crate::polynomial::Polynomial;

/// Points at which the series is fitted about each integer: the Chebyshev points of its interval.
const POINTS: usize = 16;

/// The fitted series: a polynomial, and how far off the sine is.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    /// Approximates cos(2 pi (x - 1/4) / 2^r) for x on its interval.
    pub(crate) cosine: Polynomial,
    /// Root mean square of the error of sin(2 pi v), over the distribution of I.
    pub(crate) rms: f64,
}

impl Series {
    /// Fits the series of a plan.
    ///
    /// # Errors
    /// As [`Polynomial::chebyshev`].
    pub(crate) fn fit(plan: &BootstrapPlan) -> Result<Self> {
        let BootstrapLiteral { sparse_weight, range, doublings, degree, .. } = plan.literal;
        let probability = probabilities(sparse_weight);
        let slowness = f64::from(doublings).exp2();
        let half = plan.half_interval();
        let mut points = Vec::new();
        for i in -(range as i64)..=range as i64 {
            let share =
                probability.get(i.unsigned_abs() as usize).copied().unwrap_or_default() / POINTS as f64;
            for k in 0..POINTS {
                let v = WIDTH * (PI * (k as f64 + 0.5) / POINTS as f64).cos();
                points.push((i as f64 + v - 0.25, share));
            }
        }
        // The doublings multiply an error of the slow cosine of angle t by 2^r sin(2^r t) / sin(t), at most 4^r.
        let weighted = points.iter().map(|&(u, share)| {
            let angle = TAU * u / slowness;
            let gain = (slowness * (slowness * angle).sin() / angle.sin()).abs();
            // The least share keeps the series tame where hardly any coefficient lies, the least gain at the ends of an interval.
            let weight = (share + LEAST_SHARE).sqrt() * gain.clamp(1.0, slowness * slowness);
            Point { x: u / half, value: angle.cos(), weight }
        });
        let coefficients = least_squares(weighted.collect(), degree + 1, 0.0);
        let cosine = Polynomial::chebyshev(coefficients, (0.25 - half, 0.25 + half))?;
        let error = |u: f64| {
            let slow = cosine.evaluate(u + 0.25);
            (0..doublings).fold(slow, |c, _| 2.0 * c * c - 1.0) - (TAU * u).cos()
        };
        let rms = points.iter().map(|&(u, share)| share * error(u).powi(2)).sum::<f64>().sqrt();
        Ok(Self { cosine, rms })
    }
}

/// 2^-90: about the square of what an f64 resolves, far below the probability that counts.
const LEAST_SHARE: f64 = 8e-28;

#[cfg(test)]
mod tests {
    use super::*;

    /// Weighted Chebyshev fits of these shapes, computed with LAPACK's least squares: 2^-33.5, 2^-35.2 and 2^-45.3.
    #[test]
    fn series_are_as_good_as_an_independent_fit() {
        for (sparse_weight, range, doublings, degree, log) in
            [(64, 20, 3, 31, -33.5), (64, 18, 3, 30, -35.2), (64, 20, 4, 31, -45.3)]
        {
            let toy =
                BootstrapLiteral { sparse_weight, range, doublings, degree, ..BootstrapLiteral::standard() };
            let series = Series::fit(&BootstrapPlan::new(&toy, 1 << 10, 100, 8).unwrap()).unwrap();
            assert!(
                (series.rms.log2() - log).abs() < 1.0,
                "{sparse_weight} {range}: 2^{}",
                series.rms.log2()
            );
        }
    }
}
