//! The latents of a data set: what the VQGAN's encoder made of every film, with labels and splits.
//!
//! One safetensors file. Tensors: `latents` f32 `[films, channels, height, width]`, `labels` i8
//! `[films, labels]` (1, 0, and -1 for unknown), `splits` u8 `[films]` (0 train, 1 validation, 2 test).
//! The metadata entry `veilray.latents` is JSON: version, label names, film and patient names, and the digests
//! of the encoder and the data that the latents were made from, so that a stale cache is noticed.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use safetensors::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize};

use crate::{DataError, FilmDataset, Result, Split};

/// The version of the file layout.
const VERSION: u32 = 1;
const METADATA_KEY: &str = "veilray.latents";
/// The most bytes of a latent file: all of NIH at f = 2 is 14.7 GB.
const MAX_FILE_BYTES: u64 = 64 << 30;

/// The latents of all films of a data set, in its order.
#[derive(Clone, Debug, PartialEq)]
pub struct LatentSet {
    /// The names of the labels.
    pub label_names: Vec<String>,
    /// The films' names.
    pub ids: Vec<String>,
    /// The films' patients.
    pub patients: Vec<String>,
    /// The films' splits.
    pub splits: Vec<Split>,
    /// The films' labels, one entry per label name.
    pub labels: Vec<Vec<Option<bool>>>,
    /// Channels of a latent.
    pub channels: usize,
    /// Rows of a latent.
    pub height: usize,
    /// Columns of a latent.
    pub width: usize,
    /// `films * channels * height * width` values, row-major.
    pub latents: Vec<f32>,
    /// The digest of the encoder that made the latents.
    pub encoder_digest: String,
    /// The digest of the data set ([`FilmDataset::digest`]).
    pub data_digest: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    version: u32,
    label_names: Vec<String>,
    ids: Vec<String>,
    patients: Vec<String>,
    encoder_digest: String,
    data_digest: String,
}

impl LatentSet {
    /// A latent set for the films of `dataset`; `latents` are in the order of its films.
    ///
    /// # Errors
    /// The number of values is not films x channels x height x width, or a value is not finite.
    pub fn new(
        dataset: &FilmDataset,
        [channels, height, width]: [usize; 3],
        latents: Vec<f32>,
        encoder_digest: impl Into<String>,
    ) -> Result<Self> {
        let examples = dataset.examples();
        let set = LatentSet {
            label_names: dataset.label_names().to_vec(),
            ids: examples.iter().map(|e| e.id.clone()).collect(),
            patients: examples.iter().map(|e| e.patient.clone()).collect(),
            splits: examples.iter().map(|e| e.split).collect(),
            labels: examples.iter().map(|e| e.labels.clone()).collect(),
            channels,
            height,
            width,
            latents,
            encoder_digest: encoder_digest.into(),
            data_digest: dataset.digest(),
        };
        set.check(Path::new("latents in memory"))?;
        Ok(set)
    }

