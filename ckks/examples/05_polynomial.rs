//! 5. Polynomials: a sigmoid as a Chebyshev series of degree 15, and a quadratic activation as one square.
//!
//! Degree d takes ceil(log2(d + 1)) levels: 4 for degree 15. What maps the interval to [-1, 1] is part of the scale, so it costs no level if x
//! comes at a scale that leaves room for it. A quadratic a x^2 + b x + c takes two levels as it stands and one when its inner
//! affine map goes into the layer before: with s = sign(a) and t = sqrt|a| (x + b / 2a) it is s t^2 + c - b^2 / 4a.

use ckks::{
    Decryptor, Encoder, Encryptor, EvaluationKeyRequest, Evaluator, KeyGenerator, NoiseModel,
    ParametersLiteral, Polynomial, Result, SecretDistribution, SecretKey, Security,
};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

fn main() -> Result<()> {
    let parameters = ParametersLiteral {
        log_ring_degree: 14,
        modulus_bits: vec![30; 7],
        special_bits: vec![30; 4],
        secret: SecretDistribution::UniformTernary,
        security: Security::Classical128,
        bootstrap: None,
    }
    .build()?;
    let mut rng = ChaCha20Rng::seed_from_u64(5);
    let secret = SecretKey::generate(&parameters, &mut rng);
    let generator = KeyGenerator::new(&parameters, &secret)?;
    let top = parameters.max_level();
    let request = EvaluationKeyRequest { relinearization: vec![top], ..EvaluationKeyRequest::default() };
    let keys = generator.evaluation_keys(&request, &mut rng)?;
    let encryptor = Encryptor::new(&parameters, generator.public_key(&mut rng))?;
    let (encoder, evaluator) = (Encoder::new(&parameters), Evaluator::new(&parameters));
    let decryptor = Decryptor::new(&parameters, &secret)?;
    let values: Vec<f64> = (0..parameters.slots()).map(|slot| slot as f64 / 512.0 - 8.0).collect();
    let scale = 2f64.powi(30);

    // The interval (-8, 8) multiplies the scale by 8, so x comes at 2^27.
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let series = Polynomial::approximate(sigmoid, (-8.0, 8.0), 15)?;
    let x = encryptor.encrypt(&encoder.encode_real(&values, scale / 8.0, top)?, &mut rng)?;
    let y = evaluator.evaluate_polynomial(&x, &series, scale, &keys)?;
    let got = encoder.decode(&decryptor.decrypt(&y)?);
    let largest = |exact: &dyn Fn(f64) -> f64, got: &[ckks::Complex64]| {
        values.iter().zip(got).map(|(&x, y)| (y.re - exact(x)).abs()).fold(0.0, f64::max)
    };
    let (fit, noise) = (largest(&sigmoid, &got), largest(&|x| series.evaluate(x), &got));
    let model = NoiseModel::new(&parameters);
    let estimate = model.fresh_public(top, scale / 8.0, 8.0 / 3f64.sqrt());
    let estimate = evaluator.estimate_polynomial(estimate, &series, scale, top)?;
    let (relinearizations, products) = evaluator.polynomial_cost(&series, top)?;
    println!(
        "sigmoid, degree 15: {products} products, {relinearizations} relinearisations, level {top} to {}",
        y.level()
    );
    println!("  largest error {fit:.1e} from the sigmoid, {noise:.1e} from the series");
    println!("  root mean square predicted {:.1e}", model.slot_error(estimate));
    assert!(y.level() == top - series.depth() && fit < 3e-3 && noise < 1e-3);

    let (a, b, c) = (0.12f64, 0.5, 0.25);
    // The layer before would hand over t: here the client encrypts it.
    let t: Vec<f64> = values.iter().map(|x| a.sqrt() * (x + b / (2.0 * a))).collect();
    let t = encryptor.encrypt(&encoder.encode_real(&t, scale, top)?, &mut rng)?;
    let square = evaluator.relinearize_and_rescale(&evaluator.square(&t)?, 1, &keys)?;
    let y = evaluator.add_scalar(&square, c - b * b / (4.0 * a))?;
    let got = encoder.decode(&decryptor.decrypt(&y)?);
    let error = largest(&|x| a * x * x + b * x + c, &got);
    println!("a x^2 + b x + c as one square: level {top} to {}, largest error {error:.1e}", y.level());
    assert!(y.level() == top - 1 && error < 1e-2);
    Ok(())
}
