//! The heaviest loops in AVX2: eight residues a vector, sums of 64-bit products in two vectors, of the even and of the odd lanes.
//!
//! AVX2 has no smaller of two 64-bit words, so a sum is lowered by its upper 32 bits alone: taking a multiple of q 2^32 away leaves the lower
//! half as it is. Products of residues are below q^2 < q 2^30, so sixteen fit into a word, and twelve beside a reduced sum.
//! The results are the same residues as those of the portable bodies.

use std::arch::x86_64::{
    __m256i, _mm_loadu_si128, _mm256_add_epi32, _mm256_add_epi64, _mm256_blend_epi32, _mm256_castsi128_si256,
    _mm256_loadu_si256, _mm256_min_epu32, _mm256_mul_epu32, _mm256_permute4x64_epi64,
    _mm256_permutevar8x32_epi32, _mm256_set1_epi32, _mm256_setzero_si256, _mm256_shuffle_epi32,
    _mm256_srli_epi64, _mm256_storeu_si256, _mm256_sub_epi32, _mm256_sub_epi64,
};

use super::conversion::conversion_with;
use super::{Factors, LANES, Term};
use crate::arith::Modulus;
use crate::galois::{Moves, Pattern, Permutation};

/// Residues in a vector.
const WIDTH: usize = 8;
/// Vectors of a run of a permutation.
const RUN: usize = Permutation::RUN / WIDTH;
/// Vectors of a sum that stay in registers together: two runs.
const VECTORS: usize = LANES / WIDTH;
/// Products before the first reduction of a sum: 16 q 2^30 = 4 q 2^32.
const FIRST_PRODUCTS: usize = 16;
/// Products between later reductions: the reduced sum, below q 2^32, and 12 q 2^30.
const NEXT_PRODUCTS: usize = 12;
/// Vectors of each of two weighted sums that stay in registers together.
const PAIR: usize = 2;
/// Products of a weighted sum before its first reduction: 12 q 2^30 = 3 q 2^32, see [`Lanes::reduce_weighted`].
const FIRST_WEIGHTED: usize = 12;
/// Products between later ones: the reduced sum, below q 2^32, and 8 q 2^30.
const NEXT_WEIGHTED: usize = 8;
/// Products of an inner product that needs no reduction before the last: 4 q 2^30 = q 2^32.
const FEW_PRODUCTS: usize = 4;
/// Mask of the odd 32-bit lanes.
pub(crate) const ODD: i32 = 0b1010_1010;

/// Eight words.
#[target_feature(enable = "avx2")]
#[inline]
pub(crate) fn load(words: &[u32; WIDTH]) -> __m256i {
    // SAFETY: the array has the 32 bytes that are read, and the load needs no alignment.
    unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
}

/// Four words, in the lower half.
#[target_feature(enable = "avx2")]
#[inline]
fn load_half(words: &[u32; WIDTH / 2]) -> __m256i {
    // SAFETY: the array has the 16 bytes that are read, and the load needs no alignment.
    _mm256_castsi128_si256(unsafe { _mm_loadu_si128(words.as_ptr().cast()) })
}

#[target_feature(enable = "avx2")]
#[inline]
fn store(words: &mut [u32; WIDTH], v: __m256i) {
    // SAFETY: the array has the 32 bytes that are written, and the store needs no alignment.
    unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), v) }
}

/// Lanes `at` of a row.
#[inline(always)]
fn vectors(row: &[u32], at: usize) -> &[[u32; WIDTH]; VECTORS] {
    &row.as_chunks::<WIDTH>().0.as_chunks::<VECTORS>().0[at]
}

/// A sum of products: of the even lanes, and of the odd ones.
type Sum = [__m256i; 2];

#[target_feature(enable = "avx2")]
#[inline]
fn zero() -> Sum {
    [_mm256_setzero_si256(); 2]
}

/// A word in all lanes.
#[target_feature(enable = "avx2")]
#[inline]
pub(crate) fn spread(word: u32) -> __m256i {
    _mm256_set1_epi32(word as i32)
}

