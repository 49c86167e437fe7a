//! 6. Bootstrapping: a ciphertext without levels becomes one with twenty, of the same 32,768 values or of a function of them.
//!
//! The preset is a ring of degree 2^16 at 128 bits of security. Its keys take 2.5 GiB and the maps 0.4 GiB, so the example wants 5 GiB of memory; the
//! bootstrap itself takes seconds on two cores.

use std::time::Instant;

use ckks::{
    BootstrapFunction, Decryptor, Encoder, Encryptor, Evaluator, KeyGenerator, NoiseModel, ParametersLiteral,
    Result, SecretEncryptor, SecretKey,
};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

fn main() -> Result<()> {
    let parameters = ParametersLiteral::bootstrapping().build()?;
    let (input, output) = parameters.bootstrap_levels()?;
    println!("from level {input} to level {output} of {}", parameters.max_level());
    println!("fails with a probability of 2^{:.0}", parameters.bootstrap_failure_log2()?);

    let mut rng = ChaCha20Rng::seed_from_u64(6);
    let secret = SecretKey::generate(&parameters, &mut rng);
    let generator = KeyGenerator::new(&parameters, &secret)?;
    let started = Instant::now();
    let keys = generator.bootstrap_keys(&mut rng)?;
    let gib = keys.bytes() as f64 / f64::from(1 << 30);
    assert_eq!(keys.bytes(), parameters.bootstrap_key_bytes()?);
    println!("keys: {gib:.2} GiB, made in {:.1} s", started.elapsed().as_secs_f64());
    let started = Instant::now();
    keys.prepare(&parameters)?;
    println!("maps: encoded in {:.1} s", started.elapsed().as_secs_f64());

    let (encoder, evaluator) = (Encoder::new(&parameters), Evaluator::new(&parameters));
    let values: Vec<f64> = (0..parameters.slots()).map(|i| 8.0 * (i as f64 * 0.37).sin()).collect();
    // A larger scale than that of a network, so that the noise of encrypting is small beside that of the bootstrap.
    let plain = encoder.encode_real(&values, 2f64.powi(40), input)?;
    let a = Encryptor::new(&parameters, generator.public_key(&mut rng))?.encrypt(&plain, &mut rng)?;
    let started = Instant::now();
    let b = evaluator.bootstrap(&a, &keys)?;
    println!("bootstrap: {:.2} s", started.elapsed().as_secs_f64());

    let slots = encoder.decode(&Decryptor::new(&parameters, &secret)?.decrypt(&b)?);
    let sine = parameters.bootstrap_function(a.scale())?;
    let error = |exact: &dyn Fn(f64) -> f64| {
        let squares = values.iter().zip(&slots).map(|(&x, y)| (y - exact(x)).norm_sqr());
        (squares.sum::<f64>() / values.len() as f64).sqrt()
    };
    let model = NoiseModel::new(&parameters);
    let estimate = evaluator.estimate_bootstrap(model.fresh_public(input, a.scale(), 8.0 / 2f64.sqrt()))?;
    let (noise, foreseen, whole) = (error(&sine), model.slot_error(estimate), error(&|x| x));
    println!("noise: {noise:.1e}, foreseen {foreseen:.1e}");
    println!("error: {whole:.1e}, {:.1} bits of the bound of 8", (8.0 / whole).log2());
    assert!((0.8..1.25).contains(&(noise / foreseen)) && whole < 6e-5 && b.level() == output);

    // The same with a ReLU on the way: half a period of the sine instead of its middle, and a polynomial after it.
    let relu = BootstrapFunction::fit(|v| v.max(0.0), (-8.0, 8.0), 63)?;
    let plain = encoder.encode_real(&values, 2f64.powi(30), input)?;
    let a = SecretEncryptor::new(&parameters, &secret)?.encrypt(&plain, &mut rng)?;
    let started = Instant::now();
    let b = evaluator.bootstrap_with(&a, std::slice::from_ref(&relu), 2f64.powi(30), &keys)?;
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "ReLU: {seconds:.2} s, {:.3} ms a value, to level {}",
        1e3 * seconds / values.len() as f64,
        b[0].level()
    );
    let slots = encoder.decode(&Decryptor::new(&parameters, &secret)?.decrypt(&b[0])?);
    let worst = values.iter().zip(&slots).map(|(x, y)| (y.re - x.max(0.0)).abs()).fold(0.0, f64::max);
    println!(
        "largest error {worst:.1e}, foreseen by the fit {:.1e}: {:.2} % of the interval",
        relu.largest_error(),
        100.0 * worst / 16.0
    );
    assert!(worst < 0.003 * 16.0);
    Ok(())
}
