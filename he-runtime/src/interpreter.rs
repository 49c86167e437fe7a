//! The packed program on ciphertexts.
//!
//! Plaintexts are encoded once, at the levels and scales of the schedule. A product waits for its relinearization until its
//! reader is known, because relinearizing and rescaling share a division; a linear map that only a rescaling reads
//! takes it into its own last division.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ckks::{
    Ciphertext, Encoder, EvaluationKeys, Evaluator, LinearTerm, LinearTransform, PeriodicPlaintext,
    Plaintext, Product,
};
use he_model::ValueId;
use he_model::interpret::Interpreter;
use he_model::program::{GiantSteps, Instruction, LayerResult, PlainId, Program, Term};
use he_model::schedule::Step;

use crate::RuntimeError;
use crate::circuit::Circuit;
use crate::server::OnLayer;

/// Most bytes of masks that are kept transformed.
const SHARED_BYTES: usize = 512 << 20;

/// A single plaintext that would take more than this is transformed when it is used.
const DENSE_BYTES: usize = 12 << 20;

/// The plaintexts of one instruction.
#[derive(Debug, Clone)]
enum Plain {
    /// One map for each input of a linear instruction; none where no term reads it.
    Linear(Vec<Option<LinearTransform>>),
    Dense(Arc<Plaintext>),
    Periodic(Arc<PeriodicPlaintext>),
    None,
}

/// All plaintexts, by instruction.
#[derive(Debug)]
pub(crate) struct Encoded {
    plains: Vec<Plain>,
    bytes: usize,
}

impl Encoded {
    pub(crate) fn new(circuit: &Circuit) -> Result<Self, RuntimeError> {
        let Circuit { program, schedule, parameters, .. } = circuit;
        let encoder = Encoder::new(parameters);
        let mut maker = Maker { program, encoder, known: HashMap::new(), dense: HashMap::new(), bytes: 0 };
        maker.encode_shared(circuit)?;
        let mut plains = Vec::with_capacity(program.instructions.len());
        for (instruction, step) in program.instructions.iter().zip(&schedule.steps) {
            plains.push(match instruction {
                Instruction::Linear { inputs, terms, .. } => maker.linear(inputs.len(), terms, step)?,
                Instruction::MulPlain { plain, .. } | Instruction::AddPlain { plain, .. } => {
                    maker.single(*plain, step)?
                }
                _ => Plain::None,
            });
        }
        Ok(Self { plains, bytes: maker.bytes })
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

struct Maker<'a> {
    program: &'a Program,
    encoder: Encoder,
    known: HashMap<(PlainId, u64, usize), Plain>,
    /// Masks that several linear maps share.
    dense: HashMap<(PlainId, u64), Arc<Plaintext>>,
    bytes: usize,
}

/// How several linear maps use a full-length plaintext at one scale.
#[derive(Default)]
struct Uses {
    count: usize,
    level: usize,
    special: usize,
}

impl Maker<'_> {
    /// Transforms the full-length plaintexts that several linear maps share, most used first, as far as
    /// [`SHARED_BYTES`] reach. At a lower level a map reads the first limbs of the same plaintext; without this each map
    /// would transform it again on every run, which costs more than the rotation before it.
    fn encode_shared(&mut self, circuit: &Circuit) -> Result<(), RuntimeError> {
        let (program, parameters) = (self.program, &circuit.parameters);
        let mut uses: BTreeMap<(u32, u64), Uses> = BTreeMap::new();
        for (instruction, step) in program.instructions.iter().zip(&circuit.schedule.steps) {
            let Instruction::Linear { terms, .. } = instruction else { continue };
            for term in terms.iter().filter(|t| self.is_long(t.plain)) {
                let entry = uses.entry((term.plain.0, step.plain_scale.to_bits())).or_default();
                entry.count += 1;
                entry.level = entry.level.max(step.level);
                let key_level = circuit.spec.ring.key_level(step.level);
                entry.special = entry.special.max(parameters.key_shape(key_level).special);
            }
        }
        let mut uses: Vec<_> = uses.into_iter().filter(|(_, uses)| uses.count > 1).collect();
        uses.sort_by_key(|(_, uses)| std::cmp::Reverse(uses.count));
        let mut left = SHARED_BYTES;
        for ((plain, scale), uses) in uses {
            let bytes = (uses.level + 1 + uses.special) * parameters.ring_degree() * 4;
            if bytes > left {
                continue;
            }
            left -= bytes;
            self.bytes += bytes;
            let values = &program.plaintexts[plain as usize].values;
            let encoded =
                self.encoder.encode_extended(values, f64::from_bits(scale), uses.level, uses.special)?;
            self.dense.insert((PlainId(plain), scale), encoded.into());
        }
        Ok(())
    }

