//! The basis conversion in vectors, written once for the instruction sets: each supplies its vectors and the reduction of a sum.

/// Sources of a conversion before the first reduction of a sum: residues are below 2^30 and factors below p, so that 16 products are
/// below 16 p 2^30 = 4 p 2^32.
pub(super) const FIRST_SOURCES: usize = 16;
/// Sources between later reductions: the reduced sum, below p 2^32, and 12 p 2^30.
pub(super) const NEXT_SOURCES: usize = 12;
/// Targets whose sums stay in registers together.
pub(super) const TARGETS: usize = 4;

/// `convert_block` for a set of features, from what the module around it defines: `WIDTH`, `Lanes`, `load`, `store`, `zero`, `spread`
/// and `multiply_add_one`.
macro_rules! conversion_with {
    ($features:literal) => {
        /// One block of a conversion, as [`super::convert_block`] has it: the sums of a few targets at a time stay in registers.
        #[target_feature(enable = $features)]
        pub(super) fn convert_block(
            out: &mut [&mut [u32]],
            at: usize,
            gathered: &[u32],
            shape: (usize, usize),
            targets: &[$crate::kernels::Target],
        ) {
            let count = $crate::kernels::conversion::TARGETS;
            for (out, targets) in out.chunks_mut(count).zip(targets.chunks(count)) {
                match targets {
                    [a, b, c, d] => convert_targets(out, at, gathered, shape, [a, b, c, d]),
                    [a, b, c] => convert_targets(out, at, gathered, shape, [a, b, c]),
                    [a, b] => convert_targets(out, at, gathered, shape, [a, b]),
                    [a] => convert_targets(out, at, gathered, shape, [a]),
                    // A chunk has one target at least and `TARGETS` at most.
                    _ => {}
                }
            }
        }

        #[target_feature(enable = $features)]
        #[inline]
        fn convert_targets<const T: usize>(
            out: &mut [&mut [u32]],
            at: usize,
            gathered: &[u32],
            (size, stride): (usize, usize),
            targets: [&$crate::kernels::Target; T],
        ) {
            let lanes = targets.map(|t| Lanes::new(t.modulus));
            let sources = gathered.len() / stride;
            let vectors = gathered.as_chunks::<WIDTH>().0;
            let step = stride / WIDTH;
            for i in 0..size / WIDTH {
                let mut sums = [zero(); T];
                let (mut next, mut left) = (0, $crate::kernels::conversion::FIRST_SOURCES);
                while next < sources {
                    let end = sources.min(next + left);
                    for j in next..end {
                        let y = load(&vectors[j * step + i]);
                        for (sum, target) in sums.iter_mut().zip(targets) {
                            *sum = multiply_add_one(*sum, y, spread(target.factors[j]));
                        }
                    }
                    for (sum, lanes) in sums.iter_mut().zip(lanes) {
                        *sum = lanes.lower(*sum);
                    }
                    (next, left) = (end, $crate::kernels::conversion::NEXT_SOURCES);
                }
                for ((out, sum), lanes) in out.iter_mut().zip(sums).zip(lanes) {
                    store(&mut out[at..at + size].as_chunks_mut::<WIDTH>().0[i], lanes.reduce(sum));
                }
            }
        }
    };
}
pub(super) use conversion_with;
