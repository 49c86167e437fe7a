//! A run, as its TOML file says: where it is kept, its films, and the shape and training of both networks.
//!
//! Unknown fields are refused with their path, and so are values of a wrong type. The sections `[export]` and
//! `[encrypted]` belong to the encrypted side, which this crate does not know: they are carried as they
//! are, and read by [`section`] where they are used.

mod read;

use std::path::PathBuf;

use burn::tensor::Device;
use classifier::ClassifierConfig;
use datasets::{AttributesConfig, Augmentation, DataConfig};
use serde::{Deserialize, Serialize};
use vqgan::{
    DiscriminatorConfig, VqganConfig,
    loss::{AdversarialLoss, ReconstructionLoss},
    perceptual::SMALLEST_SIDE,
};

use crate::{
    Result, TrainError,
    average::AverageConfig,
    devices::{DeviceNames, Precision},
    optimizer::AdamConfig,
    schedule::Schedule,
};

pub use read::{parse, read, section};

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

/// The VQGAN: shape and training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VqganSection {
    /// Shape.
    pub model: VqganConfig,
    /// Training.
    pub train: VqganTraining,
}

/// How the VQGAN is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VqganTraining {
    /// Steps of the optimizer.
    pub steps: u64,
    /// Films a step, or in each part of one, see `accumulate`.
    pub batch: usize,
    /// Batches whose gradients are added up before the optimizer takes a step. Memory is that of one batch, the step that
    /// of `batch * accumulate` films. Several devices take one batch each at a time. 1.
    #[serde(default = "one_batch", skip_serializing_if = "is_one_batch")]
    pub accumulate: usize,
    /// Learning rate (4.5e-6 x batch in the paper).
    pub learning_rate: f64,
    /// How the learning rate changes over the steps.
    #[serde(default)]
    pub schedule: Schedule,
    /// Adam's constants; left out, those of the paper: beta 0.5 and 0.9.
    #[serde(default = "vqgan_adam")]
    pub adam: AdamConfig,
    /// Distance between a film and its reconstruction.
    #[serde(default)]
    pub reconstruction: ReconstructionLoss,
    /// Also compares films in the features of VGG16, from weights that the user supplies; left out, pixels alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub perceptual: Option<PerceptualTraining>,
    /// beta, the weight of the commitment term (0.25).
    #[serde(default = "quarter")]
    pub commitment: f64,
    /// Weight of the whole quantisation loss (1).
    #[serde(default = "one")]
    pub codebook_weight: f64,
    /// The codebook: warm-up, start and revival.
    #[serde(default)]
    pub codebook: CodebookTraining,
    /// The discriminator; left out, there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discriminator: Option<DiscriminatorTraining>,
    /// Small changes to training films; left out, none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub augment: Option<Augmentation>,
    /// Averages the weights over steps; the average is validated and kept. Left out, the last weights are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub average: Option<AverageConfig>,
    /// Keep a checkpoint `step-N.safetensors` after so many steps; left out, none besides best and last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_every: Option<u64>,
    /// Validate after so many steps, and at the end.
    pub validate_every: u64,
    /// At most so many validation films are reconstructed each time.
    #[serde(default = "many_films")]
    pub validation_films: usize,
    /// Write `last.safetensors` after so many steps, and at each validation.
    #[serde(default = "checkpoint_every")]
    pub checkpoint_every: u64,
}

/// The perceptual distance beside that of pixels, see [`vqgan::perceptual`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PerceptualTraining {
    /// File with VGG16 and the `lin` layers of LPIPS, by the names that [`vqgan::perceptual`] lists.
    pub weights: PathBuf,
    /// Its weight beside the distance of pixels (1, as in the reference implementation).
    #[serde(default = "one")]
    pub weight: f64,
}

