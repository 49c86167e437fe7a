//! Every operation on toy parameters, against the same operation on clear slots.
#![cfg(feature = "secret-key")]
#![allow(clippy::unwrap_used)]

use ckks::{
    Ciphertext, Complex64, Decryptor, Diagonal, Encoder, Encryptor, Error, EvaluationKeyRequest,
    EvaluationKeys, Evaluator, KeyGenerator, LinearMatrix, LinearTerm, LinearTransform, MatrixTerm, Move,
    Parameters, ParametersLiteral, SecretEncryptor, SecretKey,
};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

/// Toy parameters with everything that both sides need.
struct Bench {
    parameters: Parameters,
    encoder: Encoder,
    encryptor: Encryptor,
    decryptor: Decryptor,
    symmetric: SecretEncryptor,
    secret: SecretKey,
    evaluator: Evaluator,
    keys: EvaluationKeys,
    rng: ChaCha20Rng,
}

const SCALE: f64 = (1u64 << 30) as f64;

impl Bench {
    fn new(levels: usize, special: usize, rotations: &[i64]) -> Self {
        let parameters = ParametersLiteral::insecure_toy(10, levels, special).build().unwrap();
        let mut rng = ChaCha20Rng::seed_from_u64(7);
        let secret = SecretKey::generate(&parameters, &mut rng);
        let generator = KeyGenerator::new(&parameters, &secret).unwrap();
        let tops: Vec<usize> = parameters.key_tiers().iter().map(|t| t.top_level).collect();
        let request = EvaluationKeyRequest {
            relinearization: tops.clone(),
            rotations: rotations.iter().flat_map(|&k| tops.iter().map(move |&l| (k, l))).collect(),
            conjugations: tops.iter().flat_map(|l| [(0, *l), (3, *l)]).collect(),
        };
        let keys = generator.evaluation_keys(&request, &mut rng).unwrap();
        Self {
            encoder: Encoder::new(&parameters),
            encryptor: Encryptor::new(&parameters, generator.public_key(&mut rng)).unwrap(),
            decryptor: Decryptor::new(&parameters, &secret).unwrap(),
            symmetric: SecretEncryptor::new(&parameters, &secret).unwrap(),
            evaluator: Evaluator::new(&parameters),
            secret,
            keys,
            parameters,
            rng,
        }
    }

    fn slots(&self, seed: u64) -> Vec<Complex64> {
        (0..self.parameters.slots())
            .map(|i| {
                let t = (i as f64 + 1.0) * (seed as f64 + 0.3);
                Complex64::new((t * 0.7).sin(), (t * 1.3).cos())
            })
            .collect()
    }

    fn encrypt(&mut self, slots: &[Complex64], level: usize) -> Ciphertext {
        // A lone 30-bit prime cannot hold a scale of 2^30.
        let scale = if level == 0 { SCALE / 16.0 } else { SCALE };
        let plaintext = self.encoder.encode(slots, scale, level).unwrap();
        self.encryptor.encrypt(&plaintext, &mut self.rng).unwrap()
    }

    fn close(&self, ciphertext: &Ciphertext, expected: &[Complex64], tolerance: f64) {
        let decoded = self.encoder.decode(&self.decryptor.decrypt(ciphertext).unwrap());
        let worst = decoded.iter().zip(expected).map(|(a, b)| (a - b).norm()).fold(0.0, f64::max);
        assert!(worst < tolerance, "error {worst:e} exceeds {tolerance:e}");
    }
}

fn rotated(slots: &[Complex64], k: i64) -> Vec<Complex64> {
    let n = slots.len() as i64;
    (0..n).map(|i| slots[(i + k).rem_euclid(n) as usize]).collect()
}

