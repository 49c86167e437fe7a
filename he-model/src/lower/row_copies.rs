//! Convolutions on copies of the rows: the window moves along a row only.
//!
//! Where a row of cells is at least twice as wide as the image, it has free *blocks*, each as long as the image's row, and
//! all of them have an imaginary part. The mask that would empty unused slots makes copies there instead: the
//! image moved by -1, 0 and +1 rows, where rows that leave the image are zero already. All nine taps then differ by
//! offsets along the row, one run of integers; zero padding in x is a weight of zero, and no guard cells exist. With room
//! for more copies the run is cut into pieces, and a copy moved by the length of a piece serves each. Weights depend on the
//! slot inside one row of cells. In the end the blocks are summed and the real part is taken; what remains in
//! the other slots is left to the next mask.
//!
//! Masks and weights share one rescaling.

use std::collections::BTreeMap;

use num_complex::Complex64;

use super::{Lowering, Tensor};
use crate::graph::{Conv2d, NodeId, Op};
use crate::layout::{Grid, Layout};
use crate::program::{Instruction, PlainScale, Term, ValueId};

/// How many hoisted rotations a full one counts as. It costs four at N = 2^16 and seven at 2^17; up to 2^16 it counts as less, because fewer
/// keys leave room for wide stages.
fn giant_cost(slots: usize) -> i64 {
    if slots > 1 << 15 { 5 } else { 3 }
}

/// One copy of the image.
#[derive(Debug, Clone, Copy)]
struct Copy {
    /// Block of the row of cells.
    block: i64,
    /// In the imaginary part.
    imaginary: bool,
    /// By how many rows it is moved.
    row: i64,
    /// The piece of the run of offsets that it serves.
    piece: i64,
}

/// Where the copies lie and how the offsets are split.
pub(super) struct Shape {
    /// Slots of a row of the image, and of a block.
    block: i64,
    /// Slots from one row of the image to the next.
    row: i64,
    /// Smallest offset.
    first: i64,
    /// Offsets of a piece, a multiple of the baby steps.
    piece: i64,
    pieces: i64,
    babies: i64,
    copies: Vec<Copy>,
}

impl Shape {
    /// `None` if there is no room.
    pub(super) fn new(conv: &Conv2d, from: &Grid, to: &Grid, key_weight: u32) -> Option<Self> {
        let lanes = from.lanes as i64;
        let block = from.shape.width as i64 * from.period() as i64;
        let row = from.cell(1, 0) as i64 * lanes;
        let (height, slots) = (from.shape.height as i64, from.film_slots() as i64);
        let taps = match (conv.kernel, conv.padding) {
            ([3, 3], 1) => 3,
            ([1, 1], 0) => 1,
            _ => return None,
        };
        let single = [from, to].iter().all(|g| g.ciphertexts() == 1 && g.row_phases == 1);
        let whole = to.shape.width * conv.stride == from.shape.width;
        let out_row = row * conv.stride as i64;
        if !single || !whole || !(out_row as usize).is_power_of_two() || height * row > slots {
            return None;
        }
        let reach = (taps / 2) * from.period() as i64;
        let (outs, ins) = (to.shape.channels as i64 - 1, from.shape.channels as i64 - 1);
        let (first, length) = (-reach - outs, 2 * reach + outs + ins + 1);
        let mut best: Option<(i64, Self)> = None;
        for pieces in [1, 2, 4] {
            let copies = copies(taps, pieces);
            for log in 2..7 {
                let babies = 1i64 << log;
                let giants = (length as u64).div_ceil((pieces * babies) as u64) as i64;
                let piece = giants * babies;
                let blocks = copies.iter().map(|c| c.block).max().unwrap_or(0) + 1;
                let room = row - blocks * block - (pieces - 1) * piece;
                if taps > 1 && room < 0 || taps == 1 && pieces > 1 {
                    continue;
                }
                // Giant steps are a chain with one key; baby steps and copies have one each.
                let keys = i64::from(key_weight) * (babies + copies.len() as i64);
                let cost = babies
                    + giant_cost(from.slots) * giants
                    + 2 * copies.len() as i64
                    + length / pieces
                    + keys;
                if best.as_ref().is_none_or(|(c, _)| cost < *c) {
                    let copies = copies.clone();
                    best = Some((cost, Self { block, row, first, piece, pieces, babies, copies }));
                }
            }
        }
        best.map(|(_, shape)| shape)
    }

    /// By how much a copy is moved for its piece inside its block; the rest is made up when blocks are summed.
    fn inner(&self, copy: &Copy) -> i64 {
        copy.piece % 2 * self.piece
    }

    fn outer(&self, copy: &Copy) -> i64 {
        copy.piece / 2 * 2 * self.piece
    }
}

