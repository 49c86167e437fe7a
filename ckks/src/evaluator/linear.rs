//! Linear maps of the slots: double-hoisted baby-step giant-step sums of rotated plaintext products.
//!
//! The map is sum over terms of rot_giant(plaintext x rot_baby(a)). The ciphertext is decomposed once; each baby step is an inner
//! product that stays modulo Q_l P, as do the products and sums; each giant step pays one division and one decomposition of
//! one half; a single division by P ends the map. Work goes limb by limb, so that all baby steps of a limb are at hand for
//! every giant step, and temporaries do not grow with the number of terms.
//! Source: Bossuat, Mouchet, Troncoso-Pastoriza and Hubaux, Efficient bootstrapping for approximate homomorphic encryption (2021), section 4.

use rayon::prelude::*;

use crate::ciphertext::Ciphertext;
use crate::error::{Error, Result};
use crate::evaluation_keys::{EvaluationKeys, GaloisKey};
use crate::evaluator::blocks::{Blocks, block_size};
use crate::evaluator::diagonal::{Diagonal, LimbValues};
use crate::evaluator::transform::LinearTransform;
use crate::evaluator::{Evaluator, ExtendedCiphertext};
use crate::kernels::{self, Term};
use crate::key_switch::{self, Addend, Decomposition};
use crate::plan::KeyShape;
use crate::poly::{Evaluation, Poly};

/// One giant step's sum, modulo Q_l P.
pub(super) type Sums = [Poly<Evaluation>; 2];

impl Evaluator {
    /// Applies a linear map. The level stays, the scale is multiplied by the map's.
    ///
    /// # Errors
    /// A missing key, keys that share no shape, a dense plaintext with too few limbs, or a scale that no longer fits.
    pub fn linear_transform(
        &self,
        a: &Ciphertext,
        map: &LinearTransform,
        keys: &EvaluationKeys,
    ) -> Result<Ciphertext> {
        self.linear_transform_and_rescale(a, map, 0, keys)
    }

    /// Applies a linear map and rescales by the last `primes` primes in the same division.
    ///
    /// # Errors
    /// As [`Self::linear_transform`], and [`Error::Level`] if fewer primes are left.
    pub fn linear_transform_and_rescale(
        &self,
        a: &Ciphertext,
        map: &LinearTransform,
        primes: usize,
        keys: &EvaluationKeys,
    ) -> Result<Ciphertext> {
        // Too few primes are refused before the work.
        self.rescaled_scale(a.scale, a.level(), primes)?;
        self.divide_and_rescale_in_place(self.linear_transform_extended(a, map, keys)?, primes)
    }

    /// Applies a linear map without the division at its end, for rotations and sums of its result.
    ///
    /// # Errors
    /// As [`Self::linear_transform`].
    pub fn linear_transform_extended(
        &self,
        a: &Ciphertext,
        map: &LinearTransform,
        keys: &EvaluationKeys,
    ) -> Result<ExtendedCiphertext> {
        self.check("the ciphertext", &a.c[0])?;
        let level = a.level();
        let scale = self.product_scale("linear_transform", a.scale, map.scale(), level)?;
        let shape = self.common_shape(&map.rotations(), level, keys)?;
        let shape = shape.unwrap_or_else(|| self.parameters.key_shape(level));
        for (_, diagonal) in map.giants.iter().flat_map(|(_, terms)| terms) {
            self.check_diagonal(diagonal, level, shape)?;
        }
        let (digits, babies) = self.baby_keys(a, map, shape, keys)?;
        let sums = self.products(a, digits.as_ref(), &babies, map, shape);
        let total = self.giant_steps(sums, &map.giants(), map.chain, (level, shape), keys)?;
        Ok(ExtendedCiphertext::new(total, scale, shape))
    }

    /// Rotates each sum by its giant step and adds them up.
    pub(super) fn giant_steps(
        &self,
        sums: Vec<Sums>,
        giants: &[i64],
        chain: Option<i64>,
        at: (usize, KeyShape),
        keys: &EvaluationKeys,
    ) -> Result<Sums> {
        let total = match chain {
            Some(step) => self.chain(sums, giants, step, at, keys)?,
            None => self.fan(sums, giants, at, keys)?,
        };
        total.ok_or_else(|| Error::LinearMap("no terms were given".into()))
    }

    /// `total` plus a sum, rotated.
    fn rotate_onto(&self, key: &GaloisKey, [u0, u1]: Sums, shape: KeyShape, total: Option<Sums>) -> Sums {
        self.counter.add(|counts| {
            counts.divisions += 1;
            counts.key_products += 1;
        });
        let p = &self.parameters;
        let [u1] = key_switch::mod_down_in_place(p, [u1], 0);
        self.decompose(&u1, shape).add_rotated(p, key, Addend::Extended(&u0), total)
    }

