//! The cache: one folder a stage and key, shared by all cells and studies that name it.
//!
//! ```text
//! CACHE/vqgan/KEY/  inputs.json  lock  ...what the stage writes...  done.json
//! ```
//!
//! `done.json` is written last and atomically: a folder that has it is finished and is never written again; a folder without it
//! was interrupted and is continued by whoever comes next. The lock, which the system drops with its process,
//! lets shards on one file system share a cache: who finds it taken waits, and then finds the stage done.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pipeline::Context;
use pipeline::error::{Explain as _, Result};
use pipeline::files::make_folder;
use report::readable_time;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::key::{Stage, StageKey};
use super::provenance::Provenance;

/// How long one waits between two looks at a lock.
const POLL: Duration = Duration::from_millis(500);

/// A finished stage.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Done<T> {
    /// Its key.
    pub key: String,
    /// Seconds of the session that finished it.
    pub seconds: f64,
    /// Which program and machine finished it.
    pub made_by: Provenance,
    /// What it gave.
    pub result: T,
}

/// The folder of all finished and begun stages.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The cache in `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder of a stage with a key.
    pub fn folder(&self, stage: Stage, key: &str) -> PathBuf {
        self.root.join(stage.name()).join(key)
    }

    /// The folder of what the planner said of networks, see `super::forecast`.
    pub fn forecasts(&self) -> PathBuf {
        self.root.join("forecasts")
    }

    /// Whether the stage is finished.
    pub fn is_done(&self, key: &StageKey) -> bool {
        done_file(&self.folder(key.stage, &key.key)).exists()
    }

    /// The result of a stage: from an earlier run where there is one, otherwise of `work`, which is given the stage's folder and
    /// continues what it finds there.
    ///
    /// # Errors
    /// As `work`; the user interrupted while another process had the stage; the folder cannot be read or written.
    pub fn complete<T: Serialize + DeserializeOwned>(
        &self,
        context: &Context,
        key: &StageKey,
        work: impl FnOnce(&Path) -> Result<T>,
    ) -> Result<Done<T>> {
        let folder = self.folder(key.stage, &key.key);
        let name = key.stage.name();
        if let Some(done) = read_done(context, &folder) {
            context.say(&format!("{name}: done before"));
            return Ok(done);
        }
        make_folder(&folder)?;
        let _lock = lock(context, &folder, name)?;
        if let Some(done) = read_done(context, &folder) {
            context.say(&format!("{name}: another process has done it"));
            return Ok(done);
        }
        durable::write(&folder.join("inputs.json"), serde_json::to_string_pretty(&key.inputs)?.as_bytes())?;
        let started = Instant::now();
        let result = work(&folder)?;
        let seconds = started.elapsed().as_secs_f64();
        let done = Done { key: key.key.clone(), seconds, made_by: Provenance::here(), result };
        durable::write(&done_file(&folder), serde_json::to_string_pretty(&done)?.as_bytes())?;
        context.say(&format!("{name}: {}", readable_time(started.elapsed())));
        Ok(done)
    }
}

fn done_file(folder: &Path) -> PathBuf {
    folder.join("done.json")
}

/// The result in a folder; one that cannot be read is made again, and the user is told.
fn read_done<T: DeserializeOwned>(context: &Context, folder: &Path) -> Option<Done<T>> {
    let file = done_file(folder);
    let bytes = std::fs::read(&file).ok()?;
    match serde_json::from_slice(&bytes) {
        Ok(done) => Some(done),
        Err(error) => {
            context.say(&format!("{} cannot be read ({error}): made again", file.display()));
            None
        }
    }
}

/// Takes the lock of a folder, waiting for another process that has it.
fn lock(context: &Context, folder: &Path, stage: &str) -> Result<File> {
    let path = folder.join("lock");
    let file = File::options()
        .create(true)
        .write(true)
        .truncate(false)
        .open(&path)
        .explain(|| format!("cannot open {}", path.display()))?;
    let mut is_told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {
                if !is_told {
                    context.say(&format!("{stage}: another process works on {}; waiting", folder.display()));
                    is_told = true;
                }
                context.check(stage)?;
                std::thread::sleep(POLL);
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).explain(|| format!("cannot lock {}", path.display()));
            }
        }
    }
}

/// Puts a file of one stage where the next one expects it, without a second copy where the file system can.
///
/// # Errors
/// The file cannot be linked or copied.
pub fn link(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        return Ok(());
    }
    if let Some(folder) = to.parent() {
        make_folder(folder)?;
    }
    if std::fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    durable::copy(from, to).explain(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key(name: &str) -> StageKey {
        StageKey { stage: Stage::Vqgan, inputs: json!({ "name": name }), key: name.to_owned() }
    }

    #[test]
    fn what_is_done_is_not_done_again_and_what_failed_is() {
        let folder = tempfile::tempdir().unwrap();
        let (cache, context) = (Cache::new(folder.path()), Context::quiet());
        let complete =
            |value: Result<u32>| cache.complete(&context, &key("a"), |_| value).map(|done| done.result);
        assert!(
            complete(Err(pipeline::Error::refused("out of films")))
                .unwrap_err()
                .to_string()
                .contains("out of films")
        );
        assert!(!cache.is_done(&key("a")));
        assert_eq!(complete(Ok(1)).unwrap(), 1);
        assert_eq!(complete(Ok(2)).unwrap(), 1, "done before");
        assert_eq!(cache.complete(&context, &key("b"), |_| Ok(3)).unwrap().result, 3);
    }

    #[test]
    fn a_damaged_result_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let (cache, context) = (Cache::new(folder.path()), Context::quiet());
        cache.complete(&context, &key("a"), |_| Ok(1)).unwrap();
        std::fs::write(cache.folder(Stage::Vqgan, "a").join("done.json"), "{\"key\": ").unwrap();
        assert_eq!(cache.complete(&context, &key("a"), |_| Ok(2)).unwrap().result, 2);
    }

    #[test]
    fn two_processes_do_a_stage_once() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path());
        let runs = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let context = Context::quiet();
                    let work = |_: &Path| {
                        std::thread::sleep(Duration::from_millis(50));
                        Ok(runs.fetch_add(1, std::sync::atomic::Ordering::SeqCst))
                    };
                    assert_eq!(cache.complete(&context, &key("a"), work).unwrap().result, 0);
                });
            }
        });
        assert_eq!(runs.into_inner(), 1);
    }
}
