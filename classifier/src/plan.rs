//! The layers that a [`ClassifierConfig`] stands for, as plain data.
//!
//! Whoever builds a network from a config (the Burn module here, the graph builder of the exporter) walks this
//! plan, so that the architectures are written down once. Names are those of the checkpoint's tensors.

use crate::{Architecture, ClassifierConfig, ClassifierError, Padding, Sharing};

/// A convolution, followed by a batch norm if `batch_norm`; it has a bias exactly when it has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConvPlan {
    /// Name of the convolution, such as `layer1.0.conv1`.
    pub name: String,
    /// Name of its batch norm, such as `layer1.0.bn1`.
    pub batch_norm: Option<String>,
    /// Channels it reads.
    pub in_channels: usize,
    /// Channels it makes.
    pub out_channels: usize,
    /// Side of the window.
    pub kernel: usize,
    /// Step of the window.
    pub stride: usize,
    /// Zeros around the image.
    pub padding: usize,
    /// Groups of channels that do not see each other.
    pub groups: usize,
}

/// An activation on `channels` channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActivationPlan {
    /// Name, such as `layer1.0.act1`.
    pub name: String,
    /// Channels it reads.
    pub channels: usize,
    /// Who shares its trained coefficients.
    pub sharing: Sharing,
}

/// Squeeze and excitation: mean, `squeeze`, activation, `excite`, gate, product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SePlan {
    /// Name, such as `layer1.0.se`.
    pub name: String,
    /// Channels that are gated.
    pub channels: usize,
    /// Width of the hidden layer.
    pub hidden: usize,
    /// Activation of the hidden layer.
    pub act: ActivationPlan,
    /// The gate.
    pub gate: ActivationPlan,
}

/// Convolution, squeeze and excitation, activation (or these two the other way round), pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagePlan {
    /// The convolution and its batch norm.
    pub conv: ConvPlan,
    /// Squeeze and excitation.
    pub se: Option<SePlan>,
    /// Squeeze and excitation comes after the activation.
    pub se_after_activation: bool,
    /// The activation.
    pub act: ActivationPlan,
    /// Side and step of the mean pool after it.
    pub pool: Option<usize>,
}

/// A residual block: `shortcut(x) + gain se(conv2(act1(conv1(x))))`, then `act2`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockPlan {
    /// Name, such as `layer1.0`.
    pub name: String,
    /// First convolution.
    pub conv1: ConvPlan,
    /// Activation between the two.
    pub act1: ActivationPlan,
    /// Second convolution.
    pub conv2: ConvPlan,
    /// Squeeze and excitation.
    pub se: Option<SePlan>,
    /// 1x1 convolution of the shortcut, where the shape changes.
    pub shortcut: Option<ConvPlan>,
    /// Activation after the sum.
    pub act2: Option<ActivationPlan>,
}

/// A fully connected layer with an activation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HiddenPlan {
    /// Inputs.
    pub inputs: usize,
    /// Outputs.
    pub outputs: usize,
    /// Activation.
    pub act: ActivationPlan,
}

/// The whole network: `features`, then `layers`, a pool over all positions, `hidden`, and the last layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Plain stages; for a ResNet only its stem.
    pub features: Vec<StagePlan>,
    /// The stages of a ResNet.
    pub layers: Vec<Vec<BlockPlan>>,
    /// Mean over all positions before the fully connected layers; else they read all positions.
    pub global_pool: bool,
    /// A hidden layer.
    pub hidden: Option<HiddenPlan>,
    /// Inputs of the last layer, `head`.
    pub head_inputs: usize,
    /// Labels.
    pub labels: usize,
}

impl Plan {
    /// Names of all activations in the order in which they run; gates come under their own name.
    #[must_use]
    pub fn activation_names(&self) -> Vec<String> {
        let mut names = vec![];
        let se = |names: &mut Vec<String>, se: &Option<SePlan>| {
            if let Some(se) = se {
                names.push(se.act.name.clone());
                names.push(se.gate.name.clone());
            }
        };
        for stage in &self.features {
            if stage.se_after_activation {
                names.push(stage.act.name.clone());
                se(&mut names, &stage.se);
            } else {
                se(&mut names, &stage.se);
                names.push(stage.act.name.clone());
            }
        }
        for block in self.layers.iter().flatten() {
            names.push(block.act1.name.clone());
            se(&mut names, &block.se);
            names.extend(block.act2.iter().map(|a| a.name.clone()));
        }
        names.extend(self.hidden.iter().map(|h| h.act.name.clone()));
        names
    }

