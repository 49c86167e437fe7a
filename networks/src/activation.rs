//! [`Activation`]: how each value of a tensor is mapped, and the interval that this is meant for.

use serde::{Deserialize, Serialize};

/// An activation of every value of a tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Activation {
    /// What is computed.
    pub form: Form,
    /// It is meant for `[-interval, interval]`: training penalises what lies outside.
    pub interval: f64,
}

/// What an activation computes of a value `x`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Form {
    /// `max(x, 0)`: clear text only.
    Relu,
    /// `1 / (1 + exp(-x))`: clear text only.
    Sigmoid,
    /// `sum_k coefficients[k] (x / divisor)^k`, nothing to train.
    Polynomial {
        /// Ascending powers.
        coefficients: Vec<f64>,
        /// What `x` is divided by.
        divisor: f64,
    },
    /// `sum_k c_k x^k` with coefficients that training finds.
    Trained(Coefficients),
}

/// Trained coefficients of one activation, or of several that name the same owner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Coefficients {
    /// The tensor is `{owner}.coefficients`: the layer's own name, or one that layers share.
    pub owner: String,
    /// One polynomial for each channel; else one for all.
    pub per_channel: bool,
    /// What training starts from, ascending powers.
    pub initial: Vec<f64>,
}

impl Coefficients {
    /// Name of the tensor, `[1 or channels, terms]`, ascending powers.
    #[must_use]
    pub fn tensor(&self) -> String {
        format!("{}.coefficients", self.owner)
    }
}

impl Form {
    /// Its name, as configs and messages say it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Relu => "relu",
            Self::Sigmoid => "sigmoid",
            Self::Polynomial { .. } => "polynomial",
            Self::Trained(_) => "trained polynomial",
        }
    }

    /// Ascending powers of `x` itself: those that training starts from, or the fixed ones; none where it is no polynomial.
    #[must_use]
    pub fn coefficients(&self) -> Vec<f64> {
        match self {
            Self::Relu | Self::Sigmoid => vec![],
            Self::Trained(trained) => trained.initial.clone(),
            Self::Polynomial { coefficients, divisor } => {
                let mut power = 1.0;
                let undivided = coefficients.iter().map(|c| {
                    let undivided = c * power;
                    power /= divisor;
                    undivided
                });
                undivided.collect()
            }
        }
    }

    /// True if it is made of additions and multiplications, so that ciphertexts can have it.
    #[must_use]
    pub fn is_polynomial(&self) -> bool {
        matches!(self, Self::Polynomial { .. } | Self::Trained(_))
    }
}
