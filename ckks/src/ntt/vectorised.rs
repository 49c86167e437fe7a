//! The transform over `tfhe-ntt`, whose code paths are chosen at run time by what the processor offers.
//!
//! The library finds its root by the same rule as ours; a test holds the two to the same order.

use tfhe_ntt::prime32::Plan;

use super::transform::Transform;
use crate::arith::Modulus;

/// A plan of `tfhe-ntt` for a prime below 2^30.
#[derive(Debug)]
pub(crate) struct Vectorised {
    plan: Plan,
}

impl Vectorised {
    /// A plan, or `None` below the library's least size of 32.
    pub(crate) fn new(modulus: Modulus, size: usize) -> Option<Self> {
        Plan::try_new(size, modulus.value()).map(|plan| Self { plan })
    }
}

impl Transform for Vectorised {
    fn forward(&self, values: &mut [u32]) {
        self.plan.fwd(values);
    }

    fn inverse(&self, values: &mut [u32]) {
        self.plan.inv(values);
        self.plan.normalize(values);
    }

    fn inverse_scaled(&self, values: &mut [u32]) {
        self.plan.inv(values);
    }
}
