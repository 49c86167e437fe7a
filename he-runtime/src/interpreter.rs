//! The operations of a circuit on ciphertexts, each by the evaluator's own.

use ckks::{Ciphertext, EvaluationKeys, Evaluator, ExtendedCiphertext, OperationCounts, Product};
use he_model::executable::{Move, Operation, Step};
use he_model::interpret::{Interpreter, Operand};

use crate::RuntimeError;
use crate::circuit::Circuit;
use crate::encoded::{Encoded, Operands};

/// A value in one of the forms of [`he_model::executable::Form`].
pub(crate) enum Value {
    Ciphertext(Ciphertext),
    Product(Product),
    Extended(ExtendedCiphertext),
}

impl Value {
    /// A result of the whole run.
    pub(crate) fn into_ciphertext(self) -> Result<Ciphertext, RuntimeError> {
        match self {
            Self::Ciphertext(c) => Ok(c),
            _ => {
                Err(RuntimeError::Ciphertext { what: "program", reason: "its output is not divided".into() })
            }
        }
    }
}

/// Carries out operations on ciphertexts.
pub(crate) struct Runner<'a> {
    evaluator: Evaluator,
    encoded: &'a Encoded,
    keys: &'a EvaluationKeys,
    inputs: &'a [Ciphertext],
}

/// A value of another form than the operation reads, which no executable has.
fn mismatch(step: &Step) -> RuntimeError {
    let reason = format!("a step of layer {} cannot read its operands", step.layer());
    RuntimeError::Ciphertext { what: "program", reason }
}

fn ciphertext<'v>(
    step: &Step,
    operands: &'v [Operand<'_, Value>],
    at: usize,
) -> Result<&'v Ciphertext, RuntimeError> {
    match operands.get(at).map(|operand| &**operand) {
        Some(Value::Ciphertext(c)) => Ok(c),
        _ => Err(mismatch(step)),
    }
}

fn slots(by: Move) -> ckks::Move {
    match by {
        Move::Rotation(by) => ckks::Move::Rotation(by.into()),
        Move::Conjugation(by) => ckks::Move::Conjugation(by.into()),
    }
}

impl<'a> Runner<'a> {
    /// For ciphertexts that were checked against the circuit.
    pub(crate) fn new(
        circuit: &Circuit,
        encoded: &'a Encoded,
        keys: &'a EvaluationKeys,
        inputs: &'a [Ciphertext],
    ) -> Self {
        Self { evaluator: Evaluator::new(&circuit.parameters), encoded, keys, inputs }
    }

    /// What was carried out so far.
    pub(crate) fn counts(&self) -> OperationCounts {
        self.evaluator.counts()
    }

    fn linear(&self, step: &Step, operands: &[Operand<'_, Value>]) -> Result<Vec<Value>, RuntimeError> {
        let inputs = (0..operands.len()).map(|at| ciphertext(step, operands, at));
        let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
        let results = match (self.plaintexts(step)?, inputs.first()) {
            (Operands::Transform(map), Some(input)) => {
                vec![self.evaluator.linear_transform_extended(input, map, self.keys)?]
            }
            (Operands::Matrix(map), _) => self.evaluator.linear_matrix_extended(&inputs, map, self.keys)?,
            _ => return Err(mismatch(step)),
        };
        Ok(results.into_iter().map(Value::Extended).collect())
    }

    fn plaintexts(&self, step: &Step) -> Result<&'a Operands, RuntimeError> {
        step.results().next().and_then(|first| self.encoded.of(first)).ok_or_else(|| mismatch(step))
    }

