//! Encryption by the holder of the secret.
//!
//! (c0, c1) = (-a s + e + m, a) with a uniform: the noise is one Gaussian error, sqrt(4N/3) times less than under the public key.

use rand_core::CryptoRng;

use super::{SecretKey, SecretPoly};
use crate::ciphertext::Ciphertext;
use crate::error::{Error, Result};
use crate::kernels;
use crate::parameters::Parameters;
use crate::plaintext::Plaintext;
use crate::poly::Poly;
use crate::sampling;

/// Encrypts under the secret key. Holds an expanded copy of the secret, wiped when dropped.
#[derive(Debug)]
pub struct SecretEncryptor {
    parameters: Parameters,
    secret: SecretPoly,
}

impl SecretEncryptor {
    /// An encryptor for a secret of these parameters.
    ///
    /// # Errors
    /// [`Error::Parameters`] if the secret has another degree.
    pub fn new(parameters: &Parameters, secret: &SecretKey) -> Result<Self> {
        if secret.coefficients.len() != parameters.ring_degree() {
            return Err(Error::Parameters { what: "the secret key" });
        }
        let secret = secret.expand(parameters, parameters.max_level() + 1, 0);
        Ok(Self { parameters: parameters.clone(), secret })
    }

    /// Encrypts at the plaintext's level and scale, with randomness from `rng`.
    ///
    /// # Errors
    /// [`Error::Parameters`] if the plaintext has another size.
    pub fn encrypt(&self, plaintext: &Plaintext, rng: &mut impl CryptoRng) -> Result<Ciphertext> {
        let p = &self.parameters;
        let limbs = plaintext.poly.limbs();
        if plaintext.poly.degree() != p.ring_degree() || limbs > self.secret.0.limbs() {
            return Err(Error::Parameters { what: "the plaintext" });
        }
        let c1 = sampling::uniform(p, &sampling::seed(rng), 0, limbs, 0);
        let error = sampling::gaussian(rng, p.ring_degree());
        let mut c0 = Poly::from_small(p, limbs, 0, &error).into_evaluation(p);
        c0.for_each_limb(p, |i, m, limb| {
            kernels::sub_product(limb, c1.limb(i), self.secret.0.limb(i), m);
            kernels::add_assign(limb, plaintext.poly.limb(i), m);
        });
        Ok(Ciphertext { c: [c0, c1], scale: plaintext.scale })
    }
}
