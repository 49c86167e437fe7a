//! From a network and its weights to the unfolded graph: one node a layer, as the network was trained.
//!
//! Batch norms become [`ChannelAffine`]: `s = weight / sqrt(running_var + eps)`, `t = bias - running_mean s`. The residual
//! gain is one more of them. Names are those of the network's layers.

use he_model::{AvgPool, Bias, ChannelAffine, Conv2d, Graph, GraphLiteral, Linear, NodeId, Op, Polynomial};
use networks::{EPSILON, Form, Network, Node, Op as Layer, TensorSpec};

use crate::{ExportError, Weights, weights::Reader};

/// Builds the graph of a trained network.
///
/// # Errors
/// An activation that is no polynomial; a tensor that is missing, has another shape, holds no finite numbers, or has no
/// place in the network.
pub fn build(network: &Network, weights: &Weights) -> Result<Graph, ExportError> {
    if let Some(node) = network.not_polynomial() {
        return Err(not_polynomial(node));
    }
    let mut literal = GraphLiteral::new(network.input());
    let mut weights = Reader::new(weights, network.name());
    let mut output = literal.input();
    for node in network.nodes() {
        let tensors = node.tensors();
        let arrays = tensors.iter().map(|tensor| weights.get(&tensor.name, &tensor.shape));
        let op = weighted(node, &tensors, arrays.collect::<Result<_, _>>()?)?;
        // The input and the layers have the same numbers in both.
        let inputs: Vec<NodeId> = node.inputs().iter().map(|id| NodeId(id.0)).collect();
        output = literal.push(node.name(), op, &inputs);
    }
    weights.finish()?;
    Ok(Graph::new(literal.finish(output))?)
}

fn not_polynomial(node: &Node) -> ExportError {
    let (kind, instead) = match node.op() {
        Layer::Activation(activation) if activation.form == Form::Sigmoid => {
            ("sigmoid", "gate.kind = \"approx-sigmoid\"")
        }
        Layer::Activation(activation) => (activation.form.name(), "activation.kind = \"polyact\""),
        op => (op.kind(), "additions and multiplications"),
    };
    ExportError::NotPolynomial { layer: node.name().to_owned(), kind, instead }
}

/// The operation of a layer with its arrays, which [`Node::tensors`] lists.
fn weighted(node: &Node, tensors: &[TensorSpec], arrays: Vec<Vec<f64>>) -> Result<Op, ExportError> {
    let channels = node.input().channels;
    let mut arrays = arrays.into_iter();
    let mut next = || arrays.next().unwrap_or_default();
    Ok(match node.op() {
        Layer::Conv2d(conv) => Op::Conv2d(Conv2d {
            out_channels: conv.out_channels,
            kernel: conv.kernel,
            stride: conv.stride,
            padding: conv.padding,
            groups: conv.groups,
            weight: next(),
            bias: if conv.bias { Bias::Channel(next()) } else { Bias::None },
        }),
        Layer::BatchNorm => {
            let [weight, bias, mean, variance] = [next(), next(), next(), next()];
            if let Some(value) = variance.iter().find(|v| **v < 0.0) {
                let name = tensors.last().map_or_else(String::new, |tensor| tensor.name.clone());
                return Err(ExportError::BadValue { name, value: *value });
            }
            let scale: Vec<f64> =
                weight.iter().zip(&variance).map(|(w, v)| w / (v + EPSILON).sqrt()).collect();
            let shift = bias.iter().zip(&mean).zip(&scale).map(|((b, m), s)| b - m * s).collect();
            Op::ChannelAffine(ChannelAffine { scale, shift })
        }
        Layer::Linear { outputs } => Op::Linear(Linear { outputs: *outputs, weight: next(), bias: next() }),
        Layer::AvgPool(pool) => Op::AvgPool(AvgPool { kernel: pool.kernel, stride: pool.stride }),
        Layer::GlobalAvgPool => Op::GlobalAvgPool,
        Layer::Activation(activation) => Op::Polynomial(match &activation.form {
            form @ Form::Polynomial { .. } => Polynomial::shared(&form.coefficients()),
            Form::Trained(trained) => Polynomial { terms: trained.initial.len(), coefficients: next() },
            Form::Relu | Form::Sigmoid => return Err(not_polynomial(node)),
        }),
        Layer::Scale { factor } => {
            Op::ChannelAffine(ChannelAffine { scale: vec![*factor; channels], shift: vec![0.0; channels] })
        }
        Layer::Add => Op::Add,
        Layer::ChannelMul => Op::ChannelMul,
    })
}
