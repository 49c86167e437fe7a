//! The section `[vqgan]`: shape and training of the VQGAN.

use std::path::PathBuf;

use datasets::Augmentation;
use serde::{Deserialize, Serialize};
use vqgan::{
    DiscriminatorConfig, VqganConfig,
    loss::{AdversarialLoss, ReconstructionLoss},
    perceptual::SMALLEST_SIDE,
};

use super::{
    check::{ensure, positive},
    defaults::{is_one_batch, one, one_batch},
};
use crate::{Result, average::AverageConfig, optimizer::AdamConfig, schedule::Schedule};

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

fn vqgan_adam() -> AdamConfig {
    AdamConfig { beta_1: 0.5, beta_2: 0.9, ..AdamConfig::default() }
}

fn quarter() -> f64 {
    0.25
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

impl VqganSection {
    /// Checks shape and training, for films of `side` pixels.
    pub(super) fn check(&self, side: usize) -> Result<()> {
        self.model.validate()?;
        let expected = format!("it must be data.side, which is {side}");
        ensure(self.model.side == side, "vqgan.model.side", self.model.side, expected)?;
        self.train.check(side)
    }
}

impl VqganTraining {
    fn check(&self, side: usize) -> Result<()> {
        positive([
            ("vqgan.train.steps", self.steps as f64),
            ("vqgan.train.batch", self.batch as f64),
            ("vqgan.train.accumulate", self.accumulate as f64),
            ("vqgan.train.learning_rate", self.learning_rate),
            ("vqgan.train.validate_every", self.validate_every as f64),
            ("vqgan.train.checkpoint_every", self.checkpoint_every as f64),
            ("vqgan.train.codebook.points", self.codebook.points as f64),
        ])?;
        if let Some(average) = self.average {
            average.check("vqgan.train.average")?;
        }
        if let Some(decay) = self.codebook.average_decay {
            let expected = "it must be at least 0 and below 1; 0.99 is usual";
            let field = "vqgan.train.codebook.average_decay";
            ensure((0.0..1.0).contains(&decay), field, decay, expected)?;
        }
        if let Some(perceptual) = &self.perceptual {
            positive([("vqgan.train.perceptual.weight", perceptual.weight)])?;
            let expected = format!("vqgan.train.perceptual needs films of at least {SMALLEST_SIDE} pixels");
            ensure(side >= SMALLEST_SIDE, "data.side", side, expected)?;
        }
        if let Some(augment) = &self.augment {
            augment.check("vqgan.train.augment")?;
        }
        Ok(())
    }
}
