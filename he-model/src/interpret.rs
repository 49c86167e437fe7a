//! One walker, several interpreters: the same list of operations in the clear, as a trace, with
//! modelled noise, and on ciphertexts.

pub mod clear;
pub mod trace;

use std::collections::HashMap;
use std::ops::Deref;

use crate::executable::{Executable, Step};
use crate::program::ValueId;

/// A value that a step reads.
#[derive(Debug)]
pub enum Operand<'a, V> {
    /// Others will read it too.
    Kept(&'a V),
    /// Nobody else will: it may be worked on in place.
    Last(V),
}

impl<V> Deref for Operand<'_, V> {
    type Target = V;

    fn deref(&self) -> &V {
        match self {
            Self::Kept(value) => value,
            Self::Last(value) => value,
        }
    }
}

impl<V: Clone> Operand<'_, V> {
    /// The value itself; copied if others will read it too.
    #[must_use]
    pub fn into_owned(self) -> V {
        match self {
            Self::Kept(value) => value.clone(),
            Self::Last(value) => value,
        }
    }
}

/// Carries out operations on some kind of value. A new operation is a new arm in the `execute` of
/// each.
pub trait Interpreter {
    /// What stands for a vector of slots.
    type Value;
    /// What can go wrong.
    type Error;

    /// Carries out one step: given the values of its operands in their order, the values of
    /// [`Step::results`] in theirs.
    ///
    /// # Errors
    /// Whatever makes the walk stop.
    fn execute(
        &mut self,
        step: &Step,
        operands: Vec<Operand<'_, Self::Value>>,
    ) -> Result<Vec<Self::Value>, Self::Error>;
}

/// Carries out all steps, and returns the outputs; values are dropped after their last reader.
///
/// # Errors
/// The first error of the interpreter.
///
/// # Panics
/// If the interpreter makes another number of values than a step has results.
pub fn walk<I: Interpreter>(executable: &Executable, interpreter: &mut I) -> Result<Vec<I::Value>, I::Error> {
    let mut left = vec![0usize; executable.value_count()];
    let operands = executable.steps().iter().flat_map(|step| step.operation().operands());
    operands.chain(executable.outputs().iter().copied()).for_each(|o| left[o.index()] += 1);
    let mut values: Vec<Option<I::Value>> = left.iter().map(|_| None).collect();
    for step in executable.steps() {
        let reads = step.operation().operands();
        reads.iter().for_each(|o| left[o.index()] -= 1);
        let is_last =
            |o: &ValueId| left[o.index()] == 0 && reads.iter().filter(|other| *other == o).count() == 1;
        let last: Vec<Option<I::Value>> =
            reads.iter().map(|o| if is_last(o) { values[o.index()].take() } else { None }).collect();
        let operands = reads.iter().zip(last).map(|(o, last)| match last {
            Some(value) => Operand::Last(value),
            None => Operand::Kept(
                values[o.index()].as_ref().expect("an executable makes values before it reads them"),
            ),
        });
        let made = interpreter.execute(step, operands.collect())?;
        assert_eq!(made.len(), step.results().len(), "one value for each result");
        reads.iter().filter(|o| left[o.index()] == 0).for_each(|o| values[o.index()] = None);
        for (v, value) in step.results().zip(made).filter(|(v, _)| left[v.index()] > 0) {
            values[v.index()] = Some(value);
        }
    }
    let mut outputs = Vec::with_capacity(executable.outputs().len());
    for o in executable.outputs() {
        outputs.push(values[o.index()].take().expect("outputs are kept and distinct"));
    }
    Ok(outputs)
}

/// An interpreter that keeps the values that carry the results of layers.
pub struct Keeping<I: Interpreter> {
    interpreter: I,
    kept: HashMap<ValueId, Option<I::Value>>,
}

impl<I: Interpreter<Value: Clone>> Keeping<I> {
    /// Walks with `interpreter`: the outputs, and the values of each of [`Executable::results`].
    ///
    /// # Errors
    /// The first error of the interpreter.
    #[expect(clippy::type_complexity, reason = "values in lists of lists")]
    pub fn walk(
        executable: &Executable,
        interpreter: I,
    ) -> Result<(Vec<I::Value>, Vec<Vec<I::Value>>), I::Error> {
        let wanted = executable.results().iter().flat_map(|r| &r.values);
        let mut keeping = Self { interpreter, kept: wanted.map(|v| (*v, None)).collect() };
        let outputs = walk(executable, &mut keeping)?;
        let results = executable
            .results()
            .iter()
            .map(|result| result.values.iter().filter_map(|v| keeping.kept.get(v)?.clone()).collect());
        Ok((outputs, results.collect()))
    }
}

impl<I: Interpreter<Value: Clone>> Interpreter for Keeping<I> {
    type Value = I::Value;
    type Error = I::Error;

    fn execute(
        &mut self,
        step: &Step,
        operands: Vec<Operand<'_, I::Value>>,
    ) -> Result<Vec<I::Value>, I::Error> {
        let made = self.interpreter.execute(step, operands)?;
        for (v, value) in step.results().zip(&made) {
            self.kept.entry(v).and_modify(|kept| *kept = Some(value.clone()));
        }
        Ok(made)
    }
}
