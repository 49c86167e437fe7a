//! Polynomials of one variable to evaluate on slots: coefficients in the monomial or the Chebyshev basis.
//!
//! The Chebyshev polynomials T_k stay within [-1, 1] on [-1, 1] and so do the ciphertexts that hold them, which is why high degrees want that
//! basis; powers are for low degrees. Source: Chen, Chillotti and Song, Improved bootstrapping for approximate homomorphic encryption
//! (2018), section 4, for the basis; Trefethen, Approximation theory and approximation practice (2013), chapter 4, for the fit.

use crate::error::{Error, Result};

/// What the coefficients belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// 1, x, x^2 ..
    Monomial,
    /// T_0, T_1, T_2 .. of the variable mapped from an interval to [-1, 1].
    Chebyshev,
}

/// sum_k `coefficients[k]` x basis element k.
///
/// ```
/// let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
/// let series = ckks::Polynomial::approximate(sigmoid, (-4.0, 4.0), 7)?;
/// assert_eq!(series.depth(), 3);
/// assert!((series.evaluate(1.5) - sigmoid(1.5)).abs() < 5e-3);
/// # Ok::<(), ckks::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Polynomial {
    basis: Basis,
    /// Without zeros at the end, but for a constant.
    coefficients: Vec<f64>,
    interval: (f64, f64),
}

/// Largest degree: what products of 2^17 slots at the deepest chains could use, and a bound on what is planned for.
const LARGEST_DEGREE: usize = 4095;

/// Levels that a polynomial of a degree takes: ceil(log2(degree + 1)), and 1 for a constant.
pub(crate) fn depth(degree: usize) -> usize {
    (degree + 1).next_power_of_two().trailing_zeros().max(1) as usize
}

impl Polynomial {
    /// c_0 + c_1 x + c_2 x^2 + ..
    ///
    /// # Errors
    /// [`Error::Polynomial`] for no coefficients, more than 4096, or one that is not finite.
    pub fn monomial(coefficients: Vec<f64>) -> Result<Self> {
        Self::new(Basis::Monomial, coefficients, (-1.0, 1.0))
    }

    /// c_0 + c_1 T_1(y) + c_2 T_2(y) + .., with y = (2x - a - b)/(b - a) on the interval (a, b).
    ///
    /// # Errors
    /// As [`Self::monomial`], and for an interval that is empty or not finite.
    pub fn chebyshev(coefficients: Vec<f64>, interval: (f64, f64)) -> Result<Self> {
        Self::new(Basis::Chebyshev, coefficients, interval)
    }

    fn new(basis: Basis, mut coefficients: Vec<f64>, interval: (f64, f64)) -> Result<Self> {
        let refuse = |why: String| Err(Error::Polynomial(why));
        if coefficients.is_empty() || coefficients.len() > LARGEST_DEGREE + 1 {
            let count = coefficients.len();
            return refuse(format!("{count} coefficients given, 1 to {} are possible", LARGEST_DEGREE + 1));
        }
        if let Some(i) = coefficients.iter().position(|c| !c.is_finite()) {
            return refuse(format!("coefficient {i} is not finite"));
        }
        let (a, b) = interval;
        if !(a.is_finite() && b.is_finite() && a < b) {
            return refuse(format!("the interval from {a} to {b} is empty or not finite"));
        }
        while coefficients.len() > 1 && coefficients.last() == Some(&0.0) {
            coefficients.pop();
        }
        Ok(Self { basis, coefficients, interval })
    }

    /// The polynomial through a function's values at the Chebyshev points of an interval: close to the best one of its degree.
    ///
    /// # Errors
    /// As [`Self::chebyshev`]; a function that is not finite at one of the points.
    pub fn approximate(f: impl Fn(f64) -> f64, interval: (f64, f64), degree: usize) -> Result<Self> {
        let points = degree.min(LARGEST_DEGREE + 1) + 1;
        let (middle, half) = ((interval.0 + interval.1) / 2.0, (interval.1 - interval.0) / 2.0);
        let angle = |i: usize| std::f64::consts::PI * (i as f64 + 0.5) / points as f64;
        let values: Vec<f64> = (0..points).map(|i| f(middle + half * angle(i).cos())).collect();
        let coefficient = |k: usize| {
            let sum: f64 = values.iter().enumerate().map(|(i, v)| v * (k as f64 * angle(i)).cos()).sum();
            sum * if k == 0 { 1.0 } else { 2.0 } / points as f64
        };
        Self::chebyshev((0..points).map(coefficient).collect(), interval)
    }

    /// The same polynomial without the terms below `threshold` in absolute value: odd and even functions come with
    /// coefficients that are zero but for rounding, and cost nothing once they are gone.
    pub fn without_small_terms(mut self, threshold: f64) -> Self {
        self.coefficients.iter_mut().for_each(|c| *c = if c.abs() < threshold { 0.0 } else { *c });
        while self.coefficients.len() > 1 && self.coefficients.last() == Some(&0.0) {
            self.coefficients.pop();
        }
        self
    }

    /// The basis.
    pub fn basis(&self) -> Basis {
        self.basis
    }

    /// The coefficients, from the constant on.
    pub fn coefficients(&self) -> &[f64] {
        &self.coefficients
    }

