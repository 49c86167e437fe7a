//! Computation on ciphertexts.
//!
//! Every operation states its effect on level and scale. Scales are tracked exactly, as floats: a product multiplies them, a rescale
//! divides by the primes it drops, and a sum wants them equal.

mod blocks;
mod bootstrap;
mod counts;
mod diagonal;
mod extended;
mod levels;
mod linear;
mod matrix;
mod polynomial;
mod rotations;
mod scalars;
mod transform;

pub use counts::OperationCounts;
pub use diagonal::Diagonal;
pub use extended::{ExtendedCiphertext, Move};
pub use matrix::{LinearMatrix, MatrixTerm};
pub use transform::{LinearTerm, LinearTransform};

use std::sync::Arc;

use counts::Counter;
use rayon::prelude::*;

use crate::ciphertext::{Ciphertext, Product};
use crate::error::{Error, Result};
use crate::evaluation_keys::{EvaluationKeys, SwitchingKey};
use crate::galois::Permutation;
use crate::kernels;
use crate::key_switch::{self, Addend, Decomposition};
use crate::parameters::Parameters;
use crate::plaintext::{PeriodicPlaintext, Plaintext};
use crate::plan::KeyShape;
use crate::poly::{Evaluation, Poly};

/// Relative difference of two scales that sums tolerate: what rounding the scales themselves can leave.
const SCALE_TOLERANCE: f64 = 1e-9;

/// Computes on ciphertexts of one set of parameters, and counts what it does.
#[derive(Clone, Debug)]
pub struct Evaluator {
    pub(crate) parameters: Parameters,
    /// Shared by clones.
    counter: Arc<Counter>,
}

fn same_scale(op: &'static str, left: f64, right: f64) -> Result<()> {
    if (left / right - 1.0).abs() > SCALE_TOLERANCE {
        return Err(Error::ScaleMismatch { op, left_log2: left.log2(), right_log2: right.log2() });
    }
    Ok(())
}

fn same_level(op: &'static str, left: usize, right: usize) -> Result<()> {
    if left != right {
        return Err(Error::LevelMismatch { op, left, right });
    }
    Ok(())
}

impl Evaluator {
    /// An evaluator for these parameters.
    pub fn new(parameters: &Parameters) -> Self {
        Self { parameters: parameters.clone(), counter: Arc::default() }
    }

    /// The parameters computed with.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// What this evaluator and its clones have carried out so far.
    pub fn counts(&self) -> OperationCounts {
        self.counter.counts()
    }

    /// Cuts a polynomial into digits and raises them.
    fn decompose(&self, c: &Poly<Evaluation>, shape: KeyShape) -> Decomposition {
        self.counter.add(|counts| counts.decompositions += 1);
        key_switch::decompose(&self.parameters, c, shape)
    }

    /// The whole key switch of what is decomposed, as [`Decomposition::switch`] does it.
    fn switch(
        &self,
        digits: &Decomposition,
        key: &SwitchingKey,
        addends: [Addend; 2],
        primes: usize,
        permutation: Option<&Permutation>,
    ) -> [Poly<Evaluation>; 2] {
        self.counter.add(|counts| {
            counts.key_products += 1;
            counts.divisions += 2;
        });
        digits.switch(&self.parameters, key, addends, primes, permutation)
    }

    /// Refuses polynomials of other parameters.
    fn check(&self, what: &'static str, poly: &Poly<Evaluation>) -> Result<()> {
        if poly.degree() != self.parameters.ring_degree() || poly.limbs() > self.parameters.max_level() + 1 {
            return Err(Error::Parameters { what });
        }
        Ok(())
    }

    fn check_pair(&self, op: &'static str, a: &Ciphertext, b: &Ciphertext) -> Result<()> {
        self.check("the left ciphertext", &a.c[0])?;
        self.check("the right ciphertext", &b.c[0])?;
        same_level(op, a.level(), b.level())
    }

    fn check_plain(&self, op: &'static str, a: &Ciphertext, b: &Plaintext) -> Result<()> {
        self.check("the ciphertext", &a.c[0])?;
        self.check("the plaintext", &b.poly)?;
        if b.level() < a.level() {
            return Err(Error::LevelMismatch { op, left: a.level(), right: b.level() });
        }
        Ok(())
    }

    /// a += b, at equal levels and scales.
    ///
    /// # Errors
    /// Unequal levels or scales.
    pub fn add_assign(&self, a: &mut Ciphertext, b: &Ciphertext) -> Result<()> {
        self.check_pair("add", a, b)?;
        same_scale("add", a.scale, b.scale)?;
        self.counter.add(|counts| counts.sums += 1);
        for (x, y) in a.c.iter_mut().zip(&b.c) {
            x.add_assign(y, &self.parameters);
        }
        Ok(())
    }

