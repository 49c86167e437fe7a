//! The second rung of the ladder: ciphertexts compute what the clear computes. On a small insecure ring for all
//! networks, and on one secure ring.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use he_model::zoo::{Architecture, Recipe, random, random_input};
use he_model::{
    Bias, Conv2d, Graph, GraphLiteral, HeModel, Linear, NodeId, Offsets, Op, Packing, PlanOptions,
    Polynomial, Preprocessing, Ranges, SecurityLevel, Shape, plan,
};
use he_runtime::client::{EncryptionKey, KeyBundle, decrypt, decrypt_batch, encrypt, encrypt_batch};
use he_runtime::simulate::{compare_layers, simulate};
use he_runtime::{Circuit, Server};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

fn model(graph: Graph, options: &PlanOptions) -> HeModel {
    let labels = (0..graph.output_shape().channels).map(|i| format!("label {i}")).collect();
    let latent = graph.input_shape();
    let preprocessing = Preprocessing::unknown(64, latent);
    let plan = plan(&graph, options).unwrap();
    HeModel {
        plan,
        labels,
        preprocessing,
        ranges: Ranges::new(&graph),
        graph,
        offsets: Offsets::new(),
        notes: BTreeMap::new(),
    }
}

fn recipe(architecture: Architecture, side: usize, shrink: usize, se: bool) -> Recipe {
    // VGGNet has four pools, and eight groups in its 32 channels.
    let is_vggnet = architecture == Architecture::VggNet;
    let (side, shrink) = if is_vggnet { (side.max(16), shrink.min(4)) } else { (side, shrink) };
    let input = Shape::new(3, side, side);
    Recipe { architecture, input, labels: 5, se, post_add_activation: se, shrink }
}

/// Largest logit difference between ciphertexts, encrypted under the public key, and the graph.
fn run(model: &HeModel, seed: u64) -> f64 {
    run_under(model, seed, false)
}

/// The same under the secret key if `secret`.
fn run_under(model: &HeModel, seed: u64, secret: bool) -> f64 {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let spec = Circuit::new(model).unwrap().spec;
    let start = std::time::Instant::now();
    let keys = KeyBundle::generate(&spec, &mut rng).unwrap();
    let keygen = start.elapsed().as_secs_f64();
    let latent = random_input(model.graph.input_shape(), seed);
    let key: EncryptionKey<'_> = if secret { (&keys.client).into() } else { (&keys.public).into() };
    let encrypted = encrypt(&spec, key, &latent, &mut rng).unwrap();
    let (count, bytes) = (keys.server.count(), keys.server.bytes());
    let server = Server::new(model, keys.server).unwrap();
    let start = std::time::Instant::now();
    let mut last = 0.0;
    let mut progress = |p: he_runtime::Progress<'_>| {
        assert!(p.done >= last && p.done <= 1.0);
        last = p.done;
    };
    let (result, times) = server.run(&encrypted, &mut progress, &AtomicBool::new(false)).unwrap();
    let took = start.elapsed().as_secs_f64();
    assert_eq!(times.len(), server.circuit().executable.layers().len());
    let got = decrypt(&spec, &keys.client, &result).unwrap();
    let want = model.graph.run(&latent).unwrap();
    let error = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    let magnitude = want.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    println!(
        "N=2^{} depth {}: {count} keys {} MiB in {keygen:.2} s, run {took:.2} s (predicted {:.2} s of one thread), logits {magnitude:.3} +- {error:.2e}",
        model.plan.ring.log_ring_degree,
        server.circuit().trace.depth,
        bytes >> 20,
        server.circuit().trace.seconds()
    );
    error
}

fn insecure(precise: bool) -> PlanOptions {
    PlanOptions {
        log_ring_degree: Some(11),
        security: SecurityLevel::InsecureForTests,
        precise: Some(precise),
        ..PlanOptions::default()
    }
}

