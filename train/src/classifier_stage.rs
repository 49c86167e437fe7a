//! Training the classifier on cached latents.
//!
//! Binary cross-entropy over the known labels, plus a penalty on pre-activations outside the interval that the polynomials are
//! meant for: a polynomial has no ceiling, so a network that never learned to stay in range can overflow on a film it
//! has not seen. Attributes of films and other classifiers may be part of the target (`targets.rs`). The largest pre-activation of every layer is logged. The weights that are kept are those of the best
//! macro AUROC on validation films; test films are not looked at.

use std::{collections::BTreeMap, path::Path};

use burn::{
    module::Module,
    optim::{GradientsAccumulator, GradientsParams},
    tensor::{Device, Tensor, TensorData},
};
use classifier::{Classifier, ClassifierConfig, Metrics, masked_bce};
use datasets::{Augmentation, LatentSet, Split};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    Config, Result, Session, TrainError,
    average::Average,
    checkpoint::{Checkpoint, Kind, refusal},
    encode::encode_copies,
    history::History,
    not_finite::Broken,
    optimizer::Adam,
    progress::Meter,
    sampler::{batch_of_step, derived_seed, steps_per_epoch},
    session::{check_same_run, fingerprint},
    state::{apply, collect, seeded},
    targets::{Auxiliary, Teachers, judged},
    tensorboard::EventWriter,
    test_report::LayerRange,
};

/// Latents evaluated at a time.
const BATCH: usize = 128;

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

