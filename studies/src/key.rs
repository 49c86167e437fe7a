//! Stages and their keys: the digest of everything that a stage's result follows from.
//!
//! ```text
//!  films --+
//!          +-> vqgan -> latents -> classifier -> export -> encrypted
//!  seed ---+
//! ```
//!
//! A key is the blake3 digest of the stage's own settings and of the key before it, so it is known before anything runs, and two
//! cells (of one study or of two) share a stage exactly when nothing that matters differs. Paths are not part of it:
//! films are named by the digest of the data set.

use std::path::{Path, PathBuf};

use datasets::FilmDataset;
use pipeline::error::{Explain as _, Result};
use pipeline::settings;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use train::Config;

/// Raised when a stage comes to compute something else from the same inputs.
const VERSION: u32 = 1;

/// The stages, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Training the VQGAN.
    Vqgan,
    /// Latents of all films, and reconstructions of the test films.
    Latents,
    /// Training the classifier, and its metrics on the test films.
    Classifier,
    /// The HE-ready model.
    Export,
    /// Test films on ciphertexts.
    Encrypted,
}

impl Stage {
    /// The name of its folder.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vqgan => "vqgan",
            Self::Latents => "latents",
            Self::Classifier => "classifier",
            Self::Export => "export",
            Self::Encrypted => "encrypted",
        }
    }
}

/// What a stage follows from, and the digest of that.
#[derive(Debug, Clone, PartialEq)]
pub struct StageKey {
    /// The stage.
    pub stage: Stage,
    /// Its own settings and the key before it.
    pub inputs: Value,
    /// blake3 of `inputs`, 64 hexadecimal digits.
    pub key: String,
}

impl StageKey {
    fn new(stage: Stage, inputs: Value) -> Self {
        let inputs = json!({ "stage": stage, "version": VERSION, "inputs": inputs });
        let key = blake3::hash(inputs.to_string().as_bytes()).to_hex().to_string();
        Self { stage, inputs, key }
    }
}

/// Which films: a data set that is there, or one that is only described.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Films {
    /// The digest of the opened data set.
    Digest(String),
    /// Not there; keys made from its description are good for a plan and name no result.
    Absent,
}

impl Films {
    /// The films of a configuration, as they are named in keys.
    pub fn of(dataset: Option<&FilmDataset>) -> Self {
        dataset.map_or(Self::Absent, |dataset| Self::Digest(dataset.digest()))
    }
}

/// The keys of all stages that a cell has: a network that is not polynomial cannot be exported and ends in the clear.
///
/// # Errors
/// A section of the configuration, or a file with weights that it names, cannot be read.
pub fn keys(config: &Config, films: &Films) -> Result<Vec<StageKey>> {
    let data = match films {
        Films::Digest(digest) => json!(digest),
        Films::Absent => json!({ "absent": config.data }),
    };
    let mut section = config.vqgan.clone();
    let mut vqgan = json!({ "data": data, "seed": config.run.seed, "device": config.run.device });
    if let Some(perceptual) = &mut section.train.perceptual {
        vqgan["perceptual"] = json!(file("vqgan.train.perceptual.weights", &perceptual.weights)?);
        perceptual.weights = PathBuf::new();
    }
    vqgan["vqgan"] = json!(section);
    // Named where it is another than before there was a choice, here and below, so that cells of earlier studies keep their keys.
    let precision = (!config.run.precision.is_f32()).then_some(config.run.precision);
    if let Some(precision) = precision {
        vqgan["precision"] = json!(precision);
    }
    let vqgan = StageKey::new(Stage::Vqgan, vqgan);
    let latents = StageKey::new(Stage::Latents, json!({ "vqgan": vqgan.key }));
    let mut section = config.classifier.clone();
    let start_from = section.train.start_from.take();
    let start_from = start_from.map(|path| file("classifier.train.start_from", &path)).transpose()?;
    let mut teachers = Vec::new();
    if let Some(distill) = &mut section.train.distill {
        for path in std::mem::take(&mut distill.teachers) {
            teachers.push(file("classifier.train.distill.teachers", &path)?);
        }
    }
    let mut attributes = None;
    if let Some(auxiliary) = &mut section.train.auxiliary {
        let table = std::mem::take(&mut auxiliary.from.table);
        attributes = Some(file("classifier.train.auxiliary.from.table", &table)?);
    }
    let mut classifier = json!({
        "latents": latents.key,
        "seed": config.run.seed,
        "device": config.run.device,
        "classifier": section,
        "start_from": start_from,
    });
    if let Some(precision) = precision {
        classifier["precision"] = json!(precision);
    }
    if !teachers.is_empty() {
        classifier["teachers"] = json!(teachers);
    }
    if let Some(table) = attributes {
        classifier["attributes"] = json!(table);
    }
    let classifier = StageKey::new(Stage::Classifier, classifier);
    let mut keys = vec![vqgan, latents, classifier];
    if is_polynomial(config)? {
        let settings = settings::export(config)?;
        let export = StageKey::new(Stage::Export, json!({ "classifier": keys[2].key, "export": settings }));
        let films = settings::encrypted(config)?.films;
        let encrypted = StageKey::new(Stage::Encrypted, json!({ "export": export.key, "films": films }));
        keys.extend([export, encrypted]);
    }
    Ok(keys)
}

