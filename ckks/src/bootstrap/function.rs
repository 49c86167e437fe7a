//! Functions that a bootstrap evaluates in place of the identity.
//!
//! Where values of an interval fill half a period of the sine, y = sin(pi v / 2 r) for |v| < r is one to one, and any function of
//! v is one of y: f(v) = P(y), a polynomial after the sine. In the angle, P is a cosine series of half a period, so that values at the
//! interval's ends need not agree. The interval leaves a margin to r, because the series has a kink there.
//! Sources: Alexandru, Kim and Polyakov, General functional bootstrapping using CKKS (eprint 2024/1623), for the idea; the fit on half
//! a period, by least squares, is ours.

use std::f64::consts::FRAC_PI_2;

use crate::bootstrap::fit::{Point, least_squares};
use crate::error::{Error, Result};
use crate::polynomial::Polynomial;

/// Shares of the interval by which half a period exceeds it, of which a fit takes the best.
const MARGINS: [f64; 5] = [0.05, 0.1, 0.2, 0.3, 0.5];
/// Most that the coefficients may add up to, over the greatest value: noise grows with them.
const LARGEST_SUM: f64 = 8.0;
/// Keeps coefficients small that the interval hardly determines.
const RIDGE: f64 = 1e-7;
/// Points for each coefficient.
const OVERSAMPLING: usize = 16;

/// A function on an interval, as a polynomial of the sine that a bootstrap evaluates.
///
/// ```
/// let relu = ckks::BootstrapFunction::fit(|v| v.max(0.0), (-8.0, 8.0), 63).unwrap();
/// assert!(relu.largest_error() < 0.003 * 16.0);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct BootstrapFunction {
    /// P.
    polynomial: Polynomial,
    interval: (f64, f64),
    /// r: what lies so far from the interval's middle has y = 1.
    reach: f64,
    largest_error: f64,
}

impl BootstrapFunction {
    /// Fits a function on an interval by a polynomial of a degree.
    ///
    /// # Errors
    /// [`Error::Polynomial`] for an interval that is empty or not finite, a degree of 0 or above 511, or a function that is not finite
    /// on the interval.
    pub fn fit(f: impl Fn(f64) -> f64, interval: (f64, f64), degree: usize) -> Result<Self> {
        let tried = MARGINS.map(|margin| Self::fit_with_margin(&f, interval, degree, margin));
        let mut best: Option<Self> = None;
        for fitted in tried {
            let fitted = fitted?;
            if best.as_ref().is_none_or(|best| fitted.merit() < best.merit()) {
                best = Some(fitted);
            }
        }
        best.ok_or_else(|| Error::Polynomial("no margin was tried".into()))
    }

    /// As [`Self::fit`], with half a period that exceeds the interval by a given share of it. Several functions of one bootstrap need
    /// one interval and one margin.
    ///
    /// # Errors
    /// As there, and for a margin that is not positive and finite.
    pub fn fit_with_margin(
        f: impl Fn(f64) -> f64,
        interval: (f64, f64),
        degree: usize,
        margin: f64,
    ) -> Result<Self> {
        let (a, b) = interval;
        if !(a.is_finite() && b.is_finite() && a < b && margin.is_finite() && margin > 0.0) {
            return Err(Error::Polynomial(format!("no half period is {margin} longer than ({a}, {b})")));
        }
        if degree == 0 || degree > 511 {
            return Err(Error::Polynomial(format!(
                "a degree of {degree} was asked for, 1 to 511 are possible"
            )));
        }
        let (middle, half) = ((a + b) / 2.0, (b - a) / 2.0);
        let reach = half * (1.0 + margin);
        let count = OVERSAMPLING * (degree + 1);
        let at = |i: usize| half * (2.0 * i as f64 / (count - 1) as f64 - 1.0);
        let points: Vec<Point> = (0..count)
            .map(|i| Point { x: (FRAC_PI_2 * at(i) / reach).sin(), value: f(middle + at(i)), weight: 1.0 })
            .collect();
        if let Some(i) = points.iter().position(|p| !p.value.is_finite()) {
            return Err(Error::Polynomial(format!("the function is not finite at {}", middle + at(i))));
        }
        let ridge = RIDGE * (count as f64).sqrt();
        let polynomial = Polynomial::chebyshev(least_squares(points, degree + 1, ridge), (-1.0, 1.0))?;
        let mut fitted = Self { polynomial, interval, reach, largest_error: 0.0 };
        // Between the points as well.
        let steps = 4 * count;
        fitted.largest_error = (0..=steps)
            .map(|i| a + (b - a) * i as f64 / steps as f64)
            .map(|v| (fitted.evaluate(v) - f(v)).abs())
            .fold(0.0, f64::max);
        Ok(fitted)
    }

