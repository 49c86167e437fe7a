//! 2D convolution as columns and matrix products, in all three directions.
//!
//! With `C` the columns of an image (depth x positions) and `W` the weights (out x depth):
//! `Y = W C + b`, `dW = sum over images of dY C^T`, `dC = W^T dY`, `db = sum of dY`. Images run in parallel; the
//! sums over images are taken in their order.

use burn::{
    backend::autodiff::{
        checkpoint::{base::Checkpointer, strategy::NoCheckpointing},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    },
    tensor::{Tensor, module, ops::ConvOptions},
};
use rayon::prelude::*;

use crate::{
    columns::Geometry,
    matrix::{View, product},
    precision::{rounded, rounds, widened},
    route::{Cpu, CpuTensor, CpuTraining, Place, dims, from_values, place, tracked},
    window::Window,
};

/// 2D convolution (cross-correlation, as in every framework), its products of the type that [`crate::Products`] says.
///
/// # Shapes
///
/// `x`: `[batch, in, height, width]`, `weight`: `[out, in / groups, kernel, kernel]`, `bias`: `[out]`
///
/// # Panics
///
/// Panics if the shapes do not fit together.
pub fn conv2d(x: Tensor<4>, weight: Tensor<4>, bias: Option<Tensor<1>>, window: Window) -> Tensor<4> {
    let [_, channels, ..] = x.dims();
    let [out, per_group, ..] = weight.dims();
    assert!(
        channels == per_group * window.groups && out % window.groups == 0,
        "a convolution of {channels} channels with weights {:?} in {} groups",
        weight.dims(),
        window.groups
    );
    if rounds(&x) {
        let y = widened(module::conv2d(rounded(x), rounded(weight), None, options(window)));
        return match bias {
            Some(bias) => y + bias.reshape([1, out, 1, 1]),
            None => y,
        };
    }
    match (place(&x), place(&weight)) {
        (Place::Plain(x), Place::Plain(w)) => {
            let bias = bias.as_ref().map(place);
            let bias = match &bias {
                Some(Place::Plain(bias)) => Some(bias),
                _ => None,
            };
            Tensor::from_primitive::<Cpu>(forward(&x, &w, bias, window))
        }
        (Place::Other, _) | (_, Place::Other) => module::conv2d(x, weight, bias, options(window)),
        _ => {
            let bias = bias.unwrap_or_else(|| Tensor::zeros([out], &x.device()));
            match (tracked(x.clone()), tracked(weight.clone()), tracked(bias.clone())) {
                (Some(x), Some(w), Some(b)) => {
                    let y = forward(x.primitive(), w.primitive(), Some(b.primitive()), window);
                    let nodes = [x.node(), w.node(), b.node()];
                    let y = match Convolution.prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
                        OpsKind::Tracked(prep) => {
                            prep.finish((x.into_primitive(), w.into_primitive(), window), y)
                        }
                        OpsKind::UnTracked(prep) => prep.finish(y),
                    };
                    Tensor::from_primitive::<CpuTraining>(y)
                }
                _ => module::conv2d(x, weight, Some(bias), options(window)),
            }
        }
    }
}

#[derive(Debug)]
struct Convolution;

impl Backward<Cpu, 3> for Convolution {
    type State = (CpuTensor, CpuTensor, Window);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let [node_x, node_w, node_b] = ops.parents;
        let dy = grads.consume::<Cpu>(&ops.node);
        let (x, w, window) = ops.state;
        let wanted = [node_x.is_some(), node_w.is_some(), node_b.is_some()];
        let [dx, dw, db] = backward(&x, &w, &dy, window, wanted);
        for (node, gradient) in [(node_x, dx), (node_w, dw), (node_b, db)] {
            if let (Some(node), Some(gradient)) = (node, gradient) {
                grads.register::<Cpu>(node.id, gradient);
            }
        }
    }
}

/// A window as Burn says it.
fn options(window: Window) -> ConvOptions<2> {
    let [top, left, bottom, right] = window.padding;
    ConvOptions::new_with_padding(window.stride, [(top, bottom), (left, right)], [1, 1], window.groups)
}

