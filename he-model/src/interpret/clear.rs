//! The executable in the clear: every value is the vector of its slots, in `f64`, whatever its form
//! on ciphertexts.
//!
//! This is the rung of the ladder between the graph's interpreter and ciphertexts: it makes exactly
//! the rotations and products that ciphertexts would make, without noise.

use std::convert::Infallible;

use num_complex::Complex64;

use super::{Interpreter, Keeping, Operand, walk};
use crate::executable::{Executable, Map, Move, Operation, Plain, Step};
use crate::program::Program;
use crate::schedule::{Chain, depth, schedule};
use crate::{ModelError, Shape};

/// A vector of slots.
pub type Slots = Vec<Complex64>;

/// Carries out operations on slots.
pub struct ClearInterpreter<'a> {
    executable: &'a Executable,
    inputs: Vec<Slots>,
}

impl<'a> ClearInterpreter<'a> {
    /// An interpreter for `executable` on the tensor of a film, or on those of a batch, one after
    /// the other.
    ///
    /// # Errors
    /// A tensor of the wrong length.
    pub fn new(executable: &'a Executable, tensor: &[f64]) -> Result<Self, crate::GraphError> {
        let layout = executable.input();
        let shape: Shape = layout.shape();
        let films = tensor.len() / shape.len();
        if tensor.len() != films * shape.len() || !(1..=layout.films()).contains(&films) {
            return Err(crate::GraphError::InputLength { expected: shape.len(), got: tensor.len(), shape });
        }
        Ok(Self { executable, inputs: layout.pack(tensor) })
    }

    /// Runs `program` on a tensor and returns the output tensor, that of the first film in a batch.
    ///
    /// # Errors
    /// A tensor of the wrong length, or a program that cannot be scheduled.
    pub fn run(program: &Program, tensor: &[f64]) -> Result<Vec<f64>, ModelError> {
        Ok(Self::run_layers(program, tensor)?.0)
    }

    /// As [`ClearInterpreter::run`], and the tensor of every layer in the order of
    /// [`Program::results`].
    ///
    /// # Errors
    /// A tensor of the wrong length, or a program that cannot be scheduled.
    pub fn run_layers(program: &Program, tensor: &[f64]) -> Result<(Vec<f64>, Vec<Vec<f64>>), ModelError> {
        let executable = ideal(program)?;
        let (outputs, results) =
            infallible(Keeping::walk(&executable, ClearInterpreter::new(&executable, tensor)?));
        let layers = executable.results().iter().zip(&results).map(|(layer, slots)| layer.unpack(slots));
        Ok((executable.output().unpack(&outputs), layers.collect()))
    }

    /// Runs `program` on the tensors of a batch, one after the other, and returns the output tensor
    /// of each film.
    ///
    /// # Errors
    /// Tensors of the wrong length, or a program that cannot be scheduled.
    pub fn run_batch(program: &Program, tensors: &[f64]) -> Result<Vec<Vec<f64>>, ModelError> {
        Self::execute_batch(&ideal(program)?, tensors)
    }

    /// As [`ClearInterpreter::run_batch`], for a program with levels and scales.
    ///
    /// # Errors
    /// Tensors of the wrong length.
    pub fn execute_batch(executable: &Executable, tensors: &[f64]) -> Result<Vec<Vec<f64>>, ModelError> {
        let mut clear = ClearInterpreter::new(executable, tensors)?;
        let outputs = infallible(walk(executable, &mut clear));
        let films = tensors.len() / executable.input().shape().len();
        Ok((0..films).map(|film| executable.output().unpack_film(&outputs, film)).collect())
    }

