//! What can be wrong with a classifier from elsewhere, by the name of the tensor concerned.

use networks::Architecture;
use thiserror::Error;

/// Why a classifier cannot be taken over.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The names are those of another network.
    #[error(
        "it looks like {found}, not {asked}: give --architecture {found}, or a mapping file if its names are others", asked = asked.name(), found = found.name()
    )]
    Architecture {
        /// What was asked for.
        asked: Architecture,
        /// What the names suggest.
        found: Architecture,
    },
    /// A tensor that the network needs is not there.
    #[error(
        "it has no tensor `{name}`, which {architecture} needs for `{target}`; name it under [names] of a mapping file",
        architecture = architecture.name()
    )]
    Missing {
        /// Its name in the file, after the mapping.
        name: String,
        /// What it becomes here.
        target: String,
        /// The network.
        architecture: Architecture,
    },
    /// A tensor that the network has no place for.
    #[error(
        "it has a tensor `{name}` that {architecture} has no place for: is it another network? If the classifier does not \
         need it, list it under `ignore` of a mapping file", architecture = architecture.name()
    )]
    Extra {
        /// Its name in the file.
        name: String,
        /// The network.
        architecture: Architecture,
    },
    /// A tensor has another shape.
    #[error("tensor `{name}` has shape {found:?}, expected {expected}")]
    Shape {
        /// Its name in the file.
        name: String,
        /// The shape found.
        found: Vec<usize>,
        /// What was expected, and where that comes from.
        expected: String,
    },
    /// A tensor holds a value that no trained network has.
    #[error("tensor `{name}` holds {value}: {problem}")]
    Value {
        /// Its name in the file.
        name: String,
        /// The value.
        value: f32,
        /// Why it cannot be.
        problem: &'static str,
    },
    /// Coefficients that the configuration shares differ.
    #[error(
        "activations `{one}` and `{other}` have different coefficients, but the model shares them over the network; set \
         activation.sharing = \"layer\" (or se_sharing) under [model] of a mapping file"
    )]
    NotShared {
        /// One activation, by its name in the file.
        one: String,
        /// Another.
        other: String,
    },
    /// A part that has no counterpart here.
    #[error("tensor `{name}` belongs to {part}, which cannot be evaluated here")]
    Unsupported {
        /// Its name in the file.
        name: String,
        /// What it belongs to.
        part: &'static str,
    },
    /// Something in the mapping file has no effect.
    #[error("the mapping file says {entry:?} under {section}, which names nothing in {architecture} or the file",
        architecture = architecture.name())]
    Mapping {
        /// Section of the mapping file.
        section: &'static str,
        /// The entry.
        entry: String,
        /// The network.
        architecture: Architecture,
    },
}
