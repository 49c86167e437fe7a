//! Checkpoints: one safetensors file that says what it is.
//!
//! The metadata holds, besides the tensors:
//!
//! | key | value |
//! |---|---|
//! | `veilray.kind` | `vqgan` or `classifier` |
//! | `veilray.model` | JSON of the network's configuration (`VqganConfig`, `ClassifierConfig`) |
//! | `veilray.run` | JSON of the whole run's configuration |
//! | `veilray.extra` | JSON: label names, figures, or where training stood |
//! | `veilray.digest` | blake3 of kind, model configuration and all tensors, as 64 hexadecimal digits |
//!
//! A run folder holds two per network: `model.safetensors`, the weights of the best validation, and `last.safetensors`,
//! which also has what an exact resume needs under names that begin with `optimizer`.

use std::{collections::HashMap, fs, path::Path};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::Value;

use crate::{
    Result, TrainError,
    state::{State, prefixed},
};

/// The most bytes of a checkpoint that are read: the full-size VQGAN with optimizer state has about 1 GB.
const MAX_FILE_BYTES: u64 = 16 << 30;

/// Which network a checkpoint holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Encoder, quantiser, decoder.
    Vqgan,
    /// Classifier on latents.
    Classifier,
}

impl Kind {
    /// The name in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Vqgan => "vqgan",
            Self::Classifier => "classifier",
        }
    }
}

/// A checkpoint in memory.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Which network.
    pub kind: Kind,
    /// The network's configuration.
    pub model: Value,
    /// The run's configuration.
    pub run: Value,
    /// Anything else.
    pub extra: Value,
    /// The tensors.
    pub tensors: State,
}

impl Checkpoint {
    /// blake3 of kind, model configuration and tensors.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.kind.name().as_bytes());
        hasher.update(self.model.to_string().as_bytes());
        for (name, (shape, values)) in &self.tensors {
            hasher.update(format!("\n{name} {shape:?}\n").as_bytes());
            hasher.update(&little_endian(values));
        }
        hasher.finalize().to_hex().to_string()
    }

    /// Writes the checkpoint atomically and returns its digest.
    ///
    /// # Errors
    ///
    /// The file cannot be written; what was there before is untouched.
    pub fn save(&self, path: &Path) -> Result<String> {
        let digest = self.digest();
        let metadata = HashMap::from([
            ("veilray.kind".to_owned(), self.kind.name().to_owned()),
            ("veilray.model".to_owned(), self.model.to_string()),
            ("veilray.run".to_owned(), self.run.to_string()),
            ("veilray.extra".to_owned(), self.extra.to_string()),
            ("veilray.digest".to_owned(), digest.clone()),
        ]);
        let bytes = self
            .tensors
            .iter()
            .map(|(name, (shape, values))| (name, shape, little_endian(values)))
            .collect::<Vec<_>>();
        let refuse =
            |e: safetensors::SafeTensorError| refusal(path, e.to_string(), "this is a bug, please report it");
        let views = bytes
            .iter()
            .map(|(name, shape, data)| {
                Ok((name.as_str(), TensorView::new(Dtype::F32, (*shape).clone(), data).map_err(refuse)?))
            })
            .collect::<Result<Vec<_>>>()?;
        let file = safetensors::serialize(views, Some(metadata)).map_err(refuse)?;
        durable::write(path, &file)?;
        Ok(digest)
    }

    /// Reads and checks a checkpoint of the given kind.
    ///
    /// # Errors
    ///
    /// The file is missing, cut short, altered, or holds something else; the message says which, and what
    /// to do.
    pub fn load(path: &Path, kind: Kind) -> Result<Self> {
        let again = format!("write it again with `veilray train {}`", kind.name());
        let length = match fs::metadata(path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let advice = format!("run `veilray train {}` first, or check the path", kind.name());
                return Err(TrainError::Missing { file: path.into(), advice });
            }
            Err(error) => return Err(TrainError::io(path, "look at the file")(error)),
        };
        if length > MAX_FILE_BYTES {
            let problem =
                format!("it has {length} bytes, more than the {MAX_FILE_BYTES} that any network here needs");
            return Err(refusal(path, problem, &again));
        }
        let bytes = fs::read(path).map_err(TrainError::io(path, "read the file"))?;
        let damaged = |e: safetensors::SafeTensorError| {
            refusal(path, format!("it is damaged or cut short ({e})"), &again)
        };
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(damaged)?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let entry = |key: &str| {
            metadata.get(key).ok_or_else(|| {
                refusal(path, format!("its metadata has no {key:?}, so it is some other file"), &again)
            })
        };
        let found = entry("veilray.kind")?;
        if found != kind.name() {
            let problem = format!("expected a {}, found a {found}", kind.name());
            return Err(refusal(path, problem, "give the checkpoint of the other network"));
        }
        let json = |key: &str| {
            serde_json::from_str::<Value>(entry(key)?)
                .map_err(|e| refusal(path, format!("{key:?} in its metadata is damaged ({e})"), &again))
        };
        let (model, run, extra) = (json("veilray.model")?, json("veilray.run")?, json("veilray.extra")?);
        let digest = entry("veilray.digest")?.clone();
        let file = SafeTensors::deserialize(&bytes).map_err(damaged)?;
        let mut tensors = State::new();
        for (name, view) in file.iter() {
            if view.dtype() != Dtype::F32 {
                let problem = format!("tensor {name:?} is {:?}, expected F32", view.dtype());
                return Err(refusal(path, problem, &again));
            }
            let values =
                view.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            tensors.insert(name.to_owned(), (view.shape().to_vec(), values));
        }
        let checkpoint = Self { kind, model, run, extra, tensors };
        if checkpoint.digest() != digest {
            return Err(refusal(path, "its contents do not match its digest: it was altered".into(), &again));
        }
        Ok(checkpoint)
    }

    /// The tensors whose names begin with `prefix`, without it.
    #[must_use]
    pub fn part(&self, prefix: &str) -> State {
        self.tensors
            .iter()
            .filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?.to_owned(), tensor.clone())))
            .collect()
    }

    /// Adds tensors under a prefix.
    pub fn add_part(&mut self, prefix: &str, part: State) {
        self.tensors.extend(prefixed(prefix, part));
    }
}

