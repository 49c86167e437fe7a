//! [`Classifier`]: the Burn module that a [`Network`] stands for.
//!
//! A parameter's path is its name in [`Network::tensors`], whatever the network looks like, so the module holds a list of named
//! parts and says their names itself; Burn's derived modules would name fields instead.

use std::{collections::BTreeMap, sync::Arc};

use burn::{
    module::{Devices, Module, ModuleMapper, ModuleVisitor},
    tensor::{Device, Tensor},
};
use networks::{ClassifierConfig, Form, Network, Node, Op};

use crate::{
    ClassifierError, Ranges,
    part::Part,
    range::Watch,
    step::{Action, Operand, Step, run},
};

/// What parts belong to, as Burn's adapters of names read it.
const CONTAINER: &str = "Struct:Classifier";

/// A classifier of latents.
#[derive(Debug, Clone)]
pub struct Classifier {
    parts: Vec<NamedPart>,
    steps: Arc<[Step]>,
}

#[derive(Debug, Clone)]
struct NamedPart {
    path: String,
    part: Part,
}

impl Classifier {
    /// Builds the network with fresh weights (seed the device first for a repeatable start).
    #[must_use]
    pub fn new(network: &Network, device: &Device) -> Self {
        let mut parts = Parts { list: vec![], coefficients: BTreeMap::new(), device };
        parts.shared(network);
        let mut last_reader = BTreeMap::new();
        for (reader, node) in network.nodes().iter().enumerate() {
            last_reader.extend(node.inputs().iter().map(|id| (id.0, reader)));
        }
        let steps = network.nodes().iter().enumerate().map(|(i, node)| {
            let operand = |(place, value): (usize, usize)| {
                let again = node.inputs()[place + 1..].iter().any(|later| later.0 == value);
                Operand { value, is_last: last_reader.get(&value) == Some(&i) && !again }
            };
            Step {
                name: node.name().to_owned(),
                action: parts.action(node),
                inputs: node.inputs().iter().map(|id| id.0).enumerate().map(operand).collect(),
                interval: match node.op() {
                    Op::Activation(activation) => Some(activation.interval),
                    _ => None,
                },
            }
        });
        let steps = steps.collect();
        Self { parts: parts.list, steps }
    }

    /// As [`Classifier::new`], of the network that a config stands for.
    ///
    /// # Errors
    /// A config that [`ClassifierConfig::validate`] refuses.
    pub fn from_config(config: &ClassifierConfig, device: &Device) -> Result<Self, ClassifierError> {
        Ok(Self::new(&config.network()?, device))
    }

    /// Logits of a batch of latents.
    ///
    /// # Shapes
    /// - `latent`: `[batch, channels, height, width]`
    /// - result: `[batch, labels]`
    #[must_use]
    pub fn forward(&self, latent: Tensor<4>) -> Tensor<2> {
        self.run(latent, &mut Watch::off())
    }

    /// As [`Classifier::forward`], and what the activations saw on the way.
    #[must_use]
    pub fn forward_watched(&self, latent: Tensor<4>) -> (Tensor<2>, Ranges) {
        let device = latent.device();
        let mut watch = Watch::on();
        let logits = self.run(latent, &mut watch);
        (logits, watch.finish(&device))
    }

    fn run(&self, latent: Tensor<4>, watch: &mut Watch) -> Tensor<2> {
        let parts: Vec<&Part> = self.parts.iter().map(|named| &named.part).collect();
        run(&self.steps, &parts, latent, watch).flatten(1, 3)
    }

    fn each(self, change: impl Fn(Part) -> Part) -> Self {
        let named = |NamedPart { path, part }| NamedPart { path, part: change(part) };
        Self { parts: self.parts.into_iter().map(named).collect(), steps: self.steps }
    }
}

/// Parts in the order in which their weights are drawn: coefficients of the whole network, then layer by layer.
struct Parts<'a> {
    list: Vec<NamedPart>,
    /// Where the coefficients of an owner are.
    coefficients: BTreeMap<String, usize>,
    device: &'a Device,
}

impl Parts<'_> {
    /// The coefficients that several layers read.
    fn shared(&mut self, network: &Network) {
        for node in network.nodes() {
            if node.op().coefficients().is_some_and(|trained| trained.owner != node.name()) {
                self.action(node);
            }
        }
    }

    fn push(&mut self, path: &str, part: Part) -> usize {
        self.list.push(NamedPart { path: path.to_owned(), part });
        self.list.len() - 1
    }

    fn action(&mut self, node: &Node) -> Action {
        let input = node.input();
        let part = match node.op() {
            Op::Conv2d(conv) => Part::convolution(conv, input, self.device),
            Op::BatchNorm => Part::batch_norm(input.channels, self.device),
            Op::Linear { outputs } => Part::linear(input.len(), *outputs, self.device),
            Op::Activation(activation) => match &activation.form {
                Form::Relu => return Action::Relu,
                Form::Sigmoid => return Action::Sigmoid,
                Form::Polynomial { coefficients, divisor } => {
                    return Action::Polynomial { coefficients: coefficients.clone(), divisor: *divisor };
                }
                Form::Trained(trained) => {
                    if let Some(place) = self.coefficients.get(&trained.owner) {
                        return Action::Part(*place);
                    }
                    self.coefficients.insert(trained.owner.clone(), self.list.len());
                    let rows = if trained.per_channel { input.channels } else { 1 };
                    let part = Part::polynomial(&trained.initial, rows, self.device);
                    return Action::Part(self.push(&trained.owner, part));
                }
            },
            Op::AvgPool(pool) => return Action::AvgPool(*pool),
            Op::GlobalAvgPool => return Action::GlobalAvgPool,
            Op::Scale { factor } => return Action::Scale(*factor),
            Op::Add => return Action::Add,
            Op::ChannelMul => return Action::ChannelMul,
        };
        Action::Part(self.push(node.name(), part))
    }
}

impl Module for Classifier {
    fn collect_devices(&self, devices: Devices) -> Devices {
        self.parts.iter().fold(devices, |devices, named| named.part.collect_devices(devices))
    }

    fn fork(self, device: &Device) -> Self {
        self.each(|part| part.fork(device))
    }

    fn to_device(self, device: &Device) -> Self {
        self.each(|part| part.to_device(device))
    }

    fn train(self) -> Self {
        self.each(Module::train)
    }

    fn valid(&self) -> Self {
        self.clone().each(|part| part.valid())
    }

    fn materialize(self) -> Self {
        self.each(Module::materialize)
    }

    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        for NamedPart { path, part } in &self.parts {
            visitor.enter_module(path, CONTAINER);
            part.visit_inside(visitor);
            visitor.exit_module(path, CONTAINER);
        }
    }

    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        let parts = self.parts.into_iter().map(|NamedPart { path, part }| {
            mapper.enter_module(&path, CONTAINER);
            let part = part.map_inside(mapper);
            mapper.exit_module(&path, CONTAINER);
            NamedPart { path, part }
        });
        Self { parts: parts.collect(), steps: self.steps }
    }
}
