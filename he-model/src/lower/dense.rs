//! Convolutions without guard cells, on as many ciphertexts as the channels need.
//!
//! The image fills its rows of cells from edge to edge, and each ciphertext holds some of the channels. A tap (dy, dx) from channel i to o
//! is a move by r rows and v slots along the row; v is handled by the weights, which depend on the slot inside a row: a product
//! that would read beyond the row's end has the weight zero. A move by r rows would take the rows at one end of the image to the other
//! end, so the rows that must not be read are emptied before, by a mask for each r: the products with masks need no key, and masks and
//! weights share one rescaling. All other slots come out as zero, so nothing has to be cleaned afterwards.
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
use crate::program::{Instruction, PlainScale, Term, ValueId};

/// A full rotation costs about this many hoisted ones.
const GIANT_COST: usize = 4;

/// One period of weights by output and input ciphertext, and by the move: rows, and slots along the row.
type Weights = BTreeMap<(usize, usize, i64, i64), Vec<f64>>;

/// How moves along a row are split: the baby step is `first + rest % run`, the giant step a multiple of `run`.
struct Run {
    first: i64,
    run: i64,
}

impl Run {
    fn split(&self, v: i64) -> (i64, i64) {
        let giant = (v - self.first).div_euclid(self.run) * self.run;
        (v - giant, giant)
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
        let (inputs, variants, scale) = self.without_wrapped_rows(&x, from, &to, &weights);
        let run = self.run(&weights, x.values.len() * variants.len(), to.ciphertexts(), variants.len());
        let sums: Vec<ValueId> = (0..to.ciphertexts())
            .map(|output| {
                let terms = self.dense_terms(&weights, output, from.row() as i64, &variants, &run);
                self.builder.push(Instruction::Linear { inputs: inputs.clone(), terms, scale })
            })
            .collect();
        let values = sums.into_iter().map(|sum| self.builder.push(Instruction::Rescale(sum))).collect();
        let mut y = Tensor::unit(values, Layout::Grid(to));
        let positions = to.shape.height * to.shape.width;
        self.add_constant(&mut y, |c, p| stored(c) * conv.bias.at(c, p, positions));
        y.factor = (0..to.shape.channels).map(|c| 1.0 / stored(c)).collect();
        Ok(y)
    }

    /// The input without the rows that a move would take around the image's end: the values, ciphertext by ciphertext, the index among those of one
    /// ciphertext for each move by rows, and the scale that is left to the weights.
    fn without_wrapped_rows(
        &mut self,
        x: &Tensor,
        from: &Grid,
        to: &Grid,
        weights: &Weights,
    ) -> (Vec<ValueId>, BTreeMap<i64, usize>, PlainScale) {
        // For each move the phases of the output's rows that have weights: only there it matters what is read.
        let mut phases: BTreeMap<i64, BTreeSet<i64>> = BTreeMap::new();
        let row = to.row();
        for ((_, _, r, _), plain) in weights {
            let used = (0..to.dilation).filter(|q| plain[q * row..(q + 1) * row].iter().any(|w| *w != 0.0));
            phases.entry(*r).or_default().extend(used.map(|q| q as i64));
        }
        let (high, dilation) = ((to.shape.height * to.dilation) as i64, to.dilation as i64);
        let read = 0..(from.shape.height * from.dilation) as i64;
        let wraps = |r: i64, y: i64| {
            !(0..high).contains(&(y - r)) && phases[&r].contains(&(y - r).rem_euclid(dilation))
        };
        let mut variants = BTreeMap::new();
        let mut masks: Vec<Option<Vec<Complex64>>> = vec![None];
        for r in phases.keys() {
            if !read.clone().any(|y| wraps(*r, y)) {
                variants.insert(*r, 0);
                continue;
            }
            let mut mask = vec![Complex64::ZERO; from.film_slots()];
            for y in read.clone().filter(|y| (0..high).contains(&(y - r))) {
                mask[y as usize * row..(y as usize + 1) * row].fill(Complex64::ONE);
            }
            variants.insert(*r, masks.len());
            masks.push(Some(mask));
        }
        if masks.len() == 1 {
            return (x.values.clone(), variants, PlainScale::Fill);
        }
        let scale = PlainScale::Bits(self.packing.weight_bits);
        let plains: Vec<_> = masks
            .into_iter()
            .map(|mask| self.builder.plain(mask.unwrap_or_else(|| vec![Complex64::ONE])))
            .collect();
        let mut values = Vec::with_capacity(x.values.len() * plains.len());
        for input in &x.values {
            for plain in &plains {
                values.push(self.builder.push(Instruction::MulPlain { input: *input, plain: *plain, scale }));
            }
        }
        (values, variants, PlainScale::Fill)
    }

    /// The cheapest split of the moves along a row, where each baby step is made `moved` times, with `rows` keys, and each giant step
    /// once an output.
    fn run(&self, weights: &Weights, moved: usize, outputs: usize, rows: usize) -> Run {
        let moves = || weights.keys().map(|(_, _, _, v)| *v);
        let (first, last) = (moves().min().unwrap_or(0), moves().max().unwrap_or(0));
        let length = (last - first + 1) as usize;
        let cost = |run: &usize| {
            let (babies, giants) = ((*run).min(length), length.div_ceil(*run) - 1);
            let keys = rows * babies + usize::from(giants > 0);
            moved * babies + GIANT_COST * outputs * giants + self.packing.key_weight as usize * keys
        };
        let runs = (0..usize::BITS - length.leading_zeros() + 1).map(|log| 1usize << log);
        let run = runs.min_by_key(cost).unwrap_or(1);
        Run { first, run: run as i64 }
    }

    /// The terms of one output ciphertext.
    fn dense_terms(
        &mut self,
        weights: &Weights,
        output: usize,
        row: i64,
        variants: &BTreeMap<i64, usize>,
        run: &Run,
    ) -> Vec<Term> {
        let slots = self.packing.slots as i64;
        let step = |r: i64| r.rem_euclid(slots) as u32;
        let variants_each = variants.values().max().map_or(1, |most| most + 1);
        let mut terms = vec![];
        for ((_, input, r, v), plain) in
            weights.range((output, 0, i64::MIN, i64::MIN)..(output + 1, 0, i64::MIN, i64::MIN))
        {
            // An output whose weights are all zero still is a ciphertext.
            if plain.iter().all(|w| *w == 0.0) && !terms.is_empty() {
                continue;
            }
            let (baby, giant) = run.split(*v);
            // The product is rotated by the giant step afterwards: the plaintext goes the other way before.
            let period = plain.len() as i64;
            let shifted =
                (0..period).map(|s| plain[(s - giant).rem_euclid(period) as usize].into()).collect();
            let plain = self.builder.plain(shifted);
            self.rotations.extend([(r * row + baby).rem_euclid(slots), giant.rem_euclid(slots)]);
            let input = (input * variants_each + variants[r]) as u32;
            terms.push(Term { input, baby: step(r * row + baby), giant: step(giant), plain });
        }
        terms
    }
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
