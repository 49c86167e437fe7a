//! A model package: the folder that a clinic or a service is given.
//!
//! ```text
//! package.json          this manifest: name, labels, preprocessing, model card, and a digest of every other file
//! model.safetensors     the HE-ready model (needed by the service only)
//! encoder.safetensors   the VQGAN that makes the latents (needed by the client; optional)
//! ```
//!
//! The manifest's own digest is printed by `veilray inspect` and can be demanded (`--digest`): whoever got it over a trusted way knows that
//! every byte of the package is the publisher's.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use he_model::{HeModel, Preprocessing, Range};
use serde::{Deserialize, Serialize};

use crate::{Digest, Name, files};

const FORMAT: &str = "veilray-package";
const VERSION: u32 = 1;
const MANIFEST: &str = "package.json";
const MODEL: &str = "model.safetensors";
const ENCODER: &str = "encoder.safetensors";
/// A larger manifest is refused.
const MAX_MANIFEST: u64 = 4 << 20;

/// What is known of a model's quality and use.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// Free text by heading: data, architecture, intended use, licence.
    pub notes: BTreeMap<String, String>,
    /// Measured figures by name, for example `test macro AUROC (clear)`.
    pub metrics: BTreeMap<String, f64>,
    /// AUROC on held-out films by finding, where it is defined.
    pub auroc: BTreeMap<String, f64>,
}

/// One file of the package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// BLAKE3 of its bytes.
    pub digest: Digest,
    /// Its size.
    pub bytes: u64,
}

/// `package.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Always `veilray-package`.
    pub format: String,
    /// Version of the format.
    pub version: u32,
    /// Name under which a service offers the model.
    pub name: Name,
    /// Digest of the model: what keys and ciphertexts refer to.
    pub model_digest: Digest,
    /// Names of the findings.
    pub labels: Vec<String>,
    /// What happens to a film before.
    pub preprocessing: Preprocessing,
    /// Films that share a ciphertext, and so one evaluation.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub films: usize,
    /// Range of every layer in calibration.
    pub ranges: Vec<(String, Range)>,
    /// Largest magnitude of a logit in calibration; 0 if unknown.
    pub logit_range: f64,
    /// The model card.
    pub card: Card,
    /// The HE-ready model.
    pub model: Entry,
    /// The encoder.
    pub encoder: Option<Entry>,
}

fn one() -> usize {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_one(n: &usize) -> bool {
    *n == 1
}

/// Why a package was refused or could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// The file system said no.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What happened.
        source: std::io::Error,
    },
    /// The manifest cannot be read.
    #[error("{path} is not the manifest of a model package ({reason}): `veilray package` makes packages")]
    Malformed {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// Bytes do not match their digest.
    #[error(
        "{path} was changed after the package was made (expected digest {expected}, found {found}): fetch the package again"
    )]
    Changed {
        /// The file.
        path: String,
        /// Digest in the manifest.
        expected: String,
        /// Digest of what is there.
        found: String,
    },
    /// The manifest says something else than the model.
    #[error("{path}: {what} of the manifest is not that of the model: make the package again")]
    Mismatch {
        /// The package.
        path: String,
        /// What differs.
        what: &'static str,
    },
    /// The model file is refused.
    #[error(transparent)]
    Model(#[from] he_model::FileError),
}

/// A package whose every digest was checked.
#[derive(Debug, Clone)]
pub struct Package {
    folder: PathBuf,
    /// The manifest.
    pub manifest: Manifest,
    /// Digest of the manifest's bytes: stands for the whole package.
    pub digest: Digest,
}

