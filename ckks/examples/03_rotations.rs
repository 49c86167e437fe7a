//! 3. Rotations: the only way in which slots meet. Each needs a Galois key, made for the level at which it is used.
//!
//! Several rotations of one ciphertext share most of their work when they are *hoisted*.

use std::time::Instant;

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
        special_bits: vec![30; 5],
        secret: SecretDistribution::UniformTernary,
        security: Security::Classical128,
        bootstrap: None,
    }
    .build()?;
    let mut rng = ChaCha20Rng::seed_from_u64(3);
    let secret = SecretKey::generate(&parameters, &mut rng);
    let generator = KeyGenerator::new(&parameters, &secret)?;
    let top = parameters.max_level();
    let steps: Vec<i64> = vec![1, 2, 3, 4, 8, -1];
    let request = EvaluationKeyRequest {
        rotations: steps.iter().map(|&step| (step, top)).collect(),
        ..EvaluationKeyRequest::default()
    };
    let keys = generator.evaluation_keys(&request, &mut rng)?;
    println!("{} Galois keys: {:.1} MB in memory", keys.galois_keys().count(), keys.bytes() as f64 / 1e6);
    let encryptor = Encryptor::new(&parameters, generator.public_key(&mut rng))?;
    let (encoder, evaluator) = (Encoder::new(&parameters), Evaluator::new(&parameters));
    let decryptor = Decryptor::new(&parameters, &secret)?;

    let values: Vec<f64> = (0..parameters.slots()).map(|slot| slot as f64 / 1000.0).collect();
    let x = encryptor.encrypt(&encoder.encode_real(&values, 2f64.powi(30), top)?, &mut rng)?;
    let started = Instant::now();
    let one_by_one: Vec<_> =
        steps.iter().map(|&step| evaluator.rotate(&x, step, &keys)).collect::<Result<_>>()?;
    let separate = started.elapsed();
    let started = Instant::now();
    let hoisted = evaluator.rotate_hoisted(&x, &steps, &keys)?;
    println!("{} rotations: {separate:?} one by one, {:?} hoisted", steps.len(), started.elapsed());
    for ((step, a), b) in steps.iter().zip(&one_by_one).zip(&hoisted) {
        let slot = |ciphertext| -> Result<f64> { Ok(encoder.decode(&decryptor.decrypt(ciphertext)?)[10].re) };
        let expected = values[(10 + step) as usize];
        println!("rotation {step:>2}: slot 10 holds {:.3}, expected {expected:.3}", slot(a)?);
        assert!((slot(a)? - expected).abs() < 1e-2 && (slot(b)? - expected).abs() < 1e-2);
    }
    if let Err(refusal) = evaluator.rotate(&x, 5, &keys) {
        println!("without its key a rotation is refused: {refusal}");
    }
    Ok(())
}
