//! Levels and scales of a program, as a function of the primes.
//!
//! Levels are assigned backwards: every value is computed at the lowest level that its readers allow, so a shortcut with
//! levels to spare runs on few limbs. Scales are assigned twice: backwards, what each reader *wants* (a sum wants
//! equal scales, a square before a sum wants the square root of that times its prime), and forwards, what is: linear
//! maps choose the scale of their plaintexts so that the wish comes true exactly, with the real primes.

use crate::error::ModelError;
use crate::parameters::PRIME_BITS;
use crate::program::{Instruction, PlainScale, Program, ValueId};

/// The output has a larger scale than values between layers: the factors of a mean are small, and their plaintexts are rounded to
/// multiples of one over this scale. With two primes at the output and 2^30 between layers, results below 2^20 fit.
const OUTPUT_GAIN: f64 = 256.0;

/// What a value whose rescaling waits behind a mask has more: the size of a prime, the same at every level, so that sums agree.
const DEFERRED: f64 = (1u64 << PRIME_BITS) as f64;

/// What wide values have more: half a prime, so that the convolutions before and behind them share it.
const WIDE: f64 = (1u64 << (PRIME_BITS / 2)) as f64;

/// A square whose rescaling waits has this much less scale than other values between layers. Nothing is rounded at that scale, so it only
/// says how the bits of a block are shared: what it loses goes to the weights of the convolution that reads it, and half of it
/// is taken from the one before.
const DEFERRED_SQUARE_LOSS: f64 = 4.0;

/// A square that a linear map reads has this much less scale than other values between layers: what is missing goes to the
/// weights of that map, whose rounding is most of the error.
const SQUARE_LOSS: f64 = 2.0;

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

/// Level and scale of one instruction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Level at which it is carried out: that of its operands.
    pub level: usize,
    /// Scale of the result.
    pub scale: f64,
    /// Scale at which its plaintexts are encoded, if it has any.
    pub plain_scale: f64,
}

/// Levels and scales of a whole program.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// One step an instruction.
    pub steps: Vec<Step>,
    /// Level at which the input is encrypted.
    pub input_level: usize,
    /// Scale at which the input is encrypted.
    pub input_scale: f64,
    /// Level of the output.
    pub output_level: usize,
}

impl Schedule {
    /// Level of the result of instruction `v`.
    #[must_use]
    pub fn result_level(&self, program: &Program, v: ValueId) -> usize {
        let level = self.steps[v.index()].level;
        if matches!(program.instructions[v.index()], Instruction::Rescale(_)) { level - 1 } else { level }
    }

    /// Linear maps that follow each other and read the same inputs at one level are carried out together: each input is decomposed
    /// and rotated once. For each instruction the end of its group where it is the first of one, and its own number
    /// otherwise: instructions `v..ends[v]` form a group.
    #[must_use]
    pub fn groups(&self, program: &Program) -> Vec<usize> {
        let undivided = program.undivided();
        let mut ends: Vec<usize> = (0..program.instructions.len()).collect();
        let mut v = 0;
        while v < ends.len() {
            let Instruction::Linear { inputs, .. } = &program.instructions[v] else {
                v += 1;
                continue;
            };
            let joins = |w: &usize| {
                let same = matches!(&program.instructions[*w], Instruction::Linear { inputs: other, .. } if other == inputs);
                // Those that wait for their division and those that do not are not mixed.
                same && self.steps[v].level == self.steps[*w].level && undivided[v] == undivided[*w]
            };
            let end = (v + 1..program.instructions.len()).take_while(joins).last().map_or(v + 1, |w| w + 1);
            ends[v] = end;
            v = end;
        }
        ends
    }
}

/// Rescalings between input and output: the number of levels a program needs above its base.
#[must_use]
pub fn depth(program: &Program) -> usize {
    levels(program, 0).iter().copied().max().unwrap_or(0)
}

