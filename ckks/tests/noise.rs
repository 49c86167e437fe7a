//! Measured noise against the formulas, from both sides: too little noise is as wrong as too much.
#![cfg(feature = "secret-key")]
#![allow(clippy::unwrap_used)]

use ckks::{
    Ciphertext, Complex64, Decryptor, Encoder, Encryptor, Estimate, EvaluationKeyRequest, EvaluationKeys,
    Evaluator, Flooding, KeyGenerator, NoiseModel, Parameters, ParametersLiteral, SecretEncryptor, SecretKey,
};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

struct Bench {
    parameters: Parameters,
    model: NoiseModel,
    encoder: Encoder,
    public: Encryptor,
    secret: SecretEncryptor,
    decryptor: Decryptor,
    evaluator: Evaluator,
    keys: EvaluationKeys,
    rng: ChaCha20Rng,
}

/// Slots of magnitude one.
fn wave(n: usize, speed: f64) -> Vec<Complex64> {
    (0..n).map(|i| Complex64::from_polar(1.0, (i * i) as f64 * speed)).collect()
}

fn deviation(a: &[Complex64], b: &[Complex64]) -> f64 {
    (a.iter().zip(b).map(|(a, b)| (a - b).norm_sqr()).sum::<f64>() / a.len() as f64).sqrt()
}

fn two_sided(what: &str, measured: f64, predicted: f64) {
    let ratio = measured / predicted;
    assert!((0.8..1.25).contains(&ratio), "{what}: measured {measured:e}, predicted {predicted:e}");
}

impl Bench {
    fn new(levels: usize, special: usize) -> Self {
        let parameters = ParametersLiteral::insecure_toy(11, levels, special).build().unwrap();
        let mut rng = ChaCha20Rng::seed_from_u64(23);
        let secret = SecretKey::generate(&parameters, &mut rng);
        let generator = KeyGenerator::new(&parameters, &secret).unwrap();
        let request = EvaluationKeyRequest {
            relinearization: vec![levels],
            rotations: vec![(3, levels)],
            conjugations: vec![],
        };
        Self {
            model: NoiseModel::new(&parameters),
            encoder: Encoder::new(&parameters),
            public: Encryptor::new(&parameters, generator.public_key(&mut rng)).unwrap(),
            secret: SecretEncryptor::new(&parameters, &secret).unwrap(),
            decryptor: Decryptor::new(&parameters, &secret).unwrap(),
            evaluator: Evaluator::new(&parameters),
            keys: generator.evaluation_keys(&request, &mut rng).unwrap(),
            parameters,
            rng,
        }
    }

    fn slots(&self, a: &Ciphertext) -> Vec<Complex64> {
        self.encoder.decode(&self.decryptor.decrypt(a).unwrap())
    }

    fn encrypt(&mut self, x: &[Complex64], scale: f64, level: usize) -> (Ciphertext, Estimate) {
        let plaintext = self.encoder.encode(x, scale, level).unwrap();
        let a = self.public.encrypt(&plaintext, &mut self.rng).unwrap();
        (a, self.model.fresh_public(level, scale, 1.0))
    }
}

#[test]
fn fresh_noise() {
    let mut bench = Bench::new(2, 2);
    let x = wave(bench.parameters.slots(), 0.1);
    for log_scale in [30, 35, 40] {
        let scale = f64::from(log_scale).exp2();
        let (a, estimate) = bench.encrypt(&x, scale, 2);
        two_sided("public", deviation(&bench.slots(&a), &x), bench.model.slot_error(estimate));
        let plaintext = bench.encoder.encode(&x, scale, 2).unwrap();
        let a = bench.secret.encrypt(&plaintext, &mut bench.rng).unwrap();
        let estimate = bench.model.fresh_secret(2, scale, 1.0);
        two_sided("secret", deviation(&bench.slots(&a), &x), bench.model.slot_error(estimate));
        let predicted = -deviation(&bench.slots(&a), &x).log2();
        assert!((bench.model.predicted_precision(estimate) - predicted).abs() < 1.0);
    }
}

#[test]
fn key_switch_noise() {
    for (levels, special) in [(5, 2), (5, 4), (5, 7)] {
        let mut bench = Bench::new(levels, special);
        let x = wave(bench.parameters.slots(), 0.1);
        // One key: with fewer limbs it works with fewer special primes, and adds as little noise.
        for level in (1..=levels).rev() {
            let (a, estimate) = bench.encrypt(&x, 2f64.powi(30), level);
            let mut before = bench.slots(&a);
            before.rotate_left(3);
            let after = bench.slots(&bench.evaluator.rotate(&a, 3, &bench.keys).unwrap());
            let variance = bench.model.key_switch(level, levels);
            let predicted = bench.model.slot_error(Estimate { variance, ..estimate });
            two_sided("key switch", deviation(&after, &before), predicted);
        }
    }
}

