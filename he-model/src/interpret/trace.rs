//! The packed program as numbers: operations, levels, keys, and a prediction of time and memory.
//!
//! The times are a model of key switches at N = 2^16 on 32-bit limbs (see [`Costs`]), fitted by least squares to the measured layers of LeNet,
//! ResNet20 and ResNet20 with gates on a processor with AVX-512, and scaled to other ring degrees by N log N.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::convert::Infallible;

use super::{Interpreter, walk};
use crate::parameters::Ring;
use crate::program::{GiantSteps, Instruction, PlainId, Program, Term, ValueId, rounds};
use crate::schedule::{Schedule, Step};

/// Milliseconds of one thread for one limb of N = 2^16 coefficients.
#[derive(Debug, Clone, Copy)]
pub struct Costs {
    /// Inverse transform.
    pub inverse: f64,
    /// Forward transform.
    pub forward: f64,
    /// One product of a basis conversion.
    pub convert: f64,
    /// Product and sum with a value in memory.
    pub product: f64,
    /// Other work on a coefficient.
    pub pointwise: f64,
    /// A gather.
    pub gather: f64,
    /// Gigabytes of key a second.
    pub bandwidth: f64,
    /// Sum or product of two limbs in memory, as a new one.
    pub sum: f64,
}

impl Costs {
    /// How many times as long a run takes on a processor with AVX2 and without AVX-512: 1.5 to 1.8 for ResNet20, with and without gates, 1.8 to 2.2 for
    /// LeNet (docs/encrypted-networks.md).
    pub const AVX2: f64 = 1.6;
}

impl Default for Costs {
    fn default() -> Self {
        Self {
            inverse: 0.162,
            forward: 0.128,
            convert: 0.0051,
            product: 0.0118,
            pointwise: 0.030,
            gather: 0.0148,
            bandwidth: 8.0,
            sum: 0.08,
        }
    }
}

/// What one layer does.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LayerTrace {
    /// Its name.
    pub name: String,
    /// Highest level at which it works.
    pub level: usize,
    /// Hoisted rotations.
    pub hoisted: usize,
    /// Full rotations, giant steps among them.
    pub rotations: usize,
    /// Products with periodic plaintexts inside linear maps.
    pub products: usize,
    /// Other products with plaintexts: masks.
    pub masks: usize,
    /// Products of ciphertexts, squares among them.
    pub multiplications: usize,
    /// Rescalings.
    pub rescales: usize,
    /// Predicted milliseconds of one thread.
    pub milliseconds: f64,
}

/// Which keys a program uses, and at which levels: smaller keys serve lower levels.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyNeeds {
    /// Rotations (left, 0 < r < slots), each with a level at which it happens.
    pub rotations: BTreeSet<(u32, usize)>,
    /// Rotations whose results are conjugated (left, 0 for a conjugation alone), each with a level at which it happens.
    pub conjugations: BTreeSet<(u32, usize)>,
    /// Levels of products of ciphertexts.
    pub relinearizations: BTreeSet<usize>,
}

impl KeyNeeds {
    /// Number of keys, and their bytes in memory: one key for each automorphism and tier of levels, cut to the highest
    /// level in the tier.
    #[must_use]
    pub fn keys(&self, ring: &Ring) -> (usize, usize) {
        let tiers = ring.tiers();
        let tier = |level: usize| tiers.partition_point(|t| t.top_level < level);
        let raised = |level: &usize| ring.key_level(*level);
        // Rotations by their number; conjugations and relinearization by numbers no rotation has.
        let rotations = self.rotations.iter().map(|(r, l)| (u64::from(*r), raised(l)));
        let conjugations = self.conjugations.iter().map(|(r, l)| ((1 << 40) + u64::from(*r), raised(l)));
        let relinearizations = self.relinearizations.iter().map(|l| (1 << 41, raised(l)));
        let mut keys: BTreeMap<(u64, usize), usize> = BTreeMap::new();
        for (what, level) in rotations.chain(conjugations).chain(relinearizations) {
            let top = keys.entry((what, tier(level))).or_default();
            *top = level.max(*top);
        }
        (keys.len(), keys.values().map(|l| ring.key_bytes(*l)).sum())
    }
}

