//! Classifiers on latents, on Burn, and what they are trained with and measured by.
//!
//! A network is described by the crate `networks`; [`Classifier`] is the Burn module of any such description. It is made of
//! additions and multiplications (and, for the cleartext baseline, ReLU and sigmoid), so that it can be evaluated on ciphertexts.
//!
//! Invariants:
//! - The crate knows latents `[batch, channels, height, width]` and nothing of where they come from.
//! - No architecture and no activation is named here: what a network looks like is data.
//! - Parameters have the names and, through Burn's PyTorch adapter, the shapes of [`networks::Network::tensors`].
//! - Outputs are logits; the sigmoid belongs to whoever shows them.
//!
//! | module | what it holds |
//! |---|---|
//! | [`model`] | [`Classifier`] |
//! | [`part`], `step` | layers that are trained; what a forward pass computes |
//! | [`range`] | what range-aware training needs |
//! | [`loss`], [`metrics`], [`bootstrap`] | masked cross-entropy; AUROC and F1; their confidence intervals |

pub mod bootstrap;
mod error;
pub mod loss;
pub mod metrics;
pub mod model;
pub mod part;
pub mod range;
mod step;

pub use bootstrap::{Interval, Intervals, PairIntervals};
pub use error::ClassifierError;
pub use loss::masked_bce;
pub use metrics::{ClassMetrics, Metrics, Pair, auroc};
pub use model::Classifier;
pub use networks::{
    ActivationConfig, ActivationKind, Architecture, ClassifierConfig, GateConfig, GateKind, Padding, Sharing,
};
pub use range::Ranges;
