//! Parameters: an unchecked literal of plain numbers becomes a checked, shared, immutable context.
//!
//! The chain q_0 .. q_L of small primes carries the message; a ciphertext at `level` l lives modulo q_0 .. q_l. Special
//! primes p_0 .. p_(k-1) exist only inside key switching. A key made for level l lives modulo q_0 .. q_l and as many special
//! primes as its shape takes, and every such modulus is held below the security bound. At lower levels it works with fewer special
//! primes. See [`KeyShape`].

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::galois::GaloisElement;
use crate::ntt::PrimeTable;
use crate::primes;
use crate::security::{SecretDistribution, Security};

/// Most limbs of the ciphertext modulus, and most special primes.
const MAX_LIMBS: usize = 128;
/// Most digits of a key switch: more would only be slow.
pub(crate) const MAX_DIGITS: usize = 8;
/// A tier of several digits over this many levels is halved: the lower half does with smaller digits and fewer special primes.
const HALVED_TIER: usize = 12;
/// Least and greatest log2 of the ring degree when nothing promises security.
const INSECURE_DEGREES: (u32, u32) = (5, 17);

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
    /// Checks the numbers, finds the primes and prepares the transforms.
    ///
    /// # Errors
    /// An [`Error`] naming the number that is out of range, and the bound that it breaks.
    pub fn build(&self) -> Result<Parameters> {
        Parameters::new(self)
    }

    /// A toy set of `levels` levels at 2^`log_ring_degree`, 30-bit primes, for tests: no security at all.
    pub fn insecure_toy(log_ring_degree: u32, levels: usize, special_primes: usize) -> Self {
        Self {
            log_ring_degree,
            modulus_bits: vec![30; levels + 1],
            special_bits: vec![30; special_primes],
            secret: SecretDistribution::UniformTernary,
            security: Security::InsecureForTests,
        }
    }
}

/// How a key switch cuts the modulus: digits of `digit_limbs` limbs, raised by `special` special primes.
///
/// One special prime more than a digit has limbs puts the noise of a key switch at the rounding floor. Few digits
/// and many special primes are fast; the security bound on q_0 .. q_l p_0 .. p_(special-1) is what limits them.
///
/// A key serves lower levels in a smaller shape ([`Self::at`]): a digit that is cut to fewer limbs needs fewer special primes. Every key
/// holds the product of *all* special primes times the secret, whatever it is cut to (`crate::key_switch` has the proof), so one key does
/// for all levels below its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyShape {
    /// Limbs in a digit (the last digit may have fewer).
    pub digit_limbs: usize,
    /// Special primes used.
    pub special: usize,
}

impl KeyShape {
    /// Digits that `limbs` limbs are cut into.
    pub fn digits(self, limbs: usize) -> usize {
        limbs.div_ceil(self.digit_limbs)
    }

    /// The shape in which a key of this shape switches ciphertexts of so many limbs.
    pub fn at(self, limbs: usize) -> Self {
        let digit_limbs = self.digit_limbs.min(limbs);
        Self { digit_limbs, special: digit_limbs + 1 }
    }
}

/// The range of levels whose keys cut the modulus into equally long digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyTier {
    /// Highest level of the tier.
    pub top_level: usize,
    /// The shape of a key made for that level; keys for lower levels have [`KeyShape::at`] of it.
    pub shape: KeyShape,
}

#[derive(Debug)]
struct Inner {
    literal: ParametersLiteral,
    degree: usize,
    /// The chain, then the special primes.
    tables: Vec<PrimeTable>,
    limbs: usize,
    /// Ascending by top level.
    tiers: Vec<KeyTier>,
    digest: [u8; 32],
}

/// Checked parameters with their primes and transforms. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Parameters(Arc<Inner>);

impl PartialEq for Parameters {
    fn eq(&self, other: &Self) -> bool {
        self.0.digest == other.0.digest
    }
}

fn log2_product(primes: &[u32]) -> f64 {
    primes.iter().map(|&q| f64::from(q).log2()).sum()
}

/// Checks that a count lies between 1 and the most possible.
fn check_count(what: &'static str, given: usize) -> Result<()> {
    if given == 0 || given > MAX_LIMBS {
        return Err(Error::Count { what, given, least: 1, most: MAX_LIMBS });
    }
    Ok(())
}

