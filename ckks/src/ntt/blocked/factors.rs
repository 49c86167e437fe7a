//! The constants of the blocked transform.

use crate::arith::Modulus;
use crate::ntt::factor::{Factor, reversed};

/// Words of a row.
pub(super) const ROW: usize = 4096;
/// Lanes of a vector, and parts of a row.
pub(super) const LANES: usize = 8;

/// A factor for each lane.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(32))]
pub(super) struct Factors {
    pub(super) w: [u32; LANES],
    pub(super) quotient: [u32; LANES],
}

/// The factors of one direction.
#[derive(Debug)]
pub(super) struct Factorisation {
    /// psi^bitrev(i), for the stages on rows and their parts.
    pub(super) rows: Vec<Factor>,
    /// Of stage s of the cyclic transform from 2^s on, in bit-reversed order.
    pub(super) cyclic: Vec<Factor>,
    /// For each row those of the coefficients 0 .. 7 of its parts, then those of 0, 8, 16 ..: coefficient 8 t + u takes two.
    pub(super) twists: Vec<Factors>,
}

impl Factorisation {
    /// For powers of `root`, psi or its inverse, of order 2 `size`.
    pub(super) fn new(m: Modulus, size: usize, root: u32) -> Self {
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
