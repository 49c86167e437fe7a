//! Training the classifier on cached latents.
//!
//! Binary cross-entropy over the known labels, plus a penalty on pre-activations outside the interval that the polynomials are
//! meant for: a polynomial has no ceiling, so a network that never learned to stay in range can overflow on a film it
//! has not seen. A second penalty looks at the largest value of each film, which a mean over all of them hides. Attributes of
//! films and other classifiers may be part of the target (`targets.rs`), and other films a part of each (`examples.rs`). The
//! largest pre-activation of every layer is logged. The weights that are kept are those of the best macro AUROC on
//! validation films; test films are not looked at.

mod batches;
mod examples;
mod figures;
mod measure;
mod pass;
mod start;

use burn::{module::Module, optim::GradientsAccumulator};
use classifier::{Classifier, ClassifierConfig, Metrics};
use datasets::{LatentSet, Split};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    Config, Result, Session, TrainError,
    average::Average,
    checkpoint::{Checkpoint, Kind, refusal},
    history::History,
    not_finite::Broken,
    optimizer::Adam,
    progress::Meter,
    sampler::{batch_of_step, derived_seed, steps_per_epoch},
    session::{check_same_run, fingerprint},
    state::{apply, collect, seeded},
    targets::{Auxiliary, Teachers, judged},
    tensorboard::EventWriter,
    workers::{Workers, remember, replica},
};
use batches::{Batch, Changes, positive_weights};
use figures::{StepFigures, Sums};
use measure::{all_logits, metrics_of};
use pass::Pass;
use start::{FixedStatistics, start_from};

pub(crate) use examples::{Example, answers};
pub(crate) use measure::ranges;
pub use measure::{LoadedClassifier, evaluate, load_classifier, logits};

/// What training the classifier gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassifierReport {
    /// Epochs done.
    pub epochs: u64,
    /// The epoch whose weights were kept, counted from 1.
    pub best_epoch: u64,
    /// Seconds of training over all sessions.
    pub seconds: f64,
    /// Metrics of the kept weights on the validation films.
    pub validation: Metrics,
    /// Digest of the kept weights.
    pub digest: String,
}

/// Where training stands.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Progress {
    step: u64,
    seconds: f64,
    best_epoch: u64,
    best: Option<Metrics>,
    best_digest: String,
    history: History,
    /// The validation film for which an epoch last gave no numbers.
    #[serde(default)]
    exploded: Option<String>,
}

