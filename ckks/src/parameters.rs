//! Parameters: a [`RingPlan`] with the transforms of its primes, shared and immutable.

use std::ops::Deref;
use std::sync::Arc;

use rayon::prelude::*;

use crate::error::Result;
use crate::literal::ParametersLiteral;
use crate::ntt::PrimeTable;
use crate::plan::RingPlan;

#[derive(Debug)]
struct Inner {
    plan: RingPlan,
    /// The chain, then the special primes.
    tables: Vec<PrimeTable>,
}

/// Checked parameters with their primes and transforms. Cloning shares them; what they say of primes, levels, keys and sizes is
/// what their [`RingPlan`] says.
#[derive(Clone, Debug)]
pub struct Parameters(Arc<Inner>);

impl PartialEq for Parameters {
    fn eq(&self, other: &Self) -> bool {
        self.digest() == other.digest()
    }
}

impl Deref for Parameters {
    type Target = RingPlan;

    fn deref(&self) -> &RingPlan {
        &self.0.plan
    }
}

impl ParametersLiteral {
    /// Checks the numbers, finds the primes and prepares the transforms.
    ///
    /// # Errors
    /// As [`Self::plan`].
    pub fn build(&self) -> Result<Parameters> {
        self.plan().map(Parameters::from)
    }
}

impl From<RingPlan> for Parameters {
    /// Prepares the transforms.
    fn from(plan: RingPlan) -> Self {
        let degree = plan.ring_degree();
        let primes = [plan.moduli(), plan.special_moduli()].concat();
        let tables = primes.par_iter().map(|&q| PrimeTable::new(q, degree)).collect();
        Self(Arc::new(Inner { plan, tables }))
    }
}

impl Parameters {
    /// Table of limb `i` of a polynomial with `limbs` limbs of the chain, followed by special ones.
    #[inline]
    pub(crate) fn table(&self, limbs: usize, i: usize) -> &PrimeTable {
        if i < limbs { &self.0.tables[i] } else { self.special_table(i - limbs) }
    }

    /// Table of special prime `i`.
    pub(crate) fn special_table(&self, i: usize) -> &PrimeTable {
        &self.0.tables[self.max_level() + 1 + i]
    }
}
