//! Folding: the same function with fewer operations.
//!
//! Each pass rewrites the literal where its formula applies and says how often; [`fold`] runs all of them until nothing
//! changes. What is left of a classifier is convolutions, fully connected layers, means, polynomials, sums and gates.
//!
//! What is *not* done here, because it depends on how tensors lie in slots: completing squares, factors that are carried
//! into the next weights, means as sums without a division, and the factors of residual arms. That is
//! [`he_model::lower()`].

mod affine;
mod linear;
mod literal;

use he_model::{Graph, GraphError, GraphLiteral};

/// A pass: rewrites one place, or says that there is none left.
type Pass = fn(&mut GraphLiteral, &[he_model::Shape]) -> bool;

/// The passes by name, in the order in which they are tried.
const PASSES: [(&str, Pass); 6] = [
    ("polynomial of degree 1 to affine", affine::from_polynomial),
    ("affine into the layer before", affine::into_previous),
    ("affine before the mean", affine::before_mean),
    ("factor into the gate", affine::into_gate),
    ("affine into the layers after", affine::into_next),
    ("two linear layers into one", linear::merge),
];

/// What folding did.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Folds {
    /// How often each pass applied.
    pub applied: Vec<(String, usize)>,
}

/// Runs all passes until none applies.
///
/// # Errors
/// Never, unless a pass is wrong: the result is checked like every graph.
pub fn fold(graph: &Graph) -> Result<(Graph, Folds), GraphError> {
    let mut counts = [0usize; PASSES.len()];
    let mut graph = graph.clone();
    loop {
        let mut literal = graph.to_literal();
        let shapes: Vec<_> = graph.nodes().iter().map(he_model::Node::shape).collect();
        let Some(i) = PASSES.iter().position(|(_, pass)| pass(&mut literal, &shapes)) else { break };
        counts[i] += 1;
        graph = Graph::new(literal::without_unread(literal))?;
    }
    let applied = PASSES.iter().zip(counts).filter(|(_, n)| *n > 0);
    let applied = applied.map(|((name, _), n)| ((*name).to_owned(), n)).collect();
    Ok((graph, Folds { applied }))
}