    fn is_long(&self, plain: PlainId) -> bool {
        self.program.plaintexts[plain.0 as usize].values.len() == self.program.slots
    }

    fn linear(&mut self, inputs: usize, terms: &[Term], step: &Step) -> Result<Plain, RuntimeError> {
        let mut by_input: Vec<Vec<LinearTerm>> = (0..inputs).map(|_| vec![]).collect();
        for term in terms {
            let plaintext = match self.dense.get(&(term.plain, step.plain_scale.to_bits())) {
                Some(shared) => shared.clone().into(),
                None => {
                    let values = &self.program.plaintexts[term.plain.0 as usize].values;
                    let plaintext = self.encoder.encode_periodic(values, step.plain_scale)?;
                    self.bytes += plaintext.bytes();
                    plaintext.into()
                }
            };
            let (giant, baby) = (i64::from(term.giant), i64::from(term.baby));
            by_input[term.input as usize].push(LinearTerm { giant, baby, plaintext });
        }
        let maps = by_input.into_iter().enumerate().map(|(input, linear)| {
            if linear.is_empty() {
                return Ok(None);
            }
            let map = LinearTransform::new(linear)?;
            match GiantSteps::of(terms, input) {
                GiantSteps::Chain { step, .. } => map.chained(i64::from(step)).map(Some),
                GiantSteps::Fan(_) => Ok(Some(map)),
            }
        });
        Ok(Plain::Linear(maps.collect::<Result<_, _>>()?))
    }

    fn single(&mut self, id: PlainId, step: &Step) -> Result<Plain, RuntimeError> {
        let key = (id, step.plain_scale.to_bits(), step.level);
        if let Some(plain) = self.known.get(&key) {
            return Ok(plain.clone());
        }
        let values = &self.program.plaintexts[id.0 as usize].values;
        // In full it saves a transform a limb on every run, for N words a limb.
        let bytes = (step.level + 1) * 8 * self.program.slots;
        let plain = if values.len() < self.program.slots || bytes > DENSE_BYTES {
            let plain = self.encoder.encode_periodic(values, step.plain_scale)?;
            self.bytes += plain.bytes();
            Plain::Periodic(plain.into())
        } else {
            let plain = self.encoder.encode(values, step.plain_scale, step.level)?;
            self.bytes += plain.bytes();
            Plain::Dense(plain.into())
        };
        self.known.insert(key, plain.clone());
        Ok(plain)
    }
}

/// A value: a ciphertext, or a product that waits for its relinearization.
pub(crate) enum Value {
    Ciphertext(Arc<Ciphertext>),
    Product(Product),
    /// Rescaled already, although the program rescales it next.
    Rescaled(Arc<Ciphertext>),
}

/// Carries out a program on ciphertexts.
pub(crate) struct Runner<'a> {
    circuit: &'a Circuit,
    encoded: &'a Encoded,
    evaluator: Evaluator,
    keys: &'a EvaluationKeys,
    inputs: &'a [Ciphertext],
    at: ValueId,
    on_begin: &'a mut dyn FnMut(ValueId) -> Result<(), RuntimeError>,
    on_layer: &'a mut OnLayer<'a>,
    /// Whether the results of layers are wanted: they are kept until the run ends.
    keep_layers: bool,
    /// For each instruction, whether its only reader is a rescaling.
    only_rescaled: Vec<bool>,
    /// Results of layers, collected until their last ciphertext is there.
    collected: HashMap<ValueId, Arc<Ciphertext>>,
    /// Layer results by their last value.
    ends: HashMap<ValueId, Vec<&'a LayerResult>>,
}

