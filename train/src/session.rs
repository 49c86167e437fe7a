//! Where a stage writes, whom it tells, and how it is asked to stop.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::Value;

use crate::{Config, Result, TrainError, checkpoint::Checkpoint, progress::Progress};

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
        Ok(durable::write(&self.dir.join("config.toml"), text.as_bytes())?)
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
    let difference = first_difference("", found, fingerprint);
    Err(TrainError::OtherRun { file: file.into(), difference })
}

/// The path and values of the first difference between two JSON trees that differ; what one of them lacks is null.
fn first_difference(path: &str, found: &Value, expected: &Value) -> String {
    if let (Value::Object(old), Value::Object(new)) = (found, expected) {
        let absent = Value::Null;
        let differs = |key: &&String| old.get(*key) != new.get(*key);
        if let Some(key) = new.keys().chain(old.keys()).find(differs) {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let value = |tree: &serde_json::Map<String, Value>| tree.get(key).unwrap_or(&absent).clone();
            return first_difference(&path, &value(old), &value(new));
        }
    }
    let path = if path.is_empty() { "what it was made from" } else { path };
    let shown = |value: &Value| if value.is_null() { "not set".to_owned() } else { value.to_string() };
    format!("{path} was {}, now {}", shown(found), shown(expected))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_first_difference_is_named_whichever_side_lacks_it() {
        let (a, b) = (
            json!({ "seed": 1, "net": { "width": 4, "se": true } }),
            json!({ "seed": 1, "net": { "width": 4 } }),
        );
        assert_eq!(first_difference("", &a, &b), "net.se was true, now not set");
        assert_eq!(first_difference("", &b, &a), "net.se was not set, now true");
        assert_eq!(
            first_difference("", &json!(null), &b),
            format!("what it was made from was not set, now {b}")
        );
        let other = json!({ "seed": 1, "net": { "width": 8 } });
        assert_eq!(first_difference("", &b, &other), "net.width was 4, now 8");
    }
}