    /// a + b, at equal levels and scales.
    ///
    /// # Errors
    /// Unequal levels or scales.
    pub fn add(&self, a: &Ciphertext, b: &Ciphertext) -> Result<Ciphertext> {
        let mut sum = a.clone();
        self.add_assign(&mut sum, b)?;
        Ok(sum)
    }

    /// a -= b, at equal levels and scales.
    ///
    /// # Errors
    /// Unequal levels or scales.
    pub fn sub_assign(&self, a: &mut Ciphertext, b: &Ciphertext) -> Result<()> {
        self.check_pair("sub", a, b)?;
        same_scale("sub", a.scale, b.scale)?;
        self.counter.add(|counts| counts.sums += 1);
        for (x, y) in a.c.iter_mut().zip(&b.c) {
            x.sub_assign(y, &self.parameters);
        }
        Ok(())
    }

    /// a - b, at equal levels and scales.
    ///
    /// # Errors
    /// Unequal levels or scales.
    pub fn sub(&self, a: &Ciphertext, b: &Ciphertext) -> Result<Ciphertext> {
        let mut difference = a.clone();
        self.sub_assign(&mut difference, b)?;
        Ok(difference)
    }

    /// -a.
    pub fn negate(&self, a: &Ciphertext) -> Ciphertext {
        let mut out = a.clone();
        out.c.iter_mut().for_each(|c| c.negate(&self.parameters));
        out
    }

    /// a + b, for a plaintext of the same scale, at the ciphertext's level or above it.
    ///
    /// # Errors
    /// A plaintext below the ciphertext's level, or unequal scales.
    pub fn add_plain(&self, a: &Ciphertext, b: &Plaintext) -> Result<Ciphertext> {
        self.check_plain("add_plain", a, b)?;
        same_scale("add_plain", a.scale, b.scale)?;
        self.counter.add(|counts| counts.sums += 1);
        let mut sum = a.clone();
        sum.c[0].add_assign(&b.poly, &self.parameters);
        Ok(sum)
    }

    /// a - b, for a plaintext of the same scale, at the ciphertext's level or above it.
    ///
    /// # Errors
    /// A plaintext below the ciphertext's level, or unequal scales.
    pub fn sub_plain(&self, a: &Ciphertext, b: &Plaintext) -> Result<Ciphertext> {
        self.check_plain("sub_plain", a, b)?;
        same_scale("sub_plain", a.scale, b.scale)?;
        self.counter.add(|counts| counts.sums += 1);
        let mut difference = a.clone();
        difference.c[0].sub_assign(&b.poly, &self.parameters);
        Ok(difference)
    }

    /// a + b, for a periodic plaintext of the same scale.
    ///
    /// # Errors
    /// Unequal scales.
    pub fn add_periodic(&self, a: &Ciphertext, b: &PeriodicPlaintext) -> Result<Ciphertext> {
        self.check("the ciphertext", &a.c[0])?;
        same_scale("add_periodic", a.scale, b.scale())?;
        self.counter.add(|counts| {
            counts.sums += 1;
            counts.plaintext_transforms += usize::from(!b.is_kept(a.level(), 0));
        });
        let mut sum = a.clone();
        sum.c[0].add_assign(&b.expand(&self.parameters, a.level()), &self.parameters);
        Ok(sum)
    }

    /// a b, slot by slot, with a plaintext at the ciphertext's level or above it. Scales multiply.
    ///
    /// # Errors
    /// A plaintext below the ciphertext's level, or a scale that no longer fits the modulus.
    pub fn mul_plain(&self, a: &Ciphertext, b: &Plaintext) -> Result<Ciphertext> {
        self.check_plain("mul_plain", a, b)?;
        let scale = self.product_scale("mul_plain", a.scale, b.scale, a.level())?;
        self.counter.add(|counts| counts.plaintext_products += 1);
        let mut product = Ciphertext { c: a.c.clone(), scale };
        product.c.iter_mut().for_each(|c| c.mul_assign(&b.poly, &self.parameters));
        Ok(product)
    }

