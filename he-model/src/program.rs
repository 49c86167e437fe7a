//! The packed program: single-assignment instructions over vectors of slots.
//!
//! A program says what happens to slots; it knows no levels, scales or primes. [`crate::schedule`]
//! assigns those, and [`crate::executable`] makes of both the list of operations that the
//! interpreters of [`crate::interpret`] walk.

mod builder;
mod giant_steps;
mod instruction;

use std::ops::Range;
use std::sync::Arc;

use num_complex::Complex64;

pub(crate) use builder::Builder;
pub use giant_steps::GiantSteps;
pub use instruction::{Instruction, PlainScale, Term, rounds};

use crate::ModelError;
use crate::layout::Layout;

/// Number of a value. In a program value v is the result of instruction v; in an executable, values
/// are numbered in the order in which its steps make them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId(pub u32);

impl ValueId {
    /// As an index.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Number of a plaintext in the list of a program or of an executable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlainId(pub u32);

/// Slot values of a plaintext. They repeat with the period `values.len()`, a power of two: a
/// plaintext of period p has at most 2p nonzero coefficients, so a short period makes it small,
/// quick to encode and precise.
#[derive(Debug, Clone, PartialEq)]
pub struct Plaintext {
    /// One period.
    pub values: Vec<Complex64>,
}

/// A packed program as its parts, which [`Program::new`] checks.
#[derive(Debug, Clone, PartialEq)]
pub struct ProgramLiteral {
    /// Slots of a ciphertext, a power of two.
    pub slots: usize,
    /// The instructions; operands come first.
    pub instructions: Vec<Instruction>,
    /// For each instruction, its layer in `layers`; ascending.
    pub layer_of: Vec<u32>,
    /// Names of the layers: those of the graph's nodes.
    pub layers: Vec<String>,
    /// The plaintexts.
    pub plaintexts: Arc<[Plaintext]>,
    /// Where the input lies.
    pub input: Layout,
    /// Where the output lies.
    pub output: Layout,
    /// The output's ciphertexts.
    pub outputs: Vec<ValueId>,
    /// For each layer, where its result lies: values and layout, and the factor a channel that is
    /// still missing.
    pub results: Vec<LayerResult>,
}

/// A packed program that can be scheduled and walked: every instruction reads values, plaintexts
/// and slots that there are, and each in its order. Cloning shares it.
#[derive(Debug, Clone, PartialEq)]
pub struct Program(Arc<ProgramLiteral>);

impl Program {
    /// Checks the parts.
    ///
    /// # Errors
    /// [`ModelError::Program`] with the first part that does not fit.
    pub fn new(literal: ProgramLiteral) -> Result<Self, ModelError> {
        literal.check()?;
        Ok(Self(Arc::new(literal)))
    }

    /// Slots of a ciphertext, a power of two.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.0.slots
    }

    /// The instructions; operands come first.
    #[must_use]
    pub fn instructions(&self) -> &[Instruction] {
        &self.0.instructions
    }

    /// The instruction that makes a value.
    ///
    /// # Panics
    /// If the value is not of this program.
    #[must_use]
    pub fn instruction(&self, v: ValueId) -> &Instruction {
        &self.0.instructions[v.index()]
    }

    /// The number of the layer that makes a value.
    ///
    /// # Panics
    /// If the value is not of this program.
    #[must_use]
    pub fn layer_of(&self, v: ValueId) -> u32 {
        self.0.layer_of[v.index()]
    }

    /// The name of the layer that makes a value.
    ///
    /// # Panics
    /// If the value is not of this program.
    #[must_use]
    pub fn layer_name(&self, v: ValueId) -> &str {
        &self.0.layers[self.layer_of(v) as usize]
    }

    /// Names of the layers, those of the graph's nodes.
    #[must_use]
    pub fn layers(&self) -> &[String] {
        &self.0.layers
    }