/// A classifier as an earlier stage left it.
pub struct LoadedClassifier {
    /// Its shape.
    pub config: ClassifierConfig,
    /// The network, without autodiff.
    pub net: Classifier,
    /// Names of its labels, one per logit.
    pub label_names: Vec<String>,
    /// Digest of the encoder whose latents it was trained on.
    pub encoder_digest: String,
    /// Digest of the checkpoint.
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
    let device = config.run.device()?.autodiff();
    let auxiliary = settings.auxiliary.as_ref().map(|a| Auxiliary::read(a, latents, &train)).transpose()?;
    let teachers = settings.distill.as_ref().map(|d| Teachers::load(d, latents, &device)).transpose()?;
    let mut parts = vec![
        ("run.seed", json!(config.run.seed)),
        ("data", json!(latents.data_digest)),
        ("encoder", json!(latents.encoder_digest)),
        ("classifier.model", json!(model)),
        ("classifier.train", json!(settings)),
    ];
    parts.extend(auxiliary.as_ref().map(|a| ("attributes", json!(a.digest()))));
    parts.extend(teachers.as_ref().map(|t| ("teachers", json!(t.digests()))));
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
        let indices = batch_of_step(&train, per_step, order, progress.step);
        let parts = indices.chunks(settings.batch).collect::<Vec<_>>();
        let stop = |broken: Broken| {
            let names = |part: &&[usize]| part.iter().map(|&film| latents.ids[film].clone()).collect();
            let films = parts.iter().map(names).collect::<Vec<Vec<String>>>();
            broken.on("classifier training", progress.step + 1, &films, &folder)
        };
        let (mut gradients, mut figures) = (GradientsAccumulator::new(), StepFigures::default());
        for (part, films) in parts.iter().enumerate() {
            let batch = match &changes {
                Some(changes) => changes.batch(latents, films, progress.step / per_epoch, &device),
                None => Batch::new(latents, films, &device),
            };
            let (all, ranges) = net.forward_watched(batch.latents.clone());
            let logits = all.clone().narrow(1, 0, model.labels);
            let weights = positive_weights.as_ref().map(|w| Tensor::<1>::from_floats(w.as_slice(), &device));
            let mut loss = masked_bce(logits.clone(), batch.targets, batch.known.clone(), weights);
            if let Some(teachers) = &teachers {
                loss = teachers.mix(loss, logits, batch.known, &batch.latents.inner());
            }
            if let Some(auxiliary) = &auxiliary {
                let attributes = all.narrow(1, model.labels, trained.labels - model.labels);
                loss = loss + auxiliary.loss(attributes, films);
            }
            let value = f64::from(loss.clone().into_scalar::<f32>());
            let penalty = f64::from(ranges.penalty.clone().into_scalar::<f32>());
            let largest = ranges.largest.inner().into_data().iter::<f32>().map(f64::from).collect::<Vec<_>>();
            if !(value + penalty).is_finite() {
                let first = largest.iter().position(|l| !l.is_finite()).and_then(|i| ranges.names.get(i));
                // Every activation saw numbers: what comes after the last of them is the head.
                let layer = first.cloned().unwrap_or_else(|| "head".to_owned());
                return Err(stop(Broken::loss(value + penalty, Some(layer), part)));
            }
            // The loss is a mean over known labels, the penalty one over films.
            let share =
                (share_of_labels(latents, films, &indices), films.len() as f64 / indices.len() as f64);
            let loss = loss.mul_scalar(share.0) + ranges.penalty.mul_scalar(settings.range_penalty * share.1);
            gradients.accumulate(&net, GradientsParams::from_grads(loss.backward(), &net));
            figures.add(share.0 * value, share.1 * penalty, &ranges.names, &largest);
        }
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

/// Reads a classifier.
///
/// # Errors
///
/// The file is missing, damaged, or of another network or architecture.
pub fn load_classifier(path: &Path, device: &Device) -> Result<LoadedClassifier> {
    let checkpoint = Checkpoint::load(path, Kind::Classifier)?;
    let again = "it was written by another version: train again";
    let config: ClassifierConfig = serde_json::from_value(checkpoint.model.clone())
        .map_err(|e| refusal(path, format!("its configuration is not that of a classifier ({e})"), again))?;
    let text = |key: &str| checkpoint.extra.get(key).cloned().unwrap_or(Value::Null);
    let label_names: Vec<String> = serde_json::from_value(text("label_names"))
        .map_err(|e| refusal(path, format!("it does not name its labels ({e})"), again))?;
    if label_names.len() != config.labels {
        let problem = format!("expected {} label names, found {}", config.labels, label_names.len());
        return Err(refusal(path, problem, again));
    }
    let encoder_digest = text("encoder_digest").as_str().unwrap_or_default().to_owned();
    let device = device.clone().without_autodiff();
    // All weights are replaced; builders take turns all the same, or another one's would not follow from its seed.
    let net = seeded(&device, 0, || config.init(&device)).map_err(refuse_model)?;
    let net = apply(net, &checkpoint.tensors).map_err(|p| refusal(path, p, OTHER_ARCHITECTURE))?;
    Ok(LoadedClassifier { config, net, label_names, encoder_digest, digest: checkpoint.digest() })
}

/// Logits of the given latents, one list per film.
///
/// # Errors
///
/// The latents do not have the shape that the network expects.
pub fn logits(
    net: &Classifier,
    config: &ClassifierConfig,
    latents: &LatentSet,
    indices: &[usize],
) -> Result<Vec<Vec<f64>>> {
    let shape = [latents.channels, latents.height, latents.width];
    if config.latent != shape {
        return Err(TrainError::Mismatch {
            what: "shape of the latents",
            expected: format!("{:?}, as the classifier was trained", config.latent),
            found: format!("{shape:?}"),
            advice: "encode the films again with the VQGAN of this run, or train the classifier again".into(),
        });
    }
    Ok(all_logits(net, latents, indices))
}

/// Metrics of a classifier on one split of the latents.
///
/// # Errors
///
/// Latents and network do not fit, or the split is empty.
pub fn evaluate(classifier: &LoadedClassifier, latents: &LatentSet, split: Split) -> Result<Metrics> {
    let indices = latents.indices(split);
    if indices.is_empty() {
        return Err(TrainError::EmptySplit {
            split,
            advice: "check data.limits and the data set's own lists",
        });
    }
    if classifier.label_names != latents.label_names {
        return Err(TrainError::Mismatch {
            what: "labels",
            expected: format!("{:?}, as the classifier was trained", classifier.label_names),
            found: format!("{:?}", latents.label_names),
            advice: "use the data set of this run, or train the classifier again".into(),
        });
    }
    let scores = logits(&classifier.net, &classifier.config, latents, &indices)?;
    metrics_of(latents, &indices, &scores)
}

/// The largest pre-activation of every layer on one split of the latents, in the order in which layers run.
///
/// # Errors
///
/// The latents do not have the shape that the network expects, or its configuration cannot be used.
pub(crate) fn ranges(
    classifier: &LoadedClassifier,
    latents: &LatentSet,
    split: Split,
) -> Result<Vec<LayerRange>> {
    let indices = latents.indices(split);
    // Refuses latents of another shape.
    logits(&classifier.net, &classifier.config, latents, &indices[..indices.len().min(1)])?;
    let device = classifier.net.devices().into_iter().next().unwrap_or_default();
    let mut layers: Vec<LayerRange> = Vec::new();
    for batch in indices.chunks(BATCH) {
        let (_, seen) = classifier.net.forward_watched(Batch::new(latents, batch, &device).latents);
        let largest = seen.largest.into_data().iter::<f32>().map(f64::from).collect::<Vec<_>>();
        if layers.is_empty() {
            let interval = |name: &str| {
                let config = &classifier.config;
                if name.ends_with(".gate") { config.gate.interval } else { config.activation.interval }
            };
            let layer = |name: String| LayerRange { interval: interval(&name), layer: name, largest: 0.0 };
            layers = seen.names.into_iter().map(layer).collect();
        }
        for (layer, largest) in layers.iter_mut().zip(largest) {
            // A NaN stays: no comparison replaces it.
            if largest > layer.largest || largest.is_nan() {
                layer.largest = largest;
            }
        }
    }
    Ok(layers)
}

const OTHER_ARCHITECTURE: &str =
    "the checkpoint is of another architecture: train again, or give the right file";

/// A fresh network with the weights of a trained one, whose activations may differ: coefficients that the other one does
/// not have keep their start, close to ReLU.
fn start_from(fresh: Classifier, path: &Path) -> Result<Classifier> {
    let donor = Checkpoint::load(path, Kind::Classifier)?;
    let mut state = collect(&fresh);
    for (name, weights) in &mut state {
        match donor.tensors.get(name) {
            Some(found) if found.0 == weights.0 => weights.clone_from(found),
            // Logits of attributes, which the donor does not have, start afresh.
            Some(found) if name.starts_with("head.") && adds_rows(&found.0, &weights.0) => {
                weights.1[..found.1.len()].copy_from_slice(&found.1);
            }
            Some(found) => {
                let problem = format!("tensor {name:?}: expected shape {:?}, found {:?}", weights.0, found.0);
                return Err(refusal(path, problem, OTHER_ARCHITECTURE));
            }
            None if name.ends_with("coefficients") => {}
            None => return Err(refusal(path, format!("it has no tensor {name:?}"), OTHER_ARCHITECTURE)),
        }
    }
    apply(fresh, &state).map_err(|p| refusal(path, p, OTHER_ARCHITECTURE))
}

/// Whether a tensor of shape `to` is one of shape `from` with rows added.
fn adds_rows(from: &[usize], to: &[usize]) -> bool {
    from.len() == to.len() && from[1..] == to[1..] && from[0] < to[0]
}

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

fn all_logits(net: &Classifier, latents: &LatentSet, indices: &[usize]) -> Vec<Vec<f64>> {
    let device = net.devices().into_iter().next().unwrap_or_default();
    let mut scores = Vec::with_capacity(indices.len());
    for batch in indices.chunks(BATCH) {
        let logits = net.forward(Batch::new(latents, batch, &device).latents);
        let labels = logits.dims()[1];
        let values = logits.into_data().iter::<f32>().map(f64::from).collect::<Vec<_>>();
        scores.extend(values.chunks_exact(labels.max(1)).map(<[f64]>::to_vec));
    }
    scores
}

/// Metrics of logits, one list per film of `indices`.
fn metrics_of(latents: &LatentSet, indices: &[usize], scores: &[Vec<f64>]) -> Result<Metrics> {
    let labels = indices.iter().map(|&i| latents.labels[i].clone()).collect::<Vec<_>>();
    Metrics::measure(&latents.label_names, scores, &labels, 0.0).map_err(refuse_model)
}

/// `negatives / positives` per label, between 1 and `largest`; `None` if all are 1.
fn positive_weights(latents: &LatentSet, train: &[usize], largest: f64) -> Option<Vec<f32>> {
    if largest <= 1.0 {
        return None;
    }
    let count = |label: usize, value: bool| {
        train.iter().filter(|&&i| latents.labels[i][label] == Some(value)).count() as f64
    };
    let weight = |label| (count(label, false) / count(label, true).max(1.0)).clamp(1.0, largest) as f32;
    Some((0..latents.label_names.len()).map(weight).collect())
}

/// Latents and labels as tensors.
struct Batch {
    latents: Tensor<4>,
    targets: Tensor<2>,
    known: Tensor<2>,
}

impl Batch {
    fn new(set: &LatentSet, indices: &[usize], device: &Device) -> Self {
        let values = indices.iter().flat_map(|&i| set.latent(i)).copied().collect::<Vec<_>>();
        let shape = [indices.len(), set.channels, set.height, set.width];
        let labels = |value: fn(Option<bool>) -> f32| {
            let values = indices.iter().flat_map(|&i| &set.labels[i]).map(|&label| value(label));
            let data = TensorData::new(values.collect::<Vec<_>>(), [indices.len(), set.label_names.len()]);
            Tensor::<2>::from_data(data, device)
        };
        Self {
            latents: Tensor::from_data(TensorData::new(values, shape), device),
            targets: labels(|label| f32::from(u8::from(label == Some(true)))),
            known: labels(|label| f32::from(u8::from(label.is_some()))),
        }
    }
}

/// Training latents changed a little, each time differently: drawn among encodings of changed films, and shifted.
struct Changes {
    shift: usize,
    seed: u64,
    copies: Vec<LatentSet>,
    /// Where each film stands in the copies, by its index in the latents.
    rows: BTreeMap<usize, usize>,
}

impl Changes {
    fn new(
        config: &Config,
        latents: &LatentSet,
        train: &[usize],
        session: &Session<'_>,
    ) -> Result<Option<Self>> {
        let Some(augment) = config.classifier.train.augment else { return Ok(None) };
        Ok(Some(Self {
            shift: augment.shift,
            seed: derived_seed(config.run.seed, "changed latents", 0),
            copies: encode_copies(config, latents, augment.copies, augment.films, session)?,
            rows: train.iter().enumerate().map(|(row, &film)| (film, row)).collect(),
        }))
    }

