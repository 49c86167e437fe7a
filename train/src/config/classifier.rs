//! The section `[classifier]`: shape and training of the classifier.

use std::path::PathBuf;

use classifier::ClassifierConfig;
use datasets::{AttributesConfig, Augmentation};
use serde::{Deserialize, Serialize};

use super::{
    check::{ensure, positive},
    defaults::{is_one_batch, is_zero, one, one_batch},
    section,
};
use crate::{Config, Result, TrainError, average::AverageConfig, optimizer::AdamConfig, schedule::Schedule};

/// The classifier: shape and training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassifierSection {
    /// Shape: the fields of [`ClassifierConfig`]. `latent` and `labels` may be left out: they then follow
    /// from the VQGAN and the data set, see [`Config::classifier_model`].
    pub model: toml::Table,
    /// Training.
    pub train: ClassifierTraining,
}

/// How the classifier is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassifierTraining {
    /// Passes over the training films.
    pub epochs: u64,
    /// Films a step (128 in the paper), or in each part of one, see `accumulate`.
    pub batch: usize,
    /// As `vqgan.train.accumulate`; each batch is normalised by its own statistics, as batch norms do, and the running ones take
    /// the mean of the batches'. 1.
    #[serde(default = "one_batch", skip_serializing_if = "is_one_batch")]
    pub accumulate: usize,
    /// Learning rate (2e-4 in the paper).
    pub learning_rate: f64,
    /// How the learning rate changes over the steps.
    #[serde(default)]
    pub schedule: Schedule,
    /// Adam's constants; left out, those of the paper: weight decay 5e-4, amsgrad.
    #[serde(default = "classifier_adam")]
    pub adam: AdamConfig,
    /// Weight of the penalty on pre-activations outside their interval (0).
    #[serde(default)]
    pub range_penalty: f64,
    /// Weight of the penalty on the largest pre-activation of each film where that is outside the interval (0): a rare film, which
    /// hardly moves the mean over all values that `range_penalty` weighs, counts by its worst one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub peak_penalty: f64,
    /// Changes to training latents; left out, none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub augment: Option<LatentAugmentation>,
    /// Averages the weights over steps; the average is validated and kept. Left out, the last weights are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub average: Option<AverageConfig>,
    /// A classifier of the same shape, up to its activations, whose weights training starts from: a ReLU twin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_from: Option<PathBuf>,
    /// Batch norms normalise by the running statistics of `start_from`, as the exported network does, instead of by each batch's
    /// own: these shrink a film that explodes in training, so that no penalty sees what it will do afterwards. Off.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fixed_statistics: bool,
    /// Also learns what a table says about training films; dropped from the weights that are kept. Left out, findings alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auxiliary: Option<AuxiliaryTraining>,
    /// Also learns what other classifiers say of the same latents; left out, labels alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distill: Option<DistillTraining>,
    /// Keep a checkpoint `epoch-N.safetensors` after so many epochs; left out, none besides best and last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_every: Option<u64>,
    /// Whether rare findings weigh more: each label's positives count `negatives / positives`, at most this (1: no).
    #[serde(default = "one")]
    pub largest_positive_weight: f64,
}

/// Auxiliary targets: the head is given one logit more for each attribute while training lasts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuxiliaryTraining {
    /// Weight of their cross-entropy beside that of the findings (0.3).
    #[serde(default = "auxiliary_weight")]
    pub weight: f64,
    /// The attributes and the table that holds them; only what it says about training films is looked at.
    pub from: AttributesConfig,
}

/// Distillation (Hinton et al. 2015): part of the target is what trained classifiers say of the very latents of the batch, changed
/// as they may be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DistillTraining {
    /// Classifiers of latents of the same encoder, with the same labels, of any architecture and with any activations; the
    /// mean of their logits teaches.
    pub teachers: Vec<PathBuf>,
    /// Share of the loss that is the teachers', at most 1; the rest is that of the labels (0.5).
    #[serde(default = "half")]
    pub weight: f64,
    /// What logits are divided by in the teachers' part, whose gradient is scaled back by the square (1).
    #[serde(default = "one")]
    pub temperature: f64,
}

/// Changes to the latents that a classifier is trained on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LatentAugmentation {
    /// Shifts a latent by up to so many cells along each axis; cells from outside repeat the edge. 2.
    pub shift: usize,
    /// Encodes every training film so many times more, changed as `films` says, and draws one of them. 0.
    pub copies: usize,
    /// Multiplies a latent by a factor drawn evenly from `1 - gain` to `1 + gain`, so that activations meet larger values in
    /// training than those of its films. 0.
    #[serde(skip_serializing_if = "is_zero")]
    pub gain: f64,
    /// Mixes another training film into each with a share drawn evenly from 0 to `mix`: latents, labels, attributes, and what
    /// teachers say of them (mix-up, Zhang et al. 2018; with teachers Beyer et al. 2022, who draw from 0 to 1). 0.
    #[serde(skip_serializing_if = "is_zero")]
    pub mix: f64,
    /// How films are changed before they are encoded again.
    pub films: Augmentation,
}