/// Constants of one prime in all lanes.
#[derive(Clone, Copy)]
struct Lanes {
    q: __m256i,
    inverse: __m256i,
    radix_squared: __m256i,
}

impl Lanes {
    #[target_feature(enable = "avx2")]
    #[inline]
    fn new(m: Modulus) -> Self {
        Self { q: spread(m.value()), inverse: spread(m.inverse()), radix_squared: spread(m.radix_squared()) }
    }

    /// A sum below 4 q 2^32 to one below q 2^32.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn lower(self, sum: Sum) -> Sum {
        let q = _mm256_blend_epi32::<ODD>(_mm256_setzero_si256(), self.q);
        let double = _mm256_add_epi32(q, q);
        sum.map(|s| {
            let s = _mm256_min_epu32(s, _mm256_sub_epi32(s, double));
            _mm256_min_epu32(s, _mm256_sub_epi32(s, q))
        })
    }

    /// The eight residues s 2^-32 of sums below q 2^32: s - lo(s) q^-1 q is a multiple of 2^32, its upper half above -q and below q.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn reduce(self, sum: Sum) -> __m256i {
        let [even, odd] =
            sum.map(|s| _mm256_sub_epi64(s, _mm256_mul_epu32(_mm256_mul_epu32(s, self.inverse), self.q)));
        let t = _mm256_blend_epi32::<ODD>(_mm256_srli_epi64::<32>(even), odd);
        _mm256_min_epu32(t, _mm256_add_epi32(t, self.q))
    }

    /// The eight residues of sums below 3 q 2^32. A first reduction leaves upper halves between -q and 3q; with q added they are words
    /// below 4q < 2^32, whose products with 2^64 mod q are below q 2^32, and the second undoes the first.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn reduce_weighted(self, sum: Sum) -> __m256i {
        self.reduce(sum.map(|s| {
            let s = _mm256_sub_epi64(s, _mm256_mul_epu32(_mm256_mul_epu32(s, self.inverse), self.q));
            let upper = _mm256_add_epi32(_mm256_srli_epi64::<32>(s), self.q);
            _mm256_mul_epu32(upper, self.radix_squared)
        }))
    }
}

/// sum + a b, lane by lane.
#[target_feature(enable = "avx2")]
#[inline]
fn multiply_add(sum: Sum, a: __m256i, b: __m256i) -> Sum {
    let (a_odd, b_odd) = (_mm256_srli_epi64::<32>(a), _mm256_srli_epi64::<32>(b));
    [
        _mm256_add_epi64(sum[0], _mm256_mul_epu32(a, b)),
        _mm256_add_epi64(sum[1], _mm256_mul_epu32(a_odd, b_odd)),
    ]
}

/// sum + a f, lane by lane, with the same f in all lanes.
#[target_feature(enable = "avx2")]
#[inline]
fn multiply_add_one(sum: Sum, a: __m256i, f: __m256i) -> Sum {
    [
        _mm256_add_epi64(sum[0], _mm256_mul_epu32(a, f)),
        _mm256_add_epi64(sum[1], _mm256_mul_epu32(_mm256_srli_epi64::<32>(a), f)),
    ]
}

/// Lanes `at` of an inner product and its addend.
#[target_feature(enable = "avx2")]
#[inline]
fn inner_product_lanes(
    at: usize,
    a: &[&[u32]],
    b: &[&[u32]],
    addend: Option<(&[u32], u32)>,
    lanes: Lanes,
) -> [__m256i; VECTORS] {
    let mut sums = [zero(); VECTORS];
    let mut left = FIRST_PRODUCTS;
    if let Some((c, f)) = addend {
        let f = spread(f);
        for (sum, c) in sums.iter_mut().zip(vectors(c, at)) {
            *sum = multiply_add_one(*sum, load(c), f);
        }
        left -= 1;
    }
    for (a, b) in a.iter().zip(b) {
        if left == 0 {
            sums = sums.map(|s| lanes.lower(s));
            left = NEXT_PRODUCTS;
        }
        for ((sum, a), b) in sums.iter_mut().zip(vectors(a, at)).zip(vectors(b, at)) {
            *sum = multiply_add(*sum, load(a), load(b));
        }
        left -= 1;
    }
    if a.len() + usize::from(addend.is_some()) <= FEW_PRODUCTS {
        return sums.map(|s| lanes.reduce(s));
    }
    sums.map(|s| lanes.reduce(lanes.lower(s)))
}

