//! How far values lie outside an interval: penalties with their gradients, and the largest magnitude.

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

/// How far a batch lies outside an interval around zero.
#[derive(Clone, Debug)]
pub struct Excess {
    /// The mean of `max(|x| - interval, 0)^2` over all values.
    pub mean: Tensor<1>,
    /// The mean of `max(max |x_film| - interval, 0)^2` over films: one value decides for each. Where several of a film are
    /// as large, the gradient is the first one's.
    pub peaks: Tensor<1>,
    /// The largest `|x|`, cut off from the graph of gradients. Where a value is not finite, neither is this.
    pub largest: Tensor<1>,
}

/// How far `x` lies outside `[-interval, interval]`.
///
/// While nothing lies outside, mean and peaks are a constant zero: backward then costs nothing.
///
/// # Shapes
///
/// `x`: `[films, channels, height, width]`, each result: `[1]`
pub fn outside(x: &Tensor<4>, interval: f64) -> Excess {
    let on_cpu = !matches!(place(x), Place::Other);
    let Some(x) = on_cpu.then(|| tracked(x.clone())).flatten() else { return by_burn(x, interval) };
    let (mean, largest) = measure(x.primitive(), interval as f32);
    let constant = |value: f32| Tensor::<1>::from_primitive::<Cpu>(from_values(vec![value], [1])).autodiff();
    let largest = constant(largest);
    if mean == 0.0 {
        return Excess { mean: constant(0.0), peaks: constant(0.0), largest };
    }
    let peaks = Peaks::find(x.primitive(), interval as f32);
    let value = from_values(vec![peaks.mean_square()], [1]);
    let peaks = match OfPeaks.prepare::<NoCheckpointing>([x.node()]).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(peaks, value),
        OpsKind::UnTracked(prep) => prep.finish(value),
    };
    let value = from_values(vec![mean], [1]);
    let mean = match Outside.prepare::<NoCheckpointing>([x.node()]).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish((x.into_primitive(), interval as f32), value),
        OpsKind::UnTracked(prep) => prep.finish(value),
    };
    Excess {
        mean: Tensor::from_primitive::<CpuTraining>(mean),
        peaks: Tensor::from_primitive::<CpuTraining>(peaks),
        largest,
    }
}

/// [`outside`] in Burn's own operations.
fn by_burn(x: &Tensor<4>, interval: f64) -> Excess {
    let excess = activation::relu(x.clone().abs().sub_scalar(interval));
    let peaks = excess.clone().flatten::<2>(1, 3).max_dim(1);
    Excess {
        mean: (excess.clone() * excess).mean(),
        peaks: (peaks.clone() * peaks).mean(),
        largest: x.clone().detach().max_abs(),
    }
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

/// The largest excess of each film.
#[derive(Clone, Debug)]
struct Peaks {
    shape: [usize; 4],
    /// Where it stands in the film, and `x - clamp(x, -interval, interval)` there; zero where the film is inside.
    films: Vec<(usize, f32)>,
}

impl Peaks {
    fn find(x: &CpuTensor, interval: f32) -> Self {
        let x = x.to_contiguous();
        let shape = dims::<4>(&x);
        let values = x.storage::<f32>();
        let len = shape[1..].iter().product::<usize>().max(1);
        let arch = Arch::new();
        let films = values
            .par_chunks(len)
            .map(|film| {
                let largest = arch.dispatch(|| largest(film));
                if largest <= interval {
                    return (0, 0.0);
                }
                let at = film.iter().position(|v| v.abs() == largest).unwrap_or(0);
                (at, film[at] - film[at].clamp(-interval, interval))
            })
            .collect();
        Self { shape, films }
    }

    fn mean_square(&self) -> f32 {
        let sum = self.films.iter().map(|(_, excess)| f64::from(*excess).powi(2)).sum::<f64>();
        (sum / self.films.len().max(1) as f64) as f32
    }
}

/// The largest `|x|`; what is no number is passed over.
fn largest(x: &[f32]) -> f32 {
    let mut largest = [0f32; LANES];
    by_lanes(x, |i, value| largest[i] = if value.abs() > largest[i] { value.abs() } else { largest[i] });
    largest.iter().copied().fold(0.0, f32::max)
}

#[derive(Debug)]
struct OfPeaks;

impl Backward<Cpu, 1> for OfPeaks {
    type State = Peaks;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let [node] = ops.parents;
        let dy = grads.consume::<Cpu>(&ops.node).to_contiguous();
        let Peaks { shape, films } = ops.state;
        let Some(node) = node else { return };
        let factor = 2.0 * dy.storage::<f32>().first().copied().unwrap_or(0.0) / films.len().max(1) as f32;
        let len = shape[1..].iter().product::<usize>();
        let mut dx = vec![0.0; films.len() * len];
        for (dx, (at, excess)) in dx.chunks_exact_mut(len.max(1)).zip(films) {
            dx[at] = factor * excess;
        }
        grads.register::<Cpu>(node.id, from_values(dx, shape));
    }
}

