//! Training the VQGAN.
//!
//! One step: reconstruct a batch, add up reconstruction, quantisation and (after its start) adversarial losses, one
//! Adam step for the autoencoder, one for the discriminator. The codebook starts as the k-means centres of the
//! encoder's outputs after a warm-up without quantisation. Every random choice derives from the run's seed and the
//! step, so a resumed run computes what an uninterrupted one would have.

mod evaluation;
mod perceptual;
mod step;

use std::{path::Path, sync::Arc};

use burn::tensor::Device;
use datasets::Split;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use vqgan::{Vqgan, VqganConfig, codebook::CodeUsage};

pub use evaluation::VqganFigures;
pub(crate) use evaluation::evaluate as evaluate_vqgan;

use crate::{
    Config, Result, Session, TrainError,
    average::Average,
    checkpoint::{Checkpoint, Kind, refusal},
    films::{Films, open_dataset},
    history::History,
    progress::Meter,
    sampler::{batch_of_step, derived_seed, steps_per_epoch},
    session::{check_same_run, fingerprint},
    state::{apply, collect, seeded},
    tensorboard::EventWriter,
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

/// Where training stands: what a checkpoint carries besides tensors.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Progress {
    step: u64,
    discriminator_steps: u64,
    seconds: f64,
    idle: Vec<u64>,
    best: Option<VqganFigures>,
    best_digest: String,
    history: History,
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
    let dataset = Arc::new(open_dataset(&config.data, session)?);
    let split = |split, advice| match dataset.indices(split) {
        films if films.is_empty() => Err(TrainError::EmptySplit { split, advice }),
        films => Ok(films),
    };
    let train = split(Split::Train, "check data.limits and the data set's own lists")?;
    let mut validation = split(Split::Validation, "raise data.validation_fraction")?;
    validation.truncate(config.vqgan.train.validation_films.max(1));
    let films = Films::new(Arc::clone(&dataset));

    let settings = &config.vqgan.train;
    let folder = session.vqgan_dir();
    let last = folder.join("last.safetensors");
    let workers = Workers::new(&config.run, settings.accumulate, session.progress())?;
    let device = workers.main().clone();
    let perceptual = match &settings.perceptual {
        Some(perceptual) => workers.equip(|device| perceptual::Loaded::read(perceptual, device))?,
        None => Vec::new(),
    };
    let mut parts = config.run.fingerprint();
    parts.extend([("data", json!(dataset.digest())), ("vqgan", json!(config.vqgan))]);
    parts.extend(perceptual.first().map(|perceptual| ("perceptual weights", json!(perceptual.digest))));
    let fingerprint = fingerprint(&parts);
    let mut average = settings.average.map(Average::new);
    let (mut trainer, mut progress) = match Checkpoint::load(&last, Kind::Vqgan) {
        Ok(checkpoint) => {
            check_same_run(&last, &checkpoint, &fingerprint)?;
            average = settings.average.map(|a| Average::restore(a, checkpoint.part("average.")));
            restore(config, &checkpoint, &last, &device)?
        }
        Err(TrainError::Missing { .. }) => (Trainer::new(config, &device)?, Progress::default()),
        Err(error) => return Err(error),
    };
    if progress.step >= settings.steps
        && let Some(best) = progress.best
    {
        let digest = progress.best_digest;
        return Ok(VqganReport { steps: progress.step, seconds: progress.seconds, best, digest });
    }
    trainer.perceptual = perceptual;
    session.write_config(config)?;

    let mut events = EventWriter::create(&folder)?;
    let seed = derived_seed(config.run.seed, "vqgan order", 0);
    let (order, batch, first) = (train.clone(), settings.batch, progress.step);
    let per_step = batch.saturating_mul(settings.accumulate);
    let per_epoch = steps_per_epoch(train.len(), per_step);
    let parts_per_step = per_step.min(train.len()).div_ceil(batch);
    let change = settings.augment.map(|change| (change, derived_seed(config.run.seed, "vqgan films", 0)));
    let steps = (first..settings.steps).flat_map(move |step| {
        let films = batch_of_step(&order, per_step, seed, step);
        films.chunks(batch).map(|part| (part.to_vec(), step / per_epoch)).collect::<Vec<_>>()
    });
    let batches = films.read_ahead_changed(steps, change);
    let listener = session.progress();
    listener.start("VQGAN", settings.steps, progress.step);
    let mut meter = Meter::new();
    let earlier = progress.seconds;
    let mut averages = step::Averages::default();

    while let Some((indices, parts)) = batches.next_parts(parts_per_step, |part| workers.device_of(part))? {
        let step = progress.step;
        if trainer.codebook_is_due(step) {
            trainer.start_codebook(&films, &train, config.run.seed)?;
            if let Some(average) = &mut average {
                average.reset();
            }
            listener.note("codebook started from the encoder's outputs");
        }
        let losses = trainer.step(&parts, step, config.run.seed, &workers).map_err(|broken| {
            let names = indices.iter().map(|part| films.names(part)).collect::<Vec<_>>();
            broken.on("VQGAN training", step + 1, &names, &folder)
        })?;
        let count = indices.iter().map(Vec::len).sum();
        progress.step += 1;
        if let Some(average) = average.as_mut().filter(|average| average.is_due(progress.step)) {
            average.add(progress.step, collect(&trainer.net));
        }
        progress.seconds = earlier + meter.seconds();
        averages.add(&losses);
        listener.step(progress.step, &meter.add(count, losses.reconstruction));

        let at_end = progress.step == settings.steps;
        if progress.step.is_multiple_of(LOG_EVERY) || at_end {
            let mut figures = averages.take();
            // The first batch is waited for by everybody; what matters is that the share falls from there.
            let waited = batches.waited().as_secs_f64() / meter.seconds().max(1e-9);
            figures.push(("train/share_of_time_waiting_for_films".into(), waited));
            events.scalars(progress.step, figures.iter().map(|(name, value)| (name.as_str(), *value)))?;
            progress.history.push(progress.step, figures.iter().map(|(name, value)| (name.as_str(), *value)));
        }
        let validate = progress.step.is_multiple_of(settings.validate_every) || at_end;
        if validate {
            let mut net = trainer.net_for_inference();
            if let Some(weights) = average.as_ref().and_then(Average::weights) {
                net = apply(net, weights).map_err(|problem| refusal(&last, problem, OTHER_ARCHITECTURE))?;
            }
            let quantise = trainer.quantises(step);
            let (figures, grid) =
                evaluation::evaluate(&net, quantise, &films, &validation, config.vqgan.model.codes)?;
            events.scalars(progress.step, figures.named())?;
            events.picture(progress.step, "validation/films_and_reconstructions", &grid)?;
            grid.save(&folder.join("reconstructions.png"))?;
            progress.history.push(progress.step, figures.named());
            // Weights that were never quantised make latents that no codebook knows.
            if (quantise || at_end) && progress.best.as_ref().is_none_or(|best| figures.psnr > best.psnr) {
                let checkpoint = model_checkpoint(config, &net, &figures, progress.step);
                progress.best_digest = checkpoint.save(&session.vqgan_model())?;
                progress.best = Some(figures);
            }
            progress.history.save(&folder)?;
        }
        let interrupted = session.interrupted() && !at_end;
        if validate || interrupted || progress.step.is_multiple_of(settings.checkpoint_every) {
            progress.seconds = earlier + meter.seconds();
            save(config, &trainer, average.as_ref(), &mut progress, &fingerprint, &last)?;
        }
        if settings.keep_every.is_some_and(|every| progress.step.is_multiple_of(every.max(1))) {
            let kept = folder.join(format!("step-{}.safetensors", progress.step));
            save(config, &trainer, average.as_ref(), &mut progress, &fingerprint, &kept)?;
        }
        if interrupted {
            progress.history.save(&folder)?;
            listener.finish(&format!("VQGAN: stopped at step {}", progress.step));
            return Err(TrainError::Interrupted { stage: "VQGAN training", step: progress.step, file: last });
        }
    }
    let best = progress.best.clone().ok_or_else(|| {
        refusal(&last, "training ended without a validation".into(), "raise vqgan.train.steps")
    })?;
    listener.finish(&format!(
        "VQGAN: {} steps in {:.0} s, validation PSNR {:.1} dB, {:.0} % of the codes in use -> {}",
        progress.step,
        progress.seconds,
        best.psnr,
        100.0 * best.codes_used,
        session.vqgan_model().display()
    ));
    Ok(VqganReport { steps: progress.step, seconds: progress.seconds, best, digest: progress.best_digest })
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

const OTHER_ARCHITECTURE: &str =
    "the checkpoint is of another architecture: train again, or give the right file";

fn vqgan_config(path: &Path, checkpoint: &Checkpoint) -> Result<VqganConfig> {
    serde_json::from_value(checkpoint.model.clone()).map_err(|e| {
        let problem = format!("its configuration is not that of a VQGAN ({e})");
        refusal(path, problem, "it was written by another version: train again")
    })
}

fn model_checkpoint(config: &Config, net: &Vqgan, figures: &VqganFigures, step: u64) -> Checkpoint {
    Checkpoint {
        kind: Kind::Vqgan,
        model: json!(config.vqgan.model),
        run: json!(config),
        extra: json!({ "step": step, "validation": figures }),
        tensors: collect(net),
    }
}

fn save(
    config: &Config,
    trainer: &Trainer,
    average: Option<&Average>,
    progress: &mut Progress,
    fingerprint: &Value,
    path: &Path,
) -> Result<()> {
    progress.idle = trainer.usage.idle().to_vec();
    progress.discriminator_steps = trainer.discriminator_steps();
    let mut checkpoint = Checkpoint {
        kind: Kind::Vqgan,
        model: json!(config.vqgan.model),
        run: json!(config),
        extra: json!({ "fingerprint": fingerprint, "progress": progress }),
        tensors: collect(&trainer.net),
    };
    checkpoint.add_part("optimizer.", trainer.optimizer.state());
    if let Some(weights) = average.and_then(Average::weights) {
        checkpoint.add_part("average.", weights.clone());
    }
    if let Some(codes) = &trainer.code_average {
        let (counts, sums) = codes.state();
        let shape = vec![counts.len(), sums.len() / counts.len().max(1)];
        let part = [("counts", vec![counts.len()], counts), ("sums", shape, sums)];
        let part = part.map(|(name, shape, values)| (name.to_owned(), (shape, values.to_vec())));
        checkpoint.add_part("codebook_average.", part.into());
    }
    if let Some(player) = &trainer.discriminator {
        checkpoint.add_part("optimizer_discriminator.", player.optimizer.state());
        checkpoint.add_part("discriminator.", collect(&player.net));
    }
    checkpoint.save(path)?;
    Ok(())
}

fn restore(
    config: &Config,
    checkpoint: &Checkpoint,
    path: &Path,
    device: &Device,
) -> Result<(Trainer, Progress)> {
    let progress = checkpoint.extra.get("progress").cloned().unwrap_or(Value::Null);
    let progress: Progress = serde_json::from_value(progress).map_err(|e| {
        refusal(path, format!("it does not say where training stood ({e})"), "remove it to begin again")
    })?;
    let mut trainer = Trainer::new(config, device)?;
    let refuse = |problem| refusal(path, problem, OTHER_ARCHITECTURE);
    trainer.net = apply(trainer.net, &checkpoint.tensors).map_err(refuse)?;
    trainer
        .restore_optimizers(checkpoint, progress.step, progress.discriminator_steps, device)
        .map_err(refuse)?;
    trainer.usage = CodeUsage::new(config.vqgan.model.codes);
    trainer.usage.restore_idle(&progress.idle);
    Ok((trainer, progress))
}

/// The network with weights that depend on the run's seed alone.
fn fresh_net(config: &Config, device: &Device) -> Result<Vqgan> {
    let seed = derived_seed(config.run.seed, "vqgan weights", 0);
    Ok(seeded(device, seed, || config.vqgan.model.init(device))?)
}
