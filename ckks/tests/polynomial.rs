//! Polynomials on ciphertexts against the recurrences of Horner and Clenshaw: value, level, scale, cost and noise.
#![cfg(feature = "secret-key")]
#![allow(clippy::unwrap_used)]

use ckks::{
    Basis, Ciphertext, Decryptor, Encoder, Encryptor, Error, EvaluationKeyRequest, EvaluationKeys, Evaluator,
    KeyGenerator, NoiseModel, Parameters, ParametersLiteral, Polynomial, SecretKey,
};
use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

const SCALE: f64 = (1u64 << 30) as f64;

struct Bench {
    parameters: Parameters,
    encoder: Encoder,
    encryptor: Encryptor,
    decryptor: Decryptor,
    evaluator: Evaluator,
    keys: EvaluationKeys,
    rng: ChaCha20Rng,
}

impl Bench {
    fn new(levels: usize) -> Self {
        let parameters = ParametersLiteral::insecure_toy(10, levels, 3).build().unwrap();
        let mut rng = ChaCha20Rng::seed_from_u64(31);
        let secret = SecretKey::generate(&parameters, &mut rng);
        let generator = KeyGenerator::new(&parameters, &secret).unwrap();
        let request =
            EvaluationKeyRequest { relinearization: vec![levels], ..EvaluationKeyRequest::default() };
        Self {
            encoder: Encoder::new(&parameters),
            encryptor: Encryptor::new(&parameters, generator.public_key(&mut rng)).unwrap(),
            decryptor: Decryptor::new(&parameters, &secret).unwrap(),
            evaluator: Evaluator::new(&parameters),
            keys: generator.evaluation_keys(&request, &mut rng).unwrap(),
            parameters,
            rng,
        }
    }

    /// Slots that sweep an interval, ends included.
    fn sweep(&self, (a, b): (f64, f64)) -> Vec<f64> {
        let last = (self.parameters.slots() - 1) as f64;
        (0..self.parameters.slots()).map(|i| a + (b - a) * i as f64 / last).collect()
    }

    fn encrypt(&mut self, x: &[f64], scale: f64, level: usize) -> Ciphertext {
        let plaintext = self.encoder.encode_real(x, scale, level).unwrap();
        self.encryptor.encrypt(&plaintext, &mut self.rng).unwrap()
    }

    /// The root mean square and the largest error of the value over an interval.
    fn errors(
        &mut self,
        p: &Polynomial,
        interval: (f64, f64),
        scales: (f64, f64),
        level: usize,
    ) -> (f64, f64) {
        let x = self.sweep(interval);
        let a = self.encrypt(&x, scales.0, level);
        let value = self.evaluator.evaluate_polynomial(&a, p, scales.1, &self.keys).unwrap();
        let levels = self.evaluator.polynomial_levels(p, level, scales.0).unwrap();
        assert_eq!(value.level(), level - levels);
        assert!((value.scale() / scales.1 - 1.0).abs() < 1e-12, "the scale asked for");
        let got = self.encoder.decode(&self.decryptor.decrypt(&value).unwrap());
        let errors: Vec<f64> = x.iter().zip(&got).map(|(&x, y)| (y.re - p.evaluate(x)).abs()).collect();
        let mean = (errors.iter().map(|e| e * e).sum::<f64>() / errors.len() as f64).sqrt();
        (mean, errors.into_iter().fold(0.0, f64::max))
    }
}

/// Coefficients of alternating sizes whose absolute values add up to one.
fn coefficients(degree: usize) -> Vec<f64> {
    let raw: Vec<f64> = (0..=degree).map(|k| ((k * k * 7 + 3) as f64).sin() + 0.1).collect();
    let sum: f64 = raw.iter().map(|c| c.abs()).sum();
    raw.into_iter().map(|c| c / sum).collect()
}

#[test]
fn every_degree_at_the_least_depth() {
    let mut bench = Bench::new(8);
    for degree in (0..=31).chain([32, 33, 59, 63, 64, 100, 127]) {
        let least = (f64::from(degree as u32) + 1.0).log2().ceil().max(1.0) as usize;
        for basis in [Basis::Monomial, Basis::Chebyshev] {
            let p = match basis {
                Basis::Monomial => Polynomial::monomial(coefficients(degree)),
                Basis::Chebyshev => Polynomial::chebyshev(coefficients(degree), (-1.0, 1.0)),
            }
            .unwrap();
            assert_eq!(p.depth(), least);
            assert_eq!(bench.evaluator.polynomial_levels(&p, 8, SCALE).unwrap(), least);
            let (_, largest) = bench.errors(&p, (-1.0, 1.0), (SCALE, SCALE), 8);
            // Fresh noise of 3e-6 a slot, times the slope of T_k, k^2 at the ends, and weights that sum to one.
            let allowed = 2e-5
                * (1.0
                    + if basis == Basis::Chebyshev { (degree * degree) as f64 / 4.0 } else { degree as f64 });
            assert!(largest < allowed, "{basis:?} degree {degree}: {largest:e} above {allowed:e}");
        }
    }
}

#[test]
fn intervals_scales_and_levels() {
    let mut bench = Bench::new(7);
    let p = Polynomial::approximate(f64::tanh, (-5.0, 3.0), 15).unwrap();
    let cases = [
        (SCALE, SCALE, 7, 5),
        (SCALE / 4.0, SCALE / 64.0, 5, 4),
        (SCALE / 64.0, SCALE, 5, 4),
        (SCALE * 8.0, SCALE * 4.0, 7, 5),
    ];
    for (x, value, level, levels) in cases {
        // The map of the interval is free unless the scale is too large already.
        assert_eq!(bench.evaluator.polynomial_levels(&p, level, x).unwrap(), levels);
        let (_, largest) = bench.errors(&p, (-5.0, 3.0), (x, value), level);
        assert!(largest < 3e-3, "scales {x:e} and {value:e} at level {level}: {largest:e}");
    }
}

