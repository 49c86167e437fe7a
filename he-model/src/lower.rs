//! From the tensor graph to the packed program.
//!
//! Every tensor is kept as slot values times a *factor* a channel that is still missing. A quadratic
//! a x^2 + b x + c is a (x + b/2a)^2 + c - b^2/4a: one addition, one square, and the factor a, which the next linear
//! map takes into its weights; a cubic is a ((x + h)^3 + p (x + h)) + q in the same way, two levels. Means leave
//! the factor 1/n. Where two factors meet in a sum and differ, a product with a plaintext makes them good, which costs
//! a level (residual arms have levels to spare).
//!
//! A convolution is one linear map with periodic plaintexts and one mask that empties the guard cells (`conv`), or
//! one that copies the image into free slots before (`row_copies`), or, on several ciphertexts, a matrix of maps without guard cells (`dense`);
//! mean pooling is rotations and sums (`pool`); vectors are periodic (`vector`); gates are in `gate` and `squeeze`.

mod conv;
mod defer;
mod dense;
mod gate;
mod offsets;
mod polynomial;
mod pool;
mod pooled;
mod row_copies;
mod share;
mod squeeze;
mod vector;

use std::collections::{BTreeSet, HashMap};

use pooled::Leaf;
use squeeze::Squeeze;

use crate::graph::{Graph, NodeId, Op, Shape};
use crate::layout::{Grid, Layout};
use crate::packing::{Frame, Packing};
use crate::program::{Builder, Instruction, PlainScale, Program, Term, ValueId};
use crate::{ModelError, Polynomial};

/// A tensor during lowering.
#[derive(Debug, Clone)]
struct Tensor {
    values: Vec<ValueId>,
    layout: Layout,
    /// True value = factor x slot value, one a channel.
    factor: Vec<f64>,
    /// For a grid: for each ciphertext, the cells that may be other than zero.
    support: Vec<Vec<bool>>,
}

impl Tensor {
    fn unit(values: Vec<ValueId>, layout: Layout) -> Self {
        let support = match &layout {
            Layout::Grid(g) => occupied(g),
            Layout::Vector { .. } => vec![],
        };
        Self { values, layout, factor: vec![1.0; layout.shape().channels], support }
    }

    fn shape(&self) -> Shape {
        self.layout.shape()
    }

    fn has_unit_factor(&self) -> bool {
        self.factor.iter().all(|f| *f == 1.0)
    }

    /// True if every slot that holds no value is zero.
    fn is_clean(&self) -> bool {
        match &self.layout {
            Layout::Grid(g) => occupied(g) == self.support,
            Layout::Vector { .. } => true,
        }
    }
}

/// The cells of each ciphertext that hold a value.
fn occupied(grid: &Grid) -> Vec<Vec<bool>> {
    let mut cells = vec![vec![false; grid.cells()]; grid.ciphertexts()];
    let film_cells = grid.film_slots() / grid.lanes;
    // The channels of a cell are there or not together: the first one of each cell stands for all.
    for c in (0..grid.shape.channels).step_by(grid.lanes) {
        for y in 0..grid.shape.height {
            for x in 0..grid.shape.width {
                let (ciphertext, slot) = grid.slot(c, y, x);
                (0..grid.films)
                    .for_each(|film| cells[ciphertext][film * film_cells + slot / grid.lanes] = true);
            }
        }
    }
    cells
}