    /// The plaintexts.
    #[must_use]
    pub fn plaintexts(&self) -> &Arc<[Plaintext]> {
        &self.0.plaintexts
    }

    /// Where the input lies.
    #[must_use]
    pub fn input(&self) -> Layout {
        self.0.input
    }

    /// Where the output lies.
    #[must_use]
    pub fn output(&self) -> Layout {
        self.0.output
    }

    /// The output's ciphertexts.
    #[must_use]
    pub fn outputs(&self) -> &[ValueId] {
        &self.0.outputs
    }

    /// For each layer, where its result lies.
    #[must_use]
    pub fn results(&self) -> &[LayerResult] {
        &self.0.results
    }
}

impl ProgramLiteral {
    fn check(&self) -> Result<(), ModelError> {
        let refuse = |reason: String| Err(ModelError::Program { reason });
        if !self.slots.is_power_of_two() {
            return refuse(format!("{} slots are no power of two", self.slots));
        }
        if self.layer_of.len() != self.instructions.len()
            || !self.layer_of.is_sorted()
            || self.layer_of.last().is_some_and(|layer| *layer as usize >= self.layers.len())
        {
            return refuse("its instructions do not lie in its layers, in their order".into());
        }
        let fits = |p: &Plaintext| p.values.len().is_power_of_two() && p.values.len() <= self.slots;
        if let Some(plain) = self.plaintexts.iter().find(|p| !fits(p)) {
            return refuse(format!(
                "a plaintext of {} values does not divide {} slots",
                plain.values.len(),
                self.slots
            ));
        }
        for (v, instruction) in self.instructions.iter().enumerate() {
            if let Err(reason) = self.check_instruction(v, instruction) {
                return refuse(format!("instruction {v}, {instruction:?}, {reason}"));
            }
        }
        let known = |v: &ValueId| v.index() < self.instructions.len();
        let results = self.results.iter();
        if !self.outputs.iter().all(known) || !results.clone().all(|r| r.values.iter().all(known)) {
            return refuse(
                "its outputs or the results of its layers are values that it does not make".into(),
            );
        }
        if results.clone().any(|r| r.layer as usize >= self.layers.len()) {
            return refuse("it has results of layers that it does not name".into());
        }
        Ok(())
    }

    fn check_instruction(&self, v: usize, instruction: &Instruction) -> Result<(), &'static str> {
        if instruction.operands().iter().any(|o| o.index() >= v) {
            return Err("reads a value that is not there yet");
        }
        if instruction.plaintexts().iter().any(|p| p.0 as usize >= self.plaintexts.len()) {
            return Err("reads a plaintext that is not there");
        }
        let slots: Range<u32> = 0..self.slots as u32;
        let fits = match instruction {
            Instruction::Input(index) => *index < self.input.ciphertexts(),
            Instruction::Linear { inputs, terms, .. } => {
                let fits = |t: &Term| {
                    (t.input as usize) < inputs.len() && slots.contains(&t.baby) && slots.contains(&t.giant)
                };
                !terms.is_empty() && terms.iter().all(fits)
            }
            Instruction::Rotate { by, .. } | Instruction::Conjugate { by, .. } => slots.contains(by),
            Instruction::SumRotations { step, count, radix, .. } => {
                let reach = (*step as usize).saturating_mul(count.saturating_sub(1));
                count.is_power_of_two() && [2, 4].contains(radix) && reach < self.slots
            }
            Instruction::MulScalar { value, .. } => value.is_finite(),
            _ => true,
        };
        if fits { Ok(()) } else { Err("has inputs, rotations or numbers that cannot be") }
    }
}

/// Where the result of a graph node lies in the program.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerResult {
    /// Index in [`Program::layers`].
    pub layer: u32,
    /// Its ciphertexts.
    pub values: Vec<ValueId>,
    /// Its layout.
    pub layout: Layout,
    /// True value = factor x slot value, one a channel.
    pub factor: Vec<f64>,
}

