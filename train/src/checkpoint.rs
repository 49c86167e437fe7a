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
//! | `veilray.digest` | blake3 of kind, model configuration and all tensors, as 64 hexadecimal digits: which weights these are |
//! | `veilray.contents` | blake3 of all of the above: label names and figures are those that were written |
//! | `veilray.version` | 2; files of version 0.1.0 have neither version nor `contents`, and are read |
//!
//! A run folder holds two per network: `model.safetensors`, the weights of the best validation, and `last.safetensors`,
//! which also has what an exact resume needs under names that begin with `optimizer`.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::Path,
};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::Value;

use crate::{
    Result, TrainError,
    state::{State, not_finite, prefixed},
};

/// The most bytes of a checkpoint that are read: the full-size VQGAN with optimizer state has about 1 GB.
const MAX_FILE_BYTES: u64 = 16 << 30;
/// The version that is written.
const VERSION: &str = "2";
/// The key of the digest of all metadata.
const CONTENTS: &str = "veilray.contents";

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
        let mut metadata = HashMap::from([
            ("veilray.version".to_owned(), VERSION.to_owned()),
            ("veilray.kind".to_owned(), self.kind.name().to_owned()),
            ("veilray.model".to_owned(), self.model.to_string()),
            ("veilray.run".to_owned(), self.run.to_string()),
            ("veilray.extra".to_owned(), self.extra.to_string()),
            ("veilray.digest".to_owned(), digest.clone()),
        ]);
        metadata.insert(CONTENTS.to_owned(), contents(&metadata));
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
        check_contents(&metadata).map_err(|problem| refusal(path, problem, &again))?;
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
        if let Some((name, value)) = not_finite(&checkpoint.tensors) {
            let problem = format!("tensor {name:?} holds {value}: the training that made it went wrong");
            return Err(refusal(
                path,
                problem,
                "remove it and train again with a lower learning rate or clip_norm",
            ));
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

/// A digest of all metadata but itself. Each part is told by its length, so that none runs into the next.
fn contents(metadata: &HashMap<String, String>) -> String {
    let sorted = metadata.iter().filter(|(key, _)| *key != CONTENTS).collect::<BTreeMap<_, _>>();
    let mut hasher = blake3::Hasher::new();
    for text in sorted.into_iter().flat_map(|(key, value)| [key, value]) {
        hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

/// Refuses metadata of another version or that was altered.
fn check_contents(metadata: &HashMap<String, String>) -> std::result::Result<(), String> {
    let found = metadata.get(CONTENTS);
    match metadata.get("veilray.version").map(String::as_str) {
        None if found.is_none() => Ok(()),
        Some(VERSION) if found == Some(&contents(metadata)) => Ok(()),
        Some(version) if version != VERSION => {
            Err(format!("it has version {version}, and this program reads version {VERSION} and older ones"))
        }
        _ => Err("its metadata does not match its digest: it was altered".to_owned()),
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

    /// Exchanges texts of one length in the header of a file.
    fn replace(path: &Path, from: &str, to: &str) {
        let mut bytes = fs::read(path).unwrap();
        let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        fs::write(path, bytes).unwrap();
    }

    /// The tensors are as they were: only what they mean is another.
    #[test]
    fn swapped_names_and_other_versions_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let extra = serde_json::json!({ "label_names": ["Effusion", "Fracture"] });
        let named = Checkpoint { extra, ..checkpoint() };
        named.save(&path).unwrap();
        assert_eq!(Checkpoint::load(&path, Kind::Vqgan).unwrap().extra, named.extra);
        let refused = || Checkpoint::load(&path, Kind::Vqgan).unwrap_err().to_string();
        for (from, to) in [("Effusion", "Fracture"), ("veilray.contents", "veilray.contentz")] {
            named.save(&path).unwrap();
            replace(&path, from, to);
            assert!(refused().contains("was altered"), "{from}: {}", refused());
        }
        // Without a version it would be one of version 0.1.0, which has no digest of its metadata.
        named.save(&path).unwrap();
        replace(&path, "veilray.version", "veilray.versiom");
        assert!(refused().contains("was altered"), "{}", refused());
        named.save(&path).unwrap();
        replace(&path, "\"veilray.version\":\"2\"", "\"veilray.version\":\"3\"");
        assert!(refused().contains("version 3"), "{}", refused());
    }

    #[test]
    fn weights_that_are_no_numbers_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        for value in [f32::NAN, f32::INFINITY] {
            let mut broken = checkpoint();
            broken.tensors.get_mut("a.weight").unwrap().1[2] = value;
            broken.save(&path).unwrap();
            let text = Checkpoint::load(&path, Kind::Vqgan).unwrap_err().to_string();
            assert!(text.contains("\"a.weight\" holds") && text.contains("train again"), "{text}");
        }
    }
}
