//! Every operation gives the same bits with AVX-512, with AVX2, without either, and on any number of threads.
#![cfg(feature = "secret-key")]
#![allow(clippy::unwrap_used)]

use std::process::Command;

use ckks::{
    Complex64, Diagonal, Encoder, Encryptor, EvaluationKeyRequest, Evaluator, KeyGenerator, LinearTerm,
    LinearTransform, ParametersLiteral, Polynomial, SecretKey, Security, Wire,
};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

const CHILD: &str = "VEILRAY_TEST_PRINTS_DIGEST";

/// The digest of the results of every operation, from fixed seeds.
fn digest() -> String {
    // Large enough for transforms of their own on AVX2.
    let parameters = ParametersLiteral::insecure_toy(14, 7, 4).build().unwrap();
    let mut rng = ChaCha20Rng::seed_from_u64(3);
    let secret = SecretKey::generate(&parameters, &mut rng);
    let generator = KeyGenerator::new(&parameters, &secret).unwrap();
    let request = EvaluationKeyRequest {
        relinearization: vec![7],
        rotations: [1, 2, 3, 4, 8, -5].map(|k| (k, 7)).to_vec(),
        conjugations: vec![(0, 7)],
    };
    let keys = generator.evaluation_keys(&request, &mut rng).unwrap();
    let encoder = Encoder::new(&parameters);
    let evaluator = Evaluator::new(&parameters);
    let encryptor = Encryptor::new(&parameters, generator.public_key(&mut rng)).unwrap();
    let scale = 2f64.powi(30);
    let values: Vec<f64> = (0..parameters.slots()).map(|i| (i as f64 * 0.37).sin()).collect();
    let plain = encoder.encode_real(&values, scale, 7).unwrap();
    let a = encryptor.encrypt(&plain, &mut rng).unwrap();
    let product = evaluator.mul(&a, &evaluator.add_scalar(&a, 0.5).unwrap()).unwrap();
    let mut results = evaluator.rotate_hoisted(&a, &[1, 2, -5], &keys).unwrap();
    results.push(evaluator.conjugate(&a, &keys).unwrap());
    results.push(evaluator.relinearize_and_rescale(&product, 1, &keys).unwrap());
    results.push(evaluator.rescale(&evaluator.mul_plain(&a, &plain).unwrap()).unwrap());
    results.push(evaluator.rotate_and_sum(&a, 1, 4, &keys).unwrap());
    let short = |period: usize, seed: usize| {
        let values: Vec<f64> = (0..period).map(|i| ((i + seed) as f64).cos()).collect();
        encoder.encode_periodic_real(&values, 2f64.powi(20)).unwrap()
    };
    let wide = encoder.encode_periodic_real(&[0.5, -1.0, 0.25, 2.0], 2f64.powi(40)).unwrap();
    results.push(evaluator.mul_periodic(&a, &wide).unwrap());
    let term = |giant: i64, baby: i64, plaintext: Diagonal| LinearTerm { giant, baby, plaintext };
    let complex: Vec<Complex64> = values.iter().map(|&x| Complex64::new(x, 1.0 - x)).collect();
    let dense = encoder.encode_extended(&complex, 2f64.powi(20), 7, 4).unwrap();
    let map = vec![
        term(0, 0, short(4, 1).into()),
        term(0, 3, short(64, 2).into()),
        term(4, 1, short(512, 3).into()),
        term(8, 2, short(parameters.slots() / 2, 4).into()),
        term(8, 0, dense.into()),
    ];
    let map = LinearTransform::new(map).unwrap();
    results.push(evaluator.linear_transform_and_rescale(&a, &map, 1, &keys).unwrap());
    let series = Polynomial::approximate(f64::tanh, (-1.0, 1.0), 11).unwrap();
    results.push(evaluator.evaluate_polynomial(&a, &series, scale, &keys).unwrap());
    let mut hasher = blake3::Hasher::new();
    hasher.update(&bootstrapped());
    hasher.update(&keys.to_bytes(&parameters).unwrap());
    for result in &results {
        hasher.update(&result.to_bytes(&parameters).unwrap());
    }
    hasher.finalize().to_hex()[..32].to_owned()
}

/// The bytes of the result of a bootstrap on a small ring.
fn bootstrapped() -> Vec<u8> {
    let mut literal = ParametersLiteral::bootstrapping();
    literal.log_ring_degree = 11;
    literal.security = Security::InsecureForTests;
    let parameters = literal.build().unwrap();
    let mut rng = ChaCha20Rng::seed_from_u64(4);
    let secret = SecretKey::generate(&parameters, &mut rng);
    let generator = KeyGenerator::new(&parameters, &secret).unwrap();
    let keys = generator.bootstrap_keys(&mut rng).unwrap();
    let (input, _) = parameters.bootstrap_levels().unwrap();
    let plain = Encoder::new(&parameters).encode_real(&[1.0, -2.0, 7.5], 2f64.powi(35), input).unwrap();
    let encryptor = Encryptor::new(&parameters, generator.public_key(&mut rng)).unwrap();
    let a = encryptor.encrypt(&plain, &mut rng).unwrap();
    let b = Evaluator::new(&parameters).bootstrap_complex(&a, &keys).unwrap();
    b.to_bytes(&parameters).unwrap()
}

/// Instruction set and digest of another process.
fn digest_elsewhere(settings: &[(&str, &str)]) -> (String, String) {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["all_give_the_same_bits", "--exact", "--nocapture"]).env(CHILD, "1");
    let output = child.envs(settings.iter().copied()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find_map(|line| Some(line.split_once("digest ")?.1.trim())).unwrap();
    let (set, digest) = line.split_once(' ').unwrap();
    (set.to_owned(), digest.to_owned())
}

#[test]
fn all_give_the_same_bits() {
    if std::env::var_os(CHILD).is_some() {
        println!("digest {} {}", ckks::instruction_set(), digest());
        return;
    }
    let here = digest();
    for settings in [
        [("VEILRAY_SIMD", "portable"), ("RAYON_NUM_THREADS", "1")],
        [("VEILRAY_SIMD", "portable"), ("RAYON_NUM_THREADS", "3")],
        [("VEILRAY_SIMD", "avx2"), ("RAYON_NUM_THREADS", "2")],
        [("VEILRAY_SIMD", "best"), ("RAYON_NUM_THREADS", "1")],
        [("VEILRAY_SIMD", "best"), ("RAYON_NUM_THREADS", "5")],
    ] {
        let (set, there) = digest_elsewhere(&settings);
        match settings[0].1 {
            "portable" => assert_eq!(set, "portable"),
            "avx2" => assert_ne!(set, "AVX-512"),
            // Unless the whole run has been told to use less.
            _ if std::env::var_os("VEILRAY_SIMD").is_none() => assert_eq!(set, ckks::instruction_set()),
            _ => {}
        }
        assert_eq!(there, here, "{settings:?}");
    }
}
