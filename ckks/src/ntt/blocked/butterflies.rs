//! Stages of the blocked transform on vectors in registers: two of four vectors, three of eight, and the transposition between them.
//!
//! Residues stay below 4q on the way forward and below 2q on the way back.

use std::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_blend_epi32, _mm256_min_epu32, _mm256_mul_epu32, _mm256_mullo_epi32,
    _mm256_permute2x128_si256, _mm256_srli_epi64, _mm256_sub_epi32, _mm256_unpackhi_epi32,
    _mm256_unpackhi_epi64, _mm256_unpacklo_epi32, _mm256_unpacklo_epi64,
};

use super::factors::Factors;
use crate::arith::Modulus;
use crate::kernels::avx2::{self, ODD};
use crate::ntt::factor::Factor;

/// The prime and its double in all lanes.
#[derive(Clone, Copy)]
pub(super) struct Prime {
    pub(super) q: __m256i,
    pub(super) double: __m256i,
}

impl Prime {
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(super) fn new(m: Modulus) -> Self {
        Self { q: avx2::spread(m.value()), double: avx2::spread(2 * m.value()) }
    }
}

/// A factor in all lanes: w, and its quotient for the even and for the odd ones.
pub(super) type Spread = [__m256i; 3];

#[target_feature(enable = "avx2")]
#[inline]
fn spread(f: Factor) -> Spread {
    let quotient = avx2::spread(f.quotient);
    [avx2::spread(f.w), quotient, quotient]
}

#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn each(f: &Factors) -> Spread {
    let [w, quotient] = [avx2::load(&f.w), avx2::load(&f.quotient)];
    [w, quotient, _mm256_srli_epi64::<32>(quotient)]
}

/// x or x - b, whichever is a residue, for x below 2b.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn lower(x: __m256i, b: __m256i) -> __m256i {
    _mm256_min_epu32(x, _mm256_sub_epi32(x, b))
}

/// w y below 2q, for any y: two vectors side by side, so that their multiplications overlap.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn multiply<const V: usize>(y: [__m256i; V], f: [Spread; V], prime: Prime) -> [__m256i; V] {
    let mut q = y;
    let mut low = y;
    for i in 0..V {
        let [w, even, odd] = f[i];
        let upper = _mm256_srli_epi64::<32>(_mm256_mul_epu32(y[i], even));
        let odd = _mm256_mul_epu32(_mm256_srli_epi64::<32>(y[i]), odd);
        q[i] = _mm256_blend_epi32::<ODD>(upper, odd);
        low[i] = _mm256_mullo_epi32(y[i], w);
    }
    for i in 0..V {
        q[i] = _mm256_sub_epi32(low[i], _mm256_mullo_epi32(q[i], prime.q));
    }
    q
}

/// (x + w y, x - w y) below 4q, for x below 4q and any y, of two pairs.
#[target_feature(enable = "avx2")]
#[inline]
fn forward_pairs(x: [__m256i; 2], y: [__m256i; 2], f: [Spread; 2], prime: Prime) -> [[__m256i; 2]; 2] {
    let t = multiply(y, f, prime);
    let x = x.map(|x| lower(x, prime.double));
    let plus = std::array::from_fn(|i| _mm256_add_epi32(x[i], t[i]));
    [plus, std::array::from_fn(|i| _mm256_add_epi32(x[i], _mm256_sub_epi32(prime.double, t[i])))]
}

/// (x + y, w (x - y)) below 2q, for x and y below 2q, of two pairs.
#[target_feature(enable = "avx2")]
#[inline]
fn inverse_pairs(x: [__m256i; 2], y: [__m256i; 2], f: [Spread; 2], prime: Prime) -> [[__m256i; 2]; 2] {
    let d = std::array::from_fn(|i| _mm256_add_epi32(x[i], _mm256_sub_epi32(prime.double, y[i])));
    let s = std::array::from_fn(|i| lower(_mm256_add_epi32(x[i], y[i]), prime.double));
    [s, multiply(d, f, prime)]
}

/// Two stages of four vectors.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn forward_4(x: [__m256i; 4], [a, b, c]: [Spread; 3], prime: Prime) -> [__m256i; 4] {
    let [[x0, x1], [x2, x3]] = forward_pairs([x[0], x[1]], [x[2], x[3]], [a, a], prime);
    let [[x0, x2], [x1, x3]] = forward_pairs([x0, x2], [x1, x3], [b, c], prime);
    [x0, x1, x2, x3]
}

