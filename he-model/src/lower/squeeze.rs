//! The hidden layer of a gate without a level for the matrix behind it.
//!
//! Squeeze and excitation computes `s_c = sum over j of M_cj p(z_j) + b_c` with z = A m + a of the means m and p of degree two, so that
//! with `p(z) = q (z + h)^2 + r` it is a sum of squares: `s_c = sum over j of (y_cj)^2 + const`, `y_cj = sqrt(M_cj q_j) (z_j + h_j)`.
//! Mean, matrix and root are one linear map (see `pooled`) with an output for each pair of a channel and a hidden value, which
//! lie side by side in the slots: after the square a few rotations add them up. The second matrix, and its level, are gone. Roots of negative
//! numbers are imaginary, and so are the slots that hold them; their squares are real again.

use num_complex::Complex64;

use super::pooled::Leaf;
use super::{Lowering, Tensor, polynomial};
use crate::ModelError;
use crate::graph::{Graph, Linear, NodeId, Op};
use crate::layout::Layout;
use crate::packing::Packing;
use crate::program::Instruction;

/// Most outputs of the map, all pairs of a channel and a hidden value: each has a diagonal of its own. With 256 a map costs as
/// much as the two matrices that it replaces.
const MOST_PAIRS: usize = 256;

/// What a second matrix merges with.
#[derive(Debug, Clone)]
pub(super) struct Squeeze {
    /// The first matrix.
    first: NodeId,
    /// The activation between them.
    act: NodeId,
    /// What the mean reads.
    pub(super) leaves: Vec<Leaf>,
    /// Slots after which the channels of the image repeat.
    period: usize,
}

impl Squeeze {
    /// Outputs for each channel, a power of two.
    fn hidden(&self, graph: &Graph) -> usize {
        graph.node(self.first).shape().channels.next_power_of_two()
    }
}

/// For each matrix, with which square and which mean and matrix before it it merges. `pooled` says which matrices merge with means,
/// `cubic` which products have a cubic gate.
pub(super) fn find(
    graph: &Graph,
    packing: &Packing,
    pooled: &[Option<Vec<Leaf>>],
    cubic: &[bool],
) -> Vec<Option<Squeeze>> {
    let readers = graph.readers();
    let grids = packing.grids(graph);
    let only_reader = |id: NodeId| match readers[id.0].as_slice() {
        [reader] if id != graph.output() => Some(*reader),
        _ => None,
    };
    let squeeze = |i: usize| {
        let Op::Linear(_) = graph.nodes()[i].op() else { return None };
        let product = only_reader(only_reader(NodeId(i))?)?;
        let act = graph.nodes()[i].inputs()[0];
        let Op::Polynomial(p) = graph.node(act).op() else { return None };
        let first = graph.node(act).inputs()[0];
        let leaves = pooled[first.0].clone()?;
        let hidden = graph.node(first).shape().channels;
        let square = p.degree() == 2 && polynomial::is_well_conditioned(p, hidden);
        let single = only_reader(first) == Some(act) && only_reader(act) == Some(NodeId(i));
        let grid = grids[graph.node(product).inputs()[0].0]?;
        let squeeze = Squeeze { first, act, leaves, period: grid.period() };
        let pairs = squeeze.period * squeeze.hidden(graph);
        // Factors repeat row by row, and so must the outputs.
        let row = grid.cell(1, 0) as usize * grid.lanes;
        let fits = graph.nodes()[i].shape().channels <= squeeze.period
            && pairs <= MOST_PAIRS.min(row)
            && packing.films() == 1;
        (cubic[product.0] && square && single && fits).then_some(squeeze)
    };
    (0..readers.len()).map(squeeze).collect()
}

impl Lowering<'_> {
    /// The second matrix of a gate, from what the means read.
    pub(super) fn squeezed(
        &mut self,
        id: NodeId,
        second: &Linear,
        squeeze: &Squeeze,
    ) -> Result<Tensor, ModelError> {
        let (graph, period) = (self.graph, squeeze.period);
        let (Op::Linear(first), Op::Polynomial(p)) =
            (graph.node(squeeze.first).op(), graph.node(squeeze.act).op())
        else {
            return Err(self.unsupported(id, "a gate without a matrix and an activation"));
        };
        let hint = self.hints[id.0].clone();
        let stored = |c: usize| hint.as_ref().map_or(1.0, |h| h[c]);
        let coefficient = |j: usize, k: usize| p.channel(j).get(k).copied().unwrap_or(0.0);
        // p(z) = q (z + h)^2 + r.
        let lead = |j: usize| coefficient(j, 2);
        let shift = |j: usize| coefficient(j, 1) / (2.0 * lead(j));
        let rest = |j: usize| coefficient(j, 0) - lead(j) * shift(j) * shift(j);
        let means = graph.node(graph.node(squeeze.first).inputs()[0]).shape().channels;
        let hidden = squeeze.hidden(graph);
        let mut pairs = Linear {
            outputs: hidden * period,
            weight: vec![0.0; hidden * period * means],
            bias: vec![0.0; hidden * period],
        };
        let mut units = vec![Complex64::ONE; hidden * period];
        let mut constants = vec![0.0; second.outputs];
        for (c, constant) in constants.iter_mut().enumerate() {
            *constant = stored(c) * second.bias[c];
            for j in 0..first.outputs {
                let weight = stored(c) * second.weight[c * first.outputs + j];
                *constant += weight * rest(j);
                let (pair, square) = (j * period + c, weight * lead(j));
                if square < 0.0 {
                    units[pair] = Complex64::I;
                }
                let root = square.abs().sqrt();
                pairs.bias[pair] = root * (first.bias[j] + shift(j));
                for m in 0..means {
                    pairs.weight[pair * means + m] = root * first.weight[j * means + m];
                }
            }
        }
        let (sum, grid) = self.gathered_pairs(id, &mut pairs, &squeeze.leaves, &units)?;
        let mut value = self.builder.push(Instruction::Rescale(sum));
        let bias: Vec<Complex64> = pairs.bias.iter().zip(&units).map(|(b, unit)| b * unit).collect();
        if bias.iter().any(|b| *b != Complex64::ZERO) {
            let plain = self.builder.plain(bias);
            value = self.builder.push(Instruction::AddPlain { input: value, plain });
        }
        let square = self.squared(value);
        let value = self.sum_of_steps(square, period, hidden);
        let layout =
            Layout::Vector { features: second.outputs, slots: grid.slots, period, films: grid.films };
        let mut y = Tensor::unit(vec![value], layout);
        self.add_constant(&mut y, |c, _| constants[c]);
        y.factor = (0..second.outputs).map(|c| 1.0 / stored(c)).collect();
        Ok(y)
    }
}
