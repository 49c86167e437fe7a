//! Fully connected layers on periodic vectors: one plaintext a diagonal, no mask.
//!
//! With feature f in all slots s = f mod period, `y[s] = sum over r of w[s, s + r] x[s + r]` reaches every feature with
//! rotations r below the period, and the result is periodic again.

use std::collections::{BTreeMap, BTreeSet};

use super::conv::Plains;
use super::{Lowering, Tensor};
use crate::ModelError;
use crate::graph::{Bias, Conv2d, Linear, NodeId, Op};
use crate::layout::Layout;

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
        Ok(self.global_pool(y))
    }

    /// `y = W x + b` on a periodic vector.
    pub(super) fn matrix(
        &mut self,
        id: NodeId,
        weight: &[f64],
        bias: Vec<f64>,
        x: Tensor,
    ) -> Result<Tensor, ModelError> {
        let Layout::Vector { features, slots, period } = x.layout else {
            return Err(self.unsupported(id, "a matrix product of an image"));
        };
        let hint = self.hints[id.0].clone();
        let stored = |o: usize| hint.as_ref().map_or(1.0, |h| h[o]);
        let layout = Layout::Vector { features: bias.len(), slots, period };
        let mut plains: Vec<Plains> = vec![BTreeMap::new(); layout.ciphertexts()];
        for o in 0..bias.len() {
            for i in 0..features {
                let w = weight[o * features + i] * stored(o) * x.factor[i];
                let rest = (i % period + period - o % period) % period;
                let key = ((i / period) as u32, (0, rest as i64));
                plains[o / period].entry(key).or_insert_with(|| vec![0.0; period])[o % period] += w;
            }
        }
        let offsets: BTreeSet<(i64, i64)> = plains.iter().flat_map(|p| p.keys().map(|k| k.1)).collect();
        let split = self.split(&offsets, 0, x.values.len());
        let values = plains.into_iter().map(|p| self.linear_map(&x, p, &split)).collect();
        let mut y = Tensor::unit(values, layout);
        self.add_constant(&mut y, |c, _| stored(c) * bias[c]);
        y.factor = (0..bias.len()).map(|c| 1.0 / stored(c)).collect();
        debug_assert!(!matches!(self.graph.node(id).op(), Op::Input { .. }));
        Ok(y)
    }
}
