//! [`ClassifierConfig`]: everything that decides the shape of a classifier, checked before anything is built.
//!
//! The config travels inside every checkpoint. Unknown fields are refused, and every field but
//! the architecture, the latent and the number of labels has a default.

use serde::{Deserialize, Serialize};

use crate::{ClassifierError, plan};

/// The networks. All of them read a latent `[channels, height, width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// Three 5x5 convolutions, global pooling, a hidden layer of 64.
    LeNet,
    /// Four 3x3 convolutions, each followed by a pool of 2.
    VggNet,
    /// Four 3x3 convolutions with batch norm, three pools of 2.
    HefNet,
    /// Residual network, 3 blocks a stage.
    ResNet20,
    /// Residual network, 5 blocks a stage.
    ResNet32,
    /// Residual network, 7 blocks a stage.
    ResNet44,
    /// Residual network, 9 blocks a stage.
    ResNet56,
}

impl Architecture {
    /// Every architecture, in the order of its size.
    pub const ALL: [Self; 7] = [
        Self::LeNet,
        Self::VggNet,
        Self::HefNet,
        Self::ResNet20,
        Self::ResNet32,
        Self::ResNet44,
        Self::ResNet56,
    ];

    /// Residual blocks in each of the three stages; `None` for a network without them.
    #[must_use]
    pub const fn blocks(self) -> Option<usize> {
        match self {
            Self::LeNet | Self::VggNet | Self::HefNet => None,
            Self::ResNet20 => Some(3),
            Self::ResNet32 => Some(5),
            Self::ResNet44 => Some(7),
            Self::ResNet56 => Some(9),
        }
    }

    /// Published channel counts, one per stage; `width_divisor` divides them.
    #[must_use]
    pub const fn widths(self) -> &'static [usize] {
        match self {
            Self::LeNet => &[32, 64, 128],
            Self::VggNet => &[32, 64, 128, 256],
            Self::HefNet => &[64, 128, 256, 256],
            Self::ResNet20 | Self::ResNet32 | Self::ResNet44 | Self::ResNet56 => &[16, 32, 64],
        }
    }

    /// The name that configs use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LeNet => "lenet",
            Self::VggNet => "vggnet",
            Self::HefNet => "hefnet",
            Self::ResNet20 => "resnet20",
            Self::ResNet32 => "resnet32",
            Self::ResNet44 => "resnet44",
            Self::ResNet56 => "resnet56",
        }
    }
}

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
        let usual = !matches!(self.architecture, Architecture::LeNet | Architecture::VggNet);
        self.batch_norm.unwrap_or(usual)
    }

    /// Who shares the coefficients inside squeeze-and-excitation blocks.
    #[must_use]
    pub fn sharing_in_se(&self) -> Sharing {
        self.se_sharing.unwrap_or(self.activation.sharing)
    }

    /// True if nothing but additions and multiplications is left, so that the network can be exported.
    #[must_use]
    pub fn is_polynomial(&self) -> bool {
        self.activation.kind != ActivationKind::Relu && (!self.se || self.gate.kind != GateKind::Sigmoid)
    }

    /// Checks every field.
    ///
    /// # Errors
    /// The first field that is wrong, with what was expected.
    pub fn validate(&self) -> Result<(), ClassifierError> {
        let refuse = |field: &'static str, expected: String, got: String| {
            Err(ClassifierError::Field { field, expected, got })
        };
        let [channels, height, width] = self.latent;
        if !(1..=64).contains(&channels) || !(1..=512).contains(&height) || !(1..=512).contains(&width) {
            let expected = "1 to 64 channels and sides of 1 to 512".to_owned();
            return refuse("latent", expected, format!("{:?}", self.latent));
        }
        if !(1..=1024).contains(&self.labels) {
            return refuse("labels", "1 to 1024".into(), self.labels.to_string());
        }
        if self.se_reduction == 0 {
            return refuse("se_reduction", "at least 1".into(), "0".into());
        }
        if self.se_after_activation && self.architecture.blocks().is_some() {
            let expected =
                format!("false for {}, whose blocks have no activation there", self.architecture.name());
            return refuse("se_after_activation", expected, "true".into());
        }
        if !(self.residual_gain.is_finite() && self.residual_gain > 0.0 && self.residual_gain <= 10.0) {
            let got = self.residual_gain.to_string();
            return refuse("residual_gain", "a number above 0, at most 10".into(), got);
        }
        if !self.activation.initial.iter().all(|c| c.is_finite()) {
            let got = format!("{:?}", self.activation.initial);
            return refuse("activation.initial", "finite numbers".into(), got);
        }
        if !(2..=12).contains(&self.activation.degree) {
            return refuse("activation.degree", "2 to 12".into(), self.activation.degree.to_string());
        }
        if !self.gate.initial.iter().all(|c| c.is_finite()) {
            let got = format!("{:?}", self.gate.initial);
            return refuse("gate.initial", "finite numbers".into(), got);
        }
        for (field, r) in
            [("activation.interval", self.activation.interval), ("gate.interval", self.gate.interval)]
        {
            if !(r.is_finite() && r > 0.0) {
                return refuse(field, "a finite number above 0".into(), r.to_string());
            }
        }
        plan::check_width(self)?;
        plan::Plan::build(self).map(|_| ())
    }

    /// The layers that this config stands for.
    ///
    /// # Errors
    /// As [`ClassifierConfig::validate`].
    pub fn plan(&self) -> Result<plan::Plan, ClassifierError> {
        self.validate()?;
        plan::Plan::build(self)
    }
}