fn forward(x: &CpuTensor, w: &CpuTensor, bias: Option<&CpuTensor>, window: Window) -> CpuTensor {
    let (x, w) = (x.to_contiguous(), w.to_contiguous());
    let (x_shape, w_shape) = (dims::<4>(&x), dims::<4>(&w));
    let geometry = Geometry::new(window, x_shape, w_shape);
    let (batch, out) = (x_shape[0], w_shape[0]);
    let out_group = out / window.groups;
    let (positions, depth, image) = (geometry.positions(), geometry.depth(), geometry.values());
    let bias = bias.map(CpuTensor::to_contiguous);
    let bias = bias.as_ref().map(|bias| bias.storage::<f32>());
    let (x, w) = (x.storage::<f32>(), w.storage::<f32>());

    let mut y = vec![0.0; batch * out * positions];
    if !y.is_empty() {
        let groups = y.par_chunks_mut(out_group * positions).enumerate();
        groups.for_each_init(Vec::new, |columns, (i, y)| {
            let group = i % window.groups;
            let x = &x[i * image..][..image];
            let w = View::rows(&w[group * out_group * depth..][..out_group * depth], depth);
            if let Some(bias) = bias {
                for (channel, bias) in y.chunks_exact_mut(positions).zip(&bias[group * out_group..]) {
                    channel.fill(*bias);
                }
            }
            for_strips(&geometry, columns, |columns, from, to| {
                geometry.gather(x, from, to, columns);
                let n = (to - from) * geometry.out[1];
                let y = &mut y[from * geometry.out[1]..];
                product([out_group, depth, n], w, View::rows(columns, n), y, positions, true);
            });
        });
    }
    from_values(y, [batch, out, geometry.out[0], geometry.out[1]])
}

/// Gradients of input, weights and bias, as far as they are wanted.
fn backward(
    x: &CpuTensor,
    w: &CpuTensor,
    dy: &CpuTensor,
    window: Window,
    [want_x, want_w, want_b]: [bool; 3],
) -> [Option<CpuTensor>; 3] {
    let (x, w, dy) = (x.to_contiguous(), w.to_contiguous(), dy.to_contiguous());
    let (x_shape, w_shape) = (dims::<4>(&x), dims::<4>(&w));
    let geometry = Geometry::new(window, x_shape, w_shape);
    let (batch, out) = (x_shape[0], w_shape[0]);
    let out_group = out / window.groups;
    let (positions, depth, image) = (geometry.positions(), geometry.depth(), geometry.values());
    let (x, w, dy) = (x.storage::<f32>(), w.storage::<f32>(), dy.storage::<f32>());
    let tasks = batch * window.groups;

    let mut dx = vec![0.0; if want_x { x.len() } else { 0 }];
    // Without a gradient to fill, every task gets an empty piece.
    let mut pieces = dx.chunks_mut(image.max(1)).collect::<Vec<_>>();
    pieces.resize_with(tasks, Default::default);
    let parts = pieces
        .into_par_iter()
        .enumerate()
        .map_init(
            || (Vec::new(), Vec::new()),
            |(columns, spread), (i, dx)| {
                let group = i % window.groups;
                let x = &x[i * image..][..image];
                let w = View::rows(&w[group * out_group * depth..][..out_group * depth], depth);
                let dy = &dy[i * out_group * positions..][..out_group * positions];
                let mut dw = vec![0.0; if want_w { out_group * depth } else { 0 }];
                for_strips(&geometry, columns, |columns, from, to| {
                    let n = (to - from) * geometry.out[1];
                    let dy = View::rows(&dy[from * geometry.out[1]..], positions);
                    if want_w {
                        geometry.gather(x, from, to, columns);
                        let columns = View::rows(columns, n).transposed();
                        product([out_group, n, depth], dy, columns, &mut dw, depth, true);
                    }
                    if want_x {
                        spread.resize(depth * n, 0.0);
                        product([depth, out_group, n], w.transposed(), dy, spread, n, false);
                        geometry.scatter(spread, from, to, dx);
                    }
                });
                let sums = dy.chunks_exact(positions.max(1)).map(|channel| channel.iter().sum::<f32>());
                (dw, if want_b { sums.collect() } else { Vec::new() })
            },
        )
        .collect::<Vec<_>>();

    let mut dw = vec![0.0; if want_w { out * depth } else { 0 }];
    let mut db = vec![0.0; if want_b { out } else { 0 }];
    for (i, (dw_part, db_part)) in parts.iter().enumerate() {
        let group = i % window.groups;
        add(&mut dw, group * out_group * depth, dw_part);
        add(&mut db, group * out_group, db_part);
    }
    [
        want_x.then(|| from_values(dx, x_shape)),
        want_w.then(|| from_values(dw, w_shape)),
        want_b.then(|| from_values(db, [out])),
    ]
}

