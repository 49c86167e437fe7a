//! What does not belong together is refused before it is used, by name.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use he_model::zoo::{Architecture, Recipe, random, random_input};
use he_model::{HeModel, Layout, Offsets, PlanOptions, Preprocessing, Ranges, SecurityLevel, Shape, plan};
use he_runtime::client::{
    ClientKeys, KeyBundle, compare_layers, decrypt, decrypt_batch, encrypt, encrypt_batch,
};
use he_runtime::{Circuit, ClientSpec, EncryptedTensor, PublicKeyFile, RuntimeError, Server, ServerKeys};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

fn model(seed: u64, channels: usize) -> HeModel {
    let input = Shape::new(channels, 8, 8);
    let architecture = Architecture::ResNet(8);
    let recipe = Recipe { architecture, input, labels: 2, se: false, post_add_activation: false, shrink: 16 };
    let graph = random(&recipe, seed).unwrap();
    let options = PlanOptions {
        log_ring_degree: Some(10),
        security: SecurityLevel::InsecureForTests,
        ..PlanOptions::default()
    };
    HeModel {
        plan: plan(&graph, &options).unwrap(),
        labels: vec!["a".into(), "b".into()],
        preprocessing: Preprocessing::unknown(64, input),
        ranges: Ranges::new(&graph),
        graph,
        offsets: Offsets::new(),
        notes: BTreeMap::new(),
    }
}

fn keys(spec: &ClientSpec, seed: u64) -> KeyBundle {
    KeyBundle::generate(spec, &mut ChaCha20Rng::seed_from_u64(seed)).unwrap()
}

fn latent(spec: &ClientSpec, keys: &KeyBundle) -> EncryptedTensor {
    let mut rng = ChaCha20Rng::seed_from_u64(9);
    encrypt(spec, &keys.public, &random_input(spec.input.shape(), 3), &mut rng).unwrap()
}

fn evaluate(server: &Server, x: &EncryptedTensor) -> Result<EncryptedTensor, RuntimeError> {
    server.run(x, &mut |_| {}, &AtomicBool::new(false)).map(|r| r.0)
}

#[test]
fn another_model_key_or_film_is_refused() {
    let (one, other) = (model(1, 3), model(2, 3));
    let (spec, other_spec) = (Circuit::new(&one).unwrap().spec, Circuit::new(&other).unwrap().spec);
    let (keys, other_keys) = (keys(&spec, 1), keys(&spec, 2));
    let server = Server::new(&one, keys.server.clone()).unwrap();
    let foreign = latent(&other_spec, &keys);
    assert!(matches!(evaluate(&server, &foreign), Err(RuntimeError::OtherModel { .. })));
    let foreign = latent(&spec, &other_keys);
    assert!(matches!(evaluate(&server, &foreign), Err(RuntimeError::OtherKey { .. })));
    let result = evaluate(&server, &latent(&spec, &keys)).unwrap();
    assert!(matches!(decrypt(&spec, &other_keys.client, &result), Err(RuntimeError::OtherKey { .. })));
    assert!(matches!(decrypt(&other_spec, &keys.client, &result), Err(RuntimeError::OtherModel { .. })));
    let mut rng = ChaCha20Rng::seed_from_u64(9);
    let mut refuse = |values: &[f64]| encrypt(&spec, &keys.public, values, &mut rng).unwrap_err();
    assert!(matches!(refuse(&[0.0; 5]), RuntimeError::Length { expected: 192, got: 5, .. }));
    assert!(matches!(refuse(&[3.0; 192]), RuntimeError::OutOfRange { .. }));
    assert!(matches!(refuse(&[f64::NAN; 192]), RuntimeError::OutOfRange { .. }));
    assert!(matches!(spec.check_film(&[3.0; 192]), Err(RuntimeError::OutOfRange { .. })));
    assert!(spec.check_film(&[1.5; 192]).is_ok());
}

#[test]
fn batches_and_layouts_that_do_not_fit_are_refused() {
    let model = model(1, 3);
    let spec = Circuit::new(&model).unwrap().spec;
    let keys = keys(&spec, 1);
    let x = random_input(spec.input.shape(), 3);
    let mut rng = ChaCha20Rng::seed_from_u64(9);
    let most = spec.films();
    let many = vec![x.clone(); most + 1];
    let error = encrypt_batch(&spec, &keys.client, &many, &mut rng).unwrap_err();
    assert!(matches!(error, RuntimeError::Batch { got, .. } if got == most + 1), "{error}");
    let none: [Vec<f64>; 0] = [];
    let error = encrypt_batch(&spec, &keys.client, &none, &mut rng).unwrap_err();
    assert!(matches!(error, RuntimeError::Batch { got: 0, .. }), "{error}");
    let result = latent(&spec, &keys);
    let error = decrypt_batch(&spec, &keys.client, &result, most + 1).unwrap_err();
    assert!(matches!(error, RuntimeError::Batch { .. }), "{error}");
    // What a service says about a model is not to be trusted.
    for films in [0, 3, 1 << 20, usize::MAX] {
        let mut hostile = spec.clone();
        for layout in [&mut hostile.input, &mut hostile.output] {
            match layout {
                Layout::Grid(g) => g.films = films,
                Layout::Vector { films: f, .. } => *f = films,
            }
        }
        let error = encrypt(&hostile, &keys.client, &x, &mut rng).unwrap_err();
        assert!(matches!(error, RuntimeError::Layout { what: "latent", .. }), "{error}");
        let error = decrypt(&hostile, &keys.client, &result).unwrap_err();
        assert!(matches!(error, RuntimeError::Layout { .. }), "{error}");
        let mut packed = model.clone();
        packed.plan.packing.frame_mut().films = films;
        assert!(Circuit::new(&packed).is_err(), "{films} films");
    }
    let mut hostile = spec.clone();
    hostile.labels.push("one more".into());
    assert!(matches!(
        decrypt(&hostile, &keys.client, &result),
        Err(RuntimeError::Layout { what: "result", .. })
    ));
}

