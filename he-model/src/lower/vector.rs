//! Fully connected layers on periodic vectors: one plaintext a diagonal, no mask.
//!
//! With feature f in all slots s = f mod period, `y[s] = sum over r of w[s, s + r] x[s + r]` reaches every feature with
//! rotations r below the period, and the result is periodic again. In a batch rotations go both ways, so that each period is
//! computed from itself.

use std::collections::{BTreeMap, BTreeSet};

use num_complex::Complex64;

use super::conv::Plains;
use super::{Lowering, Tensor};
use crate::ModelError;
use crate::graph::{Bias, Conv2d, Linear, NodeId, Op};
use crate::layout::Layout;
use crate::program::{Instruction, PlainScale, ValueId};

impl Lowering<'_> {
    pub(super) fn linear(&mut self, id: NodeId, linear: &Linear, x: Tensor) -> Result<Tensor, ModelError> {
        if matches!(x.layout, Layout::Vector { .. }) {
            return self.matrix(id, &linear.weight, linear.bias.clone(), x);
        }
        // On an image it is a convolution whose kernel is the whole image, followed by the mean over its one position.
        let shape = x.shape();
        let conv = Conv2d {
            out_channels: linear.outputs,
            kernel: [shape.height, shape.width],
            stride: 1,
            padding: 0,
            groups: 1,
            weight: linear.weight.clone(),
            bias: Bias::Channel(linear.bias.clone()),
        };
        let y = self.conv2d(id, &conv, x)?;
        self.global_pool(id, y)
    }

    /// `y = W x + b` on a periodic vector.
    pub(super) fn matrix(
        &mut self,
        id: NodeId,
        weight: &[f64],
        bias: Vec<f64>,
        x: Tensor,
    ) -> Result<Tensor, ModelError> {
        let Layout::Vector { features, slots, period, films } = x.layout else {
            return Err(self.unsupported(id, "a matrix product of an image"));
        };
        let hint = self.hints[id.0].clone();
        let stored = |o: usize| hint.as_ref().map_or(1.0, |h| h[o]);
        let layout = Layout::Vector { features: bias.len(), slots, period, films };
        let mut plains: Vec<Plains> = vec![BTreeMap::new(); layout.ciphertexts()];
        for o in 0..bias.len() {
            for i in 0..features {
                let w = weight[o * features + i] * stored(o) * x.factor[i];
                let rest = (i % period) as i64 - (o % period) as i64;
                // In a batch the next film begins behind the last period: nothing may be read across its end.
                let rest = if films > 1 { rest } else { rest.rem_euclid(period as i64) };
                let key = ((i / period) as u32, (0, rest));
                plains[o / period].entry(key).or_insert_with(|| vec![0.0; period])[o % period] += w;
            }
        }
        let offsets: BTreeSet<(i64, i64)> = plains.iter().flat_map(|p| p.keys().map(|k| k.1)).collect();
        let split = self.split(&offsets, 0, x.values.len());
        let values = plains.into_iter().map(|p| self.linear_map(&x, p, &split, PlainScale::Fill)).collect();
        let mut y = Tensor::unit(values, layout);
        self.add_constant(&mut y, |c, _| stored(c) * bias[c]);
        y.factor = (0..bias.len()).map(|c| 1.0 / stored(c)).collect();
        debug_assert!(!matches!(self.graph.node(id).op(), Op::Input { .. }));
        Ok(y)
    }

    /// In a batch, repeats the first period of each film's vector all over the film: one level. Means of images have no more.
    pub(super) fn repeated(&mut self, x: Tensor) -> Tensor {
        let Layout::Vector { slots, period, films, .. } = x.layout else { return x };
        let film_slots = slots / films;
        if films == 1 || period == film_slots {
            return x;
        }
        let mut first = vec![Complex64::ZERO; film_slots];
        first[..period].fill(Complex64::ONE);
        let repeat = |value: &ValueId| {
            let mut sum = self.masked(*value, first.clone());
            let mut step = period;
            while step < film_slots {
                let moved = self.builder.rotate(sum, -(step as i64));
                sum = self.builder.push(Instruction::Add(sum, moved));
                step *= 2;
            }
            sum
        };
        let values = x.values.iter().map(repeat).collect();
        Tensor { values, ..x }
    }
}
