//! Errors of this crate.

use thiserror::Error;

use crate::Shape;

/// Why a config or a list of layers is no network.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NetworkError {
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
    /// The image is too small for a layer.
    #[error(
        "at {layer} the image is {height}x{width}, smaller than the window of {window}; use a larger latent, \
         padding = \"same\" or another architecture"
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
    /// A network of no layers.
    #[error("a network needs at least one layer")]
    Empty,
    /// A name that is empty or taken.
    #[error(
        "layer {index} is called {name:?}: names must not be empty, nor `input`, nor those of layers before"
    )]
    Name {
        /// Its place in the list.
        index: usize,
        /// The name.
        name: String,
    },
    /// An operand that no layer before makes.
    #[error("layer {layer:?} reads {input:?}, which is neither `input` nor a layer before it")]
    UnknownInput {
        /// The layer.
        layer: String,
        /// The operand.
        input: String,
    },
    /// Too many operands, or too few.
    #[error("layer {layer:?} is a {kind} and reads {expected} values, got {got}")]
    Operands {
        /// The layer.
        layer: String,
        /// Its operation.
        kind: &'static str,
        /// Operands that it needs.
        expected: usize,
        /// Operands that it has.
        got: usize,
    },
    /// A layer cannot read what it is given.
    #[error("layer {layer:?} is a {kind} and cannot read the shape {input}: {reason}")]
    Shape {
        /// The layer.
        layer: String,
        /// Its operation.
        kind: &'static str,
        /// Shape of its first operand.
        input: Shape,
        /// What is wrong.
        reason: String,
    },
    /// A trained activation without coefficients, or coefficients that layers cannot share.
    #[error("the trained activation {layer:?} reads the tensor {tensor:?}: {reason}")]
    Coefficients {
        /// The layer.
        layer: String,
        /// The tensor.
        tensor: String,
        /// What is wrong.
        reason: String,
    },
    /// An activation that additions and multiplications cannot express, where nothing else will do.
    #[error("layer {layer:?} is no polynomial")]
    NotPolynomial {
        /// The layer.
        layer: String,
    },
    /// A number that is not finite, or not above zero where it must be.
    #[error("layer {layer:?}: {what} must be {expected}, got {got}")]
    Number {
        /// The layer.
        layer: String,
        /// The number.
        what: &'static str,
        /// What would be accepted.
        expected: &'static str,
        /// What was found.
        got: String,
    },
}
