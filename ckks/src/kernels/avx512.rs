//! The heaviest loops in AVX-512: sixteen residues a vector, sums of 64-bit products in two vectors, of the even and of the odd lanes.
//!
//! The bounds are those of the portable bodies; the results are the same residues.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_add_epi64, _mm512_loadu_si512, _mm512_mask_blend_epi32,
    _mm512_maskz_loadu_epi32, _mm512_min_epu32, _mm512_min_epu64, _mm512_mul_epu32, _mm512_permutexvar_epi32,
    _mm512_set1_epi32, _mm512_set1_epi64, _mm512_setzero_si512, _mm512_srli_epi64, _mm512_storeu_si512,
    _mm512_sub_epi32, _mm512_sub_epi64,
};

use super::{Factors, LAZY_PRODUCTS, Target, Term, by_targets};
use crate::arith::Modulus;
use crate::galois::{Moves, Permutation};

/// Residues in a vector.
const WIDTH: usize = Permutation::RUN;
/// Sources of a conversion before the first reduction of a sum: 16 p 2^30 = 4 p 2^32.
const FIRST_SOURCES: usize = 16;
/// Sources between later reductions: the reduced sum, below p 2^32, and 12 p 2^30.
const NEXT_SOURCES: usize = 12;
/// Mask of the odd 32-bit lanes.
const ODD: u16 = 0xaaaa;

#[target_feature(enable = "avx512f")]
#[inline]
fn load(words: &[u32; WIDTH]) -> __m512i {
    // SAFETY: the array has the 64 bytes that are read, and the load needs no alignment.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

/// At most sixteen words, the rest zero.
#[target_feature(enable = "avx512f")]
#[inline]
fn load_some(words: &[u32]) -> __m512i {
    let mask = ((1u32 << words.len().min(WIDTH)) - 1) as u16;
    // SAFETY: only the words of the slice, at most sixteen of them, are read: the mask leaves the others out.
    unsafe { _mm512_maskz_loadu_epi32(mask, words.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn store(words: &mut [u32; WIDTH], v: __m512i) {
    // SAFETY: the array has the 64 bytes that are written, and the store needs no alignment.
    unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), v) }
}

/// Constants of one prime in all lanes.
#[derive(Clone, Copy)]
struct Lanes {
    q: __m512i,
    inverse: __m512i,
    radix_squared: __m512i,
    /// q 2^32.
    limit: __m512i,
}

impl Lanes {
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn new(m: Modulus) -> Self {
        Self {
            q: _mm512_set1_epi64(i64::from(m.value())),
            inverse: _mm512_set1_epi64(i64::from(m.inverse())),
            radix_squared: _mm512_set1_epi64(i64::from(m.radix_squared())),
            limit: _mm512_set1_epi64(i64::from(m.value()) << 32),
        }
    }

    /// s or s - limit, whichever is smaller as a word without sign.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn lower(s: __m512i, limit: __m512i) -> __m512i {
        _mm512_min_epu64(s, _mm512_sub_epi64(s, limit))
    }

    /// The sixteen residues s 2^-32 of sums below q 2^32.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn reduce(self, [even, odd]: [__m512i; 2]) -> __m512i {
        let high = |s: __m512i| _mm512_mul_epu32(_mm512_mul_epu32(s, self.inverse), self.q);
        let pack = |e: __m512i, o: __m512i| _mm512_mask_blend_epi32(ODD, _mm512_srli_epi64::<32>(e), o);
        let t = _mm512_sub_epi32(pack(even, odd), pack(high(even), high(odd)));
        let q = _mm512_mask_blend_epi32(ODD, self.q, self.limit);
        _mm512_min_epu32(t, _mm512_add_epi32(t, q))
    }

    /// The residues x 2^64 2^-32.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn to_montgomery(self, x: __m512i) -> __m512i {
        self.reduce([
            _mm512_mul_epu32(x, self.radix_squared),
            _mm512_mul_epu32(_mm512_srli_epi64::<32>(x), self.radix_squared),
        ])
    }
}

