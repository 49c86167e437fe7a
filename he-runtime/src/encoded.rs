//! The plaintexts of a circuit, encoded once, at the levels and scales of their uses and in the
//! form that [`he_model::preparation`] says.

use std::collections::HashMap;
use std::sync::Arc;

use ckks::{
    Diagonal, Encoder, LinearMatrix, LinearTerm, LinearTransform, MatrixTerm, PeriodicPlaintext, Plaintext,
};
use he_model::ValueId;
use he_model::executable::{Map, Operation, Plain};
use he_model::preparation::{Preparation, Preparations};
use he_model::program::{GiantSteps, PlainId};

use crate::RuntimeError;
use crate::circuit::Circuit;

/// The plaintexts of one step.
#[derive(Debug, Clone)]
pub(crate) enum Operands {
    /// A linear map of one ciphertext.
    Transform(LinearTransform),
    /// Linear maps of several ciphertexts, or several maps of the same ones.
    Matrix(LinearMatrix),
    /// One in full length.
    Dense(Arc<Plaintext>),
    /// One of a short period.
    Periodic(Arc<PeriodicPlaintext>),
}

/// All plaintexts, by the first value of the step that reads them.
#[derive(Debug)]
pub(crate) struct Encoded {
    operands: HashMap<ValueId, Operands>,
    bytes: usize,
}

impl Encoded {
    pub(crate) fn new(circuit: &Circuit) -> Result<Self, RuntimeError> {
        let encoder = Encoder::new(&circuit.parameters);
        let mut maker = Maker { circuit, encoder, shared: HashMap::new(), single: HashMap::new(), bytes: 0 };
        let mut operands = HashMap::new();
        let preparations = Preparations::new(&circuit.executable, &circuit.ring).into_steps();
        for (step, preparations) in circuit.executable.steps().iter().zip(preparations) {
            let made = match step.operation() {
                Operation::Linear { maps, giants, .. } => maker.linear(maps, giants, preparations)?,
                Operation::MulPlain { plain, .. } | Operation::AddPlain { plain, .. } => {
                    preparations.into_iter().map(|p| maker.single(*plain, p)).next().transpose()?
                }
                _ => None,
            };
            if let (Some(first), Some(made)) = (step.results().next(), made) {
                operands.insert(first, made);
            }
        }
        Ok(Self { operands, bytes: maker.bytes })
    }

    /// Those of the step whose first value this is.
    pub(crate) fn of(&self, first: ValueId) -> Option<&Operands> {
        self.operands.get(&first)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// A plaintext and the bits of its scale.
type Key = (PlainId, u64);

struct Maker<'a> {
    circuit: &'a Circuit,
    encoder: Encoder,
    /// Plaintexts in full length that linear maps share.
    shared: HashMap<Key, Arc<Plaintext>>,
    /// Plaintexts outside of linear maps.
    single: HashMap<Key, Operands>,
    bytes: usize,
}

impl Maker<'_> {
    fn linear(
        &mut self,
        maps: &[Map],
        giants: &GiantSteps,
        preparations: Vec<Preparation>,
    ) -> Result<Option<Operands>, RuntimeError> {
        let mut terms = vec![];
        let mut preparations = preparations.into_iter();
        for (output, map) in maps.iter().enumerate() {
            for (t, preparation) in map.terms.iter().zip(&mut preparations) {
                let plaintext = self.diagonal(Plain { id: t.plain, scale: map.scale }, preparation)?;
                let (input, giant, baby) = (t.input as usize, t.giant.into(), t.baby.into());
                terms.push(MatrixTerm { output, input, giant, baby, plaintext });
            }
        }
        let chain = match giants {
            GiantSteps::Chain { step, .. } => Some(i64::from(*step)),
            GiantSteps::Fan(_) => None,
        };
        if maps.len() == 1 && terms.iter().all(|t| t.input == 0) {
            let terms = terms.into_iter().map(|MatrixTerm { giant, baby, plaintext, .. }| LinearTerm {
                giant,
                baby,
                plaintext,
            });
            let map = LinearTransform::new(terms.collect())?;
            return Ok(Some(Operands::Transform(match chain {
                Some(step) => map.chained(step)?,
                None => map,
            })));
        }
        let map = LinearMatrix::new(terms)?;
        Ok(Some(Operands::Matrix(match chain {
            Some(step) => map.chained(step)?,
            None => map,
        })))
    }

    fn diagonal(&mut self, plain: Plain, preparation: Preparation) -> Result<Diagonal, RuntimeError> {
        let executable = &self.circuit.executable;
        let values = executable.plaintext(plain.id);
        if let Preparation::Full { level, special } = preparation {
            let key = (plain.id, plain.scale.to_bits());
            if let Some(known) = self.shared.get(&key) {
                return Ok(known.clone().into());
            }
            let values = values.repeat(executable.slots() / values.len());
            let made: Arc<_> = self.encoder.encode_extended(&values, plain.scale, level, special)?.into();
            self.bytes += made.bytes();
            self.shared.insert(key, made.clone());
            return Ok(made.into());
        }
        let mut made = self.encoder.encode_periodic(values, plain.scale)?;
        if let Preparation::Transformed { level, special } = preparation {
            made.transform(&self.circuit.parameters, level, special)?;
        }
        self.bytes += made.bytes();
        Ok(made.into())
    }

    fn single(&mut self, plain: Plain, preparation: Preparation) -> Result<Operands, RuntimeError> {
        let key = (plain.id, plain.scale.to_bits());
        if let Some(known) = self.single.get(&key) {
            return Ok(known.clone());
        }
        let executable = &self.circuit.executable;
        let values = executable.plaintext(plain.id);
        let made = if let Preparation::Full { level, .. } = preparation {
            let made =
                self.encoder.encode(&values.repeat(executable.slots() / values.len()), plain.scale, level)?;
            self.bytes += made.bytes();
            Operands::Dense(made.into())
        } else {
            let made = self.encoder.encode_periodic(values, plain.scale)?;
            self.bytes += made.bytes();
            Operands::Periodic(made.into())
        };
        self.single.insert(key, made.clone());
        Ok(made)
    }
}