fn add(sum: &mut [f32], start: usize, part: &[f32]) {
    for (sum, value) in sum.iter_mut().skip(start).zip(part) {
        *sum += value;
    }
}

/// Calls `act` with room for the columns of each strip of output rows.
fn for_strips(geometry: &Geometry, columns: &mut Vec<f32>, mut act: impl FnMut(&mut [f32], usize, usize)) {
    let (strip, rows) = (geometry.strip(), geometry.out[0]);
    for from in (0..rows).step_by(strip) {
        let to = (from + strip).min(rows);
        columns.resize(geometry.depth() * (to - from) * geometry.out[1], 0.0);
        act(columns, from, to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::difference;
    use burn::tensor::{Device, Distribution};

    /// Output and all gradients against Burn's own convolution.
    fn compare(x: [usize; 4], w: [usize; 4], bias: bool, window: Window) {
        let device = Device::flex().autodiff();
        let random4 =
            |shape| Tensor::<4>::random(shape, Distribution::Normal(0.0, 1.0), &device).require_grad();
        let (x, w) = (random4(x), random4(w));
        let b = Tensor::<1>::random([w.dims()[0]], Distribution::Normal(0.0, 1.0), &device).require_grad();
        let b = bias.then_some(b);
        let ours = conv2d(x.clone(), w.clone(), b.clone(), window);
        let theirs = module::conv2d(x.clone(), w.clone(), b.clone(), options(window));
        assert!(difference(&ours, &theirs) < 1e-5);
        let plain = conv2d(x.clone().inner(), w.clone().inner(), b.clone().map(Tensor::inner), window);
        assert_eq!(difference(&plain, &ours), 0.0);
        let probe = random4(ours.dims()).detach();
        let ours = (ours * probe.clone()).sum().backward();
        let theirs = (theirs * probe).sum().backward();
        assert!(difference(&x.grad(&ours).unwrap(), &x.grad(&theirs).unwrap()) < 1e-5);
        assert!(difference(&w.grad(&ours).unwrap(), &w.grad(&theirs).unwrap()) < 1e-5);
        if let Some(b) = b {
            assert!(difference(&b.grad(&ours).unwrap(), &b.grad(&theirs).unwrap()) < 1e-5);
        }
    }

    #[test]
    fn agrees_with_burn_in_every_direction() {
        let same = Window { stride: [1, 1], padding: [1; 4], groups: 1 };
        compare([2, 3, 9, 7], [4, 3, 3, 3], true, same);
        compare([2, 3, 9, 7], [4, 3, 3, 3], false, same);
        compare([1, 4, 8, 8], [6, 4, 1, 1], true, Window::plain());
        compare(
            [2, 3, 8, 8],
            [5, 3, 3, 3],
            true,
            Window { stride: [2, 2], padding: [0, 0, 1, 1], groups: 1 },
        );
        compare([2, 3, 16, 16], [5, 3, 4, 4], true, Window { stride: [2, 2], padding: [1; 4], groups: 1 });
        compare([3, 8, 6, 5], [16, 2, 5, 5], false, Window { stride: [1, 1], padding: [2; 4], groups: 4 });
        compare([1, 16, 64, 64], [8, 16, 3, 3], true, same);
    }

    #[test]
    fn constants_receive_no_gradient_and_cost_none() {
        let device = Device::flex().autodiff();
        let x = Tensor::<4>::ones([1, 1, 4, 4], &device);
        let w = Tensor::<4>::ones([1, 1, 3, 3], &device).require_grad();
        let y = conv2d(x.clone(), w.clone(), None, Window::plain());
        let grads = y.sum().backward();
        assert!(x.grad(&grads).is_none());
        assert_eq!(w.grad(&grads).unwrap().sum().into_scalar::<f32>(), 36.0);
    }
}
