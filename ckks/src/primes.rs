//! Primes congruent to 1 modulo 2N, and the root of unity that fixes the evaluation order.
//!
//! Primes of a given size are taken in the order of their distance from 2^bits (below 2^30), so that a scale of 2^bits
//! drifts as little as possible over a long chain. The 2N-th root is the one found by taking square roots of -1
//! with Tonelli-Shanks from the least non-residue: a rule, not a choice, because keys and ciphertexts travel in
//! evaluation form and both ends must agree on the order.

use std::collections::BTreeMap;

use crate::arith::Modulus;
use crate::error::{Error, Result};

/// Largest size of a prime: one limb of 32 bits with two bits to spare for lazy sums.
pub const MAX_PRIME_BITS: u32 = 30;

/// Deterministic Miller-Rabin: the bases 2, 3, 5 and 7 decide every number below 3.2e9.
fn is_prime(n: u32) -> bool {
    if n < 11 {
        return matches!(n, 2 | 3 | 5 | 7);
    }
    if n.is_multiple_of(2) || n.is_multiple_of(3) || n.is_multiple_of(5) || n.is_multiple_of(7) {
        return false;
    }
    let modulus = Modulus::new(n);
    let twos = (n - 1).trailing_zeros();
    [2u32, 3, 5, 7].iter().all(|&base| {
        let mut x = modulus.pow(base, u64::from((n - 1) >> twos));
        if x == 1 || x == n - 1 {
            return true;
        }
        (1..twos).any(|_| {
            x = modulus.mul(x, x);
            x == n - 1
        })
    })
}

/// Least prime size at a ring degree: below it, too few candidates are 1 modulo 2N.
pub(crate) fn least_bits(log_ring_degree: u32) -> u32 {
    log_ring_degree + 3
}

/// Distinct primes with the sizes in `bits`, each = 1 mod 2N and below 2^30, avoiding none of the earlier ones twice.
pub(crate) fn generate(log_ring_degree: u32, bits: &[u32]) -> Result<Vec<u32>> {
    let step = 2u64 << log_ring_degree;
    let mut taken: Vec<u32> = Vec::with_capacity(bits.len());
    // Each size goes on where it stopped: what lies before is taken or no prime.
    let mut sizes = BTreeMap::new();
    for &size in bits {
        let least = least_bits(log_ring_degree);
        if size < least || size > MAX_PRIME_BITS {
            return Err(Error::ModulusBits { bits: size, least });
        }
        let candidates = sizes.entry(size).or_insert_with(|| candidates(size, step));
        let next = candidates.find(|c| !taken.contains(c) && is_prime(*c));
        taken.push(next.ok_or(Error::PrimesExhausted { bits: size, step })?);
    }
    Ok(taken)
}

/// Numbers = 1 modulo `step` at growing distance from 2^size: above, then below, within a factor of sqrt(2).
fn candidates(size: u32, step: u64) -> impl Iterator<Item = u32> {
    let centre = 1u64 << size;
    let reach = centre / 3;
    (0u64..)
        .take_while(move |i| i * step <= reach)
        .flat_map(move |i| [centre + 1 + i * step, centre + 1 - (i + 1) * step])
        .filter(|&c| c < 1 << MAX_PRIME_BITS)
        .map(|c| c as u32)
}

/// A square root of `n` modulo a prime (Tonelli-Shanks), with `z` a non-residue.
fn square_root(modulus: Modulus, z: u32, n: u32) -> u32 {
    let twos = (modulus.value() - 1).trailing_zeros();
    let odd = u64::from((modulus.value() - 1) >> twos);
    let mut m = twos;
    let mut c = modulus.pow(z, odd);
    let mut t = modulus.pow(n, odd);
    let mut r = modulus.pow(n, odd.div_ceil(2));
    while t != 1 {
        let mut i = 0;
        let mut power = t;
        while power != 1 {
            power = modulus.mul(power, power);
            i += 1;
        }
        let b = modulus.pow(c, 1 << (m - i - 1));
        m = i;
        c = modulus.mul(b, b);
        t = modulus.mul(t, c);
        r = modulus.mul(r, b);
    }
    r
}

/// The primitive 2N-th root psi: -1, and then log2(N) square roots.
pub(crate) fn root_of_unity(modulus: Modulus, ring_degree: usize) -> u32 {
    let q = modulus.value();
    let z = (2..q).find(|&z| modulus.pow(z, u64::from((q - 1) / 2)) == q - 1).unwrap_or(q - 1);
    (0..ring_degree.trailing_zeros()).fold(q - 1, |root, _| square_root(modulus, z, root))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primes_are_distinct_and_congruent() {
        let bits = vec![30; 60].into_iter().chain([28; 10]).collect::<Vec<_>>();
        let primes = generate(16, &bits).unwrap();
        for (i, &p) in primes.iter().enumerate() {
            assert_eq!(p % (1 << 17), 1);
            assert!(p < 1 << 30 && is_prime(p) && !primes[..i].contains(&p));
            assert!((f64::from(p).log2() - f64::from(bits[i])).abs() < 0.5);
        }
        assert!(matches!(generate(16, &[31]), Err(Error::ModulusBits { .. })));
        assert!(matches!(generate(16, &[20; 9]), Err(Error::PrimesExhausted { .. })));
    }

    #[test]
    fn roots_have_exact_order() {
        for log_degree in [5, 12, 16] {
            let modulus = Modulus::new(generate(log_degree, &[30]).unwrap()[0]);
            let psi = root_of_unity(modulus, 1 << log_degree);
            assert_eq!(modulus.pow(psi, 1 << log_degree), modulus.value() - 1);
        }
    }
}
