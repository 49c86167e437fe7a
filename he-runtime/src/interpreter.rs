//! The packed program on ciphertexts.
//!
//! Plaintexts are encoded once, at the levels and scales of the schedule. A product waits for its relinearization until its
//! reader is known, because relinearizing and rescaling share a division; a linear map that only a rescaling reads
//! takes it into its own last division, and one that is rotated and summed next is divided after that.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use ckks::{
    Ciphertext, Diagonal, Encoder, EvaluationKeys, Evaluator, ExtendedCiphertext, LinearMatrix, LinearTerm,
    LinearTransform, MatrixTerm, Move, PeriodicPlaintext, Plaintext, Product,
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

/// Most bytes of weights that are kept transformed: about a twentieth of the time of a ResNet20 is transforms of weights otherwise.
const TRANSFORMED_BYTES: usize = 512 << 20;

/// A single plaintext that would take more than this is transformed when it is used.
const DENSE_BYTES: usize = 12 << 20;

/// From this scale on the coefficients of a constant may not fit the words of a periodic plaintext.
const LARGE_SCALE: f64 = (1u64 << 56) as f64;

/// The plaintexts of one instruction.
#[derive(Debug, Clone)]
enum Plain {
    /// A linear map of one ciphertext.
    Linear(LinearTransform),
    /// Linear maps of several ciphertexts, or several maps of the same ones: this instruction and those after it.
    Matrix(LinearMatrix),
    /// A linear map that an earlier instruction carries out.
    Grouped,
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
        let mut maker = Maker {
            circuit,
            program,
            encoder,
            known: HashMap::new(),
            dense: HashMap::new(),
            transformed: 0,
            bytes: 0,
        };
        maker.encode_shared(circuit)?;
        let top = single_levels(circuit);
        let groups = schedule.groups(program);
        let mut plains = Vec::with_capacity(program.instructions.len());
        for (v, (instruction, step)) in program.instructions.iter().zip(&schedule.steps).enumerate() {
            plains.push(match instruction {
                Instruction::Linear { .. } if groups[v] == v => Plain::Grouped,
                Instruction::Linear { .. } => maker.linear(v..groups[v], &schedule.steps)?,
                Instruction::MulPlain { plain, .. } | Instruction::AddPlain { plain, .. } => {
                    let level = top[&(*plain, step.plain_scale.to_bits())];
                    maker.single(*plain, step.plain_scale, level)?
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

/// The highest level at which each plaintext outside of linear maps is used at one scale; it serves the lower ones too.
fn single_levels(circuit: &Circuit) -> HashMap<(PlainId, u64), usize> {
    let mut levels = HashMap::new();
    for (instruction, step) in circuit.program.instructions.iter().zip(&circuit.schedule.steps) {
        if let Instruction::MulPlain { plain, .. } | Instruction::AddPlain { plain, .. } = instruction {
            let level: &mut usize = levels.entry((*plain, step.plain_scale.to_bits())).or_default();
            *level = step.level.max(*level);
        }
    }
    levels
}

/// Special primes of the keys that serve a level.
fn special_primes(circuit: &Circuit, level: usize) -> usize {
    circuit.ring.switch_shape(level).special
}

struct Maker<'a> {
    circuit: &'a Circuit,
    program: &'a Program,
    encoder: Encoder,
    /// Plaintexts outside of linear maps.
    known: HashMap<(PlainId, u64), Plain>,
    /// Masks that several linear maps share.
    dense: HashMap<(PlainId, u64), Arc<Plaintext>>,
    /// Bytes of weights that are kept transformed.
    transformed: usize,
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
            for term in terms.iter().filter(|t| program.is_long(t.plain)) {
                let entry = uses.entry((term.plain.0, step.plain_scale.to_bits())).or_default();
                entry.count += 1;
                entry.level = entry.level.max(step.level);
                entry.special = entry.special.max(special_primes(circuit, step.level));
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
            let values: Vec<_> = values.iter().copied().cycle().take(program.slots).collect();
            let encoded =
                self.encoder.encode_extended(&values, f64::from_bits(scale), uses.level, uses.special)?;
            self.dense.insert((PlainId(plain), scale), encoded.into());
        }
        Ok(())
    }

    /// The linear maps of a group of instructions.
    fn linear(&mut self, group: Range<usize>, steps: &[Step]) -> Result<Plain, RuntimeError> {
        let program = self.program;
        let maps: Vec<(&[Term], &Step)> = group
            .filter_map(|v| match &program.instructions[v] {
                Instruction::Linear { terms, .. } => Some((terms.as_slice(), &steps[v])),
                _ => None,
            })
            .collect();
        let terms = || maps.iter().flat_map(|(terms, step)| terms.iter().map(move |t| (t, *step)));
        let chain = match GiantSteps::of(terms().map(|(t, _)| t)) {
            GiantSteps::Chain { step, .. } => Some(i64::from(step)),
            GiantSteps::Fan(_) => None,
        };
        if maps.len() == 1 && terms().all(|(t, _)| t.input == 0) {
            let linear = terms().map(|(t, step)| {
                let plaintext = self.diagonal(t.plain, step)?;
                Ok(LinearTerm { giant: t.giant.into(), baby: t.baby.into(), plaintext })
            });
            let map = LinearTransform::new(linear.collect::<Result<_, RuntimeError>>()?)?;
            return Ok(Plain::Linear(match chain {
                Some(step) => map.chained(step)?,
                None => map,
            }));
        }
        let mut linear = Vec::with_capacity(terms().count());
        for (output, (terms, step)) in maps.iter().enumerate() {
            for t in *terms {
                let plaintext = self.diagonal(t.plain, step)?;
                let (input, giant, baby) = (t.input as usize, t.giant.into(), t.baby.into());
                linear.push(MatrixTerm { output, input, giant, baby, plaintext });
            }
        }
        let map = LinearMatrix::new(linear)?;
        Ok(Plain::Matrix(match chain {
            Some(step) => map.chained(step)?,
            None => map,
        }))
    }

    fn diagonal(&mut self, plain: PlainId, step: &Step) -> Result<Diagonal, RuntimeError> {
        if let Some(shared) = self.dense.get(&(plain, step.plain_scale.to_bits())) {
            return Ok(shared.clone().into());
        }
        let values = &self.program.plaintexts[plain.0 as usize].values;
        let mut plaintext = self.encoder.encode_periodic(values, step.plain_scale)?;
        let special = special_primes(self.circuit, step.level);
        let bytes = plaintext.transformed_bytes(step.level, special);
        if self.transformed + bytes <= TRANSFORMED_BYTES {
            plaintext.transform(&self.circuit.parameters, step.level, special)?;
            self.transformed += bytes;
        }
        self.bytes += plaintext.bytes();
        Ok(plaintext.into())
    }

    fn single(&mut self, id: PlainId, scale: f64, level: usize) -> Result<Plain, RuntimeError> {
        if let Some(plain) = self.known.get(&(id, scale.to_bits())) {
            return Ok(plain.clone());
        }
        let values = &self.program.plaintexts[id.0 as usize].values;
        // In full it saves a transform a limb on every run, for N words a limb.
        let bytes = (level + 1) * 8 * self.program.slots;
        let short = values.len() < self.program.slots || bytes > DENSE_BYTES;
        let plain = if short && scale < LARGE_SCALE {
            let plain = self.encoder.encode_periodic(values, scale)?;
            self.bytes += plain.bytes();
            Plain::Periodic(plain.into())
        } else {
            let values = values.repeat(self.program.slots / values.len());
            let plain = self.encoder.encode(&values, scale, level)?;
            self.bytes += plain.bytes();
            Plain::Dense(plain.into())
        };
        self.known.insert((id, scale.to_bits()), plain.clone());
        Ok(plain)
    }
}

/// A value: a ciphertext, a product that waits for its relinearization, or a sum that waits for its division.
pub(crate) enum Value {
    Ciphertext(Arc<Ciphertext>),
    Product(Product),
    Undivided(Sum),
    /// Rescaled already, although the program rescales it next.
    Rescaled(Arc<Ciphertext>),
}

/// Moved linear maps whose sum is made when it is needed, in one go.
pub(crate) struct Sum {
    terms: Vec<(Arc<ExtendedCiphertext>, Move)>,
    made: OnceLock<Arc<ExtendedCiphertext>>,
}

impl Sum {
    fn of(result: ExtendedCiphertext) -> Self {
        Self { terms: vec![], made: Arc::new(result).into() }
    }

    fn moved(of: Arc<ExtendedCiphertext>, by: Move) -> Self {
        Self { terms: vec![(of, by)], made: OnceLock::new() }
    }

    /// What is left to be added up.
    fn left(&self) -> Vec<(Arc<ExtendedCiphertext>, Move)> {
        self.made.get().map_or_else(|| self.terms.clone(), |made| vec![(made.clone(), Move::Rotation(0))])
    }

    fn make(&self, evaluator: &Evaluator, keys: &EvaluationKeys) -> ckks::Result<ExtendedCiphertext> {
        let terms: Vec<_> = self.terms.iter().map(|(of, by)| (&**of, *by)).collect();
        evaluator.sum_of_moved(&terms, keys)
    }

    fn made(
        &self,
        evaluator: &Evaluator,
        keys: &EvaluationKeys,
    ) -> Result<Arc<ExtendedCiphertext>, RuntimeError> {
        if let Some(made) = self.made.get() {
            return Ok(made.clone());
        }
        let made = Arc::new(self.make(evaluator, keys)?);
        Ok(self.made.get_or_init(|| made).clone())
    }
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
    /// As [`Program::undivided`] says.
    undivided: Vec<bool>,
    /// Results of linear maps that were carried out with an earlier one of their group.
    grouped: HashMap<ValueId, Value>,
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
            undivided: program.undivided(),
            grouped: HashMap::new(),
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
            Value::Undivided(sum) => {
                let sum = sum.made(&self.evaluator, self.keys)?;
                Ok(Arc::new(self.evaluator.divide_and_rescale(&sum, 0)?))
            }
        }
    }

    fn plain(&self) -> &'a Plain {
        &self.encoded.plains[self.at.index()]
    }

