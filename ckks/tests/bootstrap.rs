//! Bootstrapping on a small ring: values, levels, precision from both sides, bytes, refusals. `bootstrap_full` has the ring of
//! cryptographic size.
#![cfg(feature = "secret-key")]
#![allow(clippy::unwrap_used)]

use ckks::{
    BootstrapFunction, BootstrapKeys, BootstrapLiteral, Ciphertext, Complex64, Decryptor, Encoder, Encryptor,
    Error, Estimate, EvaluationKeys, Evaluator, KeyGenerator, NoiseModel, Parameters, ParametersLiteral,
    SecretKey, Security, Wire,
};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

/// The preset on a small ring with few primes left.
fn toy() -> ParametersLiteral {
    let preset = ParametersLiteral::bootstrapping();
    let mut modulus_bits = preset.modulus_bits.clone();
    modulus_bits.drain(4..20);
    ParametersLiteral { modulus_bits, special_bits: vec![30; 12], ..toy_ring(preset) }
}

fn toy_ring(preset: ParametersLiteral) -> ParametersLiteral {
    ParametersLiteral { log_ring_degree: 11, security: Security::InsecureForTests, ..preset }
}

struct Bench {
    parameters: Parameters,
    encoder: Encoder,
    encryptor: Encryptor,
    decryptor: Decryptor,
    evaluator: Evaluator,
    keys: BootstrapKeys,
    rng: ChaCha20Rng,
    /// Lowest level from which a ciphertext can be bootstrapped, and level of the result.
    levels: (usize, usize),
}

impl Bench {
    fn new() -> Self {
        Self::of(&toy())
    }

    fn of(literal: &ParametersLiteral) -> Self {
        let parameters = literal.build().unwrap();
        let mut rng = ChaCha20Rng::seed_from_u64(77);
        let secret = SecretKey::generate(&parameters, &mut rng);
        let generator = KeyGenerator::new(&parameters, &secret).unwrap();
        Self {
            encoder: Encoder::new(&parameters),
            encryptor: Encryptor::new(&parameters, generator.public_key(&mut rng)).unwrap(),
            decryptor: Decryptor::new(&parameters, &secret).unwrap(),
            evaluator: Evaluator::new(&parameters),
            keys: generator.bootstrap_keys(&mut rng).unwrap(),
            levels: parameters.bootstrap_levels().unwrap(),
            parameters,
            rng,
        }
    }

    fn encrypt(&mut self, x: &[Complex64]) -> (Ciphertext, Estimate) {
        let (scale, level) = (30f64.exp2(), self.levels.0);
        let plain = self.encoder.encode(x, scale, level).unwrap();
        let mean = (x.iter().map(Complex64::norm_sqr).sum::<f64>() / x.len() as f64).sqrt();
        let estimate = NoiseModel::new(&self.parameters).fresh_public(level, scale, mean);
        (self.encryptor.encrypt(&plain, &mut self.rng).unwrap(), estimate)
    }

    fn slots(&self, a: &Ciphertext) -> Vec<Complex64> {
        self.encoder.decode(&self.decryptor.decrypt(a).unwrap())
    }

    /// Values from -bound to bound.
    fn values(&self, bound: f64) -> Vec<Complex64> {
        let one = |i: usize| Complex64::new(bound * ((i * i) as f64 * 0.37).sin(), 0.0);
        (0..self.parameters.slots()).map(one).collect()
    }
}

fn deviation(a: &[Complex64], b: &[Complex64]) -> f64 {
    (a.iter().zip(b).map(|(a, b)| (a - b).norm_sqr()).sum::<f64>() / a.len() as f64).sqrt()
}

#[test]
fn values_come_back_with_all_levels_and_the_noise_that_is_foreseen() {
    let mut bench = Bench::new();
    let x = bench.values(8.0);
    let (a, estimate) = bench.encrypt(&x);
    let b = bench.evaluator.bootstrap(&a, &bench.keys).unwrap();
    let foreseen = bench.evaluator.estimate_bootstrap(estimate).unwrap();
    assert_eq!((b.level(), foreseen.level), (bench.levels.1, bench.levels.1));
    assert!((b.scale() / foreseen.scale - 1.0).abs() < 1e-9);
    let sine = bench.parameters.bootstrap_function(a.scale()).unwrap();
    let bent: Vec<Complex64> = x.iter().map(|x| Complex64::new(sine(x.re), 0.0)).collect();
    let measured = deviation(&bench.slots(&b), &bent);
    let predicted = NoiseModel::new(&bench.parameters).slot_error(foreseen);
    println!("measured {measured:e}, predicted {predicted:e}, bent {:e}", deviation(&bent, &x));
    assert!((0.8..1.25).contains(&(measured / predicted)), "measured {measured:e}, predicted {predicted:e}");
    // Seventeen bits of the bound, the sine's bend included.
    assert!((8.0 / deviation(&bench.slots(&b), &x)).log2() > 17.0);
}

