//! The architectures: what each is called, and the function that writes its layers down.
//!
//! A new one is a variant with its name, its facts, and a function of a [`Builder`], all in this file.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{ClassifierConfig, Padding, builder::Builder, refuse};
use crate::NetworkError;

/// The networks. All of them read a latent `[channels, height, width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Architecture {
    /// Three 5x5 convolutions, global pooling, a hidden layer of 64.
    LeNet,
    /// Four 3x3 convolutions, each followed by a pool of 2.
    VggNet,
    /// Four 3x3 convolutions with batch norm, three pools of 2.
    HefNet,
    /// A residual network of `6 n + 2` layers, `n` blocks in each of its three stages: 20, 32, 44 and 56 are published.
    ResNet(usize),
}

/// What is said of an architecture besides its layers.
struct Facts {
    /// Published channel counts, one a stage.
    widths: &'static [usize],
    /// The largest divisor of the widths: groups must still divide channels.
    largest_divisor: usize,
    /// Convolutions are followed by batch norms unless the config says otherwise.
    batch_norm: bool,
    /// Writes the layers down.
    layers: fn(&mut Builder<'_>),
}

/// The deepest residual network, that of He et al. 2016.
const DEEPEST: usize = 110;

impl Architecture {
    /// Every published architecture, in the order of its size.
    pub const ALL: [Self; 7] = [
        Self::LeNet,
        Self::VggNet,
        Self::HefNet,
        Self::ResNet(20),
        Self::ResNet(32),
        Self::ResNet(44),
        Self::ResNet(56),
    ];

    fn facts(self) -> Facts {
        match self {
            Self::LeNet => {
                Facts { widths: &[32, 64, 128], largest_divisor: 8, batch_norm: false, layers: lenet }
            }
            Self::VggNet => {
                Facts { widths: &[32, 64, 128, 256], largest_divisor: 4, batch_norm: false, layers: vggnet }
            }
            Self::HefNet => {
                Facts { widths: &[64, 128, 256, 256], largest_divisor: 8, batch_norm: true, layers: hefnet }
            }
            Self::ResNet(_) => {
                Facts { widths: &[16, 32, 64], largest_divisor: 16, batch_norm: true, layers: resnet }
            }
        }
    }

    /// The name that configs use, such as `resnet20`.
    #[must_use]
    pub fn name(self) -> String {
        self.title().to_lowercase()
    }

    /// The published name, such as `ResNet20`.
    #[must_use]
    pub fn title(self) -> String {
        match self {
            Self::LeNet => "LeNet".into(),
            Self::VggNet => "VGGNet".into(),
            Self::HefNet => "HefNet".into(),
            Self::ResNet(depth) => format!("ResNet{depth}"),
        }
    }

    /// Residual blocks in each of the three stages; `None` for a network without them.
    #[must_use]
    pub const fn blocks(self) -> Option<usize> {
        match self {
            Self::LeNet | Self::VggNet | Self::HefNet => None,
            Self::ResNet(depth) => Some(depth.saturating_sub(2) / 6),
        }
    }

    /// Published channel counts, one a stage; `width_divisor` divides them.
    #[must_use]
    pub fn widths(self) -> &'static [usize] {
        self.facts().widths
    }

    /// True if its convolutions are followed by batch norms unless the config says otherwise.
    pub(super) fn has_batch_norm(self) -> bool {
        self.facts().batch_norm
    }

    /// Refuses fields of the config that this architecture cannot have.
    pub(super) fn check(self, config: &ClassifierConfig) -> Result<(), NetworkError> {
        if let Self::ResNet(depth) = self
            && !(8..=DEEPEST).contains(&depth) | (depth % 6 != 2)
        {
            return refuse("architecture", format!("resnet with 6 n + 2 layers, 8 to {DEEPEST}"), self);
        }
        if config.se_after_activation && self.blocks().is_some() {
            return refuse(
                "se_after_activation",
                format!("false for {self}, whose blocks have no activation there"),
                true,
            );
        }
        let (largest, divisor) = (self.facts().largest_divisor, config.width_divisor);
        if divisor == 0 || divisor > largest || !divisor.is_power_of_two() {
            return refuse("width_divisor", format!("a power of two, 1 to {largest} for {self}"), divisor);
        }
        Ok(())
    }

    /// Writes the layers down.
    pub(super) fn layers(self, builder: &mut Builder<'_>) {
        (self.facts().layers)(builder);
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl From<Architecture> for String {
    fn from(architecture: Architecture) -> Self {
        architecture.name()
    }
}

impl TryFrom<String> for Architecture {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        name.parse()
    }
}

/// By the name that configs use.
impl FromStr for Architecture {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let depth = name.strip_prefix("resnet").and_then(|depth| depth.parse().ok());
        let residual = depth.map(Self::ResNet).filter(|found| {
            found.name() == name
                && matches!(found, Self::ResNet(8..=DEEPEST))
                && depth.is_some_and(|d| d % 6 == 2)
        });
        Self::ALL.into_iter().find(|known| known.name() == name).or(residual).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            format!("there is no architecture {name:?}; there are {known}")
        })
    }
}

/// LeCun et al. 1998, as the paper widens it.
fn lenet(b: &mut Builder<'_>) {
    let pad = b.padding(5);
    b.stage("features.0", [5, pad, 1], Some(2));
    b.stage("features.1", [5, pad, 4], Some(2));
    b.gated_stage("features.2", [5, pad, 1], None);
    b.mean("pool");
    let outputs = b.width(2) / 2;
    b.linear("hidden.linear", outputs);
    b.activation("hidden.act");
    b.linear("head", b.config.labels);
}

/// Four grouped convolutions in the manner of Simonyan and Zisserman 2015, and all positions of the last to the head.
fn vggnet(b: &mut Builder<'_>) {
    b.stage("features.0", [3, 1, 1], Some(2));
    b.stage("features.1", [3, 1, 8], Some(2));
    b.stage("features.2", [3, 1, 8], Some(2));
    b.gated_stage("features.3", [3, 1, 8], Some(2));
    b.linear("head", b.config.labels);
}

/// The paper's own: wider than VGGNet, with batch norms.
fn hefnet(b: &mut Builder<'_>) {
    let pad = b.padding(3);
    // The authors' network of 16x16 latents has a 1x1 convolution here, for want of positions.
    let small = b.config.padding == Padding::Valid && b.config.latent[1] == 16;
    let last = if small { 1 } else { 3 };
    b.stage("features.0", [3, pad, 1], None);
    b.stage("features.1", [3, pad, 8], Some(2));
    b.stage("features.2", [3, pad, 8], Some(2));
    b.gated_stage("features.3", [last, pad, 8], Some(2));
    b.linear("head", b.config.labels);
}

/// He et al. 2016, section 4.2: a stem and three stages, of which the second and the third halve the sides.
fn resnet(b: &mut Builder<'_>) {
    let blocks = b.config.architecture.blocks().unwrap_or_default();
    b.stage("stem", [3, 1, 1], None);
    for stage in 0..3 {
        for block in 0..blocks {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            b.block(&format!("layer{}.{block}", stage + 1), b.width(stage), stride);
        }
    }
    b.mean("pool");
    b.linear("head", b.config.labels);
}
