//! The transform for large rings in AVX2: blocks that stay in the first cache, and all lanes of a vector at the same stage.
//!
//! The N coefficients are rows of L = [`ROW`]. The first stages run along columns, a strip of columns at a time. What is left of row r is
//! a polynomial modulo X^L - psi^(L (2 bitrev(r) + 1)). Three more stages cut it into eight of c = L/8 coefficients, which are
//! transposed into the lanes of c vectors; coefficient k of the one with number i is multiplied by psi^((2 bitrev(i) + 1) k), and a
//! cyclic transform of size c, the same for all lanes and all rows, ends it. So a prime needs N/3 words of constants for each
//! direction in place of 2 N, and memory is passed twice, in pieces that the processor foresees. The inverse goes the other way round.
//!
//! Source: Bailey, FFTs in external or hierarchical memory (1990), for the two passes; Harvey, Faster arithmetic for number-theoretic
//! transforms (2014), for residues that stay below 4q (forward) and 2q (inverse).

use super::{Factor, Transform, reversed};
use crate::arith::Modulus;
use crate::kernels;
use crate::primes;

/// Words of a row.
pub(crate) const ROW: usize = 4096;
/// Lanes of a vector, and parts of a row.
pub(crate) const LANES: usize = 8;
/// Sizes that there are stages for.
const SIZES: std::ops::RangeInclusive<usize> = 4 * ROW..=32 * ROW;

/// A factor for each lane.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(32))]
pub(crate) struct Factors {
    pub(crate) w: [u32; LANES],
    pub(crate) quotient: [u32; LANES],
}

/// The factors of one direction.
#[derive(Debug)]
pub(crate) struct Factorisation {
    /// psi^bitrev(i), for the stages on rows and their parts.
    pub(crate) rows: Vec<Factor>,
    /// Of stage s of the cyclic transform from 2^s on, in bit-reversed order.
    pub(crate) cyclic: Vec<Factor>,
    /// For each row those of the coefficients 0 .. 7 of its parts, then those of 0, 8, 16 ..: coefficient 8 t + u takes two.
    pub(crate) twists: Vec<Factors>,
}

impl Factorisation {
    /// For powers of `root`, psi or its inverse, of order 2 `size`.
    fn new(m: Modulus, size: usize, root: u32) -> Self {
        let (parts, bits) = (size / ROW * LANES, size.trailing_zeros());
        let cyclic_size = ROW / LANES;
        // Few of the 2 N powers are needed: each is a product of one of the first and one of every so manieth.
        let powers = |root: u32, count: usize| {
            let next = |x: &u32| Some(m.mul(*x, root));
            std::iter::successors(Some(1), next).take(count).collect::<Vec<u32>>()
        };
        let first = powers(root, ROW);
        let every = powers(m.pow(root, ROW as u64), 2 * size / ROW);
        let power = |e: usize| {
            let e = e % (2 * size);
            Factor::new(m.mul(every[e / ROW], first[e % ROW]), m)
        };
        let rows = (0..parts).map(|i| power(reversed(i, bits))).collect();
        let mut cyclic = vec![Factor::default(); cyclic_size];
        for stage in 0..cyclic_size.trailing_zeros() {
            let count = 1usize << stage;
            for i in 0..count {
                cyclic[count + i] = power(cyclic_size / (2 * count) * reversed(i, stage) * 2 * parts);
            }
        }
        let twist = |row: usize, k: usize| {
            let factors: [Factor; LANES] = std::array::from_fn(|lane| {
                power((2 * reversed(LANES * row + lane, parts.trailing_zeros()) + 1) * k)
            });
            Factors { w: factors.map(|f| f.w), quotient: factors.map(|f| f.quotient) }
        };
        let coefficients = || (0..LANES).chain((0..cyclic_size).step_by(LANES));
        let twists = (0..size / ROW).flat_map(|row| coefficients().map(move |k| (row, k)));
        Self { rows, cyclic, twists: twists.map(|(row, k)| twist(row, k)).collect() }
    }
}

/// The transform of one prime and size.
#[derive(Debug)]
pub(crate) struct Blocked {
    modulus: Modulus,
    forward: Factorisation,
    inverse: Factorisation,
    /// 1/N in Montgomery form.
    normalise: u32,
}

impl Blocked {
    /// Tables for a power-of-two size; `None` if the size is too small or too large, or AVX2 is not what kernels use.
    pub(crate) fn new(modulus: Modulus, size: usize) -> Option<Self> {
        if !SIZES.contains(&size) || !kernels::transforms_blocked() {
            return None;
        }
        let psi = primes::root_of_unity(modulus, size);
        Some(Self {
            modulus,
            forward: Factorisation::new(modulus, size, psi),
            inverse: Factorisation::new(modulus, size, modulus.invert(psi)),
            normalise: modulus.to_montgomery(modulus.invert(size as u32)),
        })
    }
}

impl Transform for Blocked {
    fn forward(&self, values: &mut [u32]) {
        kernels::forward_blocked(values, &self.forward, self.modulus);
    }

    fn inverse(&self, values: &mut [u32]) {
        self.inverse_scaled(values);
        kernels::scale(values, self.normalise, self.modulus);
    }

    fn inverse_scaled(&self, values: &mut [u32]) {
        kernels::inverse_blocked(None, values, &self.inverse, self.modulus);
    }

    fn inverse_scaled_into(&self, values: &[u32], out: &mut [u32]) {
        kernels::inverse_blocked(Some(values), out, &self.inverse, self.modulus);
    }
}
