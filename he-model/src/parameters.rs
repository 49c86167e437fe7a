//! The ring of a model: what its file states, and what the scheme's own plan makes of it.
//!
//! Bounds, primes, tiers and sizes are [`ckks::RingPlan`]'s, the code that the ciphertexts' parameters are made of. What
//! stands here is the literal of a model file, and the choice of tiers for which no keys are made.

use std::ops::Deref;

use serde::{Deserialize, Serialize};

pub use ckks::Security as SecurityLevel;
use ckks::{KeyShape, KeyTier, MAX_PRIME_BITS, ParametersLiteral, RingPlan, SecretDistribution};

use crate::ModelError;

/// Bits of the primes of [`RingParameters::choose`]: one prime a level, as large as a limb holds.
pub const PRIME_BITS: u32 = MAX_PRIME_BITS;

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

impl RingParameters {
    /// Parameters with `limbs` primes, and as many special primes as are useful and the bound allows.
    ///
    /// # Errors
    /// [`ModelError::Ring`] saying how many bits or primes are missing.
    pub fn choose(log_ring_degree: u32, limbs: usize, security: SecurityLevel) -> Result<Self, ModelError> {
        Self::with_chain(log_ring_degree, vec![PRIME_BITS; limbs], security)
    }

    /// Parameters with primes of these sizes, q_0 first, and as many special primes as are useful and the bound allows.
    ///
    /// # Errors
    /// As [`Self::choose`].
    pub fn with_chain(
        log_ring_degree: u32,
        modulus_bits: Vec<u32>,
        security: SecurityLevel,
    ) -> Result<Self, ModelError> {
        let literal =
            ParametersLiteral::with_special_primes(log_ring_degree, modulus_bits, PRIME_BITS, security)?;
        let ParametersLiteral { modulus_bits, special_bits, .. } = literal;
        Ok(Self { log_ring_degree, modulus_bits, special_bits, security, skipped_tiers: vec![] })
    }

    /// N / 2.
    #[must_use]
    pub fn slots(&self) -> usize {
        1 << (self.log_ring_degree - 1)
    }

    /// The ring, planned and checked by the scheme.
    ///
    /// # Errors
    /// [`ModelError::Ring`] for what the scheme refuses, [`ModelError::SkippedTier`] for a tier that there is not.
    pub fn plan(&self) -> Result<Ring, ModelError> {
        let plan = ParametersLiteral {
            log_ring_degree: self.log_ring_degree,
            modulus_bits: self.modulus_bits.clone(),
            special_bits: self.special_bits.clone(),
            secret: SecretDistribution::UniformTernary,
            security: self.security,
            bootstrap: None,
        }
        .plan()?;
        Ring { kept: plan.key_tiers().to_vec(), plan }.skipping(&self.skipped_tiers)
    }
}

/// A planned ring with the tiers that keys are made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ring {
    plan: RingPlan,
    /// Ascending; the highest tier is always among them.
    kept: Vec<KeyTier>,
}

impl Deref for Ring {
    type Target = RingPlan;

    fn deref(&self) -> &RingPlan {
        &self.plan
    }
}

impl Ring {
    /// The same ring without keys for these tiers, named by their highest levels.
    ///
    /// # Errors
    /// [`ModelError::SkippedTier`] for a level that is not the highest one of a tier, and for the highest tier, which no other
    /// can serve.
    pub fn skipping(&self, tops: &[usize]) -> Result<Self, ModelError> {
        let all = self.plan.key_tiers();
        let below = &all[..all.len() - 1];
        if let Some(&level) = tops.iter().find(|top| below.iter().all(|tier| tier.top_level != **top)) {
            let tiers = below.iter().map(|tier| tier.top_level).collect();
            return Err(ModelError::SkippedTier { level, tiers });
        }
        let kept = all.iter().filter(|tier| !tops.contains(&tier.top_level)).copied().collect();
        Ok(Self { plan: self.plan.clone(), kept })
    }

