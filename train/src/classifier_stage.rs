//! Training the classifier on cached latents.
//!
//! Binary cross-entropy over the known labels, plus a penalty on pre-activations outside the interval that the polynomials are
//! meant for: a polynomial has no ceiling, so a network that never learned to stay in range can overflow on a film it
//! has not seen. A second penalty looks at the largest value of each film, which a mean over all of them hides. Attributes of
//! films and other classifiers may be part of the target (`targets.rs`), and other films a part of each (`examples.rs`). The
//! largest pre-activation of every layer is logged. The weights that are kept are those of the best macro AUROC on
//! validation films (`figures.rs`); test films are not looked at.

mod batches;
mod examples;
mod figures;
mod measure;
mod pass;
mod start;
mod targets;

use burn::{
    module::Module,
    optim::{GradientsAccumulator, GradientsParams},
};
use classifier::{Classifier, ClassifierConfig, Metrics};
use datasets::{LatentSet, Split};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    Config, Result, Session, TrainError,
    checkpoint::{Checkpoint, Kind, refusal},
    config::ClassifierTraining,
    not_finite::Broken,
    optimizer::Adam,
    sampler::{batch_of_step, derived_seed, steps_per_epoch},
    session::fingerprint,
    stage::{self, Log, OTHER_ARCHITECTURE, Rhythm, Run, Stage, Stepped},
    state::{State, apply, collect, prefixed, seeded},
    workers::{Workers, remember, replica},
};
use batches::{Batch, Changes, positive_weights};
use examples::Example;
use figures::{StepFigures, Sums, Validated};
use measure::{all_logits, metrics_of};
use pass::Pass;
use start::{FixedStatistics, start_from};
use targets::{Auxiliary, Teachers, judged};

pub(crate) use measure::ranges;
pub use measure::{LayerRange, LoadedClassifier, evaluate, load_classifier, logits};

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
    let mut stage = ClassifierStage::new(config, latents, session)?;
    let settings = &config.classifier.train;
    let per_epoch = stage.per_epoch();
    let run = Run {
        config,
        model: json!(stage.model),
        fingerprint: stage.fingerprint(),
        folder: session.classifier_dir(),
        best: session.classifier_model(),
        average: settings.average,
        rhythm: Rhythm {
            total: settings.epochs * per_epoch,
            log_every: None,
            validate_every: per_epoch,
            checkpoint_every: per_epoch,
            keep_every: settings.keep_every.map(|epochs| epochs.max(1) * per_epoch),
            unit: ("epoch", per_epoch),
        },
    };
    let trained = stage::train(&mut stage, &run, session)?;
    Ok(ClassifierReport {
        epochs: settings.epochs,
        best_epoch: stage.memory.best_epoch,
        seconds: trained.seconds,
        validation: trained.best.metrics,
        digest: trained.digest,
    })
}

/// A classifier in training: its latents, and what learns from them.
struct ClassifierStage<'a> {
    config: &'a Config,
    settings: &'a ClassifierTraining,
    latents: &'a LatentSet,
    session: &'a Session<'a>,
    /// The network that is judged; the one that is trained may be wider.
    model: ClassifierConfig,
    train: Vec<usize>,
    validation: Vec<usize>,
    workers: Workers,
    auxiliary: Option<Auxiliary>,
    /// On each device.
    teachers: Vec<Teachers>,
    positive_weights: Option<Vec<f32>>,
    changes: Option<Changes>,
    net: Classifier,
    optimizer: Adam,
    sums: Sums,
    memory: Memory,
}

/// What an exact resume needs besides tensors.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Memory {
    best_epoch: u64,
    /// The validation film for which an epoch last gave no numbers.
    #[serde(default)]
    exploded: Option<String>,
}

impl<'a> ClassifierStage<'a> {
    fn new(config: &'a Config, latents: &'a LatentSet, session: &'a Session<'a>) -> Result<Self> {
        let settings = &config.classifier.train;
        let shape = [latents.channels, latents.height, latents.width];
        let model = config.classifier_model(shape, latents.label_names.len())?;
        let split = |split, advice| match latents.indices(split) {
            films if films.is_empty() => Err(TrainError::EmptySplit { split, advice }),
            films => Ok(films),
        };
        let train = split(Split::Train, "check data.limits and the data set's own lists")?;
        let validation = split(Split::Validation, "raise data.validation_fraction")?;
        let workers = Workers::new(&config.run, settings.accumulate, session.progress())?;
        let auxiliary =
            settings.auxiliary.as_ref().map(|a| Auxiliary::read(a, latents, &train)).transpose()?;
        let teachers = match &settings.distill {
            Some(distill) => workers.equip(|device| Teachers::load(distill, latents, device))?,
            None => Vec::new(),
        };
        // Logits of attributes exist while training lasts.
        let trained = auxiliary.as_ref().map_or_else(|| model.clone(), |a| a.widened(&model));
        let seed = derived_seed(config.run.seed, "classifier weights", 0);
        let net = seeded(workers.main(), seed, || Classifier::from_config(&trained, workers.main()))?;
        Ok(Self {
            config,
            settings,
            latents,
            session,
            model,
            positive_weights: positive_weights(latents, &train, settings.largest_positive_weight),
            train,
            validation,
            workers,
            auxiliary,
            teachers,
            changes: None,
            net,
            optimizer: Adam::new(settings.adam.clone()),
            sums: Sums::default(),
            memory: Memory::default(),
        })
    }

