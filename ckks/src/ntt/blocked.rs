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

mod butterflies;
mod factors;
mod passes;

use super::transform::Transform;
use crate::arith::Modulus;
use crate::kernels;
use crate::kernels::isa::{Isa, isa};
use crate::primes;
use factors::{Factorisation, ROW};

/// Sizes that there are stages for.
const SIZES: std::ops::RangeInclusive<usize> = 4 * ROW..=32 * ROW;

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
        if !SIZES.contains(&size) || isa() != Isa::Avx2 {
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

impl Blocked {
    /// Values, of `from` if there are any, to coefficients times the size.
    fn scaled_inverse(&self, from: Option<&[u32]>, values: &mut [u32]) {
        // SAFETY: the processor was found to have AVX2 when the tables were made.
        unsafe { passes::inverse(from, values, &self.inverse, self.modulus) }
    }
}

impl Transform for Blocked {
    fn forward(&self, values: &mut [u32]) {
        // SAFETY: the processor was found to have AVX2 when the tables were made.
        unsafe { passes::forward(values, &self.forward, self.modulus) }
    }

    fn inverse(&self, values: &mut [u32]) {
        self.inverse_scaled(values);
        kernels::scale(values, self.normalise, self.modulus);
    }

    fn inverse_scaled(&self, values: &mut [u32]) {
        self.scaled_inverse(None, values);
    }

    fn inverse_scaled_into(&self, values: &[u32], out: &mut [u32]) {
        self.scaled_inverse(Some(values), out);
    }
}
