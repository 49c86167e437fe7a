//! The inner loops.
//!
//! Most kernels are one plain Rust body, compiled three times: for AVX-512, for AVX2 and for the target's baseline, and chosen at run time.
//! The heaviest are written by hand in vectors as well. Residues are exact, so all give the same
//! bits. `unsafe` only appears where a body compiled for an instruction set is entered, after the processor was asked for it,
//! and where a vector is loaded or stored.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod conversion;
pub(crate) mod isa;
mod pointwise;
mod portable;
mod terms;
#[cfg(test)]
mod tests;

use crate::arith::Modulus;
#[cfg(target_arch = "x86_64")]
use crate::buffer::LINE;
use crate::galois::{Moves, Permutation};
pub(crate) use pointwise::*;
pub(crate) use portable::conversion_quotient;
pub(crate) use terms::{Factors, LANES, Target, Term};

/// Asks for words that will be read soon: rows that lie far apart and of which only a few lines are wanted are not foreseen by the
/// processor.
pub(crate) fn prefetch(words: &[u32]) {
    #[cfg(target_arch = "x86_64")]
    for line in words.chunks(LINE) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: the instruction is part of every x86-64, the address that of a slice, and a prefetch never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = words;
}

macro_rules! prefer_by_hand {
    ($( $(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) )*) => { $(
        $(#[$doc])*
        pub(crate) fn $name($($arg: $type),*) {
            #[cfg(target_arch = "x86_64")]
            match isa::isa() {
                // SAFETY: the processor was just found to have every feature that this copy is compiled for.
                isa::Isa::Avx512 => return unsafe { avx512::$name($($arg),*) },
                // SAFETY: the processor was just found to have AVX2.
                isa::Isa::Avx2 => return unsafe { avx2::$name($($arg),*) },
                isa::Isa::Baseline => {}
            }
            portable::$name($($arg),*);
        }
    )* };
}

prefer_by_hand! {
    /// out = sum_j a_j b_j 2^-32 + c f 2^-32: with the b_j and f in Montgomery form, the inner product and an addend (c, f).
    fn inner_product(
        out: &mut [u32], a: &[&[u32]], b: &[&[u32]], addend: Option<(&[u32], u32)>, m: Modulus,
    )
    /// Two inner products of the same a_j with their addends, moved by an automorphism; the rows are those of the block that the values
    /// come from.
    fn rotated_inner_products(
        outs: [&mut [u32]; 2], a: &[&[u32]], b: [&[&[u32]]; 2], addends: [Option<(&[u32], u32)>; 2], moves: Moves<'_>, m: Modulus,
    )
    /// out_h = sum_j a_jh f_j: a_jh are entries, f_j residues, one for each run of positions, or for each position.
    fn weighted_sums(outs: [&mut [u32]; 2], terms: &[Term<'_>], m: Modulus)
    /// out_i = a_(permutation_i), for the permutation of an automorphism.
    fn permute(out: &mut [u32], a: &[u32], permutation: &Permutation)
    /// One block of a conversion: `gathered` holds `size` entries of each source, and of the quotients last, in rows that begin `stride`
    /// words apart, for (size, stride) = `shape`; the results lie at `at` in each target's row of `out`.
    fn convert_block(
        out: &mut [&mut [u32]], at: usize, gathered: &[u32], shape: (usize, usize), targets: &[Target],
    )
}
