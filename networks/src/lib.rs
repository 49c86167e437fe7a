//! Networks as data, written down once.
//!
//! A [`Network`] is a checked list of layers: names, operations, operands, shapes, activations and who shares their
//! coefficients. It holds no weights and knows no framework, so that everything that has to agree is made from it: the
//! module that trains (`classifier`), the weighted graph that is evaluated on ciphertexts (`he-export`), the random one
//! of benches and tests (`he-model::zoo`), and the names and shapes of the tensors between them
//! ([`Network::tensors`]).
//!
//! A network comes from a [`ClassifierConfig`] by [`ClassifierConfig::network`], or from a [`NetworkLiteral`] that
//! anybody writes: in code, in JSON or TOML, or as an importer of networks from elsewhere.
//!
//! # Invariants
//! - No Burn, no weights, no files.
//! - A [`Network`] is always valid: names are unique, operands exist and come first, every shape is computed, every
//!   trained activation names coefficients.
//! - Two layers share a tensor only if it holds coefficients of activations.
//!
//! # Names of the tensors in a checkpoint
//!
//! Those of PyTorch: batch norms have `weight` and `bias`, matrices are `[outputs, inputs]`. `features` is numbered from 0; blocks
//! are `layer1.0` to `layer3.8`.
//!
//! | tensor | shape | there if |
//! |---|---|---|
//! | `stem.conv.weight`, `features.N.conv.weight` | `[out, in / groups, k, k]` | ResNets; the others |
//! | `*.conv.bias`, `*.conv1.bias`, `*.conv2.bias` | `[out]` | no batch norm |
//! | `*.bn.{weight, bias, running_mean, running_var}` | `[out]` | batch norm |
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
//! | file | what it holds |
//! |---|---|
//! | `shape` | [`Shape`], [`Window`] |
//! | `activation`, [`chebyshev`] | [`Activation`]: how a value is mapped, and its range |
//! | `layer` | [`Layer`], [`Op`]: operands, shapes, tensors |
//! | `network` | [`NetworkLiteral`], [`Network`] |
//! | [`config`] | [`ClassifierConfig`]; `config/architecture.rs` has the architectures, `config/activation.rs` the activations |

mod activation;
pub mod chebyshev;
pub mod config;
mod error;
mod layer;
mod network;
mod shape;

pub use activation::{Activation, Coefficients, Form};
pub use chebyshev::chebyshev_relu;
pub use config::{
    ActivationConfig, ActivationKind, Architecture, ClassifierConfig, GateConfig, GateKind, Padding, Sharing,
};
pub use error::NetworkError;
pub use layer::{AvgPool, Conv2d, EPSILON, Layer, Op, TensorSpec};
pub use network::{INPUT, Network, NetworkLiteral, Node, ValueId};
pub use shape::{MAX_VALUES, Shape, Window};
