//! 1. Numbers to slots to a ciphertext and back.
//!
//! A plaintext holds N / 2 complex numbers, multiplied by a *scale* and rounded. The scale sets the precision: each
//! doubling is one more bit.

use ckks::{
    Decryptor, Encoder, Encryptor, KeyGenerator, ParametersLiteral, Result, SecretDistribution, SecretKey,
    Security,
};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

fn main() -> Result<()> {
    // N = 2^13: at 128 bits log2(QP) may be 214. Anything larger is refused by `build`.
    let literal = ParametersLiteral {
        log_ring_degree: 13,
        modulus_bits: vec![30, 30, 30, 30],
        special_bits: vec![30, 30],
        secret: SecretDistribution::UniformTernary,
        security: Security::Classical128,
        bootstrap: None,
    };
    let parameters = literal.build()?;
    let mut too_much = literal.clone();
    too_much.modulus_bits = vec![30; 8];
    if let Err(refusal) = too_much.build() {
        println!("refused as it should be: {refusal}");
    }

    // A fixed seed repeats this page; real keys take their randomness from the operating system.
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let secret = SecretKey::generate(&parameters, &mut rng);
    let public = KeyGenerator::new(&parameters, &secret)?.public_key(&mut rng);
    let (encoder, encryptor) = (Encoder::new(&parameters), Encryptor::new(&parameters, public)?);
    let decryptor = Decryptor::new(&parameters, &secret)?;

    let values: Vec<f64> = (0..parameters.slots()).map(|slot| (slot as f64 / 100.0).sin()).collect();
    for log_scale in [20, 30, 40] {
        let plaintext = encoder.encode_real(&values, f64::from(log_scale).exp2(), parameters.max_level())?;
        let ciphertext = encryptor.encrypt(&plaintext, &mut rng)?;
        let decoded = encoder.decode(&decryptor.decrypt(&ciphertext)?);
        let error =
            values.iter().zip(&decoded).map(|(value, slot)| (value - slot.re).abs()).fold(0.0, f64::max);
        println!("scale 2^{log_scale}: {} slots, largest error {error:.1e}", parameters.slots());
        assert!(error < f64::from(18 - log_scale).exp2());
    }
    Ok(())
}