#[test]
fn sums_and_plain_products() {
    let mut bench = Bench::new(4, 2, &[]);
    let (x, y) = (bench.slots(1), bench.slots(2));
    let (a, b) = (bench.encrypt(&x, 4), bench.encrypt(&y, 4));
    bench.close(&a, &x, 4e-5);
    let sum: Vec<_> = x.iter().zip(&y).map(|(p, q)| p + q).collect();
    bench.close(&bench.evaluator.add(&a, &b).unwrap(), &sum, 4e-5);
    let plain = bench.encoder.encode(&y, SCALE, 4).unwrap();
    bench.close(&bench.evaluator.add_plain(&a, &plain).unwrap(), &sum, 4e-5);
    let difference: Vec<_> = x.iter().zip(&y).map(|(p, q)| p - q).collect();
    bench.close(&bench.evaluator.sub(&a, &b).unwrap(), &difference, 4e-5);
    let product: Vec<_> = x.iter().zip(&y).map(|(p, q)| p * q).collect();
    let scaled = bench.evaluator.mul_plain(&a, &plain).unwrap();
    bench.close(&bench.evaluator.rescale(&scaled).unwrap(), &product, 4e-5);
    let scaled = bench.evaluator.mul_scalar(&a, -0.37, SCALE).unwrap();
    let expected: Vec<_> = x.iter().map(|v| v * -0.37).collect();
    bench.close(&bench.evaluator.rescale(&scaled).unwrap(), &expected, 4e-5);
    let expected: Vec<_> = x.iter().map(|v| v + 0.5).collect();
    bench.close(&bench.evaluator.add_scalar(&a, 0.5).unwrap(), &expected, 4e-5);
    let negated: Vec<_> = x.iter().map(|v| -v).collect();
    bench.close(&bench.evaluator.negate(&a), &negated, 4e-5);
}

/// Levels and scales of two operands, and the level at which they meet.
#[test]
fn operands_are_brought_to_one_level_and_scale() {
    let mut bench = Bench::new(4, 2, &[]);
    let (x, y) = (bench.slots(1), bench.slots(2));
    let sum: Vec<_> = x.iter().zip(&y).map(|(p, q)| p + q).collect();
    let cases = [
        // Equal scales cost nothing.
        ((4, 30.0), (4, 30.0), 4),
        ((4, 30.0), (2, 30.0), 2),
        // One level of the higher one makes up for any difference.
        ((2, 30.0), (4, 27.3), 2),
        ((3, 25.0), (1, 30.0), 1),
        // At one level an integer does where there is one, and else a level.
        ((2, 25.0), (2, 30.0), 2),
        ((2, 30.0), (2, 27.3), 1),
        // A product that was not rescaled.
        ((4, 58.0), (2, 30.0), 2),
        ((3, 58.0), (2, 30.0), 2),
    ];
    for ((level_a, log_a), (level_b, log_b), level) in cases {
        let mut encrypt = |slots: &[Complex64], level, log: f64| {
            let plaintext = bench.encoder.encode(slots, log.exp2(), level).unwrap();
            bench.symmetric.encrypt(&plaintext, &mut bench.rng).unwrap()
        };
        let (a, b) = (encrypt(&x, level_a, log_a), encrypt(&y, level_b, log_b));
        for (a, b) in [(&a, &b), (&b, &a)] {
            let (a, b) = bench.evaluator.align(a, b).unwrap();
            assert_eq!(
                (a.level(), b.level()),
                (level, level),
                "2^{log_a} at {level_a}, 2^{log_b} at {level_b}"
            );
            bench.close(&bench.evaluator.add(&a, &b).unwrap(), &sum, 2e-4);
        }
    }
    // Half a bit apart, and no level left to make up for it.
    let mut low = |log: f64| {
        let plaintext = bench.encoder.encode(&x, log.exp2(), 0).unwrap();
        bench.symmetric.encrypt(&plaintext, &mut bench.rng).unwrap()
    };
    let (a, b) = (low(20.0), low(20.5));
    assert!(matches!(bench.evaluator.align(&a, &b), Err(Error::ScaleMismatch { .. })));
}

/// The scale that a scalar's rescale leaves is the one before, to the last bit.
#[test]
fn scalars_keep_the_scale() {
    let mut bench = Bench::new(2, 2, &[]);
    let x = bench.slots(1);
    let a = bench.encrypt(&x, 2);
    let third = bench.evaluator.mul_scalar_and_rescale(&a, 1.0 / 3.0).unwrap();
    assert_eq!((third.level(), third.scale()), (1, a.scale()));
    bench.close(&third, &x.iter().map(|v| v / 3.0).collect::<Vec<_>>(), 4e-5);
    let lowest = bench.evaluator.drop_level(&a, 0).unwrap();
    assert!(matches!(bench.evaluator.mul_scalar_and_rescale(&lowest, 0.5), Err(Error::Level { .. })));
    let more = bench.encoder.encode_like(&[1.0; 8], &third).unwrap();
    assert_eq!((more.level(), more.scale()), (1, third.scale()));
}

