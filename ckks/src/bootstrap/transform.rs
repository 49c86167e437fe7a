//! The linear maps between slots and coefficients, each as a few sparse matrices.
//!
//! The special Fourier transform from coefficients (in bit-reversed order) to slots is a product of log2(n) stages of
//! butterflies, n slots. Merged into three matrices of about log2(n)/3 stages each, it has at most 2^(g+1) - 1 diagonals
//! a matrix for g stages, at multiples of a step: 63, 63 and 32 for n = 2^15. Left out, the bit reversal cancels between
//! both directions. Diagonals of the first matrix repeat after 2^g slots, those of the second after 2^(2g).
//! Source: Chen, Chillotti and Song, Improved bootstrapping for approximate homomorphic encryption (2018), section 4; Han,
//! Hhan and Cheon, Improved homomorphic discrete Fourier transforms and FHE bootstrapping (2018).

use std::collections::BTreeMap;

use crate::bootstrap::shapes::{MATRICES, groups};
use crate::embedding::Embedding;
use crate::error::Result;
use crate::evaluator::{LinearTerm, LinearTransform};
use crate::plaintext::Plaintext;
use crate::{Complex64, Encoder};

/// A linear map of n slots by its diagonals: out[i] = sum over r of diagonal_r[i] in[i + r], indices modulo n.
#[derive(Clone, Debug)]
pub(crate) struct SlotMatrix {
    slots: usize,
    /// By rotation, from 0 to n - 1. Each has a power-of-two length with which it repeats.
    diagonals: BTreeMap<usize, Vec<Complex64>>,
}

impl SlotMatrix {
    fn identity(slots: usize) -> Self {
        Self { slots, diagonals: BTreeMap::from([(0, vec![Complex64::ONE])]) }
    }

    /// A rotation to the left.
    fn rotation(slots: usize, by: i64) -> Self {
        let by = by.rem_euclid(slots as i64) as usize;
        Self { slots, diagonals: BTreeMap::from([(by, vec![Complex64::ONE])]) }
    }

    /// The stage of butterflies of a length, of the transform to slots or, `inverse`, back: both without halving.
    fn stage(slots: usize, twiddles: &[Complex64], inverse: bool) -> Self {
        let half = twiddles.len();
        let zeros = vec![Complex64::ZERO; half];
        let ones = vec![Complex64::ONE; half];
        let conjugates: Vec<Complex64> = twiddles.iter().map(|w| w.conj()).collect();
        let negated = |w: &[Complex64]| w.iter().map(|w| -w).collect::<Vec<_>>();
        // Factors of the low half from in[i], in[i + half]; of the high half from in[i], in[i - half].
        let (own, above, below) = if inverse {
            ([ones.clone(), negated(&conjugates)], ones, conjugates)
        } else {
            ([ones.clone(), negated(twiddles)], twiddles.to_vec(), ones)
        };
        let mut map = Self { slots, diagonals: BTreeMap::new() };
        map.add(0, own.concat());
        map.add(half, [above, zeros.clone()].concat());
        map.add(slots - half, [zeros, below].concat());
        map
    }

    /// Adds to a diagonal; periods may differ.
    fn add(&mut self, rotation: usize, values: Vec<Complex64>) {
        let diagonal = self.diagonals.entry(rotation % self.slots).or_insert_with(|| vec![Complex64::ZERO]);
        if diagonal.len() < values.len() {
            *diagonal = diagonal.iter().copied().cycle().take(values.len()).collect();
        }
        diagonal.iter_mut().zip(values.iter().cycle()).for_each(|(d, v)| *d += v);
    }

    /// First `self`, then `next`.
    fn then(&self, next: &Self) -> Self {
        let mut product = Self { slots: self.slots, diagonals: BTreeMap::new() };
        for (&r, outer) in &next.diagonals {
            for (&s, inner) in &self.diagonals {
                let period = outer.len().max(inner.len());
                let values =
                    (0..period).map(|i| outer[i % outer.len()] * inner[(i + r) % inner.len()]).collect();
                product.add(r + s, values);
            }
        }
        product
    }

    /// The value of the map.
    #[cfg(test)]
    fn apply(&self, input: &[Complex64]) -> Vec<Complex64> {
        let n = self.slots;
        let at = |i: usize| self.diagonals.iter().map(|(r, d)| d[i % d.len()] * input[(i + r) % n]).sum();
        (0..n).map(at).collect()
    }

    /// The rotations that occur.
    pub(crate) fn rotations(&self) -> impl Iterator<Item = usize> {
        self.diagonals.keys().copied()
    }

    /// The greatest distance after which a diagonal repeats.
    #[cfg(test)]
    fn period(&self) -> usize {
        self.diagonals.values().map(Vec::len).max().unwrap_or(1)
    }

    /// The distance that all rotations are multiples of.
    fn step(&self) -> usize {
        1 << self.rotations().filter(|&r| r != 0).map(usize::trailing_zeros).min().unwrap_or(0)
    }