/// Trains the classifier on `latents` in `session`'s run folder, from where it stands.
///
/// Writes `classifier/model.safetensors` (best validation), `classifier/last.safetensors`, `metrics.csv`,
/// `metrics.json` and TensorBoard events. A finished run returns at once.
///
/// # Errors
///
/// Configuration, latents or checkpoint cannot be used; the loss is no longer a number; or the user interrupted.
pub fn train_classifier(
    config: &Config,
    latents: &LatentSet,
    session: &Session<'_>,
) -> Result<ClassifierReport> {
    let settings = &config.classifier.train;
    let shape = [latents.channels, latents.height, latents.width];
    let model = config.classifier_model(shape, latents.label_names.len())?;
    let split = |split, advice| match latents.indices(split) {
        films if films.is_empty() => Err(TrainError::EmptySplit { split, advice }),
        films => Ok(films),
    };
    let train = split(Split::Train, "check data.limits and the data set's own lists")?;
    let validation = split(Split::Validation, "raise data.validation_fraction")?;

    let folder = session.classifier_dir();
    let last = folder.join("last.safetensors");
    let workers = Workers::new(&config.run, settings.accumulate, session.progress())?;
    let device = workers.main().clone();
    let auxiliary = settings.auxiliary.as_ref().map(|a| Auxiliary::read(a, latents, &train)).transpose()?;
    let teachers = match &settings.distill {
        Some(distill) => workers.equip(|device| Teachers::load(distill, latents, device))?,
        None => Vec::new(),
    };
    let mut parts = config.run.fingerprint();
    parts.extend([
        ("data", json!(latents.data_digest)),
        ("encoder", json!(latents.encoder_digest)),
        ("classifier.model", json!(model)),
        ("classifier.train", json!(settings)),
    ]);
    parts.extend(auxiliary.as_ref().map(|a| ("attributes", json!(a.digest()))));
    parts.extend(teachers.first().map(|t| ("teachers", json!(t.digests()))));
    let fingerprint = fingerprint(&parts);
    let seed = derived_seed(config.run.seed, "classifier weights", 0);
    // Logits of attributes exist while training lasts.
    let trained = auxiliary.as_ref().map_or_else(|| model.clone(), |a| a.widened(&model));
    let fresh = seeded(&device, seed, || trained.init(&device)).map_err(refuse_model)?;
    let mut average = settings.average.map(Average::new);
    let (mut net, mut optimizer, mut progress) = match Checkpoint::load(&last, Kind::Classifier) {
        Ok(checkpoint) => {
            check_same_run(&last, &checkpoint, &fingerprint)?;
            let progress = checkpoint.extra.get("progress").cloned().unwrap_or(Value::Null);
            let progress: Progress = serde_json::from_value(progress).map_err(|e| {
                refusal(
                    &last,
                    format!("it does not say where training stood ({e})"),
                    "remove it to begin again",
                )
            })?;
            let net = apply(fresh, &checkpoint.tensors).map_err(|p| refusal(&last, p, OTHER_ARCHITECTURE))?;
            let state = checkpoint.part("optimizer.");
            average = settings.average.map(|a| Average::restore(a, checkpoint.part("average.")));
            (net, Adam::restore(settings.adam.clone(), progress.step, &state, &device), progress)
        }
        Err(TrainError::Missing { .. }) => {
            let net = match &settings.start_from {
                Some(path) => start_from(fresh, path)?,
                None => fresh,
            };
            (net, Adam::new(settings.adam.clone()), Progress::default())
        }
        Err(error) => return Err(error),
    };
    if settings.fixed_statistics {
        net = net.map(&mut FixedStatistics);
    }
    let per_step = settings.batch.saturating_mul(settings.accumulate);
    let per_epoch = steps_per_epoch(train.len(), per_step);
    let total = settings.epochs * per_epoch;
    if progress.step >= total
        && let Some(validation) = progress.best
    {
        let (best_epoch, digest) = (progress.best_epoch, progress.best_digest);
        let (epochs, seconds) = (settings.epochs, progress.seconds);
        return Ok(ClassifierReport { epochs, best_epoch, seconds, validation, digest });
    }
    session.write_config(config)?;

    let changes = Changes::new(config, latents, &train, session)?;
    let positive_weights = positive_weights(latents, &train, settings.largest_positive_weight);
    let mut events = EventWriter::create(&folder)?;
    let listener = session.progress();
    listener.start("classifier", total, progress.step);
    let mut meter = Meter::new();
    let earlier = progress.seconds;
    let order = derived_seed(config.run.seed, "classifier order", 0);
    let mut sums = Sums::default();

    while progress.step < total {
        let epoch = progress.step / per_epoch;
        let indices = batch_of_step(&train, per_step, order, progress.step);
        let examples = match &changes {
            Some(changes) => changes.examples(&indices, epoch),
            None => indices.iter().map(|&film| Example::alone(film)).collect(),
        };
        let parts = examples.chunks(settings.batch).collect::<Vec<_>>();
        let stop = |broken: Broken| {
            let names = |part: &&[Example]| {
                part.iter().flat_map(Example::parts).map(|(film, _)| latents.ids[film].clone()).collect()
            };
            let films = parts.iter().map(names).collect::<Vec<Vec<String>>>();
            broken.on("classifier training", progress.step + 1, &films, &folder)
        };
        let pass = Pass {
            settings,
            latents,
            step: &examples,
            labels: model.labels,
            positive_weights: positive_weights.as_deref(),
            auxiliary: auxiliary.as_ref(),
        };
        let (mut gradients, mut figures) = (GradientsAccumulator::new(), StepFigures::default());
        let mut remembered = Vec::with_capacity(parts.len());
        workers
            .each(
                parts.len(),
                |_, device| (replica(&net, device), device.clone()),
                |part, (net, device)| {
                    let batch = match &changes {
                        Some(changes) => changes.batch(latents, parts[part], epoch, &device),
                        None => {
                            let films = parts[part].iter().map(|example| example.film).collect::<Vec<_>>();
                            Batch::new(latents, &films, &device)
                        }
                    };
                    pass.run(part, parts[part], batch, &net, teachers.get(workers.of(part)))
                },
                |_, passed| {
                    let passed = passed?;
                    gradients.accumulate(&net, passed.gradients.to_device(workers.main(), &net));
                    figures.add(passed.losses, &passed.layers, &passed.largest);
                    remembered.push(passed.statistics);
                    Ok(())
                },
            )
            .map_err(stop)?;
        net = remember(net, remembered, workers.main());
        let rate = settings.learning_rate * settings.schedule.factor(progress.step, total);
        let (next, norm) = optimizer
            .step_with(net, gradients.grads(), rate)
            .map_err(|error| stop(Broken::gradient(error, "")))?;
        net = next;
        progress.step += 1;
        if let Some(average) = average.as_mut().filter(|average| average.is_due(progress.step)) {
            average.add(progress.step, collect(&net));
        }
        progress.seconds = earlier + meter.seconds();
        let loss = figures.loss;
        sums.add(figures, norm);
        listener.step(progress.step, &meter.add(indices.len(), loss));

        let epoch_ends = progress.step.is_multiple_of(per_epoch);
        if epoch_ends {
            let epoch = progress.step / per_epoch;
            let weights = average.as_ref().and_then(Average::weights).cloned();
            let weights = weights.unwrap_or_else(|| collect(&net));
            let judged =
                judged(&model, weights, &device).map_err(|p| refusal(&last, p, OTHER_ARCHITECTURE))?;
            let logits = all_logits(&judged, latents, &validation);
            let exploded = logits.iter().position(|logits| logits.iter().any(|v| v.is_nan()));
            // Early epochs of deep polynomials may have no number for some film: they are no candidates for the best one.
            let metrics = match exploded {
                None => Some(metrics_of(latents, &validation, &logits)?),
                Some(at) => {
                    let film = latents.ids[validation[at]].clone();
                    listener.note(&format!(
                        "classifier: epoch {epoch} gives no numbers for film {film}, and is passed over"
                    ));
                    progress.exploded = Some(film);
                    None
                }
            };
            let figure =
                |read: fn(&Metrics) -> Option<f64>| metrics.as_ref().and_then(read).unwrap_or(f64::NAN);
            let macro_auroc = figure(|m| m.macro_.auroc);
            let mut figures = sums.take();
            figures.push(("validation/macro_auroc".into(), macro_auroc));
            figures.push(("validation/micro_auroc".into(), figure(|m| m.micro.auroc)));
            figures.push(("validation/macro_f1".into(), figure(|m| m.macro_.f1)));
            figures.push(("train/learning_rate".into(), rate));
            let named = || figures.iter().map(|(name, value)| (name.as_str(), *value));
            events.scalars(progress.step, named().filter(|(_, value)| value.is_finite()))?;
            progress.history.push(progress.step, named());
            let best = progress.best.as_ref().and_then(|best| best.macro_.auroc).unwrap_or(f64::NEG_INFINITY);
            if let Some(metrics) = metrics
                && (progress.best.is_none() || macro_auroc > best)
            {
                let checkpoint = model_checkpoint(config, &model, latents, &judged, &metrics, epoch);
                progress.best_digest = checkpoint.save(&session.classifier_model())?;
                progress.best_epoch = epoch;
                progress.best = Some(metrics);
            }
            progress.history.save(&folder)?;
        }
        let interrupted = session.interrupted() && progress.step < total;
        if epoch_ends || interrupted {
            let mut checkpoint = Checkpoint {
                kind: Kind::Classifier,
                model: json!(model),
                run: json!(config),
                extra: json!({ "fingerprint": fingerprint, "progress": progress }),
                tensors: collect(&net),
            };
            checkpoint.add_part("optimizer.", optimizer.state());
            if let Some(weights) = average.as_ref().and_then(Average::weights) {
                checkpoint.add_part("average.", weights.clone());
            }
            checkpoint.save(&last)?;
            let epoch = progress.step / per_epoch;
            if epoch_ends && settings.keep_every.is_some_and(|every| epoch.is_multiple_of(every.max(1))) {
                checkpoint.save(&folder.join(format!("epoch-{epoch}.safetensors")))?;
            }
        }
        if interrupted {
            listener.finish(&format!("classifier: stopped at step {}", progress.step));
            return Err(TrainError::Interrupted {
                stage: "classifier training",
                step: progress.step,
                file: last,
            });
        }
    }
    let validation = progress.best.ok_or_else(|| match &progress.exploded {
        Some(film) => refusal(
            &last,
            format!("no epoch gives numbers for every validation film; in the last one without, film {film}"),
            "raise classifier.train.range_penalty, or lower classifier.model.residual_gain or the learning rate",
        ),
        None => refusal(&last, "training ended without a validation".into(), "raise classifier.train.epochs"),
    })?;
    listener.finish(&format!(
        "classifier: {} epochs in {:.0} s, validation macro AUROC {} (epoch {}) -> {}",
        settings.epochs,
        progress.seconds,
        validation.macro_.auroc.map_or_else(|| "undefined".into(), |a| format!("{a:.3}")),
        progress.best_epoch,
        session.classifier_model().display()
    ));
    let (best_epoch, digest) = (progress.best_epoch, progress.best_digest);
    Ok(ClassifierReport {
        epochs: settings.epochs,
        best_epoch,
        seconds: progress.seconds,
        validation,
        digest,
    })
}

const OTHER_ARCHITECTURE: &str =
    "the checkpoint is of another architecture: train again, or give the right file";

fn refuse_model(error: classifier::ClassifierError) -> TrainError {
    TrainError::Classifier(error.to_string())
}

fn model_checkpoint(
    config: &Config,
    model: &ClassifierConfig,
    latents: &LatentSet,
    net: &Classifier,
    metrics: &Metrics,
    epoch: u64,
) -> Checkpoint {
    Checkpoint {
        kind: Kind::Classifier,
        model: json!(model),
        run: json!(config),
        extra: json!({
            "epoch": epoch,
            "label_names": latents.label_names,
            "encoder_digest": latents.encoder_digest,
            "data_digest": latents.data_digest,
            "validation": metrics,
        }),
        tensors: collect(net),
    }
}