    /// The number of films.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are no films.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Values in one latent: channels x height x width.
    #[must_use]
    pub fn latent_len(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// The latent of one film, `[channels, height, width]` row-major.
    ///
    /// # Panics
    /// If `index` is not below [`LatentSet::len`].
    #[must_use]
    pub fn latent(&self, index: usize) -> &[f32] {
        &self.latents[index * self.latent_len()..][..self.latent_len()]
    }

    /// The films of a split.
    #[must_use]
    pub fn indices(&self, split: Split) -> Vec<usize> {
        (0..self.len()).filter(|&i| self.splits[i] == split).collect()
    }

    /// Every invariant that loaders and users rely on.
    fn check(&self, path: &Path) -> Result<()> {
        let films = self.len();
        let fail = |problem: String| Err(DataError::Latents { path: path.into(), problem });
        for (what, count) in [
            ("patients", self.patients.len()),
            ("splits", self.splits.len()),
            ("rows of labels", self.labels.len()),
        ] {
            if count != films {
                return fail(format!("it names {films} films but has {count} {what}"));
            }
        }
        if let Some(row) = self.labels.iter().find(|row| row.len() != self.label_names.len()) {
            return fail(format!(
                "expected {} labels for every film, found {}",
                self.label_names.len(),
                row.len()
            ));
        }
        let expected = [self.channels, self.height, self.width, films]
            .iter()
            .try_fold(1usize, |product, &factor| product.checked_mul(factor));
        if expected != Some(self.latents.len()) || self.latent_len() == 0 {
            return fail(format!(
                "expected {films} latents of {} x {} x {} values, found {} values",
                self.channels,
                self.height,
                self.width,
                self.latents.len()
            ));
        }
        if let Some(place) = self.latents.iter().position(|value| !value.is_finite()) {
            return fail(format!(
                "the latent of film {:?} holds a value that is not finite",
                self.ids[place / self.latent_len()]
            ));
        }
        Ok(())
    }

    /// Writes the file under a temporary name in the same folder, syncs it, and renames it.
    ///
    /// # Errors
    /// The set is inconsistent, or the file cannot be written (the old file, if any, is then untouched).
    pub fn save(&self, path: &Path) -> Result<()> {
        self.check(path)?;
        let metadata = Metadata {
            version: VERSION,
            label_names: self.label_names.clone(),
            ids: self.ids.clone(),
            patients: self.patients.clone(),
            encoder_digest: self.encoder_digest.clone(),
            data_digest: self.data_digest.clone(),
        };
        let latents_error = |problem: String| DataError::Latents {
            path: path.into(),
            problem: format!("could not write it: {problem}"),
        };
        let json = serde_json::to_string(&metadata).map_err(|e| latents_error(e.to_string()))?;
        let labels = self
            .labels
            .iter()
            .flatten()
            .map(|label| match label {
                Some(true) => 1u8,
                Some(false) => 0,
                None => 0xff, // -1 as i8
            })
            .collect();
        let splits = self.splits.iter().map(|&split| split as u8).collect();
        let films = self.len();
        let tensors = [
            (
                "latents",
                Tensor::new(Dtype::F32, vec![films, self.channels, self.height, self.width], {
                    self.latents.iter().flat_map(|value| value.to_le_bytes()).collect()
                }),
            ),
            ("labels", Tensor::new(Dtype::I8, vec![films, self.label_names.len()], labels)),
            ("splits", Tensor::new(Dtype::U8, vec![films], splits)),
        ];
        let metadata = HashMap::from([(METADATA_KEY.to_owned(), json)]);
        durable::write_by_path(path, |temporary| {
            safetensors::serialize_to_file(tensors, Some(metadata), temporary).map_err(|e| match e {
                safetensors::SafeTensorError::IoError(reason) => {
                    DataError::io(path, "write the latents")(reason)
                }
                other => latents_error(other.to_string()),
            })
        })
    }

    /// Reads and checks a latent file.
    ///
    /// # Errors
    /// The file is missing, cut short, altered so that it no longer fits together, or of another kind or version.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = read_bounded(path)?;
        let fail = |problem: String| DataError::Latents { path: path.into(), problem };
        let cut = |e: safetensors::SafeTensorError| fail(format!("the file is damaged or cut short ({e})"));
        let metadata = Metadata::read(&bytes, &fail)?;
        let tensors = SafeTensors::deserialize(&bytes).map_err(cut)?;
        let tensor = |name: &str, dtype: Dtype, rank: usize| {
            let view = tensors.tensor(name).map_err(|_| fail(format!("it has no tensor {name:?}")))?;
            if view.dtype() != dtype || view.shape().len() != rank {
                return Err(fail(format!(
                    "tensor {name:?}: expected {dtype:?} with {rank} dimensions, found {:?} {:?}",
                    view.dtype(),
                    view.shape()
                )));
            }
            Ok(view)
        };
        let (latents, labels, splits) = (
            tensor("latents", Dtype::F32, 4)?,
            tensor("labels", Dtype::I8, 2)?,
            tensor("splits", Dtype::U8, 1)?,
        );
        let (films, shape) = (metadata.ids.len(), latents.shape());
        for (name, found, expected) in [
            ("latents", shape[0], films),
            ("labels", labels.shape()[0], films),
            ("labels", labels.shape()[1], metadata.label_names.len()),
            ("splits", splits.shape()[0], films),
        ] {
            if found != expected {
                return Err(fail(format!(
                    "tensor {name:?}: expected a dimension of {expected}, found {found}"
                )));
            }
        }
        let values = latents.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        let set = LatentSet {
            labels: read_labels(labels.data(), films, metadata.label_names.len(), &fail)?,
            splits: read_splits(splits.data(), &fail)?,
            label_names: metadata.label_names,
            ids: metadata.ids,
            patients: metadata.patients,
            channels: shape[1],
            height: shape[2],
            width: shape[3],
            latents: values.collect(),
            encoder_digest: metadata.encoder_digest,
            data_digest: metadata.data_digest,
        };
        set.check(path)?;
        Ok(set)
    }
}

