//! Group normalisation followed by swish, as one operation.
//!
//! Wu and He, "Group normalization" (2018): with mean `m` and variance `v` over a group,
//! `n = (x - m) / sqrt(v + eps)`, `h = gamma n + beta`, `y = h s(h)`. Backward, with
//! `dh = dy (s + h s (1 - s))` and `dn = gamma dh`: `dx = (dn - mean(dn) - n mean(dn n)) / sqrt(v + eps)`.
//! Forward keeps `m` and `1 / sqrt(v + eps)`; the rest is computed again where it is needed, which costs less than
//! the memory.

use burn::{
    backend::autodiff::{
        checkpoint::{base::Checkpointer, strategy::NoCheckpointing},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    },
    tensor::{Tensor, activation},
};
use pulp::Arch;
use rayon::prelude::*;

use crate::{
    exp::sigmoid,
    route::{Cpu, CpuTensor, CpuTraining, Place, dims, from_values, place, tracked},
};

/// `swish(group_norm(x))`.
///
/// # Shapes
///
/// `x`: `[batch, channels, height, width]`, `gamma` and `beta`: `[channels]`
///
/// # Panics
///
/// Panics if `groups` does not divide the channels.
pub fn group_norm_swish(
    x: Tensor<4>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    groups: usize,
    epsilon: f64,
) -> Tensor<4> {
    let [_, channels, ..] = x.dims();
    assert!(groups > 0 && channels % groups == 0, "{groups} groups of {channels} channels");
    let settings = Settings { groups, epsilon: epsilon as f32 };
    match (place(&x), place(&gamma), place(&beta)) {
        (Place::Plain(x), Place::Plain(gamma), Place::Plain(beta)) => {
            Tensor::from_primitive::<Cpu>(forward(&x, &gamma, &beta, settings).0)
        }
        (Place::Other, ..) | (_, Place::Other, _) | (.., Place::Other) => {
            reference(x, gamma, beta, groups, epsilon)
        }
        _ => match (tracked(x.clone()), tracked(gamma.clone()), tracked(beta.clone())) {
            (Some(x), Some(gamma), Some(beta)) => {
                let (y, moments) = forward(x.primitive(), gamma.primitive(), beta.primitive(), settings);
                let nodes = [x.node(), gamma.node(), beta.node()];
                let y = match NormSwish.prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
                    OpsKind::Tracked(prep) => {
                        let parts = [x.into_primitive(), gamma.into_primitive(), beta.into_primitive()];
                        prep.finish((parts, moments, settings), y)
                    }
                    OpsKind::UnTracked(prep) => prep.finish(y),
                };
                Tensor::from_primitive::<CpuTraining>(y)
            }
            _ => reference(x, gamma, beta, groups, epsilon),
        },
    }
}

/// The same with Burn's operations, for other devices.
fn reference(x: Tensor<4>, gamma: Tensor<1>, beta: Tensor<1>, groups: usize, epsilon: f64) -> Tensor<4> {
    let [batch, channels, height, width] = x.dims();
    let x = x.reshape([batch, groups, channels / groups * height * width]);
    let x = x.clone() - x.mean_dim(2);
    let variance = x.clone().square().mean_dim(2);
    let n = (x / variance.add_scalar(epsilon).sqrt()).reshape([batch, channels, height, width]);
    let h = n * gamma.reshape([1, channels, 1, 1]) + beta.reshape([1, channels, 1, 1]);
    activation::silu(h)
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    groups: usize,
    epsilon: f32,
}

/// Mean and `1 / sqrt(variance + eps)` of each group of each image.
type Moments = Vec<[f32; 2]>;

#[derive(Debug)]
struct NormSwish;

impl Backward<Cpu, 3> for NormSwish {
    type State = ([CpuTensor; 3], Moments, Settings);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let nodes = ops.parents;
        let dy = grads.consume::<Cpu>(&ops.node);
        let ([x, gamma, beta], moments, settings) = ops.state;
        let gradients = backward(&x, &gamma, &beta, &dy, &moments, settings);
        for (node, gradient) in nodes.into_iter().zip(gradients) {
            if let Some(node) = node {
                grads.register::<Cpu>(node.id, gradient);
            }
        }
    }
}

