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

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::split::Limits;
use crate::{DataError, Fit, Result, Source};

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
        self.source.check()
    }
}
