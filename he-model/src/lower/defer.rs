//! Rescalings that wait until the mask behind them is applied.
//!
//! A rescaling rounds to multiples of one over the scale that is left (15 500 / scale a slot at N = 2^16), so it is the more precise the
//! larger that scale is. A mask adds 2^bits to the scale: where values between layers are masked next, they
//! stay as they are, sums and constants included, and the masked value is rescaled instead, to 2^bits times the scale. The number of
//! rescalings on every path stays the same; only the mask works with one limb more. The scale between layers can
//! then be as low as the squares allow, and the bits go to weights and masks (see [`crate::schedule`]).
//!
//! The values of a residual stage can be *wide* too: they have half a prime more of scale, and after the mask they are rescaled twice. The
//! extra prime is shared by the convolution that makes such a value and the one that reads it; what it adds to their weights
//! and masks makes their rounding vanish. A level more for every block of the stage, but only for what lies before
//! it: the first stages, through which all errors pass, cost least.

use std::collections::HashSet;

use crate::program::{Instruction, PlainScale, ProgramLiteral, ValueId};

/// Bits that masks at wide values have more; the weights have as many more.
const WIDE_MASK_BITS: u32 = 7;

/// Defers what can be deferred, and makes the values of the first `stages` residual stages wide.
pub(super) fn defer_rescalings(program: ProgramLiteral, stages: usize) -> ProgramLiteral {
    let families = Families::new(&program);
    if !families.deferred.contains(&true) {
        return program;
    }
    let wide = families.wide(&program, stages);
    let leads = leads_to(&program, &wide);
    let deferred = families.deferred;
    let ProgramLiteral { instructions, layer_of, .. } = program;
    let mut rewriter = Rewriter {
        instructions: Vec::with_capacity(instructions.len()),
        layer_of: Vec::with_capacity(instructions.len()),
        values: vec![Names::default(); instructions.len()],
        layer: 0,
    };
    for (v, instruction) in instructions.iter().enumerate() {
        rewriter.layer = layer_of[v];
        let mut instruction = instruction.clone();
        let reads_wide = instruction.operands().iter().any(|o| wide[o.index()]);
        if let Instruction::Linear { scale: PlainScale::Bits(bits), .. } = &mut instruction
            && (reads_wide || leads[v])
        {
            *bits += WIDE_MASK_BITS;
        }
        let rescalings = if reads_wide { 2 } else { 1 };
        rewriter.values[v] = rewriter.rewrite(&instruction, deferred[v], &deferred, rescalings);
    }
    let outputs = program.outputs.iter().map(|o| rewriter.rescaled(*o)).collect();
    let mut results = program.results;
    for value in results.iter_mut().flat_map(|r| &mut r.values) {
        let names = rewriter.values[value.index()];
        *value = names.pending.or(names.rescaled).expect("every value has a name");
    }
    let Rewriter { instructions, layer_of, .. } = rewriter;
    ProgramLiteral { instructions, layer_of, outputs, results, ..program }
}

/// A value's new numbers.
#[derive(Debug, Clone, Copy, Default)]
struct Names {
    /// Before the rescaling that it waits for.
    pending: Option<ValueId>,
    /// As readers other than sums, constants and masks want it.
    rescaled: Option<ValueId>,
}

struct Rewriter {
    instructions: Vec<Instruction>,
    layer_of: Vec<u32>,
    values: Vec<Names>,
    layer: u32,
}

impl Rewriter {
    fn push(&mut self, instruction: Instruction) -> ValueId {
        self.instructions.push(instruction);
        self.layer_of.push(self.layer);
        ValueId(self.instructions.len() as u32 - 1)
    }

    fn pending(&self, v: ValueId) -> ValueId {
        self.values[v.index()].pending.expect("operands of deferred values are deferred")
    }

    /// The value for a reader that cannot wait: rescaled once, however many such readers there are.
    fn rescaled(&mut self, v: ValueId) -> ValueId {
        let names = self.values[v.index()];
        if let Some(rescaled) = names.rescaled {
            return rescaled;
        }
        let rescaled = self.push(Instruction::Rescale(self.pending(v)));
        self.values[v.index()].rescaled = Some(rescaled);
        rescaled
    }

    fn rewrite(
        &mut self,
        instruction: &Instruction,
        waits: bool,
        deferred: &[bool],
        rescalings: usize,
    ) -> Names {
        if waits {
            let pending = match instruction {
                Instruction::Rescale(a) => self.rescaled(*a),
                other => {
                    let renamed = renamed(other, |v| self.pending(v));
                    self.push(renamed)
                }
            };
            return Names { pending: Some(pending), rescaled: None };
        }
        let rescaled = match instruction {
            Instruction::Linear { inputs, scale: PlainScale::Bits(_), .. }
                if inputs.iter().all(|i| deferred[i.index()]) =>
            {
                let mut mask = renamed(instruction, |v| self.pending(v));
                if let Instruction::Linear { scale, .. } = &mut mask
                    && let PlainScale::Bits(bits) = *scale
                {
                    *scale = PlainScale::Waiting { bits, wide: rescalings > 1 };
                }
                let masked = self.push(mask);
                (0..rescalings).fold(masked, |value, _| self.push(Instruction::Rescale(value)))
            }
            other => {
                let renamed = renamed(other, |v| self.rescaled(v));
                self.push(renamed)
            }
        };
        Names { pending: None, rescaled: Some(rescaled) }
    }
}

