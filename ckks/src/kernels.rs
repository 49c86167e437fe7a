//! The inner loops, and the only place with `unsafe`.
//!
//! Every kernel is one plain Rust body, compiled three times: for AVX-512, for AVX2 and for the target's baseline, and chosen at run time.
//! The heaviest have hand-written bodies as well, in [`avx512`] and [`avx2`]. Residues are exact, so all give the same
//! bits. `unsafe` only appears where a body compiled for an instruction set is entered, after the processor was asked for it,
//! and where a vector is loaded or stored.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

use std::sync::OnceLock;

use crate::arith::Modulus;
#[cfg(target_arch = "x86_64")]
use crate::buffer::LINE;
use crate::galois::{Moves, Permutation};
#[cfg(target_arch = "x86_64")]
use crate::ntt::Factorisation;

/// Instruction sets that kernels are compiled for, from the least to the most.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Isa {
    Baseline,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

/// The instruction set that this process uses, found once.
///
/// What the processor offers, or less if the environment variable `VEILRAY_SIMD` says `avx2` or `portable`: for tests and for
/// finding out whether a fault lies in a vector unit. It can only lower the choice, never enter code that the processor
/// does not have.
#[inline]
fn isa() -> Isa {
    static ISA: OnceLock<Isa> = OnceLock::new();
    *ISA.get_or_init(|| {
        let most = match std::env::var("VEILRAY_SIMD").as_deref() {
            Ok("portable") => Isa::Baseline,
            #[cfg(target_arch = "x86_64")]
            Ok("avx2") => Isa::Avx2,
            _ => return offered(),
        };
        offered().min(most)
    })
}

#[cfg(target_arch = "x86_64")]
fn offered() -> Isa {
    if is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
    {
        Isa::Avx512
    } else if is_x86_feature_detected!("avx2") {
        Isa::Avx2
    } else {
        Isa::Baseline
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn offered() -> Isa {
    Isa::Baseline
}

/// The instruction set that the inner loops use in this process: `AVX-512`, `AVX2` or `portable`.
pub fn instruction_set() -> &'static str {
    match isa() {
        Isa::Baseline => "portable",
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => "AVX2",
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => "AVX-512",
    }
}

/// Whether large transforms should be the blocked ones, which are written for AVX2.
#[cfg(target_arch = "x86_64")]
pub(crate) fn transforms_blocked() -> bool {
    isa() == Isa::Avx2
}

/// Coefficients to values, in AVX2.
///
/// # Panics
/// Without AVX2, or with tables of another size.
#[cfg(target_arch = "x86_64")]
pub(crate) fn forward_blocked(values: &mut [u32], f: &Factorisation, m: Modulus) {
    assert!(isa() >= Isa::Avx2, "a blocked transform needs AVX2");
    // SAFETY: the processor was just found to have AVX2.
    unsafe { avx2::transform::forward(values, f, m) }
}

/// Values, of `from` if there are any, to coefficients times the size, in AVX2.
///
/// # Panics
/// As [`forward_blocked`].
#[cfg(target_arch = "x86_64")]
pub(crate) fn inverse_blocked(from: Option<&[u32]>, values: &mut [u32], f: &Factorisation, m: Modulus) {
    assert!(isa() >= Isa::Avx2, "a blocked transform needs AVX2");
    // SAFETY: the processor was just found to have AVX2.
    unsafe { avx2::transform::inverse(from, values, f, m) }
}

/// Whether transforms should be the portable ones too: those of the library choose their instruction set themselves.
pub(crate) fn portable_only() -> bool {
    isa() == Isa::Baseline && offered() != Isa::Baseline
}

macro_rules! kernels {
    ($( $(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block )*) => { $(
        $(#[$doc])*
        #[inline]
        pub(crate) fn $name($($arg: $type),*) {
            #[inline(always)]
            fn body($($arg: $type),*) $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
                fn avx512($($arg: $type),*) {
                    body($($arg),*);
                }
                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $type),*) {
                    body($($arg),*);
                }
                match isa() {
                    // SAFETY: the processor was just found to have every feature that this copy is compiled for.
                    Isa::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: the processor was just found to have AVX2.
                    Isa::Avx2 => return unsafe { avx2($($arg),*) },
                    Isa::Baseline => {}
                }
            }
            #[allow(unreachable_code)]
            body($($arg),*)
        }
    )* };
}