    fn fingerprint(&self) -> Value {
        let mut parts = self.config.run.fingerprint();
        parts.extend([
            ("data", json!(self.latents.data_digest)),
            ("encoder", json!(self.latents.encoder_digest)),
            ("classifier.model", json!(self.model)),
            ("classifier.train", json!(self.settings)),
        ]);
        parts.extend(self.auxiliary.as_ref().map(|a| ("attributes", json!(a.digest()))));
        parts.extend(self.teachers.first().map(|t| ("teachers", json!(t.digests()))));
        fingerprint(&parts)
    }

    fn films_per_step(&self) -> usize {
        self.settings.batch.saturating_mul(self.settings.accumulate)
    }

    fn per_epoch(&self) -> u64 {
        steps_per_epoch(self.train.len(), self.films_per_step())
    }

    /// What a step learns from.
    fn examples(&self, step: u64) -> Vec<Example> {
        let order = derived_seed(self.config.run.seed, "classifier order", 0);
        let indices = batch_of_step(&self.train, self.films_per_step(), order, step);
        match &self.changes {
            Some(changes) => changes.examples(&indices, step / self.per_epoch()),
            None => indices.iter().map(|&film| Example::alone(film)).collect(),
        }
    }

    /// Forward and backward passes of all parts of a step: the gradients, and the network with the running statistics after
    /// it.
    fn passes(
        &self,
        step: u64,
        examples: &[Example],
        figures: &mut StepFigures,
    ) -> std::result::Result<(GradientsParams, Classifier), Broken> {
        let parts = examples.chunks(self.settings.batch).collect::<Vec<_>>();
        let pass = Pass {
            settings: self.settings,
            latents: self.latents,
            step: examples,
            labels: self.model.labels,
            positive_weights: self.positive_weights.as_deref(),
            auxiliary: self.auxiliary.as_ref(),
        };
        let (workers, epoch) = (&self.workers, step / self.per_epoch());
        let mut gradients = GradientsAccumulator::new();
        let mut remembered = Vec::with_capacity(parts.len());
        workers.each(
            parts.len(),
            |_, device| (replica(&self.net, device), device.clone()),
            |part, (net, device)| {
                let batch = match &self.changes {
                    Some(changes) => changes.batch(self.latents, parts[part], epoch, &device),
                    None => {
                        let films = parts[part].iter().map(|example| example.film).collect::<Vec<_>>();
                        Batch::new(self.latents, &films, &device)
                    }
                };
                pass.run(part, parts[part], batch, &net, self.teachers.get(workers.of(part)))
            },
            |_, passed| {
                let passed = passed?;
                gradients.accumulate(&self.net, passed.gradients.to_device(workers.main(), &self.net));
                figures.add(passed.losses, &passed.layers, &passed.largest);
                remembered.push(passed.statistics);
                Ok(())
            },
        )?;
        Ok((gradients.grads(), remember(self.net.clone(), remembered, workers.main())))
    }

    fn rate(&self, step: u64) -> f64 {
        let total = self.settings.epochs * self.per_epoch();
        self.settings.learning_rate * self.settings.schedule.factor(step, total)
    }

    /// The error of a step that gave no numbers.
    fn stop(&self, broken: Broken, step: u64, examples: &[Example]) -> TrainError {
        let names = |part: &[Example]| {
            part.iter().flat_map(Example::parts).map(|(film, _)| self.latents.ids[film].clone()).collect()
        };
        let films = examples.chunks(self.settings.batch).map(names).collect::<Vec<Vec<String>>>();
        broken.on(Self::TRAINING, step + 1, &films, &self.session.classifier_dir())
    }

