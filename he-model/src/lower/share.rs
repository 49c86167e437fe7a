//! Linear maps of the same values, brought together.
//!
//! Maps that read the same values at one level and follow each other are carried out as one: each value is decomposed and rotated once (see
//! [`crate::executable::Operation::Linear`]). A linear map needs nothing but its inputs, so it can move up to behind the first map that
//! reads them: a convolution and the mean of its result that starts at the same copies meet there.

use std::collections::{HashMap, HashSet};

use crate::program::{Instruction, ProgramLiteral, ValueId};

/// The program with every linear map moved behind the first one of the same inputs, to whose layer it then belongs: layers stay in
/// order, and the time of the first one is that of both.
pub(super) fn together(program: ProgramLiteral) -> ProgramLiteral {
    let mut readers: HashMap<&[ValueId], Vec<usize>> = HashMap::new();
    for (v, instruction) in program.instructions.iter().enumerate() {
        if let Instruction::Linear { inputs, .. } = instruction {
            readers.entry(inputs).or_default().push(v);
        }
    }
    let mut order: Vec<usize> = Vec::with_capacity(program.instructions.len());
    let mut layer_of: Vec<u32> = Vec::with_capacity(program.instructions.len());
    let mut moved: HashSet<usize> = HashSet::new();
    for (v, instruction) in program.instructions.iter().enumerate() {
        if moved.contains(&v) {
            continue;
        }
        order.push(v);
        if let Instruction::Linear { inputs, .. } = instruction {
            let others = readers[inputs.as_slice()].iter().copied().filter(|w| *w > v);
            order.extend(others.filter(|w| moved.insert(*w)));
        }
        layer_of.resize(order.len(), program.layer_of[v]);
    }
    let mut names = vec![ValueId(0); order.len()];
    for (new, old) in (0..).zip(&order) {
        names[*old] = ValueId(new);
    }
    let instructions = order.iter().map(|v| {
        let mut instruction = program.instructions[*v].clone();
        instruction.operands_mut().into_iter().for_each(|o| *o = names[o.index()]);
        instruction
    });
    let instructions = instructions.collect();
    let outputs = program.outputs.iter().map(|o| names[o.index()]).collect();
    let mut results = program.results;
    results.iter_mut().flat_map(|r| &mut r.values).for_each(|v| *v = names[v.index()]);
    ProgramLiteral { instructions, layer_of, outputs, results, ..program }
}
