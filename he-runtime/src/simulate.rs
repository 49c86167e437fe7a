//! The packed program in the clear with the noise that ciphertexts would carry: what a run will be off by, before there are keys.
//!
//! Every slot is a number in f64. Plaintexts are rounded as they are when they are encoded, which is most of the error. Where an
//! operation on ciphertexts adds noise (encryption, key switching, rescaling), a Gaussian of the same variance is drawn for every slot by the formulas of [`ckks::NoiseModel`]; everything after it
//! sees the noisy value, so that noise is carried on, amplified and correlated as in the real run. Magnitudes are
//! those of the values at hand, not bounds. No key is needed, and none can be named here.

use ckks::{Complex64, Estimate, NoiseModel};
use he_model::interpret::clear::{ClearInterpreter, Slots};
use he_model::interpret::{Interpreter, walk};
use he_model::program::{PlainId, Program, Term, rounds};
use he_model::schedule::Step;
use he_model::{HeModel, ModelError, ValueId};
use rand_core::Rng;

use crate::RuntimeError;
use crate::circuit::Circuit;
use crate::rounding::rounded;

/// What a simulated run gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Simulated {
    /// The logits with noise.
    pub logits: Vec<f64>,
    /// Name and tensor of every layer, in order.
    pub layers: Vec<(String, Vec<f64>)>,
}

