//! What training starts from: the weights of another network, and what of them stays as it is.

use std::path::Path;

use burn::module::{Flag, ModuleMapper, Param};
use classifier::Classifier;

use crate::{
    Result,
    checkpoint::{Checkpoint, Kind, refusal},
    stage::OTHER_ARCHITECTURE,
    state::{apply, collect},
};

/// A fresh network with the weights of a trained one, whose activations may differ: coefficients that the other one does
/// not have keep their start, close to ReLU.
pub(super) fn start_from(fresh: Classifier, path: &Path) -> Result<Classifier> {
    let donor = Checkpoint::load(path, Kind::Classifier)?;
    let mut state = collect(&fresh);
    for (name, weights) in &mut state {
        match donor.tensors.get(name) {
            Some(found) if found.0 == weights.0 => weights.clone_from(found),
            // Logits of attributes, which the donor does not have, start afresh.
            Some(found) if name.starts_with("head.") && adds_rows(&found.0, &weights.0) => {
                weights.1[..found.1.len()].copy_from_slice(&found.1);
            }
            Some(found) => {
                let problem = format!("tensor {name:?}: expected shape {:?}, found {:?}", weights.0, found.0);
                return Err(refusal(path, problem, OTHER_ARCHITECTURE));
            }
            None if name.ends_with("coefficients") => {}
            None => return Err(refusal(path, format!("it has no tensor {name:?}"), OTHER_ARCHITECTURE)),
        }
    }
    apply(fresh, &state).map_err(|p| refusal(path, p, OTHER_ARCHITECTURE))
}

/// Whether a tensor of shape `to` is one of shape `from` with rows added.
fn adds_rows(from: &[usize], to: &[usize]) -> bool {
    from.len() == to.len() && from[1..] == to[1..] && from[0] < to[0]
}

/// Makes batch norms use their running statistics, which then stay as they are; scale and offset are trained all the same.
/// The flags of batch norms are the only ones that a classifier has.
pub(super) struct FixedStatistics;

impl ModuleMapper for FixedStatistics {
    fn map_flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
        flag.with_value(false)
    }
}
