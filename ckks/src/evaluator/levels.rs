//! Levels and scales: rescaling, and giving levels up.

use crate::ciphertext::Ciphertext;
use crate::error::{Error, Result};
use crate::evaluator::Evaluator;
use crate::key_switch;

impl Evaluator {
    pub(super) fn rescaled_scale(&self, scale: f64, level: usize, primes: usize) -> Result<f64> {
        if primes > level {
            return Err(Error::Level { op: "rescale", required: primes, available: level });
        }
        Ok((level + 1 - primes..=level).fold(scale, |s, i| s / f64::from(self.parameters.modulus(i))))
    }

    /// Divides by the last prime, rounding: one level down, the scale divided by that prime.
    ///
    /// # Errors
    /// [`Error::Level`] at level 0.
    pub fn rescale(&self, a: &Ciphertext) -> Result<Ciphertext> {
        self.rescale_by(a, 1)
    }

    /// Divides by the last `primes` primes at once: as many levels down.
    ///
    /// # Errors
    /// [`Error::Level`] if fewer levels are left.
    pub fn rescale_by(&self, a: &Ciphertext, primes: usize) -> Result<Ciphertext> {
        self.check("the ciphertext", &a.c[0])?;
        let scale = self.rescaled_scale(a.scale, a.level(), primes)?;
        self.counter.add(|counts| counts.divisions += 2);
        let c = key_switch::mod_down(&self.parameters, a.c.each_ref(), primes);
        Ok(Ciphertext { c, scale })
    }

    /// Discards limbs down to `level`. The scale stays.
    ///
    /// # Errors
    /// [`Error::Level`] if the ciphertext is below that level.
    pub fn drop_level(&self, a: &Ciphertext, level: usize) -> Result<Ciphertext> {
        self.check("the ciphertext", &a.c[0])?;
        if level > a.level() {
            return Err(Error::Level { op: "drop_level", required: level, available: a.level() });
        }
        Ok(Ciphertext { c: [a.c[0].prefix(level + 1), a.c[1].prefix(level + 1)], scale: a.scale })
    }
}
