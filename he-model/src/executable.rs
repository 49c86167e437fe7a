//! What is executed: a program with its levels and scales, as the list of operations that are
//! really carried out.
//!
//! A program says what happens to slots, and a good deal of what ciphertexts cost lies between its
//! instructions: linear maps of the same inputs share decompositions, sums of moved values are made
//! modulo Q P and divided once, a rescaling is part of the division before it, and products are
//! relinearized when they are. [`Executable::new`] decides all of that (`fuse`) and writes it
//! down, so that whoever walks the list - in the clear, as a trace, with modelled noise, on
//! ciphertexts - walks the same one. Every value has a form, a level and a scale of its own:
//! nothing here assumes that levels only fall.

mod fuse;
mod operation;
mod readers;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use num_complex::Complex64;

pub use operation::{Form, Map, Move, Operation, Plain};

use crate::ModelError;
use crate::layout::Layout;
use crate::program::{LayerResult, PlainId, Plaintext, Program, ValueId};
use crate::schedule::Schedule;

/// Form, level and scale of a value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Placement {
    /// What it is on ciphertexts.
    pub form: Form,
    /// Rescalings left.
    pub level: usize,
    /// Factor between a slot's value and what is encrypted.
    pub scale: f64,
}

/// One operation with the values that it makes.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    operation: Operation,
    layer: u32,
    results: Range<u32>,
}

impl Step {
    /// What is done.
    #[must_use]
    pub fn operation(&self) -> &Operation {
        &self.operation
    }

    /// The layer it is done for, as an index in [`Executable::layers`].
    #[must_use]
    pub fn layer(&self) -> usize {
        self.layer as usize
    }

    /// The values it makes: one, or one a map.
    pub fn results(&self) -> impl ExactSizeIterator<Item = ValueId> + use<> {
        self.results.clone().map(ValueId)
    }
}

/// The list, and what its values are. Every operation reads values that are there, in the form and
/// at the level that it wants. Cloning copies no plaintexts.
#[derive(Debug, Clone)]
pub struct Executable {
    program: Program,
    steps: Vec<Step>,
    values: Vec<Placement>,
    plaintexts: Arc<[Plaintext]>,
    outputs: Vec<ValueId>,
    results: Vec<LayerResult>,
    input: (usize, f64),
    output_level: usize,
}

impl Executable {
    /// The operations of a program at the levels and scales of its schedule.
    ///
    /// # Errors
    /// [`ModelError::Program`] if the schedule is another program's.
    pub fn new(program: &Program, schedule: &Schedule) -> Result<Self, ModelError> {
        if schedule.steps.len() != program.instructions().len() {
            let (steps, own) = (schedule.steps.len(), program.instructions().len());
            let reason = format!("{own} instructions have a schedule of {steps}");
            return Err(ModelError::Program { reason });
        }
        let executable = fuse::fuse(program, schedule);
        executable.check()?;
        Ok(executable)
    }

    /// The steps, in their order.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Number of values that the steps make.
    #[must_use]
    pub fn value_count(&self) -> usize {
        self.values.len()
    }

    /// Form, level and scale of a value.
    ///
    /// # Panics
    /// If the value is not of this executable.
    #[must_use]
    pub fn placement(&self, v: ValueId) -> Placement {
        self.values[v.index()]
    }

    /// The level at which a step is carried out: that of its operands, and of the first result
    /// where it has none.
    #[must_use]
    pub fn level(&self, step: &Step) -> usize {
        let first = step.operation.operands().first().copied();
        self.placement(first.unwrap_or(ValueId(step.results.start))).level
    }

    /// Slots of a ciphertext.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.program.slots()
    }

    /// Names of the layers.
    #[must_use]
    pub fn layers(&self) -> &[String] {
        self.program.layers()
    }

    /// The plaintexts.
    #[must_use]
    pub fn plaintexts(&self) -> &[Plaintext] {
        &self.plaintexts
    }

    /// The values of a plaintext, one period.
    ///
    /// # Panics
    /// If the plaintext is not of this executable.
    #[must_use]
    pub fn plaintext(&self, id: PlainId) -> &[Complex64] {
        &self.plaintexts[id.0 as usize].values
    }

    /// Where the input lies.
    #[must_use]
    pub fn input(&self) -> Layout {
        self.program.input()
    }

    /// Level at which the input is encrypted.
    #[must_use]
    pub fn input_level(&self) -> usize {
        self.input.0
    }

    /// Scale at which the input is encrypted.
    #[must_use]
    pub fn input_scale(&self) -> f64 {
        self.input.1
    }

    /// Where the output lies.
    #[must_use]
    pub fn output(&self) -> Layout {
        self.program.output()
    }

    /// Level of the output.
    #[must_use]
    pub fn output_level(&self) -> usize {
        self.output_level
    }

    /// The output's ciphertexts.
    #[must_use]
    pub fn outputs(&self) -> &[ValueId] {
        &self.outputs
    }

    /// For each layer, where its result lies: the first values that carry it, in whatever form.
    #[must_use]
    pub fn results(&self) -> &[LayerResult] {
        &self.results
    }

    /// The same operations with every plaintext and number replaced by what `encode` makes of its
    /// values at the scale of its use.
    ///
    /// # Errors
    /// Those of `encode`.
    pub fn reencoded<E>(
        &self,
        mut encode: impl FnMut(&[Complex64], f64) -> Result<Vec<Complex64>, E>,
    ) -> Result<Self, E> {
        let mut plaintexts: Vec<Plaintext> = vec![];
        let mut known: HashMap<(PlainId, u64), PlainId> = HashMap::new();
        let mut steps = self.steps.clone();
        for step in &mut steps {
            for (plain, scale) in step.operation.plains_mut() {
                if let Some(new) = known.get(&(*plain, scale.to_bits())) {
                    *plain = *new;
                    continue;
                }
                let new = PlainId(plaintexts.len() as u32);
                plaintexts.push(Plaintext { values: encode(self.plaintext(*plain), scale)? });
                known.insert((*plain, scale.to_bits()), new);
                *plain = new;
            }
            if let Operation::MulScalar { value, scale, .. } = &mut step.operation {
                *value = encode(&[(*value).into()], *scale)?.first().map_or(*value, |v| v.re);
            }
        }
        Ok(Self { steps, plaintexts: plaintexts.into(), ..self.clone() })
    }

    /// Every operand has the form that its operation reads, and all of a step have one level.
    fn check(&self) -> Result<(), ModelError> {
        for (at, step) in self.steps.iter().enumerate() {
            let operands = step.operation.operands();
            let there = operands.iter().all(|o| o.0 < step.results.start);
            let fits = |o: &ValueId| {
                let placement = self.placement(*o);
                placement.form == step.operation.reads() && placement.level == self.level(step)
            };
            let primes = step.operation.primes();
            let makes = |v: ValueId| self.placement(v).form == step.operation.makes();
            if !there || !operands.iter().all(fits) || primes > self.level(step) || !step.results().all(makes)
            {
                let reason = format!("step {at}, {:?}, reads what it cannot", step.operation);
                return Err(ModelError::Program { reason });
            }
        }
        Ok(())
    }
}
