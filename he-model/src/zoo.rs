//! Random, range-safe networks of every architecture: for benches and tests that need no training.
//!
//! Weights are drawn so that each layer keeps the variance of its input, activations are 0.1 x^2 + 0.6 x and residual
//! gains 0.3, which keeps values in range on any input.

use crate::GraphError;
use crate::graph::{AvgPool, Bias, Conv2d, Graph, GraphLiteral, Linear, NodeId, Op, Polynomial, Shape};

/// The architectures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// Three 5x5 convolutions.
    LeNet,
    /// Four 3x3 convolutions.
    VggNet,
    /// Four wide 3x3 convolutions.
    HefNet,
    /// A residual network of 6 n + 2 layers: 20, 32, 44 or 56.
    ResNet(usize),
}

impl Architecture {
    /// Its name, as in `ResNet20`.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::LeNet => "LeNet".into(),
            Self::VggNet => "VGGNet".into(),
            Self::HefNet => "HefNet".into(),
            Self::ResNet(n) => format!("ResNet{n}"),
        }
    }
}

/// What to draw.
#[derive(Debug, Clone, Copy)]
pub struct Recipe {
    /// The architecture.
    pub architecture: Architecture,
    /// Shape of the latent.
    pub input: Shape,
    /// Number of outputs.
    pub labels: usize,
    /// With squeeze-and-excitation gates.
    pub se: bool,
    /// With an activation after each residual sum.
    pub post_add_activation: bool,
    /// Channels are divided by this, for small tests.
    pub shrink: usize,
}

/// Draws a network; the same seed draws the same network.
///
/// # Errors
/// Never for the shapes of design; a latent that is too small for the architecture's pools.
pub fn random(recipe: &Recipe, seed: u64) -> Result<Graph, GraphError> {
    let mut b = Drawer { g: GraphLiteral::new(recipe.input), state: seed, channels: recipe.input.channels };
    let x = b.g.input();
    let n = |c: usize| (c / recipe.shrink.max(1)).max(1);
    let groups = |g: usize| (g / recipe.shrink.max(1)).max(1);
    let se = |b: &mut Drawer, name: &str, x: NodeId| if recipe.se { b.se(name, x) } else { x };
    let out = match recipe.architecture {
        Architecture::LeNet => {
            let x = b.conv("conv1", x, n(32), 5, 1, 1, 1.0);
            let x = b.act("act1", x);
            let x = b.pool("pool1", x);
            let x = b.conv("conv2", x, n(64), 5, 1, groups(4), 1.0);
            let x = b.act("act2", x);
            let x = b.pool("pool2", x);
            let x = b.conv("conv3", x, n(128), 5, 1, 1, 1.0);
            let x = se(&mut b, "se", x);
            let x = b.act("act3", x);
            let x = b.g.push("pool3", Op::GlobalAvgPool, &[x]);
            let x = b.linear("fc1", x, n(64));
            let x = b.act("act4", x);
            b.linear("fc2", x, recipe.labels)
        }
        Architecture::VggNet | Architecture::HefNet => {
            let vgg = recipe.architecture == Architecture::VggNet;
            let widths = if vgg { [32, 64, 128, 256] } else { [64, 128, 256, 256] };
            let mut x = x;
            for (i, width) in widths.into_iter().enumerate() {
                let i = i + 1;
                let g = if i == 1 { 1 } else { groups(8) };
                x = b.conv(&format!("conv{i}"), x, n(width), 3, 1, g, 1.0);
                if i == 4 {
                    x = se(&mut b, "se", x);
                }
                x = b.act(&format!("act{i}"), x);
                // Small latents run out of pixels before they run out of pools.
                let pools = if vgg { i - 1 } else { i.saturating_sub(2) };
                if (vgg || i > 1) && recipe.input.height.min(recipe.input.width) >> pools >= 2 {
                    x = b.pool(&format!("pool{i}"), x);
                }
            }
            let x = b.g.push("global", Op::GlobalAvgPool, &[x]);
            b.linear("fc", x, recipe.labels)
        }
        Architecture::ResNet(depth) => {
            let x = b.conv("stem", x, n(16), 3, 1, 1, 1.0);
            let mut x = b.act("stem.act", x);
            for stage in 0..3 {
                for block in 0..depth.saturating_sub(2) / 6 {
                    let (name, width) = (format!("layer{}.{block}", stage + 1), n(16 << stage));
                    let before = b.channels;
                    let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                    let h = b.conv(&format!("{name}.conv1"), x, width, 3, stride, 1, 1.0);
                    let h = b.act(&format!("{name}.act1"), h);
                    let h = b.conv(&format!("{name}.conv2"), h, width, 3, 1, 1, 0.3);
                    let h = if recipe.se { b.se(&format!("{name}.se"), h) } else { h };
                    let arm = if stride == 2 {
                        b.channels = before;
                        b.conv(&format!("{name}.shortcut"), x, width, 1, 2, 1, 1.0)
                    } else {
                        x
                    };
                    x = b.g.push(format!("{name}.add"), Op::Add, &[h, arm]);
                    if recipe.post_add_activation {
                        x = b.act(&format!("{name}.act2"), x);
                    }
                }
            }
            let x = b.g.push("global", Op::GlobalAvgPool, &[x]);
            b.linear("fc", x, recipe.labels)
        }
    };
    Graph::new(b.g.finish(out))
}

