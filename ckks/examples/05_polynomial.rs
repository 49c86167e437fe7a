//! 5. A polynomial activation: a x^2 + b x + c as one square.
//!
//! With s = sign(a) and t = sqrt|a| (x + b / 2a) it is s t^2 + c - b^2 / 4a: the affine map goes into the layer before,
//! the constant into the layer after, and one level remains.

use ckks::{
    Decryptor, Encoder, Encryptor, EvaluationKeyRequest, Evaluator, KeyGenerator, ParametersLiteral, Result,
    SecretDistribution, SecretKey, Security,
};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

fn main() -> Result<()> {
    let parameters = ParametersLiteral {
        log_ring_degree: 13,
        modulus_bits: vec![30; 4],
        special_bits: vec![30; 3],
        secret: SecretDistribution::UniformTernary,
        security: Security::Classical128,
    }
    .build()?;
    let (a, b, c) = (0.12f64, 0.5, 0.25);
    let mut rng = ChaCha20Rng::seed_from_u64(5);
    let secret = SecretKey::generate(&parameters, &mut rng);
    let generator = KeyGenerator::new(&parameters, &secret)?;
    let top = parameters.max_level();
    let request = EvaluationKeyRequest { relinearization: vec![top], ..EvaluationKeyRequest::default() };
    let keys = generator.evaluation_keys(&request, &mut rng)?;
    let encryptor = Encryptor::new(&parameters, generator.public_key(&mut rng))?;
    let (encoder, evaluator) = (Encoder::new(&parameters), Evaluator::new(&parameters));
    let decryptor = Decryptor::new(&parameters, &secret)?;

    let values: Vec<f64> = (0..parameters.slots()).map(|slot| slot as f64 / 512.0 - 4.0).collect();
    // The layer before would hand over t: here the client encrypts it.
    let t: Vec<f64> = values.iter().map(|x| a.sqrt() * (x + b / (2.0 * a))).collect();
    let encrypted = encryptor.encrypt(&encoder.encode_real(&t, 2f64.powi(30), top)?, &mut rng)?;
    let square = evaluator.relinearize_and_rescale(&evaluator.square(&encrypted)?, 1, &keys)?;
    let result = evaluator.add_scalar(&square, c - b * b / (4.0 * a))?;
    let got = encoder.decode(&decryptor.decrypt(&result)?);
    let exact = |x: f64| a * x * x + b * x + c;
    let largest = values.iter().zip(&got).map(|(&x, slot)| (slot.re - exact(x)).abs()).fold(0.0, f64::max);
    println!(
        "{} activations with one product, level {} to {}, largest error {largest:.1e}",
        got.len(),
        top,
        result.level()
    );
    assert!(largest < 1e-2);
    Ok(())
}
