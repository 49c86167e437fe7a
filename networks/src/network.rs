//! From a list of layers to a network: unchecked [`NetworkLiteral`], checked [`Network`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    NetworkError,
    layer::{Layer, Op, TensorSpec},
    shape::Shape,
};

/// What layers call the input of the network.
pub const INPUT: &str = "input";

/// A network as it is written down: not checked yet. The result is what the last layer makes.
///
/// ```
/// use networks::{Activation, Conv2d, Form, Layer, Network, NetworkLiteral, Op, Shape};
/// let layer = |name: &str, op| Layer { name: name.into(), op, inputs: vec![] };
/// let conv = Conv2d { out_channels: 8, kernel: [3, 3], stride: 1, padding: 1, groups: 1, bias: true };
/// let square = Form::Polynomial { coefficients: vec![0.0, 0.0, 1.0], divisor: 1.0 };
/// let network = Network::new(NetworkLiteral {
///     name: "small".into(),
///     input: Shape::new(3, 16, 16),
///     layers: vec![
///         layer("conv", Op::Conv2d(conv)),
///         layer("act", Op::Activation(Activation { form: square, interval: 6.0 })),
///         layer("pool", Op::GlobalAvgPool),
///         layer("head", Op::Linear { outputs: 5 }),
///     ],
/// })?;
/// assert_eq!(network.output(), Shape::vector(5));
/// assert_eq!(network.tensors()["conv.weight"], [8, 3, 3, 3]);
/// # Ok::<(), networks::NetworkError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkLiteral {
    /// What messages call it.
    pub name: String,
    /// Shape of what it reads.
    pub input: Shape,
    /// The layers, each after those that it reads.
    pub layers: Vec<Layer>,
}

/// Number of a value inside a network: 0 is the input, `i + 1` what layer `i` makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId(pub usize);

/// A layer in its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    layer: Layer,
    inputs: Vec<ValueId>,
    input: Shape,
    output: Shape,
}

impl Node {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.layer.name
    }

    /// What it computes.
    #[must_use]
    pub fn op(&self) -> &Op {
        &self.layer.op
    }

    /// What it reads.
    #[must_use]
    pub fn inputs(&self) -> &[ValueId] {
        &self.inputs
    }

    /// Shape of its first operand.
    #[must_use]
    pub fn input(&self) -> Shape {
        self.input
    }

    /// Shape of what it makes.
    #[must_use]
    pub fn output(&self) -> Shape {
        self.output
    }

    /// Its tensors: `weight` and then `bias` of a convolution (if it has one) or a fully connected layer; `weight`, `bias`,
    /// `running_mean`, `running_var` of a batch norm; the coefficients of a trained activation; none of any other.
    #[must_use]
    pub fn tensors(&self) -> Vec<TensorSpec> {
        self.layer.tensors(self.input)
    }
}

/// A checked network.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    name: String,
    input: Shape,
    nodes: Vec<Node>,
}

impl Network {
    /// Checks names, operands, shapes, numbers and coefficients.
    ///
    /// # Errors
    /// The first layer that is wrong, by name.
    pub fn new(literal: NetworkLiteral) -> Result<Self, NetworkError> {
        let NetworkLiteral { name, input, layers } = literal;
        let mut values = BTreeMap::from([(INPUT.to_owned(), 0)]);
        let mut shapes = vec![input];
        let mut shared = BTreeMap::new();
        let mut nodes = Vec::with_capacity(layers.len());
        for (index, layer) in layers.into_iter().enumerate() {
            if layer.name.is_empty() || values.contains_key(&layer.name) {
                return Err(NetworkError::Name { index, name: layer.name });
            }
            layer.check_numbers()?;
            let inputs = operands(&layer, &values)?;
            let read: Vec<Shape> = inputs.iter().map(|id| shapes[id.0]).collect();
            let output = layer.output(&read)?;
            check_coefficients(&layer, read[0], &mut shared)?;
            values.insert(layer.name.clone(), index + 1);
            shapes.push(output);
            nodes.push(Node { layer, inputs, input: read[0], output });
        }
        if nodes.is_empty() {
            return Err(NetworkError::Empty);
        }
        Ok(Self { name, input, nodes })
    }

