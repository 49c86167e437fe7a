//! The same numbers as PyTorch: outputs, and losses over ten steps from the same weights and batches; checkpoints in
//! its formats. The vectors were made by `pytorch/vectors.py`, which says how.

use std::path::{Path, PathBuf};

use burn::{
    module::Module,
    tensor::{Device, Tensor, TensorData},
};
use classifier::{Architecture, Classifier, ClassifierConfig, masked_bce};
use train::{
    import::{read_pytorch, read_vqgan},
    optimizer::{Adam, AdamConfig},
    state::{State, apply, collect},
};
use vqgan::{
    DiscriminatorConfig, LatentKind, VqganConfig,
    loss::{AdversarialLoss, ReconstructionLoss, adaptive_weight, gradient_at, with_gradient},
    perceptual::Perceptual,
};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pytorch").join(name)
}

fn vectors(name: &str) -> State {
    read_pytorch(&file(name)).expect("the vectors lie beside the test")
}

fn tensor<const D: usize>(state: &State, name: &str, device: &Device) -> Tensor<D> {
    let (shape, values) = &state[name];
    Tensor::from_data(TensorData::new(values.clone(), shape.clone()), device)
}

/// Batch `i` of a tensor of batches.
fn batch<const D: usize, const B: usize>(all: &Tensor<B>, i: usize) -> Tensor<D> {
    let dims: [usize; B] = all.dims();
    let shape: [usize; D] = std::array::from_fn(|d| dims[d + 1]);
    all.clone().narrow(0, i, 1).reshape(shape)
}

fn largest_difference<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> f32 {
    (a.inner() - b.inner()).abs().max().into_scalar::<f32>()
}

fn scalar(t: &Tensor<1>) -> f64 {
    f64::from(t.clone().into_scalar::<f32>())
}

/// The promise is 1e-3 relative.
fn check_losses(step: usize, found: &[f64], expected: &[f32]) {
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let expected = f64::from(*expected);
        let error = (found - expected).abs() / expected.abs().max(1e-6);
        assert!(
            error < 1e-3 || (found - expected).abs() < 1e-7,
            "step {step}, loss {i}: {found}, PyTorch {expected}"
        );
    }
}

fn vqgan_config() -> VqganConfig {
    VqganConfig {
        side: 16,
        width: 8,
        multipliers: vec![1, 2],
        residual_blocks: 1,
        attention_sides: vec![8],
        middle_attention: true,
        latent_channels: 3,
        codes: 32,
        latent: LatentKind::Quantized,
    }
}

#[test]
fn taming_checkpoints_of_every_format_give_pytorchs_output() {
    let run = vectors("vqgan_run.safetensors");
    let device = Device::flex();
    for name in ["vqgan.ckpt", "vqgan.pt", "vqgan.safetensors"] {
        let net = read_vqgan(&file(name), &vqgan_config()).unwrap_or_else(|e| panic!("{e}"));
        let x = batch::<4, 5>(&tensor(&run, "films", &device), 0);
        let out = net.reconstruct(x, true);
        let codes = out.indices.unwrap().to_data().iter::<i64>().map(|i| i as f32).collect::<Vec<_>>();
        assert_eq!(codes, run["codes"].1, "{name}");
        assert!(largest_difference(out.continuous, tensor(&run, "continuous", &device)) < 1e-5, "{name}");
        assert!(largest_difference(out.film, tensor(&run, "film", &device)) < 1e-5, "{name}");
        // What we write has the names, layouts and values of what PyTorch wrote.
        let theirs = vectors("vqgan.safetensors");
        let ours = collect(&net);
        assert_eq!(ours, theirs, "{name}");
    }
}

#[test]
fn checkpoints_that_do_not_fit_are_refused_by_name() {
    let refused = |path: &Path, config: &VqganConfig| read_vqgan(path, config).unwrap_err().to_string();
    let missing = refused(&file("gone.ckpt"), &vqgan_config());
    assert!(missing.contains("gone.ckpt: not found"), "{missing}");
    let mut wide = vqgan_config();
    wide.width = 16;
    for name in ["vqgan.ckpt", "vqgan.pt", "vqgan.safetensors"] {
        let text = refused(&file(name), &wide);
        assert!(
            text.contains(name) && text.contains("expected shape") && text.contains("[vqgan.model]"),
            "{text}"
        );
        let folder = tempfile::tempdir().unwrap();
        let whole = std::fs::read(file(name)).unwrap();
        for length in [0, 10, whole.len() / 2, whole.len() - 10] {
            let cut = folder.path().join(name);
            std::fs::write(&cut, &whole[..length]).unwrap();
            let text = refused(&cut, &vqgan_config());
            assert!(text.contains(name) && text.contains("not a usable checkpoint"), "{length}: {text}");
        }
    }
    let other = refused(&file("resnet20.safetensors"), &vqgan_config());
    assert!(other.contains("it has no tensor \""), "{other}");
}

