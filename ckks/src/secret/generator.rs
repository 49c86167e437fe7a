//! Makes public and evaluation keys from a secret.

use rand_core::CryptoRng;
use rayon::prelude::*;

use super::{SecretKey, SecretPoly};
use crate::encryptor::PublicKey;
use crate::error::{Error, Result};
use crate::evaluation_keys::{
    EvaluationKeyRequest, EvaluationKeys, GaloisKey, RelinearizationKey, SwitchingKey,
};
use crate::galois::GaloisElement;
use crate::kernels;
use crate::key_switch;
use crate::parameters::Parameters;
use crate::poly::Poly;
use crate::sampling;

/// Makes keys. Holds an expanded copy of the secret, wiped when dropped.
#[derive(Debug)]
pub struct KeyGenerator {
    parameters: Parameters,
    /// Over the whole chain and all special primes.
    secret: SecretPoly,
}

impl KeyGenerator {
    /// A generator for a secret of these parameters.
    ///
    /// # Errors
    /// [`Error::Parameters`] if the secret has another degree.
    pub fn new(parameters: &Parameters, secret: &SecretKey) -> Result<Self> {
        if secret.coefficients.len() != parameters.ring_degree() {
            return Err(Error::Parameters { what: "the secret key" });
        }
        let secret = secret.expand(parameters, parameters.max_level() + 1, parameters.special_primes());
        Ok(Self { parameters: parameters.clone(), secret })
    }

    /// A key that encrypts at every level.
    pub fn public_key(&self, rng: &mut impl CryptoRng) -> PublicKey {
        let p = &self.parameters;
        let seed = sampling::seed(rng);
        let limbs = p.max_level() + 1;
        let error = sampling::gaussian(rng, p.ring_degree());
        let mut b = Poly::from_small(p, limbs, 0, &error).into_evaluation(p);
        let mut key = PublicKey::new(p, seed, Poly::zero(p, limbs, 0));
        b.for_each_limb(p, |i, m, limb| {
            kernels::sub_product(limb, key.a.limb(i), self.secret.0.limb(i), m);
        });
        key.b = b;
        key
    }

    /// A key that relinearises products at `level` and below.
    ///
    /// # Errors
    /// [`Error::Level`] if there is no such level.
    pub fn relinearization_key(&self, level: usize, rng: &mut impl CryptoRng) -> Result<RelinearizationKey> {
        let p = &self.parameters;
        p.check_level("making a key", level)?;
        let mut square = SecretPoly(self.secret.0.clone());
        square.0.mul_assign(&self.secret.0, p);
        Ok(RelinearizationKey { key: self.switching_key(&square, &self.secret, level, rng) })
    }

    /// A key for an automorphism of ciphertexts at `level` and below.
    ///
    /// # Errors
    /// [`Error::Level`] if there is no such level.
    pub fn galois_key(
        &self,
        element: GaloisElement,
        level: usize,
        rng: &mut impl CryptoRng,
    ) -> Result<GaloisKey> {
        let p = &self.parameters;
        p.check_level("making a key", level)?;
        let back = element.inverse(p.ring_degree()).permutation(p.ring_degree());
        let target = SecretPoly(self.secret.0.permuted(&back));
        Ok(GaloisKey::new(p, element, self.switching_key(&self.secret, &target, level, rng)))
    }

    /// Makes all keys that are asked for; see [`EvaluationKeyRequest::plan`].
    ///
    /// # Errors
    /// [`Error::Level`] if a level does not exist.
    pub fn evaluation_keys(
        &self,
        request: &EvaluationKeyRequest,
        rng: &mut impl CryptoRng,
    ) -> Result<EvaluationKeys> {
        let mut keys = EvaluationKeys::new();
        for (element, level) in request.plan(&self.parameters)? {
            match element {
                None => keys.insert_relinearization(self.relinearization_key(level, rng)?),
                Some(element) => keys.insert_galois(self.galois_key(element, level, rng)?),
            }
        }
        Ok(keys)
    }

    /// For each digit j: (-a_j t + e_j + R g_j s, a_j), with R the product of all special primes, those to which the key is cut or not,
    /// g_j = 1 modulo the primes of the digit and 0 modulo the others, where s is switched from and t to.
    fn switching_key(
        &self,
        from: &SecretPoly,
        to: &SecretPoly,
        level: usize,
        rng: &mut impl CryptoRng,
    ) -> SwitchingKey {
        let p = &self.parameters;
        let (limbs, all) = (level + 1, p.max_level() + 1);
        let shape = p.key_shape(level);
        let digits = shape.digits(limbs);
        let seed = sampling::seed(rng);
        let zeros = (0..digits).map(|_| Poly::zero(p, 0, 0)).collect();
        let mut key = SwitchingKey::new(p, level, shape, seed, zeros);
        for j in 0..digits {
            let error = sampling::gaussian(rng, p.ring_degree());
            let mut body = Poly::from_small(p, limbs, shape.special, &error).into_evaluation(p);
            let n = p.ring_degree();
            body.data_mut().par_chunks_exact_mut(n).enumerate().for_each(|(i, limb)| {
                let m = p.table(limbs, i).modulus;
                let at = if i < limbs { i } else { all + i - limbs };
                if i < limbs && i / shape.digit_limbs == j {
                    let product = key_switch::special_product(p, p.special_primes(), i);
                    kernels::add_scaled(limb, from.0.limb(i), m.to_montgomery(product), m);
                }
                kernels::scale(limb, m.radix_squared(), m);
                kernels::sub_product(limb, key.halves[1][j].limb(i), to.0.limb(at), m);
            });
            key.halves[0][j] = body;
        }
        key
    }
}
