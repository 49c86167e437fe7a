//! Where a training stands: what a checkpoint carries besides tensors.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{OTHER_ARCHITECTURE, Run, Stage, Trained};
use crate::{
    Result, TrainError,
    average::Average,
    checkpoint::{Checkpoint, refusal},
    history::History,
    session::check_same_run,
};

/// Steps, time, the best weights so far, and what the stage adds.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub(super) struct Progress<S: Stage> {
    pub step: u64,
    pub seconds: f64,
    pub best: Option<S::Figures>,
    pub best_digest: String,
    pub history: History,
    #[serde(flatten)]
    memory: S::Memory,
}

impl<S: Stage> Default for Progress<S> {
    fn default() -> Self {
        Self {
            step: 0,
            seconds: 0.0,
            best: None,
            best_digest: String::new(),
            history: History::default(),
            memory: S::Memory::default(),
        }
    }
}

impl<S: Stage> Progress<S> {
    /// Puts a stage and the average of its weights back to where the last checkpoint of this run left them; `None` if there is
    /// none.
    pub fn resume(stage: &mut S, run: &Run<'_>, average: &mut Option<Average>) -> Result<Option<Self>> {
        let last = run.last();
        let checkpoint = match Checkpoint::load(&last, S::KIND) {
            Ok(checkpoint) => checkpoint,
            Err(TrainError::Missing { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        check_same_run(&last, &checkpoint, &run.fingerprint)?;
        let progress = checkpoint.extra.get("progress").cloned().unwrap_or(Value::Null);
        let mut progress: Self = serde_json::from_value(progress).map_err(|e| {
            let problem = format!("it does not say where training stood ({e})");
            refusal(&last, problem, "remove it to begin again")
        })?;
        let memory = std::mem::take(&mut progress.memory);
        stage
            .resume(&checkpoint, memory, progress.step)
            .map_err(|problem| refusal(&last, problem, OTHER_ARCHITECTURE))?;
        *average = run.average.map(|config| Average::restore(config, checkpoint.part("average.")));
        Ok(Some(progress))
    }

    /// The checkpoint that [`Progress::resume`] reads.
    pub fn checkpoint(&mut self, stage: &S, run: &Run<'_>, average: Option<&Average>) -> Checkpoint {
        self.memory = stage.memory();
        let extra = json!({ "fingerprint": run.fingerprint, "progress": self });
        let mut checkpoint = run.checkpoint(S::KIND, extra, stage.weights());
        checkpoint.add_part("", stage.beside());
        if let Some(weights) = average.and_then(Average::weights) {
            checkpoint.add_part("average.", weights.clone());
        }
        checkpoint
    }

    /// What a training that is over gave.
    pub fn trained(self, stage: &S, last: &Path) -> Result<Trained<S::Figures>> {
        let Self { step: steps, seconds, best, best_digest: digest, .. } = self;
        let best = best.ok_or_else(|| {
            let (problem, advice) = stage.nothing_kept();
            refusal(last, problem, advice)
        })?;
        Ok(Trained { steps, seconds, best, digest })
    }
}
