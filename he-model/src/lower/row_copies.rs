//! Convolutions on copies of the rows: the window moves along a row only.
//!
//! Where a row of cells is at least twice as wide as the image, it has free *blocks*, each as long as the image's row, and
//! all of them have an imaginary part. The mask that would empty unused slots makes copies there instead: the
//! image moved by -1, 0 and +1 rows, where rows that leave the image are zero already. All nine taps then differ by
//! offsets along the row, one run of integers; zero padding in x is a weight of zero, and no guard cells exist. With room
//! for more copies the run is cut into pieces, and a copy moved by the length of a piece serves each. Weights depend on the
//! slot inside one row of cells. In the end the blocks are summed and the real part is taken, unless there was room for copies
//! without imaginary parts; what remains in the other slots is left to the next mask.
//!
//! Masks and weights share one rescaling.

use std::collections::BTreeMap;

use num_complex::Complex64;

use super::pool::FEWER_KEYS;
use super::{Lowering, Tensor};
use crate::graph::{Conv2d, NodeId, Op};
use crate::layout::{Grid, Layout};
use crate::program::{Instruction, PlainScale, Term, ValueId};

/// Costs of a shape are in quarters of a hoisted rotation; a product is one.
const HOISTED: i64 = 4;

/// Copies that are moved by whole pieces lie so far apart that every period of at most so many slots divides the distance: a mean
/// that is gathered with that period finds each piece moved by its length.
const GAP: i64 = 256;

/// How many hoisted rotations a full one counts as. It costs four at N = 2^16 and seven at 2^17; up to 2^16 it counts as less, because fewer
/// keys leave room for wide stages.
fn giant_cost(slots: usize) -> i64 {
    if slots > 1 << 15 { 5 } else { 3 }
}

/// One copy of the image.
#[derive(Debug, Clone, Copy)]
struct Copy {
    /// Where in the row of cells the outputs lie that read it.
    at: i64,
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
    /// Offsets of a baby step, by which giant steps move.
    pub(super) babies: i64,
    /// Without imaginary parts.
    pub(super) real: bool,
    /// Slots from the copies of one piece, or of one pair of pieces that share blocks, to those of the next.
    group: i64,
    copies: Vec<Copy>,
}

impl Shape {
    /// The cheapest one; `None` if there is no room. Where `real` is preferred, one with imaginary parts is taken only where no other
    /// fits.
    pub(super) fn new(conv: &Conv2d, from: &Grid, to: &Grid, key_weight: u32, real: bool) -> Option<Self> {
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
        let styles = [(1, false), (1, true), (2, false), (2, true), (4, false), (4, true)];
        for (pieces, is_real) in styles.into_iter().filter(|(pieces, _)| taps > 1 || *pieces == 1) {
            for log in 2..7 {
                let babies = 1i64 << log;
                let giants = (length as u64).div_ceil((pieces * babies) as u64) as i64;
                let piece = giants * babies;
                let gap =
                    if is_real { (piece as u64).next_multiple_of(GAP as u64) as i64 } else { 2 * piece };
                let group = 3 * block + gap;
                let mut shape =
                    Self { block, row, first, piece, pieces, babies, real: is_real, group, copies: vec![] };
                shape.copies = shape.copies(taps);
                if taps > 1 && !shape.has_room() {
                    continue;
                }
                // Imaginary parts cost those more who gather the copies.
                let dear = if real && !is_real && taps > 1 { 1 << 20 } else { 0 };
                let cost = dear + shape.cost(giant_cost(from.slots), key_weight, length);
                if best.as_ref().is_none_or(|(c, _)| cost < *c) {
                    best = Some((cost, shape));
                }
            }
        }
        best.map(|(_, shape)| shape)
    }

    /// In quarters of a hoisted rotation, if a full one counts as `full` of them.
    fn cost(&self, full: i64, key_weight: u32, length: i64) -> i64 {
        let copies = self.copies.len() as i64;
        let stages = self.stages(key_weight);
        let moved: i64 = stages.iter().map(|stage| stage.len() as i64).sum();
        // Every rotation of the last stage is conjugated, and so is what it rotates.
        let conjugated = match stages.last() {
            Some(last) if !self.real => last.len() as i64 + 1,
            _ => 0,
        };
        let giants = self.piece / self.babies;
        // Giant steps are a chain with one key; baby steps, copies and sums have one each.
        let keys = i64::from(key_weight) * (self.babies + copies + moved + conjugated);
        let hoisted = self.babies + copies + moved + conjugated - stages.len() as i64 + keys;
        HOISTED * (hoisted + full * (giants + stages.len() as i64)) + copies + length / self.pieces
    }

    /// The rotations by which the blocks are summed, in stages: each adds to what it is given its rotations.
    fn stages(&self, key_weight: u32) -> Vec<Vec<i64>> {
        let (block, group) = (self.block, self.group);
        let blocks = vec![block, 2 * block];
        match (self.copies.len(), self.real, self.pieces) {
            (1, ..) => vec![],
            (_, false, 1) => vec![vec![block]],
            (_, true, 1) | (_, false, 2) => vec![blocks],
            (_, true, 2) if key_weight < FEWER_KEYS => {
                vec![vec![block, 2 * block, group, group + block, group + 2 * block]]
            }
            (_, true, 2) | (_, false, _) => vec![blocks, vec![group]],
            (_, true, _) => vec![blocks, vec![group, 2 * group, 3 * group]],
        }
    }

