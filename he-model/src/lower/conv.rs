//! Convolutions: a sum over rotations of plaintexts that depend on lane and phase only, then one mask.
//!
//! The value of output channel o at (y, x) needs, for each tap (ky, kx) and input channel i, the cell of input pixel
//! (y s + ky - p, x s + kx - p). With the output's dilation s times the input's, that cell lies at the same distance
//! from the output's cell for every pixel, so the weight w[o, i, ky, kx] belongs to one rotation and one slot of the
//! period, whatever the pixel. Cells that lie outside of the image are zero, which is checked here cell by cell,
//! and the mask afterwards makes them zero again.

use std::collections::{BTreeMap, BTreeSet};

use num_complex::Complex64;

use super::offsets::Split;
use super::{Lowering, Tensor};
use crate::ModelError;
use crate::graph::{Conv2d, NodeId, Shape};
use crate::layout::{Grid, Layout};
use crate::packing::{Frame, Packing};
use crate::program::{Instruction, PlainScale, Term};

/// One period of weights by (input ciphertext, (row, rest of the rotation)).
pub(super) type Plains = BTreeMap<(u32, (i64, i64)), Vec<f64>>;

impl Lowering<'_> {
    pub(super) fn conv2d(&mut self, id: NodeId, conv: &Conv2d, x: Tensor) -> Result<Tensor, ModelError> {
        let output = self.graph.node(id).shape();
        let Layout::Grid(grid) = x.layout else { return self.conv_of_vector(id, conv, x) };
        if !conv.stride.is_power_of_two() {
            return Err(self.unsupported(id, "its stride is not a power of two"));
        }
        let to = self.packing.strided(&grid, output, conv.stride);
        if matches!(self.packing, Packing::Dense(_)) {
            return self.conv_dense(id, conv, x, &grid, to);
        }
        if let Some(y) = self.conv_that_rode(id, conv, to) {
            return Ok(y);
        }
        if matches!(self.packing, Packing::RowCopies(_))
            && let Some(y) = self.conv_on_copies(id, conv, &x, &grid, to)
        {
            return Ok(y);
        }
        self.fits(id, conv, &grid, &to)?;
        let x = if reads_zeros(conv, &grid, &x, output) { x } else { self.clean(x) };
        if !reads_zeros(conv, &grid, &x, output) {
            let reason = format!(
                "zero padding of {} would read values of the neighbouring row: more guard columns than {} are needed",
                conv.padding,
                self.packing.kind().pitch(0)
            );
            return Err(self.does_not_fit(id, reason));
        }
        let hint = self.hints[id.0].clone();
        let stored = |o: usize| hint.as_ref().map_or(1.0, |h| h[o]);
        let sums = self.products(conv, &grid, &to, &x, stored);
        let occupied = Layout::Grid(to).fill(|_, _| 1.0);
        let values = sums.into_iter().zip(occupied);
        let values = values.map(|(sum, mask)| self.masked(sum, mask)).collect();
        let mut y = Tensor::unit(values, Layout::Grid(to));
        let positions = output.height * output.width;
        self.add_constant(&mut y, |c, p| stored(c) * conv.bias.at(c, p, positions));
        y.factor = (0..output.channels).map(|c| 1.0 / stored(c)).collect();
        Ok(y)
    }

    /// The sums of products, one for each ciphertext of the output, before the mask.
    fn products(
        &mut self,
        conv: &Conv2d,
        from: &Grid,
        to: &Grid,
        x: &Tensor,
        stored: impl Fn(usize) -> f64,
    ) -> Vec<crate::ValueId> {
        let [kh, kw] = conv.kernel;
        let (ins, outs) = (from.shape.channels / conv.groups, to.shape.channels / conv.groups);
        let (lanes, period) = (from.lanes as i64, to.period());
        let row = (from.cell(1, 0) as i64) * lanes;
        let mut plains: Vec<Plains> = vec![BTreeMap::new(); to.ciphertexts()];
        for o in 0..to.shape.channels {
            let (out, slot) = to.channel(o);
            for i in 0..ins {
                let (input, at) = from.channel(o / outs * ins + i);
                let factor = stored(o) * x.factor[o / outs * ins + i];
                for ky in 0..kh {
                    for kx in 0..kw {
                        let w = conv.weight[((o * ins + i) * kh + ky) * kw + kx] * factor;
                        let dx = from.cell(0, kx as isize - conv.padding as isize) as i64;
                        let rest = dx * lanes + at as i64 - slot as i64;
                        let key = (input as u32, (ky as i64 - conv.padding as i64, rest));
                        plains[out].entry(key).or_insert_with(|| vec![0.0; period])[slot] += w;
                    }
                }
            }
        }
        let offsets: BTreeSet<(i64, i64)> = plains.iter().flat_map(|p| p.keys().map(|k| k.1)).collect();
        let split = self.split(&offsets, row, x.values.len());
        let sums: Vec<_> =
            plains.into_iter().map(|p| self.linear_map(x, p, &split, PlainScale::Fill)).collect();
        sums
    }

    /// Baby and giant steps for these rotations, preferring those that have a key already.
    pub(super) fn split(&mut self, offsets: &BTreeSet<(i64, i64)>, row: i64, inputs: usize) -> Split {
        let slots = self.packing.slots() as i64;
        // Between equals, a rotation that has a key.
        let weight = f64::from(self.packing.frame().key_weight).max(0.01);
        let known = |r: i64| r.rem_euclid(slots) == 0 || self.rotations.contains(&r.rem_euclid(slots));
        let split = Split::choose(offsets, row, inputs, |r| if known(r) { 0.0 } else { weight });
        for offset in offsets {
            let (baby, giant) = split.split(*offset);
            self.rotations.extend([baby.rem_euclid(slots), giant.rem_euclid(slots)]);
        }
        split
    }

    /// One linear instruction from plaintexts that are given unrotated; `scale` is that of the weights where no mask shares it.
    pub(super) fn linear_map(
        &mut self,
        x: &Tensor,
        plains: Plains,
        split: &Split,
        scale: PlainScale,
    ) -> crate::ValueId {
        let slots = self.packing.slots() as i64;
        let mut terms = Vec::with_capacity(plains.len());
        for ((input, offset), values) in plains {
            if values.iter().all(|v| *v == 0.0) {
                continue;
            }
            let (baby, giant) = split.split(offset);
            // The product is rotated by the giant step afterwards: the plaintext goes the other way before.
            let period = values.len() as i64;
            let shifted: Vec<Complex64> =
                (0..period).map(|s| values[(s - giant).rem_euclid(period) as usize].into()).collect();
            let plain = self.builder.plain(shifted);
            let step = |r: i64| r.rem_euclid(slots) as u32;
            terms.push(Term { input, baby: step(baby), giant: step(giant), plain });
        }
        let shared = !self.packing.is_precise() && matches!(x.layout, Layout::Grid(_));
        let scale = if shared { PlainScale::Bits(self.packing.frame().weight_bits) } else { scale };
        let sum = self.builder.push(Instruction::Linear { inputs: x.values.clone(), terms, scale });
        if shared { sum } else { self.builder.push(Instruction::Rescale(sum)) }
    }

    /// The cells that the window reads must exist: above the first row and below the last one they are the same ones.
    fn fits(&self, id: NodeId, conv: &Conv2d, from: &Grid, to: &Grid) -> Result<(), ModelError> {
        let before = from.cell(conv.padding as isize, conv.padding as isize);
        let last = to.shape;
        let reach = |n: usize, k: usize| (n - 1) * conv.stride + k;
        let beyond = from.cell(
            reach(last.height, conv.kernel[0]) as isize - 1 - conv.padding as isize,
            reach(last.width, conv.kernel[1]) as isize - 1 - conv.padding as isize,
        ) + from.dilation as isize;
        let used = (from.extent().max(to.extent()) / from.lanes) as isize;
        let needed = (used + before).max(beyond) as usize * from.lanes;
        if needed > from.film_slots() {
            let reason = format!("image and guard rows take {needed} slots a film");
            return Err(self.does_not_fit(id, reason));
        }
        Ok(())
    }

    pub(super) fn does_not_fit(&self, id: NodeId, reason: String) -> ModelError {
        let Frame { slots, lanes, .. } = *self.packing.frame();
        ModelError::DoesNotFit { node: self.graph.node(id).name().into(), slots, lanes, reason }
    }

    /// A convolution of a 1x1 image uses one tap: it is a linear layer.
    fn conv_of_vector(&mut self, id: NodeId, conv: &Conv2d, x: Tensor) -> Result<Tensor, ModelError> {
        let output = self.graph.node(id).shape();
        if !output.is_vector() {
            return Err(self.unsupported(id, "it makes an image of a vector"));
        }
        let (inputs, outputs) = (x.shape().channels, output.channels);
        let (ins, outs) = (inputs / conv.groups, outputs / conv.groups);
        let [kh, kw] = conv.kernel;
        let mut weight = vec![0.0; inputs * outputs];
        for o in 0..outputs {
            for i in 0..ins {
                let tap = ((o * ins + i) * kh + conv.padding) * kw + conv.padding;
                weight[o * inputs + o / outs * ins + i] = conv.weight[tap];
            }
        }
        let bias = (0..outputs).map(|o| conv.bias.at(o, 0, 1)).collect();
        self.matrix(id, &weight, bias, x)
    }
}

/// True if every cell outside of the image that a window reads is zero in all of its phases.
fn reads_zeros(conv: &Conv2d, grid: &Grid, x: &Tensor, output: Shape) -> bool {
    let p = conv.padding as isize;
    let (h, w) = (grid.shape.height as isize, grid.shape.width as isize);
    let cells = grid.cells() as isize;
    let bottom = (output.height - 1) as isize * conv.stride as isize + conv.kernel[0] as isize - p;
    let right = (output.width - 1) as isize * conv.stride as isize + conv.kernel[1] as isize - p;
    (-p..bottom).all(|y| {
        (-p..right).filter(|x| !(0..h).contains(&y) || !(0..w).contains(x)).all(|col| {
            let cell = grid.cell(y, col);
            let phases = || (0..grid.dilation as isize).map(|q| (cell + q).rem_euclid(cells) as usize);
            x.support.iter().all(|support| phases().all(|at| !support[at]))
        })
    })
}
