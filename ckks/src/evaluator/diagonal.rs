//! The plaintexts of linear maps, as residues of one limb.

use std::borrow::Cow;
use std::sync::Arc;

use crate::kernels::Factors;
use crate::parameters::Parameters;
use crate::plaintext::{PeriodicPlaintext, Plaintext};

/// The plaintext of one term.
#[derive(Clone, Debug)]
pub enum Diagonal {
    /// Slots of a short period: kilobytes, at any level.
    Periodic(PeriodicPlaintext),
    /// Any slots, encoded with [`crate::Encoder::encode_extended`] at the map's level or above, with the keys' special primes;
    /// several maps may share it.
    Dense(Arc<Plaintext>),
}

impl Diagonal {
    /// The residues modulo prime i of a polynomial with `limbs` chain limbs.
    pub(super) fn limb(&self, p: &Parameters, limbs: usize, i: usize) -> LimbValues<'_> {
        match self {
            Self::Periodic(plain) => LimbValues::Runs(plain.values(p, limbs, i)),
            Self::Dense(plain) => {
                let limb = if i < limbs { i } else { plain.poly.limbs() + i - limbs };
                LimbValues::Each(plain.poly.limb(limb))
            }
        }
    }

    pub(super) fn scale(&self) -> f64 {
        match self {
            Self::Periodic(p) => p.scale(),
            Self::Dense(p) => p.scale(),
        }
    }

    /// Whether it needs no transform for a map at a level with so many special primes.
    pub(super) fn is_kept(&self, level: usize, special: usize) -> bool {
        match self {
            Self::Periodic(plain) => plain.is_kept(level, special),
            Self::Dense(_) => true,
        }
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Periodic(p) => p.bytes(),
            Self::Dense(p) => p.bytes(),
        }
    }
}

/// One limb of a diagonal.
pub(super) enum LimbValues<'a> {
    /// One value for each run of positions.
    Runs(Cow<'a, [u32]>),
    /// All of them.
    Each(&'a [u32]),
}

impl LimbValues<'_> {
    /// The factors of the `block` positions from `at` on, of n.
    pub(super) fn factors(&self, n: usize, at: usize, block: usize) -> Factors<'_> {
        match self {
            Self::Runs(values) => {
                let run = n / values.len();
                let log_run = run.trailing_zeros();
                Factors::Runs(&values[at >> log_run..(at + block).div_ceil(run)], log_run)
            }
            Self::Each(values) => Factors::Each(&values[at..at + block]),
        }
    }
}

impl From<PeriodicPlaintext> for Diagonal {
    fn from(p: PeriodicPlaintext) -> Self {
        Self::Periodic(p)
    }
}

impl From<Plaintext> for Diagonal {
    fn from(p: Plaintext) -> Self {
        Self::Dense(Arc::new(p))
    }
}

impl From<Arc<Plaintext>> for Diagonal {
    fn from(p: Arc<Plaintext>) -> Self {
        Self::Dense(p)
    }
}
