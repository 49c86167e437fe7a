//! Training the VQGAN.
//!
//! One step: reconstruct a batch, add up reconstruction, quantisation and (after its start) adversarial losses, one
//! Adam step for the autoencoder, one for the discriminator. The codebook starts as the k-means centres of the
//! encoder's outputs after a warm-up without quantisation. Every random choice derives from the run's seed and the
//! step, so a resumed run computes what an uninterrupted one would have.

mod evaluation;
mod losses;
mod pass;
mod perceptual;
mod player;
mod step;

use std::{path::Path, sync::Arc};

use burn::tensor::Device;
use datasets::Split;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use vqgan::{Vqgan, VqganConfig};

pub use evaluation::VqganFigures;
pub(crate) use evaluation::evaluate as evaluate_vqgan;

use crate::{
    Config, Result, Session, TrainError,
    checkpoint::{Checkpoint, Kind, refusal},
    config::VqganTraining,
    films::{Batches, Films, open_dataset},
    sampler::{batch_of_step, derived_seed, steps_per_epoch},
    session::fingerprint,
    stage::{self, Log, OTHER_ARCHITECTURE, Rhythm, Run, Stage, Stepped},
    state::{State, apply, collect, seeded},
    workers::Workers,
};
use step::Trainer;

/// Figures are averaged over so many steps before they become a row.
const LOG_EVERY: u64 = 20;

/// What training the VQGAN gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VqganReport {
    /// Steps done.
    pub steps: u64,
    /// Seconds of training over all sessions.
    pub seconds: f64,
    /// Figures on the validation films, of the weights that were kept.
    pub best: VqganFigures,
    /// Digest of the kept weights.
    pub digest: String,
}

/// Trains the VQGAN in `session`'s run folder, from where it stands.
///
/// Writes `vqgan/model.safetensors` (best validation), `vqgan/last.safetensors`, `metrics.csv`, `metrics.json`,
/// `reconstructions.png` and TensorBoard events. A finished run returns at once.
///
/// # Errors
///
/// Configuration, data or checkpoint cannot be used; the loss is no longer a number; or the user interrupted.
pub fn train_vqgan(config: &Config, session: &Session<'_>) -> Result<VqganReport> {
    config.validate()?;
    let mut stage = VqganStage::new(config, session)?;
    let settings = &config.vqgan.train;
    let run = Run {
        config,
        model: json!(config.vqgan.model),
        fingerprint: stage.fingerprint(config),
        folder: session.vqgan_dir(),
        best: session.vqgan_model(),
        average: settings.average,
        rhythm: Rhythm {
            total: settings.steps,
            log_every: Some(LOG_EVERY),
            validate_every: settings.validate_every,
            checkpoint_every: settings.checkpoint_every,
            keep_every: settings.keep_every,
            unit: ("step", 1),
        },
    };
    let trained = stage::train(&mut stage, &run, session)?;
    let (steps, seconds) = (trained.steps, trained.seconds);
    Ok(VqganReport { steps, seconds, best: trained.best, digest: trained.digest })
}

/// A VQGAN in training: its films, and what learns from them.
struct VqganStage<'a> {
    settings: &'a VqganTraining,
    seed: u64,
    session: &'a Session<'a>,
    films: Films,
    train: Vec<usize>,
    validation: Vec<usize>,
    workers: Workers,
    trainer: Trainer,
    batches: Option<Batches>,
    averages: losses::Averages,
    /// Steps done.
    done: u64,
}

/// What an exact resume needs besides tensors.
#[derive(Default, Serialize, Deserialize)]
struct Memory {
    discriminator_steps: u64,
    /// Steps since each code was chosen.
    idle: Vec<u64>,
}

