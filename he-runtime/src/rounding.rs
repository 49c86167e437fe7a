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

use ckks::{Complex64, Encoder};
use he_model::interpret::clear::{ClearInterpreter, Slots};
use he_model::interpret::{Interpreter, walk};
use he_model::program::{Instruction, LayerResult, PlainId, Plaintext, Program, Term};
use he_model::schedule::Step;
use he_model::{HeModel, ModelError, Offsets, Op, ValueId};

use crate::RuntimeError;
use crate::circuit::Circuit;
use crate::simulate::clear_layers;

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
    let program = rounded(&circuit)?;
    let groups = latents.chunks(circuit.spec.films());
    let batch = |films: &[Vec<f64>]| -> Result<_, RuntimeError> {
        Ok(ClearInterpreter::new(&program, &circuit.spec.batch(films)?).map_err(ModelError::from)?)
    };
    let batches = groups.map(batch).collect::<Result<_, _>>()?;
    let want = clear_layers(model, latents)?;
    let mut corrector = Corrector { model, program: &program, batches, want, offsets: Offsets::new() };
    match walk(&program, &circuit.schedule, &mut corrector) {
        Ok(_) => Ok(corrector.offsets),
        Err(never) => match never {},
    }
}

/// All films in step: a layer's offset is measured behind those of the layers before it.
struct Corrector<'a> {
    model: &'a HeModel,
    program: &'a Program,
    /// As many films in each as share a ciphertext.
    batches: Vec<ClearInterpreter<'a>>,
    /// Tensors of all nodes, by film.
    want: Vec<Vec<Vec<f64>>>,
    offsets: Offsets,
}

impl Corrector<'_> {
    /// The mean error of each channel that ciphertext `part` of a result holds; zero for the others.
    fn errors(&self, node: usize, result: &LayerResult, part: usize, slots: &Batches) -> Vec<f64> {
        let shape = result.layout.shape();
        let positions = shape.height * shape.width;
        let mut errors = vec![0.0; shape.channels];
        let mut packed = vec![vec![Complex64::ZERO; result.layout.slots()]; result.values.len()];
        for (slots, want) in slots.iter().zip(self.want.chunks(result.layout.films())) {
            packed[part].clone_from(slots);
            for (film, want) in want.iter().enumerate() {
                for (i, (got, want)) in result.unpack_film(&packed, film).iter().zip(&want[node]).enumerate()
                {
                    errors[i / positions] += got - want;
                }
            }
        }
        let count = (self.want.len() * positions) as f64;
        let mean =
            |(c, e): (usize, f64)| if result.layout.ciphertext_of(c) == part { e / count } else { 0.0 };
        errors.into_iter().enumerate().map(mean).collect()
    }
}

/// One ciphertext of the program, for each batch of films.
type Batches = Vec<Slots>;