fn forward(x: &CpuTensor, gamma: &CpuTensor, beta: &CpuTensor, settings: Settings) -> (CpuTensor, Moments) {
    let (x, gamma, beta) = (x.to_contiguous(), gamma.to_contiguous(), beta.to_contiguous());
    let shape @ [batch, channels, height, width] = dims::<4>(&x);
    let (x, gamma, beta) = (x.storage::<f32>(), gamma.storage::<f32>(), beta.storage::<f32>());
    let per_group = channels / settings.groups;
    let plane = (height * width).max(1);
    let arch = Arch::new();
    let mut y = vec![0.0; x.len()];
    let moments = y
        .par_chunks_mut(per_group * plane)
        .zip(x.par_chunks(per_group * plane))
        .enumerate()
        .map(|(i, (y, x))| {
            arch.dispatch(|| {
                let first = (i % settings.groups) * per_group;
                let mean = sum(x) / x.len() as f32;
                let variance = sum_of_squares(x, mean) / x.len() as f32;
                let scale = 1.0 / (variance + settings.epsilon).sqrt();
                let planes = y.chunks_exact_mut(plane).zip(x.chunks_exact(plane));
                for ((y, x), (gamma, beta)) in planes.zip(gamma[first..].iter().zip(&beta[first..])) {
                    let (a, b) = (gamma * scale, beta - gamma * scale * mean);
                    for (y, x) in y.iter_mut().zip(x) {
                        let h = a * x + b;
                        *y = h * sigmoid(h);
                    }
                }
                [mean, scale]
            })
        })
        .collect::<Vec<_>>();
    debug_assert_eq!(moments.len(), batch * settings.groups);
    (from_values(y, shape), moments)
}

/// Gradients of `x`, `gamma` and `beta`.
fn backward(
    x: &CpuTensor,
    gamma: &CpuTensor,
    beta: &CpuTensor,
    dy: &CpuTensor,
    moments: &[[f32; 2]],
    settings: Settings,
) -> [CpuTensor; 3] {
    let (x, gamma, beta) = (x.to_contiguous(), gamma.to_contiguous(), beta.to_contiguous());
    let dy = dy.to_contiguous();
    let shape @ [_, channels, height, width] = dims::<4>(&x);
    let (x, gamma, beta) = (x.storage::<f32>(), gamma.storage::<f32>(), beta.storage::<f32>());
    let dy = dy.storage::<f32>();
    let per_group = channels / settings.groups;
    let plane = (height * width).max(1);
    let arch = Arch::new();
    let mut dx = vec![0.0; x.len()];
    let parts = dx
        .par_chunks_mut(per_group * plane)
        .zip(x.par_chunks(per_group * plane))
        .zip(dy.par_chunks(per_group * plane))
        .zip(moments)
        .enumerate()
        .map(|(i, (((dx, x), dy), &[mean, scale]))| {
            arch.dispatch(|| {
                let first = (i % settings.groups) * per_group;
                let mut part = Vec::with_capacity(per_group);
                let (mut mean_dn, mut mean_dn_n) = (0.0, 0.0);
                let planes =
                    dx.chunks_exact_mut(plane).zip(x.chunks_exact(plane)).zip(dy.chunks_exact(plane));
                for (((dx, x), dy), (gamma, beta)) in planes.zip(gamma[first..].iter().zip(&beta[first..])) {
                    let (a, b) = (gamma * scale, beta - gamma * scale * mean);
                    for ((dx, x), dy) in dx.iter_mut().zip(x).zip(dy) {
                        let h = a * x + b;
                        let s = sigmoid(h);
                        *dx = dy * (s + h * s * (1.0 - s));
                    }
                    let d_beta = sum(dx);
                    let d_gamma = (dot(dx, x) - mean * d_beta) * scale;
                    mean_dn += gamma * d_beta;
                    mean_dn_n += gamma * d_gamma;
                    part.push([d_gamma, d_beta]);
                }
                let count = x.len() as f32;
                let (mean_dn, mean_dn_n) = (mean_dn / count, mean_dn_n / count);
                // dx = scale (gamma dh - mean_dn - (x - mean) scale mean_dn_n)
                let (p, q) = (-scale * scale * mean_dn_n, scale * (mean * scale * mean_dn_n - mean_dn));
                let planes = dx.chunks_exact_mut(plane).zip(x.chunks_exact(plane));
                for ((dx, x), gamma) in planes.zip(&gamma[first..]) {
                    let a = gamma * scale;
                    for (dx, x) in dx.iter_mut().zip(x) {
                        *dx = a * *dx + p * x + q;
                    }
                }
                part
            })
        })
        .collect::<Vec<_>>();
    let (mut d_gamma, mut d_beta) = (vec![0.0; channels], vec![0.0; channels]);
    for (i, part) in parts.iter().enumerate() {
        let first = (i % settings.groups) * per_group;
        for (channel, [g, b]) in (first..).zip(part) {
            d_gamma[channel] += g;
            d_beta[channel] += b;
        }
    }
    [from_values(dx, shape), from_values(d_gamma, [channels]), from_values(d_beta, [channels])]
}