#[test]
fn every_network_on_a_small_insecure_ring() {
    let networks = [Architecture::LeNet, Architecture::VggNet, Architecture::HefNet, Architecture::ResNet(8)];
    for architecture in networks {
        for (se, precise) in [(false, true), (true, true), (false, false)] {
            let graph = random(&recipe(architecture, 8, 8, se), 2).unwrap();
            let error = run(&model(graph, &insecure(precise)), 1);
            assert!(
                error < if precise { 2e-4 } else { 2e-2 },
                "{} {se} {precise}: {error}",
                architecture.name()
            );
        }
    }
}

#[test]
fn batches_of_films_on_a_small_insecure_ring() {
    let mut rng = ChaCha20Rng::seed_from_u64(5);
    for (architecture, se, films, given, log_n) in [
        (Architecture::LeNet, false, 2, 2, 11),
        (Architecture::HefNet, false, 2, 1, 11),
        (Architecture::ResNet(8), false, 4, 3, 12),
        (Architecture::ResNet(8), true, 2, 2, 11),
    ] {
        let graph = random(&recipe(architecture, 8, 8, se), 2).unwrap();
        let options = PlanOptions { films, log_ring_degree: Some(log_n), ..insecure(false) };
        let model = model(graph, &options);
        let spec = Circuit::new(&model).unwrap().spec;
        assert_eq!(spec.films(), films);
        let keys = KeyBundle::generate(&spec, &mut rng).unwrap();
        let server = Server::new(&model, keys.server).unwrap();
        let latents: Vec<Vec<f64>> =
            (0..given).map(|film| random_input(model.graph.input_shape(), film)).collect();
        let encrypted = encrypt_batch(&spec, &keys.client, &latents, &mut rng).unwrap();
        let (result, _) = server.run(&encrypted, &mut |_| {}, &AtomicBool::new(false)).unwrap();
        let got = decrypt_batch(&spec, &keys.client, &result, latents.len()).unwrap();
        assert_eq!(got.len(), latents.len());
        for (film, (got, latent)) in got.iter().zip(&latents).enumerate() {
            let want = model.graph.run(latent).unwrap();
            let error = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(error < 2e-2, "{} film {film}: {error:e}", architecture.name());
        }
        assert_eq!(decrypt(&spec, &keys.client, &result).unwrap(), got[0]);
        // The simulation has the films in the same places.
        let simulated = simulate(&Circuit::new(&model).unwrap(), &latents, &mut rng).unwrap();
        assert_eq!(simulated.len(), latents.len());
        for (got, simulated) in got.iter().zip(&simulated) {
            let far = got.iter().zip(&simulated.logits).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(far < 2e-2, "{}: {far:e} between measured and simulated", architecture.name());
        }
    }
}

#[test]
fn tensors_on_several_ciphertexts() {
    let graph = random(&recipe(Architecture::ResNet(8), 16, 4, false), 2).unwrap();
    let options = PlanOptions { log_ring_degree: Some(10), ..insecure(false) };
    let model = model(graph, &options);
    assert!(Circuit::new(&model).unwrap().spec.input.ciphertexts() > 1, "{:?}", model.plan.packing);
    let error = run(&model, 1);
    assert!(error < 2e-2, "{error}");
}

#[test]
fn a_small_network_at_128_bits() {
    let graph = random(&recipe(Architecture::ResNet(8), 8, 8, false), 2).unwrap();
    let model = model(graph, &PlanOptions { precise: Some(false), ..PlanOptions::default() });
    let secret = run_under(&model, 1, true);
    assert!(secret < 2e-3, "{secret}");
    // The noise of an encryption under the public key, two hundred times as large at this ring degree, is most of the error.
    let public = run(&model, 1);
    assert!(public < 2e-2, "{public}");
}

#[test]
fn one_and_many_threads_give_the_same_ciphertext() {
    let graph = random(&recipe(Architecture::ResNet(8), 8, 8, true), 2).unwrap();
    let model = model(graph, &insecure(false));
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let circuit = Circuit::new(&model).unwrap();
    let keys = KeyBundle::generate(&circuit.spec, &mut rng).unwrap();
    let latent = random_input(model.graph.input_shape(), 1);
    let encrypted = encrypt(&circuit.spec, &keys.public, &latent, &mut rng).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        // Preparing the plaintexts and the run, both with that many threads.
        let result = pool.install(|| {
            let server = Server::new(&model, keys.server.clone()).unwrap();
            server.run(&encrypted, &mut |_| {}, &AtomicBool::new(false)).unwrap().0
        });
        let path = folder.path().join(format!("{threads}"));
        result.save(&circuit.parameters, &path).unwrap();
        std::fs::read(path).unwrap()
    };
    let one = file(1);
    // Two polynomials of two limbs.
    assert!(one.len() > 16 << 11, "{} bytes", one.len());
    assert!(one == file(4), "four threads differ from one");
}