/// The same operation for every batch.
fn each<'a>(
    batches: &mut [ClearInterpreter<'a>],
    mut f: impl FnMut(usize, &mut ClearInterpreter<'a>) -> Result<Slots, Infallible>,
) -> Result<Batches, Infallible> {
    batches.iter_mut().enumerate().map(|(k, batch)| f(k, batch)).collect()
}

impl Interpreter for Corrector<'_> {
    type Value = Batches;
    type Error = Infallible;

    fn done(&mut self, at: ValueId, value: &mut Batches) -> Result<(), Infallible> {
        let program = self.program;
        let place = |r: &LayerResult| r.values.iter().position(|v| *v == at);
        let found = program.results.iter().find_map(|r| Some((r, place(r)?)));
        let Some((result, part)) = found else { return Ok(()) };
        let name = &program.layers[result.layer as usize];
        let Some(node) = self.model.graph.find(name) else { return Ok(()) };
        if !matches!(self.model.graph.node(node).op(), Op::Conv2d(_) | Op::Linear(_)) {
            return Ok(());
        }
        // A channel lies in one ciphertext, so each ciphertext is made right for itself, before anything reads it.
        let errors = self.errors(node.0, result, part, value);
        let shape = result.layout.shape();
        let positions = shape.height * shape.width;
        let constant: Vec<f64> =
            (0..shape.len()).map(|i| errors[i / positions] / result.factor[i / positions]).collect();
        let packed = result.layout.pack(&constant.repeat(result.layout.films()));
        for slots in value.iter_mut() {
            slots.iter_mut().zip(&packed[part]).for_each(|(s, c)| *s -= c);
        }
        let offsets = self.offsets.entry(name.clone()).or_insert_with(|| vec![0.0; shape.channels]);
        offsets.iter_mut().zip(&errors).for_each(|(offset, error)| *offset -= error);
        Ok(())
    }

    fn input(&mut self, index: usize, step: &Step) -> Result<Batches, Infallible> {
        each(&mut self.batches, |_, batch| batch.input(index, step))
    }

    fn linear(&mut self, inputs: &[&Batches], terms: &[Term], step: &Step) -> Result<Batches, Infallible> {
        each(&mut self.batches, |k, batch| {
            let inputs: Vec<&Slots> = inputs.iter().map(|input| &input[k]).collect();
            batch.linear(&inputs, terms, step)
        })
    }

    fn mul_plain(&mut self, a: &Batches, plain: PlainId, step: &Step) -> Result<Batches, Infallible> {
        each(&mut self.batches, |k, batch| batch.mul_plain(&a[k], plain, step))
    }

    fn mul_scalar(&mut self, a: &Batches, value: f64, step: &Step) -> Result<Batches, Infallible> {
        each(&mut self.batches, |k, batch| batch.mul_scalar(&a[k], value, step))
    }

    fn add_plain(&mut self, a: &Batches, plain: PlainId, step: &Step) -> Result<Batches, Infallible> {
        each(&mut self.batches, |k, batch| batch.add_plain(&a[k], plain, step))
    }

    fn add(&mut self, a: &Batches, b: &Batches, step: &Step) -> Result<Batches, Infallible> {
        each(&mut self.batches, |k, batch| batch.add(&a[k], &b[k], step))
    }

    fn sub(&mut self, a: &Batches, b: &Batches, step: &Step) -> Result<Batches, Infallible> {
        each(&mut self.batches, |k, batch| batch.sub(&a[k], &b[k], step))
    }

    fn rotate(&mut self, a: &Batches, by: u32, step: &Step) -> Result<Batches, Infallible> {
        each(&mut self.batches, |k, batch| batch.rotate(&a[k], by, step))
    }

    fn sum_rotations(
        &mut self,
        a: &Batches,
        sum: (u32, usize, usize),
        step: &Step,
    ) -> Result<Batches, Infallible> {
        each(&mut self.batches, |k, batch| batch.sum_rotations(&a[k], sum, step))
    }

    fn conjugate(&mut self, a: &Batches, by: u32, step: &Step) -> Result<Batches, Infallible> {
        each(&mut self.batches, |k, batch| batch.conjugate(&a[k], by, step))
    }

    fn mul(&mut self, a: &Batches, b: &Batches, step: &Step) -> Result<Batches, Infallible> {
        each(&mut self.batches, |k, batch| batch.mul(&a[k], &b[k], step))
    }

    fn square(&mut self, a: &Batches, step: &Step) -> Result<Batches, Infallible> {
        each(&mut self.batches, |k, batch| batch.square(&a[k], step))
    }

    fn rescale(&mut self, a: &Batches, step: &Step) -> Result<Batches, Infallible> {
        each(&mut self.batches, |k, batch| batch.rescale(&a[k], step))
    }

    fn drop_level(&mut self, a: &Batches, level: usize) -> Result<Batches, Infallible> {
        each(&mut self.batches, |k, batch| batch.drop_level(&a[k], level))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use he_model::zoo::{Architecture, Recipe, random, random_input};
    use he_model::{PlanOptions, Preprocessing, Ranges, SecurityLevel, Shape, plan};

    use super::*;

    fn model(side: usize, shrink: usize, log_n: u32, films: usize) -> HeModel {
        let (input, architecture) = (Shape::new(3, side, side), Architecture::ResNet(8));
        let recipe = Recipe { architecture, input, labels: 5, se: false, post_add_activation: false, shrink };
        let graph = random(&recipe, 2).unwrap();
        let options = PlanOptions {
            log_ring_degree: Some(log_n),
            security: SecurityLevel::InsecureForTests,
            precise: Some(false),
            films,
            ..PlanOptions::default()
        };
        HeModel {
            plan: plan(&graph, &options).unwrap(),
            labels: (0..5).map(|i| format!("label {i}")).collect(),
            preprocessing: Preprocessing::unknown(64, input),
            ranges: Ranges::new(&graph),
            graph,
            offsets: Offsets::new(),
            notes: BTreeMap::new(),
        }
    }

    /// Largest mean error of a logit over films, from rounding alone.
    fn mean_error(model: &HeModel, latents: &[Vec<f64>]) -> f64 {
        let circuit = Circuit::new(model).unwrap();
        let program = rounded(&circuit).unwrap();
        let mut sums = vec![0.0; model.labels.len()];
        for films in latents.chunks(circuit.spec.films()) {
            let got = ClearInterpreter::run_batch(&program, &films.concat()).unwrap();
            for (got, latent) in got.iter().zip(films) {
                let want = model.graph.run(latent).unwrap();
                sums.iter_mut().zip(got).zip(want).for_each(|((s, a), b)| *s += a - b);
            }
        }
        sums.iter().fold(0.0, |m: f64, s| m.max(s.abs())) / latents.len() as f64
    }

    #[test]
    fn offsets_take_the_mean_of_rounding_away_in_batches_and_on_several_ciphertexts_too() {
        for (side, shrink, log_n, films) in [(8, 8, 11, 1), (8, 8, 12, 4), (16, 4, 10, 1)] {
            let mut model = model(side, shrink, log_n, films);
            let latents: Vec<_> = (0..6).map(|seed| random_input(model.graph.input_shape(), seed)).collect();
            let before = mean_error(&model, &latents);
            model.offsets = offsets(&model, &latents).unwrap();
            let linear = |n: &&he_model::Node| matches!(n.op(), Op::Conv2d(_) | Op::Linear(_));
            let missing = |n: &&he_model::Node| !model.offsets.contains_key(n.name());
            let program = model.program().unwrap();
            let shown = |n: &&he_model::Node| {
                program.results.iter().any(|r| program.layers[r.layer as usize] == n.name())
            };
            let left: Vec<_> = model
                .graph
                .nodes()
                .iter()
                .filter(linear)
                .filter(shown)
                .filter(missing)
                .map(|n| n.name())
                .collect();
            assert!(left.is_empty(), "{left:?}");
            let after = mean_error(&model, &latents);
            println!("{films} films, {} ciphertexts: {before:.1e}, {after:.1e}", program.input.ciphertexts());
            assert!(after < 0.1 * before, "{films} films, {:?}: {after} of {before}", model.plan.packing);
        }
    }
}
