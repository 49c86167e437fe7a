//! Random, range-safe weights for any network: for benches and tests that need no training.
//!
//! Weights are drawn so that each layer keeps the variance of its input; activations that are trained are drawn around what their
//! training would start from. Batch norms and factors are drawn folded into the layer before, as an export folds them. A
//! [`Recipe`] names a network whose activations, 0.1 x^2 + 0.6 x, and residual gains, 0.3, keep values in range on any input.

use std::collections::BTreeSet;

use networks::{ActivationConfig, ClassifierConfig, Form, Network, NetworkError, Node, Op as Layer, Sharing};

pub use networks::Architecture;

use crate::GraphError;
use crate::graph::{AvgPool, Bias, Conv2d, Graph, GraphLiteral, Linear, NodeId, Op, Polynomial, Shape};

/// A network of the usual form, without batch norms.
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

impl Recipe {
    /// The network.
    ///
    /// # Errors
    /// A latent that is too small for the architecture, or a divisor of its channels that leaves it none.
    pub fn network(&self) -> Result<Network, NetworkError> {
        let Shape { channels, height, width } = self.input;
        let mut config = ClassifierConfig::new(self.architecture, [channels, height, width], self.labels);
        config.se = self.se;
        config.post_add_activation = self.post_add_activation;
        config.width_divisor = self.shrink;
        config.batch_norm = Some(false);
        let initial = [0.0, 0.6, 0.1];
        config.activation = ActivationConfig { sharing: Sharing::Channel, initial, ..config.activation };
        config.network()
    }
}

/// Draws the weights of a recipe's network; the same seed draws the same ones.
///
/// # Errors
/// As [`Recipe::network`].
pub fn random(recipe: &Recipe, seed: u64) -> Result<Graph, GraphError> {
    random_weights(&recipe.network()?, seed)
}

/// Draws the weights of a network; the same seed draws the same ones. Gates keep the fit of the sigmoid that they start from.
///
/// # Errors
/// An activation that is no polynomial.
pub fn random_weights(network: &Network, seed: u64) -> Result<Graph, GraphError> {
    if let Some(node) = network.not_polynomial() {
        return Err(NetworkError::NotPolynomial { layer: node.name().to_owned() }.into());
    }
    let (gains, gates) = (gains(network), gates(network));
    let mut weights = Weights { state: seed };
    let mut literal = GraphLiteral::new(network.input());
    let mut values = vec![literal.input()];
    for (index, node) in network.nodes().iter().enumerate() {
        let inputs: Vec<NodeId> = node.inputs().iter().map(|id| values[id.0]).collect();
        let value = match weights.operation(node, gains[index + 1], gates.contains(&(index + 1))) {
            Some(op) => literal.push(node.name(), op, &inputs),
            None => inputs[0],
        };
        values.push(value);
    }
    let output = values[network.nodes().len()];
    Graph::new(literal.finish(output))
}

/// Values in about -1..1, like a normalised latent; the same seed draws the same tensor.
#[must_use]
pub fn random_input(shape: Shape, seed: u64) -> Vec<f64> {
    let mut state = seed ^ 0x5eed;
    (0..shape.len()).map(|_| 2.0 * uniform(&mut state) - 1.0).collect()
}

/// By value, the factor that its readers multiply it by: it is drawn into the weights that make the value.
fn gains(network: &Network) -> Vec<f64> {
    let mut gains = vec![1.0; network.nodes().len() + 1];
    for (index, node) in network.nodes().iter().enumerate().rev() {
        let after = gains[index + 1];
        match (node.op(), node.inputs()) {
            (Layer::Scale { factor }, [x]) => gains[x.0] = factor * after,
            (Layer::ChannelMul, [x, _]) | (Layer::BatchNorm, [x]) => gains[x.0] = after,
            _ => {}
        }
    }
    gains
}

/// The values that multiply channels.
fn gates(network: &Network) -> BTreeSet<usize> {
    let products = network.nodes().iter().filter(|node| matches!(node.op(), Layer::ChannelMul));
    products.filter_map(|node| node.inputs().get(1)).map(|id| id.0).collect()
}

