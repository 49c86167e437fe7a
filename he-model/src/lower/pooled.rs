//! A mean followed by a matrix, in one linear map: sum over c, y, x of A[k, c, y, x] h[c, y, x] for every output k.
//!
//! Where the mean is that of a convolution of three rows, the map starts at its input: with M the matrix and w the kernel, the pixel in
//! row y and column x counts with the sum over dy of `B[k, c, dy, x] = sum over dx, o of M[k, o] w[o, c, dy, dx] / (H W)`, dx
//! restricted to columns x - dx of the image and dy to rows y - dy. So convolution, mean and matrix take one level, and sums of such terms
//! (the last residual sum) share it.
//!
//! If the convolution itself is evaluated on row copies without imaginary parts, its copies are read: the one moved by dy rows with
//! `B[k, c, dy, x]`, whatever the row, because rows that leave the image are zero there. Both maps then share their input and baby
//! steps, and are carried out together. Otherwise the image is read once. Only its first and its last row lack one dy; so that factors are
//! the same in every second row, the mask that empties what is no pixel also copies these two rows into the free block beside
//! them, where the sum for all dy is put right: by `-B[dy = 1]` for the first row, which is even, and `-B[dy = -1]` for the last,
//! which is odd.
//!
//! Slot t of a row holds channel t mod P (P the period of the grid), and output k gathers in the slots s with s mod P = k: with
//! r = (t - k) mod P the factor of slot t is needed at s = t - r, so P rotations serve all outputs, split into baby and
//! giant steps. Rotations by P, 2 P, 4 P .. sum what has gathered, and the result is periodic; in a batch those sums reach into the next
//! film, and only the first period of each film holds them.

use std::collections::{BTreeMap, BTreeSet};

use num_complex::Complex64;

use super::offsets::Split;
use super::row_copies::Shape as Copies;
use super::{Lowering, Tensor};
use crate::ModelError;
use crate::graph::{Conv2d, Graph, Linear, NodeId, Op};
use crate::layout::{Grid, Layout};
use crate::packing::Packing;
use crate::program::{Instruction, PlainScale, Term, ValueId};

/// What a mean and a matrix read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaf {
    /// The input of this convolution, where row copies have room.
    Conv(NodeId),
    /// This node's result.
    Tensor(NodeId),
}

/// One leaf's factors: the value that it reads, the baby steps that it has already, slots after which factors repeat, and
/// (output, slot, factor).
struct Factors {
    input: ValueId,
    babies: Option<i64>,
    period: usize,
    entries: Vec<(usize, i64, f64)>,
}

/// For each linear layer that merges with the mean before it, what it reads.
pub(super) fn find(graph: &Graph, packing: &Packing) -> Vec<Option<Vec<Leaf>>> {
    let readers = graph.readers();
    if matches!(packing, Packing::Guarded(_)) {
        return vec![None; readers.len()];
    }
    let grids = packing.grids(graph);
    let leaves = |i: usize| {
        let Op::Linear(linear) = graph.nodes()[i].op() else { return None };
        let pool = graph.nodes()[i].inputs()[0];
        let single = |id: NodeId| readers[id.0].len() == 1 && id != graph.output();
        if !matches!(graph.node(pool).op(), Op::GlobalAvgPool) || !single(pool) {
            return None;
        }
        let below = graph.node(pool).inputs()[0];
        let grid = grids[below.0]?;
        let output = graph.output() == NodeId(i);
        let fits = if matches!(packing, Packing::Dense(_)) {
            // Beside a gate the vector has to be repeated as the image is.
            gathered_period(&grid, linear.outputs) <= grid.film_slots()
                && (output || linear.outputs <= grid.period() || grid.row_phases > 1)
        } else {
            grid.ciphertexts() == 1 && linear.outputs <= grid.period()
        };
        fits.then(|| collect(graph, &grids, &single, below))
    };
    (0..readers.len()).map(leaves).collect()
}

/// Slots after which the outputs of a matrix of means repeat: the period of the image, if they fit.
fn gathered_period(grid: &Grid, outputs: usize) -> usize {
    grid.period().max(outputs.next_power_of_two())
}