#[target_feature(enable = "avx2")]
pub(super) fn inner_product(
    out: &mut [u32],
    a: &[&[u32]],
    b: &[&[u32]],
    addend: Option<(&[u32], u32)>,
    m: Modulus,
) {
    let lanes = Lanes::new(m);
    for (at, out) in out.as_chunks_mut::<WIDTH>().0.as_chunks_mut::<VECTORS>().0.iter_mut().enumerate() {
        for (out, sum) in out.iter_mut().zip(inner_product_lanes(at, a, b, addend, lanes)) {
            store(out, sum);
        }
    }
}

/// Both inner products together, so that the digits are read once for the two. Reads in order, so that the key streams, and stores each run
/// where the automorphism sends it.
#[target_feature(enable = "avx2")]
pub(super) fn rotated_inner_products(
    [u, v]: [&mut [u32]; 2],
    a: &[&[u32]],
    b: [&[&[u32]]; 2],
    addends: [Option<(&[u32], u32)>; 2],
    moves: Moves<'_>,
    m: Modulus,
) {
    let lanes = Lanes::new(m);
    let most = a.len() + usize::from(addends.iter().any(Option::is_some));
    let [u, v] = [u, v].map(|row| row.as_chunks_mut::<WIDTH>().0.as_chunks_mut::<RUN>().0);
    for at in 0..u.len() {
        let mut sums = [[zero(); RUN]; 2];
        for (sums, addend) in sums.iter_mut().zip(addends) {
            let Some((c, f)) = addend else { continue };
            let f = spread(f);
            for (sum, c) in sums.iter_mut().zip(pair(c, at)) {
                *sum = multiply_add_one(*sum, load(c), f);
            }
        }
        let mut left = FIRST_PRODUCTS - 1;
        for (j, a) in a.iter().enumerate() {
            if left == 0 {
                sums = sums.map(|sums| sums.map(|s| lanes.lower(s)));
                left = NEXT_PRODUCTS;
            }
            left -= 1;
            for (i, a) in pair(a, at).iter().enumerate() {
                let a = load(a);
                for (sums, b) in sums.iter_mut().zip(b) {
                    sums[i] = multiply_add(sums[i], a, load(&pair(b[j], at)[i]));
                }
            }
        }
        if most > FEW_PRODUCTS {
            sums = sums.map(|sums| sums.map(|s| lanes.lower(s)));
        }
        let (target, pattern) = moves.target(at);
        let [to_u, to_v] = sums.map(|sums| sums.map(|s| lanes.reduce(s)));
        store_permuted(&mut u[target], to_u, pattern);
        store_permuted(&mut v[target], to_v, pattern);
    }
}

/// What holds for runs of sixteen holds for those of eight: each half of a run comes from one half of another.
#[target_feature(enable = "avx2")]
#[inline]
fn store_permuted(out: &mut [[u32; WIDTH]; RUN], [low, high]: [__m256i; RUN], pattern: &Pattern) {
    let crossed = pattern[0] as usize >= WIDTH;
    let halves = if crossed { [high, low] } else { [low, high] };
    for ((out, half), pattern) in out.iter_mut().zip(halves).zip(pattern.as_chunks::<WIDTH>().0) {
        // The instruction takes the low three bits of each index.
        store(out, _mm256_permutevar8x32_epi32(half, load(pattern)));
    }
}

