//! [`ClassifierConfig`]: everything that decides the shape of a classifier, checked before anything is built.
//!
//! The config travels inside every checkpoint. Unknown fields are refused, and every field but
//! the architecture, the latent and the number of labels has a default.

mod activation;
mod architecture;
mod builder;

use serde::{Deserialize, Serialize};

pub use activation::{ActivationConfig, ActivationKind, GateConfig, GateKind, Sharing};
pub use architecture::Architecture;

use crate::{Network, NetworkError};

/// Zeros around the image in the convolutions of LeNet and HefNet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Padding {
    /// As many as keep the side: works on latents of every size.
    Same,
    /// None, as in the authors' code: a 5x5 convolution takes 4 from the side.
    Valid,
}

/// Everything that decides the shape of a classifier.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassifierConfig {
    /// The network.
    pub architecture: Architecture,
    /// Shape of the latent, `[channels, height, width]`.
    pub latent: [usize; 3],
    /// Number of labels, one logit each.
    pub labels: usize,
    /// Squeeze-and-excitation blocks.
    #[serde(default)]
    pub se: bool,
    /// Channels over the channels of a squeeze-and-excitation block's hidden layer (at least 1 is kept).
    #[serde(default = "default_se_reduction")]
    pub se_reduction: usize,
    /// Squeeze and excitation after the last activation instead of before it, as in the authors' VGGNet; not for ResNets,
    /// whose blocks have no activation there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub se_after_activation: bool,
    /// Who shares the coefficients inside squeeze-and-excitation blocks, of the hidden activation and of the gate;
    /// left out, as `activation.sharing` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub se_sharing: Option<Sharing>,
    /// ResNets: an activation after each sum, as in He et al. 2016 (one level more a block).
    #[serde(default)]
    pub post_add_activation: bool,
    /// ResNets: factor of the residual arm before the sum, `x + gain f(x)`.
    ///
    /// Below 1 it keeps sums of polynomials in range: 0.3 trains as steadily as a ReLU network.
    #[serde(default = "default_residual_gain")]
    pub residual_gain: f64,
    /// All channel counts are divided by this, for small demonstrations. 1 is the published size.
    #[serde(default = "default_width_divisor")]
    pub width_divisor: usize,
    /// Batch norm after each convolution; by default only HefNet and the ResNets have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_norm: Option<bool>,
    /// Zeros around the image in LeNet and HefNet.
    #[serde(default = "default_padding")]
    pub padding: Padding,
    /// Activations.
    #[serde(default)]
    pub activation: ActivationConfig,
    /// Gates of the squeeze-and-excitation blocks.
    #[serde(default)]
    pub gate: GateConfig,
}

fn default_se_reduction() -> usize {
    16
}

fn default_residual_gain() -> f64 {
    0.3
}

fn default_width_divisor() -> usize {
    1
}

fn default_padding() -> Padding {
    Padding::Same
}

impl ClassifierConfig {
    /// A network with default settings.
    #[must_use]
    pub fn new(architecture: Architecture, latent: [usize; 3], labels: usize) -> Self {
        Self {
            architecture,
            latent,
            labels,
            se: false,
            se_reduction: default_se_reduction(),
            se_after_activation: false,
            se_sharing: None,
            post_add_activation: false,
            residual_gain: default_residual_gain(),
            width_divisor: default_width_divisor(),
            batch_norm: None,
            padding: default_padding(),
            activation: ActivationConfig::default(),
            gate: GateConfig::default(),
        }
    }

    /// True if every convolution is followed by a batch norm.
    #[must_use]
    pub fn has_batch_norm(&self) -> bool {
        self.batch_norm.unwrap_or(self.architecture.has_batch_norm())
    }

    /// Who shares the coefficients inside squeeze-and-excitation blocks.
    #[must_use]
    pub fn sharing_in_se(&self) -> Sharing {
        self.se_sharing.unwrap_or(self.activation.sharing)
    }

    /// True if nothing but additions and multiplications is left, so that the network can be exported.
    #[must_use]
    pub fn is_polynomial(&self) -> bool {
        let hidden = self.activation.of_layer("act", self.activation.sharing);
        let gate = self.gate.of_layer("gate", self.sharing_in_se());
        hidden.form.is_polynomial() && (!self.se || gate.form.is_polynomial())
    }

    /// Checks every field and the network that they stand for.
    ///
    /// # Errors
    /// The first field that is wrong, with what was expected, or a latent that is too small.
    pub fn validate(&self) -> Result<(), NetworkError> {
        self.network().map(drop)
    }

    /// The network that this config stands for.
    ///
    /// # Errors
    /// As [`ClassifierConfig::validate`].
    pub fn network(&self) -> Result<Network, NetworkError> {
        self.check_sizes()?;
        self.architecture.check(self)?;
        self.activation.check()?;
        self.gate.check()?;
        Network::new(builder::layers(self))
    }

    fn check_sizes(&self) -> Result<(), NetworkError> {
        let [channels, height, width] = self.latent;
        if !(1..=64).contains(&channels) || !(1..=512).contains(&height) || !(1..=512).contains(&width) {
            return refuse("latent", "1 to 64 channels and sides of 1 to 512", format!("{:?}", self.latent));
        }
        if !(1..=1024).contains(&self.labels) {
            return refuse("labels", "1 to 1024", self.labels);
        }
        if self.se_reduction == 0 {
            return refuse("se_reduction", "at least 1", 0);
        }
        if !(self.residual_gain.is_finite() && self.residual_gain > 0.0 && self.residual_gain <= 10.0) {
            return refuse("residual_gain", "a number above 0, at most 10", self.residual_gain);
        }
        Ok(())
    }
}

/// Refuses the value `got` of a field.
fn refuse(field: &'static str, expected: impl Into<String>, got: impl ToString) -> Result<(), NetworkError> {
    Err(NetworkError::Field { field, expected: expected.into(), got: got.to_string() })
}
