//! Sums of automorphisms modulo Q_l P, divided by P once at the end.
//!
//! An inner product with a key, and so every giant step of a linear map, is P times a ciphertext modulo Q_l P. What is rotated next
//! needs only its second half divided, to be decomposed; sums need nothing. So a linear map, the rotations and conjugations that are added to its
//! result, and a rescaling take one division of both halves together, and nothing is rounded between them.
//! Source: Bossuat, Mouchet, Troncoso-Pastoriza and Hubaux, Efficient bootstrapping for approximate homomorphic encryption with
//! non-sparse keys (2021), section 4 (double hoisting).

use std::sync::OnceLock;

use rayon::prelude::*;

use crate::buffer::Buffer;
use crate::ciphertext::Ciphertext;
use crate::error::{Error, Result};
use crate::evaluation_keys::{EvaluationKeys, GaloisKey};
use crate::evaluator::{Evaluator, same_level, same_scale};
use crate::galois::GaloisElement;
use crate::kernels;
use crate::key_switch::{self, BLOCK, Decomposition};
use crate::plan::KeyShape;
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

/// How a term of a sum is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// By so many slots to the left; by none it stays as it is.
    Rotation(i64),
    /// By so many slots to the left, and conjugated.
    Conjugation(i64),
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
    /// P times a ciphertext, decomposed already in the shape of keys that these rotations share. Level and scale stay.
    ///
    /// # Errors
    /// [`Error::MissingKey`] if a key is missing, [`Error::KeyShapes`] if the keys share no shape.
    pub fn extend(
        &self,
        a: &Ciphertext,
        rotations: &[i64],
        keys: &EvaluationKeys,
    ) -> Result<ExtendedCiphertext> {
        self.check("the ciphertext", &a.c[0])?;
        let shape = self.common_shape(rotations, a.level(), keys)?;
        Ok(self.extended(a, shape.unwrap_or_else(|| self.parameters.key_shape(a.level()))))
    }

    /// P times a ciphertext, its second half decomposed already.
    pub(super) fn extended(&self, a: &Ciphertext, shape: KeyShape) -> ExtendedCiphertext {
        let p = &self.parameters;
        let c = a.c.each_ref().map(|c| key_switch::raise(p, c, shape.special));
        let digits = self.decompose(&a.c[1], shape).into();
        ExtendedCiphertext { c, scale: a.scale, shape, digits }
    }

    /// Divides by P and rescales by the last `primes` primes in the same division.
    ///
    /// # Errors
    /// [`Error::Level`] if fewer primes are left.
    pub fn divide_and_rescale(&self, a: &ExtendedCiphertext, primes: usize) -> Result<Ciphertext> {
        self.check("the extended ciphertext", &a.c[0])?;
        let scale = self.rescaled_scale(a.scale, a.level(), primes)?;
        self.counter.add(|counts| counts.divisions += 2);
        Ok(Ciphertext { c: key_switch::mod_down(&self.parameters, a.c.each_ref(), primes), scale })
    }

    /// As [`Self::divide_and_rescale`], without a copy of what is divided by.
    ///
    /// # Errors
    /// As there.
    pub fn divide_and_rescale_in_place(&self, a: ExtendedCiphertext, primes: usize) -> Result<Ciphertext> {
        self.check("the extended ciphertext", &a.c[0])?;
        let scale = self.rescaled_scale(a.scale, a.level(), primes)?;
        self.counter.add(|counts| counts.divisions += 2);
        Ok(Ciphertext { c: key_switch::mod_down_in_place(&self.parameters, a.c, primes), scale })
    }

    /// The sum of extended ciphertexts, each of them moved, at equal levels, scales and shapes of keys. Moves of one ciphertext share its
    /// decomposition, and the sum is made block by block: nothing but it goes through memory.
    ///
    /// # Errors
    /// No terms, unequal levels, scales or special primes, or [`Error::KeyShapes`] if there is no key for a move in the
    /// ciphertexts' shape.
    pub fn sum_of_moved(
        &self,
        terms: &[(&ExtendedCiphertext, Move)],
        keys: &EvaluationKeys,
    ) -> Result<ExtendedCiphertext> {
        let Some((first, _)) = terms.first() else {
            return Err(Error::LinearMap("no extended ciphertexts to add were given".into()));
        };
        let (p, limbs) = (&self.parameters, first.level() + 1);
        let mut parts = Vec::with_capacity(terms.len());
        for (a, by) in terms {
            self.check("the extended ciphertext", &a.c[0])?;
            same_level("sum_of_moved", first.level(), a.level())?;
            same_scale("sum_of_moved", first.scale, a.scale)?;
            if a.shape != first.shape {
                return Err(Error::Parameters { what: "an extended ciphertext of keys of another shape" });
            }
            let key = self.move_key(*by, a.level(), a.shape, keys)?;
            parts.push((&a.c, key.map(|key| (self.digits(a), key))));
        }
        self.counter.add(|counts| {
            counts.key_products += parts.iter().filter(|(_, moved)| moved.is_some()).count();
            counts.sums += parts.len() - 1;
        });
        // What stays where it is comes first: it is copied.
        parts.sort_by_key(|(_, moved)| moved.is_some());
        let (n, special) = (p.ring_degree(), first.shape.special);
        let mut sum = [(); 2].map(|()| Poly::scratch(p, limbs, special));
        let [s0, s1] = sum.each_mut().map(|s| s.data_mut().par_chunks_exact_mut(n));
        s0.zip(s1).enumerate().for_each(|(i, (s0, s1))| {
            let m = p.table(limbs, i).modulus;
            let block = BLOCK.min(n);
            let mut moved = Buffer::scratch(2 * block);
            let (m0, m1) = moved.split_at_mut(block);
            for at in (0..n).step_by(block) {
                for (term, (c, by)) in parts.iter().enumerate() {
                    let range = at..at + block;
                    let out = [&mut s0[range.clone()], &mut s1[range.clone()]];
                    match by {
                        None => {
                            for (out, c) in out.into_iter().zip(c.iter()) {
                                let c = &c.limb(i)[range.clone()];
                                if term == 0 {
                                    out.copy_from_slice(c)
                                } else {
                                    kernels::add_assign(out, c, m)
                                }
                            }
                        }
                        Some((digits, key)) => {
                            let addends = [Some((c[0].limb(i), m.to_montgomery(1))), None];
                            let at = (at, Some(key.permutation.block(at, block)));
                            if term == 0 {
                                digits.positions(p, &key.key, i, addends, at, out);
                                continue;
                            }
                            digits.positions(p, &key.key, i, addends, at, [&mut *m0, &mut *m1]);
                            let [out0, out1] = out;
                            kernels::add_assign(out0, m0, m);
                            kernels::add_assign(out1, m1, m);
                        }
                    }
                }
            }
        });
        Ok(ExtendedCiphertext::new(sum, first.scale, first.shape))
    }

    /// The key of a move in a shape; `None` if nothing moves.
    fn move_key<'k>(
        &self,
        by: Move,
        level: usize,
        shape: KeyShape,
        keys: &'k EvaluationKeys,
    ) -> Result<Option<&'k GaloisKey>> {
        match by {
            Move::Rotation(by) => self.shaped_key(by, level, shape, keys),
            Move::Conjugation(by) => {
                let element: GaloisElement = self.parameters.conjugating_element(by);
                // Where no key reaches the level at all, the error says so.
                keys.galois(element, level)?;
                let key = keys.galois_shaped(element, level, shape);
                key.map(Some).ok_or_else(|| Error::KeyShapes { rotations: vec![], level })
            }
        }
    }

    fn digits<'a>(&self, a: &'a ExtendedCiphertext) -> &'a Decomposition {
        a.digits.get_or_init(|| {
            self.counter.add(|counts| counts.divisions += 1);
            let [c1] = key_switch::mod_down(&self.parameters, [&a.c[1]], 0);
            self.decompose(&c1, a.shape)
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
            let terms: Vec<_> = [0].into_iter().chain(round).map(|by| (own, Move::Rotation(by))).collect();
            total = Some(self.sum_of_moved(&terms, keys)?);
        }
        match total {
            Some(total) => Ok(total),
            None => self.sum_of_moved(&[(a, Move::Rotation(0))], keys),
        }
    }
}