impl LayerResult {
    /// The layer's tensor from the slots of its ciphertexts, that of the first film in a batch.
    ///
    /// # Panics
    /// If there are fewer ciphertexts or slots than the layout says.
    #[must_use]
    pub fn unpack(&self, slots: &[Vec<Complex64>]) -> Vec<f64> {
        self.unpack_film(slots, 0)
    }

    /// As [`LayerResult::unpack`], the tensor of film `film`.
    ///
    /// # Panics
    /// If there are fewer films, ciphertexts or slots than that.
    #[must_use]
    pub fn unpack_film(&self, slots: &[Vec<Complex64>], film: usize) -> Vec<f64> {
        let mut tensor = self.layout.unpack_film(slots, film);
        let positions = self.layout.shape().height * self.layout.shape().width;
        tensor.iter_mut().enumerate().for_each(|(i, v)| *v *= self.factor[i / positions]);
        tensor
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn literal(instructions: Vec<Instruction>) -> ProgramLiteral {
        let layout = Layout::Vector { features: 2, slots: 4, period: 2, films: 1 };
        ProgramLiteral {
            slots: 4,
            layer_of: vec![0; instructions.len()],
            outputs: vec![ValueId(instructions.len() as u32 - 1)],
            instructions,
            layers: vec!["input".into()],
            plaintexts: [Plaintext { values: vec![Complex64::ONE; 2] }].into(),
            input: layout,
            output: layout,
            results: vec![],
        }
    }

    #[test]
    fn what_cannot_be_walked_is_refused() {
        let input = ValueId(0);
        let term = Term { input: 0, baby: 3, giant: 0, plain: PlainId(0) };
        let linear =
            |term| Instruction::Linear { inputs: vec![input], terms: vec![term], scale: PlainScale::Fill };
        let sum = |step, count, radix| Instruction::SumRotations { input, step, count, radix };
        let check = |second: Instruction| Program::new(literal(vec![Instruction::Input(0), second]));
        for good in [linear(term), sum(1, 4, 2), sum(2, 2, 4), Instruction::Rescale(input)] {
            assert!(check(good.clone()).is_ok(), "{good:?}");
        }
        for bad in [
            linear(Term { input: 1, ..term }),
            linear(Term { baby: 4, ..term }),
            linear(Term { giant: 4, ..term }),
            linear(Term { plain: PlainId(1), ..term }),
            sum(1, 3, 2),
            sum(1, 4, 3),
            sum(2, 4, 2),
            Instruction::Linear { inputs: vec![input], terms: vec![], scale: PlainScale::Fill },
            Instruction::Input(1),
            Instruction::Rotate { input, by: 4 },
            Instruction::Square(ValueId(1)),
            Instruction::Add(input, ValueId(7)),
            Instruction::MulScalar { input, value: f64::NAN },
        ] {
            let error = check(bad.clone()).unwrap_err().to_string();
            assert!(error.contains("instruction 1") && error.contains("this is a defect"), "{error}");
        }
        let good = literal(vec![Instruction::Input(0)]);
        let layout = good.input;
        let result =
            |layer, value| LayerResult { layer, values: vec![ValueId(value)], layout, factor: vec![] };
        for bad in [
            ProgramLiteral { slots: 3, ..good.clone() },
            ProgramLiteral { layer_of: vec![1], ..good.clone() },
            ProgramLiteral { layer_of: vec![], ..good.clone() },
            ProgramLiteral { outputs: vec![ValueId(1)], ..good.clone() },
            ProgramLiteral { results: vec![result(1, 0)], ..good.clone() },
            ProgramLiteral { results: vec![result(0, 1)], ..good.clone() },
            ProgramLiteral {
                plaintexts: [Plaintext { values: vec![Complex64::ONE; 8] }].into(),
                ..good.clone()
            },
        ] {
            assert!(Program::new(bad.clone()).is_err(), "{bad:?}");
        }
        assert!(Program::new(good).is_ok());
    }
}