impl<'a> Runner<'a> {
    pub(crate) fn new(
        circuit: &'a Circuit,
        encoded: &'a Encoded,
        keys: &'a EvaluationKeys,
        inputs: &'a [Ciphertext],
        on_begin: &'a mut dyn FnMut(ValueId) -> Result<(), RuntimeError>,
        on_layer: &'a mut OnLayer<'a>,
    ) -> Self {
        let program = &circuit.program;
        let mut readers = vec![(0usize, false); program.instructions.len()];
        for instruction in &program.instructions {
            for o in instruction.operands() {
                readers[o.index()].0 += 1;
                readers[o.index()].1 = matches!(instruction, Instruction::Rescale(_));
            }
        }
        program.outputs.iter().for_each(|o| readers[o.index()].0 += 1);
        let mut ends: HashMap<ValueId, Vec<&LayerResult>> = HashMap::new();
        for result in &program.results {
            if let Some(last) = result.values.iter().max() {
                ends.entry(*last).or_default().push(result);
            }
        }
        Self {
            circuit,
            encoded,
            evaluator: Evaluator::new(&circuit.parameters),
            keys,
            inputs,
            at: ValueId(0),
            on_begin,
            on_layer,
            keep_layers: false,
            only_rescaled: readers.into_iter().map(|(n, rescale)| n == 1 && rescale).collect(),
            collected: HashMap::new(),
            ends,
        }
    }

    /// Keeps the results of layers for the comparison, until the run ends.
    pub(crate) fn keeping_layers(mut self, keep: bool) -> Self {
        self.keep_layers = keep;
        self
    }

    /// The value as a ciphertext.
    pub(crate) fn ciphertext(&self, value: Value) -> Result<Ciphertext, RuntimeError> {
        self.read(&value).map(|c| Arc::try_unwrap(c).unwrap_or_else(|c| (*c).clone()))
    }

    fn read(&self, value: &Value) -> Result<Arc<Ciphertext>, RuntimeError> {
        match value {
            Value::Ciphertext(c) | Value::Rescaled(c) => Ok(c.clone()),
            Value::Product(p) => Ok(Arc::new(self.evaluator.relinearize(p, self.keys)?)),
        }
    }

    fn plain(&self) -> &'a Plain {
        &self.encoded.plains[self.at.index()]
    }

    fn mismatch(&self) -> RuntimeError {
        let layer = self.circuit.program.layer_of[self.at.index()] as usize;
        let reason = format!("instruction {} of layer {layer} has no plaintext", self.at.0);
        RuntimeError::Ciphertext { what: "program", reason }
    }
}

fn done(c: Ciphertext) -> Result<Value, RuntimeError> {
    Ok(Value::Ciphertext(Arc::new(c)))
}