fn collect(graph: &Graph, grids: &[Option<Grid>], single: &dyn Fn(NodeId) -> bool, id: NodeId) -> Vec<Leaf> {
    let node = graph.node(id);
    match node.op() {
        Op::Add if single(id) => {
            let leaves: Vec<Leaf> =
                node.inputs().iter().flat_map(|i| collect(graph, grids, single, *i)).collect();
            // Sums of what is not a convolution are cheaper before.
            if leaves.iter().any(|l| matches!(l, Leaf::Conv(_))) { leaves } else { vec![Leaf::Tensor(id)] }
        }
        Op::Conv2d(c) if c.kernel == [3, 3] && c.stride == 1 => {
            let (from, to) = (grids[node.inputs()[0].0], grids[id.0]);
            match (from, to) {
                (Some(from), Some(to))
                    if from.shape.height.is_multiple_of(2)
                        && Copies::new(c, &from, &to, 0, false).is_some() =>
                {
                    vec![Leaf::Conv(id)]
                }
                _ => vec![Leaf::Tensor(id)],
            }
        }
        _ => vec![Leaf::Tensor(id)],
    }
}

impl Lowering<'_> {
    pub(super) fn pooled(
        &mut self,
        id: NodeId,
        linear: &Linear,
        leaves: &[Leaf],
    ) -> Result<Tensor, ModelError> {
        let mut bias = linear.bias.clone();
        let (parts, grid) = self.parts(id, linear, leaves, &mut bias)?;
        Ok(self.gathered(id, parts, &bias, &grid))
    }

    /// The sums of a matrix of means in every period of slots, not rescaled, each times a unit: 1 or i. What the biases of
    /// convolutions contribute is added to those of the matrix.
    pub(super) fn gathered_pairs(
        &mut self,
        id: NodeId,
        linear: &mut Linear,
        leaves: &[Leaf],
        units: &[Complex64],
    ) -> Result<(ValueId, Grid), ModelError> {
        let mut bias = linear.bias.clone();
        let (parts, grid) = self.parts(id, linear, leaves, &mut bias)?;
        linear.bias = bias;
        let period = gathered_period(&grid, units.len());
        let sums =
            parts.into_iter().map(|part| self.gather(part, &grid, period, |k| units[k])).collect::<Vec<_>>();
        let sum = self.total(&sums);
        Ok((self.sum_of_periods(sum, period, &grid), grid))
    }

    fn total(&mut self, sums: &[ValueId]) -> ValueId {
        let mut sum = sums[0];
        for part in &sums[1..] {
            sum = self.builder.push(Instruction::Add(sum, *part));
        }
        sum
    }

    /// The factors of everything that a matrix of means reads, and where its images lie. Biases of convolutions are added to `bias`.
    fn parts(
        &mut self,
        id: NodeId,
        linear: &Linear,
        leaves: &[Leaf],
        bias: &mut [f64],
    ) -> Result<(Vec<Factors>, Grid), ModelError> {
        let mut parts = vec![];
        let mut grid = None;
        for leaf in leaves {
            let from = match *leaf {
                Leaf::Tensor(node) => {
                    let x = self.tensor(node);
                    let Layout::Grid(from) = x.layout else {
                        return Err(self.unsupported(id, "the mean of what is not an image"));
                    };
                    parts.extend(factors_of_tensor(linear, &x, &from));
                    from
                }
                Leaf::Conv(node) => {
                    let graph = self.graph;
                    let Op::Conv2d(conv) = graph.node(node).op() else {
                        return Err(self.unsupported(id, "a convolution that is none"));
                    };
                    add_mean_of_bias(bias, linear, conv, graph.node(node).shape());
                    let x = self.tensor(graph.node(node).inputs()[0]);
                    let Layout::Grid(from) = x.layout else {
                        return Err(self.unsupported(id, "a convolution of what is not an image"));
                    };
                    parts.push(self.factors_of_conv(node, linear, conv, &x, &from));
                    from
                }
            };
            grid.get_or_insert(from);
        }
        let Some(grid) = grid else { return Err(self.unsupported(id, "a mean of nothing")) };
        Ok((parts, grid))
    }

    /// The mean of each channel of an image whose rows hold channels of one pixel.
    pub(super) fn gathered_mean(
        &mut self,
        id: NodeId,
        x: &Tensor,
        from: &Grid,
    ) -> Result<Tensor, ModelError> {
        let channels = from.shape.channels;
        if gathered_period(from, channels) > from.film_slots() {
            return Err(self.does_not_fit(id, format!("the means of {channels} channels")));
        }
        let weight = (0..channels * channels).map(|i| f64::from(u8::from(i % (channels + 1) == 0))).collect();
        let identity = Linear { outputs: channels, weight, bias: vec![0.0; channels] };
        Ok(self.gathered(id, factors_of_tensor(&identity, x, from), &identity.bias, from))
    }

    /// The sum of all parts, in every period of slots.
    fn gathered(&mut self, id: NodeId, parts: Vec<Factors>, bias: &[f64], grid: &Grid) -> Tensor {
        let is_output = self.graph.output() == id;
        let hint = self.hints[id.0].clone();
        let stored = |o: usize| hint.as_ref().map_or(1.0, |h| h[o]);
        let largest =
            parts.iter().flat_map(|p| &p.entries).fold(0.0f64, |m, (o, _, v)| m.max(v.abs() * stored(*o)));
        // Means have small factors, and plaintexts round to multiples of one number. Half of the gain that would make the factors
        // of size 1 goes here, the other half stays for the next matrix; the output has to have the factor 1.
        let gain = if is_output || largest == 0.0 { 1.0 } else { (-largest.log2() / 2.0).round().exp2() };
        let period = gathered_period(grid, bias.len());
        let sums = parts
            .into_iter()
            .map(|part| self.gather(part, grid, period, |o| (gain * stored(o)).into()))
            .collect::<Vec<_>>();
        let mut sum = self.total(&sums);
        sum = self.sum_of_periods(sum, period, grid);
        // Divided last: the rounding of a division before would be summed with the periods.
        sum = self.builder.push(Instruction::Rescale(sum));
        let (features, slots, films) = (bias.len(), grid.slots, grid.films);
        let layout = Layout::Vector { features, slots, period, films };
        let mut y = Tensor::unit(vec![sum], layout);
        self.add_constant(&mut y, |c, _| gain * stored(c) * bias[c]);
        y.factor = (0..features).map(|c| 1.0 / (gain * stored(c))).collect();
        y
    }

    /// The copies on which a convolution is evaluated, if it is and they have no imaginary parts.
    fn real_copies(&self, node: NodeId, conv: &Conv2d, from: &Grid) -> Option<Copies> {
        let to = Grid { shape: self.graph.node(node).shape(), ..*from };
        let copies = Copies::new(conv, from, &to, self.packing.frame().key_weight, true);
        copies.filter(|copies| self.gathered[node.0] && copies.real)
    }

    fn factors_of_conv(
        &mut self,
        node: NodeId,
        linear: &Linear,
        conv: &Conv2d,
        x: &Tensor,
        from: &Grid,
    ) -> Factors {
        let (shape, edges) = (from.shape, Edges::new(from));
        let copies = self.real_copies(node, conv, from);
        let period = gathered_period(from, linear.outputs) as i64;
        let n = (shape.height * shape.width) as f64;
        let (outs, ins) = (conv.out_channels / conv.groups, shape.channels / conv.groups);
        let mut entries = vec![];
        for k in 0..linear.outputs {
            for c in 0..shape.channels {
                // The matrix times the kernel, by its rows and columns.
                let taps = [0, 1, 2].map(|ky| {
                    [0, 1, 2].map(|kx| {
                        let group = c / ins;
                        let outputs = group * outs..(group + 1) * outs;
                        let products = outputs.map(|o| {
                            linear.weight[k * conv.out_channels + o]
                                * conv.weight[(o * ins + c % ins) * 9 + ky * 3 + kx]
                        });
                        products.sum::<f64>() * x.factor[c] / n
                    })
                });
                for column in 0..shape.width as i64 {
                    let reached = |kx: &usize| (0..shape.width as i64).contains(&(column + 1 - *kx as i64));
                    let [above, same, below] =
                        taps.map(|row| (0..3).filter(reached).map(|kx| row[kx]).sum::<f64>());
                    let at = column * from.period() as i64 + c as i64;
                    if let Some(copies) = &copies {
                        for (dy, factor) in [(-1, above), (0, same), (1, below)] {
                            // Of the pieces that hold it, the one that is moved least; in a batch periods count from a film's first slot.
                            let mut slots = copies.slots(dy, at);
                            let first = slots.next();
                            let moved = |slot: &i64| (slot - k as i64).rem_euclid(period);
                            let least = first.into_iter().chain(slots).min_by_key(moved);
                            let slot = if from.films > 1 { first } else { least };
                            entries.extend(slot.map(|slot| (k, slot, factor)));
                        }
                        continue;
                    }
                    for (row, lacks) in [(0, below), (1, above)] {
                        entries.push((k, row * edges.row + at, above + same + below));
                        entries.push((k, row * edges.row + edges.block + at, -lacks));
                    }
                }
            }
        }
        if let Some(copies) = copies {
            let input = self.copy_rows(x.values[0], from, &copies);
            return Factors { input, babies: Some(copies.babies), period: copies.row() as usize, entries };
        }
        let input = self.copy_edges(x.values[0], from, &edges);
        Factors { input, babies: None, period: 2 * edges.row as usize, entries }
    }

    /// The mask that keeps the pixels, and copies the first and the last row into the block beside them.
    fn copy_edges(&mut self, x: ValueId, from: &Grid, edges: &Edges) -> ValueId {
        let mut mask = |rows: &mut dyn Iterator<Item = i64>, block: i64| {
            let mut mask = vec![Complex64::ZERO; from.slots];
            for (row, film) in rows.flat_map(|row| (0..from.films).map(move |film| (row, film))) {
                let at = film * from.film_slots() + (row * edges.row + block * edges.block) as usize;
                mask[at..at + edges.block as usize].fill(Complex64::ONE);
            }
            self.builder.plain(mask)
        };
        let height = from.shape.height as i64;
        let (pixels, copies) = (mask(&mut (0..height), 0), mask(&mut [0, height - 1].into_iter(), 1));
        let moved = (from.slots as i64 - edges.block) as u32;
        let terms = vec![
            Term { input: 0, baby: 0, giant: 0, plain: pixels },
            Term { input: 0, baby: moved, giant: 0, plain: copies },
        ];
        self.rotations.insert(i64::from(moved));
        self.masks_that_copy(x, terms)
    }

    /// The map that gathers output k, times `scale(k)`, in the slots s with s mod P = k.
    fn gather(
        &mut self,
        part: Factors,
        grid: &Grid,
        period: usize,
        scale: impl Fn(usize) -> Complex64,
    ) -> ValueId {
        let (p, slots) = (period as i64, self.packing.slots() as i64);
        let moves = Moves::new(&part, grid, p);
        let offsets: BTreeSet<(i64, i64)> =
            part.entries.iter().map(|(k, t, _)| (0, moves.by(*t, *k) - moves.least)).collect();
        let split = match part.babies {
            Some(run) => Split::runs_of(run),
            None => self.split(&offsets, 0, 1),
        };
        let mut plains: BTreeMap<(i64, i64), Vec<Complex64>> = BTreeMap::new();
        for (k, t, v) in part.entries {
            let (baby, giant) = split.split((0, moves.by(t, k) - moves.least));
            let baby = baby + moves.least;
            let plain = plains.entry((giant, baby)).or_insert_with(|| vec![Complex64::ZERO; part.period]);
            plain[(t - baby).rem_euclid(part.period as i64) as usize] += v * scale(k);
        }
        let step = |r: i64| r.rem_euclid(slots) as u32;
        let terms = plains
            .into_iter()
            .map(|((giant, baby), plain)| {
                let plain = self.builder.plain(plain);
                Term { input: 0, baby: step(baby), giant: step(giant), plain }
            })
            .collect();
        self.builder.push(Instruction::Linear { inputs: vec![part.input], terms, scale: PlainScale::Fill })
    }
}

