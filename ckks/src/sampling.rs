//! Random polynomials: uniform ones from public seeds, ternary secrets and Gaussian errors from the caller's source.
//!
//! Secrets and errors are drawn without a branch on their value. Public uniform halves are expanded with ChaCha12,
//! one stream per digit and prime, so that limbs can be expanded in any order, in parallel, and cut to a level.

use rand_chacha::ChaCha12Rng;
use rand_core::{CryptoRng, Rng, SeedableRng};
use rayon::prelude::*;
use zeroize::Zeroizing;

use crate::arith::Modulus;
use crate::parameters::Parameters;
use crate::poly::{Evaluation, Poly};

/// Standard deviation of the error, as in the tables of the security guidelines.
pub const ERROR_DEVIATION: f64 = 3.2;
/// Largest error: 6.25 standard deviations.
const ERROR_BOUND: usize = 20;
/// Stream number of the first special prime, beyond any prime of the chain.
const SPECIAL_STREAM: u64 = 1 << 16;

/// A seed from which a public uniform polynomial is expanded.
pub(crate) type Seed = [u8; 32];

#[cfg(feature = "secret-key")]
pub(crate) fn seed(rng: &mut impl CryptoRng) -> Seed {
    let mut seed = [0; 32];
    rng.fill_bytes(&mut seed);
    seed
}

/// Uniform residues by rejection from words of the prime's bit length; what is rejected is public and independent of the rest.
fn uniform_limb(rng: &mut ChaCha12Rng, m: Modulus, out: &mut [u32]) {
    let mask = u32::MAX >> m.value().leading_zeros();
    let mut bytes = [0u8; 4096];
    let mut filled = 0;
    while filled < out.len() {
        rng.fill_bytes(&mut bytes);
        for word in bytes.as_chunks::<4>().0 {
            let x = u32::from_le_bytes(*word) & mask;
            if filled == out.len() {
                break;
            }
            out[filled] = x;
            filled += usize::from(x < m.value());
        }
    }
}

/// The uniform polynomial number `index` of a seed, over q_0 .. and the first special primes.
pub(crate) fn uniform(
    parameters: &Parameters,
    seed: &Seed,
    index: u32,
    limbs: usize,
    special: usize,
) -> Poly<Evaluation> {
    let mut poly = Poly::scratch(parameters, limbs, special);
    poly.for_each_limb(parameters, |i, m, limb| {
        let prime = if i < limbs { i as u64 } else { SPECIAL_STREAM + (i - limbs) as u64 };
        let mut rng = ChaCha12Rng::from_seed(*seed);
        rng.set_stream(u64::from(index) << 32 | prime);
        uniform_limb(&mut rng, m, limb);
    });
    poly
}

/// Coefficients -1, 0 and 1 with equal probability, up to 2^-64.
pub(crate) fn ternary(rng: &mut impl CryptoRng, degree: usize) -> Zeroizing<Vec<i32>> {
    Zeroizing::new((0..degree).map(|_| ((u128::from(rng.next_u64()) * 3) >> 64) as i32 - 1).collect())
}

/// `weight` coefficients of -1 or 1, each with equal probability, at places chosen uniformly; all others 0.
///
/// Every coefficient gets a random key beside its value, and a sorting network puts them in the order of their keys: a shuffle
/// whose comparisons do not depend on the values, up to the order of equal keys, which a 62-bit key has once in 2^30 draws.
/// Source: Batcher, Sorting networks and their applications (1968), the bitonic sorter.
#[cfg(feature = "secret-key")]
pub(crate) fn sparse(rng: &mut impl CryptoRng, degree: usize, weight: usize) -> Zeroizing<Vec<i32>> {
    debug_assert!(degree.is_power_of_two() && weight <= degree);
    // The lowest two bits are the value plus one, the others the key.
    let mut words: Zeroizing<Vec<u64>> = Zeroizing::new(
        (0..degree)
            .map(|i| {
                let word = rng.next_u64();
                let value = if i < weight { (word & 1) << 1 } else { 1 };
                word >> 2 << 2 | value
            })
            .collect(),
    );
    let mut length = 2;
    while length <= degree {
        let mut distance = length / 2;
        while distance > 0 {
            for i in 0..degree {
                let other = i ^ distance;
                if other > i {
                    let (low, high) = (words[i].min(words[other]), words[i].max(words[other]));
                    (words[i], words[other]) = if i & length == 0 { (low, high) } else { (high, low) };
                }
            }
            distance /= 2;
        }
        length *= 2;
    }
    Zeroizing::new(words.iter().map(|word| (word & 3) as i32 - 1).collect())
}