/// The instruction with other operands.
fn renamed(instruction: &Instruction, mut name: impl FnMut(ValueId) -> ValueId) -> Instruction {
    let mut renamed = instruction.clone();
    renamed.operands_mut().into_iter().for_each(|o| *o = name(*o));
    renamed
}

/// Rescaled values, their sums and their sums with constants: the scales of a family have to agree.
struct Families {
    /// For each value, the first value of its family.
    of: Vec<usize>,
    /// Whether a value waits: its family consists of nothing else, and a mask reads one of them.
    deferred: Vec<bool>,
}

impl Families {
    fn new(program: &ProgramLiteral) -> Self {
        let mut of: Vec<usize> = (0..program.instructions.len()).collect();
        for (v, instruction) in program.instructions.iter().enumerate() {
            if is_sum(instruction) {
                instruction.operands().into_iter().for_each(|o| join(&mut of, v, o.index()));
            }
        }
        let of: Vec<usize> = (0..of.len()).map(|v| find(&mut of, v)).collect();
        let (mut masked, mut refused) = (vec![false; of.len()], vec![false; of.len()]);
        for (v, instruction) in program.instructions.iter().enumerate() {
            if !is_sum(instruction) && !matches!(instruction, Instruction::Rescale(_)) {
                refused[of[v]] = true;
            }
            if is_mask(instruction) {
                instruction.operands().iter().for_each(|i| masked[of[i.index()]] = true);
            }
        }
        let deferred = of.iter().map(|f| masked[*f] && !refused[*f]).collect();
        Self { of, deferred }
    }

    /// The values of the first `stages` families that wait, with a sum of two of them (a residual stage), made without gates. Linear maps
    /// that are no masks may read values that a mask reads too.
    fn wide(&self, program: &ProgramLiteral, stages: usize) -> Vec<bool> {
        let (mut summed, mut refused) = (vec![false; self.of.len()], vec![false; self.of.len()]);
        let masks = program.instructions.iter().filter(|i| is_mask(i));
        let masked: HashSet<ValueId> = masks.flat_map(Instruction::operands).collect();
        for (v, instruction) in program.instructions.iter().enumerate() {
            match instruction {
                Instruction::Add(..) | Instruction::Sub(..) => summed[self.of[v]] = true,
                Instruction::Rescale(a) => {
                    let is_gated = matches!(program.instructions[a.index()], Instruction::Mul(..));
                    refused[self.of[v]] |= is_gated;
                }
                _ => {}
            }
            if !is_sum(instruction) && !is_mask(instruction) {
                let is_linear = matches!(instruction, Instruction::Linear { .. });
                let fits = |o: &ValueId| is_linear && masked.contains(o);
                let unfit = instruction.operands().into_iter().filter(|o| !fits(o));
                unfit.for_each(|o| refused[self.of[o.index()]] = true);
            }
        }
        program.outputs.iter().for_each(|o| refused[self.of[o.index()]] = true);
        let first = |f: &usize| self.of[*f] == *f && self.deferred[*f] && summed[*f] && !refused[*f];
        let chosen: Vec<usize> = (0..self.of.len()).filter(first).take(stages).collect();
        self.of.iter().map(|f| chosen.contains(f)).collect()
    }
}

fn is_sum(instruction: &Instruction) -> bool {
    matches!(instruction, Instruction::Add(..) | Instruction::Sub(..) | Instruction::AddPlain { .. })
}

fn is_mask(instruction: &Instruction) -> bool {
    matches!(instruction, Instruction::Linear { scale: PlainScale::Bits(_), .. })
}

/// For each mask, whether what the linear map behind it makes of the masked value, or its square, is a wide value: then there
/// are bits for a more precise mask.
fn leads_to(program: &ProgramLiteral, wide: &[bool]) -> Vec<bool> {
    // Backwards from those values to the linear maps that they were made by, and to the masks that those read.
    let mut leads = wide.to_vec();
    let mut masks = vec![false; wide.len()];
    for (v, instruction) in program.instructions.iter().enumerate().rev().filter(|(_, i)| !is_mask(i)) {
        if !leads[v] {
            continue;
        }
        let operands = instruction.operands().into_iter();
        match instruction {
            Instruction::Linear { .. } => operands.for_each(|o| masks[o.index()] = true),
            Instruction::Add(..) if wide[v] => {}
            _ => operands.for_each(|o| leads[o.index()] = true),
        }
    }
    (0..wide.len()).map(|v| masks[v] && is_mask(&program.instructions[v])).collect()
}

fn find(family: &mut [usize], v: usize) -> usize {
    let mut root = v;
    while family[root] != root {
        family[root] = family[family[root]];
        root = family[root];
    }
    root
}

fn join(family: &mut [usize], a: usize, b: usize) {
    let (a, b) = (find(family, a), find(family, b));
    family[a.max(b)] = a.min(b);
}