/// Where the first and the last row of an image are copied to: a block further on.
struct Edges {
    /// Slots of a row of the image.
    block: i64,
    /// Slots from one row to the next.
    row: i64,
}

impl Edges {
    fn new(from: &Grid) -> Self {
        let block = (from.shape.width * from.period()) as i64;
        Self { block, row: from.cell(1, 0) as i64 * from.lanes as i64 }
    }
}

/// By how much the values of a tensor are moved to be gathered.
struct Moves {
    period: i64,
    /// Where the values of a film begin and how many periods one row of factors has, in a batch.
    film: Option<(i64, i64)>,
    /// The smallest move.
    least: i64,
}

impl Moves {
    fn new(part: &Factors, grid: &Grid, period: i64) -> Self {
        let slots = || part.entries.iter().map(|(_, t, _)| *t);
        let first = slots().min().unwrap_or(0).div_euclid(period) * period;
        let film = (grid.films > 1).then_some((first, (part.period as i64 / period).max(1)));
        let mut moves = Self { period, film, least: 0 };
        moves.least = part.entries.iter().map(|(k, t, _)| moves.by(*t, *k)).min().unwrap_or(0);
        moves
    }

    /// The move from slot t to one that gathers output k. Alone in the ciphertext a film may go around its end; in
    /// a batch it must not reach the next film, so values at its ends take the nearest slot inside.
    fn by(&self, t: i64, k: usize) -> i64 {
        let k = k as i64;
        match self.film {
            None => (t - k).rem_euclid(self.period),
            Some((first, periods)) => {
                let to = (t - first - k).div_euclid(self.period).clamp(0, periods - 1);
                t - (k + to * self.period)
            }
        }
    }
}