impl<'a> VqganStage<'a> {
    fn new(config: &'a Config, session: &'a Session<'a>) -> Result<Self> {
        let settings = &config.vqgan.train;
        let dataset = Arc::new(open_dataset(&config.data, session)?);
        let split = |split, advice| match dataset.indices(split) {
            films if films.is_empty() => Err(TrainError::EmptySplit { split, advice }),
            films => Ok(films),
        };
        let train = split(Split::Train, "check data.limits and the data set's own lists")?;
        let mut validation = split(Split::Validation, "raise data.validation_fraction")?;
        validation.truncate(settings.validation_films.max(1));
        let workers = Workers::new(&config.run, settings.accumulate, session.progress())?;
        let mut trainer = Trainer::new(config, workers.main())?;
        if let Some(perceptual) = &settings.perceptual {
            trainer.perceptual = workers.equip(|device| perceptual::Loaded::read(perceptual, device))?;
        }
        Ok(Self {
            settings,
            seed: config.run.seed,
            session,
            films: Films::new(dataset),
            train,
            validation,
            workers,
            trainer,
            batches: None,
            averages: losses::Averages::default(),
            done: 0,
        })
    }

    fn fingerprint(&self, config: &Config) -> Value {
        let mut parts = config.run.fingerprint();
        let data = self.films.dataset().digest();
        parts.extend([("data", json!(data)), ("vqgan", json!(config.vqgan))]);
        let perceptual = self.trainer.perceptual.first();
        parts.extend(perceptual.map(|perceptual| ("perceptual weights", json!(perceptual.digest))));
        fingerprint(&parts)
    }

    fn films_per_step(&self) -> usize {
        self.settings.batch.saturating_mul(self.settings.accumulate)
    }
}

