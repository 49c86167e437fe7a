//! Both directions of [`crate::ntt`]'s blocked transform.
//!
//! Pointers: an entry point checks that `values` has 4, 8, 16 or 32 rows of [`ROW`] words, and that its tables are those of this
//! size. Every vector then lies inside of `values`, or of a block of [`ROW`] words: offsets are a row below their number, times the length of a
//! row or of a strip, and a multiple of eight below that.

use std::arch::x86_64::{
    __m256i, _MM_HINT_T1, _mm_prefetch, _mm256_add_epi32, _mm256_blend_epi32, _mm256_loadu_si256,
    _mm256_min_epu32, _mm256_mul_epu32, _mm256_mullo_epi32, _mm256_permute2x128_si256, _mm256_set1_epi32,
    _mm256_srli_epi64, _mm256_storeu_si256, _mm256_sub_epi32, _mm256_unpackhi_epi32, _mm256_unpackhi_epi64,
    _mm256_unpacklo_epi32, _mm256_unpacklo_epi64,
};

use zeroize::Zeroize;

use super::ODD;
use crate::arith::Modulus;
use crate::ntt::{Factor, Factorisation, Factors, LANES, ROW};

/// Words that are worked on at a time, half of the first cache: a row, or a strip of columns.
#[repr(C, align(64))]
struct Block([u32; ROW]);

/// Coefficients of a part of a row, one in each lane.
const PART: usize = ROW / LANES;
/// Stages of the cyclic transform of a part that are carried out four vectors at a time; the last three take eight.
const CYCLIC_STAGES: u32 = PART.trailing_zeros() - 3;

/// The prime and its double in all lanes.
#[derive(Clone, Copy)]
struct Prime {
    q: __m256i,
    double: __m256i,
}

/// A factor in all lanes: w, and its quotient for the even and for the odd ones.
type Spread = [__m256i; 3];

#[target_feature(enable = "avx2")]
#[inline]
fn spread(f: Factor) -> Spread {
    let quotient = _mm256_set1_epi32(f.quotient as i32);
    [_mm256_set1_epi32(f.w as i32), quotient, quotient]
}

#[target_feature(enable = "avx2")]
#[inline]
fn each(f: &Factors) -> Spread {
    let [w, quotient] = [super::load(&f.w), super::load(&f.quotient)];
    [w, quotient, _mm256_srli_epi64::<32>(quotient)]
}

/// Asks for a line that will be read soon; any address will do.
#[inline(always)]
fn prefetch(line: *const u32) {
    // SAFETY: a prefetch never faults.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(line.cast()) };
}

/// x or x - b, whichever is a residue, for x below 2b.
#[target_feature(enable = "avx2")]
#[inline]
fn lower(x: __m256i, b: __m256i) -> __m256i {
    _mm256_min_epu32(x, _mm256_sub_epi32(x, b))
}

