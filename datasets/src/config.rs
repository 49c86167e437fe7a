//! The configuration of a data set: where the films come from, at what size, and how they are split.
//!
//! ```toml
//! [data]
//! side = 64                          # pixels; films are resized to side x side
//! validation_fraction = 0.1
//! labels = ["Cardiomegaly", "Edema"] # leave out for all of them
//!
//! [data.source.nih]
//! root = "../data/nih"
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{DataError, Fit, Result};

/// The largest side a film may be resized to, in pixels.
pub const MAX_SIDE: usize = 2048;

/// A data set, its resolution and its splits. Unknown fields are refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Where the films come from.
    #[serde(default)]
    pub source: Source,

    /// Films are resized to `side x side` pixels (8 to 2048). 64.
    #[serde(default = "default_side")]
    pub side: usize,

    /// How a film that is not square becomes square: `crop` (the central square), `pad` or `stretch`. `crop`.
    #[serde(default)]
    pub fit: Fit,

    /// The labels to keep, in this order; empty keeps all labels of the source.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,

    /// Decides which patients go to validation and test, and which films a limit keeps. 0.
    #[serde(default)]
    pub seed: u64,

    /// The part of the patients that become validation, where the source names none. 0.1.
    #[serde(default = "default_validation_fraction")]
    pub validation_fraction: f64,

    /// The part of the patients that become test, where the source names none. 0.2.
    #[serde(default = "default_test_fraction")]
    pub test_fraction: f64,

    /// A folder for resized films, so that image files are decoded once. No cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<PathBuf>,

    /// Keeps at most so many films of a split, chosen by the seed. No limit.
    #[serde(default, skip_serializing_if = "Limits::is_none")]
    pub limits: Limits,
}

/// The largest number of films kept in each split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Training films.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train: Option<usize>,
    /// Validation films.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<usize>,
    /// Test films.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<usize>,
}

impl Limits {
    fn is_none(&self) -> bool {
        *self == Limits::default()
    }
}

/// Where films come from: exactly one of these tables.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Source {
    /// The built-in generator of synthetic chest films.
    Phantom(PhantomConfig),
    /// NIH ChestX-ray14 in its own directory layout.
    Nih(NihConfig),
    /// A MedMNIST array file.
    Npz(NpzConfig),
    /// A folder of images with a CSV file.
    Folder(FolderConfig),
    /// CheXpert in its own directory layouts.
    Chexpert(CheXpertConfig),
    /// MNIST as IDX files.
    Mnist(MnistConfig),
    /// CIFAR-10 in its binary version.
    Cifar10(CifarConfig),
}

impl Default for Source {
    fn default() -> Self {
        Source::Phantom(PhantomConfig::default())
    }
}

/// The built-in phantom (see [`crate::phantom`]).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PhantomConfig {
    /// Films in all splits together. 3000.
    pub films: usize,
    /// Films per patient, same anatomy. 3.
    pub films_per_patient: usize,
    /// Decides anatomies, findings and noise. 0.
    pub seed: u64,
}

impl Default for PhantomConfig {
    fn default() -> Self {
        PhantomConfig { films: 3000, films_per_patient: 3, seed: 0 }
    }
}

/// NIH ChestX-ray14: a folder with `Data_Entry_2017*.csv` (or `sample_labels.csv`) and PNG files anywhere below.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NihConfig {
    /// The folder.
    pub root: PathBuf,
}

/// A MedMNIST array file: `{train,val,test}_{images,labels}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NpzConfig {
    /// The `.npz` file. A `<name>_index.csv.gz` (or `.csv`) beside it gives patients and film names.
    pub path: PathBuf,
    /// Names of the label columns, or of the classes. Empty: the 14 NIH names where there are 14 columns,
    /// numbers otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub label_names: Vec<String>,
}

/// A folder of PNG, JPEG or DICOM images and a CSV file with a row per image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FolderConfig {
    /// The folder; image names in the CSV file are relative to it.
    pub root: PathBuf,
    /// The CSV file, relative to the folder. Left out: `labels.csv`, or the only CSV file there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csv: Option<PathBuf>,
    /// The column with the image's file name. Left out: the first of `image`, `file`, `filename`, `path`, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_column: Option<String>,
    /// The column with the patient. Left out: the first of `patient`, `patient_id`, `subject_id`, ...; where
    /// there is none, each film is its own patient.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patient_column: Option<String>,
    /// The column with `train`, `validation` or `test`. Left out: `split`, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split_column: Option<String>,
    /// The columns that are labels: 1, 0, blank or -1 for unknown. Left out: every other column that holds
    /// only such values, or one column of names joined by `|`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub label_columns: Vec<String>,
}

