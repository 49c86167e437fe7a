//! From instructions with levels and scales to the operations that are carried out.
//!
//! - Linear maps of the same values that follow each other become one operation.
//! - What is moved next, or summed with what is moved, stays modulo Q P; a chain of such sums is
//!   made in one pass, when somebody reads it. Everything modulo Q P is divided once, where it is
//!   read as a ciphertext.
//! - Rescalings that nobody watches become part of the division or relinearization before them,
//!   several at once too.
//! - A product is relinearized once, however many readers it has, and so is a value brought to a
//!   lower level.

use std::collections::HashMap;

use super::readers::Readers;
use super::{Executable, Form, Map, Move, Operation, Placement, Plain, Step};
use crate::program::{GiantSteps, Instruction, PlainId, Program, ValueId, rounds};
use crate::schedule::Schedule;

/// The operations of a program at the levels of a schedule of as many instructions.
pub(super) fn fuse(program: &Program, schedule: &Schedule) -> Executable {
    let mut fuser = Fuser {
        program,
        schedule,
        readers: Readers::new(program, schedule),
        made: vec![Made::default(); program.instructions().len()],
        layer: 0,
        steps: vec![],
        values: vec![],
    };
    let mut v = 0;
    while v < program.instructions().len() {
        fuser.layer = program.layer_of(ValueId(v as u32));
        v = fuser.instruction(v);
    }
    let outputs = program.outputs().iter().map(|o| fuser.ciphertext(*o, schedule.output_level)).collect();
    let mut results = program.results().to_vec();
    for value in results.iter_mut().flat_map(|r| &mut r.values) {
        *value = fuser.first(*value);
    }
    Executable {
        program: program.clone(),
        steps: fuser.steps,
        values: fuser.values,
        plaintexts: program.plaintexts().clone(),
        outputs,
        results,
        input: (schedule.input_level, schedule.input_scale),
        output_level: schedule.output_level,
    }
}

/// The values that carry the result of an instruction.
#[derive(Debug, Clone, Default)]
struct Made {
    ciphertext: Option<ValueId>,
    extended: Option<ValueId>,
    product: Option<ValueId>,
    /// A sum that its only reader, another sum, makes along with its own.
    terms: Vec<(ValueId, Move)>,
    /// What is rescaled, by how many primes, by the only reader, another rescaling.
    waiting: Option<(Rescaled, usize)>,
    /// The ciphertext at lower levels.
    dropped: HashMap<usize, ValueId>,
}

/// What a rescaling divides.
#[derive(Debug, Clone, Copy)]
enum Rescaled {
    Ciphertext(ValueId),
    Product(ValueId),
    Extended(ValueId),
}

struct Fuser<'a> {
    program: &'a Program,
    schedule: &'a Schedule,
    readers: Readers,
    made: Vec<Made>,
    layer: u32,
    steps: Vec<Step>,
    values: Vec<Placement>,
}