#[test]
fn the_secret_key_encrypts_with_less_noise() {
    let mut bench = Bench::new(1, 2, &[]);
    let x = bench.slots(1);
    let plaintext = bench.encoder.encode(&x, SCALE, 1).unwrap();
    let a = bench.symmetric.encrypt(&plaintext, &mut bench.rng).unwrap();
    bench.close(&a, &x, 1e-6);
}

#[test]
fn periodic_products_and_sums() {
    let mut bench = Bench::new(2, 2, &[]);
    let x = bench.slots(1);
    let a = bench.encrypt(&x, 2);
    for period in [1usize, 4, 128, 512] {
        let y: Vec<_> = bench.slots(3)[..period].to_vec();
        let plain = bench.encoder.encode_periodic(&y, SCALE).unwrap();
        let scaled = bench.evaluator.mul_periodic(&a, &plain).unwrap();
        let product: Vec<_> = x.iter().zip(y.iter().cycle()).map(|(p, q)| p * q).collect();
        bench.close(&bench.evaluator.rescale(&scaled).unwrap(), &product, 4e-5);
        let sum: Vec<_> = x.iter().zip(y.iter().cycle()).map(|(p, q)| p + q).collect();
        bench.close(&bench.evaluator.add_periodic(&a, &plain).unwrap(), &sum, 4e-5);
    }
}

#[test]
fn a_chain_of_squares_tracks_the_scale() {
    for special in [2, 3, 8] {
        let mut bench = Bench::new(6, special, &[]);
        let mut x: Vec<_> = bench.slots(4).iter().map(|v| v / 1.5).collect();
        let mut a = bench.encrypt(&x, 6);
        for level in (1..6).rev() {
            let square = bench.evaluator.square(&a).unwrap();
            let slow = bench.evaluator.relinearize(&square, &bench.keys).unwrap();
            let slow = bench.evaluator.rescale(&slow).unwrap();
            a = bench.evaluator.relinearize_and_rescale(&square, 1, &bench.keys).unwrap();
            assert_eq!(a.level(), level);
            assert_eq!(a.scale(), slow.scale());
            x = x.iter().map(|v| v * v).collect();
            bench.close(&slow, &x, 1e-3);
            bench.close(&a, &x, 1e-3);
        }
    }
}

#[test]
fn rotations_move_to_the_left() {
    let rotations = [1, -3, 100, 511];
    for special in [2, 5] {
        let mut bench = Bench::new(5, special, &rotations);
        let x = bench.slots(5);
        for level in [5, 2, 0] {
            let a = bench.encrypt(&x, level);
            let hoisted = bench.evaluator.rotate_hoisted(&a, &rotations, &bench.keys).unwrap();
            for (&k, hoisted) in rotations.iter().zip(&hoisted) {
                let tolerance = if level == 0 { 1e-3 } else { 1e-4 };
                bench.close(&bench.evaluator.rotate(&a, k, &bench.keys).unwrap(), &rotated(&x, k), tolerance);
                bench.close(hoisted, &rotated(&x, k), tolerance);
            }
            let conjugated: Vec<_> = x.iter().map(Complex64::conj).collect();
            bench.close(&bench.evaluator.conjugate(&a, &bench.keys).unwrap(), &conjugated, 1e-3);
            let moved = bench.evaluator.rotate_and_conjugate(&a, 3, &bench.keys).unwrap();
            bench.close(&moved, &rotated(&conjugated, 3), 1e-3);
        }
        let a = bench.encrypt(&x, 0);
        assert!(bench.evaluator.rotate(&a, 2, &bench.keys).is_err());
        assert!(bench.evaluator.rotate_and_conjugate(&a, 2, &bench.keys).is_err());
    }
}

