//! Errors of this crate.

use thiserror::Error;

/// What can be wrong with a classifier or with what it is measured on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ClassifierError {
    /// A field of the config has a value that cannot be built.
    #[error("classifier config: {field} must be {expected}, got {got}")]
    Field {
        /// Name of the field.
        field: &'static str,
        /// What would be accepted.
        expected: String,
        /// What was found.
        got: String,
    },
    /// The latent is too small for the layers.
    #[error(
        "classifier config: at {layer} the image is {height}x{width}, smaller than the window of {window}; use a \
         larger latent, padding = \"same\" or another architecture"
    )]
    TooSmall {
        /// The layer.
        layer: String,
        /// Rows left.
        height: usize,
        /// Columns left.
        width: usize,
        /// Rows and columns that the layer needs.
        window: usize,
    },
    /// Scores and labels do not belong together.
    #[error("metrics: {expected} expected, got {got}")]
    Metrics {
        /// What was expected.
        expected: String,
        /// What came.
        got: String,
    },
}