#[test]
fn complex_values_come_back() {
    let mut bench = Bench::new();
    let x: Vec<Complex64> =
        bench.values(8.0).iter().rev().zip(bench.values(7.0)).map(|(x, y)| x + y * Complex64::I).collect();
    let (a, _) = bench.encrypt(&x);
    let b = bench.evaluator.bootstrap_complex(&a, &bench.keys).unwrap();
    assert!(deviation(&bench.slots(&b), &x) < 1e-4);
}

#[test]
fn nine_in_a_row_add_up() {
    let mut bench = Bench::new();
    let x = bench.values(8.0);
    let (mut a, _) = bench.encrypt(&x);
    let mut errors = Vec::new();
    let mut bent: Vec<Complex64> = x;
    for _ in 0..9 {
        // The sine is taken off, so that what is left is noise.
        let sine = bench.parameters.bootstrap_function(a.scale()).unwrap();
        bent.iter_mut().for_each(|x| x.re = sine(x.re));
        a = bench.evaluator.bootstrap(&a, &bench.keys).unwrap();
        errors.push(deviation(&bench.slots(&a), &bent));
    }
    // Noise adds up as variances do: three times after nine, and the real part of it alone is carried on.
    let growth = errors[8] / errors[0];
    assert!((1.5..3.6).contains(&growth), "{errors:?}");
}