#[target_feature(enable = "avx2")]
pub(super) fn permute(out: &mut [u32], a: &[u32], permutation: &Permutation) {
    let sources = a.as_chunks::<WIDTH>().0.as_chunks::<RUN>().0;
    let out = out.as_chunks_mut::<WIDTH>().0.as_chunks_mut::<RUN>().0;
    for (out, (run, pattern)) in out.iter_mut().zip(permutation.sources()) {
        let [low, high] = &sources[run];
        store_permuted(out, [load(low), load(high)], pattern);
    }
}

/// Both sums together, so that factors are read and spread once for the two.
#[target_feature(enable = "avx2")]
pub(super) fn weighted_sums([u, v]: [&mut [u32]; 2], terms: &[Term<'_>], m: Modulus) {
    let lanes = Lanes::new(m);
    // For runs of two and of four positions: lane i takes value i >> k.
    let [twos, fours] = [1, 2].map(|k| load(&std::array::from_fn(|i| (i >> k) as u32)));
    let [us, vs] = [u, v].map(|row| row.as_chunks_mut::<WIDTH>().0.as_chunks_mut::<PAIR>().0);
    for (at, (u, v)) in us.iter_mut().zip(vs).enumerate() {
        let mut sums = [zero(); 2 * PAIR];
        let mut left = FIRST_WEIGHTED;
        for term in terms {
            if left == 0 {
                sums = sums.map(|s| lanes.lower(s));
                left = NEXT_WEIGHTED;
            }
            left -= 1;
            let (even, odd) = match term.factors {
                Factors::Runs(f, 1) => {
                    let f = load(&f.as_chunks::<WIDTH>().0[at]);
                    let high = _mm256_permute4x64_epi64::<0b1110>(f);
                    let f = [f, high].map(|f| _mm256_permutevar8x32_epi32(f, twos));
                    (f, f)
                }
                Factors::Runs(f, 2) => {
                    let f = load_half(&f.as_chunks::<{ WIDTH / 2 }>().0[at]);
                    let high = _mm256_shuffle_epi32::<0b1110>(f);
                    let f = [f, high].map(|f| _mm256_permutevar8x32_epi32(f, fours));
                    (f, f)
                }
                Factors::Runs(f, 3) => {
                    let f = f.as_chunks::<PAIR>().0[at].map(|f| spread(f));
                    (f, f)
                }
                Factors::Runs(f, 0) | Factors::Each(f) => {
                    let f = pair(f, at).each_ref().map(|f| load(f));
                    (f, f.map(|f| _mm256_srli_epi64::<32>(f)))
                }
                Factors::Runs(f, log_run) => {
                    let f = [spread(f[(at * PAIR * WIDTH) >> log_run]); PAIR];
                    (f, f)
                }
            };
            for (sums, row) in sums.as_chunks_mut::<PAIR>().0.iter_mut().zip(term.rows) {
                let row = pair(row, at);
                for i in 0..PAIR {
                    let a = load(&row[i]);
                    let a_odd = _mm256_srli_epi64::<32>(a);
                    sums[i] = [
                        _mm256_add_epi64(sums[i][0], _mm256_mul_epu32(a, even[i])),
                        _mm256_add_epi64(sums[i][1], _mm256_mul_epu32(a_odd, odd[i])),
                    ];
                }
            }
        }
        let [u0, u1, v0, v1] = sums.map(|s| lanes.reduce_weighted(s));
        let [[to_u0, to_u1], [to_v0, to_v1]] = [u, v];
        for (to, sum) in [(to_u0, u0), (to_u1, u1), (to_v0, v0), (to_v1, v1)] {
            store(to, sum);
        }
    }
}

/// The `at`-th pair of vectors of a row.
#[inline(always)]
fn pair(row: &[u32], at: usize) -> &[[u32; WIDTH]; PAIR] {
    &row.as_chunks::<WIDTH>().0.as_chunks::<PAIR>().0[at]
}

conversion_with!("avx2");