/// The factors of each ciphertext of a tensor.
fn factors_of_tensor(linear: &Linear, x: &Tensor, from: &Grid) -> Vec<Factors> {
    let (shape, row) = (from.shape, from.cell(1, 0) as usize * from.lanes);
    let n = (shape.height * shape.width) as f64;
    // Where no row of cells is left over, or those are empty, all rows have the same factors.
    let (used, film) = (shape.height * row / from.lanes, from.film_slots() / from.lanes);
    let mut films = x.support.iter().flat_map(|support| support.chunks(film));
    let rest = films.all(|film| film.iter().skip(used).all(|cell| !cell));
    let periodic = row.is_power_of_two() && rest;
    let (period, height) = if periodic { (row, 1) } else { (from.film_slots(), shape.height) };
    let part = |input: &ValueId| Factors { input: *input, babies: None, period, entries: vec![] };
    let mut parts: Vec<Factors> = x.values.iter().map(part).collect();
    for k in 0..linear.outputs {
        for c in 0..shape.channels {
            let w = linear.weight[k * shape.channels + c] * x.factor[c] / n;
            for (y, column) in (0..height).flat_map(|y| (0..shape.width).map(move |x| (y, x))) {
                let (ciphertext, slot) = from.slot(c, y, column);
                parts[ciphertext].entries.push((k, slot as i64, w));
            }
        }
    }
    parts
}

/// What the convolution's bias contributes: the matrix of its mean.
fn add_mean_of_bias(bias: &mut [f64], linear: &Linear, conv: &Conv2d, shape: crate::Shape) {
    let positions = shape.height * shape.width;
    let mean = |o: usize| {
        let sum: f64 = (0..positions).map(|p| conv.bias.at(o, p, positions)).sum();
        sum / positions as f64
    };
    let means: Vec<f64> = (0..conv.out_channels).map(mean).collect();
    for (k, b) in bias.iter_mut().enumerate() {
        let row = &linear.weight[k * means.len()..(k + 1) * means.len()];
        *b += row.iter().zip(&means).map(|(w, m)| w * m).sum::<f64>();
    }
}
