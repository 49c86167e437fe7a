//! Levels and scales: rescaling, and giving levels up.

use crate::ciphertext::Ciphertext;
use crate::error::{Error, Result};
use crate::evaluator::{Evaluator, SCALE_TOLERANCE, same_scale};
use crate::key_switch;

/// Least factor that changes a scale and is no integer: its rounding is 2^-21 of it.
const LEAST_FACTOR: f64 = (1 << 20) as f64;

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

    /// Both ciphertexts at one level and one scale, so that they can be added: the higher one is brought down, or the one with the
    /// smaller scale up to the other's.
    ///
    /// Equal scales cost nothing. Otherwise the one is multiplied by 1 at the scale that makes it fit, and rescaled: that is one
    /// level of the higher one, and where both are at one level and neither scale is a multiple of the other, one level of both.
    /// What is multiplied is off by at most 2^-21 of its size.
    ///
    /// # Errors
    /// [`Error::ScaleMismatch`] if no level is left to rescale by, or the scales lie so far apart that nothing fits.
    ///
    /// ```
    /// # use ckks::{Decryptor, Encoder, Evaluator, ParametersLiteral, SecretEncryptor, SecretKey};
    /// # let parameters = ParametersLiteral::insecure_toy(10, 3, 4).build()?;
    /// # let mut rng = rand::rng();
    /// # let secret = SecretKey::generate(&parameters, &mut rng);
    /// # let encryptor = SecretEncryptor::new(&parameters, &secret)?;
    /// # let (encoder, evaluator) = (Encoder::new(&parameters), Evaluator::new(&parameters));
    /// let x = encryptor.encrypt(&encoder.encode_real(&[0.5], 2f64.powi(30), 3)?, &mut rng)?;
    /// let third = evaluator.mul_scalar_and_rescale(&x, 1.0 / 3.0)?;
    /// let low = encryptor.encrypt(&encoder.encode_real(&[0.5], 2f64.powi(25), 1)?, &mut rng)?;
    /// let (a, b) = evaluator.align(&third, &low)?;
    /// let sum = evaluator.add(&a, &b)?;
    /// # let slots = encoder.decode(&Decryptor::new(&parameters, &secret)?.decrypt(&sum)?);
    /// assert_eq!(sum.level(), 1);
    /// assert!((slots[0].re - (0.5 + 0.5 / 3.0)).abs() < 1e-3);
    /// # Ok::<(), ckks::Error>(())
    /// ```
    pub fn align(&self, a: &Ciphertext, b: &Ciphertext) -> Result<(Ciphertext, Ciphertext)> {
        self.check("the left ciphertext", &a.c[0])?;
        self.check("the right ciphertext", &b.c[0])?;
        if a.level() < b.level() {
            let (b, a) = self.align(b, a)?;
            return Ok((a, b));
        }
        let level = b.level();
        if same_scale("align", a.scale, b.scale).is_ok() {
            return Ok((self.drop_level(a, level)?, b.clone()));
        }
        if a.level() > level {
            if let Some(a) = self.rescaled_to(a, level, b.scale)? {
                return Ok((a, b.clone()));
            }
            // What rescales to far less than wanted, as a product does that was not rescaled, is rescaled before.
            if a.level() > level + 1 {
                return self.align(&self.rescale(a)?, b);
            }
        }
        self.align_at(level, a, b)
    }

    /// Both at `level` or one below, by the one with the smaller scale.
    fn align_at(&self, level: usize, a: &Ciphertext, b: &Ciphertext) -> Result<(Ciphertext, Ciphertext)> {
        let (a, b) = (self.drop_level(a, level)?, self.drop_level(b, level)?);
        if a.scale > b.scale {
            let (b, a) = self.align_at(level, &b, &a)?;
            return Ok((a, b));
        }
        let ratio = b.scale / a.scale;
        if is_accurate(ratio) {
            return Ok((Ciphertext { scale: b.scale, ..self.mul_scalar(&a, 1.0, ratio)? }, b));
        }
        let fitting = match level.checked_sub(1) {
            Some(below) => self.rescaled_to(&a, below, b.scale)?,
            None => None,
        };
        let refused =
            Error::ScaleMismatch { op: "align", left_log2: a.scale.log2(), right_log2: b.scale.log2() };
        let a = fitting.ok_or(refused)?;
        let b = self.drop_level(&b, level - 1)?;
        Ok((a, b))
    }

    /// The ciphertext at a lower level and at a scale, by a factor of 1 and one rescale; `None` if that factor would be rounded too much.
    fn rescaled_to(&self, a: &Ciphertext, level: usize, scale: f64) -> Result<Option<Ciphertext>> {
        let factor = scale * f64::from(self.parameters.modulus(level + 1)) / a.scale;
        if !is_accurate(factor) {
            return Ok(None);
        }
        let a = self.drop_level(a, level + 1)?;
        let a = self.rescale(&self.mul_scalar(&a, 1.0, factor)?)?;
        Ok(Some(Ciphertext { scale, ..a }))
    }
}

/// Whether a factor can be rounded to an integer.
fn is_accurate(factor: f64) -> bool {
    factor >= LEAST_FACTOR || (factor.round() / factor - 1.0).abs() <= SCALE_TOLERANCE
}