impl Interpreter for Runner<'_> {
    type Value = Value;
    type Error = RuntimeError;

    fn begin(&mut self, at: ValueId, _: &Program) -> Result<(), RuntimeError> {
        self.at = at;
        (self.on_begin)(at)
    }

    fn done(&mut self, at: ValueId, value: &mut Value) -> Result<(), RuntimeError> {
        if !self.keep_layers {
            return Ok(());
        }
        let circuit = self.circuit;
        let wanted = circuit.program.results.iter().any(|r| r.values.contains(&at));
        if wanted && let Value::Ciphertext(c) = value {
            self.collected.insert(at, c.clone());
        }
        for result in self.ends.get(&at).cloned().unwrap_or_default() {
            let parts: Option<Vec<Ciphertext>> =
                result.values.iter().map(|v| self.collected.get(v).map(|c| (**c).clone())).collect();
            if let Some(parts) = parts {
                (self.on_layer)(result, &parts)?;
            }
        }
        Ok(())
    }

    fn input(&mut self, index: usize, _: &Step) -> Result<Value, RuntimeError> {
        done(self.inputs[index].clone())
    }

    fn linear(&mut self, inputs: &[&Value], _: &[Term], _: &Step) -> Result<Value, RuntimeError> {
        let Plain::Linear(maps) = self.plain() else { return Err(self.mismatch()) };
        let fused = self.only_rescaled[self.at.index()];
        let mut sum: Option<Ciphertext> = None;
        for (input, map) in inputs.iter().zip(maps) {
            let Some(map) = map else { continue };
            let input = self.read(input)?;
            let part =
                self.evaluator.linear_transform_and_rescale(&input, map, usize::from(fused), self.keys)?;
            match &mut sum {
                Some(sum) => self.evaluator.add_assign(sum, &part)?,
                None => sum = Some(part),
            }
        }
        let sum = Arc::new(sum.ok_or_else(|| self.mismatch())?);
        Ok(if fused { Value::Rescaled(sum) } else { Value::Ciphertext(sum) })
    }

    fn mul_plain(&mut self, a: &Value, _: PlainId, _: &Step) -> Result<Value, RuntimeError> {
        let a = self.read(a)?;
        match self.plain() {
            Plain::Dense(p) => done(self.evaluator.mul_plain(&a, p)?),
            Plain::Periodic(p) => done(self.evaluator.mul_periodic(&a, p)?),
            _ => Err(self.mismatch()),
        }
    }

    fn mul_scalar(&mut self, a: &Value, value: f64, step: &Step) -> Result<Value, RuntimeError> {
        let a = self.read(a)?;
        done(self.evaluator.mul_scalar(&a, value, step.plain_scale)?)
    }

    fn add_plain(&mut self, a: &Value, _: PlainId, _: &Step) -> Result<Value, RuntimeError> {
        let a = self.read(a)?;
        match self.plain() {
            Plain::Dense(p) => done(self.evaluator.add_plain(&a, p)?),
            Plain::Periodic(p) => done(self.evaluator.add_periodic(&a, p)?),
            _ => Err(self.mismatch()),
        }
    }

    fn add(&mut self, a: &Value, b: &Value, _: &Step) -> Result<Value, RuntimeError> {
        done(self.evaluator.add(&*self.read(a)?, &*self.read(b)?)?)
    }

    fn sub(&mut self, a: &Value, b: &Value, _: &Step) -> Result<Value, RuntimeError> {
        done(self.evaluator.sub(&*self.read(a)?, &*self.read(b)?)?)
    }

    fn rotate(&mut self, a: &Value, by: u32, _: &Step) -> Result<Value, RuntimeError> {
        done(self.evaluator.rotate(&*self.read(a)?, i64::from(by), self.keys)?)
    }

    fn sum_rotations(
        &mut self,
        a: &Value,
        (by, count, radix): (u32, usize, usize),
        _: &Step,
    ) -> Result<Value, RuntimeError> {
        let a = self.read(a)?;
        done(self.evaluator.rotate_and_sum_by_radix(&a, i64::from(by), count, radix, self.keys)?)
    }

    fn conjugate(&mut self, a: &Value, _: &Step) -> Result<Value, RuntimeError> {
        done(self.evaluator.conjugate(&*self.read(a)?, self.keys)?)
    }

    fn mul(&mut self, a: &Value, b: &Value, _: &Step) -> Result<Value, RuntimeError> {
        Ok(Value::Product(self.evaluator.mul(&*self.read(a)?, &*self.read(b)?)?))
    }

    fn square(&mut self, a: &Value, _: &Step) -> Result<Value, RuntimeError> {
        Ok(Value::Product(self.evaluator.square(&*self.read(a)?)?))
    }

    fn rescale(&mut self, a: &Value, _: &Step) -> Result<Value, RuntimeError> {
        match a {
            Value::Ciphertext(c) => done(self.evaluator.rescale(c)?),
            Value::Product(p) => done(self.evaluator.relinearize_and_rescale(p, 1, self.keys)?),
            Value::Rescaled(c) => Ok(Value::Ciphertext(c.clone())),
        }
    }

    fn drop_level(&mut self, a: &Value, level: usize) -> Result<Value, RuntimeError> {
        done(self.evaluator.drop_level(&*self.read(a)?, level)?)
    }
}