    fn batch(&self, set: &LatentSet, indices: &[usize], epoch: u64, device: &Device) -> Batch {
        let mut batch = Batch::new(set, indices, device);
        let mut values = Vec::with_capacity(indices.len() * set.latent_len());
        for &film in indices {
            let mut rng = ChaCha8Rng::seed_from_u64(Augmentation::seed(self.seed, epoch, film));
            let latent = match rng.random_range(0..=self.copies.len()).checked_sub(1) {
                Some(copy) => self.copies[copy].latent(self.rows[&film]),
                None => set.latent(film),
            };
            let mut step = || rng.random_range(0..=2 * self.shift) as isize - self.shift as isize;
            let (down, right) = (step(), step());
            shifted(latent, [set.height, set.width], [down, right], &mut values);
        }
        let shape = [indices.len(), set.channels, set.height, set.width];
        batch.latents = Tensor::from_data(TensorData::new(values, shape), device);
        batch
    }
}

/// Appends a latent moved down and right; cells from outside repeat the edge.
fn shifted(latent: &[f32], [height, width]: [usize; 2], [down, right]: [isize; 2], out: &mut Vec<f32>) {
    let from = |to: usize, step: isize, end: usize| to.saturating_add_signed(-step).min(end - 1);
    for channel in latent.chunks_exact(height * width) {
        for y in 0..height {
            let row = &channel[from(y, down, height) * width..][..width];
            out.extend((0..width).map(|x| row[from(x, right, width)]));
        }
    }
}

/// Share of a part in the known labels of a step; its share in the films where none is known.
fn share_of_labels(latents: &LatentSet, part: &[usize], step: &[usize]) -> f64 {
    let known = |films: &[usize]| -> usize {
        films.iter().map(|&film| latents.labels[film].iter().flatten().count()).sum()
    };
    match known(step) {
        0 => part.len() as f64 / step.len() as f64,
        all => known(part) as f64 / all as f64,
    }
}

/// Figures of one step, added up over its parts.
#[derive(Default)]
struct StepFigures {
    loss: f64,
    penalty: f64,
    /// The largest pre-activation of each layer.
    largest: Vec<(String, f64)>,
}

impl StepFigures {
    fn add(&mut self, loss: f64, penalty: f64, names: &[String], largest: &[f64]) {
        self.loss += loss;
        self.penalty += penalty;
        widen(&mut self.largest, names.iter().map(String::as_str).zip(largest.iter().copied()));
    }
}

/// Keeps the larger value of each layer.
fn widen<'a>(kept: &mut Vec<(String, f64)>, seen: impl Iterator<Item = (&'a str, f64)>) {
    for (i, (name, value)) in seen.enumerate() {
        match kept.get_mut(i) {
            Some((_, largest)) => *largest = largest.max(value),
            None => kept.push((name.to_owned(), value)),
        }
    }
}

