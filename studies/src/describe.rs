//! What tables call a network and its activations.

use classifier::{ActivationKind, ClassifierConfig, GateKind};

/// The activation of a classifier, with its gate where it has one.
pub fn activation(model: &ClassifierConfig) -> String {
    let hidden = match model.activation.kind {
        ActivationKind::Relu => "ReLU".to_owned(),
        ActivationKind::Polyact => "polynomial of degree 2".to_owned(),
        ActivationKind::Square => "square".to_owned(),
        ActivationKind::ChebyshevRelu => format!("Chebyshev ReLU of degree {}", model.activation.degree),
    };
    match (model.se, model.gate.kind) {
        (false, _) => hidden,
        (true, GateKind::Sigmoid) => format!("{hidden}, sigmoid gate"),
        (true, GateKind::ApproxSigmoid) => format!("{hidden}, cubic gate"),
    }
}

/// The published name of an architecture that configurations write in small letters.
pub fn network(architecture: &str, se: bool) -> String {
    let name = match architecture {
        "lenet" => "LeNet".to_owned(),
        "vggnet" => "VGGNet".to_owned(),
        "hefnet" => "HefNet".to_owned(),
        other => other.replace("resnet", "ResNet"),
    };
    if se { format!("{name} + SE") } else { name }
}
