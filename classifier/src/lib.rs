//! HE-friendly classifiers on latents: LeNet, VGGNet, HefNet and ResNets with polynomial activations, on Burn.
//!
//! A network here is made of additions and multiplications (and, for the cleartext baseline, ReLU and sigmoid),
//! so that it can be evaluated on ciphertexts. [`ClassifierConfig`] decides everything; [`plan::Plan`] is
//! the list of layers that a config stands for, and both the Burn module and the exporter are built from it.
//!
//! Invariants:
//! - The crate knows latents `[batch, channels, height, width]` and nothing of where they come from.
//! - Who shares activation coefficients is [`Sharing`], a field of the config.
//! - Outputs are logits; the sigmoid belongs to whoever shows them.
//!
//! # Names of the tensors in a checkpoint
//!
//! Saved through Burn's PyTorch adapter, so that batch norms have `weight` and `bias` and matrices are
//! `[outputs, inputs]`. `features` is numbered from 0; blocks are `layer1.0` to `layer3.8`.
//!
//! | tensor | shape | there if |
//! |---|---|---|
//! | `stem.conv.weight`, `features.N.conv.weight` | `[out, in / groups, k, k]` | ResNets; the others |
//! | `*.conv.bias`, `*.conv1.bias`, `*.conv2.bias` | `[out]` | no batch norm |
//! | `*.bn.{weight, bias, running_mean, running_var}` | `[out]` | batch norm (epsilon 1e-5) |
//! | `layerS.N.conv1.weight`, `layerS.N.conv2.weight` | `[out, in, 3, 3]` | ResNets |
//! | `layerS.N.bn1.*`, `layerS.N.bn2.*` | `[out]` | ResNets |
//! | `layerS.N.shortcut.conv.weight`, `layerS.N.shortcut.bn.*` | `[out, in, 1, 1]` | the shape changes |
//! | `*.se.squeeze.{weight, bias}` | `[hidden, channels]` | `se` |
//! | `*.se.excite.{weight, bias}` | `[channels, hidden]` | `se` |
//! | `*.act.coefficients`, `layerS.N.act1.coefficients`, `*.se.act.coefficients` | `[1 or channels, 3]` | `polyact`, shared by layer or channel |
//! | `layerS.N.act2.coefficients` | the same | `post_add_activation` |
//! | `*.se.gate.coefficients` | `[1 or channels, 4]` | `approx-sigmoid`, shared by layer or channel |
//! | `activation.coefficients`, `gate.coefficients` | `[1, 3]`, `[1, 4]` | shared by the network |
//! | `hidden.linear.{weight, bias}`, `hidden.act.coefficients` | `[out, in]` | LeNet |
//! | `head.{weight, bias}` | `[labels, in]` | always |
//!
//! Coefficients are in ascending powers: `[c, b, a]` for `a x^2 + b x + c`.
//!
//! | module | what it holds |
//! |---|---|
//! | [`config`] | [`ClassifierConfig`] |
//! | [`plan`] | the layers of a config, as plain data |
//! | [`activation`], [`chebyshev`] | activations and their coefficients |
//! | [`layers`], [`model`] | the Burn modules |
//! | [`range`] | what range-aware training needs |
//! | [`loss`], [`metrics`], [`bootstrap`] | masked cross-entropy; AUROC and F1; their confidence intervals |

pub mod activation;
pub mod bootstrap;
pub mod chebyshev;
pub mod config;
mod error;
pub mod layers;
pub mod loss;
pub mod metrics;
pub mod model;
pub mod plan;
pub mod range;

pub use activation::Activation;
pub use bootstrap::{Interval, Intervals, PairIntervals};
pub use chebyshev::chebyshev_relu;
pub use config::{
    ActivationConfig, ActivationKind, Architecture, ClassifierConfig, GateConfig, GateKind, Padding, Sharing,
};
pub use error::ClassifierError;
pub use loss::masked_bce;
pub use metrics::{ClassMetrics, Metrics, Pair, auroc};
pub use model::Classifier;
pub use range::Ranges;