/// Whether the classifier has nothing but additions and multiplications.
///
/// # Errors
/// The configuration's classifier cannot be built.
pub fn is_polynomial(config: &Config) -> Result<bool> {
    Ok(config.classifier_model(config.vqgan.model.latent_shape(), 1)?.is_polynomial())
}

/// The digest of a file that a field names: its contents count, not its place.
fn file(field: &str, path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).explain(|| format!("cannot read {field} = {}", path.display()))?;
    Ok(blake3::hash(&bytes).to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEMO: &str = include_str!("../../configs/demo.toml");

    fn of(overrides: &[&str], films: &Films) -> Vec<String> {
        let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
        let config = train::config::parse(DEMO, Path::new("demo"), &overrides).expect("the demo");
        keys(&config, films).expect("keys").into_iter().map(|key| key.key).collect()
    }

    /// How many stages two configurations share, from the first.
    fn shared(overrides: &[&str]) -> usize {
        let films = Films::Digest("films".into());
        let (a, b) = (of(&[], &films), of(overrides, &films));
        let shared = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
        assert!(a.iter().zip(&b).skip(shared).all(|(a, b)| a != b), "a stage after a change is another one");
        shared
    }

    #[test]
    fn a_change_makes_its_stage_and_all_after_it_new() {
        assert_eq!(shared(&["run.dir=elsewhere"]), 5, "where a run is kept does not matter");
        assert_eq!(shared(&["encrypted.films=25"]), 4);
        assert_eq!(shared(&["export.headroom=3.0"]), 3);
        assert_eq!(shared(&["classifier.train.epochs=13"]), 2);
        assert_eq!(shared(&["classifier.model.width_divisor=4"]), 2);
        assert_eq!(shared(&["vqgan.train.steps=261"]), 0);
        assert_eq!(shared(&["run.seed=2"]), 0);
        assert_eq!(shared(&["run.precision=bf16"]), 0);
        assert_eq!(shared(&["run.precision=f32"]), 5);
    }

    #[test]
    fn films_are_named_by_their_digest_and_not_by_their_place() {
        let films = Films::Digest("films".into());
        assert_eq!(of(&["data.source.phantom.films=10"], &films), of(&[], &films));
        assert_ne!(of(&[], &Films::Digest("others".into()))[0], of(&[], &films)[0]);
        assert_ne!(of(&[], &Films::Absent)[0], of(&["data.source.phantom.films=10"], &Films::Absent)[0]);
    }

    #[test]
    fn weights_are_named_by_what_they_are_and_not_by_their_place() {
        let folder = tempfile::tempdir().unwrap();
        let films = Films::Digest("films".into());
        let with = |name: &str, weights: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, weights).unwrap();
            of(&[&format!("classifier.train.start_from={}", path.display())], &films)
        };
        let (a, moved, other) = (with("a", b"one"), with("b", b"one"), with("a", b"two"));
        assert_eq!(a, moved);
        assert!(a[..2] == other[..2] && a[2] != other[2]);
        let named = |field: &str, name: &str, content: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            let set = match field {
                "teacher" => format!("classifier.train.distill.teachers=[{path:?}]"),
                _ => format!(
                    "classifier.train.auxiliary.from={{ table = {path:?}, attributes = [{{ column = \"a\", is = \"b\" }}] }}"
                ),
            };
            of(&[&set], &films)
        };
        for field in ["teacher", "table"] {
            let (a, moved, other) =
                (named(field, "a", b"one"), named(field, "b", b"one"), named(field, "a", b"two"));
            assert_eq!(a, moved, "{field}");
            assert!(a[..2] == other[..2] && a[2] != other[2], "{field}");
        }
        let overrides = ["classifier.train.start_from=nowhere".to_owned()];
        let config = train::config::parse(DEMO, Path::new("demo"), &overrides).expect("the demo");
        assert!(keys(&config, &films).unwrap_err().to_string().contains("nowhere"));
    }

    #[test]
    fn a_network_with_relu_ends_in_the_clear() {
        let keys = of(&["classifier.model.activation.kind=relu"], &Films::Absent);
        assert_eq!(keys.len(), 3);
    }
}
