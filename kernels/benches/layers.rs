//! A training step of single layers: Burn's own operations against these kernels.

use std::hint::black_box;

use burn::tensor::{Device, Distribution, Tensor, activation, module, ops::ConvOptions};
use criterion::{Criterion, criterion_group, criterion_main};
use kernels::{Window, conv2d, group_norm_swish};

fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Device::flex().autodiff()).require_grad()
}

fn layers(criterion: &mut Criterion) {
    let (x, w, b) = (random([8, 16, 64, 64]), random([16, 16, 3, 3]), random([16]));
    let mut group = criterion.benchmark_group("conv 3x3 16->16, 8x64x64, forward and backward");
    group.sample_size(10);
    group.bench_function("burn", |bench| {
        bench.iter(|| {
            let options = ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
            let y = module::conv2d(x.clone(), w.clone(), Some(b.clone()), options);
            black_box(y.sum().backward());
        });
    });
    group.bench_function("kernels", |bench| {
        bench.iter(|| {
            let window = Window { stride: [1, 1], padding: [1; 4], groups: 1 };
            let y = conv2d(x.clone(), w.clone(), Some(b.clone()), window);
            black_box(y.sum().backward());
        });
    });
    group.finish();

    let (gamma, beta) = (random([16]), random([16]));
    let mut group = criterion.benchmark_group("group norm and swish, 8x16x64x64, forward and backward");
    group.sample_size(10);
    group.bench_function("burn", |bench| {
        bench.iter(|| {
            let flat = x.clone().reshape([8, 16, 4096]);
            let centred = flat.clone() - flat.mean_dim(2);
            let variance = centred.clone().square().mean_dim(2);
            let n = (centred / variance.add_scalar(1e-6).sqrt()).reshape([8, 16, 64, 64]);
            let h = n * gamma.clone().reshape([1, 16, 1, 1]) + beta.clone().reshape([1, 16, 1, 1]);
            black_box(activation::silu(h).sum().backward());
        });
    });
    group.bench_function("kernels", |bench| {
        bench.iter(|| {
            let y = group_norm_swish(x.clone(), gamma.clone(), beta.clone(), 16, 1e-6);
            black_box(y.sum().backward());
        });
    });
    group.finish();
}

criterion_group!(benches, layers);
criterion_main!(benches);