#[test]
fn rotate_and_sum_doubles_or_quadruples() {
    let mut bench = Bench::new(2, 3, &[4, 8, 12, 16]);
    let x = bench.slots(6);
    for (level, count, radix) in [(2, 1, 2), (2, 4, 4), (2, 8, 2), (2, 8, 4), (1, 8, 4), (0, 8, 2)] {
        let a = bench.encrypt(&x, level);
        let sum = bench.evaluator.rotate_and_sum_by_radix(&a, 4, count, radix, &bench.keys).unwrap();
        assert_eq!((sum.level(), sum.scale()), (level, a.scale()));
        let mut expected = vec![Complex64::default(); x.len()];
        for i in 0..count as i64 {
            expected.iter_mut().zip(rotated(&x, 4 * i)).for_each(|(e, r)| *e += r);
        }
        let tolerance = if level == 0 { 16e-4 } else { 1e-4 };
        bench.close(&sum, &expected, tolerance);
        if radix == 2 {
            let same = bench.evaluator.rotate_and_sum(&a, 4, count, &bench.keys).unwrap();
            bench.close(&same, &expected, tolerance);
        }
    }
    let a = bench.encrypt(&x, 2);
    // A count that is no power of two, another radix, and rounds whose keys are not there.
    for (count, radix) in [(6, 2), (8, 3), (0, 2), (16, 4)] {
        assert!(bench.evaluator.rotate_and_sum_by_radix(&a, 4, count, radix, &bench.keys).is_err());
    }
    // Rotations by all slots move nothing.
    let slots = x.len() as i64;
    let sum = bench.evaluator.rotate_and_sum_by_radix(&a, slots, 4, 4, &bench.keys).unwrap();
    let expected: Vec<_> = x.iter().map(|v| v * 4.0).collect();
    bench.close(&sum, &expected, 1e-4);
}

/// Keys for the highest level alone serve every operation at every level below, in the shape that the level needs.
#[test]
fn keys_for_the_top_serve_every_level() {
    for special in [3, 5, 9] {
        let mut bench = Bench::new(7, special, &[]);
        let generator = KeyGenerator::new(&bench.parameters, &bench.secret).unwrap();
        let request = EvaluationKeyRequest {
            relinearization: vec![7],
            rotations: vec![(1, 7), (4, 7), (8, 7)],
            conjugations: vec![(0, 7)],
        };
        bench.keys = generator.evaluation_keys(&request, &mut bench.rng).unwrap();
        let top = bench.keys.relinearization(7).unwrap().shape();
        let x = bench.slots(3);
        let weights = bench.slots(5)[..8].to_vec();
        for level in (1..=7).rev() {
            let shape = top.at(level + 1);
            assert!(shape.special <= top.special && shape.special == shape.digit_limbs.min(level + 1) + 1);
            let a = bench.encrypt(&x, level);
            bench.close(&bench.evaluator.rotate(&a, 4, &bench.keys).unwrap(), &rotated(&x, 4), 1e-4);
            let conjugate: Vec<_> = x.iter().map(Complex64::conj).collect();
            bench.close(&bench.evaluator.conjugate(&a, &bench.keys).unwrap(), &conjugate, 1e-4);
            for (k, moved) in
                [1, 4].into_iter().zip(bench.evaluator.rotate_hoisted(&a, &[1, 4], &bench.keys).unwrap())
            {
                bench.close(&moved, &rotated(&x, k), 1e-4);
            }
            if level < 2 {
                continue;
            }
            let square = bench.evaluator.square(&a).unwrap();
            let square = bench.evaluator.relinearize(&square, &bench.keys).unwrap();
            let squares: Vec<_> = x.iter().map(|v| v * v).collect();
            bench.close(&bench.evaluator.rescale(&square).unwrap(), &squares, 1e-4);
            let plaintext = || Diagonal::from(bench.encoder.encode_periodic(&weights, SCALE).unwrap());
            let term = |giant, baby| LinearTerm { giant, baby, plaintext: plaintext() };
            let map = LinearTransform::new(vec![term(0, 1), term(8, 4)]).unwrap();
            let product = |k| -> Vec<_> {
                rotated(&x, k).iter().zip(weights.iter().cycle()).map(|(p, q)| p * q).collect()
            };
            let mut expected = product(1);
            expected.iter_mut().zip(rotated(&product(4), 8)).for_each(|(e, r)| *e += r);
            let mapped = bench.evaluator.linear_transform_and_rescale(&a, &map, 1, &bench.keys).unwrap();
            bench.close(&mapped, &expected, 1e-4);
        }
    }
}

