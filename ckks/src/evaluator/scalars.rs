//! One number in all slots: sums and products without a plaintext.

use crate::ciphertext::Ciphertext;
use crate::error::{Error, Result};
use crate::evaluator::Evaluator;

impl Evaluator {
    /// a v, for one number v rounded to a multiple of 1/`scale`. Scales multiply; with scale 1 an integer factor is free.
    ///
    /// # Errors
    /// A number that is not finite or reaches 2^126 at this scale, or a scale that no longer fits the modulus.
    pub fn mul_scalar(&self, a: &Ciphertext, v: f64, scale: f64) -> Result<Ciphertext> {
        self.check("the ciphertext", &a.c[0])?;
        let integer = integer(v, scale)?;
        let scale = self.product_scale("mul_scalar", a.scale, scale, a.level())?;
        self.counter.add(|counts| counts.plaintext_products += 1);
        let mut product = Ciphertext { c: a.c.clone(), scale };
        product.c.iter_mut().for_each(|c| c.scale_limbs(&self.parameters, |_, m| m.reduce_i128(integer)));
        Ok(product)
    }

    /// a v, for one number v, rescaled by the last prime: one level down, at the scale of `a`.
    ///
    /// v is encoded at the scale of that prime, so it is off by at most half of one over it.
    ///
    /// # Errors
    /// [`Error::Level`] at level 0, and as [`Self::mul_scalar`].
    pub fn mul_scalar_and_rescale(&self, a: &Ciphertext, v: f64) -> Result<Ciphertext> {
        self.check("the ciphertext", &a.c[0])?;
        self.rescaled_scale(a.scale, a.level(), 1)?;
        let prime = self.parameters.modulus(a.level());
        let product = self.rescale(&self.mul_scalar(a, v, f64::from(prime))?)?;
        Ok(Ciphertext { scale: a.scale, ..product })
    }

    /// a + v in every slot, for one real number v. Level and scale stay.
    ///
    /// # Errors
    /// A number that is not finite or reaches 2^126 at the ciphertext's scale.
    pub fn add_scalar(&self, a: &Ciphertext, v: f64) -> Result<Ciphertext> {
        self.check("the ciphertext", &a.c[0])?;
        let integer = integer(v, a.scale)?;
        self.counter.add(|counts| counts.sums += 1);
        let mut sum = a.clone();
        sum.c[0].for_each_limb(&self.parameters, |_, m, limb| {
            let v = m.reduce_i128(integer);
            limb.iter_mut().for_each(|x| *x = m.add(*x, v));
        });
        Ok(sum)
    }
}

/// log2 of the greatest scalar at its scale: an `i128` holds it, and products of two levels of two 30-bit primes need 2^120.
const SCALAR_LIMIT: u32 = 126;

/// round(v scale), if it is finite and below 2^126.
pub(super) fn integer(v: f64, scale: f64) -> Result<i128> {
    let scaled = (v * scale).round();
    if scaled.abs() < f64::from(SCALAR_LIMIT).exp2() {
        Ok(scaled as i128)
    } else {
        Err(Error::Value { index: 0, limit_log2: SCALAR_LIMIT })
    }
}
