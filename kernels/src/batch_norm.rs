//! Batch normalisation with the statistics of the batch.
//!
//! Ioffe and Szegedy, "Batch normalization" (2015): with mean `m` and biased variance `v` of a channel over batch and
//! positions, `n = (x - m) / sqrt(v + eps)`, `y = gamma n + beta`, and backward
//! `dx = gamma / sqrt(v + eps) (dy - mean(dy) - n mean(dy n))`. Each plane's moments are taken in the cache and put
//! together as Chan, Golub and LeVeque (1979) do, in f64 and in the planes' order.

use burn::{
    backend::autodiff::{
        checkpoint::{base::Checkpointer, strategy::NoCheckpointing},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    },
    tensor::{Tensor, module},
};
use pulp::Arch;
use rayon::prelude::*;

use crate::{
    norm::{dot, sum, sum_of_squares},
    route::{Cpu, CpuTensor, CpuTraining, Place, dims, from_values, place, tracked},
};

/// The normalised batch, and the mean and biased variance of each channel (without gradients).
///
/// # Shapes
///
/// `x`: `[batch, channels, height, width]`, everything else: `[channels]`
pub fn batch_norm_train(
    x: Tensor<4>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
) -> (Tensor<4>, Tensor<1>, Tensor<1>) {
    let on_cpu = !matches!(place(&x), Place::Other) && x.dims().iter().all(|&n| n > 0);
    let parts = if on_cpu {
        (tracked(x.clone()), tracked(gamma.clone()), tracked(beta.clone()))
    } else {
        (None, None, None)
    };
    let (Some(x), Some(gamma), Some(beta)) = parts else {
        let out = module::batch_norm_train(x, gamma, beta, epsilon);
        return (out.output, out.mean, out.variance);
    };
    let (y, moments) = forward(x.primitive(), gamma.primitive(), beta.primitive(), epsilon);
    let channels = moments.len();
    let values = |value: fn(&Moments) -> f64| {
        Tensor::from_primitive::<Cpu>(from_values(
            moments.iter().map(|m| value(m) as f32).collect(),
            [channels],
        ))
        .autodiff()
    };
    let (mean, variance) = (values(|m| m.mean), values(|m| m.variance));
    let nodes = [x.node(), gamma.node(), beta.node()];
    let y = match BatchNorm.prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(([x.into_primitive(), gamma.into_primitive()], moments), y),
        OpsKind::UnTracked(prep) => prep.finish(y),
    };
    (Tensor::from_primitive::<CpuTraining>(y), mean, variance)
}

/// Moments of one channel.
#[derive(Clone, Copy, Debug)]
struct Moments {
    mean: f64,
    variance: f64,
    /// `1 / sqrt(variance + eps)`
    scale: f64,
}

#[derive(Debug)]
struct BatchNorm;

impl Backward<Cpu, 3> for BatchNorm {
    type State = ([CpuTensor; 2], Vec<Moments>);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let nodes = ops.parents;
        let dy = grads.consume::<Cpu>(&ops.node);
        let ([x, gamma], moments) = ops.state;
        for (node, gradient) in nodes.into_iter().zip(backward(&x, &gamma, &dy, &moments)) {
            if let Some(node) = node {
                grads.register::<Cpu>(node.id, gradient);
            }
        }
    }
}

fn forward(x: &CpuTensor, gamma: &CpuTensor, beta: &CpuTensor, epsilon: f64) -> (CpuTensor, Vec<Moments>) {
    let (x, gamma, beta) = (x.to_contiguous(), gamma.to_contiguous(), beta.to_contiguous());
    let shape @ [batch, channels, height, width] = dims::<4>(&x);
    let (x, gamma, beta) = (x.storage::<f32>(), gamma.storage::<f32>(), beta.storage::<f32>());
    let plane = height * width;
    let arch = Arch::new();
    let planes: Vec<[f32; 2]> = x
        .par_chunks_exact(plane)
        .map(|x| {
            arch.dispatch(|| {
                let mean = sum(x) / plane as f32;
                [mean, sum_of_squares(x, mean)]
            })
        })
        .collect();
    let moments: Vec<Moments> = (0..channels)
        .map(|channel| {
            let of_channel = || planes.iter().skip(channel).step_by(channels);
            let mean = of_channel().map(|[mean, _]| f64::from(*mean)).sum::<f64>() / batch as f64;
            let squares = of_channel()
                .map(|[m, s]| f64::from(*s) + plane as f64 * (f64::from(*m) - mean).powi(2))
                .sum::<f64>();
            let variance = squares / (batch * plane) as f64;
            Moments { mean, variance, scale: 1.0 / (variance + epsilon).sqrt() }
        })
        .collect();
    let lines: Vec<[f32; 2]> = moments
        .iter()
        .zip(gamma.iter().zip(beta))
        .map(|(m, (gamma, beta))| {
            let slope = f64::from(*gamma) * m.scale;
            [slope as f32, (f64::from(*beta) - slope * m.mean) as f32]
        })
        .collect();
    let mut y = vec![0.0; x.len()];
    y.par_chunks_exact_mut(plane).zip(x.par_chunks_exact(plane)).enumerate().for_each(|(i, (y, x))| {
        let [slope, offset] = lines[i % channels];
        arch.dispatch(|| {
            for (y, x) in y.iter_mut().zip(x) {
                *y = slope * x + offset;
            }
        });
    });
    (from_values(y, shape), moments)
}

