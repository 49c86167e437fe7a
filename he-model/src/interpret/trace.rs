//! The executable as numbers: operations, levels, keys, and a prediction of time and memory.
//!
//! What is counted is what an evaluator counts ([`ckks::OperationCounts`]), and the times follow
//! from the same counts. They are a model (see [`Costs`]), fitted by least squares to the measured
//! layers of LeNet, ResNet20 and ResNet20 with gates at N = 2^16 on a processor with AVX-512, and
//! scaled to other ring degrees by N log N.

mod costs;
mod keys;

use std::collections::HashSet;
use std::convert::Infallible;

use ckks::OperationCounts;

pub use costs::Costs;
use costs::LevelCosts;
pub use keys::KeyNeeds;

use super::{Interpreter, Operand, walk};
use crate::executable::{Executable, Map, Move, Operation, Step};
use crate::parameters::Ring;
use crate::preparation::{Preparation, Preparations};
use crate::program::{GiantSteps, ValueId};

/// What one layer does.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LayerTrace {
    /// Its name.
    pub name: String,
    /// Highest level at which it works.
    pub level: usize,
    /// Operations.
    pub operations: OperationCounts,
    /// Predicted milliseconds of one thread.
    pub milliseconds: f64,
}

/// The whole trace.
#[derive(Debug, Clone, Default, PartialEq)]
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
    /// Levels between input and output.
    pub depth: usize,
    /// Numbers in all plaintexts.
    pub plaintext_values: usize,
}

impl Trace {
    /// Traces an executable.
    #[must_use]
    pub fn new(executable: &Executable, ring: &Ring, costs: &Costs) -> Self {
        let layers = executable.layers().iter();
        let layers = layers.map(|name| LayerTrace { name: name.clone(), ..LayerTrace::default() });
        let mut tracer = Tracer {
            executable,
            preparations: Preparations::new(executable, ring).into_steps(),
            costs: (0..=executable.input_level()).map(|level| LevelCosts::new(*costs, ring, level)).collect(),
            layers: layers.collect(),
            keys: KeyNeeds::default(),
            decomposed: HashSet::new(),
        };
        match walk(executable, &mut tracer) {
            Ok(_) => {}
            Err(never) => match never {},
        }
        let Tracer { layers, keys, .. } = tracer;
        let (key_count, key_bytes) = keys.keys(ring);
        Self {
            layers,
            keys,
            key_count,
            key_bytes,
            input_level: executable.input_level(),
            depth: executable.input_level() - executable.output_level(),
            plaintext_values: executable.plaintexts().iter().map(|p| p.values.len()).sum(),
        }
    }

    /// Predicted seconds of one thread.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.layers.iter().map(|l| l.milliseconds).sum::<f64>() / 1e3
    }
}

struct Tracer<'a> {
    executable: &'a Executable,
    /// For each step to come, those of its plaintexts.
    preparations: std::vec::IntoIter<Vec<Preparation>>,
    /// By level.
    costs: Vec<LevelCosts>,
    layers: Vec<LayerTrace>,
    keys: KeyNeeds,
    /// Values modulo Q P that are decomposed already.
    decomposed: HashSet<ValueId>,
}