#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn inverse_4(x: [__m256i; 4], [a, b, c]: [Spread; 3], prime: Prime) -> [__m256i; 4] {
    let [[x0, x2], [x1, x3]] = inverse_pairs([x[0], x[2]], [x[1], x[3]], [b, c], prime);
    let [[x0, x1], [x2, x3]] = inverse_pairs([x0, x1], [x2, x3], [a, a], prime);
    [x0, x1, x2, x3]
}

/// The seven factors of three stages for block `j` of `m`: one, two and four of them.
#[target_feature(enable = "avx2")]
#[inline]
fn three_stages(f: &[Factor], m: usize, j: usize) -> (Spread, [Spread; 2], [Spread; 4]) {
    let second = &f[2 * m + 2 * j..][..2];
    let third = &f[4 * m + 4 * j..][..4];
    (
        spread(f[m + j]),
        [spread(second[0]), spread(second[1])],
        [spread(third[0]), spread(third[1]), spread(third[2]), spread(third[3])],
    )
}

/// Three stages of eight vectors.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn forward_8(x: [__m256i; 8], f: &[Factor], m: usize, j: usize, prime: Prime) -> [__m256i; 8] {
    let (a, b, c) = three_stages(f, m, j);
    let [[x0, x1], [x4, x5]] = forward_pairs([x[0], x[1]], [x[4], x[5]], [a, a], prime);
    let [[x2, x3], [x6, x7]] = forward_pairs([x[2], x[3]], [x[6], x[7]], [a, a], prime);
    let [[x0, x1], [x2, x3]] = forward_pairs([x0, x1], [x2, x3], [b[0], b[0]], prime);
    let [[x4, x5], [x6, x7]] = forward_pairs([x4, x5], [x6, x7], [b[1], b[1]], prime);
    let [[x0, x2], [x1, x3]] = forward_pairs([x0, x2], [x1, x3], [c[0], c[1]], prime);
    let [[x4, x6], [x5, x7]] = forward_pairs([x4, x6], [x5, x7], [c[2], c[3]], prime);
    [x0, x1, x2, x3, x4, x5, x6, x7]
}

#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn inverse_8(x: [__m256i; 8], f: &[Factor], m: usize, j: usize, prime: Prime) -> [__m256i; 8] {
    let (a, b, c) = three_stages(f, m, j);
    let [[x0, x2], [x1, x3]] = inverse_pairs([x[0], x[2]], [x[1], x[3]], [c[0], c[1]], prime);
    let [[x4, x6], [x5, x7]] = inverse_pairs([x[4], x[6]], [x[5], x[7]], [c[2], c[3]], prime);
    let [[x0, x1], [x2, x3]] = inverse_pairs([x0, x1], [x2, x3], [b[0], b[0]], prime);
    let [[x4, x5], [x6, x7]] = inverse_pairs([x4, x5], [x6, x7], [b[1], b[1]], prime);
    let [[x0, x1], [x4, x5]] = inverse_pairs([x0, x1], [x4, x5], [a, a], prime);
    let [[x2, x3], [x6, x7]] = inverse_pairs([x2, x3], [x6, x7], [a, a], prime);
    [x0, x1, x2, x3, x4, x5, x6, x7]
}

/// The 8 x 8 words of eight vectors, rows for columns.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn transpose(v: [__m256i; 8]) -> [__m256i; 8] {
    let low = |i: usize| _mm256_unpacklo_epi32(v[2 * i], v[2 * i + 1]);
    let high = |i: usize| _mm256_unpackhi_epi32(v[2 * i], v[2 * i + 1]);
    let quads = [[low(0), low(1)], [high(0), high(1)], [low(2), low(3)], [high(2), high(3)]];
    let [b0, b2, b4, b6] = quads.map(|[x, y]| _mm256_unpacklo_epi64(x, y));
    let [b1, b3, b5, b7] = quads.map(|[x, y]| _mm256_unpackhi_epi64(x, y));
    let pairs = [(b0, b4), (b1, b5), (b2, b6), (b3, b7)];
    let [c0, c1, c2, c3] = pairs.map(|(x, y)| _mm256_permute2x128_si256::<0x20>(x, y));
    let [c4, c5, c6, c7] = pairs.map(|(x, y)| _mm256_permute2x128_si256::<0x31>(x, y));
    [c0, c1, c2, c3, c4, c5, c6, c7]
}

/// The three factors of two stages for block `j` of `m`.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn two_stages(f: &[Factor], m: usize, j: usize) -> [Spread; 3] {
    [f[m + j], f[2 * m + 2 * j], f[2 * m + 2 * j + 1]].map(|f| spread(f))
}
