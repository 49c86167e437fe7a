//! What rounding does to the plaintexts of a program, and the offsets that undo its mean.
//!
//! Weights and masks share the bits of one prime, so what a ciphertext is multiplied by is off by
//! sqrt(n/12)/scale for n coefficients (`ckks::Encoder`). Those errors are far above all other
//! noise, and they are the same for every film and, where plaintexts repeat, for every row: a mean
//! over the image does not average them out. But they are known. What is executed, with rounded
//! plaintexts, runs in the clear on calibration films, and every convolution and linear layer gets
//! the number a channel that makes its mean right, one layer after the other: bias correction as
//! for quantised networks (Nagel et al., 2019, section 4.2), here with the real rounding and
//! measured means.

use std::convert::Infallible;

use ckks::{Complex64, Encoder};
use he_model::executable::Step;
use he_model::interpret::clear::{ClearInterpreter, Slots};
use he_model::interpret::{Interpreter, Operand, walk};
use he_model::program::LayerResult;
use he_model::{Executable, HeModel, ModelError, Offsets, Op, ValueId};

use crate::RuntimeError;
use crate::circuit::Circuit;
use crate::reference::clear_layers;

/// From this scale on the rounding of plaintexts is nothing.
const EXACT: f64 = (1u64 << 50) as f64;

/// The operations of a circuit with the plaintexts and numbers that ciphertexts are really
/// multiplied by.
///
/// # Errors
/// Values that cannot be encoded at their scale.
pub(crate) fn rounded(circuit: &Circuit) -> Result<Executable, RuntimeError> {
    let encoder = Encoder::new(&circuit.parameters);
    circuit.executable.reencoded(|values, scale| {
        Ok(if scale < EXACT { encoder.rounded(values, scale)? } else { values.to_vec() })
    })
}

/// The offsets for a model, from latents that its author has, `[channels, height, width]` row-major
/// each. The model's own offsets are not looked at.
///
/// # Errors
/// Latents of another length, or a plan that does not fit the graph.
pub fn offsets(model: &HeModel, latents: &[Vec<f64>]) -> Result<Offsets, RuntimeError> {
    let plain = HeModel { offsets: Offsets::new(), ..model.clone() };
    let circuit = Circuit::new(&plain)?;
    if latents.is_empty() {
        return Ok(Offsets::new());
    }
    let executable = rounded(&circuit)?;
    let groups = latents.chunks(circuit.spec.films());
    let batch = |films: &[Vec<f64>]| -> Result<_, RuntimeError> {
        Ok(ClearInterpreter::new(&executable, &circuit.spec.batch(films)?).map_err(ModelError::from)?)
    };
    let batches = groups.map(batch).collect::<Result<_, _>>()?;
    let want = clear_layers(model, latents)?;
    let mut corrector = Corrector { model, executable: &executable, batches, want, offsets: Offsets::new() };
    match walk(&executable, &mut corrector) {
        Ok(_) => Ok(corrector.offsets),
        Err(never) => match never {},
    }
}

/// All films in step: a layer's offset is measured behind those of the layers before it.
struct Corrector<'a> {
    model: &'a HeModel,
    executable: &'a Executable,
    /// As many films in each as share a ciphertext.
    batches: Vec<ClearInterpreter<'a>>,
    /// Tensors of all nodes, by film.
    want: Vec<Vec<Vec<f64>>>,
    offsets: Offsets,
}

/// One value, for each batch of films.
type Batches = Vec<Slots>;

impl Corrector<'_> {
    /// Makes the mean of a value right where it is the result of a convolution or a linear layer. A
    /// channel lies in one ciphertext, so each ciphertext is made right for itself.
    fn correct(&mut self, v: ValueId, value: &mut Batches) {
        let place = |r: &LayerResult| r.values.iter().position(|own| *own == v);
        let found = self.executable.results().iter().find_map(|r| Some((r, place(r)?)));
        let Some((result, part)) = found else { return };
        let name = &self.executable.layers()[result.layer as usize];
        let Some(node) = self.model.graph.find(name) else { return };
        if !matches!(self.model.graph.node(node).op(), Op::Conv2d(_) | Op::Linear(_)) {
            return;
        }
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
    }

    /// The mean error of each channel that ciphertext `part` of a result holds; zero for the
    /// others.
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

impl Interpreter for Corrector<'_> {
    type Value = Batches;
    type Error = Infallible;

    fn execute(
        &mut self,
        step: &Step,
        operands: Vec<Operand<'_, Batches>>,
    ) -> Result<Vec<Batches>, Infallible> {
        let mut made: Vec<Batches> = step.results().map(|_| vec![]).collect();
        for (k, batch) in self.batches.iter_mut().enumerate() {
            let operands = operands.iter().map(|o| Operand::Kept(&o[k])).collect();
            for (made, slots) in made.iter_mut().zip(batch.execute(step, operands)?) {
                made.push(slots);
            }
        }
        // Before anything reads it.
        step.results().zip(&mut made).for_each(|(v, value)| self.correct(v, value));
        Ok(made)
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
        let executable = rounded(&circuit).unwrap();
        let mut sums = vec![0.0; model.labels.len()];
        for films in latents.chunks(circuit.spec.films()) {
            let got = ClearInterpreter::execute_batch(&executable, &films.concat()).unwrap();
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
                program.results().iter().any(|r| program.layers()[r.layer as usize] == n.name())
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
            println!(
                "{films} films, {} ciphertexts: {before:.1e}, {after:.1e}",
                program.input().ciphertexts()
            );
            assert!(after < 0.1 * before, "{films} films, {:?}: {after} of {before}", model.plan.packing);
        }
    }
}
