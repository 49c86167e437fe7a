//! Levels and scales of a program, as a function of the primes.
//!
//! Levels are assigned backwards: every value is computed at the lowest level that its readers
//! allow, so a shortcut with levels to spare runs on few limbs. Scales are assigned twice:
//! backwards, what each reader *wants* (a sum wants equal scales, a square before a sum wants the
//! square root of that times its prime), and forwards, what is: linear maps choose the scale of
//! their plaintexts so that the wish comes true exactly, with the real primes.

use crate::error::ModelError;
use crate::parameters::PRIME_BITS;
use crate::program::{Instruction, PlainScale, Program, ValueId};

/// The output has a larger scale than values between layers: the factors of a mean are small, and
/// their plaintexts are rounded to multiples of one over this scale. With two primes at the output
/// and 2^30 between layers, results below 2^20 fit.
const OUTPUT_GAIN: f64 = 256.0;

/// What a value whose rescaling waits behind a mask has more: the size of a prime, the same at
/// every level, so that sums agree.
const DEFERRED: f64 = (1u64 << PRIME_BITS) as f64;

/// What wide values have more: half a prime, so that the convolutions before and behind them share
/// it.
const WIDE: f64 = (1u64 << (PRIME_BITS / 2)) as f64;

/// A square whose rescaling waits has this much less scale than other values between layers.
/// Nothing is rounded at that scale, so it only says how the bits of a block are shared: what it
/// loses goes to the weights of the convolution that reads it, and half of it is taken from the one
/// before.
const DEFERRED_SQUARE_LOSS: f64 = 4.0;

/// A square that a linear map reads has this much less scale than other values between layers: what
/// is missing goes to the weights of that map, whose rounding is most of the error.
const SQUARE_LOSS: f64 = 2.0;

/// A plaintext at a smaller scale would be rounded to next to nothing.
const LEAST_PLAIN_SCALE: f64 = 16.0;

/// What the primes allow.
#[derive(Debug, Clone, PartialEq)]
pub struct Chain {
    /// The primes, q_0 first. `primes[l]` is what a rescale at level l divides by.
    pub primes: Vec<f64>,
    /// Scale of values between layers.
    pub scale: f64,
    /// Level of the output.
    pub base_level: usize,
}

/// Levels and scale of one instruction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Assigned {
    /// Level at which it is carried out: that of its operands.
    pub level: usize,
    /// Level of the result.
    pub result_level: usize,
    /// Scale of the result.
    pub scale: f64,
    /// Scale at which its plaintexts are encoded, if it has any.
    pub plain_scale: f64,
}

/// Levels and scales of a whole program.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// One entry an instruction.
    pub steps: Vec<Assigned>,
    /// Level at which the input is encrypted.
    pub input_level: usize,
    /// Scale at which the input is encrypted.
    pub input_scale: f64,
    /// Level of the output.
    pub output_level: usize,
}

/// Rescalings between input and output: the number of levels a program needs above its base.
#[must_use]
pub fn depth(program: &Program) -> usize {
    levels(program, 0).iter().copied().max().unwrap_or(0)
}

/// Result levels, backwards from the outputs.
fn levels(program: &Program, base: usize) -> Vec<usize> {
    let mut level = vec![base; program.instructions().len()];
    for (v, instruction) in program.instructions().iter().enumerate().rev() {
        let at = instruction.operand_level(level[v]);
        for o in instruction.operands() {
            level[o.index()] = level[o.index()].max(at);
        }
    }
    // All ciphertexts of the input are encrypted at one level.
    let inputs =
        || program.instructions().iter().enumerate().filter(|(_, i)| matches!(i, Instruction::Input(_)));
    let top = inputs().map(|(v, _)| level[v]).max().unwrap_or(base);
    let inputs: Vec<usize> = inputs().map(|(v, _)| v).collect();
    inputs.into_iter().for_each(|v| level[v] = top);
    level
}

