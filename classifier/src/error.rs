//! Errors of this crate.

use thiserror::Error;

/// What can be wrong with a classifier or with what it is measured on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ClassifierError {
    /// The config stands for no network.
    #[error(transparent)]
    Network(#[from] networks::NetworkError),
    /// Scores and labels do not belong together.
    #[error("metrics: {expected} expected, got {got}")]
    Metrics {
        /// What was expected.
        expected: String,
        /// What came.
        got: String,
    },
}