/// The tiers: for each number of digits the highest level it serves, and a smaller tier below where the range is wide.
///
/// `fits(limbs, special)` says whether the key modulus stays within the security bound.
fn plan_tiers(limbs: usize, special: usize, fits: impl Fn(usize, usize) -> bool) -> Vec<KeyTier> {
    let mut tiers: Vec<KeyTier> = Vec::new();
    let mut push = |limbs: usize, digits: usize| {
        let shape = KeyShape { digit_limbs: limbs.div_ceil(digits), special: limbs.div_ceil(digits) + 1 };
        tiers.push(KeyTier { top_level: limbs - 1, shape });
    };
    let mut below = 0;
    for digits in 1..=MAX_DIGITS {
        let reach = (below + 1..=limbs)
            .rev()
            .find(|&l| l.div_ceil(digits) < special && fits(l, l.div_ceil(digits) + 1));
        let Some(reach) = reach else { continue };
        if digits > 1 && reach - below >= HALVED_TIER {
            push(below + (reach - below) / 2, digits);
        }
        push(reach, digits);
        below = reach;
        if below == limbs {
            break;
        }
    }
    tiers
}

impl Parameters {
    fn new(literal: &ParametersLiteral) -> Result<Self> {
        let log_n = literal.log_ring_degree;
        let bound = literal.security.bound(log_n)?;
        if !(INSECURE_DEGREES.0..=INSECURE_DEGREES.1).contains(&log_n) {
            let (least, most) = INSECURE_DEGREES;
            return Err(Error::RingDegree { given: log_n, least, most });
        }
        let (limbs, special) = (literal.modulus_bits.len(), literal.special_bits.len());
        check_count("primes of the ciphertext modulus", limbs)?;
        check_count("special primes", special)?;
        let sizes: Vec<u32> = literal.modulus_bits.iter().chain(&literal.special_bits).copied().collect();
        let primes = primes::generate(log_n, &sizes)?;
        let key_bits =
            |l: usize, k: usize| log2_product(&primes[..l]) + log2_product(&primes[limbs..limbs + k]);
        let fits = |l: usize, k: usize| k <= special && bound.is_none_or(|b| key_bits(l, k) <= f64::from(b));
        if !fits(limbs, 1) {
            let (bound, given) = (bound.unwrap_or_default(), key_bits(limbs, 1));
            let excess = given - f64::from(bound);
            let mode = literal.security.describe();
            return Err(Error::Insecure { given, bound, excess, mode, log_ring_degree: log_n });
        }
        let tiers = plan_tiers(limbs, special, fits);
        if tiers.last().is_none_or(|tier| tier.top_level + 1 < limbs) {
            let given = (0..=special).rev().find(|&k| fits(limbs, k)).unwrap_or(0);
            let needed = limbs.div_ceil(MAX_DIGITS) + 1;
            return Err(Error::SpecialPrimes { given, needed, limbs, max_digits: MAX_DIGITS });
        }
        let degree = 1usize << log_n;
        use rayon::prelude::*;
        let tables = primes.par_iter().map(|&q| PrimeTable::new(q, degree)).collect();
        let digest = digest(literal, &primes);
        Ok(Self(Arc::new(Inner { literal: literal.clone(), degree, tables, limbs, tiers, digest })))
    }

    /// The numbers these parameters were built from.
    pub fn literal(&self) -> &ParametersLiteral {
        &self.0.literal
    }

    /// N, the number of coefficients.
    pub fn ring_degree(&self) -> usize {
        self.0.degree
    }

    /// N/2, the number of complex slots.
    pub fn slots(&self) -> usize {
        self.0.degree / 2
    }

    /// L, the level of a fresh ciphertext: the number of rescalings there are.
    pub fn max_level(&self) -> usize {
        self.0.limbs - 1
    }

    /// The prime q_i that a rescaling from level i divides by.
    ///
    /// # Panics
    /// If i exceeds the highest level.
    pub fn modulus(&self, i: usize) -> u32 {
        assert!(i < self.0.limbs, "level {i} of {}", self.0.limbs - 1);
        self.0.tables[i].modulus.value()
    }

    /// log2 of q_0 .. q_level.
    pub fn modulus_log2(&self, level: usize) -> f64 {
        self.0
            .tables
            .iter()
            .take(self.0.limbs.min(level + 1))
            .map(|t| f64::from(t.modulus.value()).log2())
            .sum()
    }

    /// Number of special primes.
    pub fn special_primes(&self) -> usize {
        self.0.tables.len() - self.0.limbs
    }

