//! Errors of this crate.

use std::path::PathBuf;

use he_model::{GraphError, ModelError};
use thiserror::Error;

/// Why a network could not be exported.
#[derive(Debug, Error)]
pub enum ExportError {
    /// The file system said no.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
    /// Not a file of weights, or cut short.
    #[error("{path} is not a complete safetensors file of weights: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The network has an activation that is no polynomial.
    #[error(
        "layer `{layer}` is a {kind}, which cannot be computed on ciphertexts: train with {instead}, then export that network"
    )]
    NotPolynomial {
        /// The layer.
        layer: String,
        /// What it computes.
        kind: &'static str,
        /// What the config could say.
        instead: &'static str,
    },
    /// The checkpoint lacks a tensor.
    #[error(
        "the checkpoint has no tensor `{name}` of shape {shape:?}, which {architecture} needs: is it of another architecture?"
    )]
    MissingTensor {
        /// Name of the tensor.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// The network.
        architecture: String,
    },
    /// A tensor has another shape.
    #[error(
        "tensor `{name}` has shape {got:?}, {architecture} needs {expected:?}: is the checkpoint of another network?"
    )]
    WrongShape {
        /// Name of the tensor.
        name: String,
        /// Shape needed.
        expected: Vec<usize>,
        /// Shape found.
        got: Vec<usize>,
        /// The network.
        architecture: String,
    },
    /// A tensor that the network has no place for.
    #[error(
        "the checkpoint has a tensor `{name}` that {architecture} has no place for: is it of another architecture?"
    )]
    UnknownTensor {
        /// Name of the tensor.
        name: String,
        /// The network.
        architecture: String,
    },
    /// A tensor holds NaN or infinity, or a variance below zero.
    #[error("tensor `{name}` holds {value}: the training run that made this checkpoint went wrong")]
    BadValue {
        /// Name of the tensor.
        name: String,
        /// The value.
        value: f64,
    },
    /// The graph is not valid.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The graph cannot be planned.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Nothing to calibrate on.
    #[error("calibration needs at least one latent of {expected} values, got {got}")]
    Calibration {
        /// What is needed.
        expected: usize,
        /// What came.
        got: String,
    },
    /// Values that no modulus holds.
    #[error(
        "layer `{layer}` reaches {value:.3e} on calibration latent {example}, the limit is {limit:.3e}: its polynomials \
         have left their range; train with a larger range penalty or a smaller residual gain"
    )]
    OutOfRange {
        /// The layer.
        layer: String,
        /// Largest magnitude.
        value: f64,
        /// Largest magnitude that is allowed.
        limit: f64,
        /// Number of the latent.
        example: usize,
    },
    /// Labels do not fit the network.
    #[error("the network has {expected} outputs, but {got} label names were given")]
    Labels {
        /// Outputs.
        expected: usize,
        /// Names.
        got: usize,
    },
}