/// Discrete Gaussian coefficients of deviation [`ERROR_DEVIATION`]: the magnitude is the number of tail probabilities above a uniform
/// word, all of which are compared.
pub(crate) fn gaussian(rng: &mut impl CryptoRng, degree: usize) -> Zeroizing<Vec<i32>> {
    let weight = |k: usize| (-((k * k) as f64) / (2.0 * ERROR_DEVIATION * ERROR_DEVIATION)).exp();
    let total = 1.0 + 2.0 * (1..=ERROR_BOUND).map(weight).sum::<f64>();
    let mut tails = [0u64; ERROR_BOUND];
    for (k, tail) in tails.iter_mut().enumerate() {
        let mass = 2.0 * (k + 1..=ERROR_BOUND).rev().map(weight).sum::<f64>() / total;
        *tail = (mass * (1u64 << 63) as f64) as u64;
    }
    let mut words = Zeroizing::new(vec![0u8; 8 * degree]);
    rng.fill_bytes(&mut words);
    let sample = |word: &[u8; 8]| {
        let word = u64::from_le_bytes(*word);
        let magnitude: i32 = tails.iter().map(|&tail| i32::from(word >> 1 < tail)).sum();
        let sign = (word & 1) as i32;
        (magnitude ^ -sign) + sign
    };
    let mut out = Zeroizing::new(vec![0i32; degree]);
    let words = words.as_chunks::<8>().0;
    out.par_chunks_mut(4096).zip(words.par_chunks(4096)).for_each(|(out, words)| {
        for (x, word) in out.iter_mut().zip(words) {
            *x = sample(word);
        }
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::literal::ParametersLiteral;

    #[test]
    fn moments_are_two_sided() {
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        let n = 1 << 16;
        let moment = |v: &[i32], k: i32| v.iter().map(|&x| f64::from(x).powi(k)).sum::<f64>() / n as f64;
        let error = gaussian(&mut rng, n);
        assert!(moment(&error, 1).abs() < 0.06);
        assert!((moment(&error, 2).sqrt() / ERROR_DEVIATION - 1.0).abs() < 0.02);
        let secret = ternary(&mut rng, n);
        assert!((moment(&secret, 2) - 2.0 / 3.0).abs() < 0.01);
        assert!(moment(&secret, 1).abs() < 0.015);
    }

    #[test]
    #[cfg(feature = "secret-key")]
    fn sparse_secrets_have_their_weight_anywhere() {
        let mut rng = ChaCha12Rng::seed_from_u64(2);
        let (n, weight, draws) = (256, 24, 4000);
        let mut counts = vec![0u32; n];
        let mut positive = 0;
        for _ in 0..draws {
            let secret = sparse(&mut rng, n, weight);
            assert_eq!(secret.iter().filter(|&&x| x != 0).count(), weight);
            assert!(secret.iter().all(|x| (-1..=1).contains(x)));
            secret.iter().zip(&mut counts).for_each(|(x, count)| *count += x.unsigned_abs());
            positive += secret.iter().filter(|&&x| x == 1).count();
        }
        // Chi squared with 255 degrees of freedom: 255 with deviation 22.6, less what the fixed weight takes.
        let expected = (draws * weight) as f64 / n as f64;
        let chi: f64 = counts.iter().map(|&c| (f64::from(c) - expected).powi(2) / expected).sum();
        assert!((150.0..350.0).contains(&chi), "{chi}");
        let share = positive as f64 / (draws * weight) as f64;
        assert!((share - 0.5).abs() < 0.007, "{share}");
    }

    #[test]
    fn uniform_limbs_do_not_depend_on_the_cut() {
        let parameters = ParametersLiteral::insecure_toy(6, 3, 2).build().unwrap();
        let long = uniform(&parameters, &[7; 32], 1, 4, 2);
        let short = uniform(&parameters, &[7; 32], 1, 2, 1);
        assert_eq!(long.limb(1), short.limb(1));
        assert_eq!(long.limb(4), short.limb(2));
        assert_ne!(long.limb(0), uniform(&parameters, &[7; 32], 2, 1, 0).limb(0));
        for i in 0..4 {
            assert!(long.limb(i).iter().all(|&x| x < parameters.modulus(i)));
        }
    }
}
