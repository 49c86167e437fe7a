//! The server's side: evaluation keys, ciphertexts, and nothing that decrypts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ckks::OperationCounts;
use he_model::HeModel;
use he_model::executable::Step;
use he_model::interpret::trace::LayerTrace;
use he_model::interpret::{Interpreter, Operand, walk};

use crate::RuntimeError;
use crate::circuit::{Circuit, ClientSpec};
use crate::encoded::Encoded;
use crate::interpreter::{Runner, Value};
use crate::messages::{EncryptedTensor, Kind, ServerKeys};
use crate::shown::{OnLayer, Shown};

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress<'a> {
    /// Share of the predicted time that is done, 0 to 1.
    pub done: f64,
    /// The layer at work.
    pub layer: &'a str,
}

/// Time that a layer took.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerTime {
    /// The layer.
    pub name: String,
    /// Time it took.
    pub time: Duration,
    /// Predicted milliseconds of one thread.
    pub predicted_milliseconds: f64,
    /// What the evaluator has carried out for it.
    pub operations: OperationCounts,
}

/// A model with the keys of one client, ready to run.
#[derive(Debug)]
pub struct Server {
    circuit: Circuit,
    keys: ServerKeys,
    encoded: Encoded,
}

impl Server {
    /// Prepares a model: checks that every key it needs is there, and encodes its weights.
    ///
    /// # Errors
    /// [`RuntimeError::MissingKeys`], or a model that cannot be made concrete.
    pub fn new(model: &HeModel, keys: ServerKeys) -> Result<Self, RuntimeError> {
        let circuit = Circuit::new(model)?;
        check_keys(&circuit, &keys)?;
        let encoded = Encoded::new(&circuit)?;
        Ok(Self { circuit, keys, encoded })
    }

    /// The model made concrete.
    #[must_use]
    pub fn circuit(&self) -> &Circuit {
        &self.circuit
    }

    /// What clients of this model have to know.
    #[must_use]
    pub fn spec(&self) -> &ClientSpec {
        &self.circuit.spec
    }

    /// Bytes of keys and encoded weights in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.keys.bytes() + self.encoded.bytes()
    }

    /// Classifies an encrypted latent. `interrupt` is looked at between operations.
    ///
    /// # Errors
    /// A ciphertext of another model or key, before anything is computed;
    /// [`RuntimeError::Interrupted`].
    pub fn run(
        &self,
        latent: &EncryptedTensor,
        progress: &mut dyn FnMut(Progress<'_>),
        interrupt: &AtomicBool,
    ) -> Result<(EncryptedTensor, Vec<LayerTime>), RuntimeError> {
        let mut watch = Watch::new(&self.circuit.trace.layers, self.runner(latent)?, progress, interrupt);
        let outputs = walk(&self.circuit.executable, &mut watch)?;
        let ciphertexts = outputs.into_iter().map(Value::into_ciphertext).collect::<Result<_, _>>()?;
        let result =
            EncryptedTensor { kind: Kind::Logits, model: latent.model, key: latent.key, ciphertexts };
        Ok((result, watch.finish()))
    }

    /// Evaluates an encrypted latent and hands every layer's ciphertexts to `on_layer`.
    #[cfg_attr(not(feature = "client"), expect(dead_code, reason = "only a client can compare layers"))]
    pub(crate) fn run_layers(
        &self,
        latent: &EncryptedTensor,
        on_layer: &mut OnLayer<'_>,
    ) -> Result<(), RuntimeError> {
        let mut shown = Shown::new(self.runner(latent)?, &self.circuit, &self.keys.evaluation, on_layer);
        walk(&self.circuit.executable, &mut shown).map(drop)
    }

    /// What evaluates a latent, if it is one of this model and key.
    fn runner<'a>(&'a self, latent: &'a EncryptedTensor) -> Result<Runner<'a>, RuntimeError> {
        let spec = &self.circuit.spec;
        let expected = (spec.input.ciphertexts(), spec.input_level, spec.input_scale);
        latent.check(&spec.model_bytes(), &self.keys.key, expected)?;
        Ok(Runner::new(&self.circuit, &self.encoded, &self.keys.evaluation, &latent.ciphertexts))
    }
}

/// Reports on a run and stops it.
struct Watch<'a> {
    runner: Runner<'a>,
    progress: &'a mut dyn FnMut(Progress<'_>),
    interrupt: &'a AtomicBool,
    /// What was predicted, for each layer.
    predicted: &'a [LayerTrace],
    times: Vec<LayerTime>,
    /// The layer at work, and since when; and what was counted by then.
    layer: usize,
    since: (Instant, OperationCounts),
}

impl<'a> Watch<'a> {
    fn new(
        predicted: &'a [LayerTrace],
        runner: Runner<'a>,
        progress: &'a mut dyn FnMut(Progress<'_>),
        interrupt: &'a AtomicBool,
    ) -> Self {
        let times = predicted.iter().map(|layer| LayerTime {
            name: layer.name.clone(),
            time: Duration::ZERO,
            predicted_milliseconds: layer.milliseconds,
            operations: OperationCounts::default(),
        });
        let since = (Instant::now(), OperationCounts::default());
        Self { runner, progress, interrupt, predicted, times: times.collect(), layer: 0, since }
    }

    /// Notes what the layer at work took.
    fn leave(&mut self) {
        let now = (Instant::now(), self.runner.counts());
        if let Some(layer) = self.times.get_mut(self.layer) {
            layer.time += now.0 - self.since.0;
            layer.operations += now.1 - self.since.1;
        }
        self.since = now;
    }

    fn enter(&mut self, layer: usize) {
        self.leave();
        self.layer = layer;
        let milliseconds = |layers: &[LayerTrace]| layers.iter().map(|l| l.milliseconds).sum::<f64>();
        let done = milliseconds(&self.predicted[..layer]) / milliseconds(self.predicted);
        (self.progress)(Progress { done: done.min(1.0), layer: &self.predicted[layer].name });
    }

    fn finish(mut self) -> Vec<LayerTime> {
        self.leave();
        self.times
    }
}

impl Interpreter for Watch<'_> {
    type Value = Value;
    type Error = RuntimeError;

    fn execute(
        &mut self,
        step: &Step,
        operands: Vec<Operand<'_, Value>>,
    ) -> Result<Vec<Value>, RuntimeError> {
        if self.interrupt.load(Ordering::Relaxed) {
            return Err(RuntimeError::Interrupted);
        }
        if step.layer() != self.layer {
            self.enter(step.layer());
        }
        self.runner.execute(step, operands)
    }
}

/// Every key that the circuit needs must be there at its level.
fn check_keys(circuit: &Circuit, keys: &ServerKeys) -> Result<(), RuntimeError> {
    let needed = circuit.spec.key_request()?.plan(&circuit.parameters)?;
    let missing: Vec<String> = needed
        .iter()
        .filter_map(|(element, level)| {
            let found = match element {
                Some(element) => keys.evaluation.galois(*element, *level).map(|_| ()),
                None => keys.evaluation.relinearization(*level).map(|_| ()),
            };
            found.err().map(|e| e.to_string())
        })
        .collect();
    match missing.first() {
        None => Ok(()),
        Some(first) => {
            let (missing, needed) = (missing.len(), needed.len());
            Err(RuntimeError::MissingKeys { missing, needed, first: first.clone() })
        }
    }
}