/// Values looked at by one task.
const BLOCK: usize = 1 << 14;
/// Independent maxima and sums, so that the loop becomes vector instructions.
const LANES: usize = 16;

/// Shows every value with its lane, in an order that becomes vector instructions.
#[inline(always)]
fn by_lanes(x: &[f32], mut see: impl FnMut(usize, f32)) {
    let (head, tail) = x.as_chunks::<LANES>();
    for values in head {
        for (i, value) in values.iter().enumerate() {
            see(i, *value);
        }
    }
    for (i, value) in tail.iter().enumerate() {
        see(i, *value);
    }
}

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
                by_lanes(x, |i, value| {
                    let size = value.abs();
                    largest[i] = if size > largest[i] { size } else { largest[i] };
                    let excess = if size > interval { size - interval } else { 0.0 };
                    sums[i] += excess * excess;
                    // Zero unless the value is not finite, which comparisons would pass over.
                    poison[i] += value * 0.0;
                });
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
    use burn::tensor::{Device, Distribution, s};

    #[test]
    fn agrees_with_burn_and_finds_what_is_not_finite() {
        let device = Device::flex().autodiff();
        let x = Tensor::<4>::random([3, 4, 9, 7], Distribution::Normal(0.0, 2.0), &device);
        // One film inside, whose peak has no gradient.
        let x = x.slice_fill(s![1..2], 0.5).detach().require_grad();
        let value = |t: &Tensor<1>| t.clone().into_scalar::<f32>();
        assert_eq!(value(&outside(&x, 1.5).largest), value(&by_burn(&x, 1.5).largest));
        // A backward pass uses up its graph: each has its own.
        let gradient = |t: Tensor<1>| x.grad(&t.mul_scalar(3.0).backward()).unwrap();
        type Part = fn(Excess) -> Tensor<1>;
        let parts: [Part; 2] = [|e| e.mean, |e| e.peaks];
        for (part, most) in parts.into_iter().zip([2 * 4 * 9 * 7, 2]) {
            let (ours, theirs) = (part(outside(&x, 1.5)), part(by_burn(&x, 1.5)));
            assert!((value(&ours) - value(&theirs)).abs() < 1e-6 * value(&theirs));
            let (ours, theirs) = (gradient(ours), gradient(theirs));
            assert!((ours.clone() - theirs).abs().max().into_scalar::<f32>() < 1e-6);
            let reached = ours.not_equal_scalar(0.0).int().sum().into_scalar::<i64>();
            assert!((2..=most).contains(&reached), "{reached}");
        }

        let none = outside(&x, 100.0);
        assert_eq!([value(&none.mean), value(&none.peaks)], [0.0; 2]);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let spoiled = x.clone().detach().slice_fill([0..1, 0..1, 2..3, 1..2], bad);
            assert!(!value(&outside(&spoiled, 1.5).largest).is_finite(), "{bad}");
        }
    }

    /// `(3 - 1)^2` of the first film, whose larger value is negative, and `(2 - 1)^2` of the second, on two films.
    #[test]
    fn one_value_of_each_film_is_its_peak() {
        let device = Device::flex().autodiff();
        let x = Tensor::<4>::from_data([[[[2.5, -3.0, 0.0]]], [[[0.5, 2.0, 2.0]]]], &device).require_grad();
        let peaks = outside(&x, 1.0).peaks;
        assert_eq!(peaks.clone().into_scalar::<f32>(), 2.5);
        let gradient = x.grad(&peaks.backward()).unwrap().into_data();
        assert_eq!(gradient.iter::<f32>().collect::<Vec<_>>(), [0.0, -2.0, 0.0, 0.0, 1.0, 0.0]);
    }
}
