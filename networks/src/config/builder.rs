//! [`Builder`]: the pieces that architectures are made of, as lists of layers.

use super::{ClassifierConfig, Padding};
use crate::{AvgPool, Conv2d, Layer, NetworkLiteral, Op, Shape, network::INPUT};

/// The layers of the config's architecture.
pub(super) fn layers(config: &ClassifierConfig) -> NetworkLiteral {
    let [channels, height, width] = config.latent;
    let mut builder = Builder { config, layers: vec![], channels, stages: 0 };
    config.architecture.layers(&mut builder);
    NetworkLiteral {
        name: config.architecture.name(),
        input: Shape::new(channels, height, width),
        layers: builder.layers,
    }
}

/// Writes layers down one after the other.
pub(super) struct Builder<'a> {
    pub(super) config: &'a ClassifierConfig,
    layers: Vec<Layer>,
    /// Channels of the last layer.
    channels: usize,
    /// Plain stages so far: the next one's place among the widths.
    stages: usize,
}

impl Builder<'_> {
    /// Channels of a stage.
    pub(super) fn width(&self, stage: usize) -> usize {
        self.config.architecture.widths()[stage] / self.config.width_divisor
    }

    /// Zeros around the image for a kernel of this side.
    pub(super) fn padding(&self, kernel: usize) -> usize {
        if self.config.padding == Padding::Same { kernel / 2 } else { 0 }
    }

    /// A convolution `[kernel, padding, groups]`, the activation, a pool of means.
    pub(super) fn stage(&mut self, name: &str, window: [usize; 3], pool: Option<usize>) {
        self.convolution_of(name, window);
        self.activation(&format!("{name}.act"));
        self.pool(name, pool);
    }

    /// As [`Builder::stage`], with squeeze and excitation beside the activation where the config asks for it.
    pub(super) fn gated_stage(&mut self, name: &str, window: [usize; 3], pool: Option<usize>) {
        self.convolution_of(name, window);
        let (se, act) = (format!("{name}.se"), format!("{name}.act"));
        if self.config.se_after_activation {
            self.activation(&act);
            self.squeeze_excite(&se);
        } else {
            self.squeeze_excite(&se);
            self.activation(&act);
        }
        self.pool(name, pool);
    }

    /// Residual block, `act2(shortcut(x) + gain se(conv2(act1(conv1(x)))))`.
    pub(super) fn block(&mut self, name: &str, width: usize, stride: usize) {
        let (input, channels) = (self.last(), self.channels);
        let named = |part: &str| format!("{name}.{part}");
        self.convolution(&named("conv1"), &named("bn1"), square(3, stride, width));
        self.activation(&named("act1"));
        self.convolution(&named("conv2"), &named("bn2"), square(3, 1, width));
        self.squeeze_excite(&named("se"));
        if self.config.residual_gain != 1.0 {
            self.push(&named("gain"), Op::Scale { factor: self.config.residual_gain });
        }
        let arm = self.last();
        let mut straight = input.clone();
        if stride != 1 || channels != width {
            let place = self.layers.len();
            self.convolution(&named("shortcut.conv"), &named("shortcut.bn"), square(1, stride, width));
            self.layers[place].inputs = vec![input];
            straight = self.last();
        }
        self.push_of(&named("add"), Op::Add, vec![arm, straight]);
        if self.config.post_add_activation {
            self.activation(&named("act2"));
        }
    }

    /// The mean over all positions.
    pub(super) fn mean(&mut self, name: &str) {
        self.push(name, Op::GlobalAvgPool);
    }

    /// A fully connected layer.
    pub(super) fn linear(&mut self, name: &str, outputs: usize) {
        self.push(name, Op::Linear { outputs });
    }

    /// The config's activation.
    pub(super) fn activation(&mut self, name: &str) {
        let activation = self.config.activation.of_layer(name, self.config.activation.sharing);
        self.push(name, Op::Activation(activation));
    }

    /// Squeeze and excitation (Hu et al. 2018), if the config asks for it: each channel is multiplied by a gate that sees the
    /// means of all.
    fn squeeze_excite(&mut self, name: &str) {
        let config = self.config;
        if !config.se {
            return;
        }
        let (input, channels) = (self.last(), self.channels);
        let named = |part: &str| format!("{name}.{part}");
        self.mean(&named("mean"));
        self.linear(&named("squeeze"), (channels / config.se_reduction).max(1));
        let act = config.activation.of_layer(&named("act"), config.sharing_in_se());
        self.push(&named("act"), Op::Activation(act));
        self.linear(&named("excite"), channels);
        let gate = config.gate.of_layer(&named("gate"), config.sharing_in_se());
        self.push(&named("gate"), Op::Activation(gate));
        let gate = self.last();
        self.push_of(&named("product"), Op::ChannelMul, vec![input, gate]);
    }

    fn convolution_of(&mut self, name: &str, [kernel, padding, groups]: [usize; 3]) {
        let out_channels = self.width(self.stages);
        self.stages += 1;
        let conv = Conv2d { padding, groups, ..square(kernel, 1, out_channels) };
        self.convolution(&format!("{name}.conv"), &format!("{name}.bn"), conv);
    }

    /// A convolution, and a batch norm if the config asks for it, which takes the place of the bias.
    fn convolution(&mut self, name: &str, norm: &str, conv: Conv2d) {
        let normalized = self.config.has_batch_norm();
        self.channels = conv.out_channels;
        self.push(name, Op::Conv2d(Conv2d { bias: !normalized, ..conv }));
        if normalized {
            self.push(norm, Op::BatchNorm);
        }
    }

    fn pool(&mut self, stage: &str, side: Option<usize>) {
        if let Some(side) = side {
            self.push(&format!("{stage}.pool"), Op::AvgPool(AvgPool { kernel: side, stride: side }));
        }
    }

    /// Name of the last layer.
    fn last(&self) -> String {
        self.layers.last().map_or_else(|| INPUT.to_owned(), |layer| layer.name.clone())
    }

    fn push(&mut self, name: &str, op: Op) {
        self.push_of(name, op, vec![]);
    }

    fn push_of(&mut self, name: &str, op: Op, inputs: Vec<String>) {
        self.layers.push(Layer { name: name.to_owned(), op, inputs });
    }
}

/// A square kernel that keeps the side at a stride of 1.
fn square(kernel: usize, stride: usize, out_channels: usize) -> Conv2d {
    Conv2d { out_channels, kernel: [kernel; 2], stride, padding: kernel / 2, groups: 1, bias: true }
}