/// Packs a graph.
///
/// # Errors
/// An operation that cannot be packed, or a tensor that does not fit.
pub fn lower(graph: &Graph, packing: &Packing) -> Result<Program, ModelError> {
    let Frame { slots, lanes, films, .. } = *packing.frame();
    let powers = [slots, lanes, films].iter().all(|n| n.is_power_of_two());
    if !powers || lanes.saturating_mul(films) > slots || packing.kind().pitch(0) > slots {
        let reason = "slots, lanes and films have to be powers of two, lanes times films and guard columns at most slots".into();
        return Err(ModelError::DoesNotFit { node: "input".into(), slots, lanes, reason });
    }
    let (pooled, cubic_gates) = (pooled::find(graph, packing), gate::find(graph));
    let squeezes = squeeze::find(graph, packing, &pooled, &cubic_gates);
    let mut lowering = Lowering {
        graph,
        packing: *packing,
        builder: Builder::new(slots),
        done: vec![None; graph.nodes().len()],
        hints: hints(graph),
        rotations: BTreeSet::new(),
        pooled,
        squeezes,
        cubic_gates,
        copied: HashMap::new(),
        riders: HashMap::new(),
        gathered: vec![false; graph.nodes().len()],
    };
    let wanted = lowering.wanted();
    lowering.gathered = lowering.gathered_too(&wanted);
    for (i, _) in wanted.iter().enumerate().filter(|(_, wanted)| **wanted) {
        lowering.node(NodeId(i))?;
    }
    let output = lowering.tensor(graph.output());
    let output = lowering.make_good(output);
    let input = lowering.done[0].as_ref().map_or(output.layout, |t| t.layout);
    let program = lowering.builder.finish(input, output.layout, output.values);
    let program = match packing {
        Packing::RowCopies(copies) => defer::defer_rescalings(program, copies.wide_stages),
        Packing::Guarded(_) | Packing::Dense(_) => program,
    };
    Program::new(share::together(program))
}

struct Lowering<'a> {
    graph: &'a Graph,
    packing: Packing,
    builder: Builder,
    done: Vec<Option<Tensor>>,
    /// For a linear node whose only reader is a polynomial: by what its stored values are multiplied.
    hints: Vec<Option<Vec<f64>>>,
    /// Rotations that some layer makes already.
    rotations: BTreeSet<i64>,
    /// Linear layers that merge with the mean before them.
    pooled: Vec<Option<Vec<Leaf>>>,
    /// The second matrices of gates that merge with what lies before them.
    squeezes: Vec<Option<Squeeze>>,
    /// Products with a gate that share a level with its polynomial.
    cubic_gates: Vec<bool>,
    /// Row copies that were made already, by value and masks.
    copied: HashMap<(ValueId, Vec<Term>), ValueId>,
    /// Convolutions whose results lie in those of others, that many slots further on.
    riders: HashMap<NodeId, (ValueId, i64)>,
    /// Convolutions that are evaluated and whose means are gathered too.
    gathered: Vec<bool>,
}