struct Weights {
    state: u64,
}

/// SplitMix64 (Steele, Lea, Flood 2014), as a number in 0..1. Weights for a bench are no secret.
fn uniform(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

impl Weights {
    /// Uniform with the given deviation.
    fn draw(&mut self, n: usize, std: f64) -> Vec<f64> {
        let state = &mut self.state;
        (0..n).map(|_| (2.0 * uniform(state) - 1.0) * 3f64.sqrt() * std).collect()
    }

    /// A layer with weights; none where it is folded into the one before.
    fn operation(&mut self, node: &Node, gain: f64, is_gate: bool) -> Option<Op> {
        Some(match node.op() {
            Layer::BatchNorm | Layer::Scale { .. } => return None,
            Layer::Conv2d(conv) => Op::Conv2d(self.convolution(conv, node.input().channels, gain)),
            Layer::Linear { outputs } => {
                let inputs = node.input().len();
                let weight = self.draw(outputs * inputs, gain / (inputs as f64).sqrt());
                Op::Linear(Linear { outputs: *outputs, weight, bias: self.draw(*outputs, 0.1) })
            }
            Layer::AvgPool(pool) => Op::AvgPool(AvgPool { kernel: pool.kernel, stride: pool.stride }),
            Layer::GlobalAvgPool => Op::GlobalAvgPool,
            Layer::Activation(activation) => {
                Op::Polynomial(self.polynomial(&activation.form, node.input().channels, is_gate))
            }
            Layer::Add => Op::Add,
            Layer::ChannelMul => Op::ChannelMul,
        })
    }

    fn convolution(&mut self, conv: &networks::Conv2d, channels: usize, gain: f64) -> Conv2d {
        let networks::Conv2d { out_channels, kernel, stride, padding, groups, .. } = *conv;
        let fan_in = channels / groups * kernel[0] * kernel[1];
        let weight = self.draw(out_channels * fan_in, gain / (fan_in as f64).sqrt());
        let bias = Bias::Channel(self.draw(out_channels, 0.1));
        Conv2d { out_channels, kernel, stride, padding, groups, weight, bias }
    }

    fn polynomial(&mut self, form: &Form, channels: usize, is_gate: bool) -> Polynomial {
        let coefficients = form.coefficients();
        let Form::Trained(trained) = form else { return Polynomial::shared(&coefficients) };
        let Some((constant, others)) = coefficients.split_first().filter(|_| !is_gate) else {
            return Polynomial::shared(&coefficients);
        };
        let rows = (0..if trained.per_channel { channels } else { 1 }).map(|_| {
            let moved = self.draw(others.len(), 0.02);
            let moved = others.iter().zip(moved).map(|(coefficient, by)| coefficient + by);
            std::iter::once(*constant).chain(moved).collect()
        });
        Polynomial::per_channel(&rows.collect::<Vec<Vec<f64>>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of benches compare from version to version only if a seed keeps its weights.
    #[test]
    fn a_seed_keeps_its_weights() {
        let digest = |architecture, se| {
            let input = Shape::new(4, 32, 32);
            let recipe = Recipe { architecture, input, labels: 14, se, post_add_activation: se, shrink: 1 };
            let graph = random(&recipe, 7).unwrap();
            let mut hasher = blake3::Hasher::new();
            for (_, values) in graph.nodes().iter().flat_map(|node| node.op().arrays()) {
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                hasher.update(&bytes);
            }
            hasher.finalize().to_hex()[..16].to_owned()
        };
        assert_eq!(digest(Architecture::LeNet, false), "dc86a6a47fb14594");
        assert_eq!(digest(Architecture::LeNet, true), "29309b5dbdd8fa80");
        assert_eq!(digest(Architecture::ResNet(20), false), "40e4a1f9ed73063f");
        assert_eq!(digest(Architecture::ResNet(20), true), "7f3de9392330144e");
        assert_eq!(digest(Architecture::ResNet(56), true), "1327eb8f5c1f45c9");
    }
}
