//! Makes public and evaluation keys from a secret.

use rand_core::CryptoRng;
use rayon::prelude::*;

use super::{SecretKey, SecretPoly};
use crate::bootstrap::keys::BootstrapKeys;
use crate::encryptor::PublicKey;
use crate::error::{Error, Result};
use crate::evaluation_keys::{
    EvaluationKeyRequest, EvaluationKeys, GaloisKey, RelinearizationKey, SwitchingKey,
};
use crate::galois::GaloisElement;
use crate::kernels;
use crate::key_switch;
use crate::parameters::Parameters;
use crate::plan::KeyShape;
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
        let shape = p.key_shape(level);
        let key = self.switching_key(&square, &self.secret, (level, shape), p.special_primes(), rng);
        Ok(RelinearizationKey { key })
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
        let shape = p.key_shape(level);
        let key = self.switching_key(&self.secret, &target, (level, shape), p.special_primes(), rng);
        Ok(GaloisKey::new(p, element, key))
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

    /// The keys of a bootstrap. The sparse secret is drawn here and wiped before this returns.
    ///
    /// # Errors
    /// [`crate::Error::Bootstrap`] for parameters without one.
    pub fn bootstrap_keys(&self, rng: &mut impl CryptoRng) -> Result<BootstrapKeys> {
        let p = &self.parameters;
        let plan = p.bootstrap_key_plan()?;
        let sparse = SecretKey::sparse(p, p.bootstrap_plan()?.literal.sparse_weight, rng);
        let sparse = sparse.expand(p, p.max_level() + 1, p.special_primes());
        let special = plan.to_sparse.1.special;
        let to_sparse = self.switching_key(&self.secret, &sparse, plan.to_sparse, special, rng);
        let special = plan.from_sparse.1.special;
        let from_sparse = plan
            .rotations
            .iter()
            .map(|&element| {
                let back = element.inverse(p.ring_degree()).permutation(p.ring_degree());
                let target = SecretPoly(self.secret.0.permuted(&back));
                let key = self.switching_key(&sparse, &target, plan.from_sparse, special, rng);
                GaloisKey::new(p, element, key)
            })
            .collect();
        let evaluation = self.evaluation_keys(&plan.evaluation, rng)?;
        Ok(BootstrapKeys::new(to_sparse, from_sparse, evaluation))
    }

    /// For each digit j: (-a_j t + e_j + R g_j s, a_j), with R the product of the first `factor` special primes, g_j = 1 modulo the
    /// primes of the digit and 0 modulo the others, where s is switched from and t to. Keys that are cut to few special primes at
    /// low levels hold all of them (`crate::key_switch` has the reason); one that never is holds those of its shape.
    fn switching_key(
        &self,
        from: &SecretPoly,
        to: &SecretPoly,
        (level, shape): (usize, KeyShape),
        factor: usize,
        rng: &mut impl CryptoRng,
    ) -> SwitchingKey {
        let p = &self.parameters;
        let (limbs, all) = (level + 1, p.max_level() + 1);
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
                    let product = key_switch::special_product(p, factor, i);
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