#[test]
fn keys_of_a_higher_tier_serve_the_lower_ones() {
    let options = PlanOptions { log_ring_degree: Some(12), ..insecure(false) };
    let mut model = model(random(&recipe(Architecture::ResNet(8), 8, 2, true), 2).unwrap(), &options);
    assert!(matches!(model.plan.packing, Packing::RowCopies(_)), "{:?}", model.plan.packing);
    // Few special primes, as a bound on the modulus would leave: several digits at the higher levels.
    model.plan.ring.special_bits.truncate(10);
    model.plan.ring.skipped_tiers.clear();
    let all = Circuit::new(&model).unwrap().trace.key_count;
    let ring = model.plan.ring.plan().unwrap();
    let tiers = ring.tiers();
    assert!(tiers.len() > 1, "{tiers:?}");
    model.plan.ring.skipped_tiers = tiers[..tiers.len() - 1].iter().map(|t| t.top_level).collect();
    let fewer = Circuit::new(&model).unwrap().trace.key_count;
    assert!(fewer < all, "{fewer} of {all} keys");
    let error = run(&model, 1);
    assert!(error < 2e-2, "{error}");
}

/// Root mean square over several films of the difference from the clear logits: on ciphertexts, and simulated.
fn errors(model: &HeModel, films: u64) -> (f64, f64) {
    let mut rng = ChaCha20Rng::seed_from_u64(17);
    let circuit = Circuit::new(model).unwrap();
    let keys = KeyBundle::generate(&circuit.spec, &mut rng).unwrap();
    let server = Server::new(model, keys.server).unwrap();
    let (mut measured, mut simulated, mut count) = (0.0, 0.0, 0);
    for film in 0..films {
        let latent = random_input(model.graph.input_shape(), film);
        let want = model.graph.run(&latent).unwrap();
        let encrypted = encrypt(&circuit.spec, &keys.client, &latent, &mut rng).unwrap();
        let (result, _) = server.run(&encrypted, &mut |_| {}, &AtomicBool::new(false)).unwrap();
        let got = decrypt(&circuit.spec, &keys.client, &result).unwrap();
        let noisy = simulate(&circuit, &[&latent], &mut rng).unwrap().remove(0);
        assert_eq!(noisy.layers.len(), circuit.executable.results().len());
        for ((want, got), noisy) in want.iter().zip(&got).zip(&noisy.logits) {
            measured += (want - got).powi(2);
            simulated += (want - noisy).powi(2);
            count += 1;
        }
    }
    ((measured / f64::from(count)).sqrt(), (simulated / f64::from(count)).sqrt())
}

#[test]
fn simulated_noise_is_within_a_factor_of_four() {
    for architecture in [Architecture::LeNet, Architecture::HefNet, Architecture::ResNet(8)] {
        for (se, precise) in [(false, true), (true, true), (false, false)] {
            let graph = random(&recipe(architecture, 8, 8, se), 2).unwrap();
            let (measured, simulated) = errors(&model(graph, &insecure(precise)), 4);
            let ratio = measured / simulated;
            let name = architecture.name();
            println!("{name} se {se} precise {precise}: {measured:.2e} measured, {simulated:.2e} simulated");
            assert!((0.25..4.0).contains(&ratio), "{name} {se} {precise}: {measured:e}, {simulated:e}");
        }
    }
}