    /// Figures of a network on the validation films; `None` if it gives no numbers for some film, which early epochs of deep
    /// polynomials do.
    fn judge(&mut self, net: &Classifier, epoch: u64) -> Result<Option<Validated>> {
        let logits = all_logits(net, self.latents, &self.validation);
        match logits.iter().position(|logits| logits.iter().any(|v| v.is_nan())) {
            None => Ok(Some(Validated::new(
                metrics_of(self.latents, &self.validation, &logits)?,
                self.latents,
                &self.validation,
                &logits,
            ))),
            Some(at) => {
                let film = self.latents.ids[self.validation[at]].clone();
                self.session.progress().note(&format!(
                    "classifier: epoch {epoch} gives no numbers for film {film}, and is passed over"
                ));
                self.memory.exploded = Some(film);
                Ok(None)
            }
        }
    }
}

impl Stage for ClassifierStage<'_> {
    type Net = Classifier;
    type Figures = Validated;
    type Memory = Memory;

    const KIND: Kind = Kind::Classifier;
    const NAME: &'static str = "classifier";
    const TRAINING: &'static str = "classifier training";

    fn resume(
        &mut self,
        checkpoint: &Checkpoint,
        memory: Memory,
        step: u64,
    ) -> std::result::Result<(), String> {
        self.net = apply(self.net.clone(), &checkpoint.tensors)?;
        let (adam, state) = (self.settings.adam.clone(), checkpoint.part("optimizer."));
        self.optimizer = Adam::restore(adam, step, &state, self.workers.main());
        self.memory = memory;
        Ok(())
    }

    fn begin(&mut self) -> Result<()> {
        if let Some(path) = &self.settings.start_from {
            self.net = start_from(self.net.clone(), path)?;
        }
        Ok(())
    }

    fn prepare(&mut self, _step: u64) -> Result<()> {
        if self.settings.fixed_statistics {
            self.net = self.net.clone().map(&mut FixedStatistics);
        }
        self.changes = Changes::new(self.config, self.latents, &self.train, self.session)?;
        Ok(())
    }

    fn step(&mut self, step: u64) -> Result<Stepped> {
        let examples = self.examples(step);
        let mut figures = StepFigures::default();
        let passed = self.passes(step, &examples, &mut figures);
        let (gradients, net) = passed.map_err(|broken| self.stop(broken, step, &examples))?;
        let taken = self.optimizer.step_with(net, gradients, self.rate(step));
        let (net, norm) = taken.map_err(|error| self.stop(Broken::gradient(error, ""), step, &examples))?;
        self.net = net;
        let loss = figures.loss;
        self.sums.add(figures, norm);
        Ok(Stepped { films: examples.len(), loss, jumped: false })
    }

    fn validate(
        &mut self,
        average: Option<&State>,
        log: &mut Log<'_>,
    ) -> Result<Option<(Classifier, Validated)>> {
        let weights = average.cloned().unwrap_or_else(|| collect(&self.net));
        let net = judged(&self.model, weights, self.workers.main())
            .map_err(|p| refusal(&self.session.classifier_dir(), p, OTHER_ARCHITECTURE))?;
        let validated = self.judge(&net, log.step() / self.per_epoch())?;
        let mut figures = self.sums.take();
        let named = Validated::named(validated.as_ref());
        figures.extend(named.map(|(name, value)| (name.to_owned(), value)));
        figures.push(("train/learning_rate".into(), self.rate(log.step() - 1)));
        log.row(figures.iter().map(|(name, value)| (name.as_str(), *value)))?;
        Ok(validated.map(|validated| (net, validated)))
    }

    fn is_better(&self, figures: &Validated, best: &Validated) -> bool {
        figures.is_better_than(best)
    }

    fn chosen(&mut self, figures: &Validated, step: u64) -> Value {
        self.memory.best_epoch = step / self.per_epoch();
        json!({
            "epoch": self.memory.best_epoch,
            "label_names": self.latents.label_names,
            "encoder_digest": self.latents.encoder_digest,
            "data_digest": self.latents.data_digest,
            "validation": figures.metrics,
        })
    }

    fn weights(&self) -> State {
        collect(&self.net)
    }

    fn beside(&self) -> State {
        prefixed("optimizer.", self.optimizer.state()).collect()
    }

    fn memory(&self) -> Memory {
        self.memory.clone()
    }

    fn summary(&self, best: &Validated) -> String {
        format!("{} (epoch {})", best.summary(), self.memory.best_epoch)
    }

    fn nothing_kept(&self) -> (String, &'static str) {
        match &self.memory.exploded {
            Some(film) => (
                format!(
                    "no epoch gives numbers for every validation film; in the last one without, film {film}"
                ),
                "raise classifier.train.range_penalty, or lower classifier.model.residual_gain or the learning rate",
            ),
            None => ("training ended without a validation".into(), "raise classifier.train.epochs"),
        }
    }
}