/// The whole trace.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Trace {
    /// One entry a layer, in order.
    pub layers: Vec<LayerTrace>,
    /// The keys.
    pub keys: KeyNeeds,
    /// Number of keys.
    pub key_count: usize,
    /// Bytes of all keys in memory.
    pub key_bytes: usize,
    /// Level of the input.
    pub input_level: usize,
    /// Rescalings from input to output.
    pub depth: usize,
    /// Numbers in all plaintexts.
    pub plaintext_values: usize,
}

impl Trace {
    /// Traces a program.
    #[must_use]
    pub fn new(program: &Program, schedule: &Schedule, ring: &Ring, costs: &Costs) -> Self {
        let layers = program.layers.iter().map(|n| LayerTrace { name: n.clone(), ..LayerTrace::default() });
        let trace = Self {
            layers: layers.collect(),
            input_level: schedule.input_level,
            depth: schedule.input_level - schedule.output_level,
            plaintext_values: program.plaintexts.iter().map(|p| p.values.len()).sum(),
            ..Self::default()
        };
        let groups = schedule.groups(program);
        let mut uses = vec![0; program.plaintexts.len()];
        for instruction in &program.instructions {
            if let Instruction::Linear { terms, .. } = instruction {
                terms.iter().for_each(|t| uses[t.plain.0 as usize] += 1);
            }
        }
        let mut tracer = Tracer {
            ring,
            costs: *costs,
            trace,
            layer: 0,
            program,
            schedule,
            groups,
            at: 0,
            uses,
            undivided: program.undivided(),
            decomposed: HashSet::new(),
        };
        match walk(program, schedule, &mut tracer) {
            Ok(_) => {}
            Err(never) => match never {},
        }
        (tracer.trace.key_count, tracer.trace.key_bytes) = tracer.trace.keys.keys(ring);
        tracer.trace
    }

    /// Predicted seconds of one thread.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.layers.iter().map(|l| l.milliseconds).sum::<f64>() / 1e3
    }
}

/// Costs of the parts of a key switch at one level, in milliseconds.
struct KeySwitch {
    up: f64,
    down: f64,
    inner: f64,
    product: f64,
    /// The transforms of one plaintext.
    transform: f64,
}

struct Tracer<'a> {
    ring: &'a Ring,
    costs: Costs,
    trace: Trace,
    layer: usize,
    program: &'a Program,
    schedule: &'a Schedule,
    /// As [`Schedule::groups`] says.
    groups: Vec<usize>,
    /// The instruction at work.
    at: usize,
    /// For each plaintext, how many terms of linear maps it is in.
    uses: Vec<usize>,
    /// As [`Program::undivided`] says.
    undivided: Vec<bool>,
    /// Undivided values whose second half is decomposed already.
    decomposed: HashSet<ValueId>,
}