/// How the codebook is started and kept alive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CodebookTraining {
    /// Steps without quantisation before the codebook is started from the encoder's outputs.
    pub warmup_steps: u64,
    /// Encoder outputs that the k-means start looks at.
    pub points: usize,
    /// Iterations of the k-means start.
    pub iterations: usize,
    /// A code not chosen in so many steps moves to an encoder output; 0 never.
    pub revive_after: u64,
    /// Codes are moving averages of the vectors that choose them, of which so much is left after each step (0.99), instead
    /// of following the gradient of the codebook loss. Left out, the gradient.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub average_decay: Option<f64>,
}

impl Default for CodebookTraining {
    fn default() -> Self {
        Self { warmup_steps: 100, points: 16384, iterations: 10, revive_after: 200, average_decay: None }
    }
}

/// How the discriminator is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiscriminatorTraining {
    /// Shape.
    pub model: DiscriminatorConfig,
    /// The step at which the game begins.
    pub start: u64,
    /// Factor on the adaptive weight (0.8 in the reference implementation).
    #[serde(default = "disc_weight")]
    pub weight: f64,
    /// The game.
    #[serde(default)]
    pub loss: AdversarialLoss,
    /// Learning rate; left out, that of the VQGAN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
}

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

fn vqgan_adam() -> AdamConfig {
    AdamConfig { beta_1: 0.5, beta_2: 0.9, ..AdamConfig::default() }
}

fn classifier_adam() -> AdamConfig {
    AdamConfig { weight_decay: 5e-4, amsgrad: true, ..AdamConfig::default() }
}

fn quarter() -> f64 {
    0.25
}

fn auxiliary_weight() -> f64 {
    0.3
}

fn half() -> f64 {
    0.5
}

fn one() -> f64 {
    1.0
}

fn one_batch() -> usize {
    1
}

/// Left out of what is written, so that runs from before there was a choice can be continued.
fn is_one_batch(batches: &usize) -> bool {
    *batches == 1
}

/// As [`is_one_batch`].
fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

fn disc_weight() -> f64 {
    0.8
}

fn many_films() -> usize {
    256
}

fn checkpoint_every() -> u64 {
    500
}

