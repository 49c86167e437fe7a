//! What every training has in common: one loop, in which each network's file keeps its mathematics.
//!
//! A [`Stage`] takes steps, judges its weights on validation films, and says what an exact resume needs. [`train`] decides when:
//! it resumes or begins, averages the weights, logs, keeps the best weights and the checkpoints, and stops when asked to. A
//! new kind of network is one more implementation.

mod log;
mod progress;

use std::path::PathBuf;

use burn::module::Module;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    Config, Result, Session, TrainError,
    average::{Average, AverageConfig},
    checkpoint::{Checkpoint, Kind},
    progress::Meter,
    state::{State, collect},
    tensorboard::EventWriter,
};
pub(crate) use log::Log;
use progress::Progress;

/// What a user is told whose checkpoint has tensors of other names or shapes.
pub(crate) const OTHER_ARCHITECTURE: &str =
    "the checkpoint is of another architecture: train again, or give the right file";

/// A network in training.
pub(crate) trait Stage {
    /// The network that is judged and kept.
    type Net: Module;
    /// Figures on validation films, by which weights are chosen.
    type Figures: Serialize + DeserializeOwned;
    /// What an exact resume needs besides tensors.
    type Memory: Default + Serialize + DeserializeOwned;

    /// What its checkpoints hold.
    const KIND: Kind;
    /// Its name for the person who waits.
    const NAME: &'static str;
    /// What an error says was going on.
    const TRAINING: &'static str;

    /// Takes over what a checkpoint holds, after `step` steps.
    ///
    /// # Errors
    ///
    /// Says what of it is missing or does not fit.
    fn resume(
        &mut self,
        checkpoint: &Checkpoint,
        memory: Self::Memory,
        step: u64,
    ) -> std::result::Result<(), String>;

    /// Takes over what a training without a checkpoint starts from.
    fn begin(&mut self) -> Result<()> {
        Ok(())
    }

    /// Gets ready for the steps from `step` on.
    fn prepare(&mut self, step: u64) -> Result<()>;

    /// Takes one step, counted from 0.
    fn step(&mut self, step: u64) -> Result<Stepped>;

    /// Logs the steps since the last time; asked for as often as [`Rhythm::log_every`] says.
    fn log(&mut self, _log: &mut Log<'_>) -> Result<()> {
        Ok(())
    }

    /// Judges the weights after so many steps, or those of the moving average, and logs their figures; `None` if they
    /// are no candidate for the best ones.
    fn validate(
        &mut self,
        average: Option<&State>,
        log: &mut Log<'_>,
    ) -> Result<Option<(Self::Net, Self::Figures)>>;

    /// Whether figures are better than the best ones so far.
    fn is_better(&self, figures: &Self::Figures, best: &Self::Figures) -> bool;

    /// Remembers that the weights of `step` steps are the best so far, and says what their file tells of them.
    fn chosen(&mut self, figures: &Self::Figures, step: u64) -> Value;

    /// The weights.
    fn weights(&self) -> State;

    /// What an exact resume needs beside the weights, under names that no weight has: `optimizer.` and so on.
    fn beside(&self) -> State;

    /// See [`Stage::Memory`].
    fn memory(&self) -> Self::Memory;

    /// The best figures in a few words.
    fn summary(&self, best: &Self::Figures) -> String;