/// CheXpert: a folder with `train.csv` and `train/`, the folder above it, or the AIMI download.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheXpertConfig {
    /// The folder.
    pub root: PathBuf,
    /// A table of labels that replaces those of `train.csv`, as `train_cheXbert.csv`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels_file: Option<PathBuf>,
    /// What an uncertain label (-1) becomes: `ignore` (masked), `zeros` or `ones`. `ignore`.
    #[serde(default)]
    pub uncertainty: Uncertainty,
    /// The same for single labels, as `Atelectasis = "ones"`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub uncertainty_by_label: BTreeMap<String, Uncertainty>,
    /// What a blank label (not mentioned) becomes. `zeros`, as almost everywhere.
    #[serde(default = "default_blank")]
    pub blank: Uncertainty,
    /// Leaves out lateral films. `true`.
    #[serde(default = "default_true")]
    pub frontal_only: bool,
}

/// What a label becomes that is neither positive nor negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Uncertainty {
    /// Unknown: masked in losses and metrics.
    #[default]
    Ignore,
    /// Negative.
    Zeros,
    /// Positive.
    Ones,
}

/// MNIST: a folder with the four IDX files, plain or `.gz`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MnistConfig {
    /// The folder.
    pub root: PathBuf,
}

/// CIFAR-10: a folder with `data_batch_1.bin` ... and `test_batch.bin`, plain or `.gz`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CifarConfig {
    /// The folder.
    pub root: PathBuf,
}

impl CheXpertConfig {
    /// CheXpert with the default treatment of uncertain and blank labels.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        CheXpertConfig {
            root: root.into(),
            labels_file: None,
            uncertainty: Uncertainty::Ignore,
            uncertainty_by_label: BTreeMap::new(),
            blank: default_blank(),
            frontal_only: true,
        }
    }
}

fn default_blank() -> Uncertainty {
    Uncertainty::Zeros
}

fn default_true() -> bool {
    true
}

impl FolderConfig {
    /// A folder whose CSV file and columns are found by their usual names.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        FolderConfig {
            root: root.into(),
            csv: None,
            image_column: None,
            patient_column: None,
            split_column: None,
            label_columns: Vec::new(),
        }
    }
}

fn default_side() -> usize {
    64
}

fn default_validation_fraction() -> f64 {
    0.1
}

fn default_test_fraction() -> f64 {
    0.2
}

impl Default for DataConfig {
    fn default() -> Self {
        DataConfig::new(Source::default())
    }
}

impl DataConfig {
    /// A data set with the default resolution and splits.
    #[must_use]
    pub fn new(source: Source) -> Self {
        DataConfig {
            source,
            side: default_side(),
            fit: Fit::default(),
            labels: Vec::new(),
            seed: 0,
            validation_fraction: default_validation_fraction(),
            test_fraction: default_test_fraction(),
            cache: None,
            limits: Limits::default(),
        }
    }

    /// Checks what can be checked without opening a file.
    ///
    /// # Errors
    /// Names the field that cannot work.
    pub fn check(&self) -> Result<()> {
        if !(8..=MAX_SIDE).contains(&self.side) {
            return Err(DataError::config(
                "side",
                format!("expected 8 to {MAX_SIDE} pixels, got {}", self.side),
                "64 is quick, 256 is what chest film VQGANs use",
            ));
        }
        for (field, value) in
            [("validation_fraction", self.validation_fraction), ("test_fraction", self.test_fraction)]
        {
            if !(0.0..1.0).contains(&value) {
                return Err(DataError::config(
                    field,
                    format!("expected a part between 0 and 1, got {value}"),
                    "0.1 keeps a tenth of the patients",
                ));
            }
        }
        if self.validation_fraction + self.test_fraction >= 1.0 {
            return Err(DataError::config(
                "validation_fraction",
                format!(
                    "validation ({}) and test ({}) together leave no patients for training",
                    self.validation_fraction, self.test_fraction
                ),
                "make them smaller",
            ));
        }
        if let Some(twice) = self
            .labels
            .iter()
            .enumerate()
            .find(|(i, label)| self.labels[..*i].contains(label))
            .map(|(_, l)| l)
        {
            return Err(DataError::config(
                "labels",
                format!("{twice:?} is named twice"),
                "name each label once",
            ));
        }
        if let Source::Phantom(phantom) = &self.source {
            phantom.check()?;
        }
        Ok(())
    }
}

impl PhantomConfig {
    fn check(&self) -> Result<()> {
        if !(1..=1_000_000).contains(&self.films) {
            return Err(DataError::config(
                "source.phantom.films",
                format!("expected 1 to 1000000 films, got {}", self.films),
                "3000 train a small classifier",
            ));
        }
        if self.films_per_patient == 0 {
            return Err(DataError::config(
                "source.phantom.films_per_patient",
                "expected at least 1, got 0",
                "3 gives every patient three films",
            ));
        }
        Ok(())
    }
}