impl Config {
    /// Checks what can be checked without data.
    ///
    /// # Errors
    ///
    /// Names the first field that cannot work.
    pub fn validate(&self) -> Result<()> {
        self.data.check()?;
        self.vqgan.model.validate()?;
        self.run.precision.check(&self.run.device()?)?;
        let positive = |field: &'static str, value: f64| {
            if value > 0.0 && value.is_finite() {
                return Ok(());
            }
            let expected = "it must be a positive number".to_owned();
            Err(TrainError::Value { field, found: value.to_string(), expected })
        };
        let vqgan = &self.vqgan.train;
        let classifier = &self.classifier.train;
        positive("vqgan.train.steps", vqgan.steps as f64)?;
        positive("vqgan.train.batch", vqgan.batch as f64)?;
        positive("vqgan.train.accumulate", vqgan.accumulate as f64)?;
        positive("vqgan.train.learning_rate", vqgan.learning_rate)?;
        positive("vqgan.train.validate_every", vqgan.validate_every as f64)?;
        positive("vqgan.train.checkpoint_every", vqgan.checkpoint_every as f64)?;
        positive("vqgan.train.codebook.points", vqgan.codebook.points as f64)?;
        positive("classifier.train.epochs", classifier.epochs as f64)?;
        positive("classifier.train.batch", classifier.batch as f64)?;
        positive("classifier.train.accumulate", classifier.accumulate as f64)?;
        positive("classifier.train.learning_rate", classifier.learning_rate)?;
        for (field, average) in
            [("vqgan.train.average", vqgan.average), ("classifier.train.average", classifier.average)]
        {
            if average.is_some_and(|a| !(0.0..1.0).contains(&a.decay) || a.every == 0) {
                let expected = "decay must be at least 0 and below 1, every at least 1".to_owned();
                return Err(TrainError::Value { field, found: format!("{average:?}"), expected });
            }
        }
        if let Some(decay) = vqgan.codebook.average_decay.filter(|decay| !(0.0..1.0).contains(decay)) {
            let field = "vqgan.train.codebook.average_decay";
            let expected = "it must be at least 0 and below 1; 0.99 is usual".to_owned();
            return Err(TrainError::Value { field, found: decay.to_string(), expected });
        }
        if let Some(perceptual) = &vqgan.perceptual {
            positive("vqgan.train.perceptual.weight", perceptual.weight)?;
            let smallest = SMALLEST_SIDE;
            if self.data.side < smallest {
                return Err(TrainError::Value {
                    field: "data.side",
                    found: self.data.side.to_string(),
                    expected: format!("vqgan.train.perceptual needs films of at least {smallest} pixels"),
                });
            }
        }
        if let Some(augment) = &vqgan.augment {
            augment.check("vqgan.train.augment")?;
        }
        if let Some(augment) = &classifier.augment {
            augment.films.check("classifier.train.augment.films")?;
            if augment.shift > 64 || augment.copies > 64 {
                let found = format!("{augment:?}");
                let expected = "shift and copies must be at most 64".to_owned();
                return Err(TrainError::Value { field: "classifier.train.augment", found, expected });
            }
            if !(0.0..1.0).contains(&augment.gain) {
                let (field, found) = ("classifier.train.augment.gain", augment.gain.to_string());
                let expected = "it must be at least 0 and below 1".to_owned();
                return Err(TrainError::Value { field, found, expected });
            }
            if !(0.0..=1.0).contains(&augment.mix) {
                let (field, found) = ("classifier.train.augment.mix", augment.mix.to_string());
                let expected = "it must be from 0 to 1".to_owned();
                return Err(TrainError::Value { field, found, expected });
            }
        }
        for (field, weight) in [
            ("classifier.train.range_penalty", classifier.range_penalty),
            ("classifier.train.peak_penalty", classifier.peak_penalty),
        ] {
            if !(weight >= 0.0 && weight.is_finite()) {
                let expected = "it must be 0 or a positive number".to_owned();
                return Err(TrainError::Value { field, found: weight.to_string(), expected });
            }
        }
        if classifier.fixed_statistics && classifier.start_from.is_none() {
            let expected =
                "the statistics are those of classifier.train.start_from, which is missing".to_owned();
            let field = "classifier.train.fixed_statistics";
            return Err(TrainError::Value { field, found: "true".to_owned(), expected });
        }
        if let Some(auxiliary) = &classifier.auxiliary {
            positive("classifier.train.auxiliary.weight", auxiliary.weight)?;
            auxiliary.from.check("classifier.train.auxiliary.from")?;
        }
        if let Some(distill) = &classifier.distill {
            positive("classifier.train.distill.weight", distill.weight)?;
            positive("classifier.train.distill.temperature", distill.temperature)?;
            if distill.weight > 1.0 {
                let (field, found) = ("classifier.train.distill.weight", distill.weight.to_string());
                return Err(TrainError::Value { field, found, expected: "it must be at most 1".to_owned() });
            }
            if distill.teachers.is_empty() {
                let expected = "name at least one classifier, or leave the section out".to_owned();
                let field = "classifier.train.distill.teachers";
                return Err(TrainError::Value { field, found: "empty".to_owned(), expected });
            }
        }
        self.classifier_model(self.vqgan.model.latent_shape(), 1)?;
        if self.vqgan.model.side != self.data.side {
            return Err(TrainError::Value {
                field: "vqgan.model.side",
                found: self.vqgan.model.side.to_string(),
                expected: format!("it must be data.side, which is {}", self.data.side),
            });
        }
        Ok(())
    }

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
        if model.latent != latent {
            return Err(TrainError::Value {
                field: "classifier.model.latent",
                found: format!("{:?}", model.latent),
                expected: format!("the VQGAN's latents are {latent:?}; leave the field out to follow them"),
            });
        }
        if given && labels > 1 && model.labels != labels {
            return Err(TrainError::Value {
                field: "classifier.model.labels",
                found: model.labels.to_string(),
                expected: format!("the data set has {labels} labels; leave the field out to follow it"),
            });
        }
        Ok(model)
    }
}
