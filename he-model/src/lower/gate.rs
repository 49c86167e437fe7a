//! Gates: an image times a vector that is repeated under every pixel.
//!
//! A cubic that ends in a gate shares its last level with the product: with the cubic c3 (T^3 + P T) + Q in T = t + c2 / 3 c3,
//! `x gate = c3 (T x) (T^2 + P) + Q x`, two levels after t instead of three. The term Q x and the factor x of the first
//! product have levels to spare.

use super::{Lowering, Tensor, polynomial};
use crate::graph::{Graph, NodeId, Op};
use crate::layout::Layout;
use crate::program::{Instruction, PlainScale};
use crate::{ModelError, Polynomial};

/// For each product with a gate, whether the gate is a cubic that nothing else reads.
pub(super) fn find(graph: &Graph) -> Vec<bool> {
    let readers = graph.readers();
    let is_cubic = |node: &crate::Node| {
        let gate = *node.inputs().get(1)?;
        let (Op::ChannelMul, Op::Polynomial(p)) = (node.op(), graph.node(gate).op()) else { return None };
        let single = readers[gate.0].len() == 1 && gate != graph.output();
        let channels = graph.node(gate).shape().channels;
        Some(single && p.degree() == 3 && polynomial::is_well_conditioned(p, channels))
    };
    graph.nodes().iter().map(|n| is_cubic(n).unwrap_or(false)).collect()
}

impl Lowering<'_> {
    /// Multiplies the channels of an image by a vector that is repeated under every pixel.
    pub(super) fn gate(&mut self, id: NodeId, x: Tensor, gate: Tensor) -> Result<Tensor, ModelError> {
        self.check_gate(id, &x, &gate)?;
        let gate = self.repeated(gate);
        let mut values = Vec::with_capacity(x.values.len());
        for (v, g) in x.values.iter().zip(&gate.values) {
            let product = self.builder.push(Instruction::Mul(*v, *g));
            values.push(self.builder.push(Instruction::Rescale(product)));
        }
        let factor = x.factor.iter().zip(&gate.factor).map(|(a, b)| a * b).collect();
        Ok(Tensor { values, factor, ..x })
    }

    /// The same with the gate p(t).
    pub(super) fn gate_of_cubic(
        &mut self,
        id: NodeId,
        x: Tensor,
        p: &Polynomial,
        mut t: Tensor,
    ) -> Result<Tensor, ModelError> {
        self.check_gate(id, &x, &t)?;
        if t.factor.contains(&0.0) {
            let gate = self.polynomial(p, t);
            return self.gate(id, x, gate);
        }
        t = self.repeated(t);
        let f = t.factor.clone();
        let [c0, c1, c2, c3] =
            [0, 1, 2, 3].map(|k| move |c: usize| p.channel(c).get(k).copied().unwrap_or(0.0));
        let shift = |c: usize| c2(c) / (3.0 * c3(c));
        self.add_constant(&mut t, |c, _| shift(c) / f[c]);
        let lead: Vec<f64> = f.iter().enumerate().map(|(c, f)| polynomial::snap(c3(c) * f * f * f)).collect();
        let rest = |c: usize| c0(c) - shift(c) * (c1(c) - 2.0 * c3(c) * shift(c) * shift(c));
        let rest = t.layout.fill(|c, _| rest(c) / lead[c]);
        let firsts: Vec<_> = x
            .values
            .iter()
            .zip(&t.values)
            .map(|(v, t)| {
                let same = self.builder.push(Instruction::MulScalar { input: *v, value: 1.0 });
                let same = self.builder.push(Instruction::Rescale(same));
                let first = self.builder.push(Instruction::Mul(same, *t));
                self.builder.push(Instruction::Rescale(first))
            })
            .collect();
        let squares = t.values.iter().map(|t| self.squared(*t)).collect();
        let mut squares = Tensor { values: squares, ..t };
        let linear = |c: usize| (c1(c) - c2(c) * shift(c)) / c3(c);
        self.add_constant(&mut squares, |c, _| linear(c) / (f[c] * f[c]));
        let mut values = Vec::with_capacity(x.values.len());
        for (((v, first), square), rest) in x.values.iter().zip(firsts).zip(&squares.values).zip(rest) {
            let product = self.builder.push(Instruction::Mul(first, *square));
            let product = self.builder.push(Instruction::Rescale(product));
            let plain = self.builder.plain(rest);
            let rest = self.builder.push(Instruction::MulPlain { input: *v, plain, scale: PlainScale::Fill });
            let rest = self.builder.push(Instruction::Rescale(rest));
            values.push(self.builder.push(Instruction::Add(product, rest)));
        }
        let factor = x.factor.iter().zip(&lead).map(|(a, b)| a * b).collect();
        Ok(Tensor { values, factor, ..x })
    }

    fn check_gate(&self, id: NodeId, x: &Tensor, gate: &Tensor) -> Result<(), ModelError> {
        let period = |l: &Layout| match l {
            Layout::Grid(g) => g.period(),
            Layout::Vector { period, .. } => *period,
        };
        let one_row = !matches!(x.layout, Layout::Grid(g) if g.row_phases > 1);
        if !one_row || period(&x.layout) != period(&gate.layout) || matches!(gate.layout, Layout::Grid(_)) {
            return Err(self.unsupported(id, "the gate is not repeated like the channels of the image"));
        }
        Ok(())
    }
}
