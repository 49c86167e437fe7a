//! The plan of a ring: its primes, the bound they keep, and the shapes and sizes of keys and ciphertexts.
//!
//! Everything here is computed from the numbers of a [`ParametersLiteral`] alone, without transforms and without keys, in about a
//! millisecond: whoever plans circuits asks the same code that [`crate::Parameters`] are made of.
//!
//! The chain q_0 .. q_L of small primes carries the message; a ciphertext at `level` l lives modulo q_0 .. q_l. Special
//! primes p_0 .. p_(k-1) exist only inside key switching. A key made for level l lives modulo q_0 .. q_l and as many special
//! primes as its shape takes, and every such modulus is held below the security bound. At lower levels it works with fewer special
//! primes. See [`KeyShape`].

use crate::bootstrap::plan::{BootstrapPlan, TO_SPARSE_SPECIAL};
use crate::error::{Error, Result};
use crate::galois::GaloisElement;
use crate::literal::ParametersLiteral;
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
/// Bytes of a residue in memory.
pub(crate) const LIMB_BYTES: usize = size_of::<u32>();

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
    /// The shape that cuts so many limbs into so many digits.
    fn cut(limbs: usize, digits: usize) -> Self {
        let digit_limbs = limbs.div_ceil(digits);
        Self { digit_limbs, special: digit_limbs + 1 }
    }

    /// Fewest special primes with which keys over so many limbs can be switched.
    pub fn least_special(limbs: usize) -> usize {
        Self::cut(limbs, MAX_DIGITS).special
    }

    /// Digits that `limbs` limbs are cut into.
    pub fn digits(self, limbs: usize) -> usize {
        limbs.div_ceil(self.digit_limbs)
    }

    /// The shape in which a key of this shape switches ciphertexts of so many limbs.
    pub fn at(self, limbs: usize) -> Self {
        Self::cut(self.digit_limbs.min(limbs), 1)
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

/// A literal that was checked, with its primes and the tiers of its keys.
///
/// ```
/// use ckks::{Error, ParametersLiteral, Security};
///
/// let chain = vec![30; 10];
/// let literal = ParametersLiteral::with_special_primes(14, chain, 30, Security::Classical128)?;
/// let plan = literal.plan()?;
/// assert_eq!((plan.max_level(), plan.special_primes(), plan.key_shape(9).digits(10)), (9, 4, 4));
/// println!("a rotation key takes {} bytes at the top, {} at level 1", plan.key_bytes(9), plan.key_bytes(1));
///
/// let too_long = ParametersLiteral::with_special_primes(14, vec![30; 15], 30, Security::Classical128);
/// assert!(matches!(too_long, Err(Error::Insecure { bound: 430, .. })));
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingPlan {
    literal: ParametersLiteral,
    /// The chain, then the special primes.
    primes: Vec<u32>,
    /// Ascending by top level.
    tiers: Vec<KeyTier>,
    digest: [u8; 32],
    pub(crate) bootstrap: Option<BootstrapPlan>,
}

impl ParametersLiteral {
    /// A chain with as many special primes of `special_bits` as are of use, one more than the chain has primes, and as the
    /// security bound leaves room for when every prime counts with its stated size.
    ///
    /// # Errors
    /// As [`Self::plan`]: a chain that leaves too little room for special primes is refused.
    pub fn with_special_primes(
        log_ring_degree: u32,
        modulus_bits: Vec<u32>,
        special_bits: u32,
        security: Security,
    ) -> Result<Self> {
        let room = match security.bound(log_ring_degree)? {
            Some(bound) => bound.saturating_sub(modulus_bits.iter().sum()) / special_bits.max(1),
            None => u32::MAX,
        };
        // Without room for one the plan below says by how much the bound is broken.
        let special = (room as usize).min(modulus_bits.len() + 1).clamp(1, MAX_LIMBS);
        let literal = Self {
            log_ring_degree,
            modulus_bits,
            special_bits: vec![special_bits; special],
            secret: SecretDistribution::UniformTernary,
            security,
            bootstrap: None,
        };
        literal.plan().map(|_| literal)
    }

    /// Checks the numbers, finds the primes and divides the levels into tiers.
    ///
    /// # Errors
    /// An [`Error`] naming the number that is out of range, and the bound that it breaks.
    pub fn plan(&self) -> Result<RingPlan> {
        let log_n = self.log_ring_degree;
        let bound = self.security.bound(log_n)?;
        if !(INSECURE_DEGREES.0..=INSECURE_DEGREES.1).contains(&log_n) {
            let (least, most) = INSECURE_DEGREES;
            return Err(Error::RingDegree { given: log_n, least, most });
        }
        let (limbs, special) = (self.modulus_bits.len(), self.special_bits.len());
        check_count("primes of the ciphertext modulus", limbs)?;
        check_count("special primes", special)?;
        let sizes: Vec<u32> = self.modulus_bits.iter().chain(&self.special_bits).copied().collect();
        let primes = primes::generate(log_n, &sizes)?;
        let key_bits =
            |l: usize, k: usize| log2_product(&primes[..l]) + log2_product(&primes[limbs..limbs + k]);
        let fits = |l: usize, k: usize| k <= special && bound.is_none_or(|b| key_bits(l, k) <= f64::from(b));
        if !fits(limbs, 1) {
            let (bound, given) = (bound.unwrap_or_default(), key_bits(limbs, 1));
            let excess = given - f64::from(bound);
            let mode = self.security.describe();
            return Err(Error::Insecure { given, bound, excess, mode, log_ring_degree: log_n });
        }
        let tiers = plan_tiers(limbs, fits);
        if tiers.last().is_none_or(|tier| tier.top_level + 1 < limbs) {
            let given = (0..=special).rev().find(|&k| fits(limbs, k)).unwrap_or(0);
            let needed = KeyShape::least_special(limbs);
            return Err(Error::SpecialPrimes { given, needed, limbs, max_digits: MAX_DIGITS });
        }
        let digest = digest(self, &primes);
        let bootstrap = match &self.bootstrap {
            Some(literal) => {
                let plan = BootstrapPlan::new(literal, 1 << log_n, limbs, special)?;
                // The largest modulus of which a sample under the sparse secret is given away.
                let bits = log2_product(&primes[..literal.base])
                    + log2_product(&primes[limbs..limbs + TO_SPARSE_SPECIAL]);
                self.security.check_sparse(log_n, literal.sparse_weight, bits)?;
                Some(plan)
            }
            None => None,
        };
        Ok(RingPlan { literal: self.clone(), primes, tiers, digest, bootstrap })
    }
}

impl RingPlan {
    /// The numbers that were checked.
    pub fn literal(&self) -> &ParametersLiteral {
        &self.literal
    }

    /// N, the number of coefficients.
    pub fn ring_degree(&self) -> usize {
        1 << self.literal.log_ring_degree
    }

    /// N/2, the number of complex slots.
    pub fn slots(&self) -> usize {
        self.ring_degree() / 2
    }

    /// L, the level of a fresh ciphertext: the number of rescalings there are.
    pub fn max_level(&self) -> usize {
        self.literal.modulus_bits.len() - 1
    }

    /// The primes of the chain, q_0 first; a rescaling from level i divides by q_i.
    pub fn moduli(&self) -> &[u32] {
        &self.primes[..=self.max_level()]
    }

    /// The special primes.
    pub fn special_moduli(&self) -> &[u32] {
        &self.primes[self.max_level() + 1..]
    }

    /// The prime q_i that a rescaling from level i divides by.
    ///
    /// # Panics
    /// If i exceeds the highest level.
    pub fn modulus(&self, i: usize) -> u32 {
        self.assert_level(i);
        self.primes[i]
    }

    /// The product of the `primes` primes that a rescaling from a level divides by, as far as there are any.
    pub(crate) fn rung(&self, level: usize, primes: usize) -> f64 {
        (0..primes.min(level + 1)).map(|i| f64::from(self.modulus(level - i))).product()
    }

    /// log2 of q_0 .. q_level.
    pub fn modulus_log2(&self, level: usize) -> f64 {
        let moduli = self.moduli();
        log2_product(&moduli[..moduli.len().min(level + 1)])
    }

    /// Number of special primes.
    pub fn special_primes(&self) -> usize {
        self.literal.special_bits.len()
    }

    /// Identifies the parameters: every key and ciphertext on the wire carries it.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// The ranges of levels whose keys have equally long digits, lowest first: for each number of digits up to the highest level
    /// that the bound allows, and a smaller one below where the range is wide.
    pub fn key_tiers(&self) -> &[KeyTier] {
        &self.tiers
    }

    /// The shape of a key made for `level`.
    ///
    /// # Panics
    /// If the level exceeds the highest.
    pub fn key_shape(&self, level: usize) -> KeyShape {
        self.assert_level(level);
        let tier = self.tiers.partition_point(|tier| tier.top_level < level);
        self.tiers[tier].shape.at(level + 1)
    }

    /// Bytes in memory of one key made for `level`, two polynomials a digit; on the wire it takes half.
    ///
    /// # Panics
    /// If the level exceeds the highest.
    pub fn key_bytes(&self, level: usize) -> usize {
        let shape = self.key_shape(level);
        2 * shape.digits(level + 1) * (level + 1 + shape.special) * self.ring_degree() * LIMB_BYTES
    }

    /// Bytes in memory of a ciphertext at `level`, which has two polynomials.
    pub fn ciphertext_bytes(&self, level: usize) -> usize {
        2 * (level + 1) * self.ring_degree() * LIMB_BYTES
    }

    /// The automorphism that moves slots by `rotation`, to the left where it is positive.
    pub fn galois_element(&self, rotation: i64) -> GaloisElement {
        GaloisElement::rotation(rotation, self.ring_degree())
    }

    /// The automorphism that moves slots by `rotation`, to the left where it is positive, and conjugates every one.
    pub fn conjugating_element(&self, rotation: i64) -> GaloisElement {
        self.galois_element(rotation).conjugated(self.ring_degree())
    }

    fn assert_level(&self, level: usize) {
        assert!(level <= self.max_level(), "level {level} of {}", self.max_level());
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
/// `fits(limbs, special)` says whether there are so many special primes and the key modulus stays within the security bound.
fn plan_tiers(limbs: usize, fits: impl Fn(usize, usize) -> bool) -> Vec<KeyTier> {
    let mut tiers: Vec<KeyTier> = Vec::new();
    let mut push = |limbs: usize, digits: usize| {
        tiers.push(KeyTier { top_level: limbs - 1, shape: KeyShape::cut(limbs, digits) });
    };
    let mut below = 0;
    for digits in 1..=MAX_DIGITS {
        let reach = (below + 1..=limbs).rev().find(|&l| fits(l, KeyShape::cut(l, digits).special));
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

fn digest(literal: &ParametersLiteral, primes: &[u32]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"veilray ckks parameters 1");
    hasher.update(&literal.log_ring_degree.to_le_bytes());
    hasher.update(&(literal.modulus_bits.len() as u64).to_le_bytes());
    hasher.update(&[literal.secret as u8, literal.security as u8]);
    for q in primes {
        hasher.update(&q.to_le_bytes());
    }
    if let Some(bootstrap) = &literal.bootstrap {
        hasher.update(b"bootstrap");
        bootstrap.numbers().iter().for_each(|n| {
            hasher.update(&n.to_le_bytes());
        });
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
        let error = literal(13, 8, 1).plan().unwrap_err();
        assert!(matches!(error, Error::Insecure { bound: 214, .. }), "{error}");
        assert!(literal(13, 5, 2).plan().is_ok());
        assert!(matches!(literal(11, 1, 1).plan(), Err(Error::RingDegree { .. })));
        assert!(matches!(literal(13, 6, 1).plan(), Err(Error::SpecialPrimes { .. })));
    }

    #[test]
    fn every_tier_keeps_the_bound_and_the_spare_prime() {
        let plan = literal(14, 9, 6).plan().unwrap();
        let mut last = None;
        for tier in plan.key_tiers() {
            assert!(tier.shape.special > tier.shape.digit_limbs);
            assert!(last < Some(tier.top_level));
            last = Some(tier.top_level);
        }
        assert_eq!(last, Some(8));
        assert_eq!(plan.key_shape(0).digits(1), 1);
    }

    /// Chains of several sizes get as many special primes as the bound leaves room for, and every tier keeps the bound.
    #[test]
    fn special_primes_fill_the_bound_whatever_the_sizes() {
        let parts = [vec![20; 2], vec![30; 2], vec![24; 14], vec![28; 4], vec![30; 14]].concat();
        let security = Security::Classical128;
        // Primes of 20 bits are too rare in a ring of 2^16.
        let sizes = |bits: &u32| (*bits).max(23);
        for (log_n, chain) in
            [(15, vec![25; 20]), (16, parts.iter().map(sizes).collect()), (13, vec![24, 30, 18])]
        {
            let literal = ParametersLiteral::with_special_primes(log_n, chain.clone(), 30, security).unwrap();
            let bound = security.bound(log_n).unwrap().unwrap();
            let stated: u32 = chain.iter().chain(&literal.special_bits).sum();
            let special = literal.special_bits.len();
            assert!(stated <= bound && (stated + 30 > bound || special == chain.len() + 1));
            let plan = literal.plan().unwrap();
            assert_eq!(plan.moduli().len(), chain.len());
            for KeyTier { top_level, shape } in plan.key_tiers() {
                let bits =
                    plan.modulus_log2(*top_level) + log2_product(&plan.special_moduli()[..shape.special]);
                assert!(bits <= f64::from(bound), "2^{log_n}, level {top_level}: {bits}");
            }
        }
        let full = ParametersLiteral::with_special_primes(13, vec![30; 7], 30, security);
        assert!(matches!(full, Err(Error::Insecure { .. })), "{full:?}");
    }
}