    /// Every giant step by a key of its own.
    fn fan(
        &self,
        sums: Vec<Sums>,
        giants: &[i64],
        (level, shape): (usize, KeyShape),
        keys: &EvaluationKeys,
    ) -> Result<Option<Sums>> {
        let p = &self.parameters;
        let mut total: Option<Sums> = None;
        for (giant, [u0, u1]) in giants.iter().zip(sums) {
            total = Some(match (self.shaped_key(*giant, level, shape, keys)?, total) {
                (None, None) => [u0, u1],
                (None, Some(mut total)) => {
                    total.iter_mut().zip(&[u0, u1]).for_each(|(t, u)| t.add_assign(u, p));
                    total
                }
                (Some(key), total) => self.rotate_onto(key, [u0, u1], shape, total),
            });
        }
        Ok(total)
    }

    /// Giant steps one after the other, from the last one down.
    fn chain(
        &self,
        sums: Vec<Sums>,
        giants: &[i64],
        step: i64,
        (level, shape): (usize, KeyShape),
        keys: &EvaluationKeys,
    ) -> Result<Option<Sums>> {
        let mut left: Vec<(i64, Sums)> = giants.iter().map(|g| g / step).zip(sums).collect();
        let Some((mut at, mut total)) = left.pop() else { return Ok(None) };
        while at > 0 {
            at -= 1;
            let next = if left.last().is_some_and(|(g, _)| *g == at) { left.pop() } else { None };
            let next = next.map(|(_, sums)| sums);
            total = match self.shaped_key(step, level, shape, keys)? {
                Some(key) => self.rotate_onto(key, total, shape, next),
                None => return Err(Error::LinearMap(format!("a chain of steps {step} does not move"))),
            };
        }
        Ok(Some(total))
    }