/// A slot outside the bound harms no other one, and gets what the sine makes of it, up to where that wraps around.
#[test]
fn slots_do_not_mix() {
    let mut bench = Bench::new();
    let plain = bench.values(8.0);
    let mut x = plain.clone();
    for (i, x) in x.iter_mut().enumerate() {
        match i % 4 {
            1 => *x = Complex64::new(32.0, 0.0),
            2 => *x = Complex64::new(-512.0, 3.0),
            3 => *x = Complex64::new(x.re, 300.0),
            _ => {}
        }
    }
    let (a, _) = bench.encrypt(&x);
    let sine = bench.parameters.bootstrap_function(a.scale()).unwrap();
    let b = bench.slots(&bench.evaluator.bootstrap(&a, &bench.keys).unwrap());
    for (i, (b, x)) in b.iter().zip(&x).enumerate() {
        // Beyond the interval of the series a slot is still near, because the series is a sine there too.
        let tolerance = if x.re.abs() > 8.0 { 1e-2 } else { 1e-3 };
        assert!((b.re - sine(x.re)).abs() < tolerance, "slot {i}: {b} for {x}");
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let mut bench = Bench::new();
    let x = bench.values(1.0);
    let (a, _) = bench.encrypt(&x);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let b = pool.install(|| bench.evaluator.bootstrap(&a, &bench.keys)).unwrap();
        b.to_bytes(&bench.parameters).unwrap()
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn keys_travel_and_altered_ones_are_refused() {
    let mut bench = Bench::new();
    let (p, keys) = (bench.parameters.clone(), bench.keys.clone());
    let bytes = keys.to_bytes(&p).unwrap();
    assert!(BootstrapKeys::from_bytes(&p, &bytes).unwrap() == keys);
    assert_eq!(Parameters::insecure_from_bytes(&p.to_bytes().unwrap()).unwrap().literal(), p.literal());
    for cut in [0, 3, 38, 39, 70, 71, 1000, bytes.len() / 2, bytes.len() - 1] {
        assert!(BootstrapKeys::from_bytes(&p, &bytes[..cut]).is_err(), "{cut} bytes were accepted");
    }
    for at in (0..bytes.len()).step_by(bytes.len() / 50) {
        let mut altered = bytes.clone();
        altered[at] ^= 16;
        assert!(BootstrapKeys::from_bytes(&p, &altered).is_err(), "byte {at} was altered");
    }
    assert!(matches!(EvaluationKeys::from_bytes(&p, &bytes), Err(Error::Wire { .. })));
    // Of the same chain without a bootstrap, and of a bootstrap with another range.
    let plain = ParametersLiteral { bootstrap: None, ..toy() }.build().unwrap();
    assert!(BootstrapKeys::from_bytes(&plain, &bytes).is_err());
    let other = BootstrapLiteral { range: 21, ..BootstrapLiteral::standard() };
    let other = ParametersLiteral { bootstrap: Some(other), ..toy() }.build().unwrap();
    assert!(matches!(BootstrapKeys::from_bytes(&other, &bytes), Err(Error::Parameters { .. })));
    let x = bench.values(1.0);
    let (a, _) = bench.encrypt(&x);
    let refused = Evaluator::new(&plain).bootstrap(&a, &keys).unwrap_err();
    assert!(refused.to_string().contains("have none"), "{refused}");
}

#[test]
fn ciphertexts_that_cannot_be_bootstrapped_are_refused() {
    let mut bench = Bench::new();
    let x = bench.values(1.0);
    let (a, _) = bench.encrypt(&x);
    let low = bench.evaluator.drop_level(&a, bench.levels.0 - 1).unwrap();
    assert!(matches!(bench.evaluator.bootstrap(&low, &bench.keys), Err(Error::Level { .. })));
    let plain = bench.encoder.encode(&x, 50f64.exp2(), bench.levels.0).unwrap();
    let large = bench.encryptor.encrypt(&plain, &mut bench.rng).unwrap();
    let refused = bench.evaluator.bootstrap(&large, &bench.keys).unwrap_err();
    assert!(refused.to_string().contains("rescale it first"), "{refused}");
}

#[test]
fn literals_that_fail_or_are_not_secure_are_refused() {
    let with =
        |bootstrap: BootstrapLiteral| ParametersLiteral { bootstrap: Some(bootstrap), ..toy() }.build();
    let standard = BootstrapLiteral::standard;
    let says = |bootstrap: BootstrapLiteral, words: &str| {
        let refused = with(bootstrap).unwrap_err().to_string();
        assert!(refused.contains(words), "{refused}");
    };
    says(BootstrapLiteral { range: 16, ..standard() }, "widen it");
    says(BootstrapLiteral { range: 33, ..standard() }, "the range is 33");
    says(BootstrapLiteral { degree: 0, ..standard() }, "the degree");
    says(BootstrapLiteral { degree: 200, ..standard() }, "too few");
    says(BootstrapLiteral { base: 0, ..standard() }, "q_0");
    let secure = |bootstrap: BootstrapLiteral| {
        ParametersLiteral { bootstrap: Some(bootstrap), ..ParametersLiteral::bootstrapping() }.build()
    };
    // A sparser secret, and one whose key has a modulus that nothing is known for.
    let sparser = BootstrapLiteral { sparse_weight: 32, range: 13, ..standard() };
    assert!(matches!(secure(sparser), Err(Error::SparseSecret { weight: 32, .. })));
    let mut preset = ParametersLiteral::bootstrapping();
    preset.modulus_bits[..2].copy_from_slice(&[23, 23]);
    assert!(matches!(preset.build(), Err(Error::SparseSecret { weight: 64, .. })));
}

#[test]
fn functions_are_evaluated_on_the_way() {
    let mut literal = toy();
    // Room for a polynomial of six levels.
    literal.modulus_bits.splice(4..4, vec![30; 12]);
    let mut bench = Bench::of(&literal);
    let x = bench.values(7.9);
    let (a, _) = bench.encrypt(&x);
    let fit = |f: fn(f64) -> f64| BootstrapFunction::fit_with_margin(f, (-8.0, 8.0), 63, 0.1).unwrap();
    let (relu, sigmoid) = (fit(|v| v.max(0.0)), fit(|v| 1.0 / (1.0 + (-v).exp())));
    let functions = [relu, sigmoid];
    let scale = 30f64.exp2();
    let values = bench.evaluator.bootstrap_with(&a, &functions, scale, &bench.keys).unwrap();
    for (value, f) in values.iter().zip(&functions) {
        assert_eq!((value.level(), value.scale()), (bench.levels.1 - 2 * f.depth(), scale));
        let exact: Vec<Complex64> = x.iter().map(|x| Complex64::new(f.evaluate(x.re), 0.0)).collect();
        let noise = deviation(&bench.slots(value), &exact);
        println!("noise {noise:e}, fit {:e}", f.largest_error());
        assert!(noise < 1e-3, "{noise}");
    }
    let other = BootstrapFunction::fit(|v| v, (-4.0, 8.0), 15).unwrap();
    let mixed = [functions[0].clone(), other.clone()];
    let refused = bench.evaluator.bootstrap_with(&a, &mixed, scale, &bench.keys).unwrap_err();
    assert!(refused.to_string().contains("several intervals"), "{refused}");
    // An interval that is not about 0.
    let small: Vec<Complex64> = x.iter().map(|x| x / 2.0 + 2.0).collect();
    let (a, _) = bench.encrypt(&small);
    let value = bench.evaluator.bootstrap_with(&a, &[other], scale, &bench.keys).unwrap();
    assert!(deviation(&bench.slots(&value[0]), &small) < 2e-3);
}