    /// The error, with a penalty on coefficients that are too large.
    fn merit(&self) -> f64 {
        let c = self.polynomial.coefficients();
        let largest = (0..=100).map(|i| {
            self.evaluate(self.interval.0 + (self.interval.1 - self.interval.0) * f64::from(i) / 100.0).abs()
        });
        let allowed = LARGEST_SUM * largest.fold(f64::MIN_POSITIVE, f64::max);
        let sum: f64 = c.iter().map(|c| c.abs()).sum();
        self.largest_error * (sum / allowed).max(1.0)
    }

    /// The value that a bootstrap gives, noise apart. Beyond the interval by more than the margin it comes back again.
    pub fn evaluate(&self, v: f64) -> f64 {
        let middle = (self.interval.0 + self.interval.1) / 2.0;
        self.polynomial.evaluate((FRAC_PI_2 * (v - middle) / self.reach).sin())
    }

    /// The greatest difference from the function on the interval.
    pub fn largest_error(&self) -> f64 {
        self.largest_error
    }

    /// Where the function was fitted.
    pub fn interval(&self) -> (f64, f64) {
        self.interval
    }

    /// Levels that the polynomial takes, each of two primes.
    pub fn depth(&self) -> usize {
        self.polynomial.depth()
    }

    /// P, on (-1, 1).
    pub(crate) fn polynomial(&self) -> &Polynomial {
        &self.polynomial
    }

    /// The middle of the interval and how far from it y is 1.
    pub(crate) fn centre(&self) -> (f64, f64) {
        ((self.interval.0 + self.interval.1) / 2.0, self.reach)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Errors of independent fits with LAPACK, over half the interval: ReLU 3.4e-3 at 63 and 1.6e-3 at 127 (kinks converge like
    /// one over the degree), smooth functions geometrically.
    #[test]
    fn fits_are_as_good_as_independent_ones() {
        let error = |f: &dyn Fn(f64) -> f64, interval: (f64, f64), degree: usize| {
            let fitted = BootstrapFunction::fit(f, interval, degree).unwrap();
            fitted.largest_error() / ((interval.1 - interval.0) / 2.0)
        };
        let relu = |v: f64| v.max(0.0);
        assert!((2.5e-3..3.8e-3).contains(&error(&relu, (-5.0, 5.0), 63)));
        assert!((1.2e-3..1.9e-3).contains(&error(&relu, (-1.0, 1.0), 127)));
        let sigmoid = |v: f64| 1.0 / (1.0 + (-v).exp());
        assert!(error(&sigmoid, (-8.0, 8.0), 15) < 2e-5);
        assert!(error(&|v| v * sigmoid(v), (-8.0, 8.0), 31) < 1e-5);
        assert!(error(&f64::recip, (1.0, 16.0), 31) < 1e-4);
    }

    #[test]
    fn refuses_what_is_no_function_on_an_interval() {
        for (interval, degree) in
            [((1.0, 1.0), 7), ((0.0, f64::INFINITY), 7), ((0.0, 1.0), 0), ((0.0, 1.0), 512)]
        {
            assert!(matches!(BootstrapFunction::fit(|v| v, interval, degree), Err(Error::Polynomial(_))));
        }
        assert!(BootstrapFunction::fit(f64::ln, (-1.0, 1.0), 7).is_err());
    }
}