    fn sum_moved(
        &self,
        step: &Step,
        moves: impl Iterator<Item = Move>,
        operands: &[Operand<'_, Value>],
    ) -> Result<ExtendedCiphertext, RuntimeError> {
        let terms = moves.zip(operands).map(|(by, operand)| match &**operand {
            Value::Extended(e) => Ok((e, slots(by))),
            _ => Err(mismatch(step)),
        });
        Ok(self.evaluator.sum_of_moved(&terms.collect::<Result<Vec<_>, _>>()?, self.keys)?)
    }

    fn divide(
        &self,
        step: &Step,
        operand: Operand<'_, Value>,
        primes: usize,
    ) -> Result<Ciphertext, RuntimeError> {
        Ok(match operand {
            Operand::Last(Value::Extended(e)) => self.evaluator.divide_and_rescale_in_place(e, primes)?,
            Operand::Kept(Value::Extended(e)) => self.evaluator.divide_and_rescale(e, primes)?,
            _ => return Err(mismatch(step)),
        })
    }

    /// a + b, in the place of one that nobody else reads.
    fn add(&self, step: &Step, mut operands: Vec<Operand<'_, Value>>) -> Result<Ciphertext, RuntimeError> {
        if matches!(operands[0], Operand::Kept(_)) {
            operands.reverse();
        }
        let b = operands.pop();
        match (operands.pop(), b.as_deref()) {
            (Some(Operand::Last(Value::Ciphertext(mut a))), Some(Value::Ciphertext(b))) => {
                self.evaluator.add_assign(&mut a, b)?;
                Ok(a)
            }
            (Some(Operand::Kept(Value::Ciphertext(a))), Some(Value::Ciphertext(b))) => {
                Ok(self.evaluator.add(a, b)?)
            }
            _ => Err(mismatch(step)),
        }
    }

    fn relinearize(
        &self,
        step: &Step,
        operand: &Operand<'_, Value>,
        primes: usize,
    ) -> Result<Ciphertext, RuntimeError> {
        match &**operand {
            Value::Product(p) => Ok(self.evaluator.relinearize_and_rescale(p, primes, self.keys)?),
            _ => Err(mismatch(step)),
        }
    }

    fn moved(&self, a: &Ciphertext, by: Move) -> Result<Ciphertext, RuntimeError> {
        Ok(match by {
            Move::Rotation(by) => self.evaluator.rotate(a, by.into(), self.keys)?,
            Move::Conjugation(by) => self.evaluator.rotate_and_conjugate(a, by.into(), self.keys)?,
        })
    }

    fn mul_plain(&self, step: &Step, a: &Ciphertext) -> Result<Ciphertext, RuntimeError> {
        Ok(match self.plaintexts(step)? {
            Operands::Dense(plain) => self.evaluator.mul_plain(a, plain)?,
            Operands::Periodic(plain) => self.evaluator.mul_periodic(a, plain)?,
            _ => return Err(mismatch(step)),
        })
    }

    fn add_plain(&self, step: &Step, a: &Ciphertext) -> Result<Ciphertext, RuntimeError> {
        Ok(match self.plaintexts(step)? {
            Operands::Dense(plain) => self.evaluator.add_plain(a, plain)?,
            Operands::Periodic(plain) => self.evaluator.add_periodic(a, plain)?,
            _ => return Err(mismatch(step)),
        })
    }
}

impl Interpreter for Runner<'_> {
    type Value = Value;
    type Error = RuntimeError;

    fn execute(
        &mut self,
        step: &Step,
        mut operands: Vec<Operand<'_, Value>>,
    ) -> Result<Vec<Value>, RuntimeError> {
        let evaluator = &self.evaluator;
        let operand = |at| ciphertext(step, &operands, at);
        let result = match step.operation() {
            Operation::Linear { .. } => return self.linear(step, &operands),
            Operation::Extend { rotations, .. } => {
                let rotations: Vec<i64> = rotations.iter().map(|by| i64::from(*by)).collect();
                Value::Extended(evaluator.extend(operand(0)?, &rotations, self.keys)?)
            }
            Operation::SumMoved(terms) => {
                Value::Extended(self.sum_moved(step, terms.iter().map(|(_, by)| *by), &operands)?)
            }
            Operation::Mul(..) => Value::Product(evaluator.mul(operand(0)?, operand(1)?)?),
            Operation::Square(_) => Value::Product(evaluator.square(operand(0)?)?),
            Operation::Input(index) => Value::Ciphertext(self.inputs[*index].clone()),
            Operation::Divide { primes, .. } => {
                Value::Ciphertext(self.divide(step, operands.swap_remove(0), *primes)?)
            }
            Operation::Relinearize { primes, .. } => {
                Value::Ciphertext(self.relinearize(step, &operands[0], *primes)?)
            }
            Operation::Rescale { primes, .. } => {
                Value::Ciphertext(evaluator.rescale_by(operand(0)?, *primes)?)
            }
            Operation::DropLevel { level, .. } => {
                Value::Ciphertext(evaluator.drop_level(operand(0)?, *level)?)
            }
            Operation::Move { by, .. } => Value::Ciphertext(self.moved(operand(0)?, *by)?),
            Operation::MulPlain { .. } => Value::Ciphertext(self.mul_plain(step, operand(0)?)?),
            Operation::AddPlain { .. } => Value::Ciphertext(self.add_plain(step, operand(0)?)?),
            Operation::MulScalar { value, scale, .. } => {
                Value::Ciphertext(evaluator.mul_scalar(operand(0)?, *value, *scale)?)
            }
            Operation::Add(..) => Value::Ciphertext(self.add(step, operands)?),
            Operation::Sub(..) => Value::Ciphertext(evaluator.sub(operand(0)?, operand(1)?)?),
        };
        Ok(vec![result])
    }
}
