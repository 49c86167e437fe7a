//! 4. A convolution along a row: a sum over rotations of plaintexts that repeat every few slots.
//!
//! Pixels lie in the slots four lanes apart; weights depend on the lane only, so a plaintext has period 4 and is
//! stored and transformed at the cost of its period. One baby-step giant-step linear map does the whole layer.

use ckks::{
    Complex64, Decryptor, Diagonal, Encoder, Encryptor, EvaluationKeyRequest, Evaluator, KeyGenerator,
    LinearTerm, LinearTransform, ParametersLiteral, Result, SecretDistribution, SecretKey, Security,
};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

const LANES: usize = 4;

fn main() -> Result<()> {
    let parameters = ParametersLiteral {
        log_ring_degree: 13,
        modulus_bits: vec![30; 4],
        special_bits: vec![30; 3],
        secret: SecretDistribution::UniformTernary,
        security: Security::Classical128,
        bootstrap: None,
    }
    .build()?;
    let (encoder, evaluator) = (Encoder::new(&parameters), Evaluator::new(&parameters));
    let (slots, top) = (parameters.slots(), parameters.max_level());

    // weight[out][in][tap]: out = sum over taps -1, 0, 1 and lanes.
    let weight =
        |out: usize, lane: usize, tap: usize| ((out * 7 + lane * 3 + tap * 5) % 11) as f64 / 11.0 - 0.5;
    // Output lane `out` reads slot + r with r = (tap - 1) LANES + lane - out: one diagonal for each r, keyed by r.
    let mut diagonals = std::collections::BTreeMap::<i64, Vec<Complex64>>::new();
    for out in 0..LANES {
        for lane in 0..LANES {
            for tap in 0..3 {
                let r = (tap as i64 - 1) * LANES as i64 + lane as i64 - out as i64;
                diagonals.entry(r).or_insert_with(|| vec![Complex64::new(0.0, 0.0); LANES])[out].re +=
                    weight(out, lane, tap);
            }
        }
    }
    // r = giant + baby with 0 <= baby < 4: the plaintext of a giant step is rotated back by it, which its period makes free.
    let scale = f64::from(parameters.modulus(top));
    let terms = diagonals
        .iter()
        .map(|(&r, values)| {
            let (giant, baby) = (r.div_euclid(LANES as i64) * LANES as i64, r.rem_euclid(LANES as i64));
            Ok(LinearTerm {
                giant,
                baby,
                plaintext: Diagonal::Periodic(encoder.encode_periodic(values, scale)?),
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let map = LinearTransform::new(terms)?;
    println!("{} plaintexts of period {LANES}, rotations {:?}", map.terms(), map.rotations());

    let mut rng = ChaCha20Rng::seed_from_u64(4);
    let secret = SecretKey::generate(&parameters, &mut rng);
    let generator = KeyGenerator::new(&parameters, &secret)?;
    let rotations = map.rotations().into_iter().map(|rotation| (rotation, top)).collect();
    let request = EvaluationKeyRequest { rotations, ..EvaluationKeyRequest::default() };
    let keys = generator.evaluation_keys(&request, &mut rng)?;
    let encryptor = Encryptor::new(&parameters, generator.public_key(&mut rng))?;

    let image: Vec<f64> = (0..slots).map(|slot| ((slot * 37) % 101) as f64 / 101.0).collect();
    let x = encryptor.encrypt(&encoder.encode_real(&image, 2f64.powi(30), top)?, &mut rng)?;
    let y = evaluator.linear_transform_and_rescale(&x, &map, 1, &keys)?;
    let got = encoder.decode(&Decryptor::new(&parameters, &secret)?.decrypt(&y)?);
    let mut largest = 0f64;
    for (slot, value) in got.iter().enumerate() {
        let (pixel, out) = (slot / LANES, slot % LANES);
        let at =
            |tap: usize, lane: usize| image[(pixel * LANES + slots + tap * LANES - LANES + lane) % slots];
        let expected: f64 = (0..3)
            .flat_map(|tap| (0..LANES).map(move |lane| (tap, lane)))
            .map(|(tap, lane)| weight(out, lane, tap) * at(tap, lane))
            .sum();
        largest = largest.max((value.re - expected).abs());
    }
    println!("{slots} outputs at level {}, largest error {largest:.1e}", y.level());
    assert!(largest < 1e-2);
    Ok(())
}
