//! Blocks of positions: rotated inputs are made, read for every giant step and forgotten piece by piece, in cache.

use crate::buffer::{Buffer, LINE};

/// Most positions of a limb that are multiplied and summed for all giant steps before the next.
const BLOCK: usize = 2048;
/// Bytes of rotated limbs that should stay in cache meanwhile.
const BLOCK_BYTES: usize = 512 << 10;
/// Fewest positions: keys are read in pieces of this size.
const LEAST_BLOCK: usize = 256;

/// The positions of one block of so many rotated inputs of `n` coefficients, a power of two.
pub(super) fn block_size(rotated: usize, n: usize) -> usize {
    let fitting = BLOCK_BYTES / (2 * size_of::<u32>() * rotated.max(1));
    let power = (fitting + 1).next_power_of_two() / 2;
    power.clamp(LEAST_BLOCK, BLOCK).min(n)
}

/// One block of positions of both halves of several rotated inputs, a line apart.
pub(super) struct Blocks {
    words: Buffer,
    block: usize,
}

impl Blocks {
    pub(super) fn new(inputs: usize, block: usize) -> Self {
        Self { words: Buffer::scratch(2 * inputs * (block + LINE)), block }
    }

    /// Both halves of each input.
    pub(super) fn pairs_mut(&mut self) -> impl Iterator<Item = [&mut [u32]; 2]> {
        let (block, stride) = (self.block, self.block + LINE);
        self.words.chunks_exact_mut(2 * stride).map(move |pair| {
            let (first, second) = pair.split_at_mut(stride);
            [&mut first[..block], &mut second[..block]]
        })
    }

    /// One half of an input.
    pub(super) fn row(&self, input: usize, half: usize) -> &[u32] {
        &self.words[(2 * input + half) * (self.block + LINE)..][..self.block]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks divide the ring, and the rotated inputs of one stay in cache until blocks are as short as they may be.
    #[test]
    fn blocks_fit_the_cache() {
        for log_n in [11, 16, 17] {
            let n = 1usize << log_n;
            for rotated in 0..300 {
                let block = block_size(rotated, n);
                assert!(n.is_multiple_of(block) && (LEAST_BLOCK..=BLOCK).contains(&block), "{rotated}");
                let bytes = 2 * size_of::<u32>() * rotated * block;
                assert!(bytes <= BLOCK_BYTES || block == LEAST_BLOCK, "{rotated}: {bytes} bytes");
            }
        }
        assert_eq!([1, 32, 33, 100].map(|rotated| block_size(rotated, 1 << 16)), [2048, 2048, 1024, 512]);
        assert_eq!(block_size(1, 128), 128);
    }
}
