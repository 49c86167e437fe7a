//! Weights that were trained elsewhere: VQGANs in the layout of taming-transformers (`vqgan.rs`), and classifiers
//! ([`classifier`]).
//!
//! Esser et al. publish checkpoints of PyTorch Lightning (`.ckpt`: the weights under `state_dict`, with the
//! discriminator and the perceptual network beside them); plain `state_dict` files (`.pt`) and safetensors are read
//! too. Of a pickle only the tensors matter, whatever other objects stand around them (`pickle.rs`).
//!
//! The other direction needs no code: a checkpoint of this workspace is a safetensors file with PyTorch's names and
//! layouts.

mod archive;
pub mod classifier;
pub(crate) mod error;
mod mapping;
mod names;
mod pickle;
mod vqgan;

pub use classifier::{import_classifier, read_classifier};
pub use error::ImportError;
pub use mapping::Mapping;
pub use vqgan::{import_vqgan, read_vqgan};

use std::path::Path;

use burn::tensor::{DType, TensorData};
use safetensors::{Dtype, SafeTensors};

use crate::{Result, TrainError, checkpoint::refusal, state::State};
use archive::Archive;

const ADVICE: &str = "give a VQGAN in the layout of taming-transformers, as .ckpt, .pt or .safetensors";
/// The most bytes of a file that are read: published checkpoints have about 1 GB.
const MAX_FILE_BYTES: u64 = 16 << 30;
/// Under one of these a training checkpoint keeps the weights, beside the state of its optimizer.
const KEYS: [&str; 3] = ["state_dict", "model_state_dict", "model"];
/// The tensors of a PyTorch file, by name. `.safetensors` is read as that, anything else as a PyTorch archive.
///
/// # Errors
///
/// The file is missing, damaged, or holds no tensors.
pub fn read_pytorch(path: &Path) -> Result<State> {
    read_tensors(path, MAX_FILE_BYTES, ADVICE)
}

/// As [`read_pytorch`], of at most `limit` bytes; `advice` ends every refusal.
pub(crate) fn read_tensors(path: &Path, limit: u64, advice: &str) -> Result<State> {
    let length = match std::fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(TrainError::Missing { file: path.into(), advice: advice.into() });
        }
        Err(error) => return Err(TrainError::io(path, "look at the file")(error)),
    };
    if length > limit {
        let problem = format!("it has {length} bytes, above the limit of {limit}");
        return Err(refusal(path, problem, advice));
    }
    let state = if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("safetensors")) {
        read_safetensors(path, advice)?
    } else {
        read_archive(path)
            .map_err(|problem| refusal(path, format!("it cannot be read ({problem})"), advice))?
    };
    if state.is_empty() {
        return Err(refusal(path, "it holds no tensors of f32, f16, bf16 or f64".into(), advice));
    }
    Ok(state)
}

/// The weights of a training checkpoint, or all tensors where they stand alone.
fn read_archive(path: &Path) -> std::result::Result<State, String> {
    let mut archive = Archive::open(path)?;
    for key in KEYS {
        let state = archive.tensors(Some(key))?;
        if !state.is_empty() {
            return Ok(state);
        }
    }
    archive.tensors(None)
}

fn read_safetensors(path: &Path, advice: &str) -> Result<State> {
    let bytes = std::fs::read(path).map_err(TrainError::io(path, "read the file"))?;
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|e| refusal(path, format!("it is damaged or cut short ({e})"), advice))?;
    let mut state = State::new();
    for (name, view) in file.iter() {
        let kind = match view.dtype() {
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            Dtype::F64 => DType::F64,
            // Counters, such as a batch norm's num_batches_tracked.
            _ => continue,
        };
        let data = TensorData::from_bytes_vec(view.data().to_vec(), view.shape().to_vec(), kind);
        state.insert(name.to_owned(), (view.shape().to_vec(), data.iter::<f32>().collect()));
    }
    Ok(state)
}