impl Tracer<'_> {
    /// The ring's share of the cost at N = 2^16.
    fn share(&self) -> f64 {
        let n = f64::from(self.ring.literal().log_ring_degree);
        (n - 16.0).exp2() * n / 16.0
    }

    fn key_switch(&self, level: usize) -> KeySwitch {
        let (c, share) = (self.costs, self.share());
        let shape = self.ring.switch_shape(level);
        let digits = shape.digits(level + 1);
        let (l, k) = ((level + 1) as f64, shape.special as f64);
        let part = (level + 1).div_ceil(digits);
        let convert: f64 = (0..digits)
            .map(|d| (level + 1).saturating_sub(d * part).min(part) as f64)
            .map(|x| x * (l + k - x) * c.convert)
            .sum();
        let d = digits as f64;
        let key = 2.0 * d * (l + k) * self.ring.ring_degree() as f64 * 4.0 / 1e6;
        let up = l * c.inverse + convert + (d * (l + k) - l) * c.forward;
        let down = k * c.inverse + k * l * c.convert + l * (c.forward + c.pointwise);
        let inner = (key / c.bandwidth / share).max(2.0 * d * (l + k) * c.product) + 2.0 * (l + k) * c.gather;
        let product = 2.0 * (l + k) * c.product;
        let transform = (l + k) * c.forward;
        KeySwitch {
            up: up * share,
            down: down * share,
            inner: inner * share,
            product: product * share,
            transform: transform * share,
        }
    }

    /// The transforms of the plaintext of a term, made on every run, as a part of those of a full-length one: as many as it is long, unless
    /// it is a long one that other terms share, which is kept in full.
    fn transforms(&self, term: &Term) -> f64 {
        if self.uses[term.plain.0 as usize] > 1 && self.program.is_long(term.plain) {
            return 0.0;
        }
        let length = self.program.plaintexts[term.plain.0 as usize].values.len();
        length as f64 / self.program.slots as f64
    }

    fn layer(&mut self, step: &Step) -> &mut LayerTrace {
        let layer = &mut self.trace.layers[self.layer];
        layer.level = layer.level.max(step.level);
        layer
    }

    fn pointwise(&mut self, limbs: f64, step: &Step) {
        let ms = limbs * (step.level + 1) as f64 * self.costs.sum * self.share();
        self.layer(step).milliseconds += ms;
    }

    fn rotation(&mut self, by: u32, step: &Step) {
        self.trace.keys.rotations.insert((by, step.level));
    }

    /// Whether the result of the instruction at work stays undivided.
    fn stays_undivided(&self) -> bool {
        self.undivided[self.at]
    }

    /// One automorphism of the operand of the instruction at work.
    fn automorphism(&mut self, step: &Step) {
        let cost = self.key_switch(step.level);
        let undivided = self.stays_undivided();
        let operand = self.program.instructions[self.at].operands().first().copied();
        let hoisted = undivided && !operand.is_some_and(|o| self.decomposed.insert(o));
        let layer = self.layer(step);
        if hoisted {
            layer.hoisted += 1;
            layer.milliseconds += cost.inner;
            return;
        }
        layer.rotations += 1;
        layer.milliseconds += cost.up + cost.inner + if undivided { cost.down } else { 2.0 * cost.down };
    }

    /// The divisions of undivided values that the instruction at work reads as ciphertexts.
    fn divisions(&mut self) {
        if self.stays_undivided() {
            return;
        }
        let operands = self.program.instructions[self.at].operands();
        let waiting = operands.iter().filter(|o| self.undivided[o.index()]).count();
        let step = &self.schedule.steps[self.at];
        let down = self.key_switch(step.level).down;
        self.layer(step).milliseconds += 2.0 * down * waiting as f64;
    }
}