impl Metadata {
    /// The JSON of a file's header, of the version that is read.
    fn read(bytes: &[u8], fail: &impl Fn(String) -> DataError) -> Result<Self> {
        let cut = |e: safetensors::SafeTensorError| fail(format!("the file is damaged or cut short ({e})"));
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(cut)?;
        let json =
            header.metadata().as_ref().and_then(|metadata| metadata.get(METADATA_KEY)).ok_or_else(|| {
                fail(format!("it has no {METADATA_KEY:?} metadata, so it is some other file"))
            })?;
        let version = serde_json::from_str::<serde_json::Value>(json)
            .ok()
            .and_then(|value| value.get("version")?.as_u64())
            .ok_or_else(|| fail("its metadata has no version".into()))?;
        if version != u64::from(VERSION) {
            return Err(fail(format!(
                "its layout has version {version}, this program reads version {VERSION}"
            )));
        }
        serde_json::from_str(json).map_err(|e| fail(format!("its metadata is damaged ({e})")))
    }
}

/// The whole file, unless it is larger than any latent file.
fn read_bounded(path: &Path) -> Result<Vec<u8>> {
    let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => DataError::Missing {
            path: path.into(),
            expected: "a latent file as `veilray encode` writes".into(),
        },
        _ => DataError::io(path, "look at the file")(error),
    })?;
    if metadata.len() > MAX_FILE_BYTES {
        let (what, found) = ("its size in bytes".into(), metadata.len());
        return Err(DataError::TooLarge { path: path.into(), what, found, limit: MAX_FILE_BYTES });
    }
    std::fs::read(path).map_err(DataError::io(path, "read the latents"))
}

/// Rows of labels: 1, 0, and -1 for unknown.
fn read_labels(
    bytes: &[u8],
    films: usize,
    width: usize,
    fail: &impl Fn(String) -> DataError,
) -> Result<Vec<Vec<Option<bool>>>> {
    let label = |&byte: &u8| match byte {
        0 => Ok(Some(false)),
        1 => Ok(Some(true)),
        0xff => Ok(None),
        other => Err(fail(format!("expected labels 1, 0 or -1, found {}", other as i8))),
    };
    match width {
        0 => Ok(vec![Vec::new(); films]),
        width => bytes.chunks_exact(width).map(|row| row.iter().map(label).collect()).collect(),
    }
}

fn read_splits(bytes: &[u8], fail: &impl Fn(String) -> DataError) -> Result<Vec<Split>> {
    let split = |&byte: &u8| {
        let split = Split::ALL.get(usize::from(byte)).copied();
        split.ok_or_else(|| fail(format!("expected splits 0, 1 or 2, found {byte}")))
    };
    bytes.iter().map(split).collect()
}

struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    data: Vec<u8>,
}

impl Tensor {
    fn new(dtype: Dtype, shape: Vec<usize>, data: Vec<u8>) -> Self {
        Tensor { dtype, shape, data }
    }
}

impl View for Tensor {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.data)
    }

    fn data_len(&self) -> usize {
        self.data.len()
    }
}