    /// The copies for an odd number of taps in y and 1, 2, or 4 pieces: without imaginary parts a piece each in blocks of its own, with them in
    /// pairs that share blocks.
    fn copies(&self, taps: i64) -> Vec<Copy> {
        if taps == 1 {
            return vec![Copy { at: 0, imaginary: false, row: 0, piece: 0 }];
        }
        if self.pieces == 1 && !self.real {
            let copy = |at, imaginary, row| Copy { at, imaginary, row, piece: 0 };
            return vec![copy(0, false, 0), copy(0, true, -1), copy(self.block, false, 1)];
        }
        let rows = [0, -1, 1];
        let copy = |piece: i64, j: usize| {
            let (group, imaginary) = if self.real { (piece, false) } else { (piece / 2, piece % 2 == 1) };
            Copy { at: group * self.group + j as i64 * self.block, imaginary, row: rows[j], piece }
        };
        (0..self.pieces).flat_map(|piece| (0..3).map(move |j| copy(piece, j))).collect()
    }

    /// Whether the copies keep apart, those of the next row included.
    fn has_room(&self) -> bool {
        [false, true].into_iter().all(|imaginary| {
            let part = self.copies.iter().filter(|c| c.imaginary == imaginary);
            let mut starts: Vec<i64> = part.map(|c| self.start(c)).collect();
            starts.sort_unstable();
            let apart = starts.windows(2).all(|pair| pair[0] + self.block <= pair[1]);
            let ends = starts.first().zip(starts.last());
            apart && ends.is_none_or(|(first, last)| last + self.block <= first + self.row)
        })
    }

    /// Where in the row of cells a copy begins: the offset with which its piece of the run begins is part of its place.
    fn start(&self, copy: &Copy) -> i64 {
        copy.at - copy.piece * self.piece - self.first
    }

    /// Where slot `at` of a row of the image lies in the copies that are moved by `row` rows, inside a row of them: one slot for each piece.
    pub(super) fn slots(&self, row: i64, at: i64) -> impl Iterator<Item = i64> {
        self.copies.iter().filter(move |c| c.row == row).map(move |c| self.start(c) + at)
    }

    /// Slots of a row of cells.
    pub(super) fn row(&self) -> i64 {
        self.row
    }
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
        let shape = Shape::new(conv, from, &to, self.packing.frame().key_weight, self.gathered[id.0])?;
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
    pub(super) fn copy_rows(&mut self, x: ValueId, from: &Grid, shape: &Shape) -> ValueId {
        let slots = from.slots as i64;
        let mut terms = Vec::with_capacity(shape.copies.len());
        for copy in &shape.copies {
            let start = shape.start(copy);
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
        let precise = self.packing.is_precise();
        let scale =
            if precise { PlainScale::Fill } else { PlainScale::Bits(self.packing.frame().weight_bits) };
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
        let half = if copied && !shape.real { 0.5 } else { 1.0 };
        // Without copies the first offset has to go into the giant steps.
        let shift = if copied { 0 } else { shape.first };
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
                            let at = row + out + copy.at + giant;
                            plain[at.rem_euclid(period) as usize] += value;
                        }
                    }
                }
            }
        }
    }

    fn terms(&mut self, plains: Plains) -> Vec<Term> {
        let slots = self.packing.slots() as i64;
        let step = |r: i64| r.rem_euclid(slots) as u32;
        self.rotations.extend(plains.keys().flat_map(|(g, b)| [g.rem_euclid(slots), b.rem_euclid(slots)]));
        let used = plains.into_iter().filter(|(_, p)| p.iter().any(|v| *v != Complex64::ZERO));
        used.map(|((giant, baby), plain)| {
            let plain = self.builder.plain(plain);
            Term { input: 0, baby: step(baby), giant: step(giant), plain }
        })
        .collect()
    }

    /// The sum of all copies, or, where they have imaginary parts, twice its real part.
    fn sum_of_blocks(&mut self, v: ValueId, shape: &Shape) -> ValueId {
        let stages = shape.stages(self.packing.frame().key_weight);
        let mut sum = v;
        for (number, stage) in stages.iter().enumerate() {
            let last = number + 1 == stages.len();
            sum = if last && !shape.real {
                self.real_part_of_sum(sum, stage)
            } else {
                self.sum_of_rotations(sum, stage)
            };
        }
        sum
    }

    /// A value and its rotations, added up.
    fn sum_of_rotations(&mut self, v: ValueId, rotations: &[i64]) -> ValueId {
        let mut sum = v;
        for by in rotations {
            let moved = self.builder.rotate(v, *by);
            sum = self.builder.push(Instruction::Add(sum, moved));
        }
        sum
    }

    /// A value, its rotations, and the conjugates of them all, added up. With a key for each rotation that is followed by a conjugation,
    /// everything shares one decomposition; without, the sum is conjugated.
    fn real_part_of_sum(&mut self, v: ValueId, rotations: &[i64]) -> ValueId {
        let mut sum = self.sum_of_rotations(v, rotations);
        let (of, conjugated) =
            if self.packing.frame().key_weight < FEWER_KEYS { (v, rotations) } else { (sum, [].as_slice()) };
        for by in std::iter::once(&0).chain(conjugated) {
            let by = by.rem_euclid(self.packing.slots() as i64) as u32;
            let conjugate = self.builder.push(Instruction::Conjugate { input: of, by });
            sum = self.builder.push(Instruction::Add(sum, conjugate));
        }
        sum
    }
}
