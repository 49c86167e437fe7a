//! Who reads the values of a program: what decides which instructions become one operation.

use crate::program::{Instruction, Program, ValueId};
use crate::schedule::Schedule;

/// Who reads a value, and in which form.
pub(super) struct Readers {
    /// The only reader, where there is one and the value is neither an output nor shown.
    pub only: Vec<Option<usize>>,
    /// Whether those that move a value, or add to it what is moved, read it modulo Q P.
    pub extended: Vec<bool>,
    /// The only reader is a rescaling at the value's own level.
    pub rescaled: Vec<bool>,
}

impl Readers {
    pub fn new(program: &Program, schedule: &Schedule) -> Self {
        let count = program.instructions().len();
        let mut readers: Vec<Vec<usize>> = vec![vec![]; count];
        let mut moved = vec![false; count];
        // What is read at a lower level has to be a ciphertext there.
        let in_place =
            |o: ValueId, at: usize| schedule.steps[o.index()].result_level == schedule.steps[at].level;
        for (v, instruction) in program.instructions().iter().enumerate() {
            instruction.operands().iter().for_each(|o| readers[o.index()].push(v));
            if let Instruction::Rotate { input, .. }
            | Instruction::SumRotations { input, .. }
            | Instruction::Conjugate { input, .. } = instruction
            {
                moved[input.index()] |= in_place(*input, v);
            }
        }
        let mut extended = vec![false; count];
        for (v, instruction) in program.instructions().iter().enumerate() {
            let is = |o: &ValueId| extended[o.index()] && in_place(*o, v);
            extended[v] = match instruction {
                Instruction::Linear { .. } => moved[v],
                Instruction::SumRotations { input, .. } => moved[v] || is(input),
                Instruction::Rotate { input, .. } | Instruction::Conjugate { input, .. } => is(input),
                Instruction::Add(a, b) => is(a) && is(b),
                _ => false,
            };
        }
        let is_output = |v: usize| program.outputs().contains(&ValueId(v as u32));
        let only = (0..count).map(|v| match readers[v].as_slice() {
            [reader] if !is_output(v) => Some(*reader),
            _ => None,
        });
        let only: Vec<Option<usize>> = only.collect();
        let is_rescaled = |v: usize| {
            only[v].is_some_and(|reader| {
                let at = ValueId(v as u32);
                matches!(program.instructions()[reader], Instruction::Rescale(_)) && in_place(at, reader)
            })
        };
        let rescaled = (0..count).map(is_rescaled).collect();
        Self { only, extended, rescaled }
    }
}
