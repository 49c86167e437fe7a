//! One walker, several interpreters: the same instructions in the clear, as a trace, and on ciphertexts.

pub mod clear;
pub mod trace;

use crate::program::{Instruction, PlainId, Program, Term, ValueId};
use crate::schedule::{Schedule, Step};

/// Carries out instructions on some kind of value.
///
/// The walker hands over operands at the level of the step; a method returns the result at that level, and
/// [`Interpreter::rescale`] one level lower.
pub trait Interpreter {
    /// What stands for a vector of slots.
    type Value;
    /// What can go wrong.
    type Error;

    /// Called before each instruction: progress, and a chance to stop.
    ///
    /// # Errors
    /// Whatever makes the walk stop.
    fn begin(&mut self, _at: ValueId, _program: &Program) -> Result<(), Self::Error> {
        Ok(())
    }
    /// Called after each instruction with its result, which it may change before anyone reads it.
    ///
    /// # Errors
    /// Whatever makes the walk stop.
    fn done(&mut self, _at: ValueId, _value: &mut Self::Value) -> Result<(), Self::Error> {
        Ok(())
    }
    /// The n-th ciphertext of the input.
    ///
    /// # Errors
    /// If it is missing or does not fit.
    fn input(&mut self, index: usize, step: &Step) -> Result<Self::Value, Self::Error>;
    /// A linear map.
    ///
    /// # Errors
    /// As the implementation says; also for all methods below.
    fn linear(
        &mut self,
        inputs: &[&Self::Value],
        terms: &[Term],
        step: &Step,
    ) -> Result<Self::Value, Self::Error>;
    /// Product with a plaintext.
    ///
    /// # Errors
    /// As the implementation says.
    fn mul_plain(&mut self, a: &Self::Value, plain: PlainId, step: &Step)
    -> Result<Self::Value, Self::Error>;
    /// Product with a real number.
    ///
    /// # Errors
    /// As the implementation says.
    fn mul_scalar(&mut self, a: &Self::Value, value: f64, step: &Step) -> Result<Self::Value, Self::Error>;
    /// Sum with a plaintext.
    ///
    /// # Errors
    /// As the implementation says.
    fn add_plain(&mut self, a: &Self::Value, plain: PlainId, step: &Step)
    -> Result<Self::Value, Self::Error>;
    /// Sum.
    ///
    /// # Errors
    /// As the implementation says.
    fn add(&mut self, a: &Self::Value, b: &Self::Value, step: &Step) -> Result<Self::Value, Self::Error>;
    /// Difference.
    ///
    /// # Errors
    /// As the implementation says.
    fn sub(&mut self, a: &Self::Value, b: &Self::Value, step: &Step) -> Result<Self::Value, Self::Error>;
    /// Rotation to the left.
    ///
    /// # Errors
    /// As the implementation says.
    fn rotate(&mut self, a: &Self::Value, by: u32, step: &Step) -> Result<Self::Value, Self::Error>;
    /// Sum of `count` rotations by multiples of `step`, in rounds of a radix: (step, count, radix).
    ///
    /// # Errors
    /// As the implementation says.
    fn sum_rotations(
        &mut self,
        a: &Self::Value,
        sum: (u32, usize, usize),
        step: &Step,
    ) -> Result<Self::Value, Self::Error>;
    /// Rotation to the left, then conjugation.
    ///
    /// # Errors
    /// As the implementation says.
    fn conjugate(&mut self, a: &Self::Value, by: u32, step: &Step) -> Result<Self::Value, Self::Error>;
    /// Product.
    ///
    /// # Errors
    /// As the implementation says.
    fn mul(&mut self, a: &Self::Value, b: &Self::Value, step: &Step) -> Result<Self::Value, Self::Error>;
    /// Square.
    ///
    /// # Errors
    /// As the implementation says.
    fn square(&mut self, a: &Self::Value, step: &Step) -> Result<Self::Value, Self::Error>;
    /// Division by the last prime.
    ///
    /// # Errors
    /// As the implementation says.
    fn rescale(&mut self, a: &Self::Value, step: &Step) -> Result<Self::Value, Self::Error>;
    /// The same value on fewer limbs.
    ///
    /// # Errors
    /// As the implementation says.
    fn drop_level(&mut self, a: &Self::Value, level: usize) -> Result<Self::Value, Self::Error>;
}

