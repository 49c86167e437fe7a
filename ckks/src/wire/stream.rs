//! Reading and writing with a running digest.

use std::io::{ErrorKind, Read, Write};

use crate::error::{Error, Result};

/// Words converted at a time.
const CHUNK: usize = 1 << 14;

/// Writes numbers and hashes what it writes.
pub struct Writer<W> {
    inner: W,
    hasher: blake3::Hasher,
    what: &'static str,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(inner: W, what: &'static str) -> Self {
        Self { inner, hasher: blake3::Hasher::new(), what }
    }

    fn raw(&mut self, bytes: &[u8]) -> Result<()> {
        self.inner.write_all(bytes).map_err(|e| Error::Io { what: self.what, why: e.to_string() })
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.raw(bytes)
    }

    pub(super) fn u16(&mut self, x: u16) -> Result<()> {
        self.bytes(&x.to_le_bytes())
    }

    pub(super) fn u32(&mut self, x: u32) -> Result<()> {
        self.bytes(&x.to_le_bytes())
    }

    pub(super) fn f64(&mut self, x: f64) -> Result<()> {
        self.bytes(&x.to_le_bytes())
    }

    pub(super) fn words(&mut self, words: &[u32]) -> Result<()> {
        let mut buffer = Vec::with_capacity(4 * CHUNK.min(words.len()));
        for chunk in words.chunks(CHUNK) {
            buffer.clear();
            buffer.extend(chunk.iter().flat_map(|w| w.to_le_bytes()));
            self.bytes(&buffer)?;
        }
        Ok(())
    }

    /// Appends the digest and flushes.
    pub(super) fn finish(mut self) -> Result<()> {
        let digest = self.hasher.finalize();
        self.raw(digest.as_bytes())?;
        self.inner.flush().map_err(|e| Error::Io { what: self.what, why: e.to_string() })
    }
}

/// Reads numbers and hashes what it reads.
pub struct Reader<R> {
    inner: R,
    hasher: blake3::Hasher,
    what: &'static str,
}

impl<R: Read> Reader<R> {
    pub(super) fn new(inner: R, what: &'static str) -> Self {
        Self { inner, hasher: blake3::Hasher::new(), what }
    }

    pub(super) fn invalid(&self, why: impl Into<String>) -> Error {
        Error::Wire { what: self.what, why: why.into() }
    }

    fn raw(&mut self, out: &mut [u8]) -> Result<()> {
        self.inner.read_exact(out).map_err(|e| match e.kind() {
            ErrorKind::UnexpectedEof => self.invalid("it ends too early"),
            _ => Error::Io { what: self.what, why: e.to_string() },
        })
    }

    pub(super) fn bytes(&mut self, out: &mut [u8]) -> Result<()> {
        self.raw(out)?;
        self.hasher.update(out);
        Ok(())
    }

    pub(super) fn array<const L: usize>(&mut self) -> Result<[u8; L]> {
        let mut out = [0; L];
        self.bytes(&mut out)?;
        Ok(out)
    }

    pub(super) fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn f64(&mut self) -> Result<f64> {
        Ok(f64::from_le_bytes(self.array()?))
    }

    /// Fills `out` with residues below `q`.
    pub(super) fn residues(&mut self, out: &mut [u32], q: u32) -> Result<()> {
        let mut buffer = vec![0u8; 4 * CHUNK.min(out.len())];
        for chunk in out.chunks_mut(CHUNK) {
            let buffer = &mut buffer[..4 * chunk.len()];
            self.bytes(buffer)?;
            let mut largest = 0;
            for (x, word) in chunk.iter_mut().zip(buffer.as_chunks::<4>().0) {
                *x = u32::from_le_bytes(*word);
                largest = largest.max(*x);
            }
            if largest >= q {
                return Err(self.invalid(format!("residue {largest} is not below its prime {q}")));
            }
        }
        Ok(())
    }

    /// Compares the digest.
    pub(super) fn finish(mut self) -> Result<()> {
        let expected = self.hasher.finalize();
        let mut found = [0; 32];
        self.raw(&mut found)?;
        if expected != blake3::Hash::from_bytes(found) {
            return Err(self.invalid("its digest does not match its content"));
        }
        Ok(())
    }
}