#[test]
fn rescale_noise() {
    let mut bench = Bench::new(3, 2);
    let x = wave(bench.parameters.slots(), 0.1);
    let (a, estimate) = bench.encrypt(&x, 2f64.powi(60), 3);
    let after = bench.slots(&bench.evaluator.rescale(&a).unwrap());
    let estimate = bench.model.rescale(estimate).unwrap();
    two_sided("rescale", deviation(&after, &x), bench.model.slot_error(estimate));
}

#[test]
fn product_noise() {
    let mut bench = Bench::new(4, 3);
    let (x, y) = (wave(bench.parameters.slots(), 0.1), wave(bench.parameters.slots(), 0.37));
    for log_scale in [30, 34, 40] {
        let scale = f64::from(log_scale).exp2();
        let ((a, ea), (b, eb)) = (bench.encrypt(&x, scale, 4), bench.encrypt(&y, scale, 4));
        let product: Vec<_> = x.iter().zip(&y).map(|(x, y)| x * y).collect();
        let check = |what: &str, c: &Ciphertext, expected: &[Complex64], estimate: Estimate| {
            two_sided(what, deviation(&bench.slots(c), expected), bench.model.slot_error(estimate));
            let rescaled = bench.evaluator.rescale(c).unwrap();
            let estimate = bench.model.rescale(estimate).unwrap();
            two_sided(what, deviation(&bench.slots(&rescaled), expected), bench.model.slot_error(estimate));
        };
        let c = bench.evaluator.relinearize(&bench.evaluator.mul(&a, &b).unwrap(), &bench.keys).unwrap();
        check("product", &c, &product, bench.model.switched(bench.model.mul(ea, eb), 4));
        let c = bench.evaluator.relinearize(&bench.evaluator.square(&a).unwrap(), &bench.keys).unwrap();
        let square: Vec<_> = x.iter().map(|x| x * x).collect();
        check("square", &c, &square, bench.model.switched(bench.model.square(ea), 4));
        // A plaintext of few bits, so that its own rounding counts.
        let plain = bench.encoder.encode(&y, 2f64.powi(12), 4).unwrap();
        let c = bench.evaluator.mul_plain(&a, &plain).unwrap();
        check("plain", &c, &product, bench.model.mul_plain(ea, 1.0, 2f64.powi(12), y.len()));
        let plain = bench.encoder.encode_periodic(&y[..16], 2f64.powi(6)).unwrap();
        let c = bench.evaluator.mul_periodic(&a, &plain).unwrap();
        let repeated: Vec<_> = x.iter().zip(y[..16].iter().cycle()).map(|(x, y)| x * y).collect();
        // 32 coefficients are too few for a tight statistic: the rounding of this plaintext is known, so only its order is checked.
        let estimate = bench.model.mul_plain(ea, 1.0, 2f64.powi(6), 16);
        let ratio = deviation(&bench.slots(&c), &repeated) / bench.model.slot_error(estimate);
        assert!((0.4..2.5).contains(&ratio), "periodic: {ratio}");
    }
}

#[test]
fn flooding_adds_what_it_says() {
    let mut bench = Bench::new(3, 2);
    let x = wave(bench.parameters.slots(), 0.1);
    let (a, estimate) = bench.encrypt(&x, 2f64.powi(60), 3);
    let norm = (4.0 * bench.parameters.ring_degree() as f64 * estimate.variance).sqrt();
    let flooding = Flooding::new(norm, 100, 24).unwrap();
    assert_eq!(flooding.deviation(), norm * 10.0 * 2f64.powi(23));
    let flooded = bench.decryptor.decrypt_flooded(&a, flooding, &mut bench.rng).unwrap();
    let measured = deviation(&bench.encoder.decode(&flooded), &x);
    two_sided("flooding", measured, flooding.slot_error(bench.parameters.slots(), a.scale()));
    assert!(Flooding::new(norm, 100, 60).is_err());
    assert!(Flooding::new(f64::NAN, 1, 10).is_err());
    let low = bench.evaluator.drop_level(&a, 2).unwrap();
    let huge = Flooding::new(2f64.powi(55), 1, 1).unwrap();
    assert!(bench.decryptor.decrypt_flooded(&low, huge, &mut bench.rng).is_ok());
}