/// Entries that one pass of a lazy sum keeps in registers.
pub(crate) const LANES: usize = 32;
/// Terms of a lazy sum of products of residues between two reductions of the sum.
const LAZY_PRODUCTS: usize = 4;
/// Terms of a lazy sum in a basis conversion between two reductions of the sum.
const LAZY_CONVERSION: usize = 8;

/// Positions that the portable rotated inner product sums before it moves them.
const SCATTER: usize = 1024;

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

kernels! {
    /// a += b.
    fn add_assign(a: &mut [u32], b: &[u32], m: Modulus) {
        for (x, &y) in a.iter_mut().zip(b) {
            *x = m.add(*x, y);
        }
    }

    /// a -= b.
    fn sub_assign(a: &mut [u32], b: &[u32], m: Modulus) {
        for (x, &y) in a.iter_mut().zip(b) {
            *x = m.sub(*x, y);
        }
    }

    /// a = -a.
    fn negate(a: &mut [u32], m: Modulus) {
        for x in a {
            *x = m.sub(0, *x);
        }
    }

    /// a *= b.
    fn mul_assign(a: &mut [u32], b: &[u32], m: Modulus) {
        for (x, &y) in a.iter_mut().zip(b) {
            *x = m.mul(*x, y);
        }
    }

    /// out += a b.
    fn add_product(out: &mut [u32], a: &[u32], b: &[u32], m: Modulus) {
        for ((x, &y), &z) in out.iter_mut().zip(a).zip(b) {
            *x = m.add(*x, m.mul(y, z));
        }
    }

    /// out -= a b.
    #[cfg(feature = "secret-key")]
    fn sub_product(out: &mut [u32], a: &[u32], b: &[u32], m: Modulus) {
        for ((x, &y), &z) in out.iter_mut().zip(a).zip(b) {
            *x = m.sub(*x, m.mul(y, z));
        }
    }

    /// a *= f, with f in Montgomery form.
    fn scale(a: &mut [u32], f: u32, m: Modulus) {
        for x in a {
            *x = m.mul_montgomery(*x, f);
        }
    }

    /// out = a f, with f in Montgomery form.
    fn scale_into(out: &mut [u32], a: &[u32], f: u32, m: Modulus) {
        for (x, &y) in out.iter_mut().zip(a) {
            *x = m.mul_montgomery(y, f);
        }
    }

    /// out = (a - out) f, with f in Montgomery form.
    fn sub_from_and_scale(out: &mut [u32], a: &[u32], f: u32, m: Modulus) {
        for (x, &y) in out.iter_mut().zip(a) {
            *x = m.mul_montgomery(m.sub(y, *x), f);
        }
    }

    /// a = (a - b) f, with f in Montgomery form.
    fn sub_and_scale(a: &mut [u32], b: &[u32], f: u32, m: Modulus) {
        for (x, &y) in a.iter_mut().zip(b) {
            *x = m.mul_montgomery(m.sub(*x, y), f);
        }
    }

    /// out += a f, with f in Montgomery form.
    fn add_scaled(out: &mut [u32], a: &[u32], f: u32, m: Modulus) {
        for (x, &y) in out.iter_mut().zip(a) {
            *x = m.add(*x, m.mul_montgomery(y, f));
        }
    }

    /// out = v mod q for |v| < q, without a branch.
    fn from_small(out: &mut [u32], values: &[i32], m: Modulus) {
        for (x, &v) in out.iter_mut().zip(values) {
            *x = v.wrapping_add((v >> 31) & m.value() as i32) as u32;
        }
    }

    /// (d0, d1, d2) = (a0 b0, a0 b1 + a1 b0, a1 b1), given as d = [d0, d1, d2] and f = [a0, a1, b0, b1].
    fn tensor(d: [&mut [u32]; 3], f: [&[u32]; 4], m: Modulus) {
        let [d0, d1, d2] = d;
        let [a0, a1, b0, b1] = f;
        let n = d0.len();
        let (d1, d2) = (&mut d1[..n], &mut d2[..n]);
        let (a0, a1, b0, b1) = (&a0[..n], &a1[..n], &b0[..n], &b1[..n]);
        for i in 0..n {
            let (x0, x1) = (u64::from(a0[i]), u64::from(a1[i]));
            let (y0, y1) = (u64::from(b0[i]), u64::from(b1[i]));
            d0[i] = m.to_montgomery(m.reduce(x0 * y0));
            // Two products of residues stay below 2 q^2 < q 2^31.
            d1[i] = m.to_montgomery(m.reduce(x0 * y1 + x1 * y0));
            d2[i] = m.to_montgomery(m.reduce(x1 * y1));
        }
    }

    fn portable_permute(out: &mut [u32], a: &[u32], permutation: &Permutation) {
        for (out, (run, pattern)) in out.chunks_exact_mut(Permutation::RUN).zip(permutation.sources()) {
            let run = &a[run * Permutation::RUN..][..Permutation::RUN];
            for (x, &i) in out.iter_mut().zip(pattern) {
                *x = run[i as usize % Permutation::RUN];
            }
        }
    }

    /// out = sum_j a_j b_j 2^-32 + c f 2^-32: with the b_j and f in Montgomery form, the inner product and an addend (c, f).
    fn portable_inner_product(out: &mut [u32], a: &[&[u32]], b: &[&[u32]], addend: Option<(&[u32], u32)>, m: Modulus) {
        let limit = u64::from(m.value()) << 32;
        for (block, out) in out.chunks_exact_mut(LANES).enumerate() {
            let at = block * LANES;
            let mut sum = [0u64; LANES];
            if let Some((c, f)) = addend {
                for (s, &c) in sum.iter_mut().zip(&c[at..at + LANES]) {
                    *s = u64::from(c) * u64::from(f);
                }
            }
            for (j, (a, b)) in a.iter().zip(b).enumerate() {
                let (a, b) = (&a[at..at + LANES], &b[at..at + LANES]);
                for i in 0..LANES {
                    sum[i] += u64::from(a[i]) * u64::from(b[i]);
                }
                // Four products are below 4 q^2 < q 2^32: with what was there before, below q 2^32, the sum stays below q 2^33.
                if j % LAZY_PRODUCTS == LAZY_PRODUCTS - 1 {
                    for s in &mut sum {
                        *s = (*s).min(s.wrapping_sub(limit));
                    }
                }
            }
            for (o, s) in out.iter_mut().zip(sum) {
                *o = m.reduce(s.min(s.wrapping_sub(limit)));
            }
        }
    }

    /// Two inner products of the same a_j with their addends, moved by an automorphism; the rows are those of the block that the values
    /// come from.
    fn portable_rotated_inner_products(
        outs: [&mut [u32]; 2], a: &[&[u32]], b: [&[&[u32]]; 2], addends: [Option<(&[u32], u32)>; 2], moves: Moves<'_>, m: Modulus,
    ) {
        let mut sums = [0; SCATTER];
        let (mut a_rows, mut b_rows) = (Vec::new(), Vec::new());
        for ((out, b), addend) in outs.into_iter().zip(b).zip(addends) {
            let size = SCATTER.min(out.len());
            for at in (0..out.len()).step_by(size) {
                a_rows.clear();
                a_rows.extend(a.iter().map(|row| &row[at..at + size]));
                b_rows.clear();
                b_rows.extend(b.iter().map(|row| &row[at..at + size]));
                let addend = addend.map(|(c, f)| (&c[at..at + size], f));
                portable_inner_product(&mut sums[..size], &a_rows, &b_rows, addend, m);
                for (i, sums) in sums[..size].chunks_exact(Permutation::RUN).enumerate() {
                    let (target, pattern) = moves.target(at / Permutation::RUN + i);
                    let out = &mut out[target * Permutation::RUN..][..Permutation::RUN];
                    for (x, &source) in out.iter_mut().zip(pattern) {
                        *x = sums[source as usize % Permutation::RUN];
                    }
                }
            }
        }
    }

    /// out_h = sum_j a_jh f_j: a_jh are entries, f_j residues, one for each run of positions, or for each position.
    fn portable_weighted_sums(outs: [&mut [u32]; 2], terms: &[Term<'_>], m: Modulus) {
        let limit = u64::from(m.value()) << 32;
        let halves = outs.into_iter().enumerate();
        let blocks = halves.flat_map(|(half, out)| out.chunks_exact_mut(LANES).enumerate().map(move |b| (half, b)));
        for (half, (block, out)) in blocks {
            let at = block * LANES;
            let mut sum = [0u64; LANES];
            for (j, term) in terms.iter().enumerate() {
                let a = &term.rows[half][at..at + LANES];
                match term.factors {
                    Factors::Runs(f, log_run) if 1 << log_run >= LANES => {
                        let factor = u64::from(f[at >> log_run]);
                        for i in 0..LANES {
                            sum[i] += u64::from(a[i]) * factor;
                        }
                    }
                    Factors::Runs(f, log_run) => {
                        let f = &f[at >> log_run..(at + LANES) >> log_run];
                        for i in 0..LANES {
                            sum[i] += u64::from(a[i]) * u64::from(f[i >> log_run]);
                        }
                    }
                    Factors::Each(f) => {
                        let f = &f[at..at + LANES];
                        for i in 0..LANES {
                            sum[i] += u64::from(a[i]) * u64::from(f[i]);
                        }
                    }
                }
                // As in the inner product: four products and the reduced rest stay below q 2^33.
                if j % LAZY_PRODUCTS == LAZY_PRODUCTS - 1 {
                    for s in &mut sum {
                        *s = (*s).min(s.wrapping_sub(limit));
                    }
                }
            }
            for (o, s) in out.iter_mut().zip(sum) {
                *o = m.to_montgomery(m.reduce(s.min(s.wrapping_sub(limit))));
            }
        }
    }

    /// out = x mod q for |x| < 2^62, without a division or a branch.
    fn reduce_signed(out: &mut [u32], values: &[i64], m: Modulus) {
        let offset = m.reduce_i64(1 << 62);
        for (o, &x) in out.iter_mut().zip(values) {
            let u = x.wrapping_add(1 << 62) as u64;
            // hi 2^32 + lo, each brought below q through Montgomery form, which takes any word.
            let high = m.to_montgomery((u >> 32) as u32);
            let low = m.to_montgomery(m.reduce(u & 0xffff_ffff));
            *o = m.sub(m.add(high, low), offset);
        }
    }

    /// v_t = round(sum_i y_i[t] / q_i), the multiple of the modulus that centres a basis conversion, for the y_i of one block, the rows
    /// of which begin `stride` words apart.
    fn conversion_quotient(v: &mut [u32], y: &[u32], stride: usize, reciprocals: &[f32]) {
        for (block, v) in v.chunks_exact_mut(LANES).enumerate() {
            let at = block * LANES;
            let mut sum = [0.5f32; LANES];
            for (i, &reciprocal) in reciprocals.iter().enumerate() {
                let y = &y[i * stride + at..i * stride + at + LANES];
                for t in 0..LANES {
                    // Residues are below 2^30, so the signed conversion is exact in sign and cheap.
                    sum[t] += y[t] as i32 as f32 * reciprocal;
                }
            }
            for (v, s) in v.iter_mut().zip(sum) {
                *v = s as i32 as u32;
            }
        }
    }

    /// One block of a conversion: `gathered` holds `size` entries of each source, and of the quotients last, in rows that begin `stride`
    /// words apart, for (size, stride) = `shape`; the results lie at `at` in each target's row of `out`.
    fn portable_convert_block(
        out: &mut [&mut [u32]], at: usize, gathered: &[u32], shape: (usize, usize), targets: &[Target],
    ) {
        let (size, stride) = shape;
        for (out, target) in out.iter_mut().zip(targets) {
            let m = target.modulus;
            let limit = u64::from(m.value()) << 32;
            for (i, out) in out[at..at + size].chunks_exact_mut(LANES).enumerate() {
                let mut sum = [0u64; LANES];
                for (group, factors) in target.factors.chunks(LAZY_CONVERSION).enumerate() {
                    for (j, &factor) in factors.iter().enumerate() {
                        let from = (group * LAZY_CONVERSION + j) * stride + i * LANES;
                        let y = &gathered[from..from + LANES];
                        for t in 0..LANES {
                            sum[t] += u64::from(y[t]) * u64::from(factor);
                        }
                    }
                    // y < 2^30 and factor < p: eight products are below p 2^33, the sum before them below p 2^32.
                    for s in &mut sum {
                        let t = (*s).min(s.wrapping_sub(limit << 1));
                        *s = t.min(t.wrapping_sub(limit));
                    }
                }
                for (o, s) in out.iter_mut().zip(sum) {
                    *o = m.reduce(s);
                }
            }
        }
    }
}

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

/// Targets of a conversion whose sums stay in registers together.
#[cfg(target_arch = "x86_64")]
const TARGETS: usize = 4;

/// Calls a function for `TARGETS` targets at a time, and for what is left of them, with their rows and an array of them.
#[cfg(target_arch = "x86_64")]
macro_rules! by_targets {
    ($convert:ident($out:ident, $($rest:expr),*; $targets:ident)) => {
        for (out, targets) in $out.chunks_mut($crate::kernels::TARGETS).zip($targets.chunks($crate::kernels::TARGETS)) {
            match targets {
                [a, b, c, d] => $convert(out, $($rest),*, [a, b, c, d]),
                [a, b, c] => $convert(out, $($rest),*, [a, b, c]),
                [a, b] => $convert(out, $($rest),*, [a, b]),
                [a] => $convert(out, $($rest),*, [a]),
                // A chunk has one target at least and `TARGETS` at most.
                _ => {}
            }
        }
    };
}
#[cfg(target_arch = "x86_64")]
use by_targets;

macro_rules! prefer_by_hand {
    ($( $(#[$doc:meta])* fn $name:ident / $portable:ident ($($arg:ident: $type:ty),* $(,)?) )*) => { $(
        $(#[$doc])*
        pub(crate) fn $name($($arg: $type),*) {
            #[cfg(target_arch = "x86_64")]
            match isa() {
                // SAFETY: the processor was just found to have every feature that this copy is compiled for.
                Isa::Avx512 => return unsafe { avx512::$name($($arg),*) },
                // SAFETY: the processor was just found to have AVX2.
                Isa::Avx2 => return unsafe { avx2::$name($($arg),*) },
                Isa::Baseline => {}
            }
            $portable($($arg),*);
        }
    )* };
}

prefer_by_hand! {
    /// out = sum_j a_j b_j 2^-32 + c f 2^-32: with the b_j and f in Montgomery form, the inner product and an addend (c, f).
    fn inner_product / portable_inner_product(
        out: &mut [u32], a: &[&[u32]], b: &[&[u32]], addend: Option<(&[u32], u32)>, m: Modulus,
    )
    /// Two inner products of the same a_j with their addends, moved by an automorphism; the rows are those of the block that the values
    /// come from.
    fn rotated_inner_products / portable_rotated_inner_products(
        outs: [&mut [u32]; 2], a: &[&[u32]], b: [&[&[u32]]; 2], addends: [Option<(&[u32], u32)>; 2], moves: Moves<'_>, m: Modulus,
    )
    /// out_h = sum_j a_jh f_j: a_jh are entries, f_j residues, one for each run of positions, or for each position.
    fn weighted_sums / portable_weighted_sums(outs: [&mut [u32]; 2], terms: &[Term<'_>], m: Modulus)
    /// out_i = a_(permutation_i), for the permutation of an automorphism.
    fn permute / portable_permute(out: &mut [u32], a: &[u32], permutation: &Permutation)
    /// One block of a conversion: `gathered` holds `size` entries of each source, and of the quotients last, in rows that begin `stride`
    /// words apart, for (size, stride) = `shape`; the results lie at `at` in each target's row of `out`.
    fn convert_block / portable_convert_block(
        out: &mut [&mut [u32]], at: usize, gathered: &[u32], shape: (usize, usize), targets: &[Target],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primes;
    use proptest::prelude::*;

    /// Residues below `q` from a seed; with seed 0 the largest there are, which is where lazy sums would overflow.
    fn residues(seed: u64, q: u32, n: usize) -> Vec<u32> {
        let mut x = seed;
        let mut next = || {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (x >> 33) as u32 % q
        };
        (0..n).map(|_| if seed == 0 { q - 1 } else { next() }).collect()
    }

    proptest! {
        #[test]
        fn lazy_sums_agree_with_the_plain_ones(seed in 0..50u64, terms in 1..40usize, bits in 18..=30u32) {
            let m = Modulus::new(primes::generate(10, &[bits]).unwrap()[0]);
            let (q, n) = (m.value(), 64);
            let a: Vec<Vec<u32>> = (0..terms as u64).map(|j| residues(seed * (j + 1), q, n)).collect();
            let b: Vec<Vec<u32>> = (0..terms as u64).map(|j| residues(seed * (j + 77), q, n)).collect();
            let plain: Vec<u32> =
                (0..n).map(|i| (0..terms).fold(0, |s, j| m.add(s, m.mul(a[j][i], b[j][i])))).collect();
            let rows: Vec<&[u32]> = a.iter().map(Vec::as_slice).collect();
            // Both halves, the other one with its rows the other way round. Exactly as many factors as there are runs: reading
            // past them would be seen. Kinds of factors change from term to term, and with the case.
            let kinds = |j: usize, uniform: Option<u32>| uniform.unwrap_or((j as u32 + seed as u32) % 8);
            for uniform in (0..8).map(Some).chain([None]) {
                let weights: Vec<Term<'_>> = (0..terms)
                    .map(|j| {
                        let factors = match kinds(j, uniform) {
                            7 => Factors::Each(&b[j]),
                            log_run => Factors::Runs(&b[j][..n >> log_run], log_run),
                        };
                        Term { rows: [&a[j], &a[terms - 1 - j]], factors }
                    })
                    .collect();
                let expected = [false, true].map(|other| -> Vec<u32> {
                    let row = |j: usize| if other { &a[terms - 1 - j] } else { &a[j] };
                    let run = |j: usize| kinds(j, uniform) % 7;
                    (0..n)
                        .map(|i| (0..terms).fold(0, |s, j| m.add(s, m.mul(row(j)[i], b[j][i >> run(j)]))))
                        .collect()
                });
                for f in [weighted_sums, portable_weighted_sums] {
                    let mut out = [vec![0; n], vec![0; n]];
                    let [u, v] = &mut out;
                    f([u, v], &weights, m);
                    prop_assert_eq!(&out, &expected);
                }
            }
            let key: Vec<Vec<u32>> = b.iter().map(|b| b.iter().map(|&x| m.to_montgomery(x)).collect()).collect();
            let key: Vec<&[u32]> = key.iter().map(Vec::as_slice).collect();
            let (c, factor) = (residues(seed + 1, q, n), q - 1 - seed as u32 % 1000);
            let with_addend: Vec<u32> =
                (0..n).map(|i| m.add(plain[i], m.mul(c[i], factor))).collect();
            let g = crate::GaloisElement::from_exponent(2 * (seed as u32 % 64) + 1, n).unwrap();
            let permutation = g.permutation(n);
            for (addend, expected) in
                [(None, &plain), (Some((c.as_slice(), m.to_montgomery(factor))), &with_addend)]
            {
                for f in [inner_product, portable_inner_product] {
                    let mut out = vec![0; n];
                    f(&mut out, &rows, &key, addend, m);
                    prop_assert_eq!(&out, expected);
                }
                let mut moved = vec![0; n];
                portable_permute(&mut moved, expected, &permutation);
                // The other half without its addend, and with its rows the other way round.
                let back: Vec<&[u32]> = key.iter().rev().copied().collect();
                let mut other = vec![0; n];
                portable_inner_product(&mut other, &rows, &back, None, m);
                let mut other_moved = vec![0; n];
                portable_permute(&mut other_moved, &other, &permutation);
                for f in [rotated_inner_products, portable_rotated_inner_products] {
                    let mut out = [vec![0; n], vec![0; n]];
                    let [u, v] = &mut out;
                    f([u, v], &rows, [&key, &back], [addend, None], permutation.block(0, n), m);
                    prop_assert_eq!(&out[0], &moved);
                    prop_assert_eq!(&out[1], &other_moved);
                    // The same block by block.
                    for at in (0..n).step_by(32) {
                        let moves = permutation.block(at, 32);
                        let part = |rows: &[&'_ [u32]]| -> Vec<Vec<u32>> {
                            rows.iter().map(|row| row[moves.from()].to_vec()).collect()
                        };
                        let parts = [part(&rows), part(&key), part(&back)];
                        let [rows, key, back] = parts.each_ref().map(|p| p.iter().map(Vec::as_slice).collect::<Vec<_>>());
                        let addend = addend.map(|(c, f)| (&c[moves.from()], f));
                        let mut out = [[0; 32]; 2];
                        let [u, v] = &mut out;
                        f([u, v], &rows, [&key, &back], [addend, None], moves, m);
                        prop_assert_eq!(&out[0][..], &moved[at..at + 32]);
                        prop_assert_eq!(&out[1][..], &other_moved[at..at + 32]);
                    }
                }
            }
        }

        #[test]
        fn automorphisms_gather(seed in 1..50u64, log_degree in 5..10u32, exponent in 0..512u32) {
            let n = 1usize << log_degree;
            let element = crate::GaloisElement::from_exponent((2 * exponent + 1) % (2 * n as u32), n).unwrap();
            let (a, permutation) = (residues(seed, 65_537, n), element.permutation(n));
            let (mut fast, mut portable) = (vec![0; n], vec![0; n]);
            permute(&mut fast, &a, &permutation);
            portable_permute(&mut portable, &a, &permutation);
            prop_assert_eq!(fast, portable);
        }

        #[test]
        fn conversions_agree_with_the_plain_sum(seed in 0..50u64, sources in 1..40usize, count in 1..9usize) {
            let n = 64;
            let primes = primes::generate(10, &vec![30; count]).unwrap();
            let targets: Vec<Target> = primes
                .iter()
                .map(|&p| Target { modulus: Modulus::new(p), factors: residues(seed, p, sources + 1) })
                .collect();
            let y = residues(seed, (1 << 30) - 1, sources * n);
            let v = residues(seed, 64, n);
            // Rows with a gap between them, the last one too.
            let stride = n + 16;
            let rows = y.chunks(n).chain([v.as_slice()]);
            let gathered: Vec<u32> = rows.flat_map(|row| row.iter().copied().chain([u32::MAX; 16])).collect();
            let mut out = vec![0; count * n];
            let mut rows: Vec<&mut [u32]> = out.chunks_mut(n).collect();
            convert_block(&mut rows, 0, &gathered, (n, stride), &targets);
            let mut portable = vec![0; count * n];
            let mut rows: Vec<&mut [u32]> = portable.chunks_mut(n).collect();
            portable_convert_block(&mut rows, 0, &gathered, (n, stride), &targets);
            prop_assert_eq!(&out, &portable);
            for (limb, target) in out.chunks(n).zip(&targets) {
                let m = target.modulus;
                for i in 0..n {
                    let term = |j: usize| u128::from(gathered[j * stride + i]) * u128::from(target.factors[j]);
                    let sum: u128 = (0..=sources).map(term).sum();
                    let sum = (sum % u128::from(m.value())) as u32;
                    prop_assert_eq!(m.to_montgomery(limb[i]), sum);
                }
            }
        }
    }
}