/// Gradients of `x`, `gamma` and `beta`.
fn backward(x: &CpuTensor, gamma: &CpuTensor, dy: &CpuTensor, moments: &[Moments]) -> [CpuTensor; 3] {
    let (x, gamma, dy) = (x.to_contiguous(), gamma.to_contiguous(), dy.to_contiguous());
    let shape @ [batch, channels, height, width] = dims::<4>(&x);
    let (x, gamma, dy) = (x.storage::<f32>(), gamma.storage::<f32>(), dy.storage::<f32>());
    let plane = height * width;
    let arch = Arch::new();
    // Sums of dy and of dy (x - mean) over each plane; the mean of dy times x is taken around the plane's own sum.
    let planes: Vec<[f32; 2]> = dy
        .par_chunks_exact(plane)
        .zip(x.par_chunks_exact(plane))
        .enumerate()
        .map(|(i, (dy, x))| {
            let mean = moments[i % channels].mean as f32;
            arch.dispatch(|| {
                let total = sum(dy);
                [total, dot(dy, x) - mean * total]
            })
        })
        .collect();
    let count = (batch * plane) as f64;
    let (mut d_gamma, mut d_beta) = (Vec::with_capacity(channels), Vec::with_capacity(channels));
    // dx = k dy + p x + q
    let lines: Vec<[f32; 3]> = (0..channels)
        .map(|channel| {
            let of_channel = || planes.iter().skip(channel).step_by(channels);
            let Moments { mean, scale, .. } = moments[channel];
            let total = of_channel().map(|[s, _]| f64::from(*s)).sum::<f64>();
            let along = of_channel().map(|[_, d]| f64::from(*d)).sum::<f64>() * scale;
            d_beta.push(total as f32);
            d_gamma.push(along as f32);
            let k = f64::from(gamma[channel]) * scale;
            let p = -k * scale * along / count;
            [k as f32, p as f32, (-k * total / count - p * mean) as f32]
        })
        .collect();
    let mut dx = vec![0.0; x.len()];
    dx.par_chunks_exact_mut(plane)
        .zip(dy.par_chunks_exact(plane).zip(x.par_chunks_exact(plane)))
        .enumerate()
        .for_each(|(i, (dx, (dy, x)))| {
            let [k, p, q] = lines[i % channels];
            arch.dispatch(|| {
                for ((dx, dy), x) in dx.iter_mut().zip(dy).zip(x) {
                    *dx = k * dy + p * x + q;
                }
            });
        });
    [from_values(dx, shape), from_values(d_gamma, [channels]), from_values(d_beta, [channels])]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::difference;
    use burn::tensor::{Device, Distribution};

    #[test]
    fn agrees_with_burn_in_every_direction() {
        let device = Device::flex().autodiff();
        for (shape, mean) in [([4, 3, 5, 7], 0.5), ([1, 2, 16, 16], 0.0), ([8, 5, 1, 3], 3.0)] {
            let x = Tensor::<4>::random(shape, Distribution::Normal(mean, 2.0), &device).require_grad();
            let vector =
                |m| Tensor::<1>::random([shape[1]], Distribution::Normal(m, 0.5), &device).require_grad();
            let (gamma, beta) = (vector(1.0), vector(0.0));
            let (ours, m, v) = batch_norm_train(x.clone(), gamma.clone(), beta.clone(), 1e-5);
            let theirs = module::batch_norm_train(x.clone(), gamma.clone(), beta.clone(), 1e-5);
            assert!(difference(&ours, &theirs.output) < 1e-5);
            assert!(difference(&m, &theirs.mean) < 1e-5 && difference(&v, &theirs.variance) < 1e-5);
            let probe = Tensor::<4>::random(shape, Distribution::Normal(0.3, 1.0), &device);
            let ours = (ours * probe.clone()).sum().backward();
            let theirs = (theirs.output * probe).sum().backward();
            assert!(difference(&x.grad(&ours).unwrap(), &x.grad(&theirs).unwrap()) < 1e-4);
            assert!(difference(&gamma.grad(&ours).unwrap(), &gamma.grad(&theirs).unwrap()) < 1e-4);
            assert!(difference(&beta.grad(&ours).unwrap(), &beta.grad(&theirs).unwrap()) < 1e-4);
        }
    }
}
