//! The packed program in the clear with the noise that ciphertexts would carry: what a run will be
//! off by, before there are keys.
//!
//! Every slot is a number in f64. Plaintexts are rounded as they are when they are encoded, which
//! is most of the error. Where an operation on ciphertexts adds noise (encryption, key switching,
//! rescaling), a Gaussian of the same variance is drawn for every slot by the formulas of
//! [`ckks::NoiseModel`]; everything after it sees the noisy value, so that noise is carried on,
//! amplified and correlated as in the real run. Magnitudes are those of the values at hand, not
//! bounds. No key is needed, and none can be named here.

use std::convert::Infallible;

use ckks::{Complex64, Estimate, NoiseModel};
use he_model::executable::{Map, Operation, Placement, Step};
use he_model::interpret::clear::{ClearInterpreter, Slots};
use he_model::interpret::{Interpreter, Keeping, Operand};
use he_model::program::Term;
use he_model::{Executable, HeModel, ModelError, ValueId};
use rand_core::Rng;

use crate::RuntimeError;
use crate::circuit::Circuit;
use crate::reference::clear_layers;
use crate::rounding::rounded;

/// What a simulated run gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Simulated {
    /// The logits with noise.
    pub logits: Vec<f64>,
    /// Name and tensor of every layer, in order.
    pub layers: Vec<(String, Vec<f64>)>,
}

/// Runs a circuit on the latents of 1 to [`ClientSpec::films`](crate::ClientSpec::films) films with
/// modelled noise, which gives a result a film; the latents count as encrypted under the secret
/// key, as the client does it.
///
/// # Errors
/// No film or too many, or a latent of the wrong length.
pub fn simulate(
    circuit: &Circuit,
    latents: &[impl AsRef<[f64]>],
    rng: &mut impl Rng,
) -> Result<Vec<Simulated>, RuntimeError> {
    let batch = circuit.spec.batch(latents)?;
    let rounded = rounded(circuit)?;
    let noisy = Noisy {
        executable: &rounded,
        model: NoiseModel::new(&circuit.parameters),
        clear: ClearInterpreter::new(&rounded, &batch).map_err(ModelError::from)?,
        rng,
    };
    let (outputs, results) = match Keeping::walk(&rounded, noisy) {
        Ok(values) => values,
        Err(never) => match never {},
    };
    let film = |film| {
        let layers = rounded.results().iter().zip(&results).map(|(result, slots)| {
            (rounded.layers()[result.layer as usize].clone(), result.unpack_film(slots, film))
        });
        Simulated { logits: rounded.output().unpack_film(&outputs, film), layers: layers.collect() }
    };
    Ok((0..latents.len()).map(film).collect())
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

/// A NaN anywhere must not vanish in a maximum.
fn larger(a: f64, b: f64) -> f64 {
    if b > a || b.is_nan() { b } else { a }
}

impl LayerError {
    /// Compares a layer's tensor with that of the clear.
    #[must_use]
    pub fn new(name: &str, got: &[f64], want: &[f64]) -> Self {
        Self {
            name: name.to_owned(),
            magnitude: want.iter().map(|v| v.abs()).fold(0.0, larger),
            error: got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, larger),
        }
    }

    /// Takes in what other films gave at the same layer.
    pub fn widen(&mut self, other: &Self) {
        self.magnitude = larger(self.magnitude, other.magnitude);
        self.error = larger(self.error, other.error);
    }

    /// -log2 of the error.
    #[must_use]
    pub fn precision_bits(&self) -> f64 {
        -self.error.log2()
    }
}

/// Simulates a model's circuit on 1 to [`ClientSpec::films`](crate::ClientSpec::films) films and
/// compares every layer with the clear, the worst film for each.
///
/// # Errors
/// No film or too many, or a latent of the wrong length.
pub fn compare_layers(
    model: &HeModel,
    circuit: &Circuit,
    latents: &[impl AsRef<[f64]>],
    rng: &mut impl Rng,
) -> Result<Vec<LayerError>, RuntimeError> {
    let clear = clear_layers(model, latents)?;
    let mut all: Vec<LayerError> = vec![];
    for (simulated, clear) in simulate(circuit, latents, rng)?.iter().zip(&clear) {
        let known =
            simulated.layers.iter().filter_map(|(name, got)| Some((name, got, model.graph.find(name)?)));
        let errors: Vec<_> =
            known.map(|(name, got, node)| LayerError::new(name, got, &clear[node.0])).collect();
        if all.is_empty() {
            all = errors;
        } else {
            all.iter_mut().zip(&errors).for_each(|(all, error)| all.widen(error));
        }
    }
    Ok(all)
}

