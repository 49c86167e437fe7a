//! Every formula about noise, in one place, and the precision they predict for a circuit.
//!
//! Noise is followed as the variance V of one coefficient, coefficients being taken as independent with mean zero (Costache, Curtis,
//! Hales, Murphy, Ogilvie and Player, On the precision loss in approximate homomorphic encryption, eprint 2022/162; rounding and key switching as in
//! Kim, Polyakov and Zucca, Revisiting homomorphic encryption schemes for finite fields, eprint 2021/204). A slot is a sum of N coefficients
//! times roots of unity, so its (complex) error has the root mean square sqrt(N V) / scale, and a message with root mean square m in its
//! slots has coefficients with squares that add up to (scale m)^2. s is the secret, of variance 2/3 a coefficient, e the error, of sigma^2.
//!
//! | what | V |
//! |---|---|
//! | encoding | 1/12, times the share of nonzero coefficients |
//! | encryption under the secret key | sigma^2 |
//! | encryption under the public key: v e + e0 + e1 s | sigma^2 (4N/3 + 1) |
//! | rescale by q | V / q^2 + rounding |
//! | rounding of (c0, c1) | (1 + 2N/3) / 12 |
//! | key switch, digits D_j, special primes P | V + N sigma^2 (sum of D_j^2) / (12 P^2) + rounding |
//! | plaintext product, messages m and p, scales Δm and Δp | V (Δp p)^2 + V_p (Δm m)^2 + N V V_p |
//! | product | V1 (Δ2 m2)^2 + V2 (Δ1 m1)^2 + N V1 V2 |
//! | square | 4 V (Δ m)^2 + 2 N V^2 |
//!
//! **Not a bound.** These are expectations for messages that do not conspire with the noise. With the greatest magnitude of a slot in place of the root mean
//! square the result is on the safe side of the same expectation. Squares of one ciphertext and sums of ciphertexts with common noise are correlated;
//! sums here add variances.

use crate::error::Result;
use crate::plan::{KeyShape, RingPlan};
use crate::sampling::ERROR_DEVIATION;

/// Variance of rounding to an integer.
const ROUNDING: f64 = 1.0 / 12.0;
/// Variance of a coefficient of the secret.
const SECRET: f64 = 2.0 / 3.0;

/// What is known about a ciphertext without decrypting it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Rescalings left.
    pub level: usize,
    /// Factor between a slot's value and what is encrypted.
    pub scale: f64,
    /// Root mean square of the slots, or their greatest magnitude for a cautious estimate.
    pub message: f64,
    /// Variance of the noise of one coefficient.
    pub variance: f64,
}

/// The formulas for one planned ring; a reference to [`crate::Parameters`] serves as well.
///
/// What a square loses, without a key:
///
/// ```
/// use ckks::{NoiseModel, ParametersLiteral};
///
/// let model = NoiseModel::new(&ParametersLiteral::insecure_toy(12, 3, 4).plan()?);
/// let x = model.fresh_public(3, 2f64.powi(30), 1.0);
/// let square = model.rescale(model.switched(model.square(x), 3))?;
/// assert!(model.predicted_precision(x) > 15.0);
/// assert!(model.predicted_precision(square) < model.predicted_precision(x) - 0.9);
/// # Ok::<(), ckks::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct NoiseModel {
    plan: RingPlan,
    degree: f64,
}

impl NoiseModel {
    /// The formulas for this ring.
    pub fn new(plan: &RingPlan) -> Self {
        Self { plan: plan.clone(), degree: plan.ring_degree() as f64 }
    }

    /// Variance of rounding both halves of a ciphertext.
    pub fn rounding(&self) -> f64 {
        ROUNDING * (1.0 + SECRET * self.degree)
    }