impl Lowering<'_> {
    /// The nodes that are lowered: those that the result depends on, without pools that merge into what follows.
    fn wanted(&self) -> Vec<bool> {
        let mut wanted = vec![false; self.graph.nodes().len()];
        wanted[0] = true;
        wanted[self.graph.output().0] = true;
        for i in (0..wanted.len()).rev().filter(|i| *i > 0) {
            if wanted[i] {
                self.reads(NodeId(i)).into_iter().for_each(|node| wanted[node.0] = true);
            }
        }
        wanted
    }

    /// The convolutions that are evaluated and of which a matrix of means begins at their input.
    fn gathered_too(&self, wanted: &[bool]) -> Vec<bool> {
        let mut gathered = vec![false; wanted.len()];
        let matrices = (0..wanted.len()).filter(|i| wanted[*i]);
        let leaves = |i: usize| {
            let squeezed = self.squeezes[i].as_ref().map(|squeeze| &squeeze.leaves);
            squeezed.or(self.pooled[i].as_ref()).into_iter().flatten().copied()
        };
        for leaf in matrices.flat_map(leaves) {
            if let Leaf::Conv(conv) = leaf {
                gathered[conv.0] = wanted[conv.0];
            }
        }
        gathered
    }

    /// The nodes whose tensors a node reads.
    fn reads(&self, reader: NodeId) -> Vec<NodeId> {
        let node = self.graph.node(reader);
        let squeezed = self.squeezes[reader.0].as_ref().map(|squeeze| &squeeze.leaves);
        if let Some(leaves) = squeezed.or(self.pooled[reader.0].as_ref()) {
            let tensor = |leaf: &Leaf| match *leaf {
                Leaf::Conv(conv) => self.graph.node(conv).inputs()[0],
                Leaf::Tensor(id) => id,
            };
            return leaves.iter().map(tensor).collect();
        }
        let below = |k: usize| self.source(reader, node.inputs()[k]);
        if self.cubic_gates[reader.0] {
            return vec![below(0), self.graph.node(node.inputs()[1]).inputs()[0]];
        }
        (0..node.inputs().len()).map(below).collect()
    }

    /// What `reader` really reads: the global mean of means over tiles is the global mean.
    fn source(&self, reader: NodeId, input: NodeId) -> NodeId {
        if let (Op::GlobalAvgPool, Op::AvgPool(p)) =
            (self.graph.node(reader).op(), self.graph.node(input).op())
        {
            let below = self.graph.node(input).inputs()[0];
            let s = self.graph.node(below).shape();
            let tiles = s.height.is_multiple_of(p.kernel) && s.width.is_multiple_of(p.kernel);
            if p.kernel == p.stride && tiles {
                return below;
            }
        }
        input
    }

    fn tensor(&self, id: NodeId) -> Tensor {
        self.done[id.0].clone().expect("operands are lowered before their readers")
    }

    fn node(&mut self, id: NodeId) -> Result<(), ModelError> {
        let graph = self.graph;
        let node = graph.node(id);
        if id.0 > 0 {
            self.builder.layer(node.name());
        }
        let operand = |s: &Self, k: usize| s.tensor(s.source(id, node.inputs()[k]));
        let tensor = match node.op() {
            Op::Input { shape } => self.input(*shape)?,
            Op::Conv2d(c) => {
                let x = operand(self, 0);
                self.conv2d(id, c, x)?
            }
            Op::Linear(l) => match (self.squeezes[id.0].clone(), self.pooled[id.0].clone()) {
                (Some(squeeze), _) => self.squeezed(id, l, &squeeze)?,
                (None, Some(leaves)) => self.pooled(id, l, &leaves)?,
                (None, None) => {
                    let x = operand(self, 0);
                    self.linear(id, l, x)?
                }
            },
            Op::AvgPool(p) => {
                let x = operand(self, 0);
                self.avg_pool(id, *p, x)?
            }
            Op::GlobalAvgPool => {
                let x = operand(self, 0);
                self.global_pool(id, x)?
            }
            Op::Polynomial(p) => {
                let x = operand(self, 0);
                self.polynomial(p, x)
            }
            Op::ChannelAffine(a) => {
                let x = operand(self, 0);
                let p = Polynomial::per_channel(
                    &a.scale.iter().zip(&a.shift).map(|(s, t)| [*t, *s]).collect::<Vec<_>>(),
                );
                self.polynomial(&p, x)
            }
            Op::Add => {
                let (a, b) = (operand(self, 0), operand(self, 1));
                self.sum(id, a, b)?
            }
            Op::ChannelMul => match graph.node(node.inputs()[1]).op() {
                Op::Polynomial(p) if self.cubic_gates[id.0] => {
                    let t = self.tensor(graph.node(node.inputs()[1]).inputs()[0]);
                    let x = operand(self, 0);
                    self.gate_of_cubic(id, x, p, t)?
                }
                _ => {
                    let (x, gate) = (operand(self, 0), operand(self, 1));
                    self.gate(id, x, gate)?
                }
            },
        };
        self.builder.result(&tensor.values, tensor.layout, &tensor.factor);
        self.done[id.0] = Some(tensor);
        Ok(())
    }

    fn input(&mut self, shape: Shape) -> Result<Tensor, ModelError> {
        let Frame { slots, lanes, .. } = *self.packing.frame();
        let layout = if shape.is_vector() {
            let films = self.packing.films();
            let period = shape.channels.next_power_of_two().min(slots / films);
            Layout::Vector { features: shape.channels, slots, period, films }
        } else {
            Layout::Grid(self.packing.grid(shape))
        };
        if let Layout::Grid(g) = &layout
            && g.extent() > g.film_slots()
        {
            let reason = format!("its rows need {} slots a film, {} films", g.extent(), g.films);
            return Err(ModelError::DoesNotFit { node: "input".into(), slots, lanes, reason });
        }
        let values = (0..layout.ciphertexts()).map(|i| self.builder.push(Instruction::Input(i))).collect();
        Ok(Tensor::unit(values, layout))
    }

    /// Residual sum; the factors of both arms are made equal first.
    fn sum(&mut self, id: NodeId, a: Tensor, b: Tensor) -> Result<Tensor, ModelError> {
        if a.layout != b.layout {
            return Err(self.unsupported(id, "its operands lie in different layouts"));
        }
        let equal =
            |s: f64| a.factor.iter().zip(&b.factor).all(|(a, b)| (a - s * b).abs() <= 1e-12 * a.abs());
        let (sub, (a, b)) = if equal(1.0) {
            (false, (a, b))
        } else if equal(-1.0) {
            (true, (a, b))
        } else {
            (false, (self.make_good(a), self.make_good(b)))
        };
        let pairs = a.values.iter().zip(&b.values);
        let instructions: Vec<_> = pairs
            .map(|(x, y)| if sub { Instruction::Sub(*x, *y) } else { Instruction::Add(*x, *y) })
            .collect();
        let values = instructions.into_iter().map(|i| self.builder.push(i)).collect();
        let support = a.support.iter().zip(&b.support);
        let support = support.map(|(a, b)| a.iter().zip(b).map(|(a, b)| *a || *b).collect()).collect();
        Ok(Tensor { values, support, ..a })
    }

    /// Multiplies the missing factors in and empties every slot that holds no value: one level.
    fn make_good(&mut self, x: Tensor) -> Tensor {
        if x.has_unit_factor() {
            return x;
        }
        self.clean(x)
    }

    fn clean(&mut self, x: Tensor) -> Tensor {
        let masks = x.layout.fill(|c, _| x.factor[c]);
        let values = x.values.iter().zip(masks);
        let values = values.map(|(v, mask)| self.masked(*v, mask)).collect();
        Tensor::unit(values, x.layout)
    }

    fn masked(&mut self, input: ValueId, mask: Vec<num_complex::Complex64>) -> ValueId {
        let plain = self.builder.plain(mask);
        let product = self.builder.push(Instruction::MulPlain { input, plain, scale: PlainScale::Fill });
        self.builder.push(Instruction::Rescale(product))
    }

    /// Adds a constant for each channel and position, given in units of the slot values.
    fn add_constant(&mut self, x: &mut Tensor, value: impl Fn(usize, usize) -> f64) {
        let shape = x.shape();
        let positions = shape.height * shape.width;
        if (0..shape.channels).all(|c| (0..positions).all(|p| value(c, p) == 0.0)) {
            return;
        }
        for (v, plain) in x.values.iter_mut().zip(x.layout.fill(value)) {
            if plain.iter().any(|p| p.re != 0.0) {
                let plain = self.builder.plain(plain);
                *v = self.builder.push(Instruction::AddPlain { input: *v, plain });
            }
        }
        if let Layout::Grid(g) = &x.layout {
            let pairs = x.support.iter_mut().zip(occupied(g));
            pairs.for_each(|(s, o)| s.iter_mut().zip(o).for_each(|(s, o)| *s |= o));
        }
    }

    fn unsupported(&self, id: NodeId, reason: &str) -> ModelError {
        ModelError::Unsupported { node: self.graph.node(id).name().into(), reason: reason.into() }
    }
}

