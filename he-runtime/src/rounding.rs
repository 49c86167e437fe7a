//! What rounding does to the plaintexts of a program, and the offsets that undo its mean.
//!
//! Weights and masks share the bits of one prime, so what a ciphertext is multiplied by is off by sqrt(n/12)/scale for n coefficients
//! (`ckks::Encoder`). Those errors are far above all other noise, and they are the same for every film and, where
//! plaintexts repeat, for every row: a mean over the image does not average them out. But they are known. The program with rounded
//! plaintexts runs in the clear on calibration films, and every convolution and linear layer gets the number a
//! channel that makes its mean right, one layer after the other: bias correction as for quantised networks (Nagel et
//! al., 2019, section 4.2), here with the real rounding and measured means.

use std::collections::HashMap;
use std::convert::Infallible;

use ckks::Encoder;
use he_model::interpret::clear::{ClearInterpreter, Slots};
use he_model::interpret::{Interpreter, walk};
use he_model::program::{Instruction, LayerResult, PlainId, Plaintext, Program, Term};
use he_model::schedule::Step;
use he_model::{HeModel, ModelError, Offsets, Op, ValueId};

use crate::RuntimeError;
use crate::circuit::Circuit;

/// From this scale on the rounding of plaintexts is nothing.
const EXACT: f64 = (1u64 << 50) as f64;

/// The program of a circuit with the plaintexts that ciphertexts are really multiplied by.
///
/// # Errors
/// Values that cannot be encoded at their scale.
pub(crate) fn rounded(circuit: &Circuit) -> Result<Program, RuntimeError> {
    let encoder = Encoder::new(&circuit.parameters);
    let mut program = circuit.program.clone();
    let mut plaintexts: Vec<Plaintext> = vec![];
    let mut known: HashMap<(PlainId, u64), PlainId> = HashMap::new();
    let mut at_scale = |id: PlainId, scale: f64| -> Result<PlainId, RuntimeError> {
        if let Some(&known) = known.get(&(id, scale.to_bits())) {
            return Ok(known);
        }
        let values = &circuit.program.plaintexts[id.0 as usize].values;
        let values = if scale < EXACT { encoder.rounded(values, scale)? } else { values.clone() };
        plaintexts.push(Plaintext { values });
        let new = PlainId(plaintexts.len() as u32 - 1);
        known.insert((id, scale.to_bits()), new);
        Ok(new)
    };
    for (instruction, step) in program.instructions.iter_mut().zip(&circuit.schedule.steps) {
        match instruction {
            Instruction::Linear { terms, .. } => {
                for term in terms {
                    term.plain = at_scale(term.plain, step.plain_scale)?;
                }
            }
            Instruction::MulPlain { plain, .. } | Instruction::AddPlain { plain, .. } => {
                *plain = at_scale(*plain, step.plain_scale)?;
            }
            Instruction::MulScalar { value, .. } => {
                *value = (*value * step.plain_scale).round() / step.plain_scale;
            }
            _ => {}
        }
    }
    program.plaintexts = plaintexts;
    Ok(program)
}

/// The offsets for a model, from latents that its author has, `[channels, height, width]` row-major each. The model's own offsets
/// are not looked at.
///
/// # Errors
/// Latents of another length, or a plan that does not fit the graph.
pub fn offsets(model: &HeModel, latents: &[Vec<f64>]) -> Result<Offsets, RuntimeError> {
    let plain = HeModel { offsets: Offsets::new(), ..model.clone() };
    let circuit = Circuit::new(&plain)?;
    if latents.is_empty() {
        return Ok(Offsets::new());
    }
    let shape = circuit.program.input.shape();
    for latent in latents {
        if latent.len() != shape.len() {
            return Err(RuntimeError::Length { expected: shape.len(), got: latent.len(), shape });
        }
    }
    let program = rounded(&circuit)?;
    let clear = |latent: &Vec<f64>| model.graph.run_all(latent).map_err(|e| ModelError::from(e).into());
    let want = latents.iter().map(clear).collect::<Result<Vec<_>, RuntimeError>>()?;
    let films = |latent: &Vec<f64>| ClearInterpreter::new(&program, latent).map_err(ModelError::from);
    let films = latents.iter().map(films).collect::<Result<_, _>>()?;
    let mut corrector = Corrector { model, program: &program, films, want, offsets: Offsets::new() };
    match walk(&program, &circuit.schedule, &mut corrector) {
        Ok(_) => Ok(corrector.offsets),
        Err(never) => match never {},
    }
}

/// All films in step: a layer's offset is measured behind those of the layers before it.
struct Corrector<'a> {
    model: &'a HeModel,
    program: &'a Program,
    films: Vec<ClearInterpreter<'a>>,
    /// Tensors of all nodes, by film.
    want: Vec<Vec<Vec<f64>>>,
    offsets: Offsets,
}