    /// Identifies the parameters: every key and ciphertext on the wire carries it.
    pub fn digest(&self) -> [u8; 32] {
        self.0.digest
    }

    /// The ranges of levels whose keys have equally long digits, lowest first.
    pub fn key_tiers(&self) -> &[KeyTier] {
        &self.0.tiers
    }

    /// The shape of a key made for `level`.
    ///
    /// # Panics
    /// If the level exceeds the highest.
    pub fn key_shape(&self, level: usize) -> KeyShape {
        let tier = self.0.tiers.iter().find(|tier| tier.top_level >= level);
        tier.unwrap_or_else(|| panic!("level {level} of {}", self.max_level())).shape.at(level + 1)
    }

    /// Bytes in memory of one key made for `level`; on the wire it takes half.
    ///
    /// # Panics
    /// If the level exceeds the highest.
    pub fn key_bytes(&self, level: usize) -> usize {
        let shape = self.key_shape(level);
        2 * shape.digits(level + 1) * (level + 1 + shape.special) * self.ring_degree() * 4
    }

    /// The automorphism that moves slots by `rotation`, to the left where it is positive.
    pub fn galois_element(&self, rotation: i64) -> GaloisElement {
        GaloisElement::rotation(rotation, self.ring_degree())
    }

    /// The automorphism that moves slots by `rotation`, to the left where it is positive, and conjugates every one.
    pub fn conjugating_element(&self, rotation: i64) -> GaloisElement {
        self.galois_element(rotation).conjugated(self.ring_degree())
    }

    /// Table of limb `i` of a polynomial with `limbs` limbs of the chain, followed by special ones.
    #[inline]
    pub(crate) fn table(&self, limbs: usize, i: usize) -> &PrimeTable {
        &self.0.tables[if i < limbs { i } else { self.0.limbs + i - limbs }]
    }

    /// Table of special prime `i`.
    pub(crate) fn special_table(&self, i: usize) -> &PrimeTable {
        &self.0.tables[self.0.limbs + i]
    }

    /// Checks that a level exists.
    pub(crate) fn check_level(&self, op: &'static str, level: usize) -> Result<()> {
        if level > self.max_level() {
            return Err(Error::Level { op, required: level, available: self.max_level() });
        }
        Ok(())
    }

    /// Checks that a scale is a number that the modulus of `level` can hold.
    pub(crate) fn check_scale(&self, op: &'static str, scale: f64, level: usize) -> Result<()> {
        let modulus_log2 = self.modulus_log2(level);
        if !(scale.is_finite() && scale > 0.0 && scale.log2() < modulus_log2) {
            return Err(Error::Scale { op, scale_log2: scale.log2(), modulus_log2 });
        }
        Ok(())
    }
}

fn digest(literal: &ParametersLiteral, primes: &[u32]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"veilray ckks parameters 1");
    hasher.update(&literal.log_ring_degree.to_le_bytes());
    hasher.update(&(literal.modulus_bits.len() as u64).to_le_bytes());
    hasher.update(&[literal.secret as u8, literal.security as u8]);
    for q in primes {
        hasher.update(&q.to_le_bytes());
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(log_n: u32, limbs: usize, special: usize) -> ParametersLiteral {
        ParametersLiteral {
            security: Security::Classical128,
            ..ParametersLiteral::insecure_toy(log_n, limbs - 1, special)
        }
    }

    #[test]
    fn the_bound_is_named() {
        let error = literal(13, 8, 1).build().unwrap_err();
        assert!(matches!(error, Error::Insecure { bound: 214, .. }), "{error}");
        assert!(literal(13, 5, 2).build().is_ok());
        assert!(matches!(literal(11, 1, 1).build(), Err(Error::RingDegree { .. })));
        assert!(matches!(literal(13, 6, 1).build(), Err(Error::SpecialPrimes { .. })));
    }

    #[test]
    fn every_tier_keeps_the_bound_and_the_spare_prime() {
        let parameters = literal(14, 9, 6).build().unwrap();
        let mut last = None;
        for tier in parameters.key_tiers() {
            assert!(tier.shape.special > tier.shape.digit_limbs);
            assert!(last < Some(tier.top_level));
            last = Some(tier.top_level);
        }
        assert_eq!(last, Some(8));
        assert_eq!(parameters.key_shape(0).digits(1), 1);
    }
}