/// Runs a circuit on the latents of 1 to [`ClientSpec::films`](crate::ClientSpec::films) films with modelled noise, which gives a result a
/// film; the latents count as encrypted under the secret key, as the client does it.
///
/// # Errors
/// No film or too many, or a latent of the wrong length.
pub fn simulate(
    circuit: &Circuit,
    latents: &[impl AsRef<[f64]>],
    rng: &mut impl Rng,
) -> Result<Vec<Simulated>, RuntimeError> {
    let program = &circuit.program;
    let batch = circuit.spec.batch(latents)?;
    let mut keep = vec![None; program.instructions.len()];
    program.results.iter().flat_map(|r| &r.values).for_each(|v| keep[v.index()] = Some(Slots::new()));
    let rounded = rounded(circuit)?;
    let mut noisy = Noisy {
        program: &rounded,
        model: NoiseModel::new(&circuit.parameters),
        clear: ClearInterpreter::new(&rounded, &batch).map_err(ModelError::from)?,
        keep,
        rng,
    };
    let outputs = match walk(&rounded, &circuit.schedule, &mut noisy) {
        Ok(outputs) => outputs,
        Err(never) => match never {},
    };
    let logits = |film| program.output.unpack_film(&outputs, film);
    let mut films: Vec<Simulated> =
        (0..latents.len()).map(|film| Simulated { logits: logits(film), layers: vec![] }).collect();
    for result in &program.results {
        let slots: Vec<Slots> =
            result.values.iter().map(|v| noisy.keep[v.index()].clone().unwrap_or_default()).collect();
        for (film, simulated) in films.iter_mut().enumerate() {
            let name = program.layers[result.layer as usize].clone();
            simulated.layers.push((name, result.unpack_film(&slots, film)));
        }
    }
    Ok(films)
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

/// Simulates a model's circuit on 1 to [`ClientSpec::films`](crate::ClientSpec::films) films and compares every layer with the clear, the
/// worst film for each.
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

/// The tensors of all nodes, by film.
pub(crate) fn clear_layers(
    model: &HeModel,
    latents: &[impl AsRef<[f64]>],
) -> Result<Vec<Vec<Vec<f64>>>, RuntimeError> {
    let clear = |latent: &[f64]| model.graph.run_all(latent).map_err(|e| ModelError::from(e).into());
    latents.iter().map(|latent| clear(latent.as_ref())).collect()
}

struct Noisy<'a, R> {
    program: &'a Program,
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
    /// A uniform number in (0, 1].
    fn uniform(&mut self) -> f64 {
        ((self.rng.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// `slots` at a scale, with noise of `variance` a coefficient: complex Gaussians by the method of Box and Muller.
    fn disturbed(&mut self, mut slots: Slots, step: &Step, variance: f64) -> Slots {
        let estimate = Estimate { level: step.level, scale: step.scale, message: 0.0, variance };
        let deviation = self.model.slot_error(estimate);
        for slot in &mut slots {
            let radius = (-self.uniform().ln()).sqrt() * deviation;
            *slot += Complex64::from_polar(radius, std::f64::consts::TAU * self.uniform());
        }
        slots
    }

    fn plain(&self, id: PlainId) -> &[Complex64] {
        &self.program.plaintexts[id.0 as usize].values
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
    type Value = Slots;
    type Error = std::convert::Infallible;

    fn done(&mut self, at: ValueId, value: &mut Slots) -> Result<(), Self::Error> {
        if let Some(kept) = &mut self.keep[at.index()] {
            kept.clone_from(value);
        }
        Ok(())
    }

    fn input(&mut self, index: usize, step: &Step) -> Result<Slots, Self::Error> {
        let slots = self.clear.input(index, step)?;
        let fresh = self.model.fresh_secret(step.level, step.scale, mean(&slots));
        Ok(self.disturbed(slots, step, fresh.variance))
    }

    fn linear(&mut self, inputs: &[&Slots], terms: &[Term], step: &Step) -> Result<Slots, Self::Error> {
        let slots = clear(self.clear.linear(inputs, terms, step));
        let switch = self.model.key_product(step.level, step.level);
        let mut giants: Vec<u32> = terms.iter().map(|t| t.giant).filter(|&g| g != 0).collect();
        giants.sort_unstable();
        giants.dedup();
        // A giant step is a whole key switch; a baby step stays undivided, and its noise is multiplied by the plaintext.
        let mut variance = giants.len() as f64 * self.model.key_switch(step.level, step.level);
        for term in terms {
            if term.baby != 0 {
                variance += switch * (step.plain_scale * mean(self.plain(term.plain))).powi(2);
            }
        }
        Ok(self.disturbed(slots, step, variance + self.model.rounding()))
    }

    fn mul_plain(&mut self, a: &Slots, plain: PlainId, step: &Step) -> Result<Slots, Self::Error> {
        Ok(clear(self.clear.mul_plain(a, plain, step)))
    }

    fn mul_scalar(&mut self, a: &Slots, value: f64, step: &Step) -> Result<Slots, Self::Error> {
        Ok(clear(self.clear.mul_scalar(a, value, step)))
    }

    fn add_plain(&mut self, a: &Slots, plain: PlainId, step: &Step) -> Result<Slots, Self::Error> {
        Ok(clear(self.clear.add_plain(a, plain, step)))
    }

    fn add(&mut self, a: &Slots, b: &Slots, step: &Step) -> Result<Slots, Self::Error> {
        Ok(clear(self.clear.add(a, b, step)))
    }

    fn sub(&mut self, a: &Slots, b: &Slots, step: &Step) -> Result<Slots, Self::Error> {
        Ok(clear(self.clear.sub(a, b, step)))
    }

    fn rotate(&mut self, a: &Slots, by: u32, step: &Step) -> Result<Slots, Self::Error> {
        let slots = clear(self.clear.rotate(a, by, step));
        let variance = if by == 0 { 0.0 } else { self.model.key_switch(step.level, step.level) };
        Ok(self.disturbed(slots, step, variance))
    }

    fn sum_rotations(
        &mut self,
        a: &Slots,
        sum: (u32, usize, usize),
        step: &Step,
    ) -> Result<Slots, Self::Error> {
        let slots = clear(self.clear.sum_rotations(a, sum, step));
        // The noise of a round is summed, from as many slots, by the rounds that follow.
        let (mut variance, mut left) = (0.0, sum.1 as f64);
        for round in rounds(sum.0, sum.1, sum.2) {
            left /= (round.len() + 1) as f64;
            variance += left * round.len() as f64 * self.model.key_switch(step.level, step.level);
        }
        Ok(self.disturbed(slots, step, variance + self.model.rounding()))
    }

    fn conjugate(&mut self, a: &Slots, by: u32, step: &Step) -> Result<Slots, Self::Error> {
        let slots = clear(self.clear.conjugate(a, by, step));
        let variance = self.model.key_switch(step.level, step.level);
        Ok(self.disturbed(slots, step, variance))
    }

    fn mul(&mut self, a: &Slots, b: &Slots, step: &Step) -> Result<Slots, Self::Error> {
        let slots = clear(self.clear.mul(a, b, step));
        let variance = self.model.key_switch(step.level, step.level);
        Ok(self.disturbed(slots, step, variance))
    }

    fn square(&mut self, a: &Slots, step: &Step) -> Result<Slots, Self::Error> {
        let slots = clear(self.clear.square(a, step));
        let variance = self.model.key_switch(step.level, step.level);
        Ok(self.disturbed(slots, step, variance))
    }

    fn rescale(&mut self, a: &Slots, step: &Step) -> Result<Slots, Self::Error> {
        let lower = Step { level: step.level - 1, ..*step };
        let slots = a.clone();
        let variance = self.model.rounding();
        Ok(self.disturbed(slots, &lower, variance))
    }

    fn drop_level(&mut self, a: &Slots, _: usize) -> Result<Slots, Self::Error> {
        Ok(a.clone())
    }
}