    /// `sum over giants g of rotate_g(sum of plain * rotate_baby(input))`.
    fn linear(&self, inputs: &[Operand<'_, Slots>], map: &Map) -> Slots {
        let slots = self.executable.slots();
        let mut sum = vec![Complex64::ZERO; slots];
        let mut giants: Vec<u32> = map.terms.iter().map(|t| t.giant).collect();
        giants.sort_unstable();
        giants.dedup();
        for giant in giants {
            let mut inner = vec![Complex64::ZERO; slots];
            for term in map.terms.iter().filter(|t| t.giant == giant) {
                let x = &inputs[term.input as usize];
                let plain = self.executable.plaintext(term.plain);
                let (mut at, mask) = (term.baby as usize, plain.len() - 1);
                for (i, v) in inner.iter_mut().enumerate() {
                    *v += plain[i & mask] * x[at];
                    at = if at + 1 == slots { 0 } else { at + 1 };
                }
            }
            add(&mut sum, &rotated(&inner, giant as usize));
        }
        sum
    }
}

/// A program at levels with primes of exactly 2^30, as many as needed.
fn ideal(program: &Program) -> Result<Executable, ModelError> {
    let prime = 30f64.exp2();
    let chain = Chain { primes: vec![prime; depth(program) + 2], scale: prime, base_level: 1 };
    Executable::new(program, &schedule(program, &chain)?)
}

/// What cannot go wrong.
fn infallible<T>(result: Result<T, Infallible>) -> T {
    match result {
        Ok(value) => value,
        Err(never) => match never {},
    }
}

/// `v` rotated to the left.
fn rotated(v: &[Complex64], by: usize) -> Slots {
    [&v[by..], &v[..by]].concat()
}

fn moved(v: &[Complex64], by: Move) -> Slots {
    match by {
        Move::Rotation(by) => rotated(v, by as usize),
        Move::Conjugation(by) => rotated(v, by as usize).iter().map(Complex64::conj).collect(),
    }
}

fn add(sum: &mut [Complex64], v: &[Complex64]) {
    sum.iter_mut().zip(v).for_each(|(s, v)| *s += v);
}

impl Interpreter for ClearInterpreter<'_> {
    type Value = Slots;
    type Error = Infallible;

    fn execute(
        &mut self,
        step: &Step,
        mut operands: Vec<Operand<'_, Slots>>,
    ) -> Result<Vec<Slots>, Infallible> {
        let repeated = |plain: &Plain, i: usize| {
            let values = self.executable.plaintext(plain.id);
            values[i & (values.len() - 1)]
        };
        let result = match step.operation() {
            Operation::Linear { maps, .. } => {
                return Ok(maps.iter().map(|map| self.linear(&operands, map)).collect());
            }
            Operation::Input(index) => self.inputs[*index].clone(),
            Operation::SumMoved(terms) => {
                let mut moves = terms.iter().map(|(_, by)| *by).zip(&operands);
                let mut sum = moves.next().map_or(vec![], |(by, first)| moved(first, by));
                moves.for_each(|(by, value)| add(&mut sum, &moved(value, by)));
                sum
            }
            Operation::Move { by, .. } => moved(&operands[0], *by),
            Operation::Mul(..) => operands[0].iter().zip(&*operands[1]).map(|(a, b)| a * b).collect(),
            Operation::Square(_) => operands[0].iter().map(|a| a * a).collect(),
            Operation::Add(..) => operands[0].iter().zip(&*operands[1]).map(|(a, b)| a + b).collect(),
            Operation::Sub(..) => operands[0].iter().zip(&*operands[1]).map(|(a, b)| a - b).collect(),
            Operation::MulPlain { plain, .. } => {
                operands[0].iter().enumerate().map(|(i, a)| a * repeated(plain, i)).collect()
            }
            Operation::AddPlain { plain, .. } => {
                operands[0].iter().enumerate().map(|(i, a)| a + repeated(plain, i)).collect()
            }
            Operation::MulScalar { value, .. } => operands[0].iter().map(|a| a * value).collect(),
            Operation::Extend { .. }
            | Operation::Divide { .. }
            | Operation::Relinearize { .. }
            | Operation::Rescale { .. }
            | Operation::DropLevel { .. } => operands.swap_remove(0).into_owned(),
        };
        Ok(vec![result])
    }
}