    /// What messages call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Shape of what it reads.
    #[must_use]
    pub fn input(&self) -> Shape {
        self.input
    }

    /// Shape of its result.
    #[must_use]
    pub fn output(&self) -> Shape {
        self.nodes[self.nodes.len() - 1].output
    }

    /// The layers in the order in which they are computed.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The layer of this name.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name() == name)
    }

    /// Shape of every tensor of a checkpoint, by name.
    #[must_use]
    pub fn tensors(&self) -> BTreeMap<String, Vec<usize>> {
        self.nodes.iter().flat_map(Node::tensors).map(|tensor| (tensor.name, tensor.shape)).collect()
    }

    /// Names of the activations in the order in which they run.
    #[must_use]
    pub fn activations(&self) -> Vec<&str> {
        let activations = self.nodes.iter().filter(|node| matches!(node.op(), Op::Activation(_)));
        activations.map(Node::name).collect()
    }

    /// The first layer that is more than additions and multiplications, so that ciphertexts cannot have it.
    #[must_use]
    pub fn not_polynomial(&self) -> Option<&Node> {
        self.nodes.iter().find(|node| match node.op() {
            Op::Activation(activation) => !activation.form.is_polynomial(),
            _ => false,
        })
    }
}

/// The values that a layer reads; the one before it where it names none.
fn operands(layer: &Layer, values: &BTreeMap<String, usize>) -> Result<Vec<ValueId>, NetworkError> {
    // Every layer before has put one value beside the input.
    let before = ValueId(values.len() - 1);
    let named = layer.inputs.iter().map(|input| match values.get(input) {
        Some(id) => Ok(ValueId(*id)),
        None => Err(NetworkError::UnknownInput { layer: layer.name.clone(), input: input.clone() }),
    });
    let named = named.collect::<Result<Vec<_>, _>>()?;
    let inputs = if named.is_empty() { vec![before] } else { named };
    let (expected, got) = (layer.op.operands(), inputs.len());
    if expected != got {
        return Err(NetworkError::Operands {
            layer: layer.name.clone(),
            kind: layer.op.kind(),
            expected,
            got,
        });
    }
    Ok(inputs)
}