/// Values in about -1..1, like a normalised latent; the same seed draws the same tensor.
#[must_use]
pub fn random_input(shape: Shape, seed: u64) -> Vec<f64> {
    let mut state = seed ^ 0x5eed;
    (0..shape.len()).map(|_| 2.0 * uniform(&mut state) - 1.0).collect()
}

struct Drawer {
    g: GraphLiteral,
    state: u64,
    channels: usize,
}

/// SplitMix64 (Steele, Lea, Flood 2014), as a number in 0..1. Weights for a bench are no secret.
fn uniform(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

impl Drawer {
    /// Uniform with the given variance.
    fn draw(&mut self, n: usize, std: f64) -> Vec<f64> {
        let state = &mut self.state;
        (0..n).map(|_| (2.0 * uniform(state) - 1.0) * 3f64.sqrt() * std).collect()
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the numbers of a convolution, in the order of its definition"
    )]
    fn conv(
        &mut self,
        name: &str,
        x: NodeId,
        out: usize,
        k: usize,
        stride: usize,
        groups: usize,
        gain: f64,
    ) -> NodeId {
        let fan_in = self.channels / groups * k * k;
        let weight = self.draw(out * fan_in, gain / (fan_in as f64).sqrt());
        let bias = Bias::Channel(self.draw(out, 0.1));
        self.channels = out;
        let conv = Conv2d { out_channels: out, kernel: [k, k], stride, padding: k / 2, groups, weight, bias };
        self.g.push(name, Op::Conv2d(conv), &[x])
    }

    fn act(&mut self, name: &str, x: NodeId) -> NodeId {
        let channels = self.channels;
        let mut polynomials: Vec<[f64; 3]> = vec![];
        for _ in 0..channels {
            let v = self.draw(2, 0.02);
            polynomials.push([0.0, 0.6 + v[0], 0.1 + v[1]]);
        }
        self.g.push(name, Op::Polynomial(Polynomial::per_channel(&polynomials)), &[x])
    }

    fn pool(&mut self, name: &str, x: NodeId) -> NodeId {
        self.g.push(name, Op::AvgPool(AvgPool { kernel: 2, stride: 2 }), &[x])
    }

    fn linear(&mut self, name: &str, x: NodeId, outputs: usize) -> NodeId {
        let weight = self.draw(outputs * self.channels, 1.0 / (self.channels as f64).sqrt());
        let bias = self.draw(outputs, 0.1);
        self.channels = outputs;
        self.g.push(name, Op::Linear(Linear { outputs, weight, bias }), &[x])
    }

    /// Squeeze and excitation: pool, down by 16 as the authors' networks do, activation, up again, a cubic that stands for a sigmoid, product.
    fn se(&mut self, name: &str, x: NodeId) -> NodeId {
        let channels = self.channels;
        let s = self.g.push(format!("{name}.pool"), Op::GlobalAvgPool, &[x]);
        let s = self.linear(&format!("{name}.fc1"), s, (channels / 16).max(1));
        let s = self.act(&format!("{name}.act"), s);
        let s = self.linear(&format!("{name}.fc2"), s, channels);
        let sigmoid = Polynomial::shared(&[0.5, 0.197, 0.0, -0.004]);
        let s = self.g.push(format!("{name}.gate"), Op::Polynomial(sigmoid), &[s]);
        self.g.push(format!("{name}.mul"), Op::ChannelMul, &[x, s])
    }
}