/// A linear node that only a polynomial reads stores its values times the root, of its degree, of the leading
/// coefficient: then the polynomial leaves the factor 1 or -1 and its values keep their size.
fn hints(graph: &Graph) -> Vec<Option<Vec<f64>>> {
    let readers = graph.readers();
    let hint = |i: usize| {
        let [reader] = readers[i].as_slice() else { return None };
        let Op::Polynomial(p) = graph.node(*reader).op() else { return None };
        let lead = |c: usize| p.channel(c).get(p.degree()).copied().unwrap_or(0.0);
        let channels = graph.nodes()[i].shape().channels;
        let roots: Vec<f64> = match p.degree() {
            2 => (0..channels).map(|c| lead(c).abs().sqrt()).collect(),
            3 => (0..channels).map(|c| lead(c).cbrt()).collect(),
            // The highest power gets a factor near 1: powers of what reaches 6 or 8 would be millions that cancel.
            d @ 4.. => {
                return Some(
                    (0..channels).map(|c| lead(c).abs().powf(1.0 / d as f64).clamp(0.0625, 1.0)).collect(),
                );
            }
            _ => return None,
        };
        polynomial::is_well_conditioned(p, channels).then_some(roots)
    };
    let linear = |i: usize| matches!(graph.nodes()[i].op(), Op::Conv2d(_) | Op::Linear(_));
    (0..graph.nodes().len()).map(|i| if linear(i) { hint(i) } else { None }).collect()
}