/// Who shares a tensor must agree on its shape and on what training starts from.
fn check_coefficients(
    layer: &Layer,
    input: Shape,
    shared: &mut BTreeMap<String, (Vec<usize>, Vec<f64>)>,
) -> Result<(), NetworkError> {
    let Some(coefficients) = layer.op.coefficients() else { return Ok(()) };
    let refuse = |reason: &str| {
        let (layer, tensor) = (layer.name.clone(), coefficients.tensor());
        Err(NetworkError::Coefficients { layer, tensor, reason: reason.into() })
    };
    if coefficients.owner.is_empty() || coefficients.initial.is_empty() {
        return refuse("it must have a name and at least one coefficient");
    }
    let Some(tensor) = layer.tensors(input).pop() else { return Ok(()) };
    let wanted = (tensor.shape, coefficients.initial.clone());
    match shared.get(&tensor.name) {
        Some(found) if *found != wanted => {
            refuse("another layer shares it and reads another shape or starts from other values")
        }
        Some(_) => Ok(()),
        None => {
            shared.insert(tensor.name, wanted);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Activation, Coefficients, Conv2d, Form};

    fn layer(name: &str, op: Op, inputs: &[&str]) -> Layer {
        Layer { name: name.into(), op, inputs: inputs.iter().map(|i| (*i).to_owned()).collect() }
    }

    fn network(layers: Vec<Layer>) -> Result<Network, NetworkError> {
        Network::new(NetworkLiteral { name: "it".into(), input: Shape::new(4, 8, 8), layers })
    }

    fn trained(owner: &str, per_channel: bool, initial: &[f64]) -> Op {
        let coefficients = Coefficients { owner: owner.into(), per_channel, initial: initial.to_vec() };
        Op::Activation(Activation { form: Form::Trained(coefficients), interval: 6.0 })
    }

    fn conv(groups: usize, stride: usize) -> Op {
        Op::Conv2d(Conv2d { out_channels: 8, kernel: [3, 3], stride, padding: 1, groups, bias: true })
    }

    #[test]
    fn names_operands_and_shapes_are_refused_by_layer() {
        let refused = |layers| network(layers).unwrap_err();
        assert_eq!(refused(vec![]), NetworkError::Empty);
        let twice = vec![layer("a", Op::GlobalAvgPool, &[]), layer("a", Op::GlobalAvgPool, &[])];
        assert!(matches!(refused(twice), NetworkError::Name { index: 1, .. }));
        assert!(matches!(refused(vec![layer(INPUT, Op::GlobalAvgPool, &[])]), NetworkError::Name { .. }));
        let later = vec![layer("a", Op::GlobalAvgPool, &["b"]), layer("b", Op::GlobalAvgPool, &[])];
        assert!(matches!(refused(later), NetworkError::UnknownInput { input, .. } if input == "b"));
        assert!(matches!(refused(vec![layer("a", Op::Add, &[])]), NetworkError::Operands { got: 1, .. }));
        let sum = vec![layer("a", conv(1, 2), &[]), layer("b", Op::Add, &["a", INPUT])];
        assert!(matches!(refused(sum), NetworkError::Shape { layer, .. } if layer == "b"));
        assert!(matches!(refused(vec![layer("a", conv(3, 1), &[])]), NetworkError::Shape { .. }));
        assert!(matches!(refused(vec![layer("a", conv(1, 0), &[])]), NetworkError::Shape { .. }));
        let huge = Op::Linear { outputs: usize::MAX };
        assert!(matches!(refused(vec![layer("a", huge, &[])]), NetworkError::Shape { .. }));
        let nan = Op::Scale { factor: f64::NAN };
        assert!(matches!(refused(vec![layer("a", nan, &[])]), NetworkError::Number { .. }));
    }

    #[test]
    fn coefficients_are_shared_by_name_or_refused_by_name() {
        let of = |second: Op| {
            network(vec![
                layer("a", trained("shared", false, &[0.0, 1.0]), &[]),
                layer("c", conv(1, 1), &[]),
                layer("b", second, &[]),
            ])
        };
        let both = of(trained("shared", false, &[0.0, 1.0])).unwrap();
        assert_eq!(both.tensors()["shared.coefficients"], [1, 2]);
        for other in [trained("shared", true, &[0.0, 1.0]), trained("shared", false, &[0.5, 1.0])] {
            let error = of(other).unwrap_err();
            assert!(
                matches!(&error, NetworkError::Coefficients { tensor, .. } if tensor == "shared.coefficients")
            );
        }
        let none = of(trained("b", false, &[])).unwrap_err();
        assert!(none.to_string().contains("b.coefficients"), "{none}");
        assert_eq!(of(trained("b", true, &[0.0, 1.0, 0.1])).unwrap().tensors()["b.coefficients"], [8, 3]);
    }

    #[test]
    fn a_network_is_written_in_json() {
        let layers = vec![layer("a", conv(2, 2), &[]), layer("b", trained("b", true, &[0.0, 1.0]), &["a"])];
        let literal = NetworkLiteral { name: "it".into(), input: Shape::new(4, 8, 8), layers };
        let text = serde_json::to_string(&literal).unwrap();
        assert_eq!(serde_json::from_str::<NetworkLiteral>(&text).unwrap(), literal, "{text}");
        assert!(serde_json::from_str::<NetworkLiteral>(&text.replace("\"stride\"", "\"step\"")).is_err());
        assert_eq!(Network::new(literal).unwrap().output(), Shape::new(8, 4, 4));
    }
}