    /// Variance that a key switch adds at `level` with a key made for `key_level`, rounding left out.
    ///
    /// # Panics
    /// If a level does not exist, or the key does not reach the level.
    pub fn key_product(&self, level: usize, key_level: usize) -> f64 {
        assert!(level <= key_level, "a key for level {key_level} at level {level}");
        let KeyShape { digit_limbs, special } = self.plan.key_shape(key_level).at(level + 1);
        let log2 = |primes: &[u32]| -> Vec<f64> { primes.iter().map(|&q| f64::from(q).log2()).collect() };
        let special: f64 = log2(&self.plan.special_moduli()[..special]).iter().sum();
        let moduli = log2(&self.plan.moduli()[..=level]);
        let digits: f64 =
            moduli.chunks(digit_limbs).map(|d| (2.0 * (d.iter().sum::<f64>() - special)).exp2()).sum();
        self.degree * ERROR_DEVIATION.powi(2) * ROUNDING * digits
    }

    /// Variance that a key switch adds, rounding included.
    ///
    /// # Panics
    /// As [`Self::key_product`].
    pub fn key_switch(&self, level: usize, key_level: usize) -> f64 {
        self.key_product(level, key_level) + self.rounding()
    }

    /// A message encoded and encrypted under the public key.
    pub fn fresh_public(&self, level: usize, scale: f64, message: f64) -> Estimate {
        let variance = ERROR_DEVIATION.powi(2) * (1.0 + 2.0 * SECRET * self.degree) + ROUNDING;
        Estimate { level, scale, message, variance }
    }

    /// A message encoded and encrypted under the secret key.
    pub fn fresh_secret(&self, level: usize, scale: f64, message: f64) -> Estimate {
        Estimate { level, scale, message, variance: ERROR_DEVIATION.powi(2) + ROUNDING }
    }

    /// A sum of independent ciphertexts.
    pub fn add(&self, a: Estimate, b: Estimate) -> Estimate {
        let level = a.level.min(b.level);
        Estimate { level, message: a.message + b.message, variance: a.variance + b.variance, ..a }
    }

    /// A product with a plaintext whose slots have root mean square `message` and repeat after `period` (N/2 for dense ones).
    pub fn mul_plain(&self, a: Estimate, message: f64, scale: f64, period: usize) -> Estimate {
        let encoding = ROUNDING * 2.0 * period as f64 / self.degree;
        let variance = a.variance * (scale * message).powi(2)
            + encoding * (a.scale * a.message).powi(2)
            + self.degree * a.variance * encoding;
        Estimate { scale: a.scale * scale, message: a.message * message, variance, ..a }
    }

    /// A product of two ciphertexts with independent noise, not relinearised.
    pub fn mul(&self, a: Estimate, b: Estimate) -> Estimate {
        let variance = a.variance * (b.scale * b.message).powi(2)
            + b.variance * (a.scale * a.message).powi(2)
            + self.degree * a.variance * b.variance;
        let level = a.level.min(b.level);
        Estimate { level, scale: a.scale * b.scale, message: a.message * b.message, variance }
    }

    /// A square, not relinearised.
    pub fn square(&self, a: Estimate) -> Estimate {
        let variance =
            4.0 * a.variance * (a.scale * a.message).powi(2) + 2.0 * self.degree * a.variance.powi(2);
        Estimate { scale: a.scale * a.scale, message: a.message * a.message, variance, ..a }
    }

    /// A rotation, conjugation or relinearisation with a key made for `key_level`.
    ///
    /// # Panics
    /// As [`Self::key_product`].
    pub fn switched(&self, a: Estimate, key_level: usize) -> Estimate {
        Estimate { variance: a.variance + self.key_switch(a.level, key_level), ..a }
    }

    /// After dividing by the last prime.
    ///
    /// # Errors
    /// [`crate::Error::Level`] at level 0.
    pub fn rescale(&self, a: Estimate) -> Result<Estimate> {
        if a.level == 0 {
            return Err(crate::Error::Level { op: "rescale", required: 1, available: 0 });
        }
        let q = f64::from(self.plan.modulus(a.level));
        let variance = a.variance / (q * q) + self.rounding();
        Ok(Estimate { level: a.level - 1, scale: a.scale / q, variance, ..a })
    }

    /// Root mean square of the error of a (complex) slot.
    pub fn slot_error(&self, a: Estimate) -> f64 {
        (self.degree * a.variance).sqrt() / a.scale
    }

    /// -log2 of [`Self::slot_error`].
    pub fn predicted_precision(&self, a: Estimate) -> f64 {
        -self.slot_error(a).log2()
    }
}
