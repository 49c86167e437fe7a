//! The sine by which a bootstrap removes multiples of q_0: a Chebyshev series of a slow cosine, then doublings.
//!
//! After raising, a coefficient is x = v + I, with v small and I an integer. cos(2 pi (x - 1/4) / 2^r) is approximated
//! by a series, and r doublings c -> 2 c^2 - 1 make it cos(2 pi (x - 1/4)) = sin(2 pi v): I is gone.
//! Source: Han and Ki, Better bootstrapping for approximate homomorphic encryption (2019), section 4, for the
//! doublings. The series is the least squares one over the short intervals about the integers that occur, weighted
//! with the probability of each I ([`crate::bootstrap::multiples`]) and with what the doublings make of an error there: an
//! error at an I that never comes costs nothing.

use std::f64::consts::{PI, TAU};

use crate::bootstrap::literal::BootstrapLiteral;
use crate::bootstrap::multiples::probabilities;
use crate::bootstrap::plan::BootstrapPlan;
use crate::error::Result;
use crate::polynomial::Polynomial;

/// Points at which the series is fitted about each integer: the Chebyshev points of its interval.
const POINTS: usize = 6;

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
        let BootstrapLiteral { sparse_weight, range, doublings, degree, ratio_log2, .. } = plan.literal;
        let probability = probabilities(sparse_weight);
        let slowness = f64::from(doublings).exp2();
        let width = (-f64::from(ratio_log2)).exp2();
        let half = plan.half_interval();
        let mut points = Vec::new();
        for i in -(range as i64)..=range as i64 {
            let share =
                probability.get(i.unsigned_abs() as usize).copied().unwrap_or_default() / POINTS as f64;
            for k in 0..POINTS {
                let v = width * (PI * (k as f64 + 0.5) / POINTS as f64).cos();
                points.push((i as f64 + v - 0.25, share));
            }
        }
        // The doublings multiply an error of the slow cosine of angle t by 2^r sin(2^r t) / sin(t), at most 4^r.
        let weighted = points.iter().map(|&(u, share)| {
            let gain = (slowness / (TAU * u / slowness).sin().abs()).min(slowness * slowness);
            // The least share keeps the series tame where hardly any coefficient lies.
            let weight = (share + LEAST_SHARE).sqrt() * gain;
            (u / half, (TAU * u / slowness).cos(), weight)
        });
        let coefficients = least_squares(weighted.collect(), degree + 1);
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

/// The Chebyshev coefficients that minimise sum of (weight (series(x) - value))^2 over points (x, value, weight), x in
/// [-1, 1]: Householder triangulation with rows sorted by weight and columns exchanged, which is stable row by row
/// however much weights differ (Cox and Higham, Stability of Householder QR factorization for weighted least squares
/// problems, 1998).
fn least_squares(mut points: Vec<(f64, f64, f64)>, columns: usize) -> Vec<f64> {
    points.sort_by(|a, b| b.2.total_cmp(&a.2));
    let mut rows: Vec<Vec<f64>> = points
        .iter()
        .map(|&(x, value, weight)| {
            let mut row = vec![1.0, x];
            (2..columns).for_each(|k| row.push(2.0 * x * row[k - 1] - row[k - 2]));
            row.truncate(columns);
            row.push(value);
            row.iter_mut().for_each(|v| *v *= weight);
            row
        })
        .collect();
    let mut order: Vec<usize> = (0..columns).collect();
    for step in 0..columns.min(rows.len()) {
        let norm = |k: usize| rows[step..].iter().map(|row| row[k] * row[k]).sum::<f64>();
        let pivot = (step..columns).max_by(|&a, &b| norm(a).total_cmp(&norm(b))).unwrap_or(step);
        rows.iter_mut().for_each(|row| row.swap(step, pivot));
        order.swap(step, pivot);
        // The largest entry first, as row-wise stability asks.
        let first = (step..rows.len()).max_by(|&a, &b| rows[a][step].abs().total_cmp(&rows[b][step].abs()));
        rows.swap(step, first.unwrap_or(step));
        reflect(&mut rows[step..], step);
    }
    let mut solution = vec![0.0; columns];
    for step in (0..columns.min(rows.len())).rev() {
        let known: f64 = (step + 1..columns).map(|k| rows[step][k] * solution[order[k]]).sum();
        solution[order[step]] = (rows[step][columns] - known) / rows[step][step];
    }
    solution
}

/// One Householder reflection that clears a column below the first row.
fn reflect(rows: &mut [Vec<f64>], column: usize) {
    let norm = rows.iter().map(|row| row[column] * row[column]).sum::<f64>().sqrt();
    if norm == 0.0 {
        return;
    }
    let diagonal = if rows[0][column] > 0.0 { -norm } else { norm };
    let mut mirror: Vec<f64> = rows.iter().map(|row| row[column]).collect();
    mirror[0] -= diagonal;
    let square: f64 = mirror.iter().map(|m| m * m).sum();
    for k in column..rows[0].len() {
        let product: f64 = mirror.iter().zip(rows.iter()).map(|(m, row)| m * row[k]).sum();
        let factor = 2.0 * product / square;
        rows.iter_mut().zip(&mirror).for_each(|(row, m)| row[k] -= factor * m);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Weighted Chebyshev fits of these shapes, computed with LAPACK's least squares: 2^-33.4, 2^-35.1 and 2^-30.5.
    #[test]
    fn series_are_as_good_as_an_independent_fit() {
        for (sparse_weight, range, doublings, degree, log) in
            [(64, 20, 3, 31, -33.4), (64, 18, 3, 30, -35.1), (32, 13, 2, 31, -30.5)]
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