/// sum += a b, lane by lane.
#[target_feature(enable = "avx512f")]
#[inline]
fn multiply_add(sum: &mut [__m512i; 2], a: __m512i, b: __m512i) {
    let (a_odd, b_odd) = (_mm512_srli_epi64::<32>(a), _mm512_srli_epi64::<32>(b));
    sum[0] = _mm512_add_epi64(sum[0], _mm512_mul_epu32(a, b));
    sum[1] = _mm512_add_epi64(sum[1], _mm512_mul_epu32(a_odd, b_odd));
}

/// Vector `at` of an inner product and its addend.
#[target_feature(enable = "avx512f")]
#[inline]
fn inner_product_vector(
    at: usize,
    a: &[&[u32]],
    b: &[&[u32]],
    addend: Option<(&[u32], u32)>,
    lanes: Lanes,
) -> __m512i {
    let mut sum = [_mm512_setzero_si512(); 2];
    if let Some((c, f)) = addend {
        multiply_add(&mut sum, load(&c.as_chunks::<WIDTH>().0[at]), _mm512_set1_epi32(f as i32));
    }
    for (j, (a, b)) in a.iter().zip(b).enumerate() {
        let (a, b) = (&a.as_chunks::<WIDTH>().0[at], &b.as_chunks::<WIDTH>().0[at]);
        multiply_add(&mut sum, load(a), load(b));
        if j % LAZY_PRODUCTS == LAZY_PRODUCTS - 1 {
            sum = [Lanes::lower(sum[0], lanes.limit), Lanes::lower(sum[1], lanes.limit)];
        }
    }
    lanes.reduce([Lanes::lower(sum[0], lanes.limit), Lanes::lower(sum[1], lanes.limit)])
}

#[target_feature(enable = "avx512f")]
pub(super) fn inner_product(
    out: &mut [u32],
    a: &[&[u32]],
    b: &[&[u32]],
    addend: Option<(&[u32], u32)>,
    m: Modulus,
) {
    let lanes = Lanes::new(m);
    for (at, out) in out.as_chunks_mut::<WIDTH>().0.iter_mut().enumerate() {
        store(out, inner_product_vector(at, a, b, addend, lanes));
    }
}

#[target_feature(enable = "avx512f")]
pub(super) fn rotated_inner_products(
    outs: [&mut [u32]; 2],
    a: &[&[u32]],
    b: [&[&[u32]]; 2],
    addends: [Option<(&[u32], u32)>; 2],
    moves: Moves<'_>,
    m: Modulus,
) {
    for ((out, b), addend) in outs.into_iter().zip(b).zip(addends) {
        rotated_inner_product(out, a, b, addend, moves, m);
    }
}

/// Reads in order, so that the key streams, and stores each vector where the automorphism sends it.
#[target_feature(enable = "avx512f")]
fn rotated_inner_product(
    out: &mut [u32],
    a: &[&[u32]],
    b: &[&[u32]],
    addend: Option<(&[u32], u32)>,
    moves: Moves<'_>,
    m: Modulus,
) {
    let lanes = Lanes::new(m);
    let out = out.as_chunks_mut::<WIDTH>().0;
    for at in 0..out.len() {
        let sum = inner_product_vector(at, a, b, addend, lanes);
        let (target, pattern) = moves.target(at);
        store(&mut out[target], _mm512_permutexvar_epi32(load(pattern), sum));
    }
}