#[test]
fn linear_maps_are_double_hoisted() {
    let (babies, giants) = ([0i64, 1, 2, 5], [0i64, -16, 32]);
    let mut bench = Bench::new(4, 3, &[1, 2, 5, -16, 32]);
    let x = bench.slots(7);
    for level in [4, 2] {
        let shape = bench.parameters.key_shape(level);
        let mut terms = Vec::new();
        let mut expected = vec![Complex64::default(); x.len()];
        for (g, &giant) in giants.iter().enumerate() {
            for (b, &baby) in babies.iter().enumerate() {
                let period = [16usize, 512, 64][(g + b) % 3];
                let weights: Vec<_> = bench.slots((g * 7 + b) as u64)[..period].to_vec();
                let plaintext = if (g + b) % 3 == 1 {
                    Diagonal::from(
                        bench.encoder.encode_extended(&weights, SCALE, level, shape.special).unwrap(),
                    )
                } else {
                    Diagonal::from(bench.encoder.encode_periodic(&weights, SCALE).unwrap())
                };
                terms.push(LinearTerm { giant, baby, plaintext });
                let moved = rotated(&x, baby);
                let product: Vec<_> = moved.iter().zip(weights.iter().cycle()).map(|(p, q)| p * q).collect();
                expected.iter_mut().zip(rotated(&product, giant)).for_each(|(e, r)| *e += r);
            }
        }
        let map = LinearTransform::new(terms).unwrap();
        assert_eq!((map.terms(), map.rotations()), (12, vec![-16, 1, 2, 5, 32]));
        let a = bench.encrypt(&x, level);
        let slow = bench.evaluator.linear_transform(&a, &map, &bench.keys).unwrap();
        bench.close(&bench.evaluator.rescale(&slow).unwrap(), &expected, 1e-4);
        let fast = bench.evaluator.linear_transform_and_rescale(&a, &map, 1, &bench.keys).unwrap();
        assert_eq!(fast.level(), level - 1);
        bench.close(&fast, &expected, 1e-4);
    }
}

/// The sum of rotations.
fn sum_of(x: &[Complex64], rotations: &[i64]) -> Vec<Complex64> {
    let mut sum = vec![Complex64::ZERO; x.len()];
    for &by in rotations {
        sum.iter_mut().zip(rotated(x, by)).for_each(|(s, r)| *s += r);
    }
    sum
}

