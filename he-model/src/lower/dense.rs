//! Convolutions without guard cells, on as many ciphertexts as the channels need.
//!
//! The image fills its rows of cells from edge to edge, and each ciphertext holds some of the channels. A tap (dy, dx) from channel i to o
//! is a move by r rows and v slots along the row; v is handled by the weights, which depend on the slot inside a row: a product
//! that would read beyond the row's end has the weight zero. A move by r rows would take the rows at one end of the image to the other
//! end, so the rows that must not be read are emptied before, by a mask for each r. Masks need copies of the input, and those go in
//! pairs: one as the real, one as the imaginary part. The run of moves along the row is cut into pieces, and a copy moved by the
//! length of a piece serves each, so that a 3x3 kernel takes three ciphertexts and half of the run. In the end the real
//! part is taken. Masks and weights share one rescaling, or have one each (`Packing::precise`). All other slots come out as zero, so nothing has to be cleaned afterwards.
//!
//! All outputs read the same rotated inputs, and all inputs share the giant steps of an output: the maps form one
//! group ([`crate::schedule::Schedule::groups`]). Where a stride leaves rows of cells free, they hold channels too (`Packing::row_phases`),
//! so that tensors stay on few ciphertexts as images shrink.
//!
//! A batch costs nothing more: weights repeat from row to row, and so from film to film.

use std::collections::{BTreeMap, BTreeSet};

use num_complex::Complex64;

use super::{Lowering, Tensor};
use crate::ModelError;
use crate::graph::{Conv2d, NodeId};
use crate::layout::{Grid, Layout};
use crate::program::{Instruction, PlainId, PlainScale, Term, ValueId};

/// A full rotation costs about this many hoisted ones.
const GIANT_COST: usize = 3;

/// One period of weights by output and input ciphertext, and by the move: rows, and slots along the row.
type Weights = BTreeMap<(usize, usize, i64, i64), Vec<f64>>;

/// What one decomposition costs, in hoisted rotations.
const DECOMPOSITION_COST: usize = 2;

/// How the moves are made. The moves along a row are cut into pieces, and these into baby and giant steps.
#[derive(Debug, Clone)]
struct Moves {
    /// The moves by rows.
    rows: Vec<i64>,
    /// The smallest move along a row.
    first: i64,
    /// Moves of a piece.
    piece: i64,
    pieces: usize,
    /// Baby steps.
    run: i64,
    /// Inputs are masked copies in pairs; otherwise they are the tensor's own ciphertexts, and moves by rows are part of the baby steps.
    copied: bool,
}

/// One way to make a move.
struct Step {
    /// The number of the copy.
    copy: usize,
    baby: i64,
    giant: i64,
}

impl Moves {
    /// The cheapest way for these weights, from `inputs` ciphertexts to `outputs`.
    fn choose(weights: &Weights, copied: bool, inputs: usize, outputs: usize, key_weight: usize) -> Self {
        let rows: BTreeSet<i64> = weights.keys().map(|(_, _, r, _)| *r).collect();
        let along = || weights.keys().map(|(_, _, _, v)| *v);
        let (first, last) = (along().min().unwrap_or(0), along().max().unwrap_or(0));
        let length = (last - first + 1) as usize;
        let rows: Vec<i64> = rows.into_iter().collect();
        let most = if copied { 3 } else { 1 };
        let ways = (0..most).flat_map(|log| {
            let pieces = 1usize << log;
            let piece = length.div_ceil(pieces);
            (0..usize::BITS - piece.leading_zeros() + 1).map(move |log| (pieces, piece, 1usize << log))
        });
        let cost = |(pieces, piece, run): &(usize, usize, usize)| {
            let copies = rows.len() * pieces;
            let (babies, giants) = ((*run).min(*piece), piece.div_ceil(*run) - 1);
            let (moved, made, keys) = if copied {
                // Each input is decomposed and moved for its copies, then each pair; the real part is a rotation an output.
                let pairs = copies.div_ceil(2);
                let made = copies + DECOMPOSITION_COST + pairs * DECOMPOSITION_COST;
                (pairs * babies, made, copies + babies)
            } else {
                (rows.len() * babies, DECOMPOSITION_COST, rows.len() * babies)
            };
            let keys = keys + usize::from(giants > 0);
            inputs * (moved + made) + GIANT_COST * outputs * giants + key_weight * keys
        };
        let (pieces, piece, run) = ways.min_by_key(cost).unwrap_or((1, length, 1));
        // Whole giant steps, so that they have one key.
        let piece = if pieces > 1 { piece.div_ceil(run) * run } else { piece };
        Self { rows, first, piece: piece as i64, pieces, run: run as i64, copied }
    }

    /// The copies: by how many rows each is moved, and the first move along the row that it serves.
    fn copies(&self) -> Vec<(i64, i64)> {
        let first = |piece: usize| self.first + piece as i64 * self.piece;
        self.rows.iter().flat_map(|r| (0..self.pieces).map(move |piece| (*r, first(piece)))).collect()
    }