/// The copies for an odd number of taps in y and 1, 2, or 4 pieces: pairs of pieces share blocks, as real and imaginary part.
fn copies(taps: i64, pieces: i64) -> Vec<Copy> {
    if taps == 1 {
        return vec![Copy { block: 0, imaginary: false, row: 0, piece: 0 }];
    }
    if pieces == 1 {
        let copy = |block, imaginary, row| Copy { block, imaginary, row, piece: 0 };
        return vec![copy(0, false, 0), copy(0, true, -1), copy(1, false, 1)];
    }
    let rows = [0, -1, 1];
    let copy = |piece: i64, j: usize| Copy {
        block: 3 * (piece / 2) + j as i64,
        imaginary: piece % 2 == 1,
        row: rows[j],
        piece,
    };
    (0..pieces).flat_map(|piece| (0..3).map(move |j| copy(piece, j))).collect()
}

/// Weights by giant and baby step.
type Plains = BTreeMap<(i64, i64), Vec<Complex64>>;

impl<'a> Lowering<'a> {
    /// The convolution on row copies; `None` where the layout has no room for them.
    pub(super) fn conv_on_copies(
        &mut self,
        id: NodeId,
        conv: &Conv2d,
        x: &Tensor,
        from: &Grid,
        to: Grid,
    ) -> Option<Tensor> {
        let shape = Shape::new(conv, from, &to, self.packing.key_weight)?;
        let hint = self.hints[id.0].clone();
        let stored = |o: usize| hint.as_ref().map_or(1.0, |h| h[o]);
        let copied = conv.kernel[0] > 1;
        let input = if copied { self.copy_rows(x.values[0], from, &shape) } else { x.values[0] };
        let mut plains = Plains::new();
        self.weights(&mut plains, conv, x, (from, &to), &shape, (0, &stored));
        let rider = self.rider(id, conv);
        if let Some((node, shortcut)) = rider {
            let hint = self.hints[node.0].clone();
            let stored = |o: usize| hint.as_ref().map_or(1.0, |h| h[o]);
            let shape = &shape;
            self.weights(&mut plains, shortcut, x, (from, &to), shape, (shape.row, &stored));
        }
        let terms = self.terms(plains);
        let scale = PlainScale::Fill;
        let mut sum = self.builder.push(Instruction::Linear { inputs: vec![input], terms, scale });
        if copied {
            sum = self.sum_of_blocks(sum, &shape);
            let conjugate = self.builder.push(Instruction::Conjugate(sum));
            sum = self.builder.push(Instruction::Add(sum, conjugate));
        }
        let value = self.builder.push(Instruction::Rescale(sum));
        if let Some((node, _)) = rider {
            self.riders.insert(node, (value, shape.row));
        }
        Some(self.finish_copies(id, conv, value, to))
    }

    /// The result of a convolution from its sums: bias and factors.
    fn finish_copies(&mut self, id: NodeId, conv: &Conv2d, value: ValueId, to: Grid) -> Tensor {
        let hint = self.hints[id.0].clone();
        let stored = |o: usize| hint.as_ref().map_or(1.0, |h| h[o]);
        let mut y = Tensor::unit(vec![value], Layout::Grid(to));
        y.support = vec![vec![true; to.cells()]];
        let positions = to.shape.height * to.shape.width;
        self.add_constant(&mut y, |c, p| stored(c) * conv.bias.at(c, p, positions));
        y.factor = (0..to.shape.channels).map(|c| 1.0 / stored(c)).collect();
        y
    }

    /// A strided convolution of one tap with the same input and not lowered yet: it rides in the next row of cells, which a stride
    /// leaves free. There the copy moved by -1 row holds the rows that the output keeps.
    fn rider(&self, id: NodeId, conv: &Conv2d) -> Option<(NodeId, &'a Conv2d)> {
        let graph = self.graph;
        if conv.stride < 2 || conv.kernel != [3, 3] {
            return None;
        }
        let rides = |n: usize| match graph.nodes()[n].op() {
            Op::Conv2d(c) => {
                let same = c.kernel == [1, 1] && c.padding == 0 && c.stride == conv.stride;
                let input = graph.nodes()[n].inputs() == graph.node(id).inputs();
                let fits = c.groups == 1 && c.out_channels <= conv.out_channels;
                (same && input && fits && self.done[n].is_none()).then_some((NodeId(n), c))
            }
            _ => None,
        };
        (id.0 + 1..graph.nodes().len()).find_map(rides)
    }

    /// The result of a convolution that rode with another one.
    pub(super) fn conv_that_rode(&mut self, id: NodeId, conv: &Conv2d, to: Grid) -> Option<Tensor> {
        let (value, row) = self.riders.remove(&id)?;
        let moved = self.builder.rotate(value, row);
        // The other convolution chose the scale; a product with 1 brings it to what the reader wants.
        let scaled = self.builder.push(Instruction::MulScalar { input: moved, value: 1.0 });
        let value = self.builder.push(Instruction::Rescale(scaled));
        Some(self.finish_copies(id, conv, value, to))
    }

