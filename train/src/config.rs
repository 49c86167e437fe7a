//! A run, as its TOML file says: where it is kept, its films, and the shape and training of both networks.
//!
//! Unknown fields are refused with their path, and so are values of a wrong type. The sections `[export]` and
//! `[encrypted]` belong to the encrypted side, which this crate does not know: they are carried as they
//! are, and read by [`section`] where they are used.

mod check;
mod classifier;
mod defaults;
mod read;
mod vqgan;

use std::path::PathBuf;

use burn::tensor::Device;
use datasets::DataConfig;
use serde::{Deserialize, Serialize};

use crate::{
    Result,
    devices::{DeviceNames, Precision},
};

pub use classifier::{
    AuxiliaryTraining, ClassifierSection, ClassifierTraining, DistillTraining, LatentAugmentation,
};
pub use read::{merge, parse, read, section};
pub use vqgan::{CodebookTraining, DiscriminatorTraining, PerceptualTraining, VqganSection, VqganTraining};

/// A whole run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the run is kept and what it repeats from.
    pub run: RunConfig,
    /// The films.
    pub data: DataConfig,
    /// The VQGAN.
    pub vqgan: VqganSection,
    /// The classifier.
    pub classifier: ClassifierSection,
    /// Export to the encrypted side, see [`section`].
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub export: toml::Table,
    /// Encrypted evaluation, see [`section`].
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub encrypted: toml::Table,
    /// Lists of values that fields take in the runs of a sweep, see [`crate::sweep`]; a single run does not look at it.
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub sweep: toml::Table,
}

/// Where a run is kept and what it repeats from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Folder of the run.
    pub dir: PathBuf,
    /// Every random choice derives from this number.
    #[serde(default)]
    pub seed: u64,
    /// `flex` (the CPU); other devices need a build with their feature. A list of several shares a step's batches out among them,
    /// see `accumulate`.
    #[serde(default)]
    pub device: DeviceNames,
    /// The type of the products of training. f32.
    #[serde(default, skip_serializing_if = "Precision::is_f32")]
    pub precision: Precision,
}

impl RunConfig {
    /// The first of the devices that [`RunConfig::device`] names: where what is done once is done.
    ///
    /// # Errors
    ///
    /// As [`DeviceNames::open`].
    pub fn device(&self) -> Result<Device> {
        Ok(self.device.open()?.swap_remove(0))
    }

    /// What training computes depends on, for a checkpoint to be refused by. Devices are not part of it, and the precision is where
    /// it is another than f32, so that runs from before there was a choice can be continued.
    pub(crate) fn fingerprint(&self) -> Vec<(&'static str, serde_json::Value)> {
        let mut parts = vec![("run.seed", serde_json::json!(self.seed))];
        parts
            .extend((!self.precision.is_f32()).then(|| ("run.precision", serde_json::json!(self.precision))));
        parts
    }
}

impl Config {
    /// Checks what can be checked without data.
    ///
    /// # Errors
    ///
    /// Names the first field that cannot work.
    pub fn validate(&self) -> Result<()> {
        self.data.check()?;
        self.run.precision.check(&self.run.device()?)?;
        self.vqgan.check(self.data.side)?;
        self.classifier.train.check()?;
        self.classifier_model(self.vqgan.model.latent_shape(), 1).map(drop)
    }
}
