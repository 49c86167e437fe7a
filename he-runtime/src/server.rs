//! The server's side: evaluation keys, ciphertexts, and nothing that decrypts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ckks::Ciphertext;
use he_model::interpret::walk;
use he_model::program::LayerResult;
use he_model::{HeModel, ValueId};

use crate::RuntimeError;
use crate::circuit::{Circuit, ClientSpec};
use crate::interpreter::{Encoded, Runner};
use crate::messages::{EncryptedTensor, Kind, ServerKeys};

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
}

/// Called with the ciphertexts of a layer's result.
pub(crate) type OnLayer<'a> = dyn FnMut(&LayerResult, &[Ciphertext]) -> Result<(), RuntimeError> + 'a;

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
    /// A ciphertext of another model or key, before anything is computed; [`RuntimeError::Interrupted`].
    pub fn run(
        &self,
        latent: &EncryptedTensor,
        progress: &mut dyn FnMut(Progress<'_>),
        interrupt: &AtomicBool,
    ) -> Result<(EncryptedTensor, Vec<LayerTime>), RuntimeError> {
        self.evaluate(latent, progress, interrupt, &mut |_, _| Ok(()), false)
    }

    /// As [`Server::run`], handing every layer's ciphertexts to `on_layer`.
    #[cfg_attr(not(feature = "client"), expect(dead_code, reason = "only a client can compare layers"))]
    pub(crate) fn run_layers(
        &self,
        latent: &EncryptedTensor,
        on_layer: &mut OnLayer<'_>,
    ) -> Result<(EncryptedTensor, Vec<LayerTime>), RuntimeError> {
        self.evaluate(latent, &mut |_| {}, &AtomicBool::new(false), on_layer, true)
    }

    fn evaluate(
        &self,
        latent: &EncryptedTensor,
        progress: &mut dyn FnMut(Progress<'_>),
        interrupt: &AtomicBool,
        on_layer: &mut OnLayer<'_>,
        keep_layers: bool,
    ) -> Result<(EncryptedTensor, Vec<LayerTime>), RuntimeError> {
        let Circuit { program, schedule, trace, spec, .. } = &self.circuit;
        let expected = (spec.input.ciphertexts(), spec.input_level, spec.input_scale);
        latent.check(&spec.model_bytes(), &self.keys.key, expected)?;
        let total = trace.seconds() * 1e3;
        let mut clock =
            Clock { times: vec![Duration::ZERO; program.layers.len()], since: Instant::now(), layer: 0 };
        let mut before = 0.0;
        let mut on_begin = |at: ValueId| {
            if interrupt.load(Ordering::Relaxed) {
                return Err(RuntimeError::Interrupted);
            }
            let layer = program.layer_of[at.index()] as usize;
            if layer != clock.layer {
                before += trace.layers[clock.layer..layer].iter().map(|l| l.milliseconds).sum::<f64>();
                clock.enter(layer);
                progress(Progress { done: (before / total).min(1.0), layer: &program.layers[layer] });
            }
            Ok(())
        };
        let evaluation = &self.keys.evaluation;
        let mut runner = Runner::new(
            &self.circuit,
            &self.encoded,
            evaluation,
            &latent.ciphertexts,
            &mut on_begin,
            on_layer,
        )
        .keeping_layers(keep_layers);
        let outputs = walk(program, schedule, &mut runner)?;
        let ciphertexts = outputs.into_iter().map(|v| runner.ciphertext(v)).collect::<Result<_, _>>()?;
        drop(runner);
        clock.enter(0);
        let times = program.layers.iter().zip(&trace.layers).zip(clock.times).map(|((name, trace), time)| {
            LayerTime { name: name.clone(), time, predicted_milliseconds: trace.milliseconds }
        });
        let times = times.collect();
        let result =
            EncryptedTensor { kind: Kind::Logits, model: latent.model, key: latent.key, ciphertexts };
        Ok((result, times))
    }
}

/// Time by layer.
struct Clock {
    times: Vec<Duration>,
    since: Instant,
    layer: usize,
}

impl Clock {
    fn enter(&mut self, layer: usize) {
        let now = Instant::now();
        self.times[self.layer] += now - self.since;
        (self.since, self.layer) = (now, layer);
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
