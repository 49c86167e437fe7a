//! What can be wrong with a graph, always naming the node.

use networks::Shape;

/// A graph literal that cannot be a [`crate::Graph`], or a tensor that does not fit one.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum GraphError {
    /// The description that a random graph is drawn for is none.
    #[error(transparent)]
    Network(Box<networks::NetworkError>),
    /// The literal has no nodes.
    #[error("the graph has no nodes: it needs at least an input")]
    Empty,
    /// A node has no name.
    #[error("node number {index} has no name: every node needs one, errors and tensors refer to it")]
    Unnamed {
        /// Position in the literal.
        index: usize,
    },
    /// Two nodes share a name.
    #[error("two nodes are called `{name}`: names must be unique, tensors are stored under them")]
    DuplicateName {
        /// The shared name.
        name: String,
    },
    /// An offset that fits no node.
    #[error("an offset for node `{node}`: {reason}")]
    Offset {
        /// The name given.
        node: String,
        /// What is wrong.
        reason: String,
    },
    /// A node reads itself, a later node, or one that does not exist: a cycle or a wrong order.
    #[error(
        "node `{node}` reads node number {input}, which does not come before it: the graph has a cycle or is out of order"
    )]
    NotBefore {
        /// The reading node.
        node: String,
        /// The number it reads.
        input: usize,
    },
    /// Wrong number of operands.
    #[error("node `{node}` ({kind}) takes {expected} operand(s), not {got}")]
    Operands {
        /// The node.
        node: String,
        /// Its operation.
        kind: &'static str,
        /// How many it takes.
        expected: usize,
        /// How many it was given.
        got: usize,
    },
    /// There must be exactly one input, the first node.
    #[error(
        "node `{node}` is a second input, or not the first node: a graph has exactly one input and it comes first"
    )]
    InputPosition {
        /// The node.
        node: String,
    },
    /// The output number names no node.
    #[error("the output is node number {output}, but the graph has {nodes} nodes")]
    NoOutput {
        /// The number given.
        output: usize,
        /// Number of nodes.
        nodes: usize,
    },
    /// An array of weights has the wrong length.
    #[error("node `{node}`: its {array} has {got} values, expected {expected}")]
    Length {
        /// The node.
        node: String,
        /// Which array.
        array: &'static str,
        /// Expected number of values.
        expected: usize,
        /// Number of values found.
        got: usize,
    },
    /// A weight is not a finite number.
    #[error("node `{node}`: its {array} holds a value that is not finite")]
    NotFinite {
        /// The node.
        node: String,
        /// Which array.
        array: &'static str,
    },
    /// The shapes do not fit.
    #[error("node `{node}` ({kind}) cannot read a tensor of shape {input}: {reason}")]
    Shape {
        /// The node.
        node: String,
        /// Its operation.
        kind: &'static str,
        /// Shape of its (first) operand.
        input: Shape,
        /// What does not fit.
        reason: String,
    },
    /// A tensor of the wrong size was handed to the interpreter.
    #[error("the input has {got} values, expected {expected} ({shape})")]
    InputLength {
        /// Values expected.
        expected: usize,
        /// Values given.
        got: usize,
        /// Shape of the input.
        shape: Shape,
    },
}

impl From<networks::NetworkError> for GraphError {
    fn from(error: networks::NetworkError) -> Self {
        Self::Network(Box::new(error))
    }
}

/// What can go wrong between a graph and a planned, packed, stored model.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The graph itself is not valid.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// Numbers of a ring that the scheme refuses.
    #[error(transparent)]
    Ring(#[from] ckks::Error),
    /// A tier without keys that cannot be one.
    #[error(
        "level {level} is not the highest of a tier that can do without keys, those are {tiers:?}: export the model again"
    )]
    SkippedTier {
        /// The level named.
        level: usize,
        /// The highest levels of the tiers that can be skipped.
        tiers: Vec<usize>,
    },
    /// A packed program that no interpreter could carry out.
    #[error("the packed program cannot be carried out, this is a defect of the packing: {reason}")]
    Program {
        /// What does not fit.
        reason: String,
    },
    /// An operation that no packing here can carry out.
    #[error("node `{node}` cannot be packed: {reason}")]
    Unsupported {
        /// The node.
        node: String,
        /// Why, and what would help.
        reason: String,
    },
    /// A tensor does not fit the slots with the guard cells that zero padding needs.
    #[error("node `{node}` does not fit ciphertexts of {slots} slots with {lanes} lanes: {reason}")]
    DoesNotFit {
        /// The node.
        node: String,
        /// Slots of a ciphertext.
        slots: usize,
        /// Slots of a cell.
        lanes: usize,
        /// What is missing.
        reason: String,
    },
    /// More levels than primes.
    #[error(
        "the program needs {needed} primes, the parameters have {available}: choose a larger ring, or a network with fewer layers"
    )]
    TooDeep {
        /// Primes needed.
        needed: usize,
        /// Primes there.
        available: usize,
    },
    /// The operands of a sum have scales that cannot be made equal.
    #[error(
        "layer `{layer}` adds values of scale {left:.6e} and {right:.6e}: the packing should have matched them"
    )]
    Scales {
        /// The layer.
        layer: String,
        /// Scale of the first operand.
        left: f64,
        /// Scale of the second operand.
        right: f64,
    },
    /// The prime is too small for weights and mask.
    #[error(
        "layer `{layer}` has {bits:.1} bits left for a plaintext, at least 4 are needed: use fewer bits for weights or larger primes"
    )]
    PlainScale {
        /// The layer.
        layer: String,
        /// Bits left.
        bits: f64,
    },
    /// The keys are larger than the budget.
    #[error(
        "the evaluation keys would take {needed} MiB, the budget is {budget} MiB: raise the budget or use a smaller network"
    )]
    KeyBudget {
        /// MiB needed.
        needed: usize,
        /// MiB allowed.
        budget: usize,
    },
    /// Levels run out at the largest ring degree allowed.
    #[error(
        "`{layer}` is the first layer that no longer fits: ring degree 2^{log_ring_degree} has {levels} levels, the network needs {needed}, which is {bits} bits of primes where {bound} are allowed; {}",
        remedy(*.larger)
    )]
    Levels {
        /// The first layer that finds no level.
        layer: String,
        /// Levels that there are.
        levels: usize,
        /// Levels that the network needs.
        needed: usize,
        /// Bits of the primes that it needs, special ones included, with the fewest special ones.
        bits: u32,
        /// Bits that the security bound allows.
        bound: u32,
        /// log2 of the ring degree.
        log_ring_degree: u32,
        /// log2 of the smallest ring degree that would do, if the security bounds are known that far.
        larger: Option<u32>,
    },
    /// No parameters fit.
    #[error("no parameters fit: {reason}")]
    NoParameters {
        /// What is missing.
        reason: String,
    },
}

fn remedy(larger: Option<u32>) -> String {
    match larger {
        Some(n) => format!("ring degree 2^{n} would do"),
        None => "no ring degree with a known bound would do: use fewer blocks, no gates, or no activation after the sums".into(),
    }
}
