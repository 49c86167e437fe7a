//! What an evaluator has carried out, counted where it is done.

use std::ops::{AddAssign, Sub};
use std::sync::{Mutex, PoisonError};

/// Numbers of operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OperationCounts {
    /// Polynomials cut into digits, each raised to the special primes.
    pub decompositions: usize,
    /// Products of such digits with a key, both halves: rotations, conjugations, relinearisations.
    pub key_products: usize,
    /// Polynomials divided, by the special primes, by primes of the chain, or by both at once.
    pub divisions: usize,
    /// Products of a ciphertext, rotated or not, with a plaintext or a number.
    pub plaintext_products: usize,
    /// Plaintexts transformed for a product or a sum, because they are not kept so.
    pub plaintext_transforms: usize,
    /// Products of two ciphertexts, and squares.
    pub ciphertext_products: usize,
    /// Sums of two, outside of linear maps.
    pub sums: usize,
}

impl OperationCounts {
    fn each(&mut self) -> [&mut usize; 7] {
        [
            &mut self.decompositions,
            &mut self.key_products,
            &mut self.divisions,
            &mut self.plaintext_products,
            &mut self.plaintext_transforms,
            &mut self.ciphertext_products,
            &mut self.sums,
        ]
    }
}

impl AddAssign for OperationCounts {
    fn add_assign(&mut self, mut other: Self) {
        self.each().into_iter().zip(other.each()).for_each(|(a, b)| *a += *b);
    }
}

impl Sub for OperationCounts {
    type Output = Self;

    /// What was done between two counts, the earlier one on the right.
    fn sub(mut self, mut earlier: Self) -> Self {
        self.each().into_iter().zip(earlier.each()).for_each(|(a, b)| *a -= *b);
        self
    }
}

/// Counts up. An operation takes milliseconds, so that a lock costs nothing.
#[derive(Debug, Default)]
pub(super) struct Counter(Mutex<OperationCounts>);

impl Counter {
    pub(super) fn counts(&self) -> OperationCounts {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, count: impl FnOnce(&mut OperationCounts)) {
        count(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