/// w y below 2q, for any y: two vectors side by side, so that their multiplications overlap.
#[target_feature(enable = "avx2")]
#[inline]
fn multiply<const V: usize>(y: [__m256i; V], f: [Spread; V], prime: Prime) -> [__m256i; V] {
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
fn forward_4(x: [__m256i; 4], [a, b, c]: [Spread; 3], prime: Prime) -> [__m256i; 4] {
    let [[x0, x1], [x2, x3]] = forward_pairs([x[0], x[1]], [x[2], x[3]], [a, a], prime);
    let [[x0, x2], [x1, x3]] = forward_pairs([x0, x2], [x1, x3], [b, c], prime);
    [x0, x1, x2, x3]
}

#[target_feature(enable = "avx2")]
#[inline]
fn inverse_4(x: [__m256i; 4], [a, b, c]: [Spread; 3], prime: Prime) -> [__m256i; 4] {
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
fn forward_8(x: [__m256i; 8], f: &[Factor], m: usize, j: usize, prime: Prime) -> [__m256i; 8] {
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
fn inverse_8(x: [__m256i; 8], f: &[Factor], m: usize, j: usize, prime: Prime) -> [__m256i; 8] {
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
fn transpose(v: [__m256i; 8]) -> [__m256i; 8] {
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

/// The number of rows; panics if the tables are not those of this size.
fn rows(values: &[u32], f: &Factorisation) -> usize {
    let rows = values.len() / ROW;
    assert!(
        values.len() == ROW * rows && matches!(rows, 4 | 8 | 16 | 32),
        "a blocked transform of {} words",
        values.len()
    );
    let tables = [f.rows.len(), f.cyclic.len(), f.twists.len()];
    assert_eq!(tables, [rows * LANES, PART, rows * (LANES + PART / LANES)], "tables of another size");
    rows
}

#[target_feature(enable = "avx2")]
#[inline]
fn prime(m: Modulus) -> Prime {
    Prime { q: _mm256_set1_epi32(m.value() as i32), double: _mm256_set1_epi32(2 * m.value() as i32) }
}

/// Eight words at each of V places, `step` apart.
///
/// # Safety
/// They lie there.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn gather<const V: usize>(from: *const u32, step: usize) -> [__m256i; V] {
    // SAFETY: as the caller promises; the loads need no alignment.
    std::array::from_fn(|t| unsafe { _mm256_loadu_si256(from.add(t * step).cast()) })
}

/// # Safety
/// Eight words lie at each of V places, `step` apart, and nothing else refers to them.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn scatter<const V: usize>(to: *mut u32, step: usize, vectors: [__m256i; V]) {
    for (t, v) in vectors.into_iter().enumerate() {
        // SAFETY: as the caller promises; the stores need no alignment.
        unsafe { _mm256_storeu_si256(to.add(t * step).cast(), v) }
    }
}

/// The three factors of two stages for block `j` of `m`.
#[target_feature(enable = "avx2")]
#[inline]
fn two_stages(f: &[Factor], m: usize, j: usize) -> [Spread; 3] {
    [f[m + j], f[2 * m + 2 * j], f[2 * m + 2 * j + 1]].map(|f| spread(f))
}

/// Coefficients to values, both below q.
#[target_feature(enable = "avx2")]
pub(in super::super) fn forward(values: &mut [u32], f: &Factorisation, m: Modulus) {
    let (rows, prime) = (rows(values, f), prime(m));
    let mut scratch = Block([0; ROW]);
    let (values, block) = (values.as_mut_ptr(), scratch.0.as_mut_ptr());
    // SAFETY: see the module's documentation.
    unsafe {
        match rows {
            4 => {
                let w = two_stages(&f.rows, 1, 0);
                for i in (0..ROW).step_by(LANES) {
                    scatter(values.add(i), ROW, forward_4(gather(values.add(i), ROW), w, prime));
                }
            }
            8 => {
                for i in (0..ROW).step_by(LANES) {
                    scatter(values.add(i), ROW, forward_8(gather(values.add(i), ROW), &f.rows, 1, 0, prime));
                }
            }
            _ => {
                let strip = ROW / rows;
                for at in (0..ROW).step_by(strip) {
                    forward_columns(values.add(at), block, (rows, strip), f, prime);
                }
            }
        }
        for r in 0..rows {
            forward_row(values.add(r * ROW), block, (rows, r), f, prime);
        }
    }
    // What is transformed may be secret.
    scratch.0.zeroize();
}

/// The stages along the columns of a strip: of a quarter of the rows at a time, then of four.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn forward_columns(
    values: *mut u32,
    block: *mut u32,
    (rows, strip): (usize, usize),
    f: &Factorisation,
    prime: Prime,
) {
    for row in 0..4 {
        for i in (0..strip).step_by(LANES) {
            // SAFETY: see the module's documentation.
            unsafe {
                let (from, to) = (values.add(row * ROW + i), block.add(row * strip + i));
                if i % (2 * LANES) == 0 {
                    (0..rows / 4).for_each(|t| prefetch(from.wrapping_add(4 * t * ROW + strip)));
                }
                if rows == 32 {
                    scatter(to, 4 * strip, forward_8(gather(from, 4 * ROW), &f.rows, 1, 0, prime));
                } else {
                    let w = two_stages(&f.rows, 1, 0);
                    scatter(to, 4 * strip, forward_4(gather(from, 4 * ROW), w, prime));
                }
            }
        }
    }
    for j in 0..rows / 4 {
        let w = two_stages(&f.rows, rows / 4, j);
        for i in (0..strip).step_by(LANES) {
            // SAFETY: see the module's documentation.
            unsafe {
                let x = gather(block.add(4 * j * strip + i), strip);
                scatter(values.add(4 * j * ROW + i), ROW, forward_4(x, w, prime));
            }
        }
    }
}

/// The stages of row r.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn forward_row(
    values: *mut u32,
    block: *mut u32,
    (rows, r): (usize, usize),
    f: &Factorisation,
    prime: Prime,
) {
    let (inner, outer) = f.twists[r * (LANES + PART / LANES)..].split_at(LANES);
    for (t, outer) in outer[..PART / LANES].iter().enumerate() {
        let outer = each(outer);
        // SAFETY: see the module's documentation.
        unsafe {
            let from = values.add(t * LANES);
            if t % 2 == 0 {
                (0..LANES).for_each(|u| prefetch(from.wrapping_add(ROW + u * PART)));
            }
            let mut x = transpose(forward_8(gather(from, PART), &f.rows, rows, r, prime));
            for (u, x) in x.iter_mut().enumerate() {
                let [y] = if u == 0 { [*x] } else { multiply([*x], [each(&inner[u])], prime) };
                [*x] = multiply([y], [outer], prime);
            }
            scatter(block.add(t * LANES * LANES), LANES, x);
        }
    }
    // Vector i of the block is coefficient i of all parts.
    let mut m = 1;
    for _ in 0..CYCLIC_STAGES / 2 {
        let gap = PART / m / 4 * LANES;
        for j in 0..m {
            let w = two_stages(&f.cyclic, m, j);
            for i in (0..gap).step_by(LANES) {
                // SAFETY: see the module's documentation.
                unsafe {
                    let at = block.add(4 * j * gap + i);
                    scatter(at, gap, forward_4(gather(at, gap), w, prime));
                }
            }
        }
        m *= 4;
    }
    for j in 0..m {
        // SAFETY: see the module's documentation.
        unsafe {
            let x = gather(block.add(j * LANES * LANES), LANES);
            let y = transpose(forward_8(x, &f.cyclic, m, j, prime));
            scatter(values.add(j * LANES), PART, y.map(|y| lower(lower(y, prime.double), prime.q)));
        }
    }
}

/// Values below q to coefficients times the size, below q: of `from` into `values`, or in place.
#[target_feature(enable = "avx2")]
pub(in super::super) fn inverse(from: Option<&[u32]>, values: &mut [u32], f: &Factorisation, m: Modulus) {
    let (rows, prime) = (rows(values, f), prime(m));
    assert!(from.is_none_or(|from| from.len() == values.len()), "a transform between two sizes");
    let mut scratch = Block([0; ROW]);
    let (values, block) = (values.as_mut_ptr(), scratch.0.as_mut_ptr());
    let from = from.map_or(values.cast_const(), <[u32]>::as_ptr);
    // SAFETY: see the module's documentation.
    unsafe {
        for r in 0..rows {
            inverse_row(from.add(r * ROW), values.add(r * ROW), block, (rows, r), f, prime);
        }
        match rows {
            4 => {
                let w = two_stages(&f.rows, 1, 0);
                for i in (0..ROW).step_by(LANES) {
                    let y = inverse_4(gather(values.add(i), ROW), w, prime);
                    scatter(values.add(i), ROW, y.map(|y| lower(y, prime.q)));
                }
            }
            8 => {
                for i in (0..ROW).step_by(LANES) {
                    let y = inverse_8(gather(values.add(i), ROW), &f.rows, 1, 0, prime);
                    scatter(values.add(i), ROW, y.map(|y| lower(y, prime.q)));
                }
            }
            _ => {
                let strip = ROW / rows;
                for at in (0..ROW).step_by(strip) {
                    inverse_columns(values.add(at), block, (rows, strip), f, prime);
                }
            }
        }
    }
    scratch.0.zeroize();
}

#[target_feature(enable = "avx2")]
#[inline]
unsafe fn inverse_row(
    from: *const u32,
    values: *mut u32,
    block: *mut u32,
    (rows, r): (usize, usize),
    f: &Factorisation,
    prime: Prime,
) {
    let mut m = PART / LANES;
    for j in 0..m {
        // SAFETY: see the module's documentation.
        unsafe {
            let from = from.add(j * LANES);
            if j % 2 == 0 {
                (0..LANES).for_each(|u| prefetch(from.wrapping_add(ROW + u * PART)));
            }
            let y = inverse_8(transpose(gather(from, PART)), &f.cyclic, m, j, prime);
            scatter(block.add(j * LANES * LANES), LANES, y);
        }
    }
    for _ in 0..CYCLIC_STAGES / 2 {
        m /= 4;
        let gap = PART / m / 4 * LANES;
        for j in 0..m {
            let w = two_stages(&f.cyclic, m, j);
            for i in (0..gap).step_by(LANES) {
                // SAFETY: see the module's documentation.
                unsafe {
                    let at = block.add(4 * j * gap + i);
                    scatter(at, gap, inverse_4(gather(at, gap), w, prime));
                }
            }
        }
    }
    let (inner, outer) = f.twists[r * (LANES + PART / LANES)..].split_at(LANES);
    for (t, outer) in outer[..PART / LANES].iter().enumerate() {
        let outer = each(outer);
        // SAFETY: see the module's documentation.
        unsafe {
            let mut x: [__m256i; LANES] = gather(block.add(t * LANES * LANES), LANES);
            for (u, x) in x.iter_mut().enumerate() {
                let [y] = if u == 0 { [*x] } else { multiply([*x], [each(&inner[u])], prime) };
                [*x] = multiply([y], [outer], prime);
            }
            scatter(values.add(t * LANES), PART, inverse_8(transpose(x), &f.rows, rows, r, prime));
        }
    }
}

#[target_feature(enable = "avx2")]
#[inline]
unsafe fn inverse_columns(
    values: *mut u32,
    block: *mut u32,
    (rows, strip): (usize, usize),
    f: &Factorisation,
    prime: Prime,
) {
    for j in 0..rows / 4 {
        let w = two_stages(&f.rows, rows / 4, j);
        for i in (0..strip).step_by(LANES) {
            // SAFETY: see the module's documentation.
            unsafe {
                let from = values.add(4 * j * ROW + i);
                if i % (2 * LANES) == 0 {
                    (0..4).for_each(|t| prefetch(from.wrapping_add(t * ROW + strip)));
                }
                scatter(block.add(4 * j * strip + i), strip, inverse_4(gather(from, ROW), w, prime));
            }
        }
    }
    for row in 0..4 {
        for i in (0..strip).step_by(LANES) {
            // SAFETY: see the module's documentation.
            unsafe {
                let (from, to) = (block.add(row * strip + i), values.add(row * ROW + i));
                if rows == 32 {
                    let y = inverse_8(gather(from, 4 * strip), &f.rows, 1, 0, prime);
                    scatter(to, 4 * ROW, y.map(|y| lower(y, prime.q)));
                } else {
                    let w = two_stages(&f.rows, 1, 0);
                    let y = inverse_4(gather(from, 4 * strip), w, prime);
                    scatter(to, 4 * ROW, y.map(|y| lower(y, prime.q)));
                }
            }
        }
    }
}
