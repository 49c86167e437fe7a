//! From a config and its weights to the unfolded graph: one node a layer, as the network was trained.
//!
//! Batch norms become [`ChannelAffine`]: `s = weight / sqrt(running_var + eps)`, `t = bias - running_mean s`. The residual
//! gain is one more of them. Names are those of the checkpoint's tensors.

use classifier::{
    ActivationKind, ClassifierConfig, GateKind, Sharing, chebyshev_relu,
    plan::{ActivationPlan, ConvPlan, SePlan},
};
use he_model::{
    AvgPool, Bias, ChannelAffine, Conv2d, Graph, GraphLiteral, Linear, NodeId, Op, Polynomial, Shape,
};

use crate::{ExportError, Weights, weights::Reader};

/// Epsilon of the batch norms, PyTorch's and Burn's default.
const EPSILON: f64 = 1e-5;

/// Builds the graph of a trained network.
///
/// # Errors
/// A config that is not valid or has activations that are no polynomials; a tensor that is missing, has another shape,
/// holds no finite numbers, or has no place in the network.
pub fn build(config: &ClassifierConfig, weights: &Weights) -> Result<Graph, ExportError> {
    let plan = config.plan()?;
    check_polynomial(config)?;
    let [channels, height, width] = config.latent;
    let literal = GraphLiteral::new(Shape::new(channels, height, width));
    let weights = Reader::new(weights, config.architecture.name());
    let mut b = Builder { config, weights, literal };
    let mut x = b.literal.input();
    for stage in &plan.features {
        x = b.convolution(&stage.conv, x)?;
        if stage.se_after_activation {
            x = b.activation(&stage.act, x)?;
            x = b.squeeze_excite(stage.se.as_ref(), x)?;
        } else {
            x = b.squeeze_excite(stage.se.as_ref(), x)?;
            x = b.activation(&stage.act, x)?;
        }
        if let Some(p) = stage.pool {
            let name = stage.conv.name.replace(".conv", ".pool");
            x = b.literal.push(name, Op::AvgPool(AvgPool { kernel: p, stride: p }), &[x]);
        }
    }
    for block in plan.layers.iter().flatten() {
        let mut arm = b.convolution(&block.conv1, x)?;
        arm = b.activation(&block.act1, arm)?;
        arm = b.convolution(&block.conv2, arm)?;
        arm = b.squeeze_excite(block.se.as_ref(), arm)?;
        if config.residual_gain != 1.0 {
            let channels = block.conv2.out_channels;
            let gain =
                ChannelAffine { scale: vec![config.residual_gain; channels], shift: vec![0.0; channels] };
            arm = b.literal.push(format!("{}.gain", block.name), Op::ChannelAffine(gain), &[arm]);
        }
        let straight = match &block.shortcut {
            Some(shortcut) => b.convolution(shortcut, x)?,
            None => x,
        };
        x = b.literal.push(format!("{}.add", block.name), Op::Add, &[arm, straight]);
        if let Some(act) = &block.act2 {
            x = b.activation(act, x)?;
        }
    }
    if plan.global_pool {
        x = b.literal.push("pool", Op::GlobalAvgPool, &[x]);
    }
    if let Some(hidden) = &plan.hidden {
        x = b.linear("hidden.linear", [hidden.inputs, hidden.outputs], x)?;
        x = b.activation(&hidden.act, x)?;
    }
    x = b.linear("head", [plan.head_inputs, plan.labels], x)?;
    b.weights.finish()?;
    Ok(Graph::new(b.literal.finish(x))?)
}

fn check_polynomial(config: &ClassifierConfig) -> Result<(), ExportError> {
    if config.activation.kind == ActivationKind::Relu {
        let instead = "activation.kind = \"polyact\"";
        return Err(ExportError::NotPolynomial { field: "activation.kind", kind: "relu", instead });
    }
    if config.se && config.gate.kind == GateKind::Sigmoid {
        let instead = "gate.kind = \"approx-sigmoid\"";
        return Err(ExportError::NotPolynomial { field: "gate.kind", kind: "sigmoid", instead });
    }
    Ok(())
}

struct Builder<'a> {
    config: &'a ClassifierConfig,
    weights: Reader<'a>,
    literal: GraphLiteral,
}

