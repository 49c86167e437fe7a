//! A training step as a run takes it: forward, losses, backward, Adam. `RAYON_NUM_THREADS=2 cargo bench -p train`;
//! the same networks in PyTorch: `train/tests/pytorch/step_time.py`.

use std::{hint::black_box, time::Duration};

use burn::tensor::{Device, Distribution, Tensor};
use classifier::{Architecture, Classifier, ClassifierConfig, masked_bce};
use criterion::{Criterion, criterion_group, criterion_main};
use train::optimizer::{Adam, AdamConfig};
use vqgan::{VqganConfig, loss::ReconstructionLoss};

fn random(shape: [usize; 4], device: &Device) -> Tensor<4> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
}

fn resnet20(criterion: &mut Criterion) {
    let device = Device::flex().autodiff();
    let mut group = criterion.benchmark_group("training step of ResNet20 on 4x32x32");
    group.sample_size(10).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(5));
    for batch in [32, 128] {
        let config = ClassifierConfig::new(Architecture::ResNet(20), [4, 32, 32], 14);
        let mut net = Classifier::from_config(&config, &device).expect("a valid configuration");
        let settings = AdamConfig { weight_decay: 5e-4, amsgrad: true, ..AdamConfig::default() };
        let mut adam = Adam::new(settings);
        let x = random([batch, 4, 32, 32], &device);
        let y = Tensor::<2>::random([batch, 14], Distribution::Bernoulli(0.1), &device);
        let known = Tensor::<2>::ones([batch, 14], &device);
        group.bench_function(format!("batch {batch}"), |bench| {
            bench.iter(|| {
                let (logits, ranges) = net.forward_watched(x.clone());
                let loss = masked_bce(logits, y.clone(), known.clone(), None) + ranges.penalty;
                let (next, norm) = adam.step(net.clone(), loss.backward(), 2e-4).expect("finite gradients");
                net = next;
                black_box(norm)
            });
        });
    }
    group.finish();
}

fn vqgan(criterion: &mut Criterion) {
    let device = Device::flex().autodiff();
    let config = VqganConfig {
        side: 64,
        width: 32,
        multipliers: vec![1, 2, 2, 4],
        residual_blocks: 2,
        attention_sides: vec![],
        middle_attention: true,
        latent_channels: 4,
        codes: 1024,
        latent: vqgan::LatentKind::Quantized,
    };
    let mut net = config.init(&device).expect("a valid configuration");
    let mut adam = Adam::new(AdamConfig { beta_1: 0.5, beta_2: 0.9, ..AdamConfig::default() });
    let x = random([8, 1, 64, 64], &device);
    let mut group = criterion.benchmark_group("training step of a VQGAN of width 32, f = 8");
    group.sample_size(10).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(5));
    group.bench_function("8 films of 64x64", |bench| {
        bench.iter(|| {
            let out = net.reconstruct(x.clone(), true);
            let loss = ReconstructionLoss::L2.forward(x.clone(), out.film)
                + out.codebook_loss
                + out.commitment_loss.mul_scalar(0.25);
            let (next, norm) = adam.step(net.clone(), loss.backward(), 1e-4).expect("finite gradients");
            net = next;
            black_box(norm)
        });
    });
    group.finish();
}

criterion_group!(benches, resnet20, vqgan);
criterion_main!(benches);
