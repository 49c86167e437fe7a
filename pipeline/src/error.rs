//! Why a job did not come to its end.

use std::fmt::Display;

use he_runtime::RuntimeError;
use train::TrainError;

/// What jobs return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a job did not come to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The user asked to stop; the job has written what it had.
    #[error("stopped as asked, during {job}; run the same command again to continue")]
    Interrupted {
        /// What was going on.
        job: String,
    },
    /// What was given or found cannot be used. Says what was expected, what came, and what to do.
    #[error("{0}")]
    Refused(String),
    /// A part of the job failed.
    #[error("{what}")]
    Explained {
        /// What could not be done.
        what: String,
        /// Why.
        source: Box<Error>,
    },
    /// Training, or what training left.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// Films and latents.
    #[error(transparent)]
    Data(#[from] datasets::DataError),
    /// A classifier or its metrics.
    #[error(transparent)]
    Classifier(#[from] classifier::ClassifierError),
    /// The export.
    #[error(transparent)]
    Export(#[from] he_export::ExportError),
    /// A graph on some input.
    #[error(transparent)]
    Graph(#[from] he_model::GraphError),
    /// The planner.
    #[error(transparent)]
    Model(#[from] he_model::ModelError),
    /// A model file.
    #[error(transparent)]
    ModelFile(#[from] he_model::FileError),
    /// Keys and ciphertexts.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// A model package.
    #[error(transparent)]
    Package(#[from] he_protocol::PackageError),
    /// A picture or figure.
    #[error(transparent)]
    Picture(#[from] report::png::PngError),
    /// A file that could not be written.
    #[error(transparent)]
    Write(#[from] durable::Error),
    /// Another file.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// JSON that could not be read or written.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

impl Error {
    /// A refusal in the words of another error.
    pub fn refused(reason: impl Display) -> Self {
        Self::Refused(reason.to_string())
    }

    /// Whether the user asked to stop, wherever that was noticed.
    pub fn is_interrupted(&self) -> bool {
        match self {
            Self::Interrupted { .. }
            | Self::Train(TrainError::Interrupted { .. })
            | Self::Runtime(RuntimeError::Interrupted) => true,
            Self::Explained { source, .. } => source.is_interrupted(),
            _ => false,
        }
    }

    /// The message and its causes in one line.
    pub fn in_full(&self) -> String {
        self.chain().collect::<Vec<_>>().join(": ")
    }

    /// The message of the last cause.
    pub fn root_cause(&self) -> String {
        self.chain().last().unwrap_or_default()
    }

    /// The message, then those of its causes.
    fn chain(&self) -> impl Iterator<Item = String> {
        let first: &dyn std::error::Error = self;
        std::iter::successors(Some(first), |error| error.source()).map(ToString::to_string)
    }
}

/// Says what could not be done, where something failed or is missing.
pub trait Explain<T> {
    /// The value, or an error that begins with `what`.
    ///
    /// # Errors
    /// What was there, explained.
    fn explain<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<Error>> Explain<T> for Result<T, E> {
    fn explain<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| Error::Explained { what: what().into(), source: Box::new(error.into()) })
    }
}

impl<T> Explain<T> for Option<T> {
    fn explain<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.ok_or_else(|| Error::Refused(what().into()))
    }
}

/// Returns a refusal.
#[macro_export]
macro_rules! refuse {
    ($($words:tt)*) => { return Err($crate::Error::Refused(format!($($words)*))) };
}

/// Returns a refusal unless a condition holds.
#[macro_export]
macro_rules! require {
    ($condition:expr, $($words:tt)*) => { if !$condition { $crate::refuse!($($words)*) } };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_in_order_and_an_interruption_is_seen_behind_them() {
        let refused = |x: u32| -> Result<u32> {
            require!(x > 1, "x is {x}, expected more than 1");
            Ok(x)
        };
        let error = refused(1).explain(|| "cannot use x").explain(|| "cannot begin").unwrap_err();
        assert_eq!(error.in_full(), "cannot begin: cannot use x: x is 1, expected more than 1");
        assert_eq!(error.root_cause(), "x is 1, expected more than 1");
        assert!(!error.is_interrupted());
        let stopped: Result<()> = Err(RuntimeError::Interrupted).explain(|| "cannot classify");
        assert!(stopped.unwrap_err().is_interrupted());
        let missing: Option<u32> = None;
        assert_eq!(missing.explain(|| "no value").unwrap_err().in_full(), "no value");
    }
}