    pub(crate) fn build(config: &ClassifierConfig) -> Result<Self, ClassifierError> {
        let mut builder = Builder { config, side: [config.latent[1], config.latent[2]] };
        match config.architecture {
            Architecture::LeNet => builder.lenet(),
            Architecture::VggNet => builder.vggnet(),
            Architecture::HefNet => builder.hefnet(),
            a => builder.resnet(a.blocks().unwrap_or(3)),
        }
    }
}

pub(crate) fn check_width(config: &ClassifierConfig) -> Result<(), ClassifierError> {
    let smallest = match config.architecture {
        // Eight groups must still divide the first 32 (64 for HefNet) channels, four LeNet's 32.
        Architecture::LeNet | Architecture::HefNet => 8,
        Architecture::VggNet => 4,
        _ => 16,
    };
    let d = config.width_divisor;
    if d == 0 || d > smallest || !d.is_power_of_two() {
        return Err(ClassifierError::Field {
            field: "width_divisor",
            expected: format!("a power of two, 1 to {smallest} for {}", config.architecture.name()),
            got: d.to_string(),
        });
    }
    Ok(())
}

struct Builder<'a> {
    config: &'a ClassifierConfig,
    side: [usize; 2],
}

impl Builder<'_> {
    fn width(&self, stage: usize) -> usize {
        self.config.architecture.widths()[stage] / self.config.width_divisor
    }

    fn act(&self, name: String, channels: usize) -> ActivationPlan {
        ActivationPlan { name, channels, sharing: self.config.activation.sharing }
    }

    fn se(&self, owner: &str, channels: usize) -> Option<SePlan> {
        let name = format!("{owner}.se");
        let hidden = (channels / self.config.se_reduction).max(1);
        let sharing = self.config.sharing_in_se();
        let act = ActivationPlan { name: format!("{name}.act"), channels: hidden, sharing };
        let gate = ActivationPlan { name: format!("{name}.gate"), channels, sharing };
        self.config.se.then_some(SePlan { name, channels, hidden, act, gate })
    }

    /// Follows a window over the image.
    fn window(
        &mut self,
        layer: &str,
        kernel: usize,
        stride: usize,
        pad: usize,
    ) -> Result<(), ClassifierError> {
        let [height, width] = self.side;
        if height + 2 * pad < kernel || width + 2 * pad < kernel {
            return Err(ClassifierError::TooSmall { layer: layer.to_owned(), height, width, window: kernel });
        }
        self.side = self.side.map(|n| (n + 2 * pad - kernel) / stride + 1);
        Ok(())
    }

    fn stage(
        &mut self,
        name: &str,
        [in_channels, out_channels]: [usize; 2],
        [kernel, padding, groups]: [usize; 3],
        se: bool,
        pool: Option<usize>,
    ) -> Result<StagePlan, ClassifierError> {
        self.window(name, kernel, 1, padding)?;
        if let Some(p) = pool {
            self.window(&format!("{name}.pool"), p, p, 0)?;
        }
        Ok(StagePlan {
            conv: ConvPlan {
                name: format!("{name}.conv"),
                batch_norm: self.config.has_batch_norm().then(|| format!("{name}.bn")),
                in_channels,
                out_channels,
                kernel,
                stride: 1,
                padding,
                groups,
            },
            se: if se { self.se(name, out_channels) } else { None },
            se_after_activation: se && self.config.se_after_activation,
            act: self.act(format!("{name}.act"), out_channels),
            pool,
        })
    }

    fn padding(&self, kernel: usize) -> usize {
        if self.config.padding == Padding::Same { kernel / 2 } else { 0 }
    }

    fn lenet(&mut self) -> Result<Plan, ClassifierError> {
        let [a, b, c] = [0, 1, 2].map(|i| self.width(i));
        let pad = self.padding(5);
        let features = vec![
            self.stage("features.0", [self.config.latent[0], a], [5, pad, 1], false, Some(2))?,
            self.stage("features.1", [a, b], [5, pad, 4], false, Some(2))?,
            self.stage("features.2", [b, c], [5, pad, 1], true, None)?,
        ];
        let outputs = c / 2;
        let act = self.act("hidden.act".into(), outputs);
        Ok(Plan {
            features,
            layers: vec![],
            global_pool: true,
            hidden: Some(HiddenPlan { inputs: c, outputs, act }),
            head_inputs: outputs,
            labels: self.config.labels,
        })
    }

    fn vggnet(&mut self) -> Result<Plan, ClassifierError> {
        let [a, b, c, d] = [0, 1, 2, 3].map(|i| self.width(i));
        let features = vec![
            self.stage("features.0", [self.config.latent[0], a], [3, 1, 1], false, Some(2))?,
            self.stage("features.1", [a, b], [3, 1, 8], false, Some(2))?,
            self.stage("features.2", [b, c], [3, 1, 8], false, Some(2))?,
            self.stage("features.3", [c, d], [3, 1, 8], true, Some(2))?,
        ];
        Ok(self.flat(features, d))
    }

    fn hefnet(&mut self) -> Result<Plan, ClassifierError> {
        let [a, b, c, d] = [0, 1, 2, 3].map(|i| self.width(i));
        let pad = self.padding(3);
        // The authors' network of 16x16 latents has a 1x1 convolution here, for want of positions.
        let small = self.config.padding == Padding::Valid && self.config.latent[1] == 16;
        let last = if small { 1 } else { 3 };
        let features = vec![
            self.stage("features.0", [self.config.latent[0], a], [3, pad, 1], false, None)?,
            self.stage("features.1", [a, b], [3, pad, 8], false, Some(2))?,
            self.stage("features.2", [b, c], [3, pad, 8], false, Some(2))?,
            self.stage("features.3", [c, d], [last, pad, 8], true, Some(2))?,
        ];
        Ok(self.flat(features, d))
    }

    fn flat(&self, features: Vec<StagePlan>, channels: usize) -> Plan {
        Plan {
            features,
            layers: vec![],
            global_pool: false,
            hidden: None,
            head_inputs: channels * self.side[0] * self.side[1],
            labels: self.config.labels,
        }
    }

    fn resnet(&mut self, blocks: usize) -> Result<Plan, ClassifierError> {
        let mut channels = self.width(0);
        let stem = self.stage("stem", [self.config.latent[0], channels], [3, 1, 1], false, None)?;
        let mut layers = vec![];
        for stage in 0..3 {
            let width = self.width(stage);
            let mut layer = vec![];
            for i in 0..blocks {
                let stride = if stage > 0 && i == 0 { 2 } else { 1 };
                layer.push(self.block(format!("layer{}.{i}", stage + 1), [channels, width], stride)?);
                channels = width;
            }
            layers.push(layer);
        }
        Ok(Plan {
            features: vec![stem],
            layers,
            global_pool: true,
            hidden: None,
            head_inputs: channels,
            labels: self.config.labels,
        })
    }

    fn block(
        &mut self,
        name: String,
        [i, o]: [usize; 2],
        stride: usize,
    ) -> Result<BlockPlan, ClassifierError> {
        let with_norm = self.config.has_batch_norm();
        let conv =
            |short: &str, norm: &str, [in_channels, out_channels]: [usize; 2], kernel, stride| ConvPlan {
                name: format!("{name}.{short}"),
                batch_norm: with_norm.then(|| format!("{name}.{norm}")),
                in_channels,
                out_channels,
                kernel,
                stride,
                padding: kernel / 2,
                groups: 1,
            };
        let conv1 = conv("conv1", "bn1", [i, o], 3, stride);
        let conv2 = conv("conv2", "bn2", [o, o], 3, 1);
        let shortcut =
            (stride != 1 || i != o).then(|| conv("shortcut.conv", "shortcut.bn", [i, o], 1, stride));
        self.window(&conv1.name, 3, stride, 1)?;
        Ok(BlockPlan {
            act1: self.act(format!("{name}.act1"), o),
            se: self.se(&name, o),
            act2: self.config.post_add_activation.then(|| self.act(format!("{name}.act2"), o)),
            name,
            conv1,
            conv2,
            shortcut,
        })
    }
}
