//! 2. A product multiplies the scales; rescaling divides by the last prime and spends a level.
//!
//! Scales are tracked exactly: primes are only *close* to 2^30, so a rescaled ciphertext has a scale close to what it
//! had before, and sums refuse operands whose scales differ.

use ckks::{
    Decryptor, Encoder, Encryptor, EvaluationKeyRequest, Evaluator, KeyGenerator, ParametersLiteral, Result,
    SecretDistribution, SecretKey, Security,
};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

fn main() -> Result<()> {
    let parameters = ParametersLiteral {
        log_ring_degree: 14,
        modulus_bits: vec![30; 8],
        special_bits: vec![30; 4],
        secret: SecretDistribution::UniformTernary,
        security: Security::Classical128,
        bootstrap: None,
    }
    .build()?;
    let mut rng = ChaCha20Rng::seed_from_u64(2);
    let secret = SecretKey::generate(&parameters, &mut rng);
    let generator = KeyGenerator::new(&parameters, &secret)?;
    let top = parameters.max_level();
    let request =
        EvaluationKeyRequest { relinearization: vec![top, 4, 2], ..EvaluationKeyRequest::default() };
    let keys = generator.evaluation_keys(&request, &mut rng)?;
    let encryptor = Encryptor::new(&parameters, generator.public_key(&mut rng))?;
    let (encoder, evaluator) = (Encoder::new(&parameters), Evaluator::new(&parameters));
    let decryptor = Decryptor::new(&parameters, &secret)?;

    let values = [0.9, -0.5, 0.25, 1.0];
    let mut x = encryptor.encrypt(&encoder.encode_real(&values, 2f64.powi(30), top)?, &mut rng)?;
    for power in [2, 4, 8, 16] {
        // x^2 has degree 2 in the secret; relinearisation brings it back, rescaling brings the scale back.
        x = evaluator.relinearize_and_rescale(&evaluator.square(&x)?, 1, &keys)?;
        let got = encoder.decode(&decryptor.decrypt(&x)?);
        println!(
            "x^{power:<2} level {} scale 2^{:.4}: {:.5} {:.5}",
            x.level(),
            x.scale().log2(),
            got[0].re,
            got[1].re
        );
        assert!((got[0].re - values[0].powi(power)).abs() < 2e-2);
    }
    let fresh = encryptor.encrypt(&encoder.encode_real(&values, 2f64.powi(30), x.level())?, &mut rng)?;
    if let Err(refusal) = evaluator.add(&x, &fresh) {
        println!("a sum of unequal scales is refused: {refusal}");
    }
    Ok(())
}
