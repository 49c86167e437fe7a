//! The heavy loops in plain Rust: what the target's baseline runs, and what the bodies in vectors by hand are tested against.

use super::isa::compiled;
use super::terms::{Factors, LANES, LAZY_CONVERSION, LAZY_PRODUCTS, Target, Term};
use crate::arith::Modulus;
use crate::galois::{Moves, Permutation};

/// Positions that a rotated inner product sums before it moves them.
const SCATTER: usize = 1024;

compiled! {
    fn permute(out: &mut [u32], a: &[u32], permutation: &Permutation) {
        for (out, (run, pattern)) in out.chunks_exact_mut(Permutation::RUN).zip(permutation.sources()) {
            let run = &a[run * Permutation::RUN..][..Permutation::RUN];
            for (x, &i) in out.iter_mut().zip(pattern) {
                *x = run[i as usize % Permutation::RUN];
            }
        }
    }

    /// out = sum_j a_j b_j 2^-32 + c f 2^-32: with the b_j and f in Montgomery form, the inner product and an addend (c, f).
    fn inner_product(out: &mut [u32], a: &[&[u32]], b: &[&[u32]], addend: Option<(&[u32], u32)>, m: Modulus) {
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
    fn rotated_inner_products(
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
                inner_product(&mut sums[..size], &a_rows, &b_rows, addend, m);
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
    fn weighted_sums(outs: [&mut [u32]; 2], terms: &[Term<'_>], m: Modulus) {
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
    fn convert_block(
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
