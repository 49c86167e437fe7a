//! The tensor graph: unchecked [`GraphLiteral`], checked [`Graph`].
//!
//! Tensors have the shape `[channels, height, width]`, stored row-major; a vector of n features has the
//! shape `[n, 1, 1]`. Nodes are in the order in which they are computed, so an operand always has a smaller
//! number than its reader: a graph with a cycle cannot be written down, and a file that tries is refused.
//!
//! Weights are `f64`, although training produces `f32`: folding batch norms and polynomials into them
//! should not cost precision.

mod check;
mod run;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use networks::{MAX_VALUES, Shape};

use crate::GraphError;

/// Number of a node inside its graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub usize);

/// What a convolution adds after its sum.
///
/// A constant that was pushed through a zero-padded convolution is not constant at the border, hence the
/// form with one value a position.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bias {
    /// Nothing.
    #[default]
    None,
    /// One value an output channel.
    Channel(#[serde(skip)] Vec<f64>),
    /// One value an output position, `[out_channels, out_height, out_width]`.
    Position(#[serde(skip)] Vec<f64>),
}

impl Bias {
    /// The value for channel `c` at position `p` (row-major inside the channel) of `positions`.
    #[must_use]
    pub fn at(&self, c: usize, p: usize, positions: usize) -> f64 {
        match self {
            Self::None => 0.0,
            Self::Channel(b) => b[c],
            Self::Position(b) => b[c * positions + p],
        }
    }
}

impl Bias {
    /// Adds one number a channel.
    fn add(&mut self, values: &[f64], positions: usize) {
        match self {
            Self::None => *self = Self::Channel(values.to_vec()),
            Self::Channel(bias) => bias.iter_mut().zip(values).for_each(|(b, v)| *b += v),
            Self::Position(bias) => {
                bias.chunks_mut(positions).zip(values).for_each(|(b, v)| b.iter_mut().for_each(|b| *b += v));
            }
        }
    }
}

/// Numbers to add to the output channels of nodes, by name.
pub type Offsets = BTreeMap<String, Vec<f64>>;

/// `y[o] = bias[o] + sum over the input channels i of o's group, and taps, of w[o, i, ky, kx] x[i]`, zero-padded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv2d {
    /// Output channels.
    pub out_channels: usize,
    /// Kernel height and width.
    pub kernel: [usize; 2],
    /// Step of the window, both ways.
    pub stride: usize,
    /// Zeros around the image, both ways.
    pub padding: usize,
    /// Groups of channels that do not see each other.
    pub groups: usize,
    /// `[out_channels, in_channels / groups, kernel height, kernel width]`.
    #[serde(skip)]
    pub weight: Vec<f64>,
    /// Added at the end.
    pub bias: Bias,
}

/// `y = W x + b` on all values of the input, flattened row-major; the result is a vector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Linear {
    /// Number of outputs.
    pub outputs: usize,
    /// `[outputs, inputs]`.
    #[serde(skip)]
    pub weight: Vec<f64>,
    /// `[outputs]`.
    #[serde(skip)]
    pub bias: Vec<f64>,
}

/// Mean over a square window, without padding; a rest at the border is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AvgPool {
    /// Side of the window.
    pub kernel: usize,
    /// Step of the window.
    pub stride: usize,
}

/// `y = sum of coefficients[k] x^k`, one polynomial for all channels or one a channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Polynomial {
    /// Coefficients a polynomial: its degree + 1.
    pub terms: usize,
    /// `[1 or channels, terms]`, ascending powers.
    #[serde(skip)]
    pub coefficients: Vec<f64>,
}

impl Polynomial {
    /// One polynomial for all channels, ascending powers.
    #[must_use]
    pub fn shared(coefficients: &[f64]) -> Self {
        Self { terms: coefficients.len(), coefficients: coefficients.to_vec() }
    }

    /// One polynomial a channel, ascending powers. Shorter ones are filled with zeros.
    #[must_use]
    pub fn per_channel<C: AsRef<[f64]>>(channels: &[C]) -> Self {
        let terms = channels.iter().map(|c| c.as_ref().len()).max().unwrap_or(0);
        let mut coefficients = vec![0.0; terms * channels.len()];
        for (row, c) in coefficients.chunks_mut(terms.max(1)).zip(channels) {
            row[..c.as_ref().len()].copy_from_slice(c.as_ref());
        }
        Self { terms, coefficients }
    }

    /// The coefficients of channel `c`, ascending.
    #[must_use]
    pub fn channel(&self, c: usize) -> &[f64] {
        let at = if self.coefficients.len() == self.terms { 0 } else { c * self.terms };
        &self.coefficients[at..at + self.terms]
    }

