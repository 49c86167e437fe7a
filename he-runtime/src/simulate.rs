//! The packed program in the clear with the noise that ciphertexts would carry: what a run will be off by, before there are keys.
//!
//! Every slot is a number in f64. Where an operation on ciphertexts adds noise (encryption, encoding of plaintexts, key switching,
//! rounding), a Gaussian of the same variance is drawn for every slot by the formulas of [`ckks::NoiseModel`]; everything after it
//! sees the noisy value, so that noise is carried on, amplified and correlated as in the real run. Magnitudes are
//! those of the values at hand, not bounds. No key is needed, and none can be named here.

use ckks::{Complex64, Estimate, NoiseModel, Parameters};
use he_model::interpret::clear::{ClearInterpreter, Slots};
use he_model::interpret::{Interpreter, walk};
use he_model::program::{PlainId, Term};
use he_model::schedule::Step;
use he_model::{HeModel, ModelError, ValueId};
use rand_core::Rng;

use crate::RuntimeError;
use crate::circuit::Circuit;

/// What a simulated run gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Simulated {
    /// The logits with noise.
    pub logits: Vec<f64>,
    /// Name and tensor of every layer, in order.
    pub layers: Vec<(String, Vec<f64>)>,
}

/// Runs a circuit on a latent with modelled noise; the latent counts as encrypted under the secret key, as the client does it.
///
/// # Errors
/// A latent of the wrong length.
pub fn simulate(circuit: &Circuit, latent: &[f64], rng: &mut impl Rng) -> Result<Simulated, RuntimeError> {
    let (program, shape) = (&circuit.program, circuit.program.input.shape());
    if latent.len() != shape.len() {
        return Err(RuntimeError::Length { expected: shape.len(), got: latent.len(), shape });
    }
    let mut keep = vec![None; program.instructions.len()];
    program.results.iter().flat_map(|r| &r.values).for_each(|v| keep[v.index()] = Some(Slots::new()));
    let mut noisy = Noisy {
        circuit,
        model: NoiseModel::new(&circuit.parameters),
        clear: ClearInterpreter::new(program, latent).map_err(ModelError::from)?,
        keep,
        rng,
    };
    let outputs = match walk(program, &circuit.schedule, &mut noisy) {
        Ok(outputs) => outputs,
        Err(never) => match never {},
    };
    let logits = program.output.unpack(&slots(&outputs));
    let layers = program.results.iter().map(|result| {
        let slots: Vec<Slots> =
            result.values.iter().map(|v| noisy.keep[v.index()].clone().unwrap_or_default()).collect();
        (program.layers[result.layer as usize].clone(), result.unpack(&slots))
    });
    Ok(Simulated { logits, layers: layers.collect() })
}

/// Precision of one layer: clear against decrypted or simulated.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerError {
    /// The layer.
    pub name: String,
    /// Largest magnitude in the clear.
    pub magnitude: f64,
    /// Largest difference.
    pub error: f64,
}

impl LayerError {
    /// Compares a layer's tensor with that of the clear.
    #[must_use]
    pub fn new(name: &str, got: &[f64], want: &[f64]) -> Self {
        // A NaN anywhere must not vanish in a maximum.
        let larger = |a: f64, b: f64| if b > a || b.is_nan() { b } else { a };
        Self {
            name: name.to_owned(),
            magnitude: want.iter().map(|v| v.abs()).fold(0.0, larger),
            error: got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, larger),
        }
    }

    /// -log2 of the error.
    #[must_use]
    pub fn precision_bits(&self) -> f64 {
        -self.error.log2()
    }
}

/// Simulates a model's circuit and compares every layer with the clear.
///
/// # Errors
/// A latent of the wrong length.
pub fn compare_layers(
    model: &HeModel,
    circuit: &Circuit,
    latent: &[f64],
    rng: &mut impl Rng,
) -> Result<Vec<LayerError>, RuntimeError> {
    let clear = model.graph.run_all(latent).map_err(ModelError::from)?;
    let simulated = simulate(circuit, latent, rng)?;
    let known = simulated.layers.iter().filter_map(|(name, got)| Some((name, got, model.graph.find(name)?)));
    Ok(known.map(|(name, got, node)| LayerError::new(name, got, &clear[node.0])).collect())
}

