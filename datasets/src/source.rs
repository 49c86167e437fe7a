//! What a source of films is: the trait that every one of them implements, and what it hands over.

use std::path::Path;

use crate::split::Record;
use crate::{Film, Fit, Result};

/// A kind of data set, by its configuration.
pub(crate) trait DataSource: Sized {
    /// What a path to it looks like, for messages.
    const LAYOUT: &'static str;

    /// The source at a path, if it is one of this kind: a folder with files of these names, or a file, without any.
    fn detect(path: &Path, names: &[String]) -> Option<Self>;

    /// Checks what can be checked without opening a file.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Reads tables and folders. Array files are read whole, at this side.
    fn load(&self, side: usize, fit: Fit) -> Result<Loaded>;
}

/// Pixels by index.
pub(crate) trait Pixels: Send + Sync {
    /// The film at `side x side`.
    fn film(&self, index: usize, side: usize, fit: Fit) -> Result<Film>;

    /// Whether a film costs so much that a cache of resized films pays.
    fn is_slow(&self) -> bool {
        false
    }
}

/// What a source found.
pub(crate) struct Loaded {
    pub label_names: Vec<String>,
    pub records: Vec<Record>,
    pub pixels: Box<dyn Pixels>,
    /// Says which data this is: part of the digest.
    pub content: String,
    /// One line on the source, then things the user should know (rows without a file and the like).
    pub notes: Vec<String>,
}
