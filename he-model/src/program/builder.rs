//! Writes a program down, instruction by instruction.

use std::collections::HashMap;

use num_complex::Complex64;

use super::{Instruction, LayerResult, PlainId, Plaintext, ProgramLiteral, ValueId};
use crate::layout::Layout;

/// Collects instructions; equal plaintexts are stored once.
#[derive(Debug)]
pub(crate) struct Builder {
    slots: usize,
    instructions: Vec<Instruction>,
    layer_of: Vec<u32>,
    layers: Vec<String>,
    plaintexts: Vec<Plaintext>,
    known: HashMap<[u8; 32], PlainId>,
    results: Vec<LayerResult>,
}

impl Builder {
    pub(crate) fn new(slots: usize) -> Self {
        let layers = vec!["input".to_owned()];
        let (instructions, layer_of, plaintexts) = (vec![], vec![], vec![]);
        Self { slots, instructions, layer_of, layers, plaintexts, known: HashMap::new(), results: vec![] }
    }

    /// Everything pushed from now on belongs to this layer.
    pub(crate) fn layer(&mut self, name: &str) {
        self.layers.push(name.to_owned());
    }

    pub(crate) fn push(&mut self, instruction: Instruction) -> ValueId {
        self.instructions.push(instruction);
        self.layer_of.push(self.layers.len() as u32 - 1);
        ValueId(self.instructions.len() as u32 - 1)
    }

    /// Notes where the result of the current layer lies.
    pub(crate) fn result(&mut self, values: &[ValueId], layout: Layout, factor: &[f64]) {
        let layer = self.layers.len() as u32 - 1;
        self.results.push(LayerResult { layer, values: values.to_vec(), layout, factor: factor.to_vec() });
    }

    /// Stores a plaintext at its shortest period, once.
    pub(crate) fn plain(&mut self, mut values: Vec<Complex64>) -> PlainId {
        while values.len() > 1 {
            let (first, second) = values.split_at(values.len() / 2);
            if first != second {
                break;
            }
            values.truncate(values.len() / 2);
        }
        let hash = hash(&values);
        let next = PlainId(self.plaintexts.len() as u32);
        let id = *self.known.entry(hash).or_insert(next);
        if id == next {
            self.plaintexts.push(Plaintext { values });
        }
        id
    }

    pub(crate) fn rotate(&mut self, input: ValueId, by: i64) -> ValueId {
        let by = by.rem_euclid(self.slots as i64) as u32;
        if by == 0 { input } else { self.push(Instruction::Rotate { input, by }) }
    }

    /// The program so far, not checked yet.
    pub(crate) fn finish(self, input: Layout, output: Layout, outputs: Vec<ValueId>) -> ProgramLiteral {
        let Self { slots, instructions, layer_of, layers, plaintexts, results, .. } = self;
        let plaintexts = plaintexts.into();
        ProgramLiteral { slots, instructions, layer_of, layers, plaintexts, input, output, outputs, results }
    }
}

/// Digest of the values, through a small buffer.
fn hash(values: &[Complex64]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = [0u8; 4096];
    for chunk in values.chunks(buffer.len() / 16) {
        for (bytes, v) in buffer.chunks_exact_mut(16).zip(chunk) {
            let (re, im) = bytes.split_at_mut(8);
            re.copy_from_slice(&v.re.to_le_bytes());
            im.copy_from_slice(&v.im.to_le_bytes());
        }
        hasher.update(&buffer[..16 * chunk.len()]);
    }
    *hasher.finalize().as_bytes()
}