#[test]
fn products_are_few() {
    let bench = Bench::new(8);
    let cost = |p: &Polynomial| bench.evaluator.polynomial_cost(p, 8).unwrap();
    for degree in [3, 7, 15, 31, 63, 127] {
        let p = Polynomial::chebyshev(coefficients(degree), (-1.0, 1.0)).unwrap();
        let (relinearizations, products) = cost(&p);
        // Paterson and Stockmeyer: about sqrt(2d) + log2 d products; the least depth adds the splits of the leading quotients.
        let bound = (2.0 * degree as f64).sqrt() + 2.0 * (degree as f64).log2();
        assert!(products as f64 <= bound, "degree {degree}: {products} products above {bound:.1}");
        assert!(relinearizations <= products);
    }
    // An odd polynomial needs no even elements but the powers of two.
    for degree in [63, 127] {
        let mut c = coefficients(degree);
        let full = cost(&Polynomial::chebyshev(c.clone(), (-1.0, 1.0)).unwrap());
        c.iter_mut().step_by(2).for_each(|c| *c = 0.0);
        let odd = cost(&Polynomial::chebyshev(c, (-1.0, 1.0)).unwrap());
        assert!(odd < full, "degree {degree}: {odd:?} against {full:?}");
    }
    // One product each.
    assert_eq!(cost(&Polynomial::monomial(vec![0.25, 0.5, 0.12]).unwrap()), (1, 1));
    assert_eq!(cost(&Polynomial::monomial(vec![0.5, 0.2, 0.0, -0.01]).unwrap()), (2, 2));
    assert_eq!(cost(&Polynomial::monomial(vec![0.5, 2.0]).unwrap()), (0, 0));
}

#[test]
fn noise_follows_the_estimate() {
    let mut bench = Bench::new(7);
    let model = NoiseModel::new(&bench.parameters);
    let relu = |x: f64| x.max(0.0);
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let cases = [
        (Polynomial::approximate(sigmoid, (-8.0, 8.0), 15).unwrap(), (-8.0, 8.0)),
        (Polynomial::approximate(relu, (-4.0, 4.0), 31).unwrap(), (-4.0, 4.0)),
        (Polynomial::monomial(vec![0.25, 0.5, 0.12]).unwrap(), (-1.0, 1.0)),
        (Polynomial::monomial(coefficients(7)).unwrap(), (-1.0, 1.0)),
    ];
    for (p, interval) in cases {
        let message = f64::sqrt(interval.0 * interval.0 / 3.0);
        let x = model.fresh_public(7, SCALE, message);
        let estimate = bench.evaluator.estimate_polynomial(x, &p, SCALE, 7).unwrap();
        assert_eq!(estimate.level, 7 - bench.evaluator.polynomial_levels(&p, 7, SCALE).unwrap());
        // The estimate is of a complex slot; the imaginary half of it is not looked at.
        let predicted = model.slot_error(estimate) / 2f64.sqrt();
        let (measured, _) = bench.errors(&p, interval, (SCALE, SCALE), 7);
        let ratio = measured / predicted;
        assert!((0.25..4.0).contains(&ratio), "degree {}: {measured:e} against {predicted:e}", p.degree());
    }
}

#[test]
fn refuses_what_cannot_be() {
    let mut bench = Bench::new(4);
    let p = Polynomial::chebyshev(coefficients(16), (-1.0, 1.0)).unwrap();
    let a = bench.encrypt(&[0.5], SCALE, 4);
    let refused = bench.evaluator.evaluate_polynomial(&a, &p, SCALE, &bench.keys);
    assert_eq!(refused.unwrap_err(), Error::Level { op: "polynomial", required: 5, available: 4 });
    let p = Polynomial::monomial(vec![0.0, 0.0, 1.0]).unwrap();
    let refused = bench.evaluator.evaluate_polynomial(&a, &p, SCALE, &EvaluationKeys::new());
    assert!(matches!(refused, Err(Error::MissingKey { .. })));
    for scale in [f64::NAN, 0.0, -1.0, 2f64.powi(200)] {
        assert!(bench.evaluator.evaluate_polynomial(&a, &p, scale, &bench.keys).is_err(), "scale {scale}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_polynomial(
        coefficients in proptest::collection::vec(prop_oneof![Just(0.0), -1.0..1.0f64], 1..40),
        chebyshev: bool,
        middle in -3.0..3.0f64,
        half in 0.1..6.0f64,
    ) {
        let mut bench = Bench::new(8);
        let (p, interval) = if chebyshev {
            let interval = (middle - half, middle + half);
            (Polynomial::chebyshev(coefficients, interval).unwrap(), interval)
        } else {
            (Polynomial::monomial(coefficients).unwrap(), (-1.0, 1.0))
        };
        let (_, largest) = bench.errors(&p, interval, (SCALE, SCALE), 8);
        // The slope of a polynomial of degree d that stays below 40: at most 40 d^2 over half the interval (Markov).
        let slope = 40.0 * (p.degree() * p.degree() + 1) as f64 / half.min(1.0);
        prop_assert!(largest < 2e-5 * slope, "{p:?}: {largest:e}");
    }
}