fn slots(values: &[Value]) -> Vec<Slots> {
    values.iter().map(|v| v.slots.clone()).collect()
}

/// Slots, with the level and scale of the ciphertext that they stand for.
#[derive(Clone)]
struct Value {
    slots: Slots,
    level: usize,
    scale: f64,
}

struct Noisy<'a, R> {
    circuit: &'a Circuit,
    model: NoiseModel,
    clear: ClearInterpreter<'a>,
    keep: Vec<Option<Slots>>,
    rng: &'a mut R,
}

/// Root mean square of some slots.
fn mean(slots: &[Complex64]) -> f64 {
    (slots.iter().map(Complex64::norm_sqr).sum::<f64>() / slots.len().max(1) as f64).sqrt()
}

impl<R: Rng> Noisy<'_, R> {
    fn parameters(&self) -> &Parameters {
        &self.circuit.parameters
    }

    /// A uniform number in (0, 1].
    fn uniform(&mut self) -> f64 {
        ((self.rng.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// `slots` at a scale, with noise of `variance` a coefficient: complex Gaussians by the method of Box and Muller.
    fn disturbed(&mut self, mut slots: Slots, step: &Step, variance: f64) -> Value {
        let estimate = Estimate { level: step.level, scale: step.scale, message: 0.0, variance };
        let deviation = self.model.slot_error(estimate);
        for slot in &mut slots {
            let radius = (-self.uniform().ln()).sqrt() * deviation;
            *slot += Complex64::from_polar(radius, std::f64::consts::TAU * self.uniform());
        }
        Value { slots, level: step.level, scale: step.scale }
    }

    fn exact(slots: Slots, step: &Step) -> Value {
        Value { slots, level: step.level, scale: step.scale }
    }

    fn plain(&self, id: PlainId) -> &[Complex64] {
        &self.circuit.program.plaintexts[id.0 as usize].values
    }

    /// What a product with an encoded plaintext adds, apart from the noise of `a`, which the slots carry.
    fn encoding(&self, a: &Value, plain: PlainId, step: &Step) -> f64 {
        let values = self.plain(plain);
        let (message, clean) = (mean(&a.slots), Estimate { variance: 0.0, ..Self::estimate(a) });
        let product = self.model.mul_plain(
            Estimate { message, ..clean },
            mean(values),
            step.plain_scale,
            values.len().min(self.parameters().slots()),
        );
        product.variance
    }

    fn estimate(a: &Value) -> Estimate {
        Estimate { level: a.level, scale: a.scale, message: mean(&a.slots), variance: 0.0 }
    }
}

/// The result of an infallible operation in the clear.
fn clear(result: Result<Slots, std::convert::Infallible>) -> Slots {
    match result {
        Ok(slots) => slots,
        Err(never) => match never {},
    }
}

impl<R: Rng> Interpreter for Noisy<'_, R> {
    type Value = Value;
    type Error = std::convert::Infallible;

    fn done(&mut self, at: ValueId, value: &Value) -> Result<(), Self::Error> {
        if let Some(kept) = &mut self.keep[at.index()] {
            kept.clone_from(&value.slots);
        }
        Ok(())
    }

    fn input(&mut self, index: usize, step: &Step) -> Result<Value, Self::Error> {
        let slots = self.clear.input(index, step)?;
        let fresh = self.model.fresh_secret(step.level, step.scale, mean(&slots));
        Ok(self.disturbed(slots, step, fresh.variance))
    }

    fn linear(&mut self, inputs: &[&Value], terms: &[Term], step: &Step) -> Result<Value, Self::Error> {
        let rows: Vec<&Slots> = inputs.iter().map(|v| &v.slots).collect();
        let slots = clear(self.clear.linear(&rows, terms, step));
        let switch = self.model.key_product(step.level, step.level);
        let mut giants: Vec<u32> = terms.iter().map(|t| t.giant).filter(|&g| g != 0).collect();
        giants.sort_unstable();
        giants.dedup();
        // A giant step is a whole key switch; a baby step stays undivided, and its noise is multiplied by the plaintext.
        let mut variance = giants.len() as f64 * self.model.key_switch(step.level, step.level);
        for term in terms {
            variance += self.encoding(inputs[term.input as usize], term.plain, step);
            if term.baby != 0 {
                variance += switch * (step.plain_scale * mean(self.plain(term.plain))).powi(2);
            }
        }
        Ok(self.disturbed(slots, step, variance + self.model.rounding()))
    }

    fn mul_plain(&mut self, a: &Value, plain: PlainId, step: &Step) -> Result<Value, Self::Error> {
        let slots = clear(self.clear.mul_plain(&a.slots, plain, step));
        let variance = self.encoding(a, plain, step);
        Ok(self.disturbed(slots, step, variance))
    }

    fn mul_scalar(&mut self, a: &Value, value: f64, step: &Step) -> Result<Value, Self::Error> {
        // The number is rounded at its scale; all slots are off by the same factor.
        let rounded = (value * step.plain_scale).round() / step.plain_scale;
        Ok(Self::exact(clear(self.clear.mul_scalar(&a.slots, rounded, step)), step))
    }

    fn add_plain(&mut self, a: &Value, plain: PlainId, step: &Step) -> Result<Value, Self::Error> {
        let slots = clear(self.clear.add_plain(&a.slots, plain, step));
        let share = self.plain(plain).len() as f64 / self.parameters().slots() as f64;
        Ok(self.disturbed(slots, step, share / 12.0))
    }

    fn add(&mut self, a: &Value, b: &Value, step: &Step) -> Result<Value, Self::Error> {
        Ok(Self::exact(clear(self.clear.add(&a.slots, &b.slots, step)), step))
    }

    fn sub(&mut self, a: &Value, b: &Value, step: &Step) -> Result<Value, Self::Error> {
        Ok(Self::exact(clear(self.clear.sub(&a.slots, &b.slots, step)), step))
    }

    fn rotate(&mut self, a: &Value, by: u32, step: &Step) -> Result<Value, Self::Error> {
        let slots = clear(self.clear.rotate(&a.slots, by, step));
        let variance = if by == 0 { 0.0 } else { self.model.key_switch(step.level, step.level) };
        Ok(self.disturbed(slots, step, variance))
    }

    fn conjugate(&mut self, a: &Value, step: &Step) -> Result<Value, Self::Error> {
        let slots = clear(self.clear.conjugate(&a.slots, step));
        let variance = self.model.key_switch(step.level, step.level);
        Ok(self.disturbed(slots, step, variance))
    }

    fn mul(&mut self, a: &Value, b: &Value, step: &Step) -> Result<Value, Self::Error> {
        let slots = clear(self.clear.mul(&a.slots, &b.slots, step));
        let variance = self.model.key_switch(step.level, step.level);
        Ok(self.disturbed(slots, step, variance))
    }

    fn square(&mut self, a: &Value, step: &Step) -> Result<Value, Self::Error> {
        let slots = clear(self.clear.square(&a.slots, step));
        let variance = self.model.key_switch(step.level, step.level);
        Ok(self.disturbed(slots, step, variance))
    }

    fn rescale(&mut self, a: &Value, step: &Step) -> Result<Value, Self::Error> {
        let lower = Step { level: step.level - 1, ..*step };
        let slots = a.slots.clone();
        let variance = self.model.rounding();
        Ok(self.disturbed(slots, &lower, variance))
    }

    fn drop_level(&mut self, a: &Value, level: usize) -> Result<Value, Self::Error> {
        Ok(Value { level, ..a.clone() })
    }
}
