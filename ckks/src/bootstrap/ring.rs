//! What the plan of a ring says of its bootstrap: levels, keys, failure and the function that it evaluates.

use std::f64::consts::TAU;

use crate::bootstrap::keys::KeyPlan;
use crate::bootstrap::plan::{self, BootstrapPlan};
use crate::bootstrap::scales::Scales;
use crate::error::{Error, Result};
use crate::plan::RingPlan;

impl RingPlan {
    pub(crate) fn bootstrap_plan(&self) -> Result<&BootstrapPlan> {
        self.bootstrap.as_ref().ok_or_else(|| Error::Bootstrap("these parameters have none".into()))
    }

    /// The keys that a bootstrap takes.
    ///
    /// # Errors
    /// [`Error::Bootstrap`] for parameters without a bootstrap.
    pub(crate) fn bootstrap_key_plan(&self) -> Result<KeyPlan> {
        Ok(KeyPlan::new(self, self.bootstrap_plan()?))
    }

    /// Bytes in memory of all keys of a bootstrap; on the wire they take half.
    ///
    /// # Errors
    /// [`Error::Bootstrap`] for parameters without a bootstrap.
    pub fn bootstrap_key_bytes(&self) -> Result<usize> {
        self.bootstrap_key_plan()?.bytes(self)
    }

    /// The lowest level from which a ciphertext can be bootstrapped, and the level of the result.
    ///
    /// # Errors
    /// [`Error::Bootstrap`] for parameters without a bootstrap.
    pub fn bootstrap_levels(&self) -> Result<(usize, usize)> {
        let plan = self.bootstrap_plan()?;
        Ok((plan.input, plan.output))
    }

    /// log2 of the probability that a bootstrap of real slots loses one, because a multiple of q_0 lies outside the range.
    ///
    /// # Errors
    /// [`Error::Bootstrap`] for parameters without a bootstrap.
    pub fn bootstrap_failure_log2(&self) -> Result<f64> {
        Ok(plan::failure_log2(&self.bootstrap_plan()?.literal, self.ring_degree()))
    }

    /// What a bootstrap makes of a real slot v of a ciphertext of a scale, noise apart: (b / 2 pi) sin(2 pi v / b), where b is the value
    /// that q_0 stands for: the literal's bound times 2^ratio, up to twice that where the scale is no power of two. So v is off by
    /// v (2 pi v / b)^2 / 6.
    ///
    /// # Errors
    /// [`Error::Bootstrap`] for parameters without a bootstrap, or a scale that is too large.
    pub fn bootstrap_function(&self, scale: f64) -> Result<impl Fn(f64) -> f64 + use<>> {
        let plan = self.bootstrap_plan()?;
        let period = Scales::new(self, plan).period(plan, scale)?;
        Ok(move |v: f64| (TAU * v / period).sin() * period / TAU)
    }
}
