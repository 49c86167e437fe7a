//! The HE-ready model file: one safetensors file, checked in full when it is read.
//!
//! The weights are `F64` tensors named `<node>.<array>`; everything else is JSON under the metadata keys `format`,
//! `version` and `model`. Each tensor's digest stands in that JSON, whose own digest is the key `digest`, so a changed
//! weight is refused by name. The graph and the plan go through the same checks as when they were made.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use crate::graph::{Graph, GraphLiteral, Offsets};
use crate::packing::Frame;
use crate::planner::Plan;
use crate::program::Program;
use crate::{ModelError, Ranges, Shape};

const FORMAT: &str = "veilray-he-model";
const VERSION: &str = "2";

/// A larger file is refused unread.
const MAX_BYTES: u64 = 4 << 30;

/// How a film that is not square becomes square.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FilmFit {
    /// The central square of the short side.
    #[default]
    Crop,
    /// Black bands.
    Pad,
    /// Both axes scaled separately.
    Stretch,
}

impl FilmFit {
    /// What a file that does not say so means; not written, so that digests of models stay what they were.
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Its name in configurations and files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            FilmFit::Crop => "crop",
            FilmFit::Pad => "pad",
            FilmFit::Stretch => "stretch",
        }
    }
}

/// What happens to a film before it is encrypted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    /// Side of the film in pixels.
    pub film_side: usize,
    /// How it becomes square.
    #[serde(default, skip_serializing_if = "FilmFit::is_default")]
    pub film_fit: FilmFit,
    /// Shape of the latent.
    pub latent: Shape,
    /// Digest of the encoder that made the latents in training; empty if unknown.
    pub encoder_digest: String,
    /// Largest magnitude of a latent value in calibration.
    pub latent_range: f64,
}

impl Preprocessing {
    /// Of a network whose latents come from no known encoder and were not calibrated, such as one of random weights: cropped films of
    /// `film_side` pixels, values from -1 to 1.
    #[must_use]
    pub fn unknown(film_side: usize, latent: Shape) -> Self {
        Self {
            film_side,
            film_fit: FilmFit::default(),
            latent,
            encoder_digest: String::new(),
            latent_range: 1.0,
        }
    }
}

/// An HE-ready model: what is computed, how it is packed, and what the numbers mean.
#[derive(Debug, Clone, PartialEq)]
pub struct HeModel {
    /// What is computed.
    pub graph: Graph,
    /// How it is packed, and in which ring.
    pub plan: Plan,
    /// Name of each output.
    pub labels: Vec<String>,
    /// What happens to a film before.
    pub preprocessing: Preprocessing,
    /// Ranges seen in calibration.
    pub ranges: Ranges,
    /// What the packed program adds to biases so that rounded weights and masks are right on average over the calibration films.
    pub offsets: Offsets,
    /// Free text by key: architecture, digest of the checkpoint, and the like.
    pub notes: BTreeMap<String, String>,
}

/// Everything but the weights.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    graph: GraphLiteral,
    plan: Plan,
    labels: Vec<String>,
    preprocessing: Preprocessing,
    ranges: Ranges,
    #[serde(default, skip_serializing_if = "Offsets::is_empty")]
    offsets: Offsets,
    notes: BTreeMap<String, String>,
    /// Digest of each tensor.
    tensors: BTreeMap<String, String>,
}

/// Why a model file was refused, or could not be written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file system said no.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What happened.
        source: std::io::Error,
    },
    /// Not such a file, or cut short.
    #[error("{path} is not a complete HE-ready model file ({reason}): export the model again")]
    Malformed {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// Written by another version.
    #[error(
        "{path} has version `{found}` of the model format, this program reads version {VERSION}: export the model again"
    )]
    Version {
        /// The file.
        path: String,
        /// Its version.
        found: String,
    },
    /// A tensor that the graph needs is not there.
    #[error("{path}: the tensor `{tensor}` is missing: export the model again")]
    MissingTensor {
        /// The file.
        path: String,
        /// The tensor.
        tensor: String,
    },
    /// Contents do not match their digest.
    #[error("{path}: `{what}` was changed after export (its digest does not match): do not use this file")]
    Changed {
        /// The file.
        path: String,
        /// The tensor, or the header.
        what: String,
    },
    /// The contents are no valid model.
    #[error("{path}: {source}")]
    Invalid {
        /// The file.
        path: String,
        /// What is wrong.
        source: ModelError,
    },
    /// Labels or shapes of the parts do not match.
    #[error("{path}: {reason}")]
    Mismatch {
        /// The file.
        path: String,
        /// What does not match.
        reason: String,
    },
}