/// A linear map, two rotations of its result, their sum, conjugations with and without a rotation and a sum of periods, divided once.
#[test]
fn sums_of_rotations_wait_for_their_division() {
    let mut bench = Bench::new(4, 3, &[1, 4, 8, 16]);
    let x = bench.slots(7);
    for level in [4, 3] {
        let weights: Vec<_> = bench.slots(3)[..64].to_vec();
        let moved = rotated(&x, 1);
        let y: Vec<_> = moved.iter().zip(weights.iter().cycle()).map(|(p, q)| p * q).collect();
        let plaintext = bench.encoder.encode_periodic(&weights, SCALE).unwrap().into();
        let map = LinearTransform::new(vec![LinearTerm { giant: 0, baby: 1, plaintext }]).unwrap();
        let (e, keys) = (bench.evaluator.clone(), &bench.keys);
        let a = bench.symmetric.encrypt(&bench.encoder.encode(&x, SCALE, level).unwrap(), &mut bench.rng);
        let a = a.unwrap();
        let u = e.linear_transform_extended(&a, &map, keys).unwrap();
        assert_eq!((u.level(), u.scale()), (level, a.scale() * map.scale()));
        // What stays where it is may stand anywhere.
        let terms = [8, 0, 16].map(|by| (&u, Move::Rotation(by)));
        let sum = e.sum_of_moved(&terms, keys).unwrap();
        let part = e.sum_of_moved(&[(&sum, Move::Conjugation(3))], keys).unwrap();
        let moved: Vec<_> = sum_of(&y, &[0, 8, 16]).iter().map(Complex64::conj).collect();
        bench.close(&e.divide_and_rescale(&part, 1).unwrap(), &rotated(&moved, 3), 1e-3);
        let sum = e.sum_of_moved(&[(&sum, Move::Rotation(0)), (&sum, Move::Conjugation(0))], keys).unwrap();
        let sum = e.rotate_and_sum_extended(&sum, 4, 4, 2, keys).unwrap();
        let twice: Vec<_> = sum_of(&y, &[0, 8, 16]).iter().map(|e| (2.0 * e.re).into()).collect();
        let expected = sum_of(&twice, &[0, 4, 8, 12]);
        let divided = e.divide_and_rescale(&sum, 1).unwrap();
        assert_eq!(divided.level(), level - 1);
        bench.close(&divided, &expected, 1e-3);
        bench.close(&e.rescale(&e.divide_and_rescale(&sum, 0).unwrap()).unwrap(), &expected, 1e-3);
        bench.close(&e.divide_and_rescale_in_place(sum, 1).unwrap(), &expected, 1e-3);
        // Of several ciphertexts, with none and with two of them where they are.
        let moves = [(&u, Move::Rotation(8)), (&u, Move::Rotation(16))];
        let apart = e.sum_of_moved(&moves, keys).unwrap();
        bench.close(&e.divide_and_rescale(&apart, 1).unwrap(), &sum_of(&y, &[8, 16]), 1e-3);
        let terms = [
            (&apart, Move::Conjugation(0)),
            (&u, Move::Rotation(0)),
            (&u, Move::Rotation(8)),
            (&apart, Move::Rotation(0)),
        ];
        let mixed = e.sum_of_moved(&terms, keys).unwrap();
        let (apart, own) = (sum_of(&y, &[8, 16]), sum_of(&y, &[0, 8]));
        let expected: Vec<_> = apart.iter().zip(&own).map(|(a, u)| u + 2.0 * a.re).collect();
        bench.close(&e.divide_and_rescale(&mixed, 1).unwrap(), &expected, 1e-3);
        // No key, more primes than there are, and operands that do not fit each other.
        assert!(e.sum_of_moved(&[(&u, Move::Rotation(3))], keys).is_err());
        assert!(e.sum_of_moved(&[], keys).is_err());
        assert!(e.divide_and_rescale(&u, level + 1).is_err());
        assert!(e.linear_transform_and_rescale(&a, &map, level + 1, keys).is_err());
        let lower = e.linear_transform_extended(&e.drop_level(&a, level - 1).unwrap(), &map, keys).unwrap();
        assert!(e.sum_of_moved(&[(&u, Move::Rotation(0)), (&lower, Move::Rotation(0))], keys).is_err());
    }
}

#[test]
fn a_chain_of_giant_steps_needs_one_key() {
    let (babies, giants) = ([0i64, 1], [0i64, 16, 48]);
    let mut bench = Bench::new(4, 3, &[1, 16]);
    let x = bench.slots(7);
    let (mut terms, mut expected) = (Vec::new(), vec![Complex64::default(); x.len()]);
    for (i, (&giant, &baby)) in giants.iter().flat_map(|g| babies.iter().map(move |b| (g, b))).enumerate() {
        let weights: Vec<_> = bench.slots(i as u64)[..64].to_vec();
        let plaintext = bench.encoder.encode_periodic(&weights, SCALE).unwrap().into();
        terms.push(LinearTerm { giant, baby, plaintext });
        let moved = rotated(&x, baby);
        let product: Vec<_> = moved.iter().zip(weights.iter().cycle()).map(|(p, q)| p * q).collect();
        expected.iter_mut().zip(rotated(&product, giant)).for_each(|(e, r)| *e += r);
    }
    let map = LinearTransform::new(terms).unwrap();
    assert!(map.clone().chained(32).is_err() && map.clone().chained(0).is_err());
    let a = bench.encrypt(&x, 4);
    assert!(bench.evaluator.linear_transform(&a, &map, &bench.keys).is_err(), "no key for 48");
    let map = map.chained(16).unwrap();
    assert_eq!(map.rotations(), [1, 16]);
    let fast = bench.evaluator.linear_transform_and_rescale(&a, &map, 1, &bench.keys).unwrap();
    bench.close(&fast, &expected, 1e-4);
}