/// Result levels, backwards from the outputs.
fn levels(program: &Program, base: usize) -> Vec<usize> {
    let mut level = vec![base; program.instructions.len()];
    for (v, instruction) in program.instructions.iter().enumerate().rev() {
        let at = level[v] + usize::from(matches!(instruction, Instruction::Rescale(_)));
        for o in instruction.operands() {
            level[o.index()] = level[o.index()].max(at);
        }
    }
    // All ciphertexts of the input are encrypted at one level.
    let inputs =
        || program.instructions.iter().enumerate().filter(|(_, i)| matches!(i, Instruction::Input(_)));
    let top = inputs().map(|(v, _)| level[v]).max().unwrap_or(base);
    let inputs: Vec<usize> = inputs().map(|(v, _)| v).collect();
    inputs.into_iter().for_each(|v| level[v] = top);
    level
}

/// Assigns levels and scales.
///
/// # Errors
/// Too few primes, a plaintext left with less than 2^4 of scale, or sums whose scales cannot be made equal.
pub fn schedule(program: &Program, chain: &Chain) -> Result<Schedule, ModelError> {
    let levels = levels(program, chain.base_level);
    let top = levels.iter().copied().max().unwrap_or(0);
    if top >= chain.primes.len() {
        return Err(ModelError::TooDeep { needed: top + 1, available: chain.primes.len() });
    }
    let wishes = wishes(program, chain, &levels);
    let mut steps: Vec<Step> = Vec::with_capacity(program.instructions.len());
    for (v, instruction) in program.instructions.iter().enumerate() {
        let scale = |o: &ValueId| steps[o.index()].scale;
        let wish = wishes[v].unwrap_or(chain.scale);
        let mut plain_scale = 1.0;
        let level = levels[v] + usize::from(matches!(instruction, Instruction::Rescale(_)));
        let result = match instruction {
            Instruction::Input(_) => wish,
            Instruction::Linear { inputs, scale: plain, .. } => {
                let s = inputs.first().map_or(chain.scale, &scale);
                plain_scale = fill(*plain, wish / s);
                s * plain_scale
            }
            Instruction::MulPlain { input, scale: plain, .. } => {
                plain_scale = fill(*plain, wish / scale(input));
                scale(input) * plain_scale
            }
            Instruction::MulScalar { input, .. } => {
                plain_scale = wish / scale(input);
                wish
            }
            Instruction::AddPlain { input, .. } => {
                plain_scale = scale(input);
                plain_scale
            }
            Instruction::Add(a, b) | Instruction::Sub(a, b) => {
                if (scale(a) / scale(b) - 1.0).abs() > 1e-9 {
                    let layer = program.layers[program.layer_of[v] as usize].clone();
                    return Err(ModelError::Scales { layer, left: scale(a), right: scale(b) });
                }
                scale(a)
            }
            Instruction::Rotate { input, .. }
            | Instruction::SumRotations { input, .. }
            | Instruction::Conjugate { input, .. } => scale(input),
            Instruction::Mul(a, b) => scale(a) * scale(b),
            Instruction::Square(a) => scale(a) * scale(a),
            Instruction::Rescale(a) => scale(a) / chain.primes[level],
        };
        if plain_scale < 16.0 && !matches!(instruction, Instruction::Add(..)) && has_plain(instruction) {
            let layer = program.layers[program.layer_of[v] as usize].clone();
            return Err(ModelError::PlainScale { layer, bits: plain_scale.log2() });
        }
        steps.push(Step { level, scale: result, plain_scale });
    }
    let input = program.instructions.iter().position(|i| matches!(i, Instruction::Input(_)));
    let input_scale = input.map_or(chain.scale, |v| steps[v].scale);
    let input_level = input.map_or(chain.base_level, |v| levels[v]);
    Ok(Schedule { input_level, input_scale, output_level: chain.base_level, steps })
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
fn wishes(program: &Program, chain: &Chain, levels: &[usize]) -> Vec<Option<f64>> {
    let mut wishes: Vec<Option<f64>> = vec![None; program.instructions.len()];
    for v in &program.outputs {
        wishes[v.index()] = Some(chain.scale * OUTPUT_GAIN);
    }
    let mut waiting = vec![false; program.instructions.len()];
    for instruction in &program.instructions {
        if let Instruction::Linear { inputs, scale: PlainScale::Waiting { .. }, .. } = instruction {
            inputs.iter().for_each(|i| waiting[i.index()] = true);
        }
    }
    for (v, instruction) in program.instructions.iter().enumerate().rev() {
        // A value that nothing constrains is wanted at the scale between layers.
        let mine = |w: &[Option<f64>]| w[v].unwrap_or(chain.scale);
        match instruction {
            // The mask behind which a rescaling waits.
            Instruction::Linear { inputs, scale: PlainScale::Waiting { wide, .. }, .. } => {
                for input in inputs {
                    let more = match wide {
                        true => WIDE,
                        false if is_square(program, *input) => 1.0 / DEFERRED_SQUARE_LOSS,
                        false => 1.0,
                    };
                    wishes[input.index()].get_or_insert(chain.scale * DEFERRED * more);
                }
            }
            Instruction::Linear { inputs, scale: PlainScale::Bits(bits), .. } => {
                if let Some(s) = wishes[v] {
                    let s = s / f64::from(*bits).exp2();
                    inputs.iter().for_each(|i| _ = wishes[i.index()].get_or_insert(s));
                }
            }
            Instruction::Input(_) | Instruction::Linear { .. } | Instruction::MulScalar { .. } => {}
            Instruction::MulPlain { input, scale, .. } => {
                // With a factor of fixed scale the input has to bring the rest.
                if let (PlainScale::Bits(bits), Some(s)) = (scale, wishes[v]) {
                    wishes[input.index()].get_or_insert(s / f64::from(*bits).exp2());
                }
            }
            Instruction::AddPlain { input, .. }
            | Instruction::Rotate { input, .. }
            | Instruction::SumRotations { input, .. }
            | Instruction::Conjugate { input, .. } => {
                if let Some(s) = wishes[v] {
                    wishes[input.index()].get_or_insert(s);
                }
            }
            Instruction::Add(a, b) | Instruction::Sub(a, b) => {
                if let Some(s) = wishes[v] {
                    wishes[a.index()].get_or_insert(s);
                    wishes[b.index()].get_or_insert(s);
                } else if a != b && !same_origin(program, *a, *b) {
                    wishes[a.index()].get_or_insert(chain.scale);
                    wishes[b.index()].get_or_insert(chain.scale);
                }
            }
            Instruction::Mul(a, b) => {
                // Where one factor's scale is wanted already, the other one makes up for it.
                let s = mine(&wishes);
                let a_wish = match wishes[b.index()] {
                    Some(b_wish) => s / b_wish,
                    None => chain.scale,
                };
                let a_wish = *wishes[a.index()].get_or_insert(a_wish);
                wishes[b.index()].get_or_insert(s / a_wish);
            }
            Instruction::Square(a) => {
                let s = mine(&wishes).sqrt();
                wishes[a.index()].get_or_insert(s);
            }
            Instruction::Rescale(a) => {
                // A mask that reads the value too says at which scale it waits.
                if wishes[v].is_none() && waiting[a.index()] {
                    continue;
                }
                let mut s = mine(&wishes) * chain.primes[levels[v] + 1];
                // What only a linear map reads.
                if wishes[v].is_none() && matches!(program.instructions[a.index()], Instruction::Square(_)) {
                    s /= SQUARE_LOSS;
                }
                wishes[a.index()].get_or_insert(s);
            }
        }
    }
    wishes
}

/// True for a square, with or without a constant added.
fn is_square(program: &Program, v: ValueId) -> bool {
    match &program.instructions[v.index()] {
        Instruction::AddPlain { input, .. } => is_square(program, *input),
        Instruction::Square(_) => true,
        _ => false,
    }
}

/// True if b is a rotation of a or the other way round: then their scales are equal anyway.
fn same_origin(program: &Program, a: ValueId, b: ValueId) -> bool {
    let root = |v: ValueId| match &program.instructions[v.index()] {
        Instruction::Rotate { input, .. } | Instruction::Conjugate { input, .. } => *input,
        _ => v,
    };
    root(a) == root(b)
}