/// An error about a checkpoint.
pub(crate) fn refusal(path: &Path, problem: String, advice: &str) -> TrainError {
    TrainError::Checkpoint { file: path.into(), problem, advice: advice.to_owned() }
}

fn little_endian(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint() -> Checkpoint {
        let mut tensors = State::new();
        tensors.insert("a.weight".into(), (vec![2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
        tensors.insert("optimizer.a.weight.moment_1".into(), (vec![1], vec![0.5]));
        let model = serde_json::json!({"width": 16});
        Checkpoint { kind: Kind::Vqgan, model, run: Value::Null, extra: Value::Null, tensors }
    }

    #[test]
    fn a_checkpoint_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/model.safetensors");
        let digest = checkpoint().save(&path).unwrap();
        let back = Checkpoint::load(&path, Kind::Vqgan).unwrap();
        assert_eq!(back.tensors, checkpoint().tensors);
        assert_eq!(back.digest(), digest);
        assert_eq!(back.part("optimizer.").keys().collect::<Vec<_>>(), ["a.weight.moment_1"]);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn what_is_not_a_checkpoint_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let refused = |kind| Checkpoint::load(&path, kind).unwrap_err().to_string();
        assert!(refused(Kind::Vqgan).contains("not found; run `veilray train vqgan` first"));
        checkpoint().save(&path).unwrap();
        assert!(refused(Kind::Classifier).contains("expected a classifier, found a vqgan"));
        let whole = fs::read(&path).unwrap();
        for cut in [0, 4, 20, whole.len() / 2, whole.len() - 1] {
            fs::write(&path, &whole[..cut]).unwrap();
            assert!(refused(Kind::Vqgan).contains("damaged or cut short"), "cut at {cut}");
        }
        let mut altered = whole.clone();
        *altered.last_mut().unwrap() ^= 1;
        fs::write(&path, &altered).unwrap();
        assert!(refused(Kind::Vqgan).contains("altered"));
    }
}
