//! `c + b x + a x^2` with trained coefficients, of a layer or of each channel, in one pass each way.
//!
//! Backward: `dx = dy (b + 2 a x)`, `dc = sum dy`, `db = sum dy x`, `da = sum dy x^2`.

use burn::{
    backend::autodiff::{
        checkpoint::{base::Checkpointer, strategy::NoCheckpointing},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    },
    tensor::Tensor,
};
use pulp::Arch;
use rayon::prelude::*;

use crate::{
    norm::{dot, sum},
    route::{Cpu, CpuTensor, CpuTraining, Place, dims, from_values, place, tracked},
};

/// `c + b x + a x^2`.
///
/// # Shapes
///
/// `x`: `[batch, channels, height, width]`; `coefficients`: `[1 or channels, 3]`, rows `[c, b, a]`
///
/// # Panics
///
/// Panics if the coefficients have another shape.
pub fn square_polynomial(x: Tensor<4>, coefficients: Tensor<2>) -> Tensor<4> {
    let [rows, terms] = coefficients.dims();
    let [_, channels, height, width] = x.dims();
    assert!(
        terms == 3 && (rows == 1 || rows == channels),
        "coefficients {rows} x {terms} on {channels} channels"
    );
    if height * width == 0 {
        return x;
    }
    match (place(&x), place(&coefficients)) {
        (Place::Plain(x), Place::Plain(c)) => Tensor::from_primitive::<Cpu>(forward(&x, &c)),
        (Place::Other, _) | (_, Place::Other) => reference(x, coefficients),
        _ => match (tracked(x.clone()), tracked(coefficients.clone())) {
            (Some(x), Some(c)) => {
                let y = forward(x.primitive(), c.primitive());
                let y = match Polynomial
                    .prepare::<NoCheckpointing>([x.node(), c.node()])
                    .compute_bound()
                    .stateful()
                {
                    OpsKind::Tracked(prep) => prep.finish([x.into_primitive(), c.into_primitive()], y),
                    OpsKind::UnTracked(prep) => prep.finish(y),
                };
                Tensor::from_primitive::<CpuTraining>(y)
            }
            _ => reference(x, coefficients),
        },
    }
}

/// The same with Burn's operations, for other devices.
fn reference(x: Tensor<4>, coefficients: Tensor<2>) -> Tensor<4> {
    let [rows, _] = coefficients.dims();
    let term = |k: usize| coefficients.clone().slice([0..rows, k..k + 1]).reshape([1, rows, 1, 1]);
    (x.clone() * term(2) + term(1)) * x + term(0)
}

#[derive(Debug)]
struct Polynomial;

impl Backward<Cpu, 2> for Polynomial {
    type State = [CpuTensor; 2];

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let nodes = ops.parents;
        let dy = grads.consume::<Cpu>(&ops.node);
        let [x, coefficients] = ops.state;
        for (node, gradient) in nodes.into_iter().zip(backward(&x, &coefficients, &dy)) {
            if let Some(node) = node {
                grads.register::<Cpu>(node.id, gradient);
            }
        }
    }
}

/// The row of a plane's coefficients.
fn row(coefficients: &[[f32; 3]], plane: usize, channels: usize) -> usize {
    if coefficients.len() == 1 { 0 } else { plane % channels }
}

fn forward(x: &CpuTensor, coefficients: &CpuTensor) -> CpuTensor {
    let (x, coefficients) = (x.to_contiguous(), coefficients.to_contiguous());
    let shape @ [_, channels, height, width] = dims::<4>(&x);
    let (x, rows) = (x.storage::<f32>(), coefficients.storage::<f32>().as_chunks::<3>().0);
    let plane = height * width;
    let arch = Arch::new();
    let mut y = vec![0.0; x.len()];
    y.par_chunks_exact_mut(plane).zip(x.par_chunks_exact(plane)).enumerate().for_each(|(i, (y, x))| {
        let [c, b, a] = rows[row(rows, i, channels)];
        arch.dispatch(|| {
            for (y, x) in y.iter_mut().zip(x) {
                *y = (a * x + b) * x + c;
            }
        });
    });
    from_values(y, shape)
}

/// Gradients of `x` and of the coefficients.
fn backward(x: &CpuTensor, coefficients: &CpuTensor, dy: &CpuTensor) -> [CpuTensor; 2] {
    let (x, coefficients, dy) = (x.to_contiguous(), coefficients.to_contiguous(), dy.to_contiguous());
    let shape @ [_, channels, height, width] = dims::<4>(&x);
    let (x, rows) = (x.storage::<f32>(), coefficients.storage::<f32>().as_chunks::<3>().0);
    let dy = dy.storage::<f32>();
    let plane = height * width;
    let arch = Arch::new();
    let mut dx = vec![0.0; x.len()];
    let parts: Vec<[f32; 3]> = dx
        .par_chunks_exact_mut(plane)
        .zip(dy.par_chunks_exact(plane).zip(x.par_chunks_exact(plane)))
        .enumerate()
        .map(|(i, (dx, (dy, x)))| {
            let [_, b, a] = rows[row(rows, i, channels)];
            arch.dispatch(|| {
                // dy x first, so that its product with x is the third sum.
                for ((dx, dy), x) in dx.iter_mut().zip(dy).zip(x) {
                    *dx = dy * x;
                }
                let part = [sum(dy), sum(dx), dot(dx, x)];
                for ((dx, dy), x) in dx.iter_mut().zip(dy).zip(x) {
                    *dx = dy * (2.0 * a * x + b);
                }
                part
            })
        })
        .collect();
    let mut sums = vec![[0f64; 3]; rows.len()];
    for (i, part) in parts.iter().enumerate() {
        for (sum, value) in sums[row(rows, i, channels)].iter_mut().zip(part) {
            *sum += f64::from(*value);
        }
    }
    let sums = sums.into_iter().flatten().map(|sum| sum as f32).collect();
    [from_values(dx, shape), from_values(sums, [rows.len(), 3])]
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution};

    #[test]
    fn agrees_with_burn_in_every_direction() {
        let device = Device::flex().autodiff();
        for rows in [1, 3] {
            let x = Tensor::<4>::random([4, 3, 5, 9], Distribution::Normal(0.5, 2.0), &device).require_grad();
            let c = Tensor::<2>::random([rows, 3], Distribution::Normal(0.2, 0.5), &device).require_grad();
            let probe = Tensor::<4>::random([4, 3, 5, 9], Distribution::Normal(0.0, 1.0), &device);
            let run = |f: fn(Tensor<4>, Tensor<2>) -> Tensor<4>| {
                let y = f(x.clone(), c.clone());
                let grads = (y.clone() * probe.clone()).sum().backward();
                (y.inner(), x.grad(&grads).unwrap(), c.grad(&grads).unwrap())
            };
            let (ours, theirs) = (run(square_polynomial), run(reference));
            let close = |a: f32| assert!(a < 1e-4, "{a}");
            close((ours.0.clone() - theirs.0).abs().max().into_scalar::<f32>());
            close((ours.1 - theirs.1).abs().max().into_scalar::<f32>());
            let largest = theirs.2.clone().abs().max().into_scalar::<f32>();
            close((ours.2 - theirs.2).abs().max().into_scalar::<f32>() / largest);
            let plain = square_polynomial(x.clone().inner(), c.clone().inner());
            assert_eq!((plain - ours.0).abs().max().into_scalar::<f32>(), 0.0);
        }
    }
}
