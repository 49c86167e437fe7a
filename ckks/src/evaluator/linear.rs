//! Linear maps of the slots: double-hoisted baby-step giant-step sums of rotated plaintext products.
//!
//! The map is sum over terms of rot_giant(plaintext x rot_baby(a)). The ciphertext is decomposed once; each baby step is an inner
//! product that stays modulo Q_l P, as do the products and sums; each giant step pays one division and one decomposition of
//! one half; a single division by P ends the map. Work goes limb by limb, so that all baby steps of a limb are at hand for
//! every giant step, and temporaries do not grow with the number of terms.
//! Source: Bossuat, Mouchet, Troncoso-Pastoriza and Hubaux, Efficient bootstrapping for approximate homomorphic encryption (2021), section 4.

use std::borrow::Cow;
use std::sync::Arc;

use rayon::prelude::*;

use crate::buffer::{Buffer, LINE};
use crate::ciphertext::Ciphertext;
use crate::error::{Error, Result};
use crate::evaluation_keys::{EvaluationKeys, GaloisKey};
use crate::evaluator::{Evaluator, ExtendedCiphertext};
use crate::kernels::{self, Factors, Term};
use crate::key_switch::{self, Addend, Decomposition};
use crate::parameters::Parameters;
use crate::plaintext::{PeriodicPlaintext, Plaintext};
use crate::plan::KeyShape;
use crate::poly::{Evaluation, Poly};

/// Most positions of a limb that are multiplied and summed for all giant steps before the next.
const BLOCK: usize = 2048;
/// Bytes of rotated limbs that should stay in cache meanwhile.
const BLOCK_BYTES: usize = 512 << 10;
/// Fewest positions: keys are read in pieces of this size.
const LEAST_BLOCK: usize = 256;

/// The positions of one block of so many rotated inputs of `n` coefficients, a power of two.
pub(super) fn block_size(rotated: usize, n: usize) -> usize {
    let fitting = BLOCK_BYTES / (2 * size_of::<u32>() * rotated.max(1));
    let power = (fitting + 1).next_power_of_two() / 2;
    power.clamp(LEAST_BLOCK, BLOCK).min(n)
}

/// The plaintext of one term.
#[derive(Clone, Debug)]
pub enum Diagonal {
    /// Slots of a short period: kilobytes, at any level.
    Periodic(PeriodicPlaintext),
    /// Any slots, encoded with [`crate::Encoder::encode_extended`] at the map's level or above, with the keys' special primes;
    /// several maps may share it.
    Dense(Arc<Plaintext>),
}

impl Diagonal {
    /// The residues modulo prime i of a polynomial with `limbs` chain limbs.
    pub(super) fn limb(&self, p: &Parameters, limbs: usize, i: usize) -> LimbValues<'_> {
        match self {
            Self::Periodic(plain) => LimbValues::Runs(plain.values(p, limbs, i)),
            Self::Dense(plain) => {
                let limb = if i < limbs { i } else { plain.poly.limbs() + i - limbs };
                LimbValues::Each(plain.poly.limb(limb))
            }
        }
    }

    pub(super) fn scale(&self) -> f64 {
        match self {
            Self::Periodic(p) => p.scale(),
            Self::Dense(p) => p.scale(),
        }
    }

    /// Whether it needs no transform for a map at a level with so many special primes.
    fn is_kept(&self, level: usize, special: usize) -> bool {
        match self {
            Self::Periodic(plain) => plain.is_kept(level, special),
            Self::Dense(_) => true,
        }
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Periodic(p) => p.bytes(),
            Self::Dense(p) => p.bytes(),
        }
    }
}

/// One limb of a diagonal.
pub(super) enum LimbValues<'a> {
    /// One value for each run of positions.
    Runs(Cow<'a, [u32]>),
    /// All of them.
    Each(&'a [u32]),
}

impl LimbValues<'_> {
    /// The factors of the `block` positions from `at` on, of n.
    pub(super) fn factors(&self, n: usize, at: usize, block: usize) -> Factors<'_> {
        match self {
            Self::Runs(values) => {
                let run = n / values.len();
                let log_run = run.trailing_zeros();
                Factors::Runs(&values[at >> log_run..(at + block).div_ceil(run)], log_run)
            }
            Self::Each(values) => Factors::Each(&values[at..at + block]),
        }
    }
}

impl From<PeriodicPlaintext> for Diagonal {
    fn from(p: PeriodicPlaintext) -> Self {
        Self::Periodic(p)
    }
}

impl From<Plaintext> for Diagonal {
    fn from(p: Plaintext) -> Self {
        Self::Dense(Arc::new(p))
    }
}

impl From<Arc<Plaintext>> for Diagonal {
    fn from(p: Arc<Plaintext>) -> Self {
        Self::Dense(p)
    }
}

/// One term: rotate the input by `baby`, multiply by the plaintext, rotate by `giant`, all to the left.
#[derive(Clone, Debug)]
pub struct LinearTerm {
    /// Rotation after the product.
    pub giant: i64,
    /// Rotation before the product.
    pub baby: i64,
    /// Factor between the two.
    pub plaintext: Diagonal,
}