impl Stage for VqganStage<'_> {
    type Net = Vqgan;
    type Figures = VqganFigures;
    type Memory = Memory;

    const KIND: Kind = Kind::Vqgan;
    const NAME: &'static str = "VQGAN";
    const TRAINING: &'static str = "VQGAN training";

    fn resume(
        &mut self,
        checkpoint: &Checkpoint,
        memory: Memory,
        step: u64,
    ) -> std::result::Result<(), String> {
        self.done = step;
        self.trainer.resume(checkpoint, step, memory.discriminator_steps, self.workers.main())?;
        self.trainer.usage.restore_idle(&memory.idle);
        Ok(())
    }

    /// Begins to read films ahead.
    fn prepare(&mut self, step: u64) -> Result<()> {
        let order_seed = derived_seed(self.seed, "vqgan order", 0);
        let (order, batch, per_step) = (self.train.clone(), self.settings.batch, self.films_per_step());
        let per_epoch = steps_per_epoch(order.len(), per_step);
        let steps = (step..self.settings.steps).flat_map(move |step| {
            let films = batch_of_step(&order, per_step, order_seed, step);
            films.chunks(batch).map(|part| (part.to_vec(), step / per_epoch)).collect::<Vec<_>>()
        });
        let change = self.settings.augment.map(|change| (change, derived_seed(self.seed, "vqgan films", 0)));
        self.batches = Some(self.films.read_ahead_changed(steps, change));
        Ok(())
    }

    fn step(&mut self, step: u64) -> Result<Stepped> {
        let parts = self.films_per_step().min(self.train.len()).div_ceil(self.settings.batch);
        let next = self.batches.as_ref().map(|b| b.next_parts(parts, |part| self.workers.device_of(part)));
        let (indices, parts) = next.transpose()?.flatten().ok_or_else(|| TrainError::Io {
            file: "the films".into(),
            action: "read ahead",
            source: std::io::Error::other("the thread that decodes them has ended"),
        })?;
        let jumped = self.trainer.codebook_is_due(step);
        if jumped {
            self.trainer.start_codebook(&self.films, &self.train, self.seed)?;
            self.session.progress().note("codebook started from the encoder's outputs");
        }
        let losses = self.trainer.step(&parts, step, self.seed, &self.workers).map_err(|broken| {
            let names = indices.iter().map(|part| self.films.names(part)).collect::<Vec<_>>();
            broken.on(Self::TRAINING, step + 1, &names, &self.session.vqgan_dir())
        })?;
        self.averages.add(&losses);
        self.done = step + 1;
        let films = indices.iter().map(Vec::len).sum();
        Ok(Stepped { films, loss: losses.reconstruction, jumped })
    }

    fn log(&mut self, log: &mut Log<'_>) -> Result<()> {
        let mut figures = self.averages.take();
        // The first batch is waited for by everybody; what matters is that the share falls from there.
        let waited = self.batches.as_ref().map_or(0.0, |batches| batches.waited().as_secs_f64());
        let share = waited / log.seconds.max(1e-9);
        figures.push(("train/share_of_time_waiting_for_films".into(), share));
        log.row(figures.iter().map(|(name, value)| (name.as_str(), *value)))
    }

    fn validate(
        &mut self,
        average: Option<&State>,
        log: &mut Log<'_>,
    ) -> Result<Option<(Vqgan, VqganFigures)>> {
        let mut net = self.trainer.net_for_inference();
        if let Some(weights) = average {
            let file = self.session.vqgan_dir();
            net = apply(net, weights).map_err(|problem| refusal(&file, problem, OTHER_ARCHITECTURE))?;
        }
        let quantise = self.trainer.quantises(self.done - 1);
        let codes = self.trainer.codes();
        let (figures, grid) = evaluation::evaluate(&net, quantise, &self.films, &self.validation, codes)?;
        log.row(figures.named())?;
        log.picture("validation/films_and_reconstructions", "reconstructions.png", &grid)?;
        // Weights that were never quantised make latents that no codebook knows.
        let candidate = quantise || self.done == self.settings.steps;
        Ok((candidate && figures.psnr.is_finite()).then_some((net, figures)))
    }

    fn is_better(&self, figures: &VqganFigures, best: &VqganFigures) -> bool {
        figures.psnr > best.psnr
    }

    fn chosen(&mut self, figures: &VqganFigures, step: u64) -> Value {
        json!({ "step": step, "validation": figures })
    }

    fn weights(&self) -> State {
        collect(&self.trainer.net)
    }

    fn beside(&self) -> State {
        self.trainer.beside()
    }

    fn memory(&self) -> Memory {
        let idle = self.trainer.usage.idle().to_vec();
        Memory { discriminator_steps: self.trainer.discriminator_steps(), idle }
    }

    fn summary(&self, best: &VqganFigures) -> String {
        let codes = 100.0 * best.codes_used;
        format!("validation PSNR {:.1} dB, {codes:.0} % of the codes in use", best.psnr)
    }

    fn nothing_kept(&self) -> (String, &'static str) {
        let problem = "no validation gave numbers";
        (problem.to_owned(), "lower vqgan.train.learning_rate, or clip gradients (clip_norm)")
    }
}

/// Reads a VQGAN.
///
/// # Errors
///
/// The file is missing, damaged, or of another network or architecture.
pub fn load_vqgan(path: &Path, device: &Device) -> Result<(VqganConfig, Vqgan)> {
    let checkpoint = Checkpoint::load(path, Kind::Vqgan)?;
    let config = vqgan_config(path, &checkpoint)?;
    // All weights are replaced; builders take turns all the same, or another one's would not follow from its seed.
    let net = seeded(device, 0, || config.init(device))?;
    let net =
        apply(net, &checkpoint.tensors).map_err(|problem| refusal(path, problem, OTHER_ARCHITECTURE))?;
    Ok((config, net))
}

fn vqgan_config(path: &Path, checkpoint: &Checkpoint) -> Result<VqganConfig> {
    serde_json::from_value(checkpoint.model.clone()).map_err(|e| {
        let problem = format!("its configuration is not that of a VQGAN ({e})");
        refusal(path, problem, "it was written by another version: train again")
    })
}
