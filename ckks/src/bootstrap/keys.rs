//! The keys of a bootstrap: those to and from the sparse secret, and ordinary evaluation keys.

use std::sync::{Arc, OnceLock};

use crate::bootstrap::circuit::Circuit;
use crate::bootstrap::plan::{BootstrapPlan, FROM_SPARSE_SPECIAL, TO_SPARSE_SPECIAL};
use crate::bootstrap::shapes::{BABIES, MatrixShape};
use crate::error::{Error, Result};
use crate::evaluation_keys::{EvaluationKeyRequest, EvaluationKeys, GaloisKey, SwitchingKey};
use crate::galois::GaloisElement;
use crate::parameters::Parameters;
use crate::plan::{KeyShape, LIMB_BYTES, RingPlan};

/// Which keys a bootstrap takes, and their shapes.
#[derive(Clone, Debug)]
pub(crate) struct KeyPlan {
    /// Level and shape of the key to the sparse secret.
    pub(crate) to_sparse: (usize, KeyShape),
    /// Level and shape of the keys from the sparse secret.
    pub(crate) from_sparse: (usize, KeyShape),
    /// The automorphisms of those.
    pub(crate) rotations: Vec<GaloisElement>,
    /// All other keys.
    pub(crate) evaluation: EvaluationKeyRequest,
}

impl KeyPlan {
    pub(crate) fn new(p: &RingPlan, plan: &BootstrapPlan) -> Self {
        let shapes = MatrixShape::of(p.slots());
        let [first, second, third] = shapes;
        let mut evaluation = EvaluationKeyRequest::default();
        let maps = shapes.into_iter().zip(plan.input_levels());
        let maps = maps.chain([second, first].into_iter().zip(plan.output_levels().into_iter().skip(1)));
        for (shape, level) in maps {
            evaluation.rotations.extend(shape.steps(BABIES).into_iter().map(|by| (by, level)));
        }
        evaluation.conjugations.push((0, plan.sine));
        let stride = plan.literal.primes_per_level;
        evaluation.relinearization = (plan.output + stride..=plan.sine).rev().step_by(stride).collect();
        let (base, limbs) = (plan.literal.base, plan.top + 1);
        Self {
            to_sparse: (base - 1, KeyShape { digit_limbs: base, special: TO_SPARSE_SPECIAL }),
            // What is raised is smaller than q_0: one digit, whatever the number of limbs.
            from_sparse: (plan.top, KeyShape { digit_limbs: limbs, special: FROM_SPARSE_SPECIAL }),
            rotations: third.rotations().map(|by| p.galois_element(by as i64)).collect(),
            evaluation,
        }
    }

    /// Bytes in memory of all of them.
    ///
    /// # Errors
    /// None, since the levels are the ring's own.
    pub(crate) fn bytes(&self, p: &RingPlan) -> Result<usize> {
        let sparse = |(level, shape): (usize, KeyShape)| {
            2 * shape.digits(level + 1) * (level + 1 + shape.special) * p.ring_degree() * LIMB_BYTES
        };
        let others = self.evaluation.plan(p)?.into_iter().map(|(_, level)| p.key_bytes(level)).sum::<usize>();
        Ok(sparse(self.to_sparse) + self.rotations.len() * sparse(self.from_sparse) + others)
    }
}

/// What a server needs to bootstrap. Of the sparse secret it holds encryptions only, like of the other one.
///
/// The maps of the circuit are encoded at the first use, or by [`Self::prepare`], and kept with the keys.
#[derive(Clone, Debug)]
pub struct BootstrapKeys {
    /// From the secret of all other keys to the sparse one, modulo q_0 and two special primes.
    pub(crate) to_sparse: SwitchingKey,
    /// Each from a rotation of the sparse secret to the secret of all other keys: one digit, three special primes.
    pub(crate) from_sparse: Vec<GaloisKey>,
    /// Rotations of the other maps, the conjugation and relinearisation.
    pub(crate) evaluation: EvaluationKeys,
    circuit: OnceLock<Arc<Circuit>>,
}

impl PartialEq for BootstrapKeys {
    /// The circuit follows from the parameters.
    fn eq(&self, other: &Self) -> bool {
        self.to_sparse == other.to_sparse
            && self.from_sparse == other.from_sparse
            && self.evaluation == other.evaluation
    }
}

impl BootstrapKeys {
    pub(crate) fn new(
        to_sparse: SwitchingKey,
        from_sparse: Vec<GaloisKey>,
        evaluation: EvaluationKeys,
    ) -> Self {
        Self { to_sparse, from_sparse, evaluation, circuit: OnceLock::new() }
    }

    /// Checks the keys and encodes the maps, which a first bootstrap does otherwise: about a second and 0.4 GiB at N = 2^16.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn prepare(&self, parameters: &Parameters) -> Result<()> {
        self.check(parameters)?;
        self.circuit(parameters).map(drop)
    }

    /// What a bootstrap computes with, which the first call makes.
    pub(crate) fn circuit(&self, p: &Parameters) -> Result<&Circuit> {
        if self.circuit.get().is_none() {
            // If another thread was faster, its circuit is the same.
            let _ = self.circuit.set(Arc::new(Circuit::new(p, p.bootstrap_plan()?)?));
        }
        let kept = self.circuit.get().map(Arc::as_ref);
        kept.ok_or_else(|| Error::Bootstrap("its circuit could not be kept".into()))
    }

    /// Checks that the keys are those that a bootstrap of these parameters takes.
    ///
    /// # Errors
    /// [`Error::MissingKey`] naming the first that is missing, [`Error::Parameters`] for a key to or from the sparse secret that
    /// is none, [`Error::Bootstrap`] for parameters without a bootstrap.
    pub fn check(&self, parameters: &Parameters) -> Result<()> {
        let plan = parameters.bootstrap_key_plan()?;
        let fits = |key: &SwitchingKey, place: (usize, KeyShape)| (key.level, key.shape) == place;
        if !fits(&self.to_sparse, plan.to_sparse) {
            return Err(Error::Parameters { what: "the key to the sparse secret" });
        }
        if self.from_sparse.len() != plan.rotations.len()
            || self.from_sparse.iter().zip(&plan.rotations).any(|(key, element)| key.element != *element)
            || self.from_sparse.iter().any(|key| !fits(&key.key, plan.from_sparse))
        {
            return Err(Error::Parameters { what: "a key from the sparse secret" });
        }
        for (element, level) in plan.evaluation.plan(parameters)? {
            match element {
                None => drop(self.evaluation.relinearization(level)?),
                Some(element) => drop(self.evaluation.galois(element, level)?),
            }
        }
        Ok(())
    }

    /// Bytes in memory; on the wire they take half.
    pub fn bytes(&self) -> usize {
        let from: usize = self.from_sparse.iter().map(GaloisKey::bytes).sum();
        self.to_sparse.bytes() + from + self.evaluation.bytes()
    }
}
