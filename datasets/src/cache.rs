//! Resized films in one file, so that an epoch over a full release reads kilobytes a film instead of decoding
//! megapixels.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `VRLFILM1` |
//! | 8, 8 | side in pixels and number of films, little-endian |
//! | 64 | digest of the data set, hexadecimal |
//! | films x side x side | pixels, 0 to 255 |
//! | films x 8 | the first bytes of blake3 of each film |
//! | 32 | blake3 of all checksums |
//!
//! The digest is part of the file's name, so other films, labels or sizes never meet a stale cache. The file is
//! written under a temporary name and renamed: what has its final name is whole. Each film is checked when read.
//! Pixels are rounded to 8 bits, as the public releases store them.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::source::Pixels;
use crate::{DataError, Film, Fit, Result};

const MAGIC: &[u8; 8] = b"VRLFILM1";
const HEADER: u64 = 8 + 16 + 64;
const MADE_AGAIN: &str = "remove the file: it is made again";

/// The cache of a data set with this digest in `folder`.
pub(crate) fn file_in(folder: &Path, digest: &str) -> PathBuf {
    folder.join(format!("films-{}.bin", &digest[..16]))
}

/// Films of a cache file, read one by one.
pub(crate) struct Cache {
    path: PathBuf,
    side: usize,
    file: Mutex<File>,
    checksums: Vec<[u8; 8]>,
}

fn checksum(film: &[u8]) -> [u8; 8] {
    let mut bytes = [0u8; 8];
    bytes.copy_from_slice(&blake3::hash(film).as_bytes()[..8]);
    bytes
}

fn damaged(path: &Path, problem: impl Into<String>) -> DataError {
    DataError::Array { path: path.into(), problem: problem.into(), advice: MADE_AGAIN.into() }
}

impl Cache {
    /// Opens the cache of `films` films; `None` if there is none.
    ///
    /// # Errors
    /// The file is there, but cut short, altered, or of other films.
    pub fn open(path: &Path, side: usize, films: usize, digest: &str) -> Result<Option<Self>> {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(DataError::io(path, "open the cache of films")(error)),
        };
        let io = |action| DataError::io(path, action);
        let length = file.metadata().map_err(io("look at the cache of films"))?.len();
        let area = (side * side) as u64;
        let expected = HEADER + films as u64 * (area + 8) + 32;
        if length != expected {
            return Err(damaged(path, format!("expected a cache of {expected} bytes, found {length}")));
        }
        let mut header = vec![0u8; HEADER as usize];
        file.read_exact(&mut header).map_err(io("read the cache of films"))?;
        if header != Self::header(side, films, digest) {
            return Err(damaged(path, "it is no cache of these films"));
        }
        let mut table = vec![0u8; films * 8 + 32];
        file.seek(SeekFrom::Start(HEADER + films as u64 * area)).map_err(io("read the cache of films"))?;
        file.read_exact(&mut table).map_err(io("read the cache of films"))?;
        let (checksums, digest) = table.split_at(films * 8);
        if blake3::hash(checksums).as_bytes() != digest {
            return Err(damaged(path, "its checksums do not match: it was altered"));
        }
        let checksums = checksums.as_chunks::<8>().0.to_vec();
        Ok(Some(Cache { path: path.into(), side, file: Mutex::new(file), checksums }))
    }

    fn header(side: usize, films: usize, digest: &str) -> Vec<u8> {
        let mut header = MAGIC.to_vec();
        header.extend((side as u64).to_le_bytes());
        header.extend((films as u64).to_le_bytes());
        header.extend(digest.as_bytes());
        header
    }

    /// Writes a cache; `block` gives the films of a range, which are decoded in parallel.
    ///
    /// # Errors
    /// A film cannot be read, or the file cannot be written; nothing is left behind then.
    pub fn write(
        path: &Path,
        side: usize,
        films: usize,
        digest: &str,
        mut block: impl FnMut(std::ops::Range<usize>) -> Result<Vec<Film>>,
    ) -> Result<()> {
        durable::write_with(path, durable::Access::Shared, |writer| {
            let io = |error| DataError::io(path, "write the cache of films")(error);
            writer.write_all(&Self::header(side, films, digest)).map_err(io)?;
            let mut checksums = Vec::with_capacity(films * 8);
            for start in (0..films).step_by(BLOCK) {
                for film in block(start..(start + BLOCK).min(films))? {
                    let bytes = film.to_bytes();
                    debug_assert_eq!(bytes.len(), side * side);
                    checksums.extend(checksum(&bytes));
                    writer.write_all(&bytes).map_err(io)?;
                }
            }
            writer.write_all(&checksums).map_err(io)?;
            writer.write_all(blake3::hash(&checksums).as_bytes()).map_err(io)?;
            Ok(())
        })
    }
}

/// Films decoded at a time while a cache is written.
const BLOCK: usize = 256;

impl Pixels for Cache {
    fn film(&self, index: usize, _side: usize, _fit: Fit) -> Result<Film> {
        let area = self.side * self.side;
        let mut bytes = vec![0u8; area];
        {
            // Reading is a copy of some kilobytes; decoding and checking happen outside of the lock.
            let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            file.seek(SeekFrom::Start(HEADER + (index * area) as u64))
                .and_then(|_| file.read_exact(&mut bytes))
                .map_err(DataError::io(&self.path, "read the cache of films"))?;
        }
        if checksum(&bytes) != self.checksums[index] {
            return Err(damaged(&self.path, format!("film {index} does not match its checksum")));
        }
        Ok(Film::from_bytes(self.side, self.side, &bytes))
    }
}
