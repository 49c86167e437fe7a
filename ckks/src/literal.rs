//! What a file or a program states about a ring: plain numbers, unchecked.
//!
//! [`ParametersLiteral::plan`] checks them, and [`ParametersLiteral::build`] also prepares the transforms.

use crate::primes::MAX_PRIME_BITS;
use crate::security::{SecretDistribution, Security};

/// Plain numbers, as a file or a program states them; [`ParametersLiteral::build`] checks them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParametersLiteral {
    /// log2 of the ring degree N: 12 to 17 where security is asked for.
    pub log_ring_degree: u32,
    /// Size of each prime of the chain, q_0 first; at most 30 bits each. The number of levels is one less.
    pub modulus_bits: Vec<u32>,
    /// Size of each special prime; as many as the bound allows make key switching fast.
    pub special_bits: Vec<u32>,
    /// Distribution of the secret.
    pub secret: SecretDistribution,
    /// The security to check for.
    pub security: Security,
}

impl ParametersLiteral {
    /// A toy set of `levels` levels at 2^`log_ring_degree`, 30-bit primes, for tests: no security at all.
    pub fn insecure_toy(log_ring_degree: u32, levels: usize, special_primes: usize) -> Self {
        Self {
            log_ring_degree,
            modulus_bits: vec![MAX_PRIME_BITS; levels + 1],
            special_bits: vec![MAX_PRIME_BITS; special_primes],
            secret: SecretDistribution::UniformTernary,
            security: Security::InsecureForTests,
        }
    }
}