    /// a b, slot by slot, with a periodic plaintext. Scales multiply.
    ///
    /// # Errors
    /// A scale that no longer fits the modulus.
    pub fn mul_periodic(&self, a: &Ciphertext, b: &PeriodicPlaintext) -> Result<Ciphertext> {
        self.check("the ciphertext", &a.c[0])?;
        let scale = self.product_scale("mul_periodic", a.scale, b.scale(), a.level())?;
        self.counter.add(|counts| {
            counts.plaintext_products += 1;
            counts.plaintext_transforms += usize::from(!b.is_kept(a.level(), 0));
        });
        let p = &self.parameters;
        let (n, limbs) = (p.ring_degree(), a.level() + 1);
        let mut c = a.c.clone();
        let [c0, c1] = &mut c;
        let rows = c0.data_mut().par_chunks_exact_mut(n).zip(c1.data_mut().par_chunks_exact_mut(n));
        rows.enumerate().for_each(|(i, (c0, c1))| {
            let m = p.table(limbs, i).modulus;
            let values = b.values(p, limbs, i);
            let run = n / values.len();
            for row in [c0, c1] {
                for (run, &value) in row.chunks_exact_mut(run).zip(values.iter()) {
                    kernels::scale(run, m.to_montgomery(value), m);
                }
            }
        });
        Ok(Ciphertext { c, scale })
    }

    fn product_scale(&self, op: &'static str, a: f64, b: f64, level: usize) -> Result<f64> {
        self.parameters.check_scale(op, a * b, level)?;
        Ok(a * b)
    }

    /// a b, slot by slot, before relinearisation. Scales multiply.
    ///
    /// # Errors
    /// Unequal levels, or a scale that no longer fits the modulus.
    pub fn mul(&self, a: &Ciphertext, b: &Ciphertext) -> Result<Product> {
        self.check_pair("mul", a, b)?;
        let scale = self.product_scale("mul", a.scale, b.scale, a.level())?;
        self.counter.add(|counts| counts.ciphertext_products += 1);
        let p = &self.parameters;
        let (n, limbs) = (p.ring_degree(), a.level() + 1);
        let mut d = [(); 3].map(|()| Poly::scratch(p, limbs, 0));
        let [d0, d1, d2] = &mut d;
        d0.data_mut()
            .par_chunks_exact_mut(n)
            .zip(d1.data_mut().par_chunks_exact_mut(n))
            .zip(d2.data_mut().par_chunks_exact_mut(n))
            .enumerate()
            .for_each(|(i, ((d0, d1), d2))| {
                let factors = [a.c[0].limb(i), a.c[1].limb(i), b.c[0].limb(i), b.c[1].limb(i)];
                kernels::tensor([d0, d1, d2], factors, p.table(limbs, i).modulus);
            });
        Ok(Product { d, scale })
    }

    /// a^2, slot by slot, before relinearisation. The scale is squared.
    ///
    /// # Errors
    /// A scale that no longer fits the modulus.
    pub fn square(&self, a: &Ciphertext) -> Result<Product> {
        self.mul(a, a)
    }

    /// a += b for products, at equal levels and scales: sums are relinearised once.
    ///
    /// # Errors
    /// Unequal levels or scales.
    pub fn add_product_assign(&self, a: &mut Product, b: &Product) -> Result<()> {
        self.check("the left product", &a.d[0])?;
        self.check("the right product", &b.d[0])?;
        same_level("add_product", a.level(), b.level())?;
        same_scale("add_product", a.scale, b.scale)?;
        self.counter.add(|counts| counts.sums += 1);
        for (x, y) in a.d.iter_mut().zip(&b.d) {
            x.add_assign(y, &self.parameters);
        }
        Ok(())
    }

    /// The ciphertext of a product, by a key for s^2. Level and scale stay.
    ///
    /// # Errors
    /// [`Error::MissingKey`] if no relinearisation key reaches the level.
    pub fn relinearize(&self, product: &Product, keys: &EvaluationKeys) -> Result<Ciphertext> {
        self.relinearize_and_rescale(product, 0, keys)
    }

    /// Relinearises and rescales by the last `primes` primes in one division, which saves most of the transforms of the rescale.
    ///
    /// # Errors
    /// [`Error::MissingKey`] if no relinearisation key reaches the level, [`Error::Level`] if fewer primes are left.
    pub fn relinearize_and_rescale(
        &self,
        product: &Product,
        primes: usize,
        keys: &EvaluationKeys,
    ) -> Result<Ciphertext> {
        self.check("the product", &product.d[0])?;
        let level = product.level();
        let scale = self.rescaled_scale(product.scale, level, primes)?;
        let key = &keys.relinearization(level)?.key;
        let shape = key.shape.at(level + 1);
        let digits = self.decompose(&product.d[2], shape);
        let addends = [0, 1].map(|half| Addend::Raised(&product.d[half]));
        Ok(Ciphertext { c: self.switch(&digits, key, addends, primes, None), scale })
    }
}
