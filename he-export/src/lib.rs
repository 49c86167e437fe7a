//! From a trained classifier to an HE-ready model.
//!
//! | module | what it does |
//! |---|---|
//! | [`weights`] | reads named tensors from a safetensors file |
//! | [`build`](mod@build) | network and tensors to the graph as it was trained |
//! | [`fold`](mod@fold) | the same function with fewer operations |
//! | [`calibrate`](mod@calibrate) | ranges on held-out latents, refusal of what would overflow |
//! | [`export`](mod@export) | all of it, with the planner of `he-model` |
//! | [`report`] | what is known before the first run |
//!
//! **Invariant.** A network is read by its description (`networks`) and the names of its tensors, never through Burn: one trained
//! elsewhere is another naming, not another exporter.

pub mod build;
pub mod calibrate;
mod error;
pub mod export;
pub mod fold;
pub mod report;
pub mod weights;

pub use build::build;
pub use calibrate::{Calibration, calibrate};
pub use error::ExportError;
pub use export::{Export, ExportInputs, export};
pub use fold::{Folds, fold};
pub use report::{LayerReport, Report};
pub use weights::Weights;
