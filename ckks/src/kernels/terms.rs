//! What the heavy loops work on: terms of sums, constants of conversions, and how lazily both are reduced.

use crate::arith::Modulus;

/// Entries that one pass of a lazy sum keeps in registers.
pub(crate) const LANES: usize = 32;
/// Terms of a lazy sum of products of residues between two reductions of the sum.
pub(super) const LAZY_PRODUCTS: usize = 4;
/// Terms of a lazy sum in a basis conversion between two reductions of the sum.
pub(super) const LAZY_CONVERSION: usize = 8;

/// The plaintext side of a weighted sum.
#[derive(Clone, Copy)]
pub(crate) enum Factors<'a> {
    /// One residue for each run of 2^k positions.
    Runs(&'a [u32], u32),
    /// One residue for each position.
    Each(&'a [u32]),
}

/// One term of a pair of weighted sums: the same factors on rows of both halves of a ciphertext.
#[derive(Clone, Copy)]
pub(crate) struct Term<'a> {
    /// Rows of entries, one for each sum.
    pub(crate) rows: [&'a [u32]; 2],
    /// What they are multiplied by.
    pub(crate) factors: Factors<'a>,
}

/// The constants of a basis conversion into one prime.
pub(crate) struct Target {
    /// Target prime.
    pub(crate) modulus: Modulus,
    /// D/q_i mod p for each source prime, then -D mod p; in Montgomery form.
    pub(crate) factors: Vec<u32>,
}