impl Package {
    /// Makes a package in `folder` (which may exist) from an HE-ready model and the encoder that belongs to it.
    ///
    /// # Errors
    /// A file cannot be read or written, or is refused.
    pub fn create(
        folder: &Path,
        name: Name,
        model: &Path,
        encoder: Option<&Path>,
        card: Card,
    ) -> Result<Self, PackageError> {
        let loaded = HeModel::load(model)?;
        fs::create_dir_all(folder).map_err(io(folder))?;
        let copy = |from: &Path, name: &str| -> Result<Entry, PackageError> {
            let bytes = fs::read(from).map_err(io(from))?;
            let to = folder.join(name);
            files::write(&to, &bytes).map_err(io(&to))?;
            Ok(Entry { digest: Digest::of(&bytes), bytes: bytes.len() as u64 })
        };
        let output =
            loaded.graph.nodes().get(loaded.graph.output().0).and_then(|n| loaded.ranges.get(n.name()));
        // A range over no input holds infinities, which JSON cannot say.
        let finite = |r: &Range| r.min.is_finite() && r.max.is_finite();
        let manifest = Manifest {
            format: FORMAT.into(),
            version: VERSION,
            name,
            model_digest: model_digest(&loaded, model)?,
            labels: loaded.labels.clone(),
            preprocessing: loaded.preprocessing.clone(),
            films: loaded.plan.packing.films(),
            ranges: loaded.ranges.nodes.iter().filter(|(_, r)| finite(r)).cloned().collect(),
            logit_range: output.filter(finite).map_or(0.0, |r| r.magnitude()),
            card,
            model: copy(model, MODEL)?,
            encoder: encoder.map(|path| copy(path, ENCODER)).transpose()?,
        };
        let path = folder.join(MANIFEST);
        let text = serde_json::to_vec_pretty(&manifest).map_err(|e| malformed(&path, &e))?;
        files::write(&path, &text).map_err(io(&path))?;
        Self::open(folder)
    }

    /// Reads the manifest and checks the digest of every file that it names.
    ///
    /// # Errors
    /// The first file that is missing or changed.
    pub fn open(folder: &Path) -> Result<Self, PackageError> {
        let path = folder.join(MANIFEST);
        let bytes = files::read(&path, MAX_MANIFEST).map_err(io(&path))?;
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|e| malformed(&path, &e))?;
        if manifest.format != FORMAT || manifest.version != VERSION {
            let reason = format!(
                "it says {} version {}, this program reads {FORMAT} version {VERSION}",
                manifest.format, manifest.version
            );
            return Err(PackageError::Malformed { path: path.display().to_string(), reason });
        }
        let package = Self { folder: folder.into(), manifest, digest: Digest::of(&bytes) };
        check(&package.model_path(), &package.manifest.model)?;
        if let Some(entry) = &package.manifest.encoder {
            check(&package.folder.join(ENCODER), entry)?;
        }
        Ok(package)
    }

    /// Where it lies.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The HE-ready model's file.
    #[must_use]
    pub fn model_path(&self) -> PathBuf {
        self.folder.join(MODEL)
    }

    /// The encoder's file.
    #[must_use]
    pub fn encoder_path(&self) -> Option<PathBuf> {
        self.manifest.encoder.as_ref().map(|_| self.folder.join(ENCODER))
    }

    /// Reads the model and checks that the manifest tells the truth about it.
    ///
    /// # Errors
    /// The model is refused, or is not the one that the manifest describes.
    pub fn load_model(&self) -> Result<HeModel, PackageError> {
        let model = HeModel::load(&self.model_path())?;
        let mismatch = |what| Err(PackageError::Mismatch { path: self.folder.display().to_string(), what });
        if model_digest(&model, &self.model_path())? != self.manifest.model_digest {
            return mismatch("the model's digest");
        }
        if model.labels != self.manifest.labels {
            return mismatch("the list of labels");
        }
        if model.preprocessing != self.manifest.preprocessing {
            return mismatch("the preprocessing");
        }
        if model.plan.packing.films() != self.manifest.films {
            return mismatch("the number of films in a batch");
        }
        Ok(model)
    }
}

fn model_digest(model: &HeModel, path: &Path) -> Result<Digest, PackageError> {
    model.digest().parse().map_err(|e: crate::IdError| PackageError::Malformed {
        path: path.display().to_string(),
        reason: e.to_string(),
    })
}

fn check(path: &Path, entry: &Entry) -> Result<(), PackageError> {
    let file = File::open(path).map_err(io(path))?;
    let found = Digest::read(file).map_err(io(path))?;
    if found != entry.digest {
        let expected = entry.digest.to_string();
        return Err(PackageError::Changed {
            path: path.display().to_string(),
            expected,
            found: found.into(),
        });
    }
    Ok(())
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> PackageError {
    move |source| PackageError::Io { path: path.display().to_string(), source }
}

fn malformed(path: &Path, reason: &dyn std::fmt::Display) -> PackageError {
    PackageError::Malformed { path: path.display().to_string(), reason: reason.to_string() }
}
