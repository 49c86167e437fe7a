//! Decryption.

use super::{SecretKey, SecretPoly};
use crate::ciphertext::Ciphertext;
use crate::error::{Error, Result};
use crate::kernels;
use crate::parameters::Parameters;
use crate::plaintext::Plaintext;

/// Decrypts. Holds an expanded copy of the secret, wiped when dropped.
///
/// A decrypted result carries noise that depends on the secret: it must not go back to whoever computed the
/// ciphertext (Li and Micciancio, On the security of homomorphic encryption on approximate numbers, 2021).
#[derive(Debug)]
pub struct Decryptor {
    pub(super) parameters: Parameters,
    secret: SecretPoly,
}

impl Decryptor {
    /// A decryptor for a secret of these parameters.
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

    /// c0 + c1 s, at the ciphertext's level and scale.
    ///
    /// # Errors
    /// [`Error::Parameters`] if the ciphertext has another size.
    pub fn decrypt(&self, ciphertext: &Ciphertext) -> Result<Plaintext> {
        let p = &self.parameters;
        let [c0, c1] = &ciphertext.c;
        if c0.degree() != p.ring_degree() || c0.limbs() > self.secret.0.limbs() {
            return Err(Error::Parameters { what: "the ciphertext" });
        }
        let mut poly = c0.clone();
        poly.for_each_limb(p, |i, m, limb| {
            kernels::add_product(limb, c1.limb(i), self.secret.0.limb(i), m);
        });
        Ok(Plaintext { poly, scale: ciphertext.scale })
    }
}
