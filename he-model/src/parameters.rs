//! The ring in plain numbers: what a model file states, and the bound that security puts on it.
//!
//! This crate does not compute in the ring; the numbers are enough to predict levels, cost and memory. The crate
//! that does checks them again.

use serde::{Deserialize, Serialize};

use crate::ModelError;

/// log2(N) with the most bits that log2(QP) may have at 128 bits of classical security, ternary secret: security
/// guidelines for implementing homomorphic encryption (eprint 2024/463).
const BOUNDS: [(u32, u32); 6] = [(12, 106), (13, 214), (14, 430), (15, 868), (16, 1747), (17, 3523)];

/// log2 of the largest ring degree that the table has.
pub const LARGEST_DEGREE: u32 = 17;

/// Bits of every prime: one 32-bit limb with room for lazy sums.
pub const PRIME_BITS: u32 = 30;

/// Most digits of a key switch.
const MAX_DIGITS: usize = 8;

/// A tier of several digits over this many levels is halved.
const HALVED_TIER: usize = 12;

/// What the parameters promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecurityLevel {
    /// 128 bits against classical attacks.
    Classical128,
    /// Nothing: for tests on small rings.
    InsecureForTests,
}

/// Ring degree and sizes of the primes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RingParameters {
    /// log2 of the ring degree N.
    pub log_ring_degree: u32,
    /// Bits of each prime of the chain, q_0 first.
    pub modulus_bits: Vec<u32>,
    /// Bits of each special prime.
    pub special_bits: Vec<u32>,
    /// What is promised.
    pub security: SecurityLevel,
    /// Tiers, by their highest level, for which no keys are made: those of the next tier serve instead. Fewer keys in all where many
    /// rotations happen in both, at the cost of larger keys at the lower levels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped_tiers: Vec<usize>,
}

/// Levels whose keys cut the modulus into equally long digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tier {
    /// Highest level.
    pub top_level: usize,
    /// Digits there; fewer at lower levels, where the same digits reach.
    pub digits: usize,
    /// Special primes there; at lower levels one more than a digit has limbs.
    pub special: usize,
}

impl RingParameters {
    /// Parameters with `limbs` primes, and as many special primes as are useful and the bound allows.
    ///
    /// # Errors
    /// [`ModelError::NoParameters`] saying how many bits are missing.
    pub fn choose(log_ring_degree: u32, limbs: usize, security: SecurityLevel) -> Result<Self, ModelError> {
        let bound = bound(log_ring_degree, security)?;
        let chain = limbs as u32 * PRIME_BITS;
        let least = Self::least_special(limbs);
        let room = (bound.saturating_sub(chain) / PRIME_BITS) as usize;
        if chain > bound || room < least {
            let needed = chain + least as u32 * PRIME_BITS;
            let reason = format!(
                "{limbs} primes of {PRIME_BITS} bits and {least} special ones take {needed} bits; at ring degree 2^{log_ring_degree} and 128 bits of security there are {bound}"
            );
            return Err(ModelError::NoParameters { reason });
        }
        let special = room.min(limbs + 1);
        Ok(Self {
            log_ring_degree,
            modulus_bits: vec![PRIME_BITS; limbs],
            special_bits: vec![PRIME_BITS; special],
            security,
            skipped_tiers: vec![],
        })
    }

    /// Fewest special primes for `limbs` primes: one digit's and a spare one.
    pub(crate) fn least_special(limbs: usize) -> usize {
        limbs.div_ceil(MAX_DIGITS) + 1
    }

    /// N.
    #[must_use]
    pub fn ring_degree(&self) -> usize {
        1 << self.log_ring_degree
    }

    /// N / 2.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.ring_degree() / 2
    }

    /// log2(Q P), an upper bound.
    #[must_use]
    pub fn total_bits(&self) -> u32 {
        self.modulus_bits.iter().chain(&self.special_bits).sum()
    }

    /// The ranges of levels whose keys have equally long digits: for each number of digits the highest level that the bound allows,
    /// and one in the middle of a wide range.
    #[must_use]
    pub fn tiers(&self) -> Vec<Tier> {
        let mut tiers = self.all_tiers();
        tiers.retain(|t| !self.skipped_tiers.contains(&t.top_level));
        tiers
    }

    /// The lowest level from `level` on whose keys have the shape that serves `level`: where its own tier is skipped, the lowest of
    /// the next one.
    #[must_use]
    pub fn key_level(&self, level: usize) -> usize {
        let skipped = self.all_tiers().into_iter().filter(|t| self.skipped_tiers.contains(&t.top_level));
        skipped
            .filter(|t| t.top_level >= level)
            .take_while(|t| {
                // Only the run of skipped tiers that starts at the level's own one.
                self.tiers().iter().all(|kept| kept.top_level < level || kept.top_level > t.top_level)
            })
            .map(|t| t.top_level + 1)
            .last()
            .unwrap_or(level)
    }

    /// The tiers with those for which no keys are made.
    fn all_tiers(&self) -> Vec<Tier> {
        let bound = bound(self.log_ring_degree, self.security).unwrap_or(u32::MAX);
        let fits = |limbs: usize, digits: usize| {
            let special = limbs.div_ceil(digits) + 1;
            special <= self.special_bits.len() && (limbs + special) as u32 * PRIME_BITS <= bound
        };
        let shape = |limbs: usize, digits: usize| {
            let special = limbs.div_ceil(digits) + 1;
            Tier { top_level: limbs - 1, digits, special }
        };
        let (mut tiers, mut below) = (vec![], 0);
        for digits in 1..=MAX_DIGITS {
            let reach = (below + 1..=self.modulus_bits.len()).rev().find(|limbs| fits(*limbs, digits));
            let Some(reach) = reach else { continue };
            if digits > 1 && reach - below >= HALVED_TIER {
                tiers.push(shape(below + (reach - below) / 2, digits));
            }
            tiers.push(shape(reach, digits));
            below = reach;
            if below == self.modulus_bits.len() {
                break;
            }
        }
        tiers
    }

    /// Digits and special primes of a key switch at `level`.
    #[must_use]
    pub fn key_shape(&self, level: usize) -> (usize, usize) {
        let tier = self.tiers().into_iter().find(|t| t.top_level >= level);
        tier.map_or((MAX_DIGITS, self.special_bits.len()), |t| {
            let digit_limbs = (t.top_level + 1).div_ceil(t.digits).min(level + 1);
            ((level + 1).div_ceil(digit_limbs), digit_limbs + 1)
        })
    }

    /// Bytes in memory of one key for `level`: two polynomials a digit.
    #[must_use]
    pub fn key_bytes(&self, level: usize) -> usize {
        let (digits, special) = self.key_shape(level);
        2 * digits * (level + 1 + special) * self.ring_degree() * 4
    }

    /// Bytes of a ciphertext at `level`.
    #[must_use]
    pub fn ciphertext_bytes(&self, level: usize) -> usize {
        2 * (level + 1) * self.ring_degree() * 4
    }
}

/// Most bits of log2(QP).
///
/// # Errors
/// A ring degree that the table does not have.
pub fn bound(log_ring_degree: u32, security: SecurityLevel) -> Result<u32, ModelError> {
    if security == SecurityLevel::InsecureForTests {
        return Ok(u32::MAX);
    }
    BOUNDS.iter().find(|(n, _)| *n == log_ring_degree).map(|(_, bits)| *bits).ok_or_else(|| {
        let reason = format!("there is no security bound for a ring degree of 2^{log_ring_degree}");
        ModelError::NoParameters { reason }
    })
}