    /// Why there may be no best weights at the end, and what to do.
    fn nothing_kept(&self) -> (String, &'static str);
}

/// What one step was.
pub(crate) struct Stepped {
    /// Films that it saw.
    pub films: usize,
    /// The loss that is shown.
    pub loss: f64,
    /// Whether weights have jumped before it, so that their average begins again.
    pub jumped: bool,
}

/// When things happen, in steps.
pub(crate) struct Rhythm {
    /// The last step.
    pub total: u64,
    /// Rows of figures between validations; `None` if a validation writes all there is.
    pub log_every: Option<u64>,
    pub validate_every: u64,
    pub checkpoint_every: u64,
    /// Checkpoints that are kept besides best and last.
    pub keep_every: Option<u64>,
    /// What training is counted in, and how many steps one of them has.
    pub unit: (&'static str, u64),
}

impl Rhythm {
    /// Whether something happens after so many steps that happens every so often, and at the end.
    fn is_due(&self, every: u64, step: u64) -> bool {
        step.is_multiple_of(every.max(1)) || step == self.total
    }
}

/// What a training is made from and where it is kept.
pub(crate) struct Run<'a> {
    pub config: &'a Config,
    /// Configuration of the network, as its checkpoints tell it.
    pub model: Value,
    /// What the result follows from: another one is another run.
    pub fingerprint: Value,
    /// Where everything but the best weights goes.
    pub folder: PathBuf,
    /// Where the best weights go.
    pub best: PathBuf,
    pub average: Option<AverageConfig>,
    pub rhythm: Rhythm,
}

/// What a training gave.
pub(crate) struct Trained<F> {
    pub steps: u64,
    /// Seconds over all sessions.
    pub seconds: f64,
    /// Figures of the weights that were kept.
    pub best: F,
    /// Digest of their file.
    pub digest: String,
}

/// Trains a stage from where it stands to its last step. A finished one returns at once.
///
/// # Errors
///
/// The checkpoint is of another run or cannot be used, a file cannot be written, no weights could be kept, the user
/// interrupted, or the stage fails.
pub(crate) fn train<S: Stage>(
    stage: &mut S,
    run: &Run<'_>,
    session: &Session<'_>,
) -> Result<Trained<S::Figures>> {
    let (rhythm, listener, last) = (&run.rhythm, session.progress(), run.last());
    let mut average = run.average.map(Average::new);
    let mut progress = match Progress::resume(stage, run, &mut average)? {
        Some(progress) if progress.step >= rhythm.total && progress.best.is_some() => {
            return progress.trained(stage, &last);
        }
        Some(progress) => progress,
        None => {
            stage.begin()?;
            Progress::default()
        }
    };
    session.write_config(run.config)?;
    stage.prepare(progress.step)?;
    let mut events = EventWriter::create(&run.folder)?;
    listener.start(S::NAME, rhythm.total, progress.step);
    let (mut meter, earlier) = (Meter::new(), progress.seconds);

    while progress.step < rhythm.total {
        let stepped = stage.step(progress.step)?;
        progress.step += 1;
        let step = progress.step;
        if let Some(average) = &mut average {
            average.follow(step, stepped.jumped, || stage.weights());
        }
        progress.seconds = earlier + meter.seconds();
        listener.step(step, &meter.add(stepped.films, stepped.loss));

        let mut log = Log::new(&mut events, &mut progress.history, &run.folder, step, meter.seconds());
        if rhythm.log_every.is_some_and(|every| rhythm.is_due(every, step)) {
            stage.log(&mut log)?;
        }
        let validates = rhythm.is_due(rhythm.validate_every, step);
        if validates {
            let candidate = stage.validate(average.as_ref().and_then(Average::weights), &mut log)?;
            if let Some((net, figures)) = candidate
                && progress.best.as_ref().is_none_or(|best| stage.is_better(&figures, best))
            {
                let extra = stage.chosen(&figures, step);
                progress.best_digest = run.checkpoint(S::KIND, extra, collect(&net)).save(&run.best)?;
                progress.best = Some(figures);
            }
            progress.history.save(&run.folder)?;
        }
        let interrupted = session.interrupted() && step < rhythm.total;
        let keeps = rhythm.keep_every.is_some_and(|every| step.is_multiple_of(every.max(1)));
        if validates || interrupted || keeps || rhythm.is_due(rhythm.checkpoint_every, step) {
            progress.seconds = earlier + meter.seconds();
            let checkpoint = progress.checkpoint(stage, run, average.as_ref());
            checkpoint.save(&last)?;
            if keeps {
                let (unit, steps) = rhythm.unit;
                checkpoint.save(&run.folder.join(format!("{unit}-{}.safetensors", step / steps)))?;
            }
        }
        if interrupted {
            progress.history.save(&run.folder)?;
            listener.finish(&format!("{}: stopped at step {step}", S::NAME));
            return Err(TrainError::Interrupted { stage: S::TRAINING, step, file: last });
        }
    }
    let (steps, (unit, of_unit)) = (progress.step, rhythm.unit);
    let trained = progress.trained(stage, &last)?;
    listener.finish(&format!(
        "{}: {} {unit}s in {:.0} s, {} -> {}",
        S::NAME,
        steps / of_unit,
        trained.seconds,
        stage.summary(&trained.best),
        run.best.display()
    ));
    Ok(trained)
}

impl Run<'_> {
    /// The checkpoint that training is resumed from.
    fn last(&self) -> PathBuf {
        self.folder.join("last.safetensors")
    }

    fn checkpoint(&self, kind: Kind, extra: Value, tensors: State) -> Checkpoint {
        Checkpoint { kind, model: self.model.clone(), run: json!(self.config), extra, tensors }
    }
}
