//! What a file or a program states about a ring: plain numbers, unchecked.
//!
//! [`ParametersLiteral::plan`] checks them, and [`ParametersLiteral::build`] also prepares the transforms.

use crate::bootstrap::literal::BootstrapLiteral;
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
    /// How ciphertexts are bootstrapped, if they are.
    pub bootstrap: Option<BootstrapLiteral>,
}

impl ParametersLiteral {
    /// Ring degree 2^16, 128 bits of classical security, bootstrapping with [`BootstrapLiteral::standard`], and 20 primes of 30 bits
    /// between one bootstrap and the next.
    ///
    /// log2(QP) is 1735 of 1747: 43 bits of q_0 (20 and 23), 60 for slots to coefficients, 600 left, 432 for the sine in 16
    /// primes of 27 bits, 120 for coefficients to slots, and 16 special primes, which allow three digits at the top.
    pub fn bootstrapping() -> Self {
        let parts: [(u32, usize); 5] = [(20, 1), (23, 1), (30, 2 + 20), (27, 16), (30, 4)];
        Self {
            log_ring_degree: 16,
            modulus_bits: parts.into_iter().flat_map(|(bits, count)| vec![bits; count]).collect(),
            special_bits: vec![MAX_PRIME_BITS; 16],
            secret: SecretDistribution::UniformTernary,
            security: Security::Classical128,
            bootstrap: Some(BootstrapLiteral::standard()),
        }
    }

    /// A toy set of `levels` levels at 2^`log_ring_degree`, 30-bit primes, for tests: no security at all.
    pub fn insecure_toy(log_ring_degree: u32, levels: usize, special_primes: usize) -> Self {
        Self {
            log_ring_degree,
            modulus_bits: vec![MAX_PRIME_BITS; levels + 1],
            special_bits: vec![MAX_PRIME_BITS; special_primes],
            secret: SecretDistribution::UniformTernary,
            security: Security::InsecureForTests,
            bootstrap: None,
        }
    }
}
