//! The packed program in the clear: every ciphertext is the vector of its slots, in `f64`.
//!
//! This is the rung of the ladder between the graph's interpreter and ciphertexts: it makes exactly the
//! rotations and products that ciphertexts would make, without noise.

use std::convert::Infallible;

use num_complex::Complex64;

use super::{Interpreter, walk};
use crate::program::{PlainId, Program, Term, ValueId, rounds};
use crate::schedule::{Chain, Schedule, Step, depth, schedule};
use crate::{ModelError, Shape};

/// A vector of slots.
pub type Slots = Vec<Complex64>;

/// Carries out a program on slots.
pub struct ClearInterpreter<'a> {
    program: &'a Program,
    inputs: Vec<Slots>,
    keep: Vec<Option<Slots>>,
}

impl<'a> ClearInterpreter<'a> {
    /// An interpreter for `program` on the tensor of a film, or on those of a batch, one after the other; for walks with other schedules
    /// or on top of this one.
    ///
    /// # Errors
    /// A tensor of the wrong length.
    pub fn new(program: &'a Program, tensor: &[f64]) -> Result<Self, crate::GraphError> {
        let shape: Shape = program.input.shape();
        let films = tensor.len() / shape.len();
        if tensor.len() != films * shape.len() || !(1..=program.input.films()).contains(&films) {
            return Err(crate::GraphError::InputLength { expected: shape.len(), got: tensor.len(), shape });
        }
        Ok(Self { program, inputs: program.input.pack(tensor), keep: vec![None; program.instructions.len()] })
    }

    /// Runs `program` on a tensor and returns the output tensor, that of the first film in a batch.
    ///
    /// # Errors
    /// A tensor of the wrong length, or a program that cannot be scheduled.
    pub fn run(program: &'a Program, tensor: &[f64]) -> Result<Vec<f64>, ModelError> {
        Ok(Self::run_layers(program, tensor)?.0)
    }

    /// As [`ClearInterpreter::run`], and the tensor of every layer in the order of [`Program::results`].
    ///
    /// # Errors
    /// A tensor of the wrong length, or a program that cannot be scheduled.
    pub fn run_layers(program: &'a Program, tensor: &[f64]) -> Result<(Vec<f64>, Vec<Vec<f64>>), ModelError> {
        let mut clear = Self::new(program, tensor)?;
        let wanted = program.results.iter().flat_map(|r| &r.values);
        wanted.for_each(|v| clear.keep[v.index()] = Some(vec![]));
        let outputs = clear.outputs()?;
        let layers = program.results.iter().map(|r| {
            let slots: Vec<Slots> =
                r.values.iter().map(|v| clear.keep[v.index()].clone().unwrap_or_default()).collect();
            r.unpack(&slots)
        });
        let layers = layers.collect();
        Ok((program.output.unpack(&outputs), layers))
    }

    /// Runs `program` on the tensors of a batch, one after the other, and returns the output tensor of each film.
    ///
    /// # Errors
    /// Tensors of the wrong length, or a program that cannot be scheduled.
    pub fn run_batch(program: &'a Program, tensors: &[f64]) -> Result<Vec<Vec<f64>>, ModelError> {
        let mut clear = Self::new(program, tensors)?;
        let outputs = clear.outputs()?;
        let films = tensors.len() / program.input.shape().len();
        Ok((0..films).map(|film| program.output.unpack_film(&outputs, film)).collect())
    }

    fn outputs(&mut self) -> Result<Vec<Slots>, ModelError> {
        let plan = ideal(self.program)?;
        match walk(self.program, &plan, self) {
            Ok(outputs) => Ok(outputs),
            Err(never) => match never {},
        }
    }

    fn plain(&self, id: PlainId) -> &'a [Complex64] {
        &self.program.plaintexts[id.0 as usize].values
    }
}

/// A schedule with primes of exactly 2^30 and as many as needed.
fn ideal(program: &Program) -> Result<Schedule, ModelError> {
    let prime = 30f64.exp2();
    schedule(program, &Chain { primes: vec![prime; depth(program) + 2], scale: prime, base_level: 1 })
}

/// `v` rotated to the left.
#[must_use]
pub fn rotated(v: &[Complex64], by: usize) -> Slots {
    let mut r = Vec::with_capacity(v.len());
    r.extend_from_slice(&v[by..]);
    r.extend_from_slice(&v[..by]);
    r
}