impl Fuser<'_> {
    /// Writes down what instruction `v` does, and those of its group; the first instruction after
    /// it.
    fn instruction(&mut self, v: usize) -> usize {
        let program = self.program;
        let level = self.schedule.steps[v].level;
        let plain_scale = self.schedule.steps[v].plain_scale;
        let plain = |id: PlainId| Plain { id, scale: plain_scale };
        let operation = match &program.instructions()[v] {
            Instruction::Linear { inputs, .. } => return self.linear(v, inputs),
            Instruction::SumRotations { input, step, count, radix } => {
                self.sum_rotations(v, *input, &rounds(*step, *count, *radix));
                return v + 1;
            }
            Instruction::Rescale(a) => {
                self.rescale(v, *a);
                return v + 1;
            }
            Instruction::Mul(a, b) => {
                let product = Operation::Mul(self.ciphertext(*a, level), self.ciphertext(*b, level));
                self.product(v, product);
                return v + 1;
            }
            Instruction::Square(a) => {
                let product = Operation::Square(self.ciphertext(*a, level));
                self.product(v, product);
                return v + 1;
            }
            Instruction::Rotate { input, by } => match self.moved(v, *input, Move::Rotation(*by)) {
                Some(operation) => operation,
                None => return v + 1,
            },
            Instruction::Conjugate { input, by } => match self.moved(v, *input, Move::Conjugation(*by)) {
                Some(operation) => operation,
                None => return v + 1,
            },
            Instruction::Add(a, b) if self.readers.extended[v] => {
                let terms = [self.terms(*a), self.terms(*b)].concat();
                self.sum(v, terms);
                return v + 1;
            }
            Instruction::Add(a, b) => Operation::Add(self.ciphertext(*a, level), self.ciphertext(*b, level)),
            Instruction::Sub(a, b) => Operation::Sub(self.ciphertext(*a, level), self.ciphertext(*b, level)),
            Instruction::Input(index) => Operation::Input(*index),
            Instruction::MulPlain { input, plain: id, .. } => {
                Operation::MulPlain { input: self.ciphertext(*input, level), plain: plain(*id) }
            }
            Instruction::AddPlain { input, plain: id } => {
                Operation::AddPlain { input: self.ciphertext(*input, level), plain: plain(*id) }
            }
            Instruction::MulScalar { input, value } => {
                let input = self.ciphertext(*input, level);
                Operation::MulScalar { input, value: *value, scale: plain_scale }
            }
        };
        self.made[v].ciphertext = Some(self.push(operation, v));
        v + 1
    }

    /// Adds a step with one result, which carries that of instruction `v`.
    fn push(&mut self, operation: Operation, v: usize) -> ValueId {
        let step = self.schedule.steps[v];
        self.push_at(operation, step.result_level, step.scale)
    }

    fn push_at(&mut self, operation: Operation, level: usize, scale: f64) -> ValueId {
        let first = self.values.len() as u32;
        self.values.push(Placement { form: operation.makes(), level, scale });
        self.steps.push(Step { operation, layer: self.layer, results: first..first + 1 });
        ValueId(first)
    }

    /// The result of an instruction as a ciphertext at a level.
    fn ciphertext(&mut self, v: ValueId, level: usize) -> ValueId {
        let made = &self.made[v.index()];
        let whole = match (made.ciphertext, made.extended) {
            (Some(ciphertext), _) => ciphertext,
            (None, Some(input)) => {
                let divided = self.push(Operation::Divide { input, primes: 0 }, v.index());
                self.made[v.index()].ciphertext = Some(divided);
                divided
            }
            (None, None) => unreachable!("only sums and rescalings wait, for readers of their own kind"),
        };
        let Placement { level: own, scale, .. } = self.values[whole.index()];
        if level == own {
            return whole;
        }
        if let Some(dropped) = self.made[v.index()].dropped.get(&level) {
            return *dropped;
        }
        let dropped = self.push_at(Operation::DropLevel { input: whole, level }, level, scale);
        self.made[v.index()].dropped.insert(level, dropped);
        dropped
    }

    /// The linear maps of the same inputs at one level from `v` on: where they end. Maps whose
    /// results are moved next are kept apart from the others, so that they need no more giant steps
    /// than they have.
    fn linear(&mut self, v: usize, inputs: &[ValueId]) -> usize {
        let (program, schedule) = (self.program, self.schedule);
        let (level, extended) = (schedule.steps[v].level, &self.readers.extended);
        let joins = |w: &usize| {
            let same = matches!(&program.instructions()[*w], Instruction::Linear { inputs: own, .. } if own == inputs);
            same && schedule.steps[*w].level == level && extended[v] == extended[*w]
        };
        let end = (v..program.instructions().len()).take_while(joins).last().map_or(v + 1, |last| last + 1);
        let maps = (v..end).filter_map(|w| match &program.instructions()[w] {
            Instruction::Linear { terms, .. } => {
                Some(Map { terms: terms.clone(), scale: schedule.steps[w].plain_scale })
            }
            _ => None,
        });
        let maps: Vec<Map> = maps.collect();
        let giants = GiantSteps::of(maps.iter().flat_map(|map| &map.terms));
        let inputs = inputs.iter().map(|input| self.ciphertext(*input, level)).collect();
        let first = self.values.len() as u32;
        for w in v..end {
            self.made[w].extended = Some(ValueId(self.values.len() as u32));
            self.values.push(Placement { form: Form::Extended, level, scale: schedule.steps[w].scale });
        }
        let operation = Operation::Linear { inputs, maps, giants };
        self.steps.push(Step { operation, layer: self.layer, results: first..self.values.len() as u32 });
        end
    }

    fn sum_rotations(&mut self, v: usize, input: ValueId, rounds: &[Vec<u32>]) {
        let level = self.schedule.steps[v].level;
        let at_level = self.schedule.steps[input.index()].result_level == level;
        let mut own = match self.made[input.index()].extended {
            Some(extended) if self.readers.extended[input.index()] && at_level => extended,
            _ => {
                let input = self.ciphertext(input, level);
                self.push(Operation::Extend { input, rotations: rounds.concat() }, v)
            }
        };
        for round in rounds {
            let moves = [0].iter().chain(round).map(|by| (own, Move::Rotation(*by)));
            let terms = moves.collect();
            own = self.push(Operation::SumMoved(terms), v);
        }
        self.made[v].extended = Some(own);
    }

    /// A move of a ciphertext; `None` if it is one modulo Q P, which is noted.
    fn moved(&mut self, v: usize, input: ValueId, by: Move) -> Option<Operation> {
        if !self.readers.extended[v] {
            let input = self.ciphertext(input, self.schedule.steps[v].level);
            return Some(Operation::Move { input, by });
        }
        let own = self.made[input.index()].extended.expect("what is moved does not wait");
        self.sum(v, vec![(own, by)]);
        None
    }

    /// The terms of the sum that `v` is, modulo Q P.
    fn terms(&self, v: ValueId) -> Vec<(ValueId, Move)> {
        let made = &self.made[v.index()];
        match made.extended {
            Some(own) => vec![(own, Move::Rotation(0))],
            None => made.terms.clone(),
        }
    }

    /// Makes a sum modulo Q P, or leaves it to its only reader where that is such a sum too.
    fn sum(&mut self, v: usize, terms: Vec<(ValueId, Move)>) {
        let joins = |reader: usize| {
            self.readers.extended[reader]
                && matches!(self.program.instructions()[reader], Instruction::Add(..))
        };
        let is_shown = self.program.results().iter().any(|r| r.values.contains(&ValueId(v as u32)));
        if !is_shown && self.readers.only[v].is_some_and(joins) {
            self.made[v].terms = terms;
        } else {
            self.made[v].extended = Some(self.push(Operation::SumMoved(terms), v));
        }
    }

    /// A product, relinearized at once unless a rescaling does so.
    fn product(&mut self, v: usize, operation: Operation) {
        let product = self.push(operation, v);
        self.made[v].product = Some(product);
        if !self.readers.rescaled[v] {
            let relinearize = Operation::Relinearize { input: product, primes: 0 };
            self.made[v].ciphertext = Some(self.push(relinearize, v));
        }
    }

    fn rescale(&mut self, v: usize, a: ValueId) {
        let level = self.schedule.steps[v].level;
        let at_level = self.schedule.steps[a.index()].result_level == level;
        let made = &self.made[a.index()];
        let (source, primes) = match (made.waiting, made.extended, made.product) {
            (Some((source, primes)), _, _) => (source, primes + 1),
            (None, Some(extended), _) if at_level => (Rescaled::Extended(extended), 1),
            (None, _, Some(product)) if self.readers.rescaled[a.index()] => (Rescaled::Product(product), 1),
            _ => (Rescaled::Ciphertext(self.ciphertext(a, level)), 1),
        };
        if self.readers.rescaled[v] {
            self.made[v].waiting = Some((source, primes));
            return;
        }
        let operation = match source {
            Rescaled::Ciphertext(input) => Operation::Rescale { input, primes },
            Rescaled::Product(input) => Operation::Relinearize { input, primes },
            Rescaled::Extended(input) => Operation::Divide { input, primes },
        };
        self.made[v].ciphertext = Some(self.push(operation, v));
    }

    /// The first value that carries the result of an instruction: that of its reader where it waits
    /// for that one.
    fn first(&self, v: ValueId) -> ValueId {
        let made = &self.made[v.index()];
        let known = made.product.or(made.extended).or(made.ciphertext);
        known.unwrap_or_else(|| {
            let reader = self.readers.only[v.index()].expect("what waits has one reader");
            self.first(ValueId(reader as u32))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use num_complex::Complex64;

    use super::*;
    use crate::layout::Layout;
    use crate::program::{Builder, PlainScale, Term};
    use crate::schedule::{Chain, schedule};

    const LAYOUT: Layout = Layout::Vector { features: 2, slots: 8, period: 2, films: 1 };

    /// What is executed of a program, in words: operations with what they say of moves and primes.
    /// The first instruction is the input; values in `shown` are results of layers.
    fn words(shown: &[u32], build: impl FnOnce(&mut Builder) -> Vec<ValueId>) -> Vec<String> {
        let mut builder = Builder::new(8);
        builder.push(Instruction::Input(0));
        let outputs = build(&mut builder);
        let shown: Vec<ValueId> = shown.iter().copied().map(ValueId).collect();
        builder.result(&shown, LAYOUT, &[1.0, 1.0]);
        let program = Program::new(builder.finish(LAYOUT, LAYOUT, outputs)).unwrap();
        let prime = 30f64.exp2();
        let chain = Chain { primes: vec![prime; 6], scale: prime, base_level: 1 };
        let executable = Executable::new(&program, &schedule(&program, &chain).unwrap()).unwrap();
        // Whatever is shown is there under some number.
        let known = executable.results().iter().flat_map(|r| &r.values);
        known.for_each(|v| assert!(v.index() < executable.value_count()));
        let of = |(_, by): &(ValueId, Move)| match by {
            Move::Rotation(by) => format!(" {by}"),
            Move::Conjugation(by) => format!(" *{by}"),
        };
        let word = |step: &Step| match step.operation() {
            Operation::Input(_) => "input".into(),
            Operation::Linear { maps, .. } => format!("linear {}", maps.len()),
            Operation::Extend { .. } => "extend".into(),
            Operation::SumMoved(terms) => format!("sum{}", terms.iter().map(of).collect::<String>()),
            Operation::Divide { primes, .. } => format!("divide {primes}"),
            Operation::Relinearize { primes, .. } => format!("relinearize {primes}"),
            Operation::Rescale { primes, .. } => format!("rescale {primes}"),
            Operation::DropLevel { level, .. } => format!("drop to {level}"),
            Operation::Move { .. } => "move".into(),
            Operation::Square(_) => "square".into(),
            Operation::Add(..) => "add".into(),
            other => format!("{other:?}"),
        };
        executable.steps().iter().map(word).collect()
    }

    fn linear(builder: &mut Builder, input: ValueId) -> ValueId {
        let plain = builder.plain(vec![Complex64::ONE; 8]);
        let terms = vec![Term { input: 0, baby: 1, giant: 0, plain }];
        builder.push(Instruction::Linear { inputs: vec![input], terms, scale: PlainScale::Fill })
    }

    const INPUT: ValueId = ValueId(0);

    #[test]
    fn rescalings_that_nobody_else_waits_for_join_the_division_before_them() {
        let rescaled = |builder: &mut Builder, times: usize| {
            let map = linear(builder, INPUT);
            vec![(0..times).fold(map, |v, _| builder.push(Instruction::Rescale(v)))]
        };
        for (times, divided) in [(0, "divide 0"), (1, "divide 1"), (3, "divide 3")] {
            assert_eq!(words(&[1], |b| rescaled(b, times)), ["input", "linear 1", divided]);
        }
        let square = |builder: &mut Builder| {
            let square = builder.push(Instruction::Square(INPUT));
            vec![builder.push(Instruction::Rescale(square))]
        };
        assert_eq!(words(&[1], square), ["input", "square", "relinearize 1"]);
        let plain = |builder: &mut Builder| {
            let first = builder.push(Instruction::Rescale(INPUT));
            vec![builder.push(Instruction::Rescale(first))]
        };
        assert_eq!(words(&[], plain), ["input", "rescale 2"]);
    }

    #[test]
    fn what_several_read_is_made_once() {
        let square = |builder: &mut Builder| {
            let square = builder.push(Instruction::Square(INPUT));
            let rescaled = [square; 2].map(|v| builder.push(Instruction::Rescale(v)));
            vec![builder.push(Instruction::Add(rescaled[0], rescaled[1]))]
        };
        let expected = ["input", "square", "relinearize 0", "rescale 1", "rescale 1", "add"];
        assert_eq!(words(&[], square), expected);
        // Two readers below the level at which the input is encrypted.
        let dropped = |builder: &mut Builder| {
            let map = linear(builder, INPUT);
            let low = builder.push(Instruction::Rescale(map));
            let first = builder.push(Instruction::Add(INPUT, low));
            vec![builder.push(Instruction::Add(INPUT, first))]
        };
        assert_eq!(words(&[], dropped), ["input", "linear 1", "divide 1", "drop to 1", "add", "add"]);
        let maps = |builder: &mut Builder| {
            let maps = [(); 2].map(|()| linear(builder, INPUT));
            vec![builder.push(Instruction::Add(maps[0], maps[1]))]
        };
        assert_eq!(words(&[], maps), ["input", "linear 2", "divide 0", "divide 0", "add"]);
    }

    #[test]
    fn sums_of_moved_values_are_made_in_one_pass_and_divided_once() {
        let sum = |builder: &mut Builder| {
            let map = linear(builder, INPUT);
            let moved = builder.push(Instruction::Rotate { input: map, by: 1 });
            let sum = builder.push(Instruction::Add(map, moved));
            let conjugated = builder.push(Instruction::Conjugate { input: map, by: 2 });
            let sum = builder.push(Instruction::Add(sum, conjugated));
            vec![builder.push(Instruction::Rescale(sum))]
        };
        assert_eq!(words(&[1], sum), ["input", "linear 1", "sum 0 1 *2", "divide 1"]);
        // What is shown is there by itself.
        assert_eq!(words(&[3], sum), ["input", "linear 1", "sum 0 1", "sum 0 *2", "divide 1"]);
        let rotations = |builder: &mut Builder| {
            let sum = Instruction::SumRotations { input: INPUT, step: 1, count: 8, radix: 4 };
            let sum = builder.push(sum);
            vec![builder.push(Instruction::Rescale(sum))]
        };
        assert_eq!(words(&[1], rotations), ["input", "extend", "sum 0 1 2 3", "sum 0 4", "divide 1"]);
        let plain = |builder: &mut Builder| vec![builder.push(Instruction::Rotate { input: INPUT, by: 1 })];
        assert_eq!(words(&[], plain), ["input", "move"]);
    }

    #[test]
    fn a_schedule_of_another_program_is_refused() {
        let program = |instructions: usize| {
            let mut builder = Builder::new(8);
            let input = builder.push(Instruction::Input(0));
            let last =
                (1..instructions).fold(input, |v, _| builder.push(Instruction::Rotate { input: v, by: 1 }));
            Program::new(builder.finish(LAYOUT, LAYOUT, vec![last])).unwrap()
        };
        let chain = Chain { primes: vec![30f64.exp2(); 3], scale: 30f64.exp2(), base_level: 1 };
        let other = schedule(&program(3), &chain).unwrap();
        assert!(Executable::new(&program(2), &other).is_err());
        assert!(Executable::new(&program(3), &other).is_ok());
    }
}