/// A linear map of the slots, ready to be applied.
#[derive(Clone, Debug)]
pub struct LinearTransform {
    scale: f64,
    /// Ascending and distinct.
    babies: Vec<i64>,
    /// Ascending by rotation; each with the index of the baby step and the plaintext of its terms.
    giants: Vec<(i64, Vec<(usize, Diagonal)>)>,
    /// Giant steps are multiples of this one and are taken one after the other.
    chain: Option<i64>,
}

impl LinearTransform {
    /// Sorts the terms by giant and baby step.
    ///
    /// # Errors
    /// [`Error::LinearMap`] if there are no terms, or their scales differ.
    pub fn new(terms: Vec<LinearTerm>) -> Result<Self> {
        let Some(first) = terms.first() else {
            return Err(Error::LinearMap("no terms were given".into()));
        };
        let scale = first.plaintext.scale();
        if let Some(other) = terms.iter().find(|t| t.plaintext.scale() != scale) {
            let (a, b) = (scale.log2(), other.plaintext.scale().log2());
            return Err(Error::LinearMap(format!(
                "terms at scales 2^{a:.6} and 2^{b:.6}; encode all at one"
            )));
        }
        let mut babies: Vec<i64> = terms.iter().map(|t| t.baby).collect();
        babies.sort_unstable();
        babies.dedup();
        let mut giants: Vec<(i64, Vec<(usize, Diagonal)>)> = Vec::new();
        for term in terms {
            let at = giants.partition_point(|(g, _)| *g < term.giant);
            if giants.get(at).is_none_or(|(g, _)| *g != term.giant) {
                giants.insert(at, (term.giant, Vec::new()));
            }
            let baby = babies.partition_point(|&b| b < term.baby);
            giants[at].1.push((baby, term.plaintext));
        }
        Ok(Self { scale, babies, giants, chain: None })
    }

    /// Takes the giant steps as a chain: with giants 0, g, 2 g .. the sum is u0 + rot_g(u1 + rot_g(u2 + ..)) (Horner). As many rotations,
    /// one key instead of one for each giant step, and their noise adds up.
    ///
    /// # Errors
    /// [`Error::LinearMap`] if `step` is not positive or a giant step is not a multiple of it.
    pub fn chained(mut self, step: i64) -> Result<Self> {
        if let Some((giant, _)) = self.giants.iter().find(|(g, _)| step <= 0 || *g < 0 || g % step != 0) {
            return Err(Error::LinearMap(format!(
                "giant step {giant} is not a multiple of the chain's {step}"
            )));
        }
        self.chain = Some(step);
        Ok(self)
    }

    /// Scale of the plaintexts.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Distinct rotations before the products.
    pub fn babies(&self) -> &[i64] {
        &self.babies
    }

    /// Distinct rotations after the products.
    pub fn giants(&self) -> Vec<i64> {
        self.giants.iter().map(|(g, _)| *g).collect()
    }

    /// All rotations that need a key.
    pub fn rotations(&self) -> Vec<i64> {
        let giants = match self.chain {
            Some(step) if self.giants.iter().any(|(g, _)| *g != 0) => vec![step],
            Some(_) => vec![],
            None => self.giants(),
        };
        let mut all: Vec<i64> = self.babies.iter().copied().chain(giants).filter(|&k| k != 0).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Plaintext products.
    pub fn terms(&self) -> usize {
        self.giants.iter().map(|(_, terms)| terms.len()).sum()
    }

    /// Bytes of the plaintexts in memory.
    pub fn bytes(&self) -> usize {
        self.giants.iter().flat_map(|(_, terms)| terms).map(|(_, p)| p.bytes()).sum()
    }
}

/// One block of positions of both halves of several rotated inputs, a line apart.
pub(super) struct Blocks {
    words: Buffer,
    block: usize,
}

impl Blocks {
    pub(super) fn new(inputs: usize, block: usize) -> Self {
        Self { words: Buffer::scratch(2 * inputs * (block + LINE)), block }
    }

    /// Both halves of each input.
    pub(super) fn pairs_mut(&mut self) -> impl Iterator<Item = [&mut [u32]; 2]> {
        let (block, stride) = (self.block, self.block + LINE);
        self.words.chunks_exact_mut(2 * stride).map(move |pair| {
            let (first, second) = pair.split_at_mut(stride);
            [&mut first[..block], &mut second[..block]]
        })
    }

    /// One half of an input.
    pub(super) fn row(&self, input: usize, half: usize) -> &[u32] {
        &self.words[(2 * input + half) * (self.block + LINE)..][..self.block]
    }
}

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
        let scale = self.product_scale("linear_transform", a.scale, map.scale, level)?;
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
        let scale = self.product_scale("linear_transform", a.scale, map.scale, level)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks divide the ring, and the rotated inputs of one stay in cache until blocks are as short as they may be.
    #[test]
    fn blocks_fit_the_cache() {
        for log_n in [11, 16, 17] {
            let n = 1usize << log_n;
            for rotated in 0..300 {
                let block = block_size(rotated, n);
                assert!(n.is_multiple_of(block) && (LEAST_BLOCK..=BLOCK).contains(&block), "{rotated}");
                let bytes = 2 * size_of::<u32>() * rotated * block;
                assert!(bytes <= BLOCK_BYTES || block == LEAST_BLOCK, "{rotated}: {bytes} bytes");
            }
        }
        assert_eq!([1, 32, 33, 100].map(|rotated| block_size(rotated, 1 << 16)), [2048, 2048, 1024, 512]);
        assert_eq!(block_size(1, 128), 128);
    }
}