/// Independent sums, so that the loop becomes vector instructions.
const LANES: usize = 16;

#[inline(always)]
fn lanes(values: &[f32], other: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [0.0; LANES];
    let (head, tail) = values.as_chunks::<LANES>();
    let (other_head, other_tail) = other.as_chunks::<LANES>();
    for (values, other) in head.iter().zip(other_head) {
        for ((sum, value), other) in sums.iter_mut().zip(values).zip(other) {
            *sum += term(*value, *other);
        }
    }
    let tail = tail.iter().zip(other_tail).map(|(value, other)| term(*value, *other)).sum::<f32>();
    sums.iter().sum::<f32>() + tail
}

#[inline(always)]
pub(crate) fn sum(values: &[f32]) -> f32 {
    lanes(values, values, |value, _| value)
}

#[inline(always)]
pub(crate) fn sum_of_squares(values: &[f32], mean: f32) -> f32 {
    lanes(values, values, |value, _| (value - mean) * (value - mean))
}

#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    lanes(a, b, |a, b| a * b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::difference;
    use burn::tensor::{Device, Distribution};

    #[test]
    fn agrees_with_burn_in_every_direction() {
        let device = Device::flex().autodiff();
        for (shape, groups) in [([2, 4, 5, 7], 2), ([3, 8, 4, 4], 8), ([1, 6, 16, 16], 1)] {
            let x = Tensor::<4>::random(shape, Distribution::Normal(0.5, 2.0), &device).require_grad();
            let vector = |mean| {
                Tensor::<1>::random([shape[1]], Distribution::Normal(mean, 0.5), &device).require_grad()
            };
            let (gamma, beta) = (vector(1.0), vector(0.0));
            let ours = group_norm_swish(x.clone(), gamma.clone(), beta.clone(), groups, 1e-6);
            let theirs = reference(x.clone(), gamma.clone(), beta.clone(), groups, 1e-6);
            assert!(difference(&ours, &theirs) < 1e-5);
            let plain = group_norm_swish(
                x.clone().inner(),
                gamma.clone().inner(),
                beta.clone().inner(),
                groups,
                1e-6,
            );
            assert_eq!(difference(&plain, &ours), 0.0);
            let probe = Tensor::<4>::random(shape, Distribution::Normal(0.0, 1.0), &device);
            let ours = (ours * probe.clone()).sum().backward();
            let theirs = (theirs * probe).sum().backward();
            assert!(difference(&x.grad(&ours).unwrap(), &x.grad(&theirs).unwrap()) < 1e-4);
            assert!(difference(&gamma.grad(&ours).unwrap(), &gamma.grad(&theirs).unwrap()) < 1e-4);
            assert!(difference(&beta.grad(&ours).unwrap(), &beta.grad(&theirs).unwrap()) < 1e-4);
        }
    }
}
