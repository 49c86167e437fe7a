//! What can go wrong between a path and a film.
//!
//! Every variant names the file or the field, what was expected, what came, and what the user can do:
//! these texts are shown as they are by the command line.

use std::path::PathBuf;

/// The result of everything in this crate.
pub type Result<T> = std::result::Result<T, DataError>;

/// A data set that cannot be read, with what was expected and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file or folder that should exist does not.
    #[error("{}: not found; expected {expected}. Check the path; relative paths start at the current folder", path.display())]
    Missing {
        /// The path that was looked for.
        path: PathBuf,
        /// What should have been there.
        expected: String,
    },

    /// A folder exists but holds nothing that can be used.
    #[error("{}: found no {expected} in this folder or below it; {advice}", path.display())]
    Empty {
        /// The folder that was searched.
        path: PathBuf,
        /// What was looked for.
        expected: String,
        /// What to do.
        advice: String,
    },

    /// A path holds none of the layouts this crate reads.
    #[error(
        "{}: not a data set that Veilray knows ({found}); expected {known}",
        path.display()
    )]
    UnknownLayout {
        /// The path that was inspected.
        path: PathBuf,
        /// What was found there.
        found: String,
        /// What the layouts look like that are read.
        known: String,
    },

    /// A table lacks a column.
    #[error(
        "{}: no column {expected}; its columns are: {found}. Check that this is the right file, with its header line",
        path.display()
    )]
    MissingColumn {
        /// The table.
        path: PathBuf,
        /// The column's accepted names.
        expected: String,
        /// The header as read.
        found: String,
    },

    /// A line of a table cannot be understood.
    #[error("{}, line {line}: {problem}; {advice}", path.display())]
    Row {
        /// The table.
        path: PathBuf,
        /// The line, counted from 1 with the header.
        line: u64,
        /// What was expected and what came.
        problem: String,
        /// What to do.
        advice: String,
    },

    /// A table or a list names a label that is not among the known ones.
    #[error(
        "{}: unknown label {label:?}; known labels are: {known}. Correct the spelling, or choose labels that exist",
        place
    )]
    UnknownLabel {
        /// The file and line, or the configuration field.
        place: String,
        /// The label as it was written.
        label: String,
        /// The labels that would be accepted.
        known: String,
    },

    /// An image that cannot be decoded.
    #[error("{}: {problem}; {advice}", path.display())]
    Image {
        /// The image file.
        path: PathBuf,
        /// What was expected and what came.
        problem: String,
        /// What to do.
        advice: String,
    },

    /// An array file (npz, IDX, CIFAR) that cannot be used.
    #[error("{}: {problem}; {advice}", path.display())]
    Array {
        /// The array file.
        path: PathBuf,
        /// What was expected and what came.
        problem: String,
        /// What to do.
        advice: String,
    },

    /// Something is larger than any real data set needs, and is refused before memory is spent on it.
    #[error("{}: {what} is {found}, above the limit of {limit}; a real film or data set does not need that, the file is probably damaged or hostile", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What was measured.
        what: String,
        /// Its value.
        found: u64,
        /// The largest value accepted.
        limit: u64,
    },

    /// A value of the configuration that cannot work.
    #[error("data.{field}: {problem}; {advice}")]
    Config {
        /// The field, as written in the configuration file.
        field: String,
        /// What was expected and what came.
        problem: String,
        /// What to do.
        advice: String,
    },

    /// A latent file that is damaged, cut short or not a latent file.
    #[error(
        "{}: not a usable latent file: {problem}; write it again with `veilray encode`",
        path.display()
    )]
    Latents {
        /// The latent file.
        path: PathBuf,
        /// What was expected and what came.
        problem: String,
    },

    /// A film index outside the data set: a mistake of the calling program.
    #[error("film {index} was asked for, but the data set has {len} films")]
    Index {
        /// The index.
        index: usize,
        /// The number of films.
        len: usize,
    },

    /// The operating system refused something.
    #[error("{}: could not {action}: {source}{}", path.display(), advice_on_space(source))]
    Io {
        /// The file.
        path: PathBuf,
        /// What was being done.
        action: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
}

/// What a message adds where the system's reason is a full disk: every file here is written beside its place and renamed.
#[must_use]
pub fn advice_on_space(reason: &std::io::Error) -> &'static str {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    if matches!(reason.kind(), StorageFull | QuotaExceeded) {
        "; nothing that was there before is lost: make room and run the same command again"
    } else {
        ""
    }
}

impl From<durable::Error> for DataError {
    fn from(error: durable::Error) -> Self {
        DataError::Io { path: error.path, action: error.step, source: error.source }
    }
}

impl DataError {
    /// Wraps an I/O error with the file and what was being done to it.
    pub(crate) fn io(
        path: impl Into<PathBuf>,
        action: &'static str,
    ) -> impl FnOnce(std::io::Error) -> DataError {
        let path = path.into();
        move |source| DataError::Io { path, action, source }
    }

    /// A configuration error.
    pub(crate) fn config(
        field: impl Into<String>,
        problem: impl Into<String>,
        advice: impl Into<String>,
    ) -> DataError {
        DataError::Config { field: field.into(), problem: problem.into(), advice: advice.into() }
    }
}