/// Assigns levels and scales.
///
/// # Errors
/// Too few primes, a plaintext left with less than 2^4 of scale, or sums whose scales cannot be
/// made equal.
pub fn schedule(program: &Program, chain: &Chain) -> Result<Schedule, ModelError> {
    let levels = levels(program, chain.base_level);
    let top = levels.iter().copied().max().unwrap_or(0);
    if top >= chain.primes.len() {
        return Err(ModelError::TooDeep { needed: top + 1, available: chain.primes.len() });
    }
    let wishes = Wishes::of(program, chain, &levels);
    let mut steps: Vec<Assigned> = Vec::with_capacity(levels.len());
    for (v, instruction) in program.instructions().iter().enumerate() {
        let wish = wishes[v].unwrap_or(chain.scale);
        let level = instruction.operand_level(levels[v]);
        let layer = || program.layer_name(ValueId(v as u32)).to_owned();
        let (scale, plain_scale) = scales(instruction, wish, &steps, chain, level)
            .map_err(|(left, right)| ModelError::Scales { layer: layer(), left, right })?;
        if plain_scale < LEAST_PLAIN_SCALE && has_plain(instruction) {
            return Err(ModelError::PlainScale { layer: layer(), bits: plain_scale.log2() });
        }
        steps.push(Assigned { level, result_level: levels[v], scale, plain_scale });
    }
    let input = program.instructions().iter().position(|i| matches!(i, Instruction::Input(_)));
    let input_scale = input.map_or(chain.scale, |v| steps[v].scale);
    let input_level = input.map_or(chain.base_level, |v| levels[v]);
    Ok(Schedule { input_level, input_scale, output_level: chain.base_level, steps })
}

/// The scale of an instruction's result, and that of its plaintexts (1 where it has none); the two
/// scales of a sum where they differ.
fn scales(
    instruction: &Instruction,
    wish: f64,
    steps: &[Assigned],
    chain: &Chain,
    level: usize,
) -> Result<(f64, f64), (f64, f64)> {
    let scale = |o: &ValueId| steps[o.index()].scale;
    Ok(match instruction {
        Instruction::Input(_) => (wish, 1.0),
        Instruction::Linear { inputs, scale: plain, .. } => {
            let s = inputs.first().map_or(chain.scale, scale);
            let plain = fill(*plain, wish / s);
            (s * plain, plain)
        }
        Instruction::MulPlain { input, scale: plain, .. } => {
            let plain = fill(*plain, wish / scale(input));
            (scale(input) * plain, plain)
        }
        Instruction::MulScalar { input, .. } => (wish, wish / scale(input)),
        Instruction::AddPlain { input, .. } => (scale(input), scale(input)),
        Instruction::Add(a, b) | Instruction::Sub(a, b) => {
            if (scale(a) / scale(b) - 1.0).abs() > 1e-9 {
                return Err((scale(a), scale(b)));
            }
            (scale(a), 1.0)
        }
        Instruction::Rotate { input, .. }
        | Instruction::SumRotations { input, .. }
        | Instruction::Conjugate { input, .. } => (scale(input), 1.0),
        Instruction::Mul(a, b) => (scale(a) * scale(b), 1.0),
        Instruction::Square(a) => (scale(a) * scale(a), 1.0),
        Instruction::Rescale(a) => (scale(a) / chain.primes[level], 1.0),
    })
}

fn has_plain(instruction: &Instruction) -> bool {
    matches!(
        instruction,
        Instruction::Linear { .. } | Instruction::MulPlain { .. } | Instruction::MulScalar { .. }
    )
}

fn fill(scale: PlainScale, missing: f64) -> f64 {
    match scale {
        PlainScale::Bits(bits) | PlainScale::Waiting { bits, .. } => f64::from(bits).exp2(),
        PlainScale::Fill => missing,
    }
}

/// The scale that the readers of each value want; `None` if any will do.
struct Wishes<'a> {
    program: &'a Program,
    chain: &'a Chain,
    levels: &'a [usize],
    /// Values that a mask reads before their rescaling.
    waiting: Vec<bool>,
    wishes: Vec<Option<f64>>,
}

impl<'a> Wishes<'a> {
    fn of(program: &'a Program, chain: &'a Chain, levels: &'a [usize]) -> Vec<Option<f64>> {
        let mut wishes = vec![None; levels.len()];
        for v in program.outputs() {
            wishes[v.index()] = Some(chain.scale * OUTPUT_GAIN);
        }
        let mut waiting = vec![false; levels.len()];
        for instruction in program.instructions() {
            if let Instruction::Linear { inputs, scale: PlainScale::Waiting { .. }, .. } = instruction {
                inputs.iter().for_each(|i| waiting[i.index()] = true);
            }
        }
        let mut all = Self { program, chain, levels, waiting, wishes };
        for (v, instruction) in program.instructions().iter().enumerate().rev() {
            all.pass_on(v, instruction);
        }
        all.wishes
    }

