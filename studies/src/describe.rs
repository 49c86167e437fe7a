//! What tables call a network and its activations.

use networks::{Architecture, ClassifierConfig};

/// The activation of a classifier, with its gate where it has one.
pub fn activation(model: &ClassifierConfig) -> String {
    if model.se { format!("{}, {}", model.activation, model.gate) } else { model.activation.to_string() }
}

/// The published name of an architecture that configurations write in small letters.
pub fn network(architecture: &str, se: bool) -> String {
    let name = architecture.parse().map_or_else(|_| architecture.to_owned(), Architecture::title);
    if se { format!("{name} + SE") } else { name }
}