#[target_feature(enable = "avx512f")]
pub(super) fn weighted_sums(outs: [&mut [u32]; 2], terms: &[Term<'_>], m: Modulus) {
    for (half, out) in outs.into_iter().enumerate() {
        weighted_sum(out, half, terms, m);
    }
}

/// One of the two sums.
#[target_feature(enable = "avx512f")]
fn weighted_sum(out: &mut [u32], half: usize, terms: &[Term<'_>], m: Modulus) {
    let lanes = Lanes::new(m);
    // For runs of 2^k < 16 positions: lane i takes value i >> k.
    let mut spread = [[0; WIDTH]; 4];
    for (k, spread) in spread.iter_mut().enumerate() {
        for (i, s) in spread.iter_mut().enumerate() {
            *s = (i >> k) as u32;
        }
    }
    let spread = [load(&spread[0]), load(&spread[1]), load(&spread[2]), load(&spread[3])];
    for (at, out) in out.as_chunks_mut::<WIDTH>().0.iter_mut().enumerate() {
        let mut sum = [_mm512_setzero_si512(); 2];
        for (j, term) in terms.iter().enumerate() {
            let a = load(&term.rows[half].as_chunks::<WIDTH>().0[at]);
            let f = match term.factors {
                Factors::Runs(f, k @ 0..=3) => {
                    let values = &f[(at * WIDTH) >> k..][..WIDTH >> k];
                    _mm512_permutexvar_epi32(spread[k as usize], load_some(values))
                }
                Factors::Runs(f, log_run) => _mm512_set1_epi32(f[(at * WIDTH) >> log_run] as i32),
                Factors::Each(f) => load(&f.as_chunks::<WIDTH>().0[at]),
            };
            multiply_add(&mut sum, a, f);
            if j % LAZY_PRODUCTS == LAZY_PRODUCTS - 1 {
                sum = [Lanes::lower(sum[0], lanes.limit), Lanes::lower(sum[1], lanes.limit)];
            }
        }
        sum = [Lanes::lower(sum[0], lanes.limit), Lanes::lower(sum[1], lanes.limit)];
        store(out, lanes.to_montgomery(lanes.reduce(sum)));
    }
}

/// A run of a permutation is one vector here.
#[target_feature(enable = "avx512f")]
pub(super) fn permute(out: &mut [u32], a: &[u32], permutation: &Permutation) {
    let sources = a.as_chunks::<WIDTH>().0;
    for (out, (run, pattern)) in out.as_chunks_mut::<WIDTH>().0.iter_mut().zip(permutation.sources()) {
        store(out, _mm512_permutexvar_epi32(load(pattern), load(&sources[run])));
    }
}

/// One block of a conversion, as [`super::convert_block`] has it.
#[target_feature(enable = "avx512f")]
pub(super) fn convert_block(
    out: &mut [&mut [u32]],
    at: usize,
    gathered: &[u32],
    shape: (usize, usize),
    targets: &[Target],
) {
    by_targets!(convert_targets(out, at, gathered, shape; targets));
}

#[target_feature(enable = "avx512f")]
#[inline]
fn convert_targets<const T: usize>(
    out: &mut [&mut [u32]],
    at: usize,
    gathered: &[u32],
    (size, stride): (usize, usize),
    targets: [&Target; T],
) {
    let lanes = targets.map(|t| Lanes::new(t.modulus));
    let sources = gathered.len() / stride;
    let vectors = gathered.as_chunks::<WIDTH>().0;
    let step = stride / WIDTH;
    for i in 0..size / WIDTH {
        let mut sums = [[_mm512_setzero_si512(); 2]; T];
        let (mut next, mut left) = (0, FIRST_SOURCES);
        while next < sources {
            let end = sources.min(next + left);
            for j in next..end {
                let y = load(&vectors[j * step + i]);
                let y_odd = _mm512_srli_epi64::<32>(y);
                for (sum, target) in sums.iter_mut().zip(targets) {
                    let f = _mm512_set1_epi64(i64::from(target.factors[j]));
                    sum[0] = _mm512_add_epi64(sum[0], _mm512_mul_epu32(y, f));
                    sum[1] = _mm512_add_epi64(sum[1], _mm512_mul_epu32(y_odd, f));
                }
            }
            // Below 4 p 2^32: two conditional subtractions bring it below p 2^32.
            for (sum, lanes) in sums.iter_mut().zip(lanes) {
                let double = _mm512_add_epi64(lanes.limit, lanes.limit);
                for s in sum {
                    *s = Lanes::lower(Lanes::lower(*s, double), lanes.limit);
                }
            }
            (next, left) = (end, NEXT_SOURCES);
        }
        for ((out, sum), lanes) in out.iter_mut().zip(sums).zip(lanes) {
            store(&mut out[at..at + size].as_chunks_mut::<WIDTH>().0[i], lanes.reduce(sum));
        }
    }
}