impl Builder<'_> {
    fn convolution(&mut self, plan: &ConvPlan, x: NodeId) -> Result<NodeId, ExportError> {
        let (k, o) = (plan.kernel, plan.out_channels);
        let shape = [o, plan.in_channels / plan.groups, k, k];
        let weight = self.weights.get(&format!("{}.weight", plan.name), &shape)?;
        let bias = match plan.batch_norm {
            Some(_) => Bias::None,
            None => Bias::Channel(self.weights.get(&format!("{}.bias", plan.name), &[o])?),
        };
        let conv = Conv2d {
            out_channels: o,
            kernel: [k, k],
            stride: plan.stride,
            padding: plan.padding,
            groups: plan.groups,
            weight,
            bias,
        };
        let x = self.literal.push(plan.name.clone(), Op::Conv2d(conv), &[x]);
        match &plan.batch_norm {
            Some(bn) => self.batch_norm(bn, o, x),
            None => Ok(x),
        }
    }

    fn batch_norm(&mut self, name: &str, channels: usize, x: NodeId) -> Result<NodeId, ExportError> {
        let mut get = |part: &str| self.weights.get(&format!("{name}.{part}"), &[channels]);
        let (weight, bias) = (get("weight")?, get("bias")?);
        let (mean, variance) = (get("running_mean")?, get("running_var")?);
        if let Some(value) = variance.iter().find(|v| **v < 0.0) {
            return Err(ExportError::BadValue { name: format!("{name}.running_var"), value: *value });
        }
        let scale: Vec<f64> = weight.iter().zip(&variance).map(|(w, v)| w / (v + EPSILON).sqrt()).collect();
        let shift = bias.iter().zip(&mean).zip(&scale).map(|((b, m), s)| b - m * s).collect();
        Ok(self.literal.push(name, Op::ChannelAffine(ChannelAffine { scale, shift }), &[x]))
    }

    fn linear(&mut self, name: &str, [i, o]: [usize; 2], x: NodeId) -> Result<NodeId, ExportError> {
        let weight = self.weights.get(&format!("{name}.weight"), &[o, i])?;
        let bias = self.weights.get(&format!("{name}.bias"), &[o])?;
        Ok(self.literal.push(name, Op::Linear(Linear { outputs: o, weight, bias }), &[x]))
    }

    fn squeeze_excite(&mut self, plan: Option<&SePlan>, x: NodeId) -> Result<NodeId, ExportError> {
        let Some(se) = plan else { return Ok(x) };
        let name = &se.name;
        let s = self.literal.push(format!("{name}.mean"), Op::GlobalAvgPool, &[x]);
        let s = self.linear(&format!("{name}.squeeze"), [se.channels, se.hidden], s)?;
        let s = self.activation(&se.act, s)?;
        let s = self.linear(&format!("{name}.excite"), [se.hidden, se.channels], s)?;
        let s = self.trained(&se.gate, "gate.coefficients", 4, s)?;
        Ok(self.literal.push(format!("{name}.product"), Op::ChannelMul, &[x, s]))
    }

    fn activation(&mut self, plan: &ActivationPlan, x: NodeId) -> Result<NodeId, ExportError> {
        let a = &self.config.activation;
        let fixed = match a.kind {
            ActivationKind::Polyact => return self.trained(plan, "activation.coefficients", 3, x),
            ActivationKind::ChebyshevRelu => {
                let mut power = 1.0;
                let mut coefficients = chebyshev_relu(a.degree, a.interval);
                for c in &mut coefficients {
                    *c *= power;
                    power /= a.interval;
                }
                coefficients
            }
            // ReLU was refused before.
            ActivationKind::Square | ActivationKind::Relu => vec![0.0, 0.0, 1.0],
        };
        Ok(self.literal.push(plan.name.clone(), Op::Polynomial(Polynomial::shared(&fixed)), &[x]))
    }

    fn trained(
        &mut self,
        plan: &ActivationPlan,
        shared: &str,
        terms: usize,
        x: NodeId,
    ) -> Result<NodeId, ExportError> {
        let own = format!("{}.coefficients", plan.name);
        let coefficients = match plan.sharing {
            Sharing::Network => self.weights.get(shared, &[1, terms])?,
            Sharing::Layer => self.weights.get(&own, &[1, terms])?,
            Sharing::Channel => self.weights.get(&own, &[plan.channels, terms])?,
        };
        let polynomial = Polynomial { terms, coefficients };
        Ok(self.literal.push(plan.name.clone(), Op::Polynomial(polynomial), &[x]))
    }
}
