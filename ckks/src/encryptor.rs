//! Public-key encryption.
//!
//! (c0, c1) = v (b, a) + (e0 + m, e1) with v ternary and e0, e1 Gaussian. Under the secret the noise is v e + e0 + e1 s.

use rand_core::CryptoRng;
use rayon::prelude::*;

use crate::ciphertext::Ciphertext;
use crate::error::{Error, Result};
use crate::kernels;
use crate::parameters::Parameters;
use crate::plaintext::Plaintext;
use crate::poly::{Evaluation, Poly};
use crate::sampling::{self, Seed};

/// Encrypts, and does nothing else: (b, a) with b = -a s + e. The half a is expanded from a seed.
#[derive(Clone, Debug, PartialEq)]
pub struct PublicKey {
    pub(crate) seed: Seed,
    pub(crate) b: Poly<Evaluation>,
    pub(crate) a: Poly<Evaluation>,
}

impl PublicKey {
    pub(crate) fn new(parameters: &Parameters, seed: Seed, b: Poly<Evaluation>) -> Self {
        let a = sampling::uniform(parameters, &seed, 0, b.limbs(), 0);
        Self { seed, b, a }
    }
}

/// Encrypts plaintexts under a public key.
#[derive(Clone, Debug)]
pub struct Encryptor {
    parameters: Parameters,
    key: PublicKey,
}

impl Encryptor {
    /// An encryptor for a key of these parameters.
    ///
    /// # Errors
    /// [`Error::Parameters`] if the key has another size.
    pub fn new(parameters: &Parameters, key: PublicKey) -> Result<Self> {
        if key.b.degree() != parameters.ring_degree() || key.b.limbs() != parameters.max_level() + 1 {
            return Err(Error::Parameters { what: "the public key" });
        }
        Ok(Self { parameters: parameters.clone(), key })
    }

    /// Encrypts at the plaintext's level and scale, with randomness from `rng`.
    ///
    /// # Errors
    /// [`Error::Parameters`] if the plaintext has another size.
    pub fn encrypt(&self, plaintext: &Plaintext, rng: &mut impl CryptoRng) -> Result<Ciphertext> {
        let p = &self.parameters;
        let (n, limbs) = (p.ring_degree(), plaintext.poly.limbs());
        if plaintext.poly.degree() != n || limbs > self.key.b.limbs() {
            return Err(Error::Parameters { what: "the plaintext" });
        }
        let v = sampling::ternary(rng, n);
        let errors = [sampling::gaussian(rng, n), sampling::gaussian(rng, n)];
        let mut c = [(); 2].map(|()| Poly::scratch(p, limbs, 0));
        let [c0, c1] = &mut c;
        let rows = c0.data_mut().par_chunks_exact_mut(n).zip(c1.data_mut().par_chunks_exact_mut(n));
        rows.enumerate().for_each(|(i, (c0, c1))| {
            let table = p.table(limbs, i);
            let (m, transform) = (table.modulus, table.transform(n));
            let mut mask = zeroize::Zeroizing::new(vec![0; n]);
            kernels::from_small(&mut mask, &v, m);
            transform.forward(&mut mask);
            for ((c, error), key) in [c0, c1].into_iter().zip(&errors).zip([&self.key.b, &self.key.a]) {
                kernels::from_small(c, error, m);
                transform.forward(c);
                kernels::add_product(c, &mask, key.limb(i), m);
            }
        });
        c[0].add_assign(&plaintext.poly, p);
        Ok(Ciphertext { c, scale: plaintext.scale })
    }
}