    fn step(&self, r: i64, v: i64, row: i64) -> Step {
        let along = v - self.first;
        let (piece, rest) = (along.div_euclid(self.piece), along.rem_euclid(self.piece));
        let (giant, baby) = (rest / self.run * self.run, rest % self.run);
        if self.copied {
            let at = self.rows.iter().position(|row| *row == r).unwrap_or(0);
            return Step { copy: at * self.pieces + piece as usize, baby, giant };
        }
        Step { copy: 0, baby: r * row + self.first + baby, giant }
    }
}

impl Lowering<'_> {
    pub(super) fn conv_dense(
        &mut self,
        id: NodeId,
        conv: &Conv2d,
        x: Tensor,
        from: &Grid,
        to: Grid,
    ) -> Result<Tensor, ModelError> {
        let rows = from.film_slots() / from.row();
        let (high, wide) = (to.shape.height * to.dilation, to.shape.width * to.dilation);
        if !from.row().is_power_of_two() || high > rows || wide > to.pitch {
            let reason = format!(
                "its result spans {high} x {wide} cells, {rows} x {} are there, in rows of a power of two",
                to.pitch
            );
            return Err(self.does_not_fit(id, reason));
        }
        let x = if has_empty_rows(&x, from) { x } else { self.clean(x) };
        let hint = self.hints[id.0].clone();
        let stored = |o: usize| hint.as_ref().map_or(1.0, |h| h[o]);
        let weights = weights(conv, &x, from, &to, stored);
        let key_weight = self.packing.frame().key_weight as usize;
        let copied = wraps(&weights, from, &to);
        let moves = Moves::choose(&weights, copied, x.values.len(), to.ciphertexts(), key_weight);
        let inputs = if copied { self.copies_of_rows(&x, from, &to, &moves) } else { x.values.clone() };
        let mut sums: Vec<ValueId> = (0..to.ciphertexts())
            .map(|output| {
                let terms = self.dense_terms(&weights, output, from.row() as i64, &moves);
                self.builder.push(Instruction::Linear {
                    inputs: inputs.clone(),
                    terms,
                    scale: PlainScale::Fill,
                })
            })
            .collect();
        if copied {
            for sum in &mut sums {
                let conjugate = self.builder.push(Instruction::Conjugate { input: *sum, by: 0 });
                *sum = self.builder.push(Instruction::Add(*sum, conjugate));
            }
        }
        let values = sums.into_iter().map(|sum| self.builder.push(Instruction::Rescale(sum))).collect();
        let mut y = Tensor::unit(values, Layout::Grid(to));
        let positions = to.shape.height * to.shape.width;
        self.add_constant(&mut y, |c, p| stored(c) * conv.bias.at(c, p, positions));
        y.factor = (0..to.shape.channels).map(|c| 1.0 / stored(c)).collect();
        Ok(y)
    }

    /// The copies of the input in pairs, ciphertext by ciphertext. Each lacks the rows that its move would take around the image's end.
    fn copies_of_rows(&mut self, x: &Tensor, from: &Grid, to: &Grid, moves: &Moves) -> Vec<ValueId> {
        let (row, slots) = (from.row() as i64, from.slots as i64);
        let rows = (from.film_slots() / from.row()) as i64;
        let high = (to.shape.height * to.dilation) as i64;
        let read = 0..(from.shape.height * from.dilation) as i64;
        let mut masks = vec![];
        for (number, (r, first)) in moves.copies().into_iter().enumerate() {
            let one = if number % 2 == 1 { Complex64::I } else { Complex64::ONE };
            let mut mask = vec![Complex64::ZERO; from.film_slots()];
            // Slot s of the copy is for an output in the row of s + first.
            for (s, slot) in mask.iter_mut().enumerate() {
                let y = (s as i64 + first).div_euclid(row).rem_euclid(rows);
                if (0..high).contains(&y) && read.contains(&(y + r)) {
                    *slot = one;
                }
            }
            let baby = (r * row + first).rem_euclid(slots);
            self.rotations.insert(baby);
            masks.push((baby as u32, self.builder.plain(mask)));
        }
        let precise = self.packing.is_precise();
        let scale =
            if precise { PlainScale::Fill } else { PlainScale::Bits(self.packing.frame().weight_bits) };
        let mut values = vec![];
        for input in &x.values {
            for pair in masks.chunks(2) {
                let term =
                    |(baby, plain): &(u32, PlainId)| Term { input: 0, baby: *baby, giant: 0, plain: *plain };
                let terms = pair.iter().map(term).collect();
                let copies = self.builder.push(Instruction::Linear { inputs: vec![*input], terms, scale });
                values.push(if precise { self.builder.push(Instruction::Rescale(copies)) } else { copies });
            }
        }
        values
    }

    /// The terms of one output ciphertext.
    fn dense_terms(&mut self, weights: &Weights, output: usize, row: i64, moves: &Moves) -> Vec<Term> {
        let slots = self.packing.slots() as i64;
        let pairs = if moves.copied { moves.copies().len().div_ceil(2) } else { 1 };
        let mut plains: BTreeMap<(usize, i64, i64), Vec<Complex64>> = BTreeMap::new();
        let range = (output, 0, i64::MIN, i64::MIN)..(output + 1, 0, i64::MIN, i64::MIN);
        for ((_, input, r, v), weights) in weights.range(range) {
            // An output whose weights are all zero still is a ciphertext.
            if weights.iter().all(|w| *w == 0.0) && !plains.is_empty() {
                continue;
            }
            let step = moves.step(*r, *v, row);
            let unit = match (moves.copied, step.copy % 2) {
                (false, _) => Complex64::ONE,
                (true, 0) => Complex64::new(0.5, 0.0),
                (true, _) => Complex64::new(0.0, -0.5),
            };
            let key = (input * pairs + step.copy / 2, step.giant, step.baby);
            let plain = plains.entry(key).or_insert_with(|| vec![Complex64::ZERO; weights.len()]);
            // The product is rotated by the giant step afterwards: the plaintext goes the other way before.
            let period = weights.len();
            let shift = step.giant.rem_euclid(period as i64) as usize;
            for (s, w) in weights.iter().enumerate() {
                plain[(s + shift) % period] += unit * w;
            }
        }
        let step = |r: i64| r.rem_euclid(slots) as u32;
        let mut terms = Vec::with_capacity(plains.len());
        for ((input, giant, baby), plain) in plains {
            self.rotations.extend([baby.rem_euclid(slots), giant.rem_euclid(slots)]);
            let plain = self.builder.plain(plain);
            terms.push(Term { input: input as u32, baby: step(baby), giant: step(giant), plain });
        }
        terms
    }
}