    /// Degree of the highest power whose coefficient is not zero in every channel.
    #[must_use]
    pub fn degree(&self) -> usize {
        (1..self.terms)
            .rev()
            .find(|k| self.coefficients.iter().skip(*k).step_by(self.terms).any(|c| *c != 0.0))
            .unwrap_or(0)
    }
}

/// `y[c] = scale[c] x[c] + shift[c]`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelAffine {
    /// One factor a channel.
    #[serde(skip)]
    pub scale: Vec<f64>,
    /// One constant a channel.
    #[serde(skip)]
    pub shift: Vec<f64>,
}

/// One operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Op {
    /// The latent. Exactly one, the first node.
    Input {
        /// Its shape.
        shape: Shape,
    },
    /// A convolution.
    Conv2d(Conv2d),
    /// A fully connected layer.
    Linear(Linear),
    /// A mean over windows.
    AvgPool(AvgPool),
    /// The mean over all positions of a channel; the result is a vector.
    GlobalAvgPool,
    /// A polynomial of each value.
    Polynomial(Polynomial),
    /// A factor and a constant a channel.
    ChannelAffine(ChannelAffine),
    /// The sum of two tensors of one shape.
    Add,
    /// A gate: operand 0 is a tensor `[C, H, W]`, operand 1 a vector `[C, 1, 1]` that multiplies its channels.
    ChannelMul,
}

impl Op {
    /// Name of the operation, for messages.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Input { .. } => "input",
            Self::Conv2d(_) => "conv2d",
            Self::Linear(_) => "linear",
            Self::AvgPool(_) => "avg_pool",
            Self::GlobalAvgPool => "global_avg_pool",
            Self::Polynomial(_) => "polynomial",
            Self::ChannelAffine(_) => "channel_affine",
            Self::Add => "add",
            Self::ChannelMul => "channel_mul",
        }
    }

    /// Number of operands.
    #[must_use]
    pub fn operands(&self) -> usize {
        match self {
            Self::Input { .. } => 0,
            Self::Add | Self::ChannelMul => 2,
            _ => 1,
        }
    }

    /// The arrays of this operation under the names that files use.
    #[must_use]
    pub fn arrays(&self) -> Vec<(&'static str, &Vec<f64>)> {
        match self {
            Self::Conv2d(c) => match &c.bias {
                Bias::None => vec![("weight", &c.weight)],
                Bias::Channel(b) | Bias::Position(b) => vec![("weight", &c.weight), ("bias", b)],
            },
            Self::Linear(l) => vec![("weight", &l.weight), ("bias", &l.bias)],
            Self::Polynomial(p) => vec![("coefficients", &p.coefficients)],
            Self::ChannelAffine(a) => vec![("scale", &a.scale), ("shift", &a.shift)],
            _ => vec![],
        }
    }

    /// As [`Op::arrays`], to be filled.
    pub fn arrays_mut(&mut self) -> Vec<(&'static str, &mut Vec<f64>)> {
        match self {
            Self::Conv2d(c) => match &mut c.bias {
                Bias::None => vec![("weight", &mut c.weight)],
                Bias::Channel(b) | Bias::Position(b) => vec![("weight", &mut c.weight), ("bias", b)],
            },
            Self::Linear(l) => vec![("weight", &mut l.weight), ("bias", &mut l.bias)],
            Self::Polynomial(p) => vec![("coefficients", &mut p.coefficients)],
            Self::ChannelAffine(a) => vec![("scale", &mut a.scale), ("shift", &mut a.shift)],
            _ => vec![],
        }
    }
}

/// A node as it is written down: not checked yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeLiteral {
    /// Unique name, such as `layer1.0.conv1`.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// Its operands.
    pub inputs: Vec<NodeId>,
}

/// A graph as it is written down: not checked yet.
///
/// ```
/// use he_model::{Bias, Conv2d, Graph, GraphLiteral, Op, Polynomial, Shape};
/// let mut g = GraphLiteral::new(Shape::new(1, 2, 2));
/// let conv = g.push("conv", Op::Conv2d(Conv2d {
///     out_channels: 1, kernel: [1, 1], stride: 1, padding: 0, groups: 1, weight: vec![2.0],
///     bias: Bias::Channel(vec![1.0]),
/// }), &[g.input()]);
/// let act = g.push("act", Op::Polynomial(Polynomial::shared(&[0.0, 0.0, 1.0])), &[conv]);
/// let graph = Graph::new(g.finish(act))?;
/// assert_eq!(graph.run(&[0.0, 1.0, 2.0, 3.0])?, vec![1.0, 9.0, 25.0, 49.0]);
/// # Ok::<(), he_model::GraphError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphLiteral {
    /// The nodes, operands before their readers.
    pub nodes: Vec<NodeLiteral>,
    /// The node that is the result.
    pub output: NodeId,
}