impl Tracer<'_> {
    fn needs(&mut self, by: Move, level: usize) {
        match by {
            Move::Rotation(0) => {}
            Move::Rotation(by) => _ = self.keys.rotations.insert((by, level)),
            Move::Conjugation(by) => _ = self.keys.conjugations.insert((by, level)),
        }
    }

    /// Linear maps, without what their plaintexts take to transform.
    fn linear(&mut self, maps: &[Map], giants: &GiantSteps, level: usize) -> (OperationCounts, f64) {
        let terms = || maps.iter().flat_map(|map| &map.terms);
        let mut babies: Vec<(u32, u32)> =
            terms().filter(|t| t.baby != 0).map(|t| (t.input, t.baby)).collect();
        babies.sort_unstable();
        babies.dedup();
        let rotations = babies.iter().map(|b| b.1).chain(giants.rotations());
        rotations.collect::<Vec<_>>().into_iter().for_each(|by| self.needs(Move::Rotation(by), level));
        let giants: usize = maps.iter().map(|map| giants.count(&map.terms)).sum();
        let key_products = babies.len() + giants;
        babies.dedup_by_key(|b| b.0);
        let counts = OperationCounts {
            decompositions: babies.len() + giants,
            key_products,
            divisions: giants,
            plaintext_products: terms().count(),
            ..OperationCounts::default()
        };
        let costs = &self.costs[level];
        let divisions = costs.division(true, 0) * giants as f64;
        (counts, divisions + costs.plaintext_product * counts.plaintext_products as f64)
    }

    fn sum_moved(&mut self, terms: &[(ValueId, Move)], level: usize) -> (OperationCounts, f64) {
        let moved = || terms.iter().filter(|(_, by)| !by.is_none());
        moved().for_each(|(_, by)| self.needs(*by, level));
        let decompositions = moved().filter(|(of, _)| self.decomposed.insert(*of)).count();
        let key_products = moved().count();
        let counts = OperationCounts {
            decompositions,
            key_products,
            divisions: decompositions,
            sums: terms.len() - 1,
            ..OperationCounts::default()
        };
        let costs = &self.costs[level];
        let unmoved = (terms.len() - key_products) as f64 * costs.extended_term();
        (counts, costs.division(true, 0) * decompositions as f64 + unmoved)
    }

    /// What a step does, and the milliseconds of all of it but decompositions and products with
    /// keys.
    fn step(&mut self, step: &Step, level: usize) -> (OperationCounts, f64) {
        let none = OperationCounts::default();
        let switch = OperationCounts { decompositions: 1, key_products: 1, divisions: 2, ..none };
        let pass = self.costs[level].pass;
        match step.operation() {
            Operation::Input(_) | Operation::DropLevel { .. } => (none, 0.0),
            Operation::Linear { maps, giants, .. } => self.linear(maps, giants, level),
            Operation::SumMoved(terms) => self.sum_moved(terms, level),
            Operation::Extend { .. } => {
                self.decomposed.extend(step.results());
                (OperationCounts { decompositions: 1, ..none }, 0.0)
            }
            Operation::Divide { primes, .. } => {
                (OperationCounts { divisions: 2, ..none }, 2.0 * self.costs[level].division(true, *primes))
            }
            Operation::Rescale { primes, .. } => {
                (OperationCounts { divisions: 2, ..none }, 2.0 * self.costs[level].division(false, *primes))
            }
            Operation::Relinearize { primes, .. } => {
                self.keys.relinearizations.insert(level);
                (switch, 2.0 * self.costs[level].division(true, *primes))
            }
            Operation::Move { by, .. } if by.is_none() => (none, 0.0),
            Operation::Move { by, .. } => {
                self.needs(*by, level);
                (switch, 2.0 * self.costs[level].division(true, 0))
            }
            Operation::Mul(..) | Operation::Square(_) => {
                (OperationCounts { ciphertext_products: 1, ..none }, 3.0 * pass)
            }
            Operation::MulPlain { .. } | Operation::MulScalar { .. } => {
                (OperationCounts { plaintext_products: 1, ..none }, 2.0 * pass)
            }
            Operation::AddPlain { .. } => (OperationCounts { sums: 1, ..none }, pass),
            Operation::Add(..) | Operation::Sub(..) => (OperationCounts { sums: 1, ..none }, 2.0 * pass),
        }
    }

    /// How many of a step's plaintexts are transformed on every run, and the milliseconds of that:
    /// as many limbs as they have, each as long as their period.
    fn transforms(&mut self, step: &Step, level: usize) -> (usize, f64) {
        let preparations = self.preparations.next().unwrap_or_default();
        let each_run = step.operation().plains().zip(preparations);
        let periods = each_run
            .filter(|(_, preparation)| *preparation == Preparation::EachRun)
            .map(|(plain, _)| self.executable.plaintext(plain.id).len());
        let periods: Vec<usize> = periods.collect();
        let share = periods.iter().sum::<usize>() as f64 / self.executable.slots() as f64;
        (periods.len(), share * self.costs[level].transforms)
    }
}

impl Interpreter for Tracer<'_> {
    type Value = ();
    type Error = Infallible;

    fn execute(&mut self, step: &Step, _: Vec<Operand<'_, ()>>) -> Result<Vec<()>, Infallible> {
        let level = self.executable.level(step);
        let (mut operations, mut milliseconds) = self.step(step, level);
        let costs = &self.costs[level];
        milliseconds += operations.decompositions as f64 * costs.decomposition
            + operations.key_products as f64 * costs.key_product;
        let (transforms, transforming) = self.transforms(step, level);
        operations.plaintext_transforms = transforms;
        let layer = &mut self.layers[step.layer()];
        layer.level = layer.level.max(level);
        layer.operations += operations;
        layer.milliseconds += milliseconds + transforming;
        Ok(step.results().map(|_| ()).collect())
    }
}
