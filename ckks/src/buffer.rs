//! Recycled memory for residues.
//!
//! An operation on a large ring needs tens of megabytes for a few milliseconds. Asked from the system each time, clearing and mapping those
//! pages would cost more than the arithmetic, so large buffers go to a common pool when they are dropped and are handed out
//! again. The pool keeps at most [`RETAINED`] words; sizes are rounded up to eighths of a power of two, so that neighbouring
//! levels share buffers.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

/// Words that the pool keeps at most: half a gigabyte.
const RETAINED: usize = 1 << 27;
/// Buffers below this many words are left to the allocator.
const LEAST: usize = 1 << 14;

#[derive(Default)]
struct Pool {
    /// By rounded capacity.
    free: BTreeMap<usize, Vec<Vec<u32>>>,
    retained: usize,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { free: BTreeMap::new(), retained: 0 });

/// The capacity that a buffer of `len` words gets: at most an eighth more.
fn rounded(len: usize) -> usize {
    len.next_multiple_of((len.next_power_of_two() / 8).max(1))
}

/// A block of words that returns to the pool when dropped.
#[derive(PartialEq, Eq)]
pub(crate) struct Buffer(Vec<u32>);

impl Buffer {
    /// A buffer with unspecified content, for results that overwrite all of it.
    pub(crate) fn scratch(len: usize) -> Self {
        if len < LEAST {
            return Self(vec![0; len]);
        }
        let capacity = rounded(len);
        let recycled = {
            let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
            let found = pool.free.get_mut(&capacity).and_then(Vec::pop);
            if found.is_some() {
                pool.retained -= capacity;
            }
            found
        };
        let mut words = recycled.unwrap_or_else(|| Vec::with_capacity(capacity));
        words.resize(len, 0);
        Self(words)
    }

    /// A buffer of zeros.
    pub(crate) fn zeroed(len: usize) -> Self {
        let mut buffer = Self::scratch(len);
        buffer.0.fill(0);
        buffer
    }

    /// A copy of `words`.
    pub(crate) fn copy_of(words: &[u32]) -> Self {
        let mut buffer = Self::scratch(words.len());
        buffer.0.copy_from_slice(words);
        buffer
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        Self::copy_of(&self.0)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let capacity = self.0.capacity();
        if capacity < LEAST || capacity != rounded(capacity) {
            return;
        }
        let words = std::mem::take(&mut self.0);
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.retained + capacity <= RETAINED {
            pool.retained += capacity;
            pool.free.entry(capacity).or_default().push(words);
        }
    }
}

impl Deref for Buffer {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u32] {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_contents_are_right_after_recycling() {
        for len in [10, LEAST, 3 * LEAST + 5, 40 * 65_536, 39 * 65_536] {
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
