//! Other devices than the default one, where a build has them: `cargo test -p train --features ndarray --test devices`.
#![cfg(feature = "ndarray")]

use burn::tensor::{Device, Tensor, TensorData};
use train::{Session, encode_latents, load_vqgan, train_classifier, train_vqgan};

mod common;

use common::tiny;

/// Both networks train on ndarray; its VQGAN makes of a film on either device what it makes on the other.
#[test]
fn a_run_on_ndarray_is_read_on_flex() {
    let config = tiny(&["run.device=\"ndarray\""]);
    let folder = tempfile::tempdir().unwrap();
    let session = Session::quiet(folder.path());
    let vqgan = train_vqgan(&config, &session).unwrap();
    assert!(vqgan.best.psnr > 5.0, "{:?}", vqgan.best);
    let latents = encode_latents(&config, &session).unwrap();
    let report = train_classifier(&config, &latents, &session).unwrap();
    assert_eq!(report.epochs, 3);

    let film: Vec<f32> = (0..16 * 16).map(|i| (i as f32 * 0.37).sin()).collect();
    let [ndarray, flex] = [Device::ndarray(), Device::flex()].map(|device| {
        let (_, net) = load_vqgan(&session.vqgan_model(), &device).unwrap();
        let x = Tensor::<4>::from_data(TensorData::new(film.clone(), [1, 1, 16, 16]), &device);
        net.reconstruct(x, false).film.into_data().iter::<f32>().collect::<Vec<f32>>()
    });
    let difference = ndarray.iter().zip(&flex).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max);
    assert!(ndarray.len() == 16 * 16 && difference < 1e-4, "off by {difference}");
}
