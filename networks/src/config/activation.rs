//! The activations that a config can name: hidden layers and the gates of squeeze-and-excitation blocks.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::refuse;
use crate::{Activation, Coefficients, Form, NetworkError, chebyshev_relu};

/// Form of the activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActivationKind {
    /// `max(x, 0)`: the cleartext baseline, which cannot be exported.
    Relu,
    /// `c + b x + a x^2` with trained coefficients.
    Polyact,
    /// `x^2`, nothing to train.
    Square,
    /// The Chebyshev interpolation of ReLU on the interval, nothing to train.
    ChebyshevRelu,
}

/// Who shares one set of trained coefficients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sharing {
    /// The whole network: one set.
    Network,
    /// Each layer has its set.
    Layer,
    /// Each channel of each layer has its set.
    Channel,
}

/// `[classifier.activation]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ActivationConfig {
    /// Form.
    pub kind: ActivationKind,
    /// Who shares the coefficients (of `polyact`; and of the gates).
    pub sharing: Sharing,
    /// Coefficients that `polyact` starts from, ascending powers `[c, b, a]`.
    ///
    /// The default `0.25 + 0.5 x + 0.12 x^2` is close to ReLU on `[-4, 4]`; `[0, 1, 0]` is the identity.
    pub initial: [f64; 3],
    /// Degree of `chebyshev-relu`, 2 to 12.
    pub degree: usize,
    /// The activations are meant for `[-interval, interval]`: training penalises what lies outside, and
    /// `chebyshev-relu` is fitted there.
    pub interval: f64,
}

impl Default for ActivationConfig {
    fn default() -> Self {
        Self {
            kind: ActivationKind::Polyact,
            sharing: Sharing::Layer,
            initial: [0.25, 0.5, 0.12],
            degree: 4,
            interval: 6.0,
        }
    }
}

/// Form of the gate of a squeeze-and-excitation block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GateKind {
    /// `1 / (1 + exp(-x))`: the cleartext baseline, which cannot be exported.
    Sigmoid,
    /// A cubic with trained coefficients.
    ApproxSigmoid,
}

/// `[classifier.gate]`: the gates of squeeze-and-excitation blocks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GateConfig {
    /// Form.
    pub kind: GateKind,
    /// Coefficients that `approx-sigmoid` starts from, ascending powers `[d, gamma, beta, alpha]`.
    ///
    /// The default `0.5 + 0.197 x - 0.004 x^3` is the usual fit of the sigmoid on `[-5, 5]`
    /// (Chen et al. 2018, "Logistic regression over encrypted data").
    pub initial: [f64; 4],
    /// The gates are meant for `[-interval, interval]`.
    pub interval: f64,
}

impl Default for GateConfig {
    fn default() -> Self {
        Self { kind: GateKind::ApproxSigmoid, initial: [0.5, 0.197, 0.0, -0.004], interval: 5.0 }
    }
}

impl ActivationConfig {
    /// The activation of the layer `name`; `sharing` says whose coefficients it reads.
    pub(super) fn of_layer(&self, name: &str, sharing: Sharing) -> Activation {
        let polynomial = |coefficients, divisor| Form::Polynomial { coefficients, divisor };
        let form = match self.kind {
            ActivationKind::Relu => Form::Relu,
            ActivationKind::Polyact => Form::Trained(sharing.coefficients(name, "activation", &self.initial)),
            ActivationKind::Square => polynomial(vec![0.0, 0.0, 1.0], 1.0),
            ActivationKind::ChebyshevRelu => {
                polynomial(chebyshev_relu(self.degree, self.interval), self.interval)
            }
        };
        Activation { form, interval: self.interval }
    }

    pub(super) fn check(&self) -> Result<(), NetworkError> {
        if !self.initial.iter().all(|c| c.is_finite()) {
            return refuse("activation.initial", "finite numbers", format!("{:?}", self.initial));
        }
        if !(2..=12).contains(&self.degree) {
            return refuse("activation.degree", "2 to 12", self.degree);
        }
        check_interval("activation.interval", self.interval)
    }
}

/// What tables call it, such as `polynomial of degree 2`.
impl fmt::Display for ActivationConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            ActivationKind::Relu => f.write_str("ReLU"),
            ActivationKind::Polyact => f.write_str("polynomial of degree 2"),
            ActivationKind::Square => f.write_str("square"),
            ActivationKind::ChebyshevRelu => write!(f, "Chebyshev ReLU of degree {}", self.degree),
        }
    }
}

impl GateConfig {
    /// The gate of the layer `name`; `sharing` says whose coefficients it reads.
    pub(super) fn of_layer(&self, name: &str, sharing: Sharing) -> Activation {
        let form = match self.kind {
            GateKind::Sigmoid => Form::Sigmoid,
            GateKind::ApproxSigmoid => Form::Trained(sharing.coefficients(name, "gate", &self.initial)),
        };
        Activation { form, interval: self.interval }
    }

    pub(super) fn check(&self) -> Result<(), NetworkError> {
        if !self.initial.iter().all(|c| c.is_finite()) {
            return refuse("gate.initial", "finite numbers", format!("{:?}", self.initial));
        }
        check_interval("gate.interval", self.interval)
    }
}

/// What tables call it, such as `cubic gate`.
impl fmt::Display for GateConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            GateKind::Sigmoid => "sigmoid gate",
            GateKind::ApproxSigmoid => "cubic gate",
        })
    }
}

impl Sharing {
    /// The coefficients of the layer `name`, or those that all layers read under the name `network`.
    fn coefficients(self, name: &str, network: &str, initial: &[f64]) -> Coefficients {
        let owner = if self == Self::Network { network } else { name }.to_owned();
        Coefficients { owner, per_channel: self == Self::Channel, initial: initial.to_vec() }
    }
}

fn check_interval(field: &'static str, interval: f64) -> Result<(), NetworkError> {
    if interval.is_finite() && interval > 0.0 {
        Ok(())
    } else {
        refuse(field, "a finite number above 0", interval)
    }
}
