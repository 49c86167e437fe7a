//! How far values lie outside an interval: a penalty with its gradient, and the largest magnitude, in one pass.

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

use crate::route::{Cpu, CpuTensor, CpuTraining, Place, dims, from_values, place, tracked};

/// The mean of `max(|x| - interval, 0)^2`, and the largest `|x|`, cut off from the graph of gradients. Where a
/// value is not finite, neither is the largest.
///
/// While nothing lies outside, the penalty is a constant zero: backward then costs nothing.
pub fn outside(x: &Tensor<4>, interval: f64) -> (Tensor<1>, Tensor<1>) {
    let on_cpu = !matches!(place(x), Place::Other);
    let Some(x) = on_cpu.then(|| tracked(x.clone())).flatten() else {
        let excess = activation::relu(x.clone().abs().sub_scalar(interval));
        return ((excess.clone() * excess).mean(), x.clone().detach().max_abs());
    };
    let (penalty, largest) = measure(x.primitive(), interval as f32);
    let constant = |value: f32| Tensor::<1>::from_primitive::<Cpu>(from_values(vec![value], [1])).autodiff();
    let largest = constant(largest);
    if penalty == 0.0 {
        return (constant(0.0), largest);
    }
    let value = from_values(vec![penalty], [1]);
    let penalty = match Outside.prepare::<NoCheckpointing>([x.node()]).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish((x.into_primitive(), interval as f32), value),
        OpsKind::UnTracked(prep) => prep.finish(value),
    };
    (Tensor::from_primitive::<CpuTraining>(penalty), largest)
}

#[derive(Debug)]
struct Outside;

impl Backward<Cpu, 1> for Outside {
    type State = (CpuTensor, f32);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let [node] = ops.parents;
        let dy = grads.consume::<Cpu>(&ops.node).to_contiguous();
        let (x, interval) = ops.state;
        let Some(node) = node else { return };
        let x = x.to_contiguous();
        let shape = dims::<4>(&x);
        let x = x.storage::<f32>();
        let factor = 2.0 * dy.storage::<f32>().first().copied().unwrap_or(0.0) / x.len().max(1) as f32;
        let arch = Arch::new();
        let mut dx = vec![0.0; x.len()];
        dx.par_chunks_mut(BLOCK).zip(x.par_chunks(BLOCK)).for_each(|(dx, x)| {
            arch.dispatch(|| {
                for (dx, x) in dx.iter_mut().zip(x) {
                    // x beyond the interval, less the interval on its side: zero inside.
                    *dx = factor * (x - x.clamp(-interval, interval));
                }
            });
        });
        grads.register::<Cpu>(node.id, from_values(dx, shape));
    }
}

/// Values looked at by one task.
const BLOCK: usize = 1 << 14;
/// Independent maxima and sums, so that the loop becomes vector instructions.
const LANES: usize = 16;

/// Mean of squared excesses and largest magnitude.
fn measure(x: &CpuTensor, interval: f32) -> (f32, f32) {
    let x = x.to_contiguous();
    let x = x.storage::<f32>();
    let arch = Arch::new();
    let parts: Vec<[f32; 2]> = x
        .par_chunks(BLOCK)
        .map(|x| {
            arch.dispatch(|| {
                let (mut largest, mut sums, mut poison) = ([0f32; LANES], [0f32; LANES], [0f32; LANES]);
                let mut see = |i: usize, value: f32| {
                    let size = value.abs();
                    largest[i] = if size > largest[i] { size } else { largest[i] };
                    let excess = if size > interval { size - interval } else { 0.0 };
                    sums[i] += excess * excess;
                    // Zero unless the value is not finite, which comparisons would pass over.
                    poison[i] += value * 0.0;
                };
                let (head, tail) = x.as_chunks::<LANES>();
                for values in head {
                    for (i, value) in values.iter().enumerate() {
                        see(i, *value);
                    }
                }
                for (i, value) in tail.iter().enumerate() {
                    see(i, *value);
                }
                let poison = poison.iter().sum::<f32>();
                [sums.iter().sum::<f32>() + poison, largest.iter().copied().fold(0.0, f32::max) + poison]
            })
        })
        .collect();
    let sum = parts.iter().map(|[sum, _]| f64::from(*sum)).sum::<f64>();
    let largest = parts.iter().fold(0f32, |a, [_, b]| if *b > a || b.is_nan() { *b } else { a });
    // An earlier NaN survives: no comparison replaces it.
    ((sum / x.len().max(1) as f64) as f32, largest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution};

    #[test]
    fn agrees_with_burn_and_finds_what_is_not_finite() {
        let device = Device::flex().autodiff();
        let x = Tensor::<4>::random([3, 4, 9, 7], Distribution::Normal(0.0, 2.0), &device).require_grad();
        let excess = activation::relu(x.clone().abs().sub_scalar(1.5));
        let theirs = (excess.clone() * excess).mean();
        let (ours, largest) = outside(&x, 1.5);
        let value = |t: &Tensor<1>| t.clone().into_scalar::<f32>();
        assert!((value(&ours) - value(&theirs)).abs() < 1e-6 * value(&theirs));
        assert_eq!(value(&largest), x.clone().detach().max_abs().into_scalar::<f32>());
        let (ours, theirs) = (ours.mul_scalar(3.0).backward(), theirs.mul_scalar(3.0).backward());
        let difference = x.grad(&ours).unwrap() - x.grad(&theirs).unwrap();
        assert!(difference.abs().max().into_scalar::<f32>() < 1e-7);

        let (none, _) = outside(&x, 100.0);
        assert_eq!(value(&none), 0.0);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let spoiled = x.clone().detach().slice_fill([0..1, 0..1, 2..3, 1..2], bad);
            let (_, largest) = outside(&spoiled, 1.5);
            assert!(!value(&largest).is_finite(), "{bad}");
        }
    }
}
