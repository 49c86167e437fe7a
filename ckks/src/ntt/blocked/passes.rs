//! Both directions of the blocked transform in AVX2, from memory to memory.
//!
//! Pointers: an entry point checks that `values` has 4, 8, 16 or 32 rows of [`ROW`] words, and that its tables are those of this
//! size. Every vector then lies inside of `values`, or of a block of [`ROW`] words: offsets are a row below their number, times the length of a
//! row or of a strip, and a multiple of eight below that.

use std::arch::x86_64::{__m256i, _MM_HINT_T1, _mm_prefetch, _mm256_loadu_si256, _mm256_storeu_si256};

use zeroize::Zeroize;

use super::butterflies::{
    Prime, each, forward_4, forward_8, inverse_4, inverse_8, lower, multiply, transpose, two_stages,
};
use super::factors::{Factorisation, LANES, ROW};
use crate::arith::Modulus;

/// Words that are worked on at a time, half of the first cache: a row, or a strip of columns.
#[repr(C, align(64))]
struct Block([u32; ROW]);

/// Coefficients of a part of a row, one in each lane.
const PART: usize = ROW / LANES;
/// Stages of the cyclic transform of a part that are carried out four vectors at a time; the last three take eight.
const CYCLIC_STAGES: u32 = PART.trailing_zeros() - 3;

/// Asks for a line that will be read soon; any address will do.
#[inline(always)]
fn prefetch(line: *const u32) {
    // SAFETY: a prefetch never faults.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(line.cast()) };
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

/// Coefficients to values, both below q.
#[target_feature(enable = "avx2")]
pub(super) fn forward(values: &mut [u32], f: &Factorisation, m: Modulus) {
    let (rows, prime) = (rows(values, f), Prime::new(m));
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
///
/// # Safety
/// `values` points at the first word of a strip of `strip` columns in `rows` rows of [`ROW`] words, `block` at [`ROW`] words, nothing else
/// refers to either, and the tables are those of so many rows.
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
///
/// # Safety
/// `values` and `block` point at [`ROW`] words each, nothing else refers to either, and the tables are those of `rows` rows.
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
pub(super) fn inverse(from: Option<&[u32]>, values: &mut [u32], f: &Factorisation, m: Modulus) {
    let (rows, prime) = (rows(values, f), Prime::new(m));
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

/// The stages of row r, of `from` into `values`, which may be the same.
///
/// # Safety
/// `from`, `values` and `block` point at [`ROW`] words each, nothing else refers to the last two, and the tables are those of
/// `rows` rows.
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

/// The stages along the columns of a strip: of four rows at a time, then of a quarter of them.
///
/// # Safety
/// As [`forward_columns`].
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
