//! The secret key, key generation, secret-key encryption and decryption: everything behind the feature `secret-key`.

mod decryptor;
mod encryptor;
mod flooding;
mod generator;

pub use decryptor::Decryptor;
pub use encryptor::SecretEncryptor;
pub use flooding::Flooding;
pub use generator::KeyGenerator;

use rand_core::CryptoRng;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::parameters::Parameters;
use crate::poly::{Evaluation, Poly};
use crate::sampling;

/// A ternary secret. It cannot be cloned or printed, and is wiped when dropped.
///
/// ```compile_fail,E0277
/// fn copies<T: Clone>() {}
/// copies::<ckks::SecretKey>();
/// ```
///
/// Nor can what holds an expanded copy of it:
/// ```compile_fail,E0277
/// fn copies<T: Clone>() {}
/// copies::<ckks::Decryptor>();
/// ```
/// ```compile_fail,E0277
/// fn copies<T: Clone>() {}
/// copies::<ckks::SecretEncryptor>();
/// ```
/// ```compile_fail,E0277
/// fn copies<T: Clone>() {}
/// copies::<ckks::KeyGenerator>();
/// ```
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct SecretKey {
    pub(crate) coefficients: Vec<i32>,
}

impl SecretKey {
    /// Draws a secret from the caller's source of randomness.
    pub fn generate(parameters: &Parameters, rng: &mut impl CryptoRng) -> Self {
        let mut drawn: Zeroizing<Vec<i32>> = sampling::ternary(rng, parameters.ring_degree());
        Self { coefficients: std::mem::take(&mut *drawn) }
    }

    /// Draws a secret of few nonzero coefficients: the ephemeral one of a bootstrap.
    pub(crate) fn sparse(parameters: &Parameters, weight: usize, rng: &mut impl CryptoRng) -> Self {
        let mut drawn: Zeroizing<Vec<i32>> = sampling::sparse(rng, parameters.ring_degree(), weight);
        Self { coefficients: std::mem::take(&mut *drawn) }
    }

    /// The evaluation form over the first `limbs` primes of the chain and `special` special ones.
    pub(crate) fn expand(&self, parameters: &Parameters, limbs: usize, special: usize) -> SecretPoly {
        let poly = Poly::from_small(parameters, limbs, special, &self.coefficients);
        SecretPoly(poly.into_evaluation(parameters))
    }
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretKey(redacted)")
    }
}

/// A polynomial that is wiped when dropped.
pub(crate) struct SecretPoly(pub(crate) Poly<Evaluation>);

impl Drop for SecretPoly {
    fn drop(&mut self) {
        self.0.data_mut().zeroize();
    }
}

impl std::fmt::Debug for SecretPoly {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretPoly(redacted)")
    }
}