    /// Whether this instruction is a rescaling, and the only reader of its operand.
    fn reads_alone(&self) -> bool {
        let operands = self.circuit.program.instructions[self.at.index()].operands();
        operands.first().is_some_and(|o| self.only_rescaled[o.index()])
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
        if wanted {
            self.collected.insert(at, self.read(value)?);
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
        if let Some(value) = self.grouped.remove(&self.at) {
            return Ok(value);
        }
        let inputs = inputs.iter().map(|input| self.read(input)).collect::<Result<Vec<_>, _>>()?;
        let value = |c: Ciphertext, fused| {
            if fused { Value::Rescaled(Arc::new(c)) } else { Value::Ciphertext(Arc::new(c)) }
        };
        match self.plain() {
            Plain::Linear(map) => {
                let fused = self.only_rescaled[self.at.index()];
                let input = inputs.first().ok_or_else(|| self.mismatch())?;
                if self.undivided[self.at.index()] {
                    let result = self.evaluator.linear_transform_extended(input, map, self.keys)?;
                    return Ok(Value::Undivided(Sum::of(result)));
                }
                let primes = usize::from(fused);
                let result = self.evaluator.linear_transform_and_rescale(input, map, primes, self.keys)?;
                Ok(value(result, fused))
            }
            Plain::Matrix(map) => {
                let first = self.at.index();
                let all = |which: &[bool]| which[first..first + map.outputs()].iter().all(|is| *is);
                let inputs: Vec<&Ciphertext> = inputs.iter().map(AsRef::as_ref).collect();
                let members = (first as u32..).map(ValueId);
                if all(&self.undivided) {
                    let results = self.evaluator.linear_matrix_extended(&inputs, map, self.keys)?;
                    self.grouped
                        .extend(members.zip(results.into_iter().map(|r| Value::Undivided(Sum::of(r)))));
                } else {
                    let fused = all(&self.only_rescaled);
                    let primes = usize::from(fused);
                    let results =
                        self.evaluator.linear_matrix_and_rescale(&inputs, map, primes, self.keys)?;
                    self.grouped.extend(members.zip(results.into_iter().map(|c| value(c, fused))));
                }
                self.grouped.remove(&self.at).ok_or_else(|| self.mismatch())
            }
            _ => Err(self.mismatch()),
        }
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
        if let (Value::Undivided(a), Value::Undivided(b)) = (a, b) {
            let terms = [a.left(), b.left()].concat();
            return Ok(Value::Undivided(Sum { terms, made: OnceLock::new() }));
        }
        done(self.evaluator.add(&*self.read(a)?, &*self.read(b)?)?)
    }

    fn sub(&mut self, a: &Value, b: &Value, _: &Step) -> Result<Value, RuntimeError> {
        done(self.evaluator.sub(&*self.read(a)?, &*self.read(b)?)?)
    }

    fn rotate(&mut self, a: &Value, by: u32, _: &Step) -> Result<Value, RuntimeError> {
        if let Value::Undivided(a) = a {
            let of = a.made(&self.evaluator, self.keys)?;
            return Ok(Value::Undivided(Sum::moved(of, Move::Rotation(by.into()))));
        }
        done(self.evaluator.rotate(&*self.read(a)?, i64::from(by), self.keys)?)
    }

    fn sum_rotations(
        &mut self,
        a: &Value,
        (by, count, radix): (u32, usize, usize),
        _: &Step,
    ) -> Result<Value, RuntimeError> {
        let by = i64::from(by);
        if let Value::Undivided(a) = a {
            let a = a.made(&self.evaluator, self.keys)?;
            let sum = self.evaluator.rotate_and_sum_extended(&a, by, count, radix, self.keys)?;
            return Ok(Value::Undivided(Sum::of(sum)));
        }
        let a = self.read(a)?;
        done(self.evaluator.rotate_and_sum_by_radix(&a, by, count, radix, self.keys)?)
    }

    fn conjugate(&mut self, a: &Value, by: u32, _: &Step) -> Result<Value, RuntimeError> {
        let by = i64::from(by);
        if let Value::Undivided(a) = a {
            let of = a.made(&self.evaluator, self.keys)?;
            return Ok(Value::Undivided(Sum::moved(of, Move::Conjugation(by))));
        }
        done(self.evaluator.rotate_and_conjugate(&*self.read(a)?, by, self.keys)?)
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
            Value::Undivided(sum) if sum.made.get().is_none() && self.reads_alone() => {
                let sum = sum.make(&self.evaluator, self.keys)?;
                done(self.evaluator.divide_and_rescale_in_place(sum, 1)?)
            }
            Value::Undivided(sum) => {
                let sum = sum.made(&self.evaluator, self.keys)?;
                done(self.evaluator.divide_and_rescale(&sum, 1)?)
            }
            Value::Rescaled(c) => Ok(Value::Ciphertext(c.clone())),
        }
    }

    fn drop_level(&mut self, a: &Value, level: usize) -> Result<Value, RuntimeError> {
        done(self.evaluator.drop_level(&*self.read(a)?, level)?)
    }
}
