//! The checked numbers of a bootstrap: its levels, and how often it fails.
//!
//! From the bottom, the chain of primes is cut into parts:
//!
//! | part | primes | what happens there |
//! |---|---|---|
//! | base | `base` | q_0, modulo which a ciphertext is raised |
//! | slots to coefficients | `slots_to_coefficients` | with the lowest prime above, three maps |
//! | left | all others | what a bootstrapped ciphertext is computed with |
//! | sine | `primes_per_level` a level | the Chebyshev series and its doublings |
//! | coefficients to slots | `coefficients_to_slots` | three maps |

use crate::bootstrap::literal::BootstrapLiteral;
use crate::bootstrap::multiples;
use crate::bootstrap::shapes::MATRICES;
use crate::error::{Error, Result};
use crate::polynomial::depth;

/// Special primes of the two kinds of key that touch the sparse secret: to it, and from it.
pub(crate) const TO_SPARSE_SPECIAL: usize = 2;
/// See [`TO_SPARSE_SPECIAL`]. Three primes outweigh q_0 by what the noise of a key needs.
pub(crate) const FROM_SPARSE_SPECIAL: usize = 3;

/// log2 of the greatest probability that a bootstrap fails because a multiple of q_0 lies outside the range.
const MOST_FAILURE_LOG2: f64 = -40.0;

/// Distance from an integer up to which the sine holds: a quarter, half a period about it. The identity needs far less of it,
/// [`crate::BootstrapFunction`] all.
pub(crate) const WIDTH: f64 = 0.25;

/// log2 of the scale that a ciphertext gets before its slots move to coefficients.
pub(crate) const INPUT_SCALE_LOG2: f64 = 45.0;

/// A checked plan: which primes serve which part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BootstrapPlan {
    pub(crate) literal: BootstrapLiteral,
    /// Level of the highest ciphertext, at which coefficients move to slots.
    pub(crate) top: usize,
    /// Level at which the sine begins.
    pub(crate) sine: usize,
    /// Level of the result.
    pub(crate) output: usize,
    /// Level at which slots move to coefficients.
    pub(crate) input: usize,
}

/// log2 of the probability that some coefficient of a real bootstrap, which uses N/2 of them, lies outside the range.
pub(crate) fn failure_log2(literal: &BootstrapLiteral, degree: usize) -> f64 {
    (multiples::overflow(literal.sparse_weight, literal.range) * (degree / 2) as f64).log2()
}

impl BootstrapPlan {
    /// Checks a literal against a chain of `limbs` primes and `special` special ones of a ring of degree `degree`.
    ///
    /// # Errors
    /// [`Error::Bootstrap`] naming the number that is out of range, with what it should be.
    pub(crate) fn new(
        literal: &BootstrapLiteral,
        degree: usize,
        limbs: usize,
        special: usize,
    ) -> Result<Self> {
        let l = literal;
        let between = |what: &str, given: usize, least: usize, most: usize| {
            if (least..=most).contains(&given) {
                return Ok(());
            }
            Err(Error::Bootstrap(format!("{what} is {given}, {least} to {most} are possible")))
        };
        between("log2 of the ring degree", degree.trailing_zeros() as usize, 5, 17)?;
        between("the weight of the sparse secret", l.sparse_weight, 2, 256.min(degree / 2))?;
        between("the range", l.range, 1, l.sparse_weight / 2)?;
        between("the number of doublings", l.doublings as usize, 0, 8)?;
        between("the degree of the series", l.degree, 1, 255)?;
        between("log2 of the bound", l.bound_log2 as usize, 0, 20)?;
        between("log2 of the ratio", l.ratio_log2 as usize, 4, 20)?;
        between("the number of primes of q_0", l.base, 1, 2)?;
        between("the number of primes of slots to coefficients", l.slots_to_coefficients, 2, 4)?;
        between("the number of primes a level", l.primes_per_level, 1, 3)?;
        between("the number of primes of coefficients to slots", l.coefficients_to_slots, MATRICES, 6)?;
        between("the number of special primes", special, FROM_SPARSE_SPECIAL, usize::MAX)?;
        let levels = depth(l.degree) + l.doublings as usize;
        let taken = l.base + l.slots_to_coefficients + levels * l.primes_per_level + l.coefficients_to_slots;
        // One prime is shared with what is left, and one rescaling at least should be.
        if limbs < taken + 2 {
            let needed = taken + 2;
            return Err(Error::Bootstrap(format!("{limbs} primes are too few: its parts take {needed}")));
        }
        let failure_log2 = failure_log2(l, degree);
        if failure_log2 > MOST_FAILURE_LOG2 {
            return Err(Error::Bootstrap(format!(
                "a range of {} fails with a probability of 2^{failure_log2:.1}, at most 2^{MOST_FAILURE_LOG2} is allowed: widen it",
                l.range
            )));
        }
        let sine = limbs - 1 - l.coefficients_to_slots;
        Ok(Self {
            literal: literal.clone(),
            top: limbs - 1,
            sine,
            output: sine - levels * l.primes_per_level,
            input: l.base + l.slots_to_coefficients,
        })
    }

    /// The series is a function of x - 1/4 on an interval of this half width about 0: |I| up to the range, and a quarter.
    pub(crate) fn half_interval(&self) -> f64 {
        self.literal.range as f64 + 0.25 + WIDTH
    }

    /// Primes that each of the maps to coefficients drops, in order.
    pub(crate) fn input_primes(&self) -> [usize; MATRICES] {
        [1, 1, self.literal.slots_to_coefficients - 1]
    }

    /// Primes that each of the maps to slots drops, in order: late, because noise before the last map counts more.
    pub(crate) fn output_primes(&self) -> [usize; MATRICES] {
        [1, 1, self.literal.coefficients_to_slots - 2]
    }

    /// Levels of the maps to coefficients.
    pub(crate) fn input_levels(&self) -> [usize; MATRICES] {
        let [first, second, _] = self.input_primes();
        [self.input, self.input - first, self.input - first - second]
    }

    /// Levels of the maps to slots.
    pub(crate) fn output_levels(&self) -> [usize; MATRICES] {
        let [first, second, _] = self.output_primes();
        [self.top, self.top - first, self.top - first - second]
    }

    /// The scale that a ciphertext of scale `scale` gets at the input level by a whole factor, and that factor.
    ///
    /// # Errors
    /// [`Error::Bootstrap`] for a scale above that of the input.
    pub(crate) fn input_scale(&self, scale: f64) -> Result<(f64, f64)> {
        let factor = (INPUT_SCALE_LOG2.exp2() / scale).floor();
        if factor < 1.0 {
            return Err(Error::Bootstrap(format!(
                "the ciphertext has a scale of 2^{:.1}, at most 2^{INPUT_SCALE_LOG2} is possible: rescale it first",
                scale.log2()
            )));
        }
        Ok((scale * factor, factor))
    }
}
