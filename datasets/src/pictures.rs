//! What the classical sets of small pictures share: plain or gzip-compressed files, ten classes, no patients.
//!
//! Classes become one-of-ten labels; every picture is its own patient; colour becomes grey. The sets' own test pictures
//! are the test split, and validation is drawn.

use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use crate::arrays::{Bytes, MAX_MEMORY, array_error};
use crate::source::Loaded;
use crate::split::{Assigned, Record};
use crate::{DataError, Result};

/// The most bytes of one file once decompressed: MNIST's training images have 47 MB.
const MAX_BYTES: u64 = 1 << 30;
pub(crate) const COPY_AGAIN: &str =
    "the file is damaged, cut short or another one: copy or download it again";
pub(crate) const CLASSES: usize = 10;

/// `folder/name` or `folder/name.gz`, whichever is there.
pub(crate) fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    [folder.join(name), folder.join(format!("{name}.gz"))].into_iter().find(|path| path.is_file())
}

pub(crate) fn missing(folder: &Path, name: &str) -> DataError {
    DataError::Missing { path: folder.join(name), expected: format!("{name} or {name}.gz") }
}

/// The whole file, decompressed if its name ends in `.gz`.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    let file = std::fs::File::open(path).map_err(DataError::io(path, "open the file"))?;
    let zipped = path.extension().is_some_and(|e| e == "gz");
    let reader: Box<dyn Read> = if zipped { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    let mut bytes = Vec::new();
    reader.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|e| {
        array_error(path, format!("expected a whole file, but reading failed ({e})"), COPY_AGAIN)
    })?;
    if bytes.len() as u64 > MAX_BYTES {
        let what = "its size in bytes".into();
        return Err(DataError::TooLarge {
            path: path.into(),
            what,
            found: bytes.len() as u64,
            limit: MAX_BYTES,
        });
    }
    Ok(bytes)
}

/// What the loaders gather.
pub(crate) struct Gathered {
    side: usize,
    bytes: Vec<u8>,
    records: Vec<Record>,
    /// Of all files.
    pub(crate) content: blake3::Hasher,
}

impl Gathered {
    pub(crate) fn new(side: usize) -> Self {
        Gathered { side, bytes: Vec::new(), records: Vec::new(), content: blake3::Hasher::new() }
    }

    /// Refuses `films` more films if they would not fit into memory.
    pub(crate) fn check_memory(&self, films: usize, path: &Path) -> Result<()> {
        let memory = self.bytes.len() as u64 + (films as u64).saturating_mul((self.side * self.side) as u64);
        if memory <= MAX_MEMORY {
            return Ok(());
        }
        let problem = format!(
            "{films} pictures at {0} x {0} pixels need {1} GiB of memory, above the limit of {2} GiB",
            self.side,
            memory >> 30,
            MAX_MEMORY >> 30
        );
        Err(array_error(path, problem, "choose a smaller data.side"))
    }

    /// Adds a picture at the wanted side.
    pub(crate) fn push(
        &mut self,
        id: String,
        class: u8,
        split: Assigned,
        film: Vec<u8>,
        path: &Path,
    ) -> Result<()> {
        if usize::from(class) >= CLASSES {
            let problem = format!("expected a class from 0 to 9 for {id}, found {class}");
            return Err(array_error(path, problem, COPY_AGAIN));
        }
        self.bytes.extend(film);
        let labels = (0..CLASSES).map(|label| Some(label == usize::from(class))).collect();
        self.records.push(Record { patient: id.clone(), id, labels, split });
        Ok(())
    }

    pub(crate) fn finish(self, label_names: Vec<String>, source: String) -> Loaded {
        let notes = vec![format!("{source}: {} pictures in ten classes.", self.records.len())];
        Loaded {
            label_names,
            records: self.records,
            pixels: Box::new(Bytes { side: self.side, bytes: self.bytes }),
            content: self.content.finalize().to_hex().to_string(),
            notes,
        }
    }
}