/// In the clear, with noise on top of what every operation makes.
struct Noisy<'a, R> {
    executable: &'a Executable,
    model: NoiseModel,
    clear: ClearInterpreter<'a>,
    rng: &'a mut R,
}

/// Root mean square of some slots.
fn root_mean_square(slots: &[Complex64]) -> f64 {
    (slots.iter().map(Complex64::norm_sqr).sum::<f64>() / slots.len().max(1) as f64).sqrt()
}

impl<R: Rng> Noisy<'_, R> {
    /// A uniform number in (0, 1].
    fn uniform(&mut self) -> f64 {
        ((self.rng.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// `slots` with noise of `variance` a coefficient: complex Gaussians by the method of Box and
    /// Muller.
    fn disturb(&mut self, slots: &mut Slots, at: Placement, variance: f64) {
        let estimate = Estimate { level: at.level, scale: at.scale, message: 0.0, variance };
        let deviation = self.model.slot_error(estimate);
        for slot in slots {
            let radius = (-self.uniform().ln()).sqrt() * deviation;
            *slot += Complex64::from_polar(radius, std::f64::consts::TAU * self.uniform());
        }
    }

    /// Variance a coefficient of the noise that a linear map adds: a giant step is a whole key
    /// switch; a baby step stays undivided, and its noise is multiplied by the plaintext.
    fn linear(&self, map: &Map, level: usize) -> f64 {
        let mut giants: Vec<u32> = map.terms.iter().map(|t| t.giant).filter(|&g| g != 0).collect();
        giants.sort_unstable();
        giants.dedup();
        let product = self.model.key_product(level, level);
        let babies = map.terms.iter().filter(|t| t.baby != 0);
        let factor = |t: &Term| map.scale * root_mean_square(self.executable.plaintext(t.plain));
        giants.len() as f64 * self.model.key_switch(level, level)
            + babies.map(|t| product * factor(t).powi(2)).sum::<f64>()
    }

    /// Variance a coefficient of the noise that a step adds to its results, at their scale.
    fn variance(&self, step: &Step, result: usize, slots: &Slots) -> f64 {
        let level = self.executable.level(step);
        let at = |v: ValueId| self.executable.placement(v);
        let key_switch = || self.model.key_switch(level, level);
        match step.operation() {
            Operation::Input(_) => {
                let scale = self.executable.input_scale();
                self.model.fresh_secret(level, scale, root_mean_square(slots)).variance
            }
            Operation::Linear { maps, .. } => self.linear(&maps[result], level),
            Operation::SumMoved(terms) => {
                terms.iter().filter(|(_, by)| !by.is_none()).count() as f64 * key_switch()
            }
            Operation::Move { by, .. } if !by.is_none() => key_switch(),
            Operation::Relinearize { input, primes: 1.. } => {
                // What the division leaves of the noise of the key switch.
                let divided = step.results().map(|v| at(v).scale / at(*input).scale).product::<f64>();
                key_switch() * divided.powi(2) + self.model.rounding()
            }
            Operation::Relinearize { .. } => key_switch(),
            Operation::Divide { .. } | Operation::Rescale { .. } => self.model.rounding(),
            Operation::Extend { .. }
            | Operation::Mul(..)
            | Operation::Square(_)
            | Operation::Move { .. }
            | Operation::DropLevel { .. }
            | Operation::MulPlain { .. }
            | Operation::MulScalar { .. }
            | Operation::AddPlain { .. }
            | Operation::Add(..)
            | Operation::Sub(..) => 0.0,
        }
    }
}

impl<R: Rng> Interpreter for Noisy<'_, R> {
    type Value = Slots;
    type Error = Infallible;

    fn execute(&mut self, step: &Step, operands: Vec<Operand<'_, Slots>>) -> Result<Vec<Slots>, Infallible> {
        let mut made = self.clear.execute(step, operands)?;
        for (result, (v, slots)) in step.results().zip(&mut made).enumerate() {
            let variance = self.variance(step, result, slots);
            if variance > 0.0 {
                self.disturb(slots, self.executable.placement(v), variance);
            }
        }
        Ok(made)
    }
}