#[test]
fn the_vqgan_trains_as_in_pytorch() {
    let run = vectors("vqgan_run.safetensors");
    let device = Device::flex().autodiff();
    let mut net = apply(vqgan_config().init(&device).unwrap(), &vectors("vqgan.safetensors")).unwrap();
    let critic_state: State = run
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix("discriminator.")?.to_owned(), value.clone())))
        .collect();
    let critic = DiscriminatorConfig { width: 4, layers: 1 }.init(&device);
    let mut critic = apply(critic, &critic_state).unwrap();
    let settings = AdamConfig { beta_1: 0.5, beta_2: 0.9, ..AdamConfig::default() };
    let (mut adam, mut adam_critic) = (Adam::new(settings.clone()), Adam::new(settings));
    let films = tensor::<5>(&run, "films", &device);
    let l2 = ReconstructionLoss::L2;
    let game = AdversarialLoss::Hinge;
    for (step, expected) in run["losses"].1.chunks_exact(6).enumerate() {
        let x = batch::<4, 5>(&films, step);
        let out = net.reconstruct(x.clone(), true);
        let quantisation = out.codebook_loss.clone() + out.commitment_loss.clone().mul_scalar(0.25);
        let mut found = vec![0.0, scalar(&out.codebook_loss), scalar(&out.commitment_loss), 0.0, 0.0, 0.0];
        let loss = if step >= 6 {
            let (rec, towards_film) = gradient_at(&out.film, |film| l2.forward(x.clone(), film));
            let (generator, towards_real) =
                gradient_at(&out.film, |film| game.generator(critic.forward(film)));
            let weight = adaptive_weight(&out.features, &net.last_layer(), &towards_film, &towards_real);
            (found[0], found[3], found[5]) = (rec, generator, weight);
            with_gradient(out.film.clone(), towards_film + towards_real.mul_scalar(0.8 * weight))
        } else {
            let loss = l2.forward(x.clone(), out.film.clone());
            found[0] = scalar(&loss);
            loss
        };
        (net, _) = adam.step(net, (loss + quantisation).backward(), 1e-3).unwrap();
        if step >= 6 {
            let fake = out.film.inner().autodiff();
            let loss = game.discriminator(critic.forward(x), critic.forward(fake));
            found[4] = scalar(&loss);
            (critic, _) = adam_critic.step(critic, loss.backward(), 1e-3).unwrap();
        }
        check_losses(step, &found, expected);
    }
}

#[test]
fn the_perceptual_distance_is_that_of_pytorch() {
    let run = vectors("perceptual.safetensors");
    let device = Device::flex().autodiff();
    let distance = Perceptual::new(&run, &device).unwrap();
    let film = tensor::<4>(&run, "y", &device).require_grad();
    let value = distance.forward(tensor(&run, "x", &device), film.clone());
    check_losses(0, &[scalar(&value)], &run["distance"].1);
    let gradient = film.grad(&value.backward()).unwrap();
    let expected = tensor::<4>(&run, "gradient", &Device::flex());
    let largest = expected.clone().abs().max().into_scalar::<f32>();
    assert!(largest > 0.0 && largest_difference(gradient.autodiff(), expected) < 1e-4 * largest);
}

#[test]
fn the_resnet_trains_as_in_pytorch() {
    let run = vectors("resnet20_run.safetensors");
    let device = Device::flex().autodiff();
    let mut config = ClassifierConfig::new(Architecture::ResNet(20), [3, 8, 8], 5);
    config.width_divisor = 4;
    config.activation.interval = 2.0;
    let mut net =
        apply(Classifier::from_config(&config, &device).unwrap(), &vectors("resnet20.safetensors")).unwrap();
    let mut adam = Adam::new(AdamConfig { weight_decay: 5e-4, amsgrad: true, ..AdamConfig::default() });
    let latents = tensor::<5>(&run, "latents", &device);
    let (targets, known) = (tensor::<3>(&run, "targets", &device), tensor::<3>(&run, "known", &device));
    for (step, expected) in run["losses"].1.chunks_exact(2).enumerate() {
        let (logits, ranges) = net.forward_watched(batch::<4, 5>(&latents, step));
        let loss = masked_bce(logits, batch::<2, 3>(&targets, step), batch::<2, 3>(&known, step), None);
        check_losses(step, &[scalar(&loss), scalar(&ranges.penalty)], expected);
        (net, _) = adam.step(net, (loss + ranges.penalty.mul_scalar(0.5)).backward(), 1e-3).unwrap();
    }
    // PyTorch keeps the unbiased variance of a batch, we the biased: 64 / 63 apart for the last stage's 8 x 2 x 2 cells.
    let logits = net.valid().forward(batch::<4, 5>(&latents, 0).inner());
    let expected = tensor::<2>(&run, "logits", &Device::flex());
    assert!(largest_difference(logits, expected) < 5e-2);
}
