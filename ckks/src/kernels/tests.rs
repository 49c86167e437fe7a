//! Every body of the heavy loops against plain sums.

use proptest::prelude::*;

use super::*;
use crate::primes;

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
            for f in [weighted_sums, portable::weighted_sums] {
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
            for f in [inner_product, portable::inner_product] {
                let mut out = vec![0; n];
                f(&mut out, &rows, &key, addend, m);
                prop_assert_eq!(&out, expected);
            }
            let mut moved = vec![0; n];
            portable::permute(&mut moved, expected, &permutation);
            // The other half without its addend, and with its rows the other way round.
            let back: Vec<&[u32]> = key.iter().rev().copied().collect();
            let mut other = vec![0; n];
            portable::inner_product(&mut other, &rows, &back, None, m);
            let mut other_moved = vec![0; n];
            portable::permute(&mut other_moved, &other, &permutation);
            for f in [rotated_inner_products, portable::rotated_inner_products] {
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
        portable::permute(&mut portable, &a, &permutation);
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
        portable::convert_block(&mut rows, 0, &gathered, (n, stride), &targets);
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