impl Corrector<'_> {
    /// The mean error a channel of a result on one ciphertext.
    fn errors(&self, node: usize, result: &LayerResult, batch: &Batch) -> Vec<f64> {
        let shape = result.layout.shape();
        let positions = shape.height * shape.width;
        let mut errors = vec![0.0; shape.channels];
        for (slots, want) in batch.iter().zip(&self.want) {
            for (i, (got, want)) in
                result.unpack(std::slice::from_ref(slots)).iter().zip(&want[node]).enumerate()
            {
                errors[i / positions] += got - want;
            }
        }
        let count = (self.want.len() * positions) as f64;
        errors.iter().map(|e| e / count).collect()
    }
}

type Batch = Vec<Slots>;

/// The same operation for every film.
fn each<'a>(
    films: &mut [ClearInterpreter<'a>],
    mut f: impl FnMut(usize, &mut ClearInterpreter<'a>) -> Result<Slots, Infallible>,
) -> Result<Batch, Infallible> {
    films.iter_mut().enumerate().map(|(k, film)| f(k, film)).collect()
}

impl Interpreter for Corrector<'_> {
    type Value = Batch;
    type Error = Infallible;

    fn done(&mut self, at: ValueId, value: &mut Batch) -> Result<(), Infallible> {
        // Of a result on several ciphertexts only the last could still be changed when all are there: it gets no offset.
        let program = self.program;
        let Some(result) = program.results.iter().find(|r| r.values == [at]) else { return Ok(()) };
        let name = &program.layers[result.layer as usize];
        let Some(node) = self.model.graph.find(name) else { return Ok(()) };
        if !matches!(self.model.graph.node(node).op(), Op::Conv2d(_) | Op::Linear(_)) {
            return Ok(());
        }
        let errors = self.errors(node.0, result, value);
        let shape = result.layout.shape();
        let positions = shape.height * shape.width;
        let constant: Vec<f64> =
            (0..shape.len()).map(|i| errors[i / positions] / result.factor[i / positions]).collect();
        let packed = result.layout.pack(&constant);
        for slots in value.iter_mut() {
            slots.iter_mut().zip(&packed[0]).for_each(|(s, c)| *s -= c);
        }
        self.offsets.insert(name.clone(), errors.iter().map(|e| -e).collect());
        Ok(())
    }

    fn input(&mut self, index: usize, step: &Step) -> Result<Batch, Infallible> {
        each(&mut self.films, |_, film| film.input(index, step))
    }

    fn linear(&mut self, inputs: &[&Batch], terms: &[Term], step: &Step) -> Result<Batch, Infallible> {
        each(&mut self.films, |k, film| {
            let inputs: Vec<&Slots> = inputs.iter().map(|batch| &batch[k]).collect();
            film.linear(&inputs, terms, step)
        })
    }

    fn mul_plain(&mut self, a: &Batch, plain: PlainId, step: &Step) -> Result<Batch, Infallible> {
        each(&mut self.films, |k, film| film.mul_plain(&a[k], plain, step))
    }

    fn mul_scalar(&mut self, a: &Batch, value: f64, step: &Step) -> Result<Batch, Infallible> {
        each(&mut self.films, |k, film| film.mul_scalar(&a[k], value, step))
    }

    fn add_plain(&mut self, a: &Batch, plain: PlainId, step: &Step) -> Result<Batch, Infallible> {
        each(&mut self.films, |k, film| film.add_plain(&a[k], plain, step))
    }

    fn add(&mut self, a: &Batch, b: &Batch, step: &Step) -> Result<Batch, Infallible> {
        each(&mut self.films, |k, film| film.add(&a[k], &b[k], step))
    }

    fn sub(&mut self, a: &Batch, b: &Batch, step: &Step) -> Result<Batch, Infallible> {
        each(&mut self.films, |k, film| film.sub(&a[k], &b[k], step))
    }

    fn rotate(&mut self, a: &Batch, by: u32, step: &Step) -> Result<Batch, Infallible> {
        each(&mut self.films, |k, film| film.rotate(&a[k], by, step))
    }

    fn sum_rotations(
        &mut self,
        a: &Batch,
        sum: (u32, usize, usize),
        step: &Step,
    ) -> Result<Batch, Infallible> {
        each(&mut self.films, |k, film| film.sum_rotations(&a[k], sum, step))
    }

    fn conjugate(&mut self, a: &Batch, step: &Step) -> Result<Batch, Infallible> {
        each(&mut self.films, |k, film| film.conjugate(&a[k], step))
    }

    fn mul(&mut self, a: &Batch, b: &Batch, step: &Step) -> Result<Batch, Infallible> {
        each(&mut self.films, |k, film| film.mul(&a[k], &b[k], step))
    }

    fn square(&mut self, a: &Batch, step: &Step) -> Result<Batch, Infallible> {
        each(&mut self.films, |k, film| film.square(&a[k], step))
    }

    fn rescale(&mut self, a: &Batch, step: &Step) -> Result<Batch, Infallible> {
        each(&mut self.films, |k, film| film.rescale(&a[k], step))
    }

    fn drop_level(&mut self, a: &Batch, level: usize) -> Result<Batch, Infallible> {
        each(&mut self.films, |k, film| film.drop_level(&a[k], level))
    }
}