    /// What a value is wanted at: the scale between layers where nothing constrains it.
    fn own(&self, v: usize) -> f64 {
        self.wishes[v].unwrap_or(self.chain.scale)
    }

    /// The first reader to ask is heard.
    fn want(&mut self, v: ValueId, scale: f64) -> f64 {
        *self.wishes[v.index()].get_or_insert(scale)
    }

    /// Tells the operands of an instruction what its own readers' wish means for them.
    fn pass_on(&mut self, v: usize, instruction: &Instruction) {
        match instruction {
            Instruction::Linear { inputs, scale: PlainScale::Waiting { wide, .. }, .. } => {
                inputs.iter().for_each(|input| self.want_waiting(*input, *wide));
            }
            Instruction::Linear { inputs, scale: PlainScale::Bits(bits), .. } => {
                if let Some(s) = self.wishes[v] {
                    inputs.iter().for_each(|i| _ = self.want(*i, s / f64::from(*bits).exp2()));
                }
            }
            Instruction::Input(_) | Instruction::Linear { .. } | Instruction::MulScalar { .. } => {}
            Instruction::MulPlain { input, scale, .. } => {
                // With a factor of fixed scale the input has to bring the rest.
                if let (PlainScale::Bits(bits), Some(s)) = (scale, self.wishes[v]) {
                    self.want(*input, s / f64::from(*bits).exp2());
                }
            }
            Instruction::AddPlain { input, .. }
            | Instruction::Rotate { input, .. }
            | Instruction::SumRotations { input, .. }
            | Instruction::Conjugate { input, .. } => {
                if let Some(s) = self.wishes[v] {
                    self.want(*input, s);
                }
            }
            Instruction::Add(a, b) | Instruction::Sub(a, b) => {
                let free = a == b || same_origin(self.program, *a, *b);
                if let Some(s) = self.wishes[v].or((!free).then_some(self.chain.scale)) {
                    self.want(*a, s);
                    self.want(*b, s);
                }
            }
            Instruction::Mul(a, b) => {
                // Where one factor's scale is wanted already, the other one makes up for it.
                let s = self.own(v);
                let a_wish = self.wishes[b.index()].map_or(self.chain.scale, |b_wish| s / b_wish);
                let a_wish = self.want(*a, a_wish);
                self.want(*b, s / a_wish);
            }
            Instruction::Square(a) => {
                self.want(*a, self.own(v).sqrt());
            }
            Instruction::Rescale(a) => self.want_before_rescaling(v, *a),
        }
    }

    /// The mask behind which a rescaling waits.
    fn want_waiting(&mut self, input: ValueId, wide: bool) {
        let more = match wide {
            true => WIDE,
            false if is_square(self.program, input) => 1.0 / DEFERRED_SQUARE_LOSS,
            false => 1.0,
        };
        self.want(input, self.chain.scale * DEFERRED * more);
    }

    fn want_before_rescaling(&mut self, v: usize, a: ValueId) {
        // A mask that reads the value too says at which scale it waits.
        if self.wishes[v].is_none() && self.waiting[a.index()] {
            return;
        }
        let mut s = self.own(v) * self.chain.primes[self.levels[v] + 1];
        // What only a linear map reads.
        if self.wishes[v].is_none() && matches!(self.program.instruction(a), Instruction::Square(_)) {
            s /= SQUARE_LOSS;
        }
        self.want(a, s);
    }
}

/// True for a square, with or without a constant added.
fn is_square(program: &Program, v: ValueId) -> bool {
    match program.instruction(v) {
        Instruction::AddPlain { input, .. } => is_square(program, *input),
        Instruction::Square(_) => true,
        _ => false,
    }
}

/// True if b is a rotation of a or the other way round: then their scales are equal anyway.
fn same_origin(program: &Program, a: ValueId, b: ValueId) -> bool {
    let root = |v: ValueId| match program.instruction(v) {
        Instruction::Rotate { input, .. } | Instruction::Conjugate { input, .. } => *input,
        _ => v,
    };
    root(a) == root(b)
}