impl GraphLiteral {
    /// A graph with nothing but its input, called `input`.
    #[must_use]
    pub fn new(input: Shape) -> Self {
        let node = NodeLiteral { name: "input".into(), op: Op::Input { shape: input }, inputs: vec![] };
        Self { nodes: vec![node], output: NodeId(0) }
    }

    /// The input's number.
    #[must_use]
    pub fn input(&self) -> NodeId {
        NodeId(0)
    }

    /// Appends a node and returns its number. Nothing is checked here.
    pub fn push(&mut self, name: impl Into<String>, op: Op, inputs: &[NodeId]) -> NodeId {
        self.nodes.push(NodeLiteral { name: name.into(), op, inputs: inputs.to_vec() });
        NodeId(self.nodes.len() - 1)
    }

    /// Names the result.
    #[must_use]
    pub fn finish(mut self, output: NodeId) -> Self {
        self.output = output;
        self
    }
}

/// A checked node.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub(crate) literal: NodeLiteral,
    pub(crate) shape: Shape,
}

impl Node {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.literal.name
    }

    /// What it computes.
    #[must_use]
    pub fn op(&self) -> &Op {
        &self.literal.op
    }

    /// Its operands.
    #[must_use]
    pub fn inputs(&self) -> &[NodeId] {
        &self.literal.inputs
    }

    /// Shape of its result.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }
}

/// A checked graph: every operand exists and comes first, every shape fits, every array has its length.
#[derive(Debug, Clone, PartialEq)]
pub struct Graph {
    nodes: Vec<Node>,
    output: NodeId,
}

impl Graph {
    /// The graph with a number added to every output channel of the named convolutions and linear layers.
    ///
    /// # Errors
    /// [`GraphError::Offset`]: a name without such a node, another number of channels, or a number that is not finite.
    pub fn with_offsets(&self, offsets: &Offsets) -> Result<Self, GraphError> {
        let mut graph = self.clone();
        for (name, values) in offsets {
            let refuse = |reason: &str| GraphError::Offset { node: name.clone(), reason: reason.into() };
            let id = self.find(name).ok_or_else(|| refuse("there is no such node"))?;
            let shape = self.node(id).shape();
            if values.len() != shape.channels || !values.iter().all(|v| v.is_finite()) {
                return Err(refuse("one finite number a channel was expected"));
            }
            let positions = shape.height * shape.width;
            match &mut graph.nodes[id.0].literal.op {
                Op::Conv2d(conv) => conv.bias.add(values, positions),
                Op::Linear(linear) => linear.bias.iter_mut().zip(values).for_each(|(b, v)| *b += v),
                _ => return Err(refuse("it is neither a convolution nor a linear layer")),
            }
        }
        Ok(graph)
    }

    /// Checks a literal.
    ///
    /// # Errors
    /// The first thing that is wrong, naming the node.
    pub fn new(literal: GraphLiteral) -> Result<Self, GraphError> {
        check::check(literal).map(|(nodes, output)| Self { nodes, output })
    }

    /// The nodes, operands before their readers.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// One node.
    #[must_use]
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// The number of the node called `name`.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<NodeId> {
        self.nodes.iter().position(|n| n.name() == name).map(NodeId)
    }

    /// The result's node.
    #[must_use]
    pub fn output(&self) -> NodeId {
        self.output
    }

    /// Shape of the input.
    #[must_use]
    pub fn input_shape(&self) -> Shape {
        self.nodes[0].shape
    }

    /// Shape of the result.
    #[must_use]
    pub fn output_shape(&self) -> Shape {
        self.node(self.output).shape
    }

    /// Back to the unchecked form, to be changed.
    #[must_use]
    pub fn to_literal(&self) -> GraphLiteral {
        GraphLiteral { nodes: self.nodes.iter().map(|n| n.literal.clone()).collect(), output: self.output }
    }

    /// For every node, the nodes that read it.
    #[must_use]
    pub fn readers(&self) -> Vec<Vec<NodeId>> {
        let mut readers = vec![vec![]; self.nodes.len()];
        for (i, node) in self.nodes.iter().enumerate() {
            for input in node.inputs() {
                readers[input.0].push(NodeId(i));
            }
        }
        readers
    }

    /// Digest of structure and weights (blake3, hexadecimal).
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hash = blake3::Hasher::new();
        for node in &self.nodes {
            let structure = serde_json::to_vec(&node.literal).unwrap_or_default();
            hash.update(&(structure.len() as u64).to_le_bytes());
            hash.update(&structure);
            for (_, values) in node.op().arrays() {
                hash.update(&(values.len() as u64).to_le_bytes());
                for v in values {
                    hash.update(&v.to_le_bytes());
                }
            }
        }
        hash.update(&(self.output.0 as u64).to_le_bytes());
        hash.finalize().to_hex().to_string()
    }
}