/// True if a move by rows would take values around the image's end.
fn wraps(weights: &Weights, from: &Grid, to: &Grid) -> bool {
    // For each move the phases of the output's rows that have weights: only there it matters what is read.
    let row = to.row();
    let (high, dilation) = ((to.shape.height * to.dilation) as i64, to.dilation as i64);
    let read = (from.shape.height * from.dilation) as i64;
    let mut phases: BTreeMap<i64, BTreeSet<i64>> = BTreeMap::new();
    for ((_, _, r, _), plain) in weights {
        let used = (0..to.dilation).filter(|q| plain[q * row..(q + 1) * row].iter().any(|w| *w != 0.0));
        phases.entry(*r).or_default().extend(used.map(|q| q as i64));
    }
    phases.iter().any(|(r, phases)| {
        (0..read).map(|y| y - r).any(|y| !(0..high).contains(&y) && phases.contains(&y.rem_euclid(dilation)))
    })
}

/// The weights of all moves, which repeat after as many rows as the output's pixels have.
fn weights(conv: &Conv2d, x: &Tensor, from: &Grid, to: &Grid, stored: impl Fn(usize) -> f64) -> Weights {
    let [kh, kw] = conv.kernel;
    let (ins, outs) = (from.shape.channels / conv.groups, conv.out_channels / conv.groups);
    let (row, step) = (from.row() as i64, (from.dilation * from.lanes) as i64);
    let mut weights = Weights::new();
    for o in 0..conv.out_channels {
        let (output, to_offset) = to.channel(o);
        for i in 0..ins {
            let channel = o / outs * ins + i;
            let (input, from_offset) = from.channel(channel);
            let factor = stored(o) * x.factor[channel];
            for (ky, kx) in (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx))) {
                let w = conv.weight[((o * ins + i) * kh + ky) * kw + kx] * factor;
                let (dy, dx) = (ky as i64 - conv.padding as i64, kx as i64 - conv.padding as i64);
                let (from_offset, to_offset) = (from_offset as i64, to_offset as i64);
                let r = dy * from.dilation as i64 + from_offset / row - to_offset / row;
                let v = dx * step + from_offset % row - to_offset % row;
                let plain =
                    weights.entry((output, input, r, v)).or_insert_with(|| vec![0.0; to.row() * to.dilation]);
                for column in 0..to.shape.width {
                    let read = (column * conv.stride) as i64 + dx;
                    if (0..from.shape.width as i64).contains(&read) {
                        plain[to_offset as usize + column * to.period()] += w;
                    }
                }
            }
        }
    }
    weights
}

/// True if nothing lies below the image's last row of cells.
fn has_empty_rows(x: &Tensor, grid: &Grid) -> bool {
    let film = grid.film_slots() / grid.lanes;
    let used = grid.shape.height * grid.dilation * grid.pitch;
    x.support.iter().all(|support| support.chunks(film).all(|film| film[used..].iter().all(|cell| !cell)))
}