#[test]
fn keys_that_lack_a_rotation_are_refused_before_the_run() {
    let (small, large) = (model(1, 1), model(1, 20));
    let spec = Circuit::new(&small).unwrap().spec;
    let mut poorer = spec.clone();
    poorer.keys.rotations.pop_first();
    poorer.keys.relinearizations.clear();
    let error = Server::new(&small, keys(&poorer, 1).server).unwrap_err();
    assert!(matches!(error, RuntimeError::MissingKeys { .. }), "{error}");
    assert!(Server::new(&large, keys(&Circuit::new(&large).unwrap().spec, 1).server).is_ok());
}

#[test]
fn a_run_can_be_interrupted() {
    let model = model(1, 3);
    let spec = Circuit::new(&model).unwrap().spec;
    let keys = keys(&spec, 1);
    let x = latent(&spec, &keys);
    let server = Server::new(&model, keys.server).unwrap();
    let result = server.run(&x, &mut |_| {}, &AtomicBool::new(true));
    assert!(matches!(result, Err(RuntimeError::Interrupted)));
}

#[test]
fn files_are_read_as_written_and_refused_when_altered_or_cut() {
    let model = model(1, 3);
    let circuit = Circuit::new(&model).unwrap();
    let (spec, parameters) = (circuit.spec.clone(), &circuit.parameters);
    let bundle = keys(&spec, 1);
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let encrypted = latent(&spec, &bundle);
    encrypted.save(parameters, &at("latent")).unwrap();
    bundle.server.save(parameters, &at("evaluation")).unwrap();
    bundle.public.save(parameters, &at("public")).unwrap();
    bundle.client.save(parameters, &at("secret")).unwrap();
    assert_eq!(PublicKeyFile::load(parameters, &at("public")).unwrap().key(), bundle.public.key());
    let server = Server::new(&model, ServerKeys::load(parameters, &at("evaluation")).unwrap()).unwrap();
    let x = EncryptedTensor::load_latent(parameters, &at("latent")).unwrap();
    let result = evaluate(&server, &x).unwrap();
    result.save(parameters, &at("logits")).unwrap();
    let result = EncryptedTensor::load_logits(parameters, &at("logits")).unwrap();
    let secret = ClientKeys::load(parameters, &at("secret")).unwrap();
    let got = decrypt(&spec, &secret, &result).unwrap();
    let want = model.graph.run(&random_input(spec.input.shape(), 3)).unwrap();
    assert!(got.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-3));
    // A result is no latent, and the other way round.
    let wrong = EncryptedTensor::load_latent(parameters, &at("logits"));
    assert!(matches!(wrong, Err(RuntimeError::Malformed { .. })));
    let bytes = std::fs::read(at("latent")).unwrap();
    for cut in [0, 10, 74, 75, 200, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(at("cut"), &bytes[..cut]).unwrap();
        let cut = EncryptedTensor::load_latent(parameters, &at("cut"));
        assert!(matches!(cut, Err(RuntimeError::Malformed { .. })));
    }
    for place in [0, 5, 6, 74, 90, bytes.len() / 2] {
        let mut altered = bytes.clone();
        altered[place] ^= 1;
        std::fs::write(at("altered"), &altered).unwrap();
        assert!(EncryptedTensor::load_latent(parameters, &at("altered")).is_err(), "byte {place}");
    }
    let longer: Vec<u8> = bytes.iter().copied().chain([0]).collect();
    std::fs::write(at("longer"), longer).unwrap();
    assert!(EncryptedTensor::load_latent(parameters, &at("longer")).is_err());
    assert!(matches!(EncryptedTensor::load_latent(parameters, &at("none")), Err(RuntimeError::Io { .. })));
}

#[test]
fn every_layer_can_be_compared_with_the_clear() {
    let model = model(1, 3);
    let spec = Circuit::new(&model).unwrap().spec;
    let x = random_input(spec.input.shape(), 3);
    let layers = compare_layers(&model, keys(&spec, 1), &[x], &mut ChaCha20Rng::seed_from_u64(4)).unwrap();
    let missing: Vec<_> =
        model.graph.nodes().iter().filter(|n| layers.iter().all(|l| l.name != n.name())).collect();
    assert!(missing.is_empty(), "{missing:?}");
    for layer in layers {
        assert!(layer.error < 1e-3 && layer.precision_bits() > 9.0, "{layer:?}");
    }
}