#[test]
fn a_matrix_of_linear_maps_shares_rotated_inputs() {
    // More inputs than are taken at a time; output 1 does not read every input and has fewer giant steps.
    let (babies, giants) = ([0i64, 1, 3], [0i64, 16, 32]);
    let level = 4;
    let mut bench = Bench::new(level, 3, &[1, 3, 16]);
    let x: Vec<Vec<Complex64>> = (0..6).map(|i| bench.slots(100 + i)).collect();
    let mut terms = Vec::new();
    let mut expected = vec![vec![Complex64::default(); x[0].len()]; 2];
    for (output, expected) in expected.iter_mut().enumerate() {
        for (input, x) in x.iter().enumerate().filter(|(i, _)| *i != 1 || output == 0) {
            for (g, &giant) in giants.iter().enumerate().filter(|(g, _)| *g < 2 || output == 0) {
                for &baby in &babies {
                    let seed = (output * 100 + input * 10 + g) as u64 + baby as u64;
                    let weights: Vec<_> = bench.slots(seed)[..64].to_vec();
                    let plaintext = bench.encoder.encode_periodic(&weights, SCALE).unwrap().into();
                    terms.push(MatrixTerm { output, input, giant, baby, plaintext });
                    let moved = rotated(x, baby);
                    let product: Vec<_> =
                        moved.iter().zip(weights.iter().cycle()).map(|(p, q)| p * q).collect();
                    expected.iter_mut().zip(rotated(&product, giant)).for_each(|(e, r)| *e += r);
                }
            }
        }
    }
    let map = LinearMatrix::new(terms.clone()).unwrap();
    assert_eq!((map.outputs(), map.rotations()), (2, vec![1, 3, 16, 32]));
    assert!(map.clone().chained(32).is_err() && map.clone().chained(0).is_err());
    let map = map.chained(16).unwrap();
    assert_eq!(map.rotations(), [1, 3, 16]);
    let encrypted: Vec<_> = x.iter().map(|x| bench.encrypt(x, level)).collect();
    let inputs: Vec<_> = encrypted.iter().collect();
    let apply = |inputs: &[&ckks::Ciphertext], primes| {
        bench.evaluator.linear_matrix_and_rescale(inputs, &map, primes, &bench.keys)
    };
    let fast = apply(&inputs, 1).unwrap();
    assert_eq!(fast.len(), 2);
    for (fast, expected) in fast.iter().zip(&expected) {
        assert_eq!(fast.level(), level - 1);
        bench.close(fast, expected, 1e-4);
    }
    let slow = apply(&inputs, 0).unwrap();
    bench.close(&bench.evaluator.rescale(&slow[1]).unwrap(), &expected[1], 1e-4);

    assert!(apply(&inputs[..5], 1).is_err(), "an input is missing");
    assert!(apply(&[], 1).is_err());
    let lower = bench.evaluator.drop_level(&encrypted[0], 2).unwrap();
    let mut mixed = inputs.clone();
    mixed[3] = &lower;
    assert!(apply(&mixed, 1).is_err(), "levels differ");
    terms.retain(|t| t.output == 1);
    assert!(matches!(LinearMatrix::new(terms), Err(ckks::Error::LinearMap(_))), "output 0 has no terms");
    assert!(LinearMatrix::new(vec![]).is_err());
}

#[test]
fn misuse_is_named() {
    let mut bench = Bench::new(2, 2, &[]);
    let x = bench.slots(1);
    let (a, b) = (bench.encrypt(&x, 2), bench.encrypt(&x, 1));
    assert!(matches!(bench.evaluator.add(&a, &b), Err(ckks::Error::LevelMismatch { .. })));
    let dropped = bench.evaluator.drop_level(&a, 1).unwrap();
    bench.close(&bench.evaluator.sub(&dropped, &b).unwrap(), &vec![Complex64::default(); x.len()], 4e-5);
    let doubled = bench.evaluator.mul_scalar(&b, 1.0, 2.0).unwrap();
    assert!(matches!(bench.evaluator.add(&b, &doubled), Err(ckks::Error::ScaleMismatch { .. })));
    assert!(matches!(bench.evaluator.rescale_by(&b, 2), Err(ckks::Error::Level { .. })));
    assert!(LinearTransform::new(Vec::new()).is_err());
}
