//! Parameters for who has a circuit in mind and no primes: sets by ring, and by depth and precision.

use crate::error::{Error, Result};
use crate::literal::ParametersLiteral;
use crate::noise::{Estimate, NoiseModel};
use crate::primes::{MAX_PRIME_BITS, least_bits};
use crate::security::Security;

/// Ring degrees of the sets by depth, from what is fast to what is deep.
const DEGREES: std::ops::RangeInclusive<u32> = 12..=Security::LARGEST_DEGREE;
/// Most primes that a level takes: two of 30 bits are more than the 53 bits of the numbers that are encoded.
const MOST_PRIMES_PER_LEVEL: usize = 2;
/// Ring degrees and primes of the chain of the balanced sets: as many as leave half as much to the special primes, so that a key switch
/// has two or three digits.
const BALANCED: [(u32, usize); 5] = [(13, 5), (14, 9), (15, 19), (16, 40), (17, 80)];

/// Parameters that promise 128 bits of classical security, with the scale that goes with them.
///
/// A level takes `primes_per_level` primes: rescale by so many after a product, and the scale stays close to [`Preset::scale`].
#[derive(Clone, Debug, PartialEq)]
pub struct Preset {
    /// The numbers, to be changed or built.
    pub literal: ParametersLiteral,
    /// Scale to encode at: the size of the primes of a level.
    pub scale: f64,
    /// Primes that one product spends.
    pub primes_per_level: usize,
}

impl Preset {
    /// The set for a ring of degree 2^`log_ring_degree`, 13 to 17, with primes of 30 bits: levels for 3, 7, 17, 38 or 78 products one
    /// after the other, values up to 2^29, and about 12 bits after the point.
    ///
    /// # Errors
    /// [`Error::RingDegree`] for another degree.
    pub fn balanced(log_ring_degree: u32) -> Result<Self> {
        let (least, most) = (BALANCED[0].0, BALANCED[BALANCED.len() - 1].0);
        let row = BALANCED.iter().find(|(log_n, _)| *log_n == log_ring_degree);
        let &(log_n, limbs) = row.ok_or(Error::RingDegree { given: log_ring_degree, least, most })?;
        Self::uniform(log_n, limbs, MAX_PRIME_BITS, 1)
    }

    /// The set with the smallest ring in which `depth` products follow each other and leave `precision_bits` bits after the point.
    ///
    /// Precision is what [`NoiseModel`] predicts for that many squarings of numbers up to 1, encrypted under the public key. Sums,
    /// rotations and products with plaintexts lose less; a circuit that loses more, or works on larger numbers, asks for more bits.
    /// One prime more than those of the levels stays at the end, so that results up to half of its size fit. A scale that is squared
    /// again and again drifts from the primes: beyond ten squarings bring it back, by [`crate::Evaluator::align`] or a scalar.
    ///
    /// # Errors
    /// [`Error::NoPreset`] where no ring has so many levels at this precision.
    ///
    /// ```
    /// let preset = ckks::Preset::for_depth(5, 20)?;
    /// // Twenty bits want more scale than one prime has.
    /// assert_eq!((preset.literal.log_ring_degree, preset.primes_per_level), (14, 2));
    /// assert!(ckks::Preset::for_depth(500, 20).is_err());
    /// # Ok::<(), ckks::Error>(())
    /// ```
    pub fn for_depth(depth: usize, precision_bits: u32) -> Result<Self> {
        for log_n in DEGREES {
            for primes_per_level in 1..=MOST_PRIMES_PER_LEVEL {
                let limbs = depth.saturating_add(1).saturating_mul(primes_per_level).saturating_add(1);
                // The largest primes that fit are the most precise ones, and no slower than others.
                let mut sizes = (least_bits(log_n)..=MAX_PRIME_BITS).rev();
                let set = sizes.find_map(|bits| Self::uniform(log_n, limbs, bits, primes_per_level).ok());
                let Some(set) = set else { continue };
                if set.precision(depth)? >= f64::from(precision_bits) {
                    return Ok(set);
                }
            }
        }
        Err(Error::NoPreset { depth, precision_bits })
    }

    /// A chain of equal primes with the special primes that the bound leaves room for.
    fn uniform(log_n: u32, limbs: usize, bits: u32, primes_per_level: usize) -> Result<Self> {
        let security = Security::Classical128;
        // No chain of so many primes keeps the bound: it is refused before it is written down.
        let most = security.bound(log_n)?.map_or(0, |bound| bound / bits) as usize;
        let chain = vec![bits; limbs.min(most + 1)];
        let literal = ParametersLiteral::with_special_primes(log_n, chain, MAX_PRIME_BITS, security)?;
        let scale = f64::from(bits * primes_per_level as u32).exp2();
        Ok(Self { literal, scale, primes_per_level })
    }

    /// Bits after the point that so many squarings leave.
    fn precision(&self, depth: usize) -> Result<f64> {
        let plan = self.literal.plan()?;
        let model = NoiseModel::new(&plan);
        let mut x = model.fresh_public(plan.max_level(), self.scale, 1.0);
        for _ in 0..depth {
            x = model.switched(model.square(x), plan.max_level());
            for _ in 0..self.primes_per_level {
                x = model.rescale(x)?;
            }
            // As if the scale were kept: what it drifts from the primes is squared each time.
            let drift = self.scale / x.scale;
            x = Estimate { scale: self.scale, variance: x.variance * drift * drift, ..x };
        }
        Ok(model.predicted_precision(x))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_balanced_sets_have_the_levels_that_they_are_said_to_have() {
        for ((log_n, _), levels) in BALANCED.into_iter().zip([3, 7, 17, 38, 78]) {
            let plan = Preset::balanced(log_n).unwrap().literal.plan().unwrap();
            // Two primes stay at the end.
            assert_eq!(plan.max_level() - 1, levels);
            let digits = plan.key_shape(plan.max_level()).digits(plan.max_level() + 1);
            assert!((2..=5).contains(&digits), "2^{log_n}: {digits} digits");
        }
        assert!(matches!(Preset::balanced(12), Err(Error::RingDegree { .. })));
    }

    /// No ring below would do, and the precision asked for is there.
    #[test]
    fn sets_by_depth_are_the_smallest_that_are_precise_enough() {
        let mut last = 0;
        for depth in [0, 1, 2, 5, 10, 20] {
            let set = Preset::for_depth(depth, 8).unwrap();
            assert!(set.precision(depth).unwrap() >= 8.0 && set.literal.log_ring_degree >= last);
            let levels = depth * set.primes_per_level + set.primes_per_level;
            assert_eq!(set.literal.modulus_bits.len(), levels + 1);
            last = set.literal.log_ring_degree;
        }
        let (coarse, fine) = (Preset::for_depth(5, 8).unwrap(), Preset::for_depth(5, 30).unwrap());
        assert!((coarse.primes_per_level, fine.primes_per_level) == (1, 2) && fine.scale > coarse.scale);
        for (depth, bits) in [(1000, 8), (usize::MAX, 8), (2, 60)] {
            assert!(matches!(Preset::for_depth(depth, bits), Err(Error::NoPreset { .. })), "{depth}, {bits}");
        }
    }
}
