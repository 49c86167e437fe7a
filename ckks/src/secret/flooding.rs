//! Noise flooding: decrypted results that may be shown to whoever computed them.
//!
//! CKKS decrypts to message + noise, and the noise depends on the secret (Li and Micciancio, Eurocrypt 2021). Gaussian noise of deviation
//! sigma on every coefficient hides a noise vector of Euclidean norm at most B: the Kullback-Leibler divergence of two results with one
//! message is at most B^2 / (2 sigma^2), it adds up over k adaptive queries, and by Pinsker's inequality the statistical distance of
//! all k is at most B sqrt(k) / (2 sigma). So
//!
//! sigma = 2^(bits - 1) B sqrt(k)
//!
//! keeps it below 2^-bits. Li, Micciancio, Schultz and Sorrell (Crypto 2022, eprint 2022/816) show that about half the exponent
//! suffices for bit security; this takes the plain statistical bound. It stands and falls with B, which must hold for every circuit
//! that the other side may run, and with one count of queries for the whole life of the key.

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::{Decryptor, SecretPoly};
use crate::ciphertext::Ciphertext;
use crate::error::{Error, Result};
use crate::plaintext::Plaintext;
use crate::poly::Poly;

/// Greatest log2 of the deviation: samples have to fit 64-bit integers.
const MOST_LOG2: f64 = 56.0;

/// Gaussian noise added to decrypted coefficients.
///
/// ```
/// // For noise of deviation 2^10 in each of 2^13 coefficients, one hundred results, and a distance of 2^-20.
/// let norm = (4.0 * 2f64.powi(13) * 2f64.powi(20)).sqrt();
/// let flooding = ckks::Flooding::new(norm, 100, 20)?;
/// assert_eq!(flooding.deviation(), 2f64.powi(19) * norm * 10.0);
/// # Ok::<(), ckks::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Flooding {
    deviation: f64,
}

impl Flooding {
    /// The least deviation that hides noise of Euclidean norm up to `noise_norm` over all coefficients, in `queries` decryptions under one
    /// key, up to a statistical distance of 2^-`statistical_bits`. sqrt(4 N V) is a safe norm for noise of variance V a coefficient.
    ///
    /// # Errors
    /// [`Error::Flooding`] if a number makes no sense or the deviation exceeds 2^56.
    pub fn new(noise_norm: f64, queries: u64, statistical_bits: u32) -> Result<Self> {
        let deviation = noise_norm * (queries as f64).sqrt() * (f64::from(statistical_bits) - 1.0).exp2();
        let fits = deviation.is_finite() && deviation > 0.0 && deviation.log2() <= MOST_LOG2;
        match fits && statistical_bits > 0 {
            true => Ok(Self { deviation }),
            false => Err(Error::Flooding { noise_norm, queries, statistical_bits }),
        }
    }

    /// Standard deviation added to every coefficient.
    pub fn deviation(&self) -> f64 {
        self.deviation
    }

    /// Root mean square of what a (complex) slot loses, for `slots` slots at a scale.
    pub fn slot_error(&self, slots: usize, scale: f64) -> f64 {
        (2.0 * slots as f64).sqrt() * self.deviation / scale
    }
}

impl Decryptor {
    /// Decrypts and floods the result; see [`Flooding`]. Rounded samples come from a 53-bit floating-point Box-Muller transform: the bound
    /// is for the ideal Gaussian.
    ///
    /// # Errors
    /// As [`Decryptor::decrypt`], and [`Error::Scale`] if six deviations reach the modulus of the ciphertext's level.
    pub fn decrypt_flooded(
        &self,
        ciphertext: &Ciphertext,
        flooding: Flooding,
        rng: &mut impl CryptoRng,
    ) -> Result<Plaintext> {
        let p = &self.parameters;
        let mut plaintext = self.decrypt(ciphertext)?;
        p.check_scale("flooding", 12.0 * flooding.deviation, plaintext.level())?;
        let mut uniform = || ((rng.next_u64() >> 11) as f64 + 1.0) / (1u64 << 53) as f64;
        let samples: Zeroizing<Vec<i64>> = Zeroizing::new(
            (0..p.ring_degree())
                .map(|_| {
                    let radius = (-2.0 * uniform().ln()).sqrt();
                    (flooding.deviation * radius * (std::f64::consts::TAU * uniform()).cos()).round() as i64
                })
                .collect(),
        );
        // Whoever knows the flood can take it off again.
        let noise = SecretPoly(Poly::from_signed(p, plaintext.level() + 1, 0, &samples).into_evaluation(p));
        plaintext.poly.add_assign(&noise.0, p);
        Ok(plaintext)
    }
}
