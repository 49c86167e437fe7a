//! The heaviest loops in AVX-512: sixteen residues a vector, sums of 64-bit products in two vectors, of the even and of the odd lanes.
//!
//! The bounds are those of the portable bodies; the results are the same residues.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_add_epi64, _mm512_loadu_si512, _mm512_mask_blend_epi32,
    _mm512_maskz_loadu_epi32, _mm512_min_epu32, _mm512_min_epu64, _mm512_mul_epu32, _mm512_permutexvar_epi32,
    _mm512_set1_epi32, _mm512_set1_epi64, _mm512_setzero_si512, _mm512_srli_epi64, _mm512_storeu_si512,
    _mm512_sub_epi32, _mm512_sub_epi64,
};

use super::conversion::conversion_with;
use super::terms::LAZY_PRODUCTS;
use super::{Factors, Term};
use crate::arith::Modulus;
use crate::galois::{Moves, Permutation};

/// Residues in a vector.
const WIDTH: usize = Permutation::RUN;
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

/// A sum of products: of the even lanes, and of the odd ones.
type Sum = [__m512i; 2];

#[target_feature(enable = "avx512f")]
#[inline]
fn zero() -> Sum {
    [_mm512_setzero_si512(); 2]
}

/// A word in all lanes.
#[target_feature(enable = "avx512f")]
#[inline]
fn spread(word: u32) -> __m512i {
    _mm512_set1_epi32(word as i32)
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

    /// A sum below 2 q 2^32 to one below q 2^32: s or s - q 2^32, whichever is smaller as a word without sign.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn lower_once(self, sum: Sum) -> Sum {
        sum.map(|s| _mm512_min_epu64(s, _mm512_sub_epi64(s, self.limit)))
    }

    /// A sum below 4 q 2^32 to one below q 2^32.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn lower(self, sum: Sum) -> Sum {
        let double = _mm512_add_epi64(self.limit, self.limit);
        self.lower_once(sum.map(|s| _mm512_min_epu64(s, _mm512_sub_epi64(s, double))))
    }

    /// The sixteen residues s 2^-32 of sums below q 2^32.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn reduce(self, [even, odd]: Sum) -> __m512i {
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

/// sum + a b, lane by lane.
#[target_feature(enable = "avx512f")]
#[inline]
fn multiply_add(sum: Sum, a: __m512i, b: __m512i) -> Sum {
    let (a_odd, b_odd) = (_mm512_srli_epi64::<32>(a), _mm512_srli_epi64::<32>(b));
    [
        _mm512_add_epi64(sum[0], _mm512_mul_epu32(a, b)),
        _mm512_add_epi64(sum[1], _mm512_mul_epu32(a_odd, b_odd)),
    ]
}

/// sum + a f, lane by lane, with the same f in all lanes.
#[target_feature(enable = "avx512f")]
#[inline]
fn multiply_add_one(sum: Sum, a: __m512i, f: __m512i) -> Sum {
    [
        _mm512_add_epi64(sum[0], _mm512_mul_epu32(a, f)),
        _mm512_add_epi64(sum[1], _mm512_mul_epu32(_mm512_srli_epi64::<32>(a), f)),
    ]
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
    let mut sum = zero();
    if let Some((c, f)) = addend {
        sum = multiply_add_one(sum, load(&c.as_chunks::<WIDTH>().0[at]), spread(f));
    }
    for (j, (a, b)) in a.iter().zip(b).enumerate() {
        let (a, b) = (&a.as_chunks::<WIDTH>().0[at], &b.as_chunks::<WIDTH>().0[at]);
        sum = multiply_add(sum, load(a), load(b));
        if j % LAZY_PRODUCTS == LAZY_PRODUCTS - 1 {
            sum = lanes.lower_once(sum);
        }
    }
    lanes.reduce(lanes.lower_once(sum))
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
    let sources = [0, 1, 2, 3].map(|k| load(&std::array::from_fn(|i| (i >> k) as u32)));
    for (at, out) in out.as_chunks_mut::<WIDTH>().0.iter_mut().enumerate() {
        let mut sum = zero();
        for (j, term) in terms.iter().enumerate() {
            let a = load(&term.rows[half].as_chunks::<WIDTH>().0[at]);
            let f = match term.factors {
                Factors::Runs(f, k @ 0..=3) => {
                    let values = &f[(at * WIDTH) >> k..][..WIDTH >> k];
                    _mm512_permutexvar_epi32(sources[k as usize], load_some(values))
                }
                Factors::Runs(f, log_run) => spread(f[(at * WIDTH) >> log_run]),
                Factors::Each(f) => load(&f.as_chunks::<WIDTH>().0[at]),
            };
            sum = multiply_add(sum, a, f);
            if j % LAZY_PRODUCTS == LAZY_PRODUCTS - 1 {
                sum = lanes.lower_once(sum);
            }
        }
        sum = lanes.lower_once(sum);
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

conversion_with!("avx512f");