    /// The map in baby steps below `babies` times the common step of its rotations and a chain of giant steps, encoded
    /// at `scale` for ciphertexts at `level` and keys with `special` special primes.
    pub(crate) fn encode(
        &self,
        encoder: &Encoder,
        (level, special): (usize, usize),
        scale: f64,
        babies: usize,
    ) -> Result<LinearTransform> {
        let (n, round) = (self.slots, babies * self.step());
        let mut terms = Vec::with_capacity(self.diagonals.len());
        for (&r, diagonal) in &self.diagonals {
            let giant = r / round * round;
            // The rotation after the product moves the diagonal too.
            let values: Vec<Complex64> =
                (0..diagonal.len()).map(|i| diagonal[(i + n - giant) % diagonal.len()]).collect();
            let plaintext = if values.len() < n {
                encoder.encode_periodic(&values, scale)?.into()
            } else {
                Plaintext::into(encoder.encode_extended(&values, scale, level, special)?)
            };
            terms.push(LinearTerm { giant: giant as i64, baby: (r - giant) as i64, plaintext });
        }
        let map = LinearTransform::new(terms)?;
        if self.rotations().any(|r| r >= round) { map.chained(round as i64) } else { Ok(map) }
    }
}

/// From slots to coefficients, in the order of application: a ciphertext whose slots are v becomes one whose
/// coefficients i and n + i are the real and imaginary part of v at bit-reversed places. The forward transform, in fact: what
/// were slots is taken for bit-reversed coefficients, and their slots are computed.
///
/// Rotations are shifted so that none is negative; each matrix undoes the shift of the one before.
pub(crate) fn slots_to_coefficients(slots: usize) -> [SlotMatrix; MATRICES] {
    let embedding = Embedding::new(slots);
    let groups = groups(slots.trailing_zeros() as usize);
    let mut shift = 0;
    std::array::from_fn(|k| {
        let start = SlotMatrix::rotation(slots, -shift);
        let stages = groups[k].clone().map(|s| SlotMatrix::stage(slots, embedding.twiddles(s), false));
        let matrix = stages.fold(start, |map, stage| map.then(&stage));
        shift = if k + 1 < MATRICES { 1 << groups[k].end } else { 0 };
        matrix.then(&SlotMatrix::rotation(slots, shift))
    })
}

/// The inverse of [`slots_to_coefficients`], times n, in the order of application.
pub(crate) fn coefficients_to_slots(slots: usize) -> [SlotMatrix; MATRICES] {
    let embedding = Embedding::new(slots);
    let groups = groups(slots.trailing_zeros() as usize);
    // The matrix of group k leaves its result moved to the right by what the one of group k - 1 moves to the left.
    let shift = |k: usize| if k + 1 < MATRICES { 1i64 << groups[k].end } else { 0 };
    std::array::from_fn(|at| {
        let k = MATRICES - 1 - at;
        let stages = groups[k].clone().rev().map(|s| SlotMatrix::stage(slots, embedding.twiddles(s), true));
        let matrix = stages.fold(SlotMatrix::identity(slots), |map, stage| map.then(&stage));
        let matrix = SlotMatrix::rotation(slots, shift(k)).then(&matrix);
        match k.checked_sub(1) {
            Some(next) => matrix.then(&SlotMatrix::rotation(slots, -shift(next))),
            None => matrix,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::shapes::MatrixShape;

    fn some(n: usize) -> Vec<Complex64> {
        (0..n).map(|i| Complex64::new((i as f64 * 0.7).sin(), (i as f64).cos())).collect()
    }

    fn distance(a: &[Complex64], b: &[Complex64]) -> f64 {
        a.iter().zip(b).map(|(a, b)| (a - b).norm()).fold(0.0, f64::max)
    }

    #[test]
    fn matrices_are_the_transforms() {
        for log in [3, 7, 10] {
            let n = 1usize << log;
            let values = some(n);
            let forth = slots_to_coefficients(n).iter().fold(values.clone(), |v, m| m.apply(&v));
            // The embedding starts with the bit reversal that the matrices leave out.
            let reversed: Vec<Complex64> =
                (0..n).map(|i| values[i.reverse_bits() >> (usize::BITS - log)]).collect();
            let mut expected = reversed;
            Embedding::new(n).to_slots(&mut expected);
            assert!(distance(&forth, &expected) < 1e-9);
            let mut back = coefficients_to_slots(n).iter().fold(forth, |v, m| m.apply(&v));
            back.iter_mut().for_each(|x| *x /= n as f64);
            assert!(distance(&back, &values) < 1e-9);
        }
    }

    /// Shapes are those of the matrices, in both directions; and what they are at the ring degree that is used.
    #[test]
    fn shapes_are_those_of_the_matrices() {
        for n in [1 << 7, 1 << 10, 1 << 15] {
            let shapes = MatrixShape::of(n);
            let mut back = coefficients_to_slots(n);
            back.reverse();
            for (shape, matrix) in shapes.iter().zip(slots_to_coefficients(n)).chain(shapes.iter().zip(back))
            {
                assert!(shape.rotations().eq(matrix.rotations()), "{shape:?} of {n}");
                assert_eq!((shape.step, shape.period), (matrix.step(), matrix.period()));
            }
        }
        let shapes = MatrixShape::of(1 << 15).map(|s| (s.diagonals, s.step, s.period));
        assert_eq!(shapes, [(63, 1, 32), (63, 32, 1024), (32, 1024, 1 << 15)]);
    }
}