    /// Where a Chebyshev polynomial is meant to be evaluated.
    pub fn interval(&self) -> (f64, f64) {
        self.interval
    }

    /// Degree; 0 for a constant.
    pub fn degree(&self) -> usize {
        self.coefficients.len() - 1
    }

    /// Levels that an evaluation takes if x comes at a fitting scale: ceil(log2(degree + 1)), the least there can be, and 1 for a
    /// constant.
    pub fn depth(&self) -> usize {
        depth(self.degree())
    }

    /// The value at x, by the recurrences of Horner and of Clenshaw.
    pub fn evaluate(&self, x: f64) -> f64 {
        match self.basis {
            Basis::Monomial => self.coefficients.iter().rev().fold(0.0, |sum, c| sum * x + c),
            Basis::Chebyshev => {
                let (a, b) = self.interval;
                let y = (2.0 * x - a - b) / (b - a);
                let (mut next, mut after) = (0.0, 0.0);
                for &c in self.coefficients[1..].iter().rev() {
                    (next, after) = (c + 2.0 * y * next - after, next);
                }
                self.coefficients[0] + y * next - after
            }
        }
    }

    /// The largest difference from a function at `samples` evenly spread points of the interval, ends included.
    pub fn largest_error(&self, f: impl Fn(f64) -> f64, samples: usize) -> f64 {
        let (a, b) = self.interval;
        let last = samples.max(2) - 1;
        (0..=last)
            .map(|i| a + (b - a) * i as f64 / last as f64)
            .map(|x| (f(x) - self.evaluate(x)).abs())
            .fold(0.0, f64::max)
    }
}

/// p = q x (basis element `split`) + r, for `split` <= degree < 2 `split`: the coefficients of q and r.
///
/// In the Chebyshev basis by T_(s+j) = 2 T_s T_j - T_(s-j).
pub(crate) fn divide(basis: Basis, p: &[f64], split: usize) -> (Vec<f64>, Vec<f64>) {
    let (mut r, mut q) = (p[..split].to_vec(), p[split..].to_vec());
    if basis == Basis::Chebyshev {
        for (j, c) in q.iter_mut().enumerate().skip(1) {
            r[split - j] -= *c;
            *c *= 2.0;
        }
    }
    (q, r)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_the_definition() {
        let c = vec![0.5, -1.0, 0.25, 2.0, -0.125];
        let p = Polynomial::monomial(c.clone()).unwrap();
        let t = Polynomial::chebyshev(c.clone(), (-3.0, 5.0)).unwrap();
        for x in [-2.5, -1.0, 0.0, 0.3, 4.9] {
            let plain: f64 = c.iter().enumerate().map(|(k, c)| c * f64::powi(x, k as i32)).sum();
            assert!((p.evaluate(x) - plain).abs() < 1e-9);
            let angle = ((x - 1.0) / 4.0).acos();
            let cosines: f64 = c.iter().enumerate().map(|(k, c)| c * (k as f64 * angle).cos()).sum();
            assert!((t.evaluate(x) - cosines).abs() < 1e-12);
        }
    }

    #[test]
    fn division_gives_the_polynomial_back() {
        let c: Vec<f64> = (0..14).map(|i| f64::from(i * i % 7) - 2.5).collect();
        for basis in [Basis::Monomial, Basis::Chebyshev] {
            let of = |c: &[f64]| Polynomial::new(basis, c.to_vec(), (-1.0, 1.0)).unwrap();
            let (q, r) = divide(basis, &c, 8);
            let mut element = vec![0.0; 9];
            element[8] = 1.0;
            for x in [-0.9, -0.2, 0.0, 0.7, 1.0] {
                let back = of(&q).evaluate(x) * of(&element).evaluate(x) + of(&r).evaluate(x);
                assert!((back - of(&c).evaluate(x)).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn approximations_converge_and_say_how_well() {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let error = |degree| {
            Polynomial::approximate(sigmoid, (-8.0, 8.0), degree).unwrap().largest_error(sigmoid, 1001)
        };
        // A geometric rate: the nearest pole, i pi, gives (pi/8 + sqrt(1 + pi^2/64))^-degree.
        assert!(error(7) < 0.06 && error(15) < 3e-3 && error(31) < 8e-6 && error(15) > 1e-4);
        let p = Polynomial::approximate(f64::exp, (-1.0, 1.0), 12).unwrap();
        assert!(p.largest_error(f64::exp, 101) < 1e-12);
    }

    #[test]
    fn refuses_what_is_no_polynomial() {
        for bad in [vec![], vec![f64::NAN], vec![1.0; 5000]] {
            assert!(matches!(Polynomial::monomial(bad), Err(Error::Polynomial(_))));
        }
        assert!(Polynomial::chebyshev(vec![1.0], (2.0, 2.0)).is_err());
        assert!(Polynomial::approximate(f64::ln, (-1.0, 1.0), 2).is_err());
        let p = Polynomial::monomial(vec![1.0, 1e-20, 2.0, 0.0]).unwrap().without_small_terms(1e-12);
        assert_eq!((p.degree(), p.coefficients()[1], p.depth()), (2, 0.0, 2));
    }
}
