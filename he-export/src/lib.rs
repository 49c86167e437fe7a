//! From a trained classifier to an HE-ready model: graph building, folding, calibration, parameter choice, precision report.

mod error;
pub mod build;
pub mod fold;
pub mod weights;

pub use build::build;
pub use error::ExportError;
pub use fold::{Folds, fold};
pub use weights::Weights;