/// Carries out a program; values are dropped after their last reader.
///
/// # Errors
/// The first error of the interpreter.
///
/// # Panics
/// Never for programs made by this crate, whose operands come before their readers.
pub fn walk<I: Interpreter>(
    program: &Program,
    schedule: &Schedule,
    interpreter: &mut I,
) -> Result<Vec<I::Value>, I::Error> {
    let mut left = vec![0usize; program.instructions.len()];
    for instruction in &program.instructions {
        for o in instruction.operands() {
            left[o.index()] += 1;
        }
    }
    program.outputs.iter().for_each(|o| left[o.index()] += 1);
    let mut values: Vec<Option<I::Value>> = (0..program.instructions.len()).map(|_| None).collect();
    for (v, instruction) in program.instructions.iter().enumerate() {
        let at = ValueId(v as u32);
        interpreter.begin(at, program)?;
        let step = &schedule.steps[v];
        let operands = instruction.operands();
        let mut dropped: Vec<Option<I::Value>> = Vec::with_capacity(operands.len());
        for o in &operands {
            let value = values[o.index()].as_ref().expect("operands come before their readers");
            let lower = schedule.result_level(program, *o) > step.level;
            dropped.push(if lower { Some(interpreter.drop_level(value, step.level)?) } else { None });
        }
        let refs: Vec<&I::Value> = operands
            .iter()
            .zip(&dropped)
            .map(|(o, d)| d.as_ref().or(values[o.index()].as_ref()).expect("computed above"))
            .collect();
        let mut result = match instruction {
            Instruction::Input(index) => interpreter.input(*index, step)?,
            Instruction::Linear { terms, .. } => interpreter.linear(&refs, terms, step)?,
            Instruction::MulPlain { plain, .. } => interpreter.mul_plain(refs[0], *plain, step)?,
            Instruction::MulScalar { value, .. } => interpreter.mul_scalar(refs[0], *value, step)?,
            Instruction::AddPlain { plain, .. } => interpreter.add_plain(refs[0], *plain, step)?,
            Instruction::Add(..) => interpreter.add(refs[0], refs[1], step)?,
            Instruction::Sub(..) => interpreter.sub(refs[0], refs[1], step)?,
            Instruction::Rotate { by, .. } => interpreter.rotate(refs[0], *by, step)?,
            Instruction::SumRotations { step: by, count, radix, .. } => {
                interpreter.sum_rotations(refs[0], (*by, *count, *radix), step)?
            }
            Instruction::Conjugate { by, .. } => interpreter.conjugate(refs[0], *by, step)?,
            Instruction::Mul(..) => interpreter.mul(refs[0], refs[1], step)?,
            Instruction::Square(_) => interpreter.square(refs[0], step)?,
            Instruction::Rescale(_) => interpreter.rescale(refs[0], step)?,
        };
        interpreter.done(at, &mut result)?;
        values[v] = Some(result);
        for o in operands {
            left[o.index()] -= 1;
            if left[o.index()] == 0 {
                values[o.index()] = None;
            }
        }
        if left[v] == 0 {
            values[v] = None;
        }
    }
    let mut outputs = Vec::with_capacity(program.outputs.len());
    for o in &program.outputs {
        let lower = schedule.result_level(program, *o) > schedule.output_level;
        let value = values[o.index()].take().expect("outputs are kept and distinct");
        outputs.push(if lower { interpreter.drop_level(&value, schedule.output_level)? } else { value });
    }
    Ok(outputs)
}