impl Interpreter for Tracer<'_> {
    type Value = ();
    type Error = Infallible;

    fn begin(&mut self, at: ValueId, program: &Program) -> Result<(), Infallible> {
        (self.layer, self.at) = (program.layer_of[at.index()] as usize, at.index());
        self.divisions();
        Ok(())
    }

    fn input(&mut self, _: usize, step: &Step) -> Result<(), Infallible> {
        self.layer(step);
        Ok(())
    }

    fn linear(&mut self, _: &[&()], _: &[Term], step: &Step) -> Result<(), Infallible> {
        // The whole group at its first member.
        let maps: Vec<&[Term]> = (self.at..self.groups[self.at])
            .filter_map(|v| match &self.program.instructions[v] {
                Instruction::Linear { terms, .. } => Some(terms.as_slice()),
                _ => None,
            })
            .collect();
        let terms = || maps.iter().copied().flatten();
        let cost = self.key_switch(step.level);
        let mut babies: Vec<(u32, u32)> = terms().map(|t| (t.input, t.baby)).collect();
        babies.sort_unstable();
        babies.dedup();
        babies.retain(|b| b.1 != 0);
        babies.iter().for_each(|b| self.rotation(b.1, step));
        let giants = GiantSteps::of(terms());
        giants.rotations().into_iter().for_each(|r| self.rotation(r, step));
        let g: usize = maps.iter().map(|terms| giants.count(terms)).sum();
        let transforms: f64 = terms().map(|t| self.transforms(t)).sum();
        let divided = (self.at..self.groups[self.at]).filter(|v| !self.undivided[*v]).count();
        let b = babies.len();
        babies.dedup_by_key(|b| b.0);
        let decomposed = babies.len();
        let layer = self.layer(step);
        layer.hoisted += b;
        layer.rotations += g;
        layer.products += terms().count();
        layer.milliseconds += cost.up * (decomposed + g) as f64
            + cost.inner * (b + g) as f64
            + cost.product * terms().count() as f64
            + cost.transform * transforms
            + cost.down * (g + 2 * divided) as f64;
        Ok(())
    }

    fn mul_plain(&mut self, _: &(), _: PlainId, step: &Step) -> Result<(), Infallible> {
        self.layer(step).masks += 1;
        self.pointwise(2.0, step);
        Ok(())
    }

    fn mul_scalar(&mut self, _: &(), _: f64, step: &Step) -> Result<(), Infallible> {
        self.pointwise(2.0, step);
        Ok(())
    }

    fn add_plain(&mut self, _: &(), _: PlainId, step: &Step) -> Result<(), Infallible> {
        self.pointwise(1.0, step);
        Ok(())
    }

    fn add(&mut self, _: &(), _: &(), step: &Step) -> Result<(), Infallible> {
        self.pointwise(2.0, step);
        Ok(())
    }

    fn sub(&mut self, _: &(), _: &(), step: &Step) -> Result<(), Infallible> {
        self.pointwise(2.0, step);
        Ok(())
    }

    fn rotate(&mut self, _: &(), by: u32, step: &Step) -> Result<(), Infallible> {
        self.rotation(by, step);
        self.automorphism(step);
        Ok(())
    }

    fn sum_rotations(
        &mut self,
        _: &(),
        (by, count, radix): (u32, usize, usize),
        step: &Step,
    ) -> Result<(), Infallible> {
        let cost = self.key_switch(step.level);
        let rounds = rounds(by, count, radix);
        let rotations: Vec<u32> = rounds.concat();
        rotations.iter().for_each(|r| self.rotation(*r, step));
        // Each round but the first divides one half before, the last division both; what stays undivided comes so.
        let last = if self.stays_undivided() { 0.0 } else { cost.down };
        let layer = self.layer(step);
        layer.rotations += rounds.len();
        layer.hoisted += rotations.len() - rounds.len();
        layer.milliseconds +=
            (cost.up + cost.down) * rounds.len() as f64 + cost.inner * rotations.len() as f64 + last;
        Ok(())
    }

    fn conjugate(&mut self, _: &(), by: u32, step: &Step) -> Result<(), Infallible> {
        self.trace.keys.conjugations.insert((by, step.level));
        self.automorphism(step);
        Ok(())
    }

    fn mul(&mut self, _: &(), _: &(), step: &Step) -> Result<(), Infallible> {
        self.square(&(), step)
    }

    fn square(&mut self, _: &(), step: &Step) -> Result<(), Infallible> {
        self.trace.keys.relinearizations.insert(step.level);
        let cost = self.key_switch(step.level);
        let layer = self.layer(step);
        layer.multiplications += 1;
        layer.milliseconds += cost.up + cost.inner + 2.0 * cost.down;
        self.pointwise(3.0, step);
        Ok(())
    }

    fn rescale(&mut self, _: &(), step: &Step) -> Result<(), Infallible> {
        let (c, l) = (self.costs, step.level as f64);
        // The division of an undivided value takes the rescaling in.
        let waits = |o: &ValueId| self.undivided[o.index()];
        if self.program.instructions[self.at].operands().iter().any(waits) {
            self.layer(step).rescales += 1;
            return Ok(());
        }
        let ms = 2.0 * (c.inverse + l * (c.forward + c.pointwise)) * self.share();
        let layer = self.layer(step);
        layer.rescales += 1;
        layer.milliseconds += ms;
        Ok(())
    }

    fn drop_level(&mut self, _: &(), _: usize) -> Result<(), Infallible> {
        Ok(())
    }
}