/// Found with a trained LeNet, whose values are larger than those of random networks: on dense ciphertexts with weights and masks in one
/// prime its logits were off by 0.2. The planner gives small networks a prime each.
#[test]
fn small_networks_are_precise() {
    let shape = Shape::new(8, 16, 16);
    let architecture = Architecture::LeNet;
    let recipe =
        Recipe { architecture, input: shape, labels: 14, se: false, post_add_activation: false, shrink: 1 };
    let graph = random(&recipe, 1).unwrap();
    let mut rng = ChaCha20Rng::seed_from_u64(4);
    let latent: Vec<f64> = random_input(shape, 2).iter().map(|v| 6.0 * v).collect();
    let want = graph.run(&latent).unwrap();
    let mut error = |precise| {
        let model = model(graph.clone(), &PlanOptions { precise, ..PlanOptions::default() });
        let circuit = Circuit::new(&model).unwrap();
        let got = simulate(&circuit, &[&latent], &mut rng).unwrap().remove(0).logits;
        let error = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        (model.plan.packing.is_precise(), error)
    };
    let ((chosen, planned), (_, shared)) = (error(None), error(Some(false)));
    println!("largest difference of a logit: {planned:.1e}, {shared:.1e} in one prime");
    assert!(chosen && planned < 1e-3 && shared > 20.0 * planned, "{planned:e} {shared:e}");
}

/// A station that has the public key alone can encrypt for the client.
#[test]
fn both_keys_encrypt() {
    let graph = random(&recipe(Architecture::LeNet, 8, 8, false), 2).unwrap();
    let model = model(graph, &insecure(true));
    let mut rng = ChaCha20Rng::seed_from_u64(3);
    let circuit = Circuit::new(&model).unwrap();
    let keys = KeyBundle::generate(&circuit.spec, &mut rng).unwrap();
    let server = Server::new(&model, keys.server).unwrap();
    let latent = random_input(model.graph.input_shape(), 9);
    let want = model.graph.run(&latent).unwrap();
    let error = |encrypted: he_runtime::EncryptedTensor| {
        let (result, _) = server.run(&encrypted, &mut |_| {}, &AtomicBool::new(false)).unwrap();
        let got = decrypt(&circuit.spec, &keys.client, &result).unwrap();
        want.iter().zip(&got).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
    };
    let public = error(encrypt(&circuit.spec, &keys.public, &latent, &mut rng).unwrap());
    let secret = error(encrypt(&circuit.spec, &keys.client, &latent, &mut rng).unwrap());
    assert!(public < 2e-2 && secret < 2e-2, "public {public}, secret {secret}");
}

/// Where values between layers are wide, the rounding of weights and masks vanishes, on ciphertexts too.
#[test]
fn wide_stages_take_the_rounding_away() {
    let options = PlanOptions { log_ring_degree: Some(13), ..insecure(false) };
    let error = |wide_stages| {
        let graph = random(&recipe(Architecture::ResNet(14), 8, 2, false), 2).unwrap();
        let model = model(graph, &PlanOptions { wide_stages, ..options });
        let Packing::RowCopies(copies) = model.plan.packing else { panic!("{:?}", model.plan.packing) };
        assert_eq!(copies.wide_stages, wide_stages);
        let (measured, simulated) = errors(&model, 3);
        assert!(measured < 1.5 * simulated && simulated < 1.5 * measured, "{measured} {simulated}");
        measured
    };
    let (plain, wide) = (error(0), error(3));
    assert!(wide < 0.3 * plain, "{wide} of {plain}");
}