impl Default for LatentAugmentation {
    fn default() -> Self {
        Self { shift: 2, copies: 0, gain: 0.0, mix: 0.0, films: Augmentation::default() }
    }
}

fn classifier_adam() -> AdamConfig {
    AdamConfig { weight_decay: 5e-4, amsgrad: true, ..AdamConfig::default() }
}

fn auxiliary_weight() -> f64 {
    0.3
}

fn half() -> f64 {
    0.5
}

impl Config {
    /// The classifier's shape, for latents of the given shape and so many labels.
    ///
    /// # Errors
    ///
    /// Names the field of `classifier.model` that cannot work, or that contradicts latents and labels.
    pub fn classifier_model(&self, latent: [usize; 3], labels: usize) -> Result<ClassifierConfig> {
        let mut table = self.classifier.model.clone();
        let given = table.contains_key("labels");
        let shape = latent.iter().map(|&n| toml::Value::Integer(n as i64)).collect();
        table.entry("latent").or_insert(toml::Value::Array(shape));
        table.entry("labels").or_insert(toml::Value::Integer(labels as i64));
        let model: ClassifierConfig = section(&table, "classifier.model")?;
        model.validate().map_err(|e| TrainError::Classifier(e.to_string()))?;
        ensure(
            model.latent == latent,
            "classifier.model.latent",
            format!("{:?}", model.latent),
            format!("the VQGAN's latents are {latent:?}; leave the field out to follow them"),
        )?;
        ensure(
            !given || labels <= 1 || model.labels == labels,
            "classifier.model.labels",
            model.labels,
            format!("the data set has {labels} labels; leave the field out to follow it"),
        )?;
        Ok(model)
    }
}

impl ClassifierTraining {
    pub(super) fn check(&self) -> Result<()> {
        positive([
            ("classifier.train.epochs", self.epochs as f64),
            ("classifier.train.batch", self.batch as f64),
            ("classifier.train.accumulate", self.accumulate as f64),
            ("classifier.train.learning_rate", self.learning_rate),
        ])?;
        if let Some(average) = self.average {
            average.check("classifier.train.average")?;
        }
        if let Some(augment) = &self.augment {
            augment.check()?;
        }
        for (field, weight) in [
            ("classifier.train.range_penalty", self.range_penalty),
            ("classifier.train.peak_penalty", self.peak_penalty),
        ] {
            let holds = weight >= 0.0 && weight.is_finite();
            ensure(holds, field, weight, "it must be 0 or a positive number")?;
        }
        ensure(
            !self.fixed_statistics || self.start_from.is_some(),
            "classifier.train.fixed_statistics",
            true,
            "the statistics are those of classifier.train.start_from, which is missing",
        )?;
        if let Some(auxiliary) = &self.auxiliary {
            positive([("classifier.train.auxiliary.weight", auxiliary.weight)])?;
            auxiliary.from.check("classifier.train.auxiliary.from")?;
        }
        self.distill.as_ref().map_or(Ok(()), DistillTraining::check)
    }
}

impl DistillTraining {
    fn check(&self) -> Result<()> {
        positive([
            ("classifier.train.distill.weight", self.weight),
            ("classifier.train.distill.temperature", self.temperature),
        ])?;
        let at_most = "it must be at most 1";
        ensure(self.weight <= 1.0, "classifier.train.distill.weight", self.weight, at_most)?;
        let expected = "name at least one classifier, or leave the section out";
        ensure(!self.teachers.is_empty(), "classifier.train.distill.teachers", "empty", expected)
    }
}

impl LatentAugmentation {
    fn check(&self) -> Result<()> {
        self.films.check("classifier.train.augment.films")?;
        let small = self.shift <= 64 && self.copies <= 64;
        let expected = "shift and copies must be at most 64";
        ensure(small, "classifier.train.augment", format!("{self:?}"), expected)?;
        let (gain, mix) = (0.0..1.0, 0.0..=1.0);
        let expected = "it must be at least 0 and below 1";
        ensure(gain.contains(&self.gain), "classifier.train.augment.gain", self.gain, expected)?;
        let expected = "it must be from 0 to 1";
        ensure(mix.contains(&self.mix), "classifier.train.augment.mix", self.mix, expected)
    }
}