impl HeModel {
    /// Identifies graph, plan and labels: ciphertexts and keys refer to it.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hash = blake3::Hasher::new();
        hash.update(self.graph.digest().as_bytes());
        hash.update(
            &serde_json::to_vec(&(&self.plan, &self.labels, &self.preprocessing)).unwrap_or_default(),
        );
        if !self.offsets.is_empty() {
            hash.update(&serde_json::to_vec(&self.offsets).unwrap_or_default());
        }
        hash.finalize().to_hex().to_string()
    }

    /// The packed program, offsets included.
    ///
    /// # Errors
    /// A plan or offsets that do not fit the graph.
    pub fn program(&self) -> Result<Program, ModelError> {
        self.plan.program(&self.graph.with_offsets(&self.offsets)?)
    }

    /// Writes the file: to a temporary name beside it, synced, then renamed.
    ///
    /// # Errors
    /// What the file system says.
    pub fn save(&self, path: &Path) -> Result<(), FileError> {
        let io = |source| FileError::Io { path: path.display().to_string(), source };
        let bytes = self.to_bytes().map_err(|reason| malformed(path, reason))?;
        durable::write(path, &bytes).map_err(|error| io(error.source))
    }

    fn to_bytes(&self) -> Result<Vec<u8>, String> {
        let mut arrays: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for node in self.graph.nodes() {
            for (array, values) in node.op().arrays() {
                let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                arrays.insert(format!("{}.{array}", node.name()), bytes);
            }
        }
        let digest = |bytes: &[u8]| blake3::hash(bytes).to_hex().to_string();
        let header = Header {
            graph: self.graph.to_literal(),
            plan: self.plan.clone(),
            labels: self.labels.clone(),
            preprocessing: self.preprocessing.clone(),
            ranges: self.ranges.clone(),
            offsets: self.offsets.clone(),
            notes: self.notes.clone(),
            tensors: arrays.iter().map(|(name, bytes)| (name.clone(), digest(bytes))).collect(),
        };
        let model = serde_json::to_string(&header).map_err(|e| e.to_string())?;
        let metadata: HashMap<String, String> = [
            ("format", FORMAT.to_owned()),
            ("version", VERSION.to_owned()),
            ("digest", digest(model.as_bytes())),
            ("model", model),
        ]
        .map(|(k, v)| (k.to_owned(), v))
        .into();
        let views = arrays.iter().map(|(name, bytes)| {
            let view = TensorView::new(Dtype::F64, vec![bytes.len() / 8], bytes);
            view.map(|v| (name.clone(), v)).map_err(|e| e.to_string())
        });
        let views = views.collect::<Result<Vec<_>, _>>()?;
        safetensors::serialize(views, Some(metadata)).map_err(|e| e.to_string())
    }

    /// Reads and checks a file.
    ///
    /// # Errors
    /// The first thing that is wrong, by name.
    pub fn load(path: &Path) -> Result<Self, FileError> {
        let io = |source| FileError::Io { path: path.display().to_string(), source };
        let size = fs::metadata(path).map_err(io)?.len();
        if size > MAX_BYTES {
            return Err(malformed(path, format!("{size} bytes, more than any model has")));
        }
        let bytes = fs::read(path).map_err(io)?;
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|e| malformed(path, e.to_string()))?;
        let tensors = SafeTensors::deserialize(&bytes).map_err(|e| malformed(path, e.to_string()))?;
        let entry =
            |key: &str| metadata.metadata().as_ref().and_then(|m| m.get(key)).cloned().unwrap_or_default();
        if entry("format") != FORMAT {
            return Err(malformed(path, format!("its metadata does not say `format = {FORMAT}`")));
        }
        if entry("version") != VERSION {
            return Err(FileError::Version { path: path.display().to_string(), found: entry("version") });
        }
        let model = entry("model");
        if blake3::hash(model.as_bytes()).to_hex().as_str() != entry("digest") {
            return Err(FileError::Changed { path: path.display().to_string(), what: "header".into() });
        }
        let header: Header = serde_json::from_str(&model).map_err(|e| malformed(path, e.to_string()))?;
        Self::from_parts(path, header, &tensors)
    }

    fn from_parts(path: &Path, header: Header, tensors: &SafeTensors<'_>) -> Result<Self, FileError> {
        let shown = || path.display().to_string();
        let mut literal = header.graph;
        for node in &mut literal.nodes {
            let name = node.name.clone();
            for (array, values) in node.op.arrays_mut() {
                let tensor = format!("{name}.{array}");
                let missing = || FileError::MissingTensor { path: shown(), tensor: tensor.clone() };
                let view = tensors.tensor(&tensor).map_err(|_| missing())?;
                let digest = header.tensors.get(&tensor).ok_or_else(missing)?;
                if view.dtype() != Dtype::F64 || blake3::hash(view.data()).to_hex().as_str() != digest {
                    return Err(FileError::Changed { path: shown(), what: tensor });
                }
                let numbers = view.data().chunks_exact(8);
                *values = numbers.map(|b| f64::from_le_bytes(b.try_into().unwrap_or_default())).collect();
            }
        }
        let graph =
            Graph::new(literal).map_err(|e| FileError::Invalid { path: shown(), source: e.into() })?;
        let model = Self {
            graph,
            plan: header.plan,
            labels: header.labels,
            preprocessing: header.preprocessing,
            ranges: header.ranges,
            offsets: header.offsets,
            notes: header.notes,
        };
        let mismatch = |reason| Err(FileError::Mismatch { path: shown(), reason });
        if model.graph.output_shape() != Shape::vector(model.labels.len()) {
            let (labels, shape) = (model.labels.len(), model.graph.output_shape());
            return mismatch(format!("it has {labels} labels, but its graph results in {shape}"));
        }
        if model.graph.input_shape() != model.preprocessing.latent {
            let (graph, latent) = (model.graph.input_shape(), model.preprocessing.latent);
            return mismatch(format!("its graph reads {graph}, its preprocessing makes {latent}"));
        }
        model
            .graph
            .with_offsets(&model.offsets)
            .map_err(|e| FileError::Invalid { path: shown(), source: e.into() })?;
        model.plan.ring.plan().map_err(|source| FileError::Invalid { path: shown(), source })?;
        let Frame { films, slots, .. } = *model.plan.packing.frame();
        if !films.is_power_of_two() || films > slots || slots != model.plan.ring.slots() {
            return mismatch(format!(
                "its plan puts {films} films into {slots} slots of a ring of {}: a batch is a power of two",
                model.plan.ring.slots()
            ));
        }
        Ok(model)
    }
}

fn malformed(path: &Path, reason: String) -> FileError {
    FileError::Malformed { path: path.display().to_string(), reason }
}
