//! Rings of every degree, chains whose primes differ in size, and the bounds that they must keep.
#![cfg(feature = "secret-key")]
#![allow(clippy::unwrap_used)]

use ckks::{
    Complex64, Decryptor, Encoder, Encryptor, Error, EvaluationKeyRequest, Evaluator, KeyGenerator,
    NoiseModel, ParametersLiteral, SecretDistribution, SecretKey, Security,
};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

fn literal(log_ring_degree: u32, chain: &[u32], special: &[u32], security: Security) -> ParametersLiteral {
    ParametersLiteral {
        bootstrap: None,
        log_ring_degree,
        modulus_bits: chain.to_vec(),
        special_bits: special.to_vec(),
        secret: SecretDistribution::UniformTernary,
        security,
    }
}

/// The bounds of the guidelines, typed again: log2(N), classical, quantum.
const BOUNDS: [(u32, u32, u32); 6] =
    [(12, 106, 80), (13, 214, 161), (14, 430, 322), (15, 868, 644), (16, 1747, 1289), (17, 3523, 2578)];

#[test]
fn every_degree_has_secure_sets_and_no_more_than_the_bound() {
    for (log_n, classical, quantum) in BOUNDS {
        for (security, bound) in [(Security::Classical128, classical), (Security::Quantum128, quantum)] {
            // A chain whose primes differ in size, and special primes of their own size, up to half the bound.
            // Small primes are rare in large rings: they are 1 modulo 2N.
            let size = |i: u32| if log_n < 15 { 24 } else { 26 } + i % 3 * 2;
            let count = (bound / 2 / 26).min(24);
            let chain: Vec<u32> = (0..count).map(size).collect();
            let digit = count.div_ceil(3) as usize;
            let parameters = literal(log_n, &chain, &vec![27; digit + 1], security).build().unwrap();
            assert_eq!(parameters.ring_degree(), 1 << log_n);
            for (i, &bits) in chain.iter().enumerate() {
                let q = parameters.modulus(i);
                assert!(
                    (f64::from(q).log2() - f64::from(bits)).abs() < 0.5,
                    "2^{log_n}: {q} for {bits} bits"
                );
                assert_eq!(q % (2 << log_n), 1);
            }
            // One prime chain longer than the bound is refused, with the bound and the excess.
            let too_many = vec![30; bound as usize / 30 + 1];
            if too_many.len() <= 127 {
                let refused = literal(log_n, &too_many, &[30], security).build().unwrap_err();
                let Error::Insecure { given, bound: named, excess, .. } = refused else {
                    panic!("2^{log_n}: {refused}")
                };
                assert_eq!(named, bound);
                assert!((given - f64::from(bound) - excess).abs() < 1e-9 && excess > 0.0);
            }
        }
    }
}

/// Levels of 22 to 30 bits: products, rescales and rotations follow the primes' own sizes, in scale and in noise.
#[test]
fn chains_of_different_sizes() {
    let toy = ParametersLiteral::insecure_toy(11, 1, 1);
    let chain = [30, 22, 28, 25, 30, 24];
    let parameters =
        ParametersLiteral { modulus_bits: chain.to_vec(), special_bits: vec![30, 29, 30], ..toy };
    let parameters = parameters.build().unwrap();
    let mut rng = ChaCha20Rng::seed_from_u64(41);
    let secret = SecretKey::generate(&parameters, &mut rng);
    let generator = KeyGenerator::new(&parameters, &secret).unwrap();
    let top = parameters.max_level();
    let request =
        EvaluationKeyRequest { relinearization: vec![top], rotations: vec![(5, top)], conjugations: vec![] };
    let keys = generator.evaluation_keys(&request, &mut rng).unwrap();
    let encryptor = Encryptor::new(&parameters, generator.public_key(&mut rng)).unwrap();
    let decryptor = Decryptor::new(&parameters, &secret).unwrap();
    let (encoder, evaluator) = (Encoder::new(&parameters), Evaluator::new(&parameters));
    let model = NoiseModel::new(&parameters);
    let mut x: Vec<Complex64> =
        (0..parameters.slots()).map(|i| Complex64::from_polar(1.0, (i * i) as f64 * 0.1)).collect();
    let mut scale = 2f64.powi(30);
    let mut a = encryptor.encrypt(&encoder.encode(&x, scale, top).unwrap(), &mut rng).unwrap();
    let mut estimate = model.fresh_public(top, scale, 1.0);
    for level in (1..top).rev() {
        // The factor's scale brings the product back to 2^30 whatever the prime is.
        let q = f64::from(parameters.modulus(level + 1));
        let wanted = 2f64.powi(30) * q / scale;
        let plain = encoder.encode(&x, wanted, level + 1).unwrap();
        estimate = model.rescale(model.mul_plain(estimate, 1.0, wanted, x.len())).unwrap();
        a = evaluator.rescale(&evaluator.mul_plain(&a, &plain).unwrap()).unwrap();
        a = evaluator.rotate(&a, 5, &keys).unwrap();
        estimate = model.switched(estimate, top);
        x = x.iter().map(|v| v * v).collect();
        x.rotate_left(5);
        scale = a.scale();
        assert_eq!(a.level(), level);
        assert!((scale / 2f64.powi(30) - 1.0).abs() < 1e-12 && (estimate.scale / scale - 1.0).abs() < 1e-12);
        let got = encoder.decode(&decryptor.decrypt(&a).unwrap());
        let sum: f64 = got.iter().zip(&x).map(|(a, b)| (a - b).norm_sqr()).sum();
        let ratio = (sum / x.len() as f64).sqrt() / model.slot_error(estimate);
        assert!((0.5..2.0).contains(&ratio), "level {level}: {ratio}");
    }
}
