//! The results of layers on ciphertexts, for whoever holds all keys and compares them with the
//! clear.

use std::collections::HashMap;

use ckks::{Ciphertext, EvaluationKeys, Evaluator};
use he_model::ValueId;
use he_model::executable::Step;
use he_model::interpret::{Interpreter, Operand};
use he_model::program::LayerResult;

use crate::RuntimeError;
use crate::circuit::Circuit;
use crate::interpreter::{Runner, Value};

/// Called with the ciphertexts of a layer's result.
pub(crate) type OnLayer<'a> = dyn FnMut(&LayerResult, &[Ciphertext]) -> Result<(), RuntimeError> + 'a;

/// Runs, and hands on the ciphertexts of every layer's result when the last of them is there.
pub(crate) struct Shown<'a> {
    runner: Runner<'a>,
    /// Makes ciphertexts of what the run leaves in other forms, beside the run.
    evaluator: Evaluator,
    keys: &'a EvaluationKeys,
    on_layer: &'a mut OnLayer<'a>,
    results: &'a [LayerResult],
    collected: HashMap<ValueId, Ciphertext>,
}

impl<'a> Shown<'a> {
    pub(crate) fn new(
        runner: Runner<'a>,
        circuit: &'a Circuit,
        keys: &'a EvaluationKeys,
        on_layer: &'a mut OnLayer<'a>,
    ) -> Self {
        let (evaluator, results) = (Evaluator::new(&circuit.parameters), circuit.executable.results());
        Self { runner, evaluator, keys, on_layer, results, collected: HashMap::new() }
    }

    fn ciphertext(&self, value: &Value) -> Result<Ciphertext, RuntimeError> {
        Ok(match value {
            Value::Ciphertext(c) => c.clone(),
            Value::Product(p) => self.evaluator.relinearize(p, self.keys)?,
            Value::Extended(e) => self.evaluator.divide_and_rescale(e, 0)?,
        })
    }
}

impl Interpreter for Shown<'_> {
    type Value = Value;
    type Error = RuntimeError;

    fn execute(
        &mut self,
        step: &Step,
        operands: Vec<Operand<'_, Value>>,
    ) -> Result<Vec<Value>, RuntimeError> {
        let made = self.runner.execute(step, operands)?;
        for (v, value) in step.results().zip(&made) {
            if !self.results.iter().any(|r| r.values.contains(&v)) {
                continue;
            }
            let ciphertext = self.ciphertext(value)?;
            self.collected.insert(v, ciphertext);
            for result in self.results.iter().filter(|r| r.values.iter().max() == Some(&v)) {
                let parts = result.values.iter().filter_map(|v| self.collected.get(v).cloned());
                (self.on_layer)(result, &parts.collect::<Vec<_>>())?;
            }
        }
        Ok(made)
    }
}
