//! Several devices, products in bf16, and other devices than the default one where a build has them
//! (`cargo test --release -p train --features ndarray,vulkan --test devices`).

use std::{
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

use burn::tensor::{Device, Tensor, TensorData};
use train::{
    Config, Session, checkpoint::Kind, config, devices::DeviceNames, encode_latents, load_vqgan,
    state::State, train_classifier, train_vqgan,
};

mod common;

use common::{StopAfter, TINY, tensors, tiny};

/// The steps of these are of several batches, with batch norms and a discriminator.
const PARTS: [&str; 4] = [
    "vqgan.train.batch=2",
    "vqgan.train.accumulate=3",
    "classifier.train.batch=3",
    "classifier.train.accumulate=4",
];

/// Both networks, trained to the end.
fn train_both(config: &Config, session: &Session<'_>) -> [State; 2] {
    train_vqgan(config, session).expect("the VQGAN trains");
    let latents = encode_latents(config, session).expect("its films are encoded");
    train_classifier(config, &latents, session).expect("the classifier trains");
    weights(session)
}

/// The last weights, with the states of the optimizers.
fn weights(session: &Session<'_>) -> [State; 2] {
    [
        tensors(session.vqgan_dir().join("last.safetensors"), Kind::Vqgan),
        tensors(session.classifier_dir().join("last.safetensors"), Kind::Classifier),
    ]
}

/// How a VQGAN reconstructs a film without quantisation.
fn reconstruction(session: &Session<'_>, device: &Device) -> Vec<f32> {
    let film: Vec<f32> = (0..16 * 16).map(|i| (i as f32 * 0.37).sin()).collect();
    let (_, net) = load_vqgan(&session.vqgan_model(), device).expect("the run has a VQGAN");
    let x = Tensor::<4>::from_data(TensorData::new(film, [1, 1, 16, 16]), device);
    net.reconstruct(x, false).film.into_data().iter::<f32>().collect()
}

/// The sums over the batches of a step do not depend on where the batches were, to the last bit; nor do they on a break after
/// which there are more devices.
#[test]
fn a_run_on_several_devices_is_that_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, devices: &str| {
        let config = tiny(&[&PARTS[..], &[devices]].concat());
        train_both(&config, &Session::quiet(folder.path().join(name)))
    };
    let one = run("one", "run.device=\"flex\"");
    let two = run("two", "run.device=[\"flex\", \"flex\"]");
    assert!(one == two, "two devices");

    let dir = folder.path().join("more");
    let flag = Arc::new(AtomicBool::new(false));
    let listener = StopAfter(8, Arc::clone(&flag));
    train_vqgan(&tiny(&PARTS), &Session::new(&dir, &listener, flag)).unwrap_err();
    let three = tiny(&[&PARTS[..], &["run.device=[\"flex\", \"flex\", \"flex\"]"]].concat());
    assert!(train_both(&three, &Session::quiet(&dir)) == one, "three devices after a break");
}

/// Products are rounded, weights are not; a run goes on to the same bits, and not in another precision.
#[test]
fn bf16_trains_weights_of_f32() {
    let folder = tempfile::tempdir().unwrap();
    let bf16 = tiny(&["run.precision=\"bf16\""]);
    let [session, exact] = ["bf16", "f32"].map(|name| Session::quiet(folder.path().join(name)));
    let half = train_both(&bf16, &session);
    let whole = train_both(&tiny(&[]), &exact);
    for (network, (half, whole)) in ["vqgan", "classifier"].iter().zip(half.iter().zip(&whole)) {
        let weights = || half.iter().filter(|(name, _)| name.ends_with(".weight"));
        assert!(weights().any(|(name, weight)| whole[name] != *weight), "{network}: bf16 was not used");
        let of_bf16 = |value: &f32| value.to_bits().trailing_zeros() >= 16;
        for (name, (_, values)) in weights().filter(|(_, (_, values))| values.len() > 8) {
            assert!(!values.iter().all(of_bf16), "{network}: {name} was rounded");
        }
    }
    let psnr = |session: &Session<'_>| {
        let path = session.vqgan_dir().join("metrics.json");
        let rows = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        train::history::History { rows }.column("validation/psnr")[0].1
    };
    let (a, b) = (psnr(&session), psnr(&exact));
    assert!((a - b).abs() < 0.5, "PSNR before quantisation: {a} dB in bf16, {b} in f32");

    let dir = folder.path().join("broken");
    let flag = Arc::new(AtomicBool::new(false));
    let listener = StopAfter(8, Arc::clone(&flag));
    train_vqgan(&bf16, &Session::new(&dir, &listener, flag)).unwrap_err();
    let session = Session::quiet(&dir);
    let refused = train_vqgan(&tiny(&[]), &session).unwrap_err().to_string();
    assert!(refused.contains("run.precision"), "{refused}");
    assert!(train_both(&bf16, &session) == half, "an interrupted run");
}

/// Both networks train on each device of this build that this machine has, alone and shared with itself, and are read on flex.
#[test]
fn runs_on_other_devices_are_read_on_flex() {
    for (built, device) in [
        (cfg!(feature = "ndarray"), "ndarray"),
        (cfg!(feature = "wgpu"), "wgpu"),
        (cfg!(feature = "vulkan"), "vulkan"),
        (cfg!(feature = "cuda"), "cuda"),
    ] {
        if !built {
            println!("skipped: this build has no {device}");
            continue;
        }
        let Ok(mut devices) = DeviceNames::One(device.to_owned()).open() else {
            println!("skipped: this machine has no device of {device}");
            continue;
        };
        let folder = tempfile::tempdir().unwrap();
        let [alone, shared] = ["alone", "shared"].map(|name| Session::quiet(folder.path().join(name)));
        let one = tiny(&[&PARTS[..], &[&format!("run.device=\"{device}\"")]].concat());
        let two = tiny(&[&PARTS[..], &[&format!("run.device=[\"{device}\", \"{device}\"]")]].concat());
        let before = std::time::Instant::now();
        train_both(&one, &alone);
        train_both(&two, &shared);
        let on_device = reconstruction(&alone, &devices.swap_remove(0));
        for (what, other) in [
            ("flex", reconstruction(&alone, &Device::flex())),
            ("a shared run", reconstruction(&shared, &Device::flex())),
        ] {
            // f32 gives 1e-6; GPUs may multiply with fewer bits.
            let difference = on_device.iter().zip(&other).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max);
            assert!(
                on_device.len() == 16 * 16 && difference < 2e-3,
                "{device} and {what}: off by {difference}"
            );
            println!("{device} and {what}: off by {difference:.1e}");
        }
        println!("{device}: {:.1} s", before.elapsed().as_secs_f64());

        // In bf16 where the device computes in it, and an error where it does not.
        let overrides = [&format!("run.device=\"{device}\""), "run.precision=\"bf16\""].map(str::to_owned);
        match config::parse(TINY, Path::new("tiny.toml"), &overrides) {
            Ok(half) => {
                train_both(&half, &Session::quiet(folder.path().join("half")));
                println!("{device}: bf16 trains");
            }
            Err(error) => {
                let error = error.to_string();
                assert!(error.contains("run.precision") && error.contains("bf16"), "{error}");
                println!("{device}: {error}");
            }
        }
    }
}
