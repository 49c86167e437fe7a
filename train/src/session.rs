//! Where a stage writes, whom it tells, and how it is asked to stop.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::{Value, json};

use crate::{
    Config, Result, TrainError, checkpoint::Checkpoint, files::write_atomically, progress::Progress,
};

/// One run of one or more stages.
pub struct Session<'a> {
    dir: PathBuf,
    progress: &'a dyn Progress,
    interrupt: Arc<AtomicBool>,
}

impl<'a> Session<'a> {
    /// A session in the run folder `dir`. Setting `interrupt` makes the running stage write a checkpoint and stop.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>, progress: &'a dyn Progress, interrupt: Arc<AtomicBool>) -> Self {
        Self { dir: dir.into(), progress, interrupt }
    }

    /// A session that says nothing and is not interrupted.
    #[must_use]
    pub fn quiet(dir: impl Into<PathBuf>) -> Self {
        Self::new(dir, &(), Arc::new(AtomicBool::new(false)))
    }

    /// The run folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The listener.
    #[must_use]
    pub fn progress(&self) -> &dyn Progress {
        self.progress
    }

    /// Whether the user has asked to stop.
    #[must_use]
    pub fn interrupted(&self) -> bool {
        self.interrupt.load(Ordering::Relaxed)
    }

    /// Folder of the VQGAN's stage.
    #[must_use]
    pub fn vqgan_dir(&self) -> PathBuf {
        self.dir.join("vqgan")
    }

    /// The VQGAN's weights at its best validation.
    #[must_use]
    pub fn vqgan_model(&self) -> PathBuf {
        self.vqgan_dir().join("model.safetensors")
    }

    /// Folder of the classifier's stage.
    #[must_use]
    pub fn classifier_dir(&self) -> PathBuf {
        self.dir.join("classifier")
    }

    /// The classifier's weights at its best validation.
    #[must_use]
    pub fn classifier_model(&self) -> PathBuf {
        self.classifier_dir().join("model.safetensors")
    }

    /// The cached latents of all films.
    #[must_use]
    pub fn latents(&self) -> PathBuf {
        self.dir.join("latents.safetensors")
    }

    /// Writes the configuration, with its overrides, into the run folder.
    pub(crate) fn write_config(&self, config: &Config) -> Result<()> {
        let text = toml::to_string_pretty(config).map_err(|e| TrainError::Value {
            field: "config",
            found: e.to_string(),
            expected: "a configuration that can be written as TOML".to_owned(),
        })?;
        write_atomically(&self.dir.join("config.toml"), text.as_bytes())
    }
}

/// The parts of a configuration that decide what a stage computes, as JSON.
pub(crate) fn fingerprint(parts: &[(&str, Value)]) -> Value {
    Value::Object(parts.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
}

/// Refuses to continue a checkpoint that another configuration made.
pub(crate) fn check_same_run(file: &Path, checkpoint: &Checkpoint, fingerprint: &Value) -> Result<()> {
    let found = checkpoint.extra.get("fingerprint").unwrap_or(&Value::Null);
    if found == fingerprint {
        return Ok(());
    }
    let difference = fingerprint
        .as_object()
        .into_iter()
        .flatten()
        .find(|(name, value)| found.get(name.as_str()) != Some(value))
        .map_or_else(
            || "an unknown section".to_owned(),
            |(name, value)| first_difference(name, found.get(name), value),
        );
    Err(TrainError::OtherRun { file: file.into(), difference })
}

/// The path and values of the first difference between two JSON trees.
fn first_difference(path: &str, found: Option<&Value>, expected: &Value) -> String {
    if let (Some(Value::Object(found)), Value::Object(expected)) = (found, expected)
        && let Some((key, value)) =
            expected.iter().find(|(key, value)| found.get(key.as_str()) != Some(value))
    {
        return first_difference(&format!("{path}.{key}"), found.get(key), value);
    }
    let null = json!(null);
    format!("{path} was {}, now {expected}", found.unwrap_or(&null))
}