fn zip(a: &Slots, b: &Slots, f: impl Fn(Complex64, Complex64) -> Complex64) -> Result<Slots, Infallible> {
    Ok(a.iter().zip(b).map(|(a, b)| f(*a, *b)).collect())
}

impl Interpreter for ClearInterpreter<'_> {
    type Value = Slots;
    type Error = Infallible;

    fn done(&mut self, at: ValueId, value: &mut Slots) -> Result<(), Infallible> {
        if let Some(kept) = &mut self.keep[at.index()] {
            kept.clone_from(value);
        }
        Ok(())
    }

    fn input(&mut self, index: usize, _: &Step) -> Result<Slots, Infallible> {
        Ok(self.inputs[index].clone())
    }

    fn linear(&mut self, inputs: &[&Slots], terms: &[Term], _: &Step) -> Result<Slots, Infallible> {
        let slots = self.program.slots;
        let mut sum = vec![Complex64::ZERO; slots];
        let mut giants: Vec<u32> = terms.iter().map(|t| t.giant).collect();
        giants.sort_unstable();
        giants.dedup();
        for giant in giants {
            let mut inner = vec![Complex64::ZERO; slots];
            for term in terms.iter().filter(|t| t.giant == giant) {
                let x = inputs[term.input as usize];
                let plain = self.plain(term.plain);
                let (mut at, mask) = (term.baby as usize, plain.len() - 1);
                for (i, v) in inner.iter_mut().enumerate() {
                    *v += plain[i & mask] * x[at];
                    at = if at + 1 == slots { 0 } else { at + 1 };
                }
            }
            sum.iter_mut().zip(rotated(&inner, giant as usize)).for_each(|(s, v)| *s += v);
        }
        Ok(sum)
    }

    fn mul_plain(&mut self, a: &Slots, plain: PlainId, _: &Step) -> Result<Slots, Infallible> {
        let p = self.plain(plain);
        Ok(a.iter().enumerate().map(|(i, a)| a * p[i & (p.len() - 1)]).collect())
    }

    fn mul_scalar(&mut self, a: &Slots, value: f64, _: &Step) -> Result<Slots, Infallible> {
        Ok(a.iter().map(|a| a * value).collect())
    }

    fn add_plain(&mut self, a: &Slots, plain: PlainId, _: &Step) -> Result<Slots, Infallible> {
        let p = self.plain(plain);
        Ok(a.iter().enumerate().map(|(i, a)| a + p[i & (p.len() - 1)]).collect())
    }

    fn add(&mut self, a: &Slots, b: &Slots, _: &Step) -> Result<Slots, Infallible> {
        zip(a, b, |a, b| a + b)
    }

    fn sub(&mut self, a: &Slots, b: &Slots, _: &Step) -> Result<Slots, Infallible> {
        zip(a, b, |a, b| a - b)
    }

    fn rotate(&mut self, a: &Slots, by: u32, _: &Step) -> Result<Slots, Infallible> {
        Ok(rotated(a, by as usize))
    }

    fn sum_rotations(
        &mut self,
        a: &Slots,
        (by, count, radix): (u32, usize, usize),
        _: &Step,
    ) -> Result<Slots, Infallible> {
        let mut sum = a.clone();
        for round in rounds(by, count, radix) {
            let own = sum.clone();
            for rotation in round {
                sum.iter_mut().zip(rotated(&own, rotation as usize)).for_each(|(s, v)| *s += v);
            }
        }
        Ok(sum)
    }

    fn conjugate(&mut self, a: &Slots, by: u32, _: &Step) -> Result<Slots, Infallible> {
        Ok(rotated(a, by as usize).iter().map(Complex64::conj).collect())
    }

    fn mul(&mut self, a: &Slots, b: &Slots, _: &Step) -> Result<Slots, Infallible> {
        zip(a, b, |a, b| a * b)
    }

    fn square(&mut self, a: &Slots, _: &Step) -> Result<Slots, Infallible> {
        zip(a, a, |a, b| a * b)
    }

    fn rescale(&mut self, a: &Slots, _: &Step) -> Result<Slots, Infallible> {
        Ok(a.clone())
    }

    fn drop_level(&mut self, a: &Slots, _: usize) -> Result<Slots, Infallible> {
        Ok(a.clone())
    }
}