    /// The masks that copy, each after one hoisted rotation. The first offset of the run is part of the rotation.
    fn copy_rows(&mut self, x: ValueId, from: &Grid, shape: &Shape) -> ValueId {
        let slots = from.slots as i64;
        let mut terms = Vec::with_capacity(shape.copies.len());
        for copy in &shape.copies {
            let start = copy.block * shape.block - shape.inner(copy) - shape.first;
            let one = if copy.imaginary { Complex64::I } else { Complex64::ONE };
            let mut mask = vec![Complex64::ZERO; from.slots];
            let height = from.shape.height as i64;
            for y in (0..height).filter(|y| (0..height).contains(&(y + copy.row))) {
                for (film, j) in (0..from.films).flat_map(|film| (0..shape.block).map(move |j| (film, j))) {
                    let at = (film * from.film_slots()) as i64 + y * shape.row + start + j;
                    mask[at.rem_euclid(slots) as usize] = one;
                }
            }
            let plain = self.builder.plain(mask);
            let baby = (copy.row * shape.row - start).rem_euclid(slots) as u32;
            terms.push(Term { input: 0, baby, giant: 0, plain });
        }
        let key = (x, terms);
        if let Some(copied) = self.copied.get(&key) {
            return *copied;
        }
        let copied = self.masks_that_copy(x, key.1.clone());
        self.copied.insert(key, copied);
        copied
    }

    /// Masks after rotations. What follows shares their rescaling, unless they have a prime of their own.
    pub(super) fn masks_that_copy(&mut self, x: ValueId, terms: Vec<Term>) -> ValueId {
        let precise = self.packing.precise;
        let scale = if precise { PlainScale::Fill } else { PlainScale::Bits(self.packing.weight_bits) };
        let copied = self.builder.push(Instruction::Linear { inputs: vec![x], terms, scale });
        if precise { self.builder.push(Instruction::Rescale(copied)) } else { copied }
    }

    /// Adds a convolution's weights, for outputs that lie `row` slots further on.
    fn weights(
        &self,
        plains: &mut Plains,
        conv: &Conv2d,
        x: &Tensor,
        (from, to): (&Grid, &Grid),
        shape: &Shape,
        (row, stored): (i64, &dyn Fn(usize) -> f64),
    ) {
        let period = shape.row * conv.stride as i64;
        let (ins, outs) = (from.shape.channels / conv.groups, conv.out_channels / conv.groups);
        let [kh, kw] = conv.kernel;
        let copied = shape.copies.len() > 1;
        let rides = i64::from(row != 0);
        // Without copies the first offset has to go into the giant steps.
        let (half, shift) = if copied { (0.5, 0) } else { (1.0, shape.first) };
        for o in 0..conv.out_channels {
            for i in 0..ins {
                let input = o / outs * ins + i;
                let factor = half * stored(o) * x.factor[input];
                for (ky, kx) in (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx))) {
                    let w = conv.weight[((o * ins + i) * kh + ky) * kw + kx] * factor;
                    let (dy, dx) = (ky as i64 - conv.padding as i64, kx as i64 - conv.padding as i64);
                    let offset = dx * from.period() as i64 + input as i64 - o as i64 - shape.first;
                    let (piece, rest) = (offset / shape.piece, offset % shape.piece);
                    let copy = shape.copies.iter().find(|c| c.row == dy - rides && c.piece == piece);
                    let Some(copy) = copy else { continue };
                    let (giant, baby) = (rest / shape.babies * shape.babies + shift, rest % shape.babies);
                    let value = if copy.imaginary { Complex64::new(0.0, -w) } else { w.into() };
                    let plain =
                        plains.entry((giant, baby)).or_insert_with(|| vec![Complex64::ZERO; period as usize]);
                    for column in 0..to.shape.width as i64 {
                        let read = column * conv.stride as i64 + dx;
                        if (0..from.shape.width as i64).contains(&read) {
                            let out = column * to.period() as i64 + o as i64;
                            let at = row + out + copy.block * shape.block + shape.outer(copy) + giant;
                            plain[at.rem_euclid(period) as usize] += value;
                        }
                    }
                }
            }
        }
    }

    fn terms(&mut self, plains: Plains) -> Vec<Term> {
        let slots = self.packing.slots as i64;
        let step = |r: i64| r.rem_euclid(slots) as u32;
        self.rotations.extend(plains.keys().flat_map(|(g, b)| [g.rem_euclid(slots), b.rem_euclid(slots)]));
        let used = plains.into_iter().filter(|(_, p)| p.iter().any(|v| *v != Complex64::ZERO));
        used.map(|((giant, baby), plain)| {
            let plain = self.builder.plain(plain);
            Term { input: 0, baby: step(baby), giant: step(giant), plain }
        })
        .collect()
    }

    fn sum_of_blocks(&mut self, v: ValueId, shape: &Shape) -> ValueId {
        let blocks = if shape.pieces == 1 { 2 } else { 3 };
        let mut sum = v;
        for k in 1..blocks {
            let moved = self.builder.rotate(v, k * shape.block);
            sum = self.builder.push(Instruction::Add(sum, moved));
        }
        if shape.pieces == 4 {
            let moved = self.builder.rotate(sum, 3 * shape.block + 2 * shape.piece);
            sum = self.builder.push(Instruction::Add(sum, moved));
        }
        sum
    }
}
