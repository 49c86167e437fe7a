//! Weights that were trained elsewhere: VQGANs in the layout of taming-transformers, and classifiers ([`classifier`]).
//!
//! Esser et al. publish checkpoints of PyTorch Lightning (`.ckpt`: the weights under `state_dict`, with the
//! discriminator and the perceptual network beside them); plain `state_dict` files (`.pt`) and safetensors are read
//! too. Names are those of this workspace already. What a film of one channel needs and a network of three has is
//! folded: `conv_in` summed over its inputs is exact for a grey film given three times, and `conv_out` averaged
//! over its outputs is the grey of what it would paint.
//!
//! The other direction needs no code: a checkpoint of this workspace is a safetensors file with PyTorch's names and
//! layouts.

pub mod classifier;
pub(crate) mod error;
mod mapping;
mod names;

pub use classifier::{import_classifier, read_classifier};
pub use error::ImportError;
pub use mapping::Mapping;

use std::path::Path;

use burn::tensor::{DType, TensorData};
use burn_store::{ModuleStore, PytorchStore, bridge};
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use vqgan::VqganConfig;

use crate::{
    Config, Result, Session, TrainError,
    checkpoint::{Checkpoint, Kind, refusal},
    state::{State, apply, collect, seeded},
};

const ADVICE: &str = "give a VQGAN in the layout of taming-transformers, as .ckpt, .pt or .safetensors";
/// The most bytes of a file that are read: published checkpoints have about 1 GB.
const MAX_FILE_BYTES: u64 = 16 << 30;
/// Under one of these a training checkpoint keeps the weights, beside the state of its optimizer.
const KEYS: [&str; 3] = ["state_dict", "model_state_dict", "model"];
/// A file of so many bytes may hold at most [`MOST_COPIES`] times as many bytes of tensors: several tensors can
/// show the same numbers, and a tensor with a stride of zero shows one number as many.
const MOST_COPIES: u64 = 4;
/// What any file may hold, so that small files with small shared tensors pass.
const ALWAYS_ALLOWED: u64 = 1 << 20;

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
        let nested = KEYS.iter().find_map(|key| read_archive(path, Some(key), length, advice).ok());
        match nested {
            Some(state) if !state.is_empty() => state,
            _ => read_archive(path, None, length, advice)?,
        }
    };
    if state.is_empty() {
        return Err(refusal(path, "it holds no tensors of f32, f16, bf16 or f64".into(), advice));
    }
    Ok(state)
}

fn read_archive(path: &Path, key: Option<&str>, length: u64, advice: &str) -> Result<State> {
    let mut store = PytorchStore::from_file(path).map_indices_contiguous(false);
    if let Some(key) = key {
        store = store.with_top_level_key(key);
    }
    // The reader's errors run over several lines, the first of which says what is wrong.
    let damaged = |error: &dyn std::fmt::Display| {
        let text = error.to_string();
        refusal(path, format!("it cannot be read ({})", text.lines().next().unwrap_or_default()), advice)
    };
    let tensors = store.get_all_tensors().map_err(|e| damaged(&e))?;
    let most = length.saturating_mul(MOST_COPIES).max(ALWAYS_ALLOWED);
    let mut total = 0u64;
    for tensor in tensors.values() {
        let values = tensor.shape.iter().try_fold(4u64, |product, &n| product.checked_mul(n as u64));
        total = total.saturating_add(values.unwrap_or(u64::MAX));
    }
    if total > most {
        let problem = format!("its tensors claim {total} bytes, but the file has {length}");
        return Err(refusal(path, problem, advice));
    }
    let mut state = State::new();
    for (name, tensor) in tensors.iter().filter(|(_, tensor)| tensor.dtype.is_float()) {
        let data = bridge::into_data(tensor.clone()).map_err(|e| damaged(&e))?;
        state.insert(name.clone(), (data.shape().to_vec(), data.iter::<f32>().collect()));
    }
    Ok(state)
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

/// Sums or averages a convolution of three colours to one of grey; any other tensor is left alone.
fn to_grey(state: &mut State) {
    if let Some((shape, values)) = state.get_mut("encoder.conv_in.weight")
        && let [out, 3, height, width] = shape[..]
    {
        let window = height * width;
        *values = values
            .chunks_exact(3 * window)
            .flat_map(|colours| (0..window).map(|i| (0..3).map(|c| colours[c * window + i]).sum()))
            .collect();
        *shape = vec![out, 1, height, width];
    }
    for name in ["decoder.conv_out.weight", "decoder.conv_out.bias"] {
        if let Some((shape, values)) = state.get_mut(name)
            && shape.first() == Some(&3)
        {
            let one = values.len() / 3;
            *values = (0..one).map(|i| (0..3).map(|c| values[c * one + i]).sum::<f32>() / 3.0).collect();
            shape[0] = 1;
        }
    }
}

/// The weights of a VQGAN of the given shape from a PyTorch file; what else the file holds is left out.
///
/// # Errors
///
/// As [`read_pytorch`], or a tensor is missing or has another shape than the configuration asks for.
pub fn read_vqgan(path: &Path, config: &VqganConfig) -> Result<vqgan::Vqgan> {
    let mut state = read_pytorch(path)?;
    to_grey(&mut state);
    let device = burn::tensor::Device::flex();
    // As `load_vqgan`: builders take turns.
    let net = seeded(&device, 0, || config.init(&device))?;
    apply(net, &state).map_err(|problem| {
        refusal(
            path,
            problem,
            "describe the network of the file in [vqgan.model]: width, multipliers, blocks, attention, codes",
        )
    })
}

/// Reads a PyTorch VQGAN and writes it as the VQGAN of a run, where the later stages look for it.
///
/// # Errors
///
/// As [`read_vqgan`], the configuration cannot be used, or the run has a VQGAN already.
pub fn import_vqgan(config: &Config, session: &Session<'_>, path: &Path) -> Result<String> {
    config.validate()?;
    let net = read_vqgan(path, &config.vqgan.model)?;
    let target = session.vqgan_model();
    if target.exists() {
        let advice = "choose another run folder, or remove that file";
        return Err(refusal(&target, "the run has a VQGAN already".into(), advice));
    }
    session.write_config(config)?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let checkpoint = Checkpoint {
        kind: Kind::Vqgan,
        model: json!(config.vqgan.model),
        run: json!(config),
        extra: json!({ "imported_from": name.map_or(Value::Null, Value::String) }),
        tensors: collect(&net),
    };
    checkpoint.save(&target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_become_grey() {
        let mut state = State::new();
        state.insert("encoder.conv_in.weight".into(), (vec![1, 3, 1, 2], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
        state.insert("decoder.conv_out.bias".into(), (vec![3], vec![1.0, 2.0, 6.0]));
        state.insert("decoder.conv_out.weight".into(), (vec![3, 1, 1, 1], vec![0.0, 3.0, 6.0]));
        to_grey(&mut state);
        assert_eq!(state["encoder.conv_in.weight"], (vec![1, 1, 1, 2], vec![9.0, 12.0]));
        assert_eq!(state["decoder.conv_out.bias"], (vec![1], vec![3.0]));
        assert_eq!(state["decoder.conv_out.weight"], (vec![1, 1, 1, 1], vec![3.0]));
        let grey = state.clone();
        to_grey(&mut state);
        assert_eq!(state, grey);
    }
}
