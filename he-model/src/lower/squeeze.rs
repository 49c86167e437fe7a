//! The squeeze of a gate without a level for its square: mean and matrix, square, matrix, then the cubic of `gate`.
//!
//! Squeezed values need fewer bits than images: what is off in one of them is off by little in the gate. With primes of 30 bits the
//! second matrix's result t is wanted at 2^30 (its cubic spends 2^30 on t^2, and 2^30 on each product with the image), so its sum has
//! 2^60 before it is divided. 2^10 for the matrix leave 2^50 for the square and 2^25 for what is squared, which is
//! therefore not divided: one prime serves the square and the matrix. At 2^25 the rounding of a division would be felt if
//! periods were summed after it; here they are summed before, and what remains is new in every slot.
//!
//! The mean's factors divide by the number of pixels, so in front of them 30 bits for both mask and weights are few. The mask's
//! rounding averages out over the pixels, but that of factors, which are the same in all rows, does not: a mask of its own with
//! few bits leaves them the most.

use super::polynomial;
use super::pooled::Leaf;
use crate::graph::{Graph, NodeId, Op};
use crate::program::PlainScale;

/// Bits of the masks that copy rows for the mean.
pub(super) const MASK_BITS: u32 = 9;

/// log2 of the largest factor of the second matrix, when it is encoded.
const MATRIX_BITS: u32 = 10;

/// The nodes of every squeeze: a linear layer on the mean of a convolution, its quadratic, and the linear layer before a cubic gate.
pub(super) fn find(graph: &Graph, pooled: &[Option<Vec<Leaf>>], cubic_gates: &[bool]) -> Vec<bool> {
    let readers = graph.readers();
    let mut squeezes = vec![false; graph.nodes().len()];
    // What a node reads, if nothing else reads that.
    let alone = |id: NodeId, input: usize| {
        let below = *graph.node(id).inputs().get(input)?;
        (readers[below.0].len() == 1 && below != graph.output()).then_some(below)
    };
    let chain = |gate: usize| {
        let cubic = alone(NodeId(gate), 1)?;
        let (matrix, square) = (alone(cubic, 0)?, alone(alone(cubic, 0)?, 0)?);
        let first = alone(square, 0)?;
        let Op::Polynomial(p) = graph.node(square).op() else { return None };
        let quadratic =
            p.degree() == 2 && polynomial::is_well_conditioned(p, graph.node(square).shape().channels);
        let linear = matches!(graph.node(matrix).op(), Op::Linear(_));
        let mean = matches!(pooled[first.0].as_deref(), Some([Leaf::Conv(_)]));
        (quadratic && linear && mean).then_some([first, square, matrix])
    };
    for gate in (0..squeezes.len()).filter(|i| cubic_gates[*i]) {
        chain(gate).into_iter().flatten().for_each(|id| squeezes[id.0] = true);
    }
    squeezes
}

/// The scale of the second matrix, by its largest factor.
pub(super) fn matrix_scale(largest: f64) -> PlainScale {
    let least = if largest > 0.0 { -largest.log2().floor() } else { 0.0 };
    // More than 2^40 would leave nothing for what is squared; the plain scale is checked where levels are assigned.
    PlainScale::Bits((f64::from(MATRIX_BITS) + least).clamp(4.0, 40.0) as u32)
}