    pub(super) fn count_products<'d>(
        &self,
        diagonals: impl Iterator<Item = &'d Diagonal>,
        level: usize,
        shape: KeyShape,
    ) {
        self.counter.add(|counts| {
            for diagonal in diagonals {
                counts.plaintext_products += 1;
                counts.plaintext_transforms += usize::from(!diagonal.is_kept(level, shape.special));
            }
        });
    }

    pub(super) fn check_diagonal(&self, diagonal: &Diagonal, level: usize, shape: KeyShape) -> Result<()> {
        match diagonal {
            Diagonal::Periodic(plain) if plain.period() > self.parameters.slots() => {
                Err(Error::Parameters { what: "a periodic plaintext" })
            }
            Diagonal::Dense(plain) => {
                self.check("a dense plaintext", &plain.poly)?;
                if plain.level() < level || plain.special() < shape.special {
                    return Err(Error::LinearMap(format!(
                        "a dense plaintext has level {} and {} special primes, level {level} and {} are needed",
                        plain.level(),
                        plain.special(),
                        shape.special
                    )));
                }
                Ok(())
            }
            Diagonal::Periodic(_) => Ok(()),
        }
    }

    /// Applies a map without giant steps to a ciphertext whose second half comes decomposed, by the keys of its baby steps, and
    /// rescales by the last `primes` primes in the same division.
    ///
    /// # Errors
    /// [`Error::LinearMap`] for giant steps, a dense plaintext with too few limbs, or a scale that no longer fits.
    pub(crate) fn linear_transform_by(
        &self,
        a: &Ciphertext,
        digits: &Decomposition,
        babies: &[Option<&GaloisKey>],
        map: &LinearTransform,
        primes: usize,
    ) -> Result<Ciphertext> {
        let (level, shape) = (a.level(), digits.shape);
        let scale = self.product_scale("linear_transform", a.scale, map.scale(), level)?;
        for (_, diagonal) in map.giants.iter().flat_map(|(_, terms)| terms) {
            self.check_diagonal(diagonal, level, shape)?;
        }
        match (self.products(a, Some(digits), babies, map, shape).pop(), map.giants.as_slice()) {
            (Some(total), [(0, _)]) => {
                self.divide_and_rescale_in_place(ExtendedCiphertext::new(total, scale, shape), primes)
            }
            _ => Err(Error::LinearMap("a map by given keys has no giant steps".into())),
        }
    }

    /// The keys of the baby steps of a map, and the decomposition that they are multiplied with if there are any.
    fn baby_keys<'k>(
        &self,
        a: &Ciphertext,
        map: &LinearTransform,
        shape: KeyShape,
        keys: &'k EvaluationKeys,
    ) -> Result<(Option<Decomposition>, Vec<Option<&'k GaloisKey>>)> {
        let babies: Vec<Option<&GaloisKey>> =
            map.babies.iter().map(|&k| self.shaped_key(k, a.level(), shape, keys)).collect::<Result<_>>()?;
        let moves = babies.iter().any(Option::is_some);
        Ok((moves.then(|| self.decompose(&a.c[1], shape)), babies))
    }

    /// For each giant step, the sum of plaintext x rotated input, modulo Q_l P.
    fn products(
        &self,
        a: &Ciphertext,
        digits: Option<&Decomposition>,
        babies: &[Option<&GaloisKey>],
        map: &LinearTransform,
        shape: KeyShape,
    ) -> Vec<Sums> {
        let p = &self.parameters;
        let (n, limbs) = (p.ring_degree(), a.level() + 1);
        self.counter.add(|counts| counts.key_products += babies.iter().flatten().count());
        let diagonals = map.giants.iter().flat_map(|(_, terms)| terms).map(|(_, diagonal)| diagonal);
        self.count_products(diagonals, a.level(), shape);
        let mut sums: Vec<Sums> =
            map.giants.iter().map(|_| [(); 2].map(|()| Poly::scratch(p, limbs, shape.special))).collect();
        // Limb by limb, the rows of both halves of every sum.
        let mut rows: Vec<Vec<[&mut [u32]; 2]>> = (0..limbs + shape.special).map(|_| Vec::new()).collect();
        for [u0, u1] in &mut sums {
            let halves = u0.data_mut().chunks_exact_mut(n).zip(u1.data_mut().chunks_exact_mut(n));
            for (row, (u0, u1)) in rows.iter_mut().zip(halves) {
                row.push([u0, u1]);
            }
        }
        rows.into_par_iter().enumerate().for_each(|(i, sums)| {
            self.accumulate(sums, (a, digits, babies), map, (limbs, i, shape));
        });
        sums
    }

    /// P modulo prime i, in Montgomery form: the factor of a ciphertext beside inner products.
    pub(super) fn raise(&self, (limbs, i, shape): (usize, usize, KeyShape)) -> u32 {
        let m = self.parameters.table(limbs, i).modulus;
        m.to_montgomery(key_switch::special_product(&self.parameters, shape.special, i))
    }

    /// The positions from `at` on of limb i of both halves of a rotated input, times P, whose residue is `raise`: an aligned block.
    pub(super) fn baby_block(
        &self,
        a: &Ciphertext,
        digits: Option<&Decomposition>,
        key: Option<&GaloisKey>,
        (limbs, i, raise): (usize, usize, u32),
        at: usize,
        rows: [&mut [u32]; 2],
    ) {
        let p = &self.parameters;
        if let (Some(key), Some(digits)) = (key, digits) {
            let addend = (i < limbs).then(|| (a.c[0].limb(i), raise));
            let moves = key.permutation.block(at, rows[0].len());
            digits.positions(p, &key.key, i, [addend, None], (at, Some(moves)), rows);
            return;
        }
        for (row, c) in rows.into_iter().zip(&a.c) {
            if i < limbs {
                let c = &c.limb(i)[at..at + row.len()];
                kernels::scale_into(row, c, raise, p.table(limbs, i).modulus);
            } else {
                row.fill(0);
            }
        }
    }

    /// The sums of all giant steps at limb i, block by block: an automorphism sends aligned blocks to such blocks, so a block of every
    /// rotated input is made, read for every giant step, and forgotten, all in cache.
    fn accumulate(
        &self,
        mut sums: Vec<[&mut [u32]; 2]>,
        (a, digits, babies): (&Ciphertext, Option<&Decomposition>, &[Option<&GaloisKey>]),
        map: &LinearTransform,
        (limbs, i, shape): (usize, usize, KeyShape),
    ) {
        let p = &self.parameters;
        let (n, m) = (p.ring_degree(), p.table(limbs, i).modulus);
        let raise = self.raise((limbs, i, shape));
        let values: Vec<Vec<LimbValues>> = map
            .giants
            .iter()
            .map(|(_, terms)| terms.iter().map(|(_, diagonal)| diagonal.limb(p, limbs, i)).collect())
            .collect();
        let block = block_size(babies.len(), n);
        let mut rotated = Blocks::new(babies.len(), block);
        for at in (0..n).step_by(block) {
            for (key, rows) in babies.iter().zip(rotated.pairs_mut()) {
                self.baby_block(a, digits, *key, (limbs, i, raise), at, rows);
            }
            for ((sum, (_, terms)), values) in sums.iter_mut().zip(&map.giants).zip(&values) {
                let terms: Vec<Term<'_>> = terms
                    .iter()
                    .zip(values)
                    .map(|(&(baby, _), values)| Term {
                        rows: [0, 1].map(|half| rotated.row(baby, half)),
                        factors: values.factors(n, at, block),
                    })
                    .collect();
                kernels::weighted_sums(sum.each_mut().map(|out| &mut out[at..at + block]), &terms, m);
            }
        }
    }
}
