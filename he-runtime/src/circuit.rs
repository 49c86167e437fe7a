//! A model made concrete: the operations of its program at the levels and scales that the real
//! primes give.

use ckks::{EvaluationKeyRequest, Parameters};
use he_model::interpret::trace::{Costs, KeyNeeds, Trace};
use he_model::{Executable, HeModel, Layout, Preprocessing, Ring, RingParameters, Shape};
use serde::{Deserialize, Serialize};

use crate::RuntimeError;

/// A latent may exceed the calibrated range by this factor before it is refused.
const RANGE_MARGIN: f64 = 2.0;

/// A model with its operations and parameters.
#[derive(Debug, Clone)]
pub struct Circuit {
    /// What is executed.
    pub executable: Executable,
    /// The ring with its transforms.
    pub parameters: Parameters,
    /// The ring with the tiers that keys are made for.
    pub ring: Ring,
    /// Operations, keys, predicted cost.
    pub trace: Trace,
    /// What the client has to know.
    pub spec: ClientSpec,
}

impl Circuit {
    /// Lowers a model and assigns levels and scales with the real primes.
    ///
    /// # Errors
    /// A plan that does not fit its graph, or parameters that the scheme refuses.
    pub fn new(model: &HeModel) -> Result<Self, RuntimeError> {
        let program = model.program()?;
        let ring = model.plan.ring.plan()?;
        let parameters = Parameters::from((*ring).clone());
        let schedule = model.plan.schedule(&program, &ring.primes())?;
        let executable = Executable::new(&program, &schedule)?;
        let trace = Trace::new(&executable, &ring, &Costs::default());
        let output = executable.outputs().first().map_or(1.0, |o| executable.placement(*o).scale);
        let spec = ClientSpec {
            model: model.digest(),
            ring: model.plan.ring.clone(),
            input: executable.input(),
            input_level: executable.input_level(),
            input_scale: executable.input_scale(),
            output: executable.output(),
            output_level: executable.output_level(),
            output_scale: output,
            labels: model.labels.clone(),
            preprocessing: model.preprocessing.clone(),
            keys: trace.keys.clone(),
        };
        Ok(Self { executable, parameters, ring, trace, spec })
    }
}

/// What a client has to know of a model: everything but its weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientSpec {
    /// Digest of the model.
    pub model: String,
    /// The ring.
    pub ring: RingParameters,
    /// Where the latent goes.
    pub input: Layout,
    /// Level of the latent's ciphertexts.
    pub input_level: usize,
    /// Scale of the latent's ciphertexts.
    pub input_scale: f64,
    /// Where the logits are.
    pub output: Layout,
    /// Level of the logits' ciphertexts.
    pub output_level: usize,
    /// Scale of the logits' ciphertexts.
    pub output_scale: f64,
    /// Name of each logit.
    pub labels: Vec<String>,
    /// What happens to a film before.
    pub preprocessing: Preprocessing,
    /// The keys that the server needs.
    pub keys: KeyNeeds,
}

impl ClientSpec {
    /// The parameters, checked by the scheme.
    ///
    /// # Errors
    /// Whatever the scheme refuses.
    pub fn parameters(&self) -> Result<Parameters, RuntimeError> {
        Ok(Parameters::from((*self.ring.plan()?).clone()))
    }

    /// Films that one run takes: those of a batch share the ciphertexts, and a batch takes as long
    /// as one film.
    #[must_use]
    pub fn films(&self) -> usize {
        self.input.films()
    }

    /// Checks the latent of one film, `[channels, height, width]` row-major, as it is checked
    /// before encryption: so that a film that is refused does not keep others from their batch.
    ///
    /// # Errors
    /// A latent of the wrong size, or with values far outside of what the model was calibrated for.
    pub fn check_film(&self, latent: &[f64]) -> Result<(), RuntimeError> {
        let (shape, range) = (self.input.shape(), self.preprocessing.latent_range);
        if latent.len() != shape.len() {
            return Err(RuntimeError::Length { expected: shape.len(), got: latent.len(), shape });
        }
        match latent.iter().find(|v| v.is_nan() || v.abs() > range * RANGE_MARGIN) {
            Some(value) => Err(RuntimeError::OutOfRange { value: *value, limit: range }),
            None => Ok(()),
        }
    }

    /// The tensors of a batch, one after the other. Places that are left repeat the films given, so
    /// that no slot holds values that the model was not calibrated for.
    ///
    /// # Errors
    /// No film or too many, or a latent of the wrong size.
    pub(crate) fn batch(&self, latents: &[impl AsRef<[f64]>]) -> Result<Vec<f64>, RuntimeError> {
        let (shape, films) = (self.input.shape(), self.films());
        if !(1..=films).contains(&latents.len()) {
            return Err(RuntimeError::Batch { most: films, got: latents.len() });
        }
        let mut tensors = Vec::with_capacity(films * shape.len());
        for latent in latents.iter().cycle().take(films).map(AsRef::as_ref) {
            if latent.len() != shape.len() {
                return Err(RuntimeError::Length { expected: shape.len(), got: latent.len(), shape });
            }
            tensors.extend_from_slice(latent);
        }
        Ok(tensors)
    }

    /// Checks layouts that may come from elsewhere, before anything is packed by them.
    ///
    /// # Errors
    /// [`RuntimeError::Layout`] with what does not fit.
    pub fn check(&self) -> Result<(), RuntimeError> {
        let slots = self.ring.plan()?.slots();
        let refuse = |what, reason| Err(RuntimeError::Layout { what, reason });
        for (what, layout) in [("latent", &self.input), ("result", &self.output)] {
            if let Err(reason) = layout.check(slots) {
                return refuse(what, reason);
            }
        }
        let (films, labels) = (self.films(), self.labels.len());
        if self.output.films() != films {
            return refuse("result", format!("{} films, the latent has {films}", self.output.films()));
        }
        if self.output.shape() != Shape::vector(labels) {
            return refuse("result", format!("{} values for {labels} labels", self.output.shape()));
        }
        Ok(())
    }

    /// The keys that the server needs, as the scheme wants them asked for.
    ///
    /// # Errors
    /// Whatever the scheme refuses.
    pub fn key_request(&self) -> Result<EvaluationKeyRequest, RuntimeError> {
        let ring = self.ring.plan()?;
        let level = |level: &usize| ring.key_level(*level);
        Ok(EvaluationKeyRequest {
            relinearization: self.keys.relinearizations.iter().map(level).collect(),
            rotations: self.keys.rotations.iter().map(|(r, l)| (i64::from(*r), level(l))).collect(),
            conjugations: self.keys.conjugations.iter().map(|(r, l)| (i64::from(*r), level(l))).collect(),
        })
    }

    /// The model's digest as bytes, as messages carry it.
    pub(crate) fn model_bytes(&self) -> [u8; 32] {
        *blake3::hash(self.model.as_bytes()).as_bytes()
    }
}