/// Weights and masks that share a prime are rounded coarsely. The simulation rounds them as the server does, so it finds the very same
/// errors, and offsets from other films take away their mean.
#[test]
fn rounding_is_foreseen_and_corrected_on_average() {
    let graph = random(&recipe(Architecture::ResNet(8), 16, 8, false), 2).unwrap();
    // Degree and scale at which rounding plaintexts, and not rescaling, is most of the error.
    let options = PlanOptions { log_ring_degree: Some(14), ..insecure(false) };
    let mut model = model(graph, &options);
    model.plan.scale_bits = 30;
    let shape = model.graph.input_shape();
    // Like films, these have something in common: they are positive.
    let film = |seed| -> Vec<f64> { random_input(shape, seed).iter().map(|v| v.abs()).collect() };
    let errors = |model: &HeModel, rng: &mut ChaCha20Rng| -> Vec<(f64, f64)> {
        let circuit = Circuit::new(model).unwrap();
        let keys = KeyBundle::generate(&circuit.spec, rng).unwrap();
        let server = Server::new(model, keys.server).unwrap();
        let mut errors = vec![];
        for seed in 100..106 {
            let latent = film(seed);
            let want = model.graph.run(&latent).unwrap();
            let encrypted = encrypt(&circuit.spec, &keys.client, &latent, rng).unwrap();
            let (result, _) = server.run(&encrypted, &mut |_| {}, &AtomicBool::new(false)).unwrap();
            let got = decrypt(&circuit.spec, &keys.client, &result).unwrap();
            let noisy = simulate(&circuit, &[&latent], rng).unwrap().remove(0).logits;
            errors.extend((0..want.len()).map(|i| (got[i] - want[i], noisy[i] - want[i])));
        }
        errors
    };
    let mean_square = |e: &mut dyn Iterator<Item = f64>| {
        let (sum, count) = e.fold((0.0, 0), |(s, n), v| (s + v * v, n + 1));
        sum / f64::from(count)
    };
    let mut rng = ChaCha20Rng::seed_from_u64(8);
    let before = errors(&model, &mut rng);
    let measured = mean_square(&mut before.iter().map(|e| e.0));
    let unforeseen = mean_square(&mut before.iter().map(|e| e.0 - e.1));
    assert!(unforeseen < 0.1 * measured, "{unforeseen} of {measured}");

    let films: Vec<Vec<f64>> = (0..8).map(film).collect();
    model.offsets = he_runtime::rounding::offsets(&model, &films).unwrap();
    assert!(model.offsets.len() > 5, "{} layers", model.offsets.len());
    let corrected = mean_square(&mut errors(&model, &mut rng).iter().map(|e| e.0));
    assert!(corrected < 0.5 * measured, "{corrected} of {measured}");
}

/// Found with a trained LeNet whose ReLU was a Chebyshev interpolation of degree 8: its powers reached millions that cancelled, and the
/// logits were off by 3.5.
#[test]
fn powers_of_large_values_do_not_swamp_their_sum() {
    // Of max(x, 0) on [-6, 6].
    let relu = [0.212251, 0.5, 0.235769, 0.0, -0.0130975, 0.0, 0.000407469, 0.0, -4.61977e-06];
    let shape = Shape::new(2, 8, 8);
    let mut g = GraphLiteral::new(shape);
    let conv = Conv2d {
        out_channels: 2,
        kernel: [3, 3],
        stride: 1,
        padding: 1,
        groups: 1,
        weight: (0..36).map(|i| f64::from(i % 7 - 3) / 3.0).collect(),
        bias: Bias::Channel(vec![0.3, -0.2]),
    };
    let x = g.push("conv", Op::Conv2d(conv), &[NodeId(0)]);
    let x = g.push("act", Op::Polynomial(Polynomial::shared(&relu)), &[x]);
    let x = g.push("mean", Op::GlobalAvgPool, &[x]);
    let head = Linear { outputs: 2, weight: vec![1.0, -0.5, 0.4, 0.8], bias: vec![0.0, 0.1] };
    let x = g.push("fc", Op::Linear(head), &[x]);
    let graph = Graph::new(g.finish(x)).unwrap();
    let latent: Vec<f64> = random_input(shape, 2).iter().map(|v| 1.5 * v).collect();
    let largest = graph.run_all(&latent).unwrap()[1].iter().fold(0.0f64, |m, v| m.max(v.abs()));
    assert!((5.0..6.5).contains(&largest), "{largest}");
    for precise in [false, true] {
        let model = model(graph.clone(), &insecure(precise));
        let circuit = Circuit::new(&model).unwrap();
        let mut rng = ChaCha20Rng::seed_from_u64(4);
        let layers = compare_layers(&model, &circuit, &[&latent], &mut rng).unwrap();
        let act = layers.iter().find(|l| l.name == "act").unwrap();
        println!("precise {precise}: {:.1e} of {:.2}", act.error, act.magnitude);
        assert!(act.error < if precise { 1e-3 } else { 0.1 }, "{precise}: {:e}", act.error);
    }
}
