//! Sums of automorphisms modulo Q_l P, divided by P once at the end.
//!
//! An inner product with a key, and so every giant step of a linear map, is P times a ciphertext modulo Q_l P. What is rotated next
//! needs only its second half divided, to be decomposed; sums need nothing. So a linear map, the rotations and conjugations that are added to its
//! result, and a rescaling take one division of both halves together, and nothing is rounded between them.
//! Source: Bossuat, Mouchet, Troncoso-Pastoriza and Hubaux, Efficient bootstrapping for approximate homomorphic encryption with
//! non-sparse keys (2021), section 4 (double hoisting).

use std::sync::OnceLock;

use crate::ciphertext::Ciphertext;
use crate::error::{Error, Result};
use crate::evaluation_keys::{EvaluationKeys, GaloisKey};
use crate::evaluator::{Evaluator, same_level, same_scale};
use crate::galois::GaloisElement;
use crate::key_switch::{self, Addend, Decomposition};
use crate::parameters::KeyShape;
use crate::poly::{Evaluation, Poly};

/// P times a ciphertext, modulo Q_l P.
#[derive(Debug)]
pub struct ExtendedCiphertext {
    pub(super) c: [Poly<Evaluation>; 2],
    /// Of the ciphertext, without P.
    pub(super) scale: f64,
    pub(super) shape: KeyShape,
    /// The digits of the second half over P, once a rotation has needed them.
    digits: OnceLock<Decomposition>,
}

impl ExtendedCiphertext {
    pub(super) fn new(c: [Poly<Evaluation>; 2], scale: f64, shape: KeyShape) -> Self {
        Self { c, scale, shape, digits: OnceLock::new() }
    }

    /// Rescalings left: the number of limbs of the chain less one.
    pub fn level(&self) -> usize {
        self.c[0].limbs() - 1
    }

    /// Factor between a slot's value and what is encrypted, once divided by P.
    pub fn scale(&self) -> f64 {
        self.scale
    }
}

impl Evaluator {
    /// P times a ciphertext, its second half decomposed already.
    pub(super) fn extend(&self, a: &Ciphertext, shape: KeyShape) -> ExtendedCiphertext {
        let p = &self.parameters;
        let c = a.c.each_ref().map(|c| key_switch::raise(p, c, shape.special));
        let digits = key_switch::decompose(p, &a.c[1], shape).into();
        ExtendedCiphertext { c, scale: a.scale, shape, digits }
    }

    /// Divides by P and rescales by the last `primes` primes in the same division.
    ///
    /// # Errors
    /// [`Error::Level`] if fewer primes are left.
    pub fn divide_and_rescale(&self, a: &ExtendedCiphertext, primes: usize) -> Result<Ciphertext> {
        self.check("the extended ciphertext", &a.c[0])?;
        let scale = self.rescaled_scale(a.scale, a.level(), primes)?;
        Ok(Ciphertext { c: key_switch::mod_down(&self.parameters, a.c.each_ref(), primes), scale })
    }

    /// a + b, at equal levels, scales and shapes of keys.
    ///
    /// # Errors
    /// Unequal levels, scales, or special primes.
    pub fn add_extended(&self, a: &ExtendedCiphertext, b: &ExtendedCiphertext) -> Result<ExtendedCiphertext> {
        self.check("the left extended ciphertext", &a.c[0])?;
        self.check("the right extended ciphertext", &b.c[0])?;
        same_level("add_extended", a.level(), b.level())?;
        same_scale("add_extended", a.scale, b.scale)?;
        if a.shape != b.shape {
            return Err(Error::Parameters { what: "an extended ciphertext of keys of another shape" });
        }
        let [x, y] = a.c.each_ref();
        let c = [x.sum(&b.c[0], &self.parameters), y.sum(&b.c[1], &self.parameters)];
        Ok(ExtendedCiphertext::new(c, a.scale, a.shape))
    }

    /// As [`Evaluator::rotate`]; several rotations of one ciphertext share its decomposition.
    ///
    /// # Errors
    /// [`Error::KeyShapes`] if there is no key for it in the ciphertext's shape.
    pub fn rotate_extended(
        &self,
        a: &ExtendedCiphertext,
        rotation: i64,
        keys: &EvaluationKeys,
    ) -> Result<ExtendedCiphertext> {
        let Some(key) = self.shaped_key(rotation, a.level(), a.shape, keys)? else {
            return Ok(ExtendedCiphertext::new(a.c.clone(), a.scale, a.shape));
        };
        self.move_extended(a, key)
    }

    /// As [`Evaluator::rotate_and_conjugate`]; shares the decomposition with rotations of the same ciphertext.
    ///
    /// # Errors
    /// [`Error::KeyShapes`] if there is no key for it in the ciphertext's shape.
    pub fn rotate_and_conjugate_extended(
        &self,
        a: &ExtendedCiphertext,
        rotation: i64,
        keys: &EvaluationKeys,
    ) -> Result<ExtendedCiphertext> {
        let element: GaloisElement = self.parameters.conjugating_element(rotation);
        // Where no key reaches the level at all, the error says so.
        keys.galois(element, a.level())?;
        let key = keys.galois_shaped(element, a.level(), a.shape);
        self.move_extended(a, key.ok_or_else(|| Error::KeyShapes { rotations: vec![], level: a.level() })?)
    }

    fn move_extended(&self, a: &ExtendedCiphertext, key: &GaloisKey) -> Result<ExtendedCiphertext> {
        self.check("the extended ciphertext", &a.c[0])?;
        let addend = Addend::Extended(&a.c[0]);
        let c = self.digits(a).add_rotated(&self.parameters, key, addend, None);
        Ok(ExtendedCiphertext::new(c, a.scale, a.shape))
    }

    fn digits<'a>(&self, a: &'a ExtendedCiphertext) -> &'a Decomposition {
        let p = &self.parameters;
        a.digits.get_or_init(|| {
            let [c1] = key_switch::mod_down(p, [&a.c[1]], 0);
            key_switch::decompose(p, &c1, a.shape)
        })
    }

    /// As [`Evaluator::rotate_and_sum_by_radix`].
    ///
    /// # Errors
    /// As there; the keys must have the ciphertext's shape.
    pub fn rotate_and_sum_extended(
        &self,
        a: &ExtendedCiphertext,
        step: i64,
        count: usize,
        radix: usize,
        keys: &EvaluationKeys,
    ) -> Result<ExtendedCiphertext> {
        let mut total: Option<ExtendedCiphertext> = None;
        for round in self.rounds(step, count, radix)? {
            let own = total.as_ref().unwrap_or(a);
            total = Some(self.round(own, &round, keys)?);
        }
        match total {
            Some(total) => Ok(total),
            None => self.rotate_extended(a, 0, keys),
        }
    }

    /// The sum of a ciphertext and its rotations by these.
    fn round(
        &self,
        a: &ExtendedCiphertext,
        rotations: &[i64],
        keys: &EvaluationKeys,
    ) -> Result<ExtendedCiphertext> {
        let p = &self.parameters;
        self.check("the extended ciphertext", &a.c[0])?;
        let mut sum = a.c.clone();
        for &rotation in rotations {
            match self.shaped_key(rotation, a.level(), a.shape, keys)? {
                Some(key) => {
                    sum = self.digits(a).add_rotated(p, key, Addend::Extended(&a.c[0]), Some(sum));
                }
                None => sum.iter_mut().zip(&a.c).for_each(|(s, c)| s.add_assign(c, p)),
            }
        }
        Ok(ExtendedCiphertext::new(sum, a.scale, a.shape))
    }
}