    /// The tiers that keys are made for, lowest first.
    #[must_use]
    pub fn tiers(&self) -> &[KeyTier] {
        &self.kept
    }

    /// The lowest level from `level` on whose keys have the shape that serves `level`: where its own tier is skipped, the lowest of
    /// the next one that is not. A level that the ring does not have, which may come from elsewhere, is left for the scheme to refuse.
    #[must_use]
    pub fn key_level(&self, level: usize) -> usize {
        let Some(serving) = self.kept.iter().find(|tier| tier.top_level >= level) else { return level };
        let tops = self.plan.key_tiers().iter().map(|tier| tier.top_level);
        let below = tops.take_while(|top| *top < serving.top_level).last();
        below.map_or(level, |below| level.max(below + 1))
    }

    /// How a key switch at `level` cuts the modulus, with the keys that there are.
    ///
    /// # Panics
    /// If the level exceeds the highest.
    #[must_use]
    pub fn switch_shape(&self, level: usize) -> KeyShape {
        self.plan.key_shape(self.key_level(level)).at(level + 1)
    }

    /// The primes of the chain as numbers, q_0 first.
    #[must_use]
    pub fn primes(&self) -> Vec<f64> {
        self.plan.moduli().iter().map(|q| f64::from(*q)).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// 20 primes at 2^15 leave room for few special ones, so that there are several tiers.
    fn tiered() -> RingParameters {
        RingParameters::choose(15, 20, SecurityLevel::Classical128).unwrap()
    }

    #[test]
    fn a_skipped_tier_is_served_by_the_next_one_kept() {
        let ring = tiered().plan().unwrap();
        let tops: Vec<usize> = ring.tiers().iter().map(|tier| tier.top_level).collect();
        assert!(tops.len() > 2, "{tops:?}");
        for skipped in [vec![], vec![tops[0]], vec![tops[1]], tops[..tops.len() - 1].to_vec()] {
            let fewer = ring.skipping(&skipped).unwrap();
            assert_eq!(fewer.tiers().len(), tops.len() - skipped.len());
            for level in 0..=ring.max_level() {
                let tier = fewer.tiers().iter().find(|tier| tier.top_level >= level).unwrap();
                assert_eq!(fewer.switch_shape(level), tier.shape.at(level + 1), "{skipped:?} at {level}");
                // The lowest level from here on that is in the tier, so that no key is larger than it has to be.
                let key_level = fewer.key_level(level);
                let own = |l: &usize| tops.iter().find(|top| *top >= l) == Some(&tier.top_level);
                assert_eq!((level..=ring.max_level()).find(own), Some(key_level), "{skipped:?} at {level}");
            }
        }
    }

    #[test]
    fn a_tier_that_cannot_be_skipped_is_refused() {
        let top = tiered().plan().unwrap().max_level();
        for level in [top, 0, 1000] {
            let ring = RingParameters { skipped_tiers: vec![level], ..tiered() };
            let error = ring.plan().unwrap_err();
            assert!(matches!(error, ModelError::SkippedTier { level: l, .. } if l == level), "{error}");
        }
    }

    #[test]
    fn primes_of_several_sizes_are_stated_and_planned() {
        let chain = [vec![24; 2], vec![30; 2], vec![25; 8], vec![28; 3]].concat();
        let stated = RingParameters::with_chain(15, chain, SecurityLevel::Quantum128).unwrap();
        let text = serde_json::to_string(&stated).unwrap();
        assert!(
            text.contains("\"modulus_bits\":[24,24,30,30,25") && text.contains("\"quantum128\""),
            "{text}"
        );
        let read: RingParameters = serde_json::from_str(&text).unwrap();
        assert_eq!(read, stated);
        let ring = read.plan().unwrap();
        for (prime, bits) in ring.primes().iter().zip(&stated.modulus_bits) {
            assert!((prime.log2() - f64::from(*bits)).abs() < 0.5);
        }
        // What ciphertexts are made with, is the same plan.
        let parameters = ring.literal().build().unwrap();
        assert_eq!(*parameters, *ring);
    }
}
