//! The inner loops, and the only place with `unsafe`.
//!
//! Every kernel is one plain Rust body, compiled three times: for AVX-512, for AVX2 and for the target's baseline, and chosen at run time.
//! The bodies are written so that the compiler turns them into full-width vector code; residues are exact, so
//! all three give the same bits. The bodies contain no `unsafe`: the keyword only appears where a body compiled for an
//! instruction set is entered, after the processor was asked for it.

use crate::arith::Modulus;

/// Instruction sets that kernels are compiled for.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, PartialEq, Eq)]
enum Isa {
    Avx512,
    Avx2,
    Baseline,
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn isa() -> Isa {
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
const LANES: usize = 32;
/// Terms of a lazy sum of products of residues between two reductions of the sum.
const LAZY_PRODUCTS: usize = 4;
/// Terms of a lazy sum in a basis conversion between two reductions of the sum.
const LAZY_CONVERSION: usize = 8;
/// Coefficients whose source limbs stay in the first cache while the targets of a conversion are computed.
const CONVERSION_BLOCK: usize = 512;

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

    /// out = (a - out) f, with f in Montgomery form.
    fn sub_from_and_scale(out: &mut [u32], a: &[u32], f: u32, m: Modulus) {
        for (x, &y) in out.iter_mut().zip(a) {
            *x = m.mul_montgomery(m.sub(y, *x), f);
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

    /// out_i = a_(permutation_i).
    fn permute(out: &mut [u32], a: &[u32], permutation: &[u32]) {
        for (x, &i) in out.iter_mut().zip(permutation) {
            *x = a[i as usize];
        }
    }

    /// out = sum_j a_j b_j 2^-32: with the b_j in Montgomery form, the inner product.
    fn inner_product(out: &mut [u32], a: &[&[u32]], b: &[&[u32]], m: Modulus) {
        let limit = u64::from(m.value()) << 32;
        for (block, out) in out.chunks_exact_mut(LANES).enumerate() {
            let at = block * LANES;
            let mut sum = [0u64; LANES];
            for (j, (a, b)) in a.iter().zip(b).enumerate() {
                let (a, b) = (&a[at..at + LANES], &b[at..at + LANES]);
                for i in 0..LANES {
                    sum[i] += u64::from(a[i]) * u64::from(b[i]);
                }
                // Four products are below 4 q^2 < q 2^32: with the reduced rest, the sum stays below q 2^33.
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

    /// out += sum_j a_j f_j, where f_j is one residue for each run of `out.len() / f_j.len()` positions.
    fn periodic_inner_product(out: &mut [u32], a: &[&[u32]], f: &[&[u32]], m: Modulus) {
        let limit = u64::from(m.value()) << 32;
        let shift = m.radix_squared();
        let n = out.len();
        for (block, out) in out.chunks_exact_mut(LANES).enumerate() {
            let at = block * LANES;
            let mut sum = [0u64; LANES];
            for (j, (a, f)) in a.iter().zip(f).enumerate() {
                let a = &a[at..at + LANES];
                let run = n / f.len();
                if run >= LANES {
                    let factor = u64::from(f[at / run]);
                    for i in 0..LANES {
                        sum[i] += u64::from(a[i]) * factor;
                    }
                } else {
                    // `run` is a power of two below LANES: a shift, and the factors of the block are few.
                    let shift = run.trailing_zeros();
                    let f = &f[at / run..(at + LANES) / run];
                    for i in 0..LANES {
                        sum[i] += u64::from(a[i]) * u64::from(f[i >> shift]);
                    }
                }
                if j % LAZY_PRODUCTS == LAZY_PRODUCTS - 1 {
                    for s in &mut sum {
                        *s = (*s).min(s.wrapping_sub(limit));
                    }
                }
            }
            for (o, s) in out.iter_mut().zip(sum) {
                let product = m.mul_montgomery(m.reduce(s.min(s.wrapping_sub(limit))), shift);
                *o = m.add(*o, product);
            }
        }
    }

    /// v_t = round(sum_i y_i[t] / q_i), the multiple of the modulus that centres a basis conversion, for the
    /// coefficients from `start` on.
    fn conversion_quotient(v: &mut [u32], start: usize, y: &[u32], n: usize, reciprocals: &[f32]) {
        for (block, v) in v.chunks_exact_mut(LANES).enumerate() {
            let at = start + block * LANES;
            let mut sum = [0.5f32; LANES];
            for (i, &reciprocal) in reciprocals.iter().enumerate() {
                let y = &y[i * n + at..i * n + at + LANES];
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

    /// Conversion of the scaled residues y (one limb of n for each source prime) into several primes, one limb of `out` each.
    fn convert(out: &mut [u32], y: &[u32], v: &[u32], n: usize, targets: &[&Target]) {
        let size = CONVERSION_BLOCK.min(n);
        let mut at = 0;
        while at < n {
            for (out, target) in out.chunks_exact_mut(n).zip(targets) {
                let m = target.modulus;
                let limit = u64::from(m.value()) << 32;
                let (last, factors) = match target.factors.split_last() {
                    Some(split) => split,
                    None => return,
                };
                for (block, out) in out[at..at + size].chunks_exact_mut(LANES).enumerate() {
                    let at = at + block * LANES;
                    let mut sum = [0u64; LANES];
                    let v = &v[at..at + LANES];
                    for t in 0..LANES {
                        sum[t] = u64::from(v[t]) * u64::from(*last);
                    }
                    for (group, factors) in factors.chunks(LAZY_CONVERSION).enumerate() {
                        for (i, &factor) in factors.iter().enumerate() {
                            let from = (group * LAZY_CONVERSION + i) * n + at;
                            let y = &y[from..from + LANES];
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
            at += size;
        }
    }
}