/// Sums of figures over an epoch.
#[derive(Default)]
struct Sums {
    steps: f64,
    loss: f64,
    penalty: f64,
    norm: f64,
    largest: Vec<(String, f64)>,
}

impl Sums {
    fn add(&mut self, step: StepFigures, norm: f64) {
        self.steps += 1.0;
        self.loss += step.loss;
        self.penalty += step.penalty;
        self.norm += norm;
        widen(&mut self.largest, step.largest.iter().map(|(name, value)| (name.as_str(), *value)));
    }

    fn take(&mut self) -> Vec<(String, f64)> {
        let sums = std::mem::take(self);
        let mut figures = vec![
            ("train/loss".to_owned(), sums.loss / sums.steps),
            ("train/range_penalty".to_owned(), sums.penalty / sums.steps),
            ("train/gradient_norm".to_owned(), sums.norm / sums.steps),
        ];
        figures.extend(sums.largest.into_iter().map(|(name, value)| (format!("largest/{name}"), value)));
        figures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shifts_repeat_the_edge() {
        let latent = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0];
        let moved = |by| {
            let mut out = Vec::new();
            shifted(&latent, [2, 3], by, &mut out);
            out
        };
        assert_eq!(moved([0, 0]), latent);
        assert_eq!(moved([0, 1])[..6], [1.0, 1.0, 2.0, 4.0, 4.0, 5.0]);
        assert_eq!(moved([-1, 0])[6..], [40.0, 50.0, 60.0, 40.0, 50.0, 60.0]);
        assert_eq!(moved([9, -9])[..6], [3.0; 6]);
    }
}
