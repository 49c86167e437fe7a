//! Recycled memory for residues.
//!
//! An operation on a large ring needs tens of megabytes for a few milliseconds. Asked from the system each time, clearing and mapping those
//! pages would cost more than the arithmetic, so large buffers go to a common pool when they are dropped and are handed out
//! again. The pool keeps at most [`RETAINED`] words; sizes are rounded up to eighths of a power of two, and the smallest that
//! fits is taken, so that levels share buffers.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

use memmap2::MmapMut;

/// Words that the pool keeps at most: two gigabytes, twice the sums of a convolution's giant steps at N = 2^17 with 57 + 58 primes.
const RETAINED: usize = 1 << 29;
/// Buffers below this many words are left to the allocator.
const LEAST: usize = 1 << 14;
/// Buffers of this many words and more are mapped by themselves: two huge pages of 2 MiB.
const LEAST_MAPPED: usize = 1 << 20;

/// A recycled buffer is at most this many times as large as needed.
const LARGEST_EXCESS: usize = 4;

/// Words of a line of the cache, the gap between rows that are read side by side: a power of two apart they would fight for the
/// same few lines of the first cache.
pub(crate) const LINE: usize = 16;

#[derive(Default)]
struct Pool {
    /// By rounded capacity.
    free: BTreeMap<usize, Vec<Memory>>,
    retained: usize,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { free: BTreeMap::new(), retained: 0 });

/// The capacity that a buffer of `len` words gets: at most an eighth more.
fn rounded(len: usize) -> usize {
    len.next_multiple_of((len.next_power_of_two() / 8).max(1))
}

/// Words of the allocator, or a map of their own.
///
/// A limb is 64 pages of 4 KiB, and transforms, gathers and key streams cross all of them: in huge pages the same work needs
/// 1/512 of the address translations and of the page faults. Where the system has none, the advice changes nothing.
enum Memory {
    Heap(Vec<u32>),
    Mapped(MmapMut),
}

impl Memory {
    /// `capacity` words, all zero.
    fn new(capacity: usize) -> Self {
        if capacity >= LEAST_MAPPED
            && let Ok(map) = MmapMut::map_anon(4 * capacity)
        {
            #[cfg(target_os = "linux")]
            {
                // Advice that the kernel does not take costs time, not correctness.
                let _ = map.advise(memmap2::Advice::HugePage);
            }
            return Self::Mapped(map);
        }
        Self::Heap(vec![0; capacity])
    }

    fn words(&self) -> &[u32] {
        match self {
            Self::Heap(words) => words,
            // A map begins at a page and its length is a multiple of four, so the cast always holds.
            Self::Mapped(map) => bytemuck::cast_slice(map),
        }
    }

    fn words_mut(&mut self) -> &mut [u32] {
        match self {
            Self::Heap(words) => words,
            Self::Mapped(map) => bytemuck::cast_slice_mut(map),
        }
    }
}

/// A block of words that returns to the pool when dropped.
pub(crate) struct Buffer {
    memory: Memory,
    len: usize,
}

impl Buffer {
    /// A buffer with unspecified content, for results that overwrite all of it.
    pub(crate) fn scratch(len: usize) -> Self {
        Self::recycled(len).unwrap_or_else(|| Self::fresh(len))
    }

    /// A buffer of zeros.
    pub(crate) fn zeroed(len: usize) -> Self {
        let Some(mut buffer) = Self::recycled(len) else { return Self::fresh(len) };
        buffer.fill(0);
        buffer
    }

    /// A copy of `words`.
    pub(crate) fn copy_of(words: &[u32]) -> Self {
        let mut buffer = Self::scratch(words.len());
        buffer.copy_from_slice(words);
        buffer
    }

    fn fresh(len: usize) -> Self {
        Self { memory: Memory::new(if len < LEAST { len } else { rounded(len) }), len }
    }

    /// A buffer from the pool, if it holds one of that size.
    fn recycled(len: usize) -> Option<Self> {
        if len < LEAST {
            return None;
        }
        let capacity = rounded(len);
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        // A larger one serves as well: levels fall from layer to layer, and so do the sizes asked for.
        let (&found, memory) = pool
            .free
            .range_mut(capacity..=LARGEST_EXCESS * capacity)
            .find_map(|(found, list)| Some((found, list.pop()?)))?;
        pool.retained -= found;
        Some(Self { memory, len })
    }
}

impl PartialEq for Buffer {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Buffer {}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        Self::copy_of(self)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let capacity = self.memory.words().len();
        if capacity < LEAST {
            return;
        }
        let memory = std::mem::replace(&mut self.memory, Memory::Heap(Vec::new()));
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.retained + capacity <= RETAINED {
            pool.retained += capacity;
            pool.free.entry(capacity).or_default().push(memory);
        }
    }
}

impl Deref for Buffer {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        &self.memory.words()[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u32] {
        &mut self.memory.words_mut()[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_contents_are_right_after_recycling() {
        // Miri takes a minute for what is long enough to be mapped.
        let mapped = if cfg!(miri) { &[][..] } else { &[40 * 65_536, 39 * 65_536] };
        for &len in [10, LEAST, 3 * LEAST + 5].iter().chain(mapped) {
            assert!(
                rounded(len) >= len && rounded(len) <= len + len / 4 && rounded(rounded(len)) == rounded(len)
            );
            let mut buffer = Buffer::scratch(len);
            buffer.fill(7);
            drop(buffer);
            let buffer = Buffer::zeroed(len);
            assert!(buffer.len() == len && buffer.iter().all(|&x| x == 0));
        }
    }
}
