//! The queue: one folder a job, and the file system as the only truth.
//!
//! A job is made under `temp/` and renamed into `pending/`; when it has an outcome, its folder is renamed into `done/`. Whoever holds
//! the lock on its file `claim` works on it; the system drops that lock when the process dies, however it dies. So a job is in exactly
//! one place, there is nothing to repair after a crash, and several processes can share the folder.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use he_protocol::api::{ErrorBody, JobState, JobStatus};
use he_protocol::{Digest, JobId, Name, files};
use serde::{Deserialize, Serialize};

use crate::config::Limits;
use crate::error::ApiError;
use crate::store::{Store, TempFile, entries, id_of, older};

const MAX_JSON: u64 = 64 << 10;

/// What was accepted: `job.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Its number.
    pub id: JobId,
    /// Whose it is.
    pub client: Name,
    /// The model.
    pub model: Name,
    /// The evaluation keys.
    pub keys: Digest,
    /// Digest of the encrypted latent.
    pub latent: Digest,
    /// Seconds of its lease.
    pub lease_seconds: u64,
}

/// How a job ended: `outcome.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// Done, failed or cancelled.
    pub state: JobState,
    /// Why it failed.
    pub error: Option<ErrorBody>,
    /// Seconds of evaluation.
    pub seconds: Option<f64>,
}

/// `progress.json`, which may be lost.
#[derive(Serialize, Deserialize)]
struct ProgressFile {
    done: f64,
}

/// The queue of a state folder.
#[derive(Debug, Clone)]
pub struct JobStore {
    store: Store,
}

/// A job that this thread works on. Dropping it puts the job back into the queue.
#[derive(Debug)]
pub struct Claim {
    folder: PathBuf,
    /// What was accepted.
    pub record: Record,
    /// The lock: its life is that of the claim.
    _lock: File,
}

impl Claim {
    /// The encrypted latent.
    #[must_use]
    pub fn latent(&self) -> PathBuf {
        self.folder.join("latent.ct")
    }

    /// Where the encrypted result goes, before [`JobStore::finish`].
    #[must_use]
    pub fn result(&self) -> PathBuf {
        self.folder.join("result.ct")
    }

    /// Whether the client asked to cancel, or left.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.folder.join("cancel").exists() || self.is_left()
    }

    fn is_left(&self) -> bool {
        older(&self.folder.join("seen"), Duration::from_secs(self.record.lease_seconds))
    }

    /// Counts this try and says how many there were.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn count_attempt(&self) -> io::Result<u32> {
        let path = self.folder.join("attempts");
        let before = files::read(&path, 16).ok().and_then(|b| String::from_utf8(b).ok()?.parse().ok());
        let attempts = before.unwrap_or(0u32).saturating_add(1);
        files::write(&path, attempts.to_string().as_bytes())?;
        Ok(attempts)
    }

    /// Forgets the tries, because the job was put back in order.
    pub fn forget_attempts(&self) {
        let _ = fs::remove_file(self.folder.join("attempts"));
        let _ = fs::remove_file(self.folder.join("progress.json"));
    }

    /// Tells whoever follows the job; a failure to do so does not matter.
    pub fn tell(&self, done: f64) {
        let path = self.folder.join("progress.json");
        let partial = self.folder.join("progress.partial");
        let text = serde_json::to_vec(&ProgressFile { done }).unwrap_or_default();
        let _ = fs::write(&partial, text).and_then(|()| fs::rename(&partial, &path));
    }
}

impl JobStore {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    fn place(&self, part: &str, client: &Name, id: &JobId) -> PathBuf {
        self.store.part(part).join(client.as_str()).join(id.as_str())
    }

    /// The job's folder, wherever it is now. States only move from pending to done.
    fn find(&self, client: &Name, id: &JobId) -> Option<(PathBuf, Record)> {
        ["pending", "done"].into_iter().find_map(|part| {
            let folder = self.place(part, client, id);
            let record = read_json(&folder.join("job.json"))?;
            Some((folder, record))
        })
    }

    /// Accepts a job, whose latent is a synced file under a temporary name. On return it is on disk.
    /// `false`: it was accepted before, under the same number.
    ///
    /// # Errors
    /// The queue is full, or the number was used for something else.
    pub(crate) fn submit(
        &self,
        record: &Record,
        latent: &TempFile,
        limits: &Limits,
    ) -> Result<bool, ApiError> {
        let _lock = self.store.lock()?;
        if let Some((_, found)) = self.find(&record.client, &record.id) {
            let same = Record { lease_seconds: record.lease_seconds, ..found } == *record;
            return if same {
                Ok(false)
            } else {
                Err(ApiError::conflict(
                    "idempotency_conflict",
                    "this idempotency key was used for another model, other keys or another ciphertext: use a new one",
                ))
            };
        }
        let count = |folder: PathBuf| entries(&folder).map(|e| e.len());
        let own = count(self.store.part("pending").join(record.client.as_str()))?;
        if own >= limits.queued_jobs_per_client {
            return Err(ApiError::too_many(
                "client_queue_full",
                format!("{own} jobs of this client wait: wait for one"),
                2,
            ));
        }
        let mut all = 0;
        for client in entries(&self.store.part("pending"))? {
            all += count(client)?;
        }
        if all >= limits.queued_jobs {
            return Err(ApiError::too_many("queue_full", format!("{all} jobs wait: try later"), 5));
        }
        let kept = count(self.store.part("done").join(record.client.as_str()))?;
        if kept >= limits.results_per_client {
            return Err(ApiError::too_many(
                "results_full",
                format!("{kept} finished jobs of this client are kept: delete those that were fetched"),
                30,
            ));
        }
        let temp = self.store.temp()?;
        files::private_folder(&temp)?;
        let made = (|| {
            fs::rename(&latent.0, temp.join("latent.ct"))?;
            File::create(temp.join("seen"))?;
            files::write(&temp.join("job.json"), &serde_json::to_vec(record)?)?;
            let folder = self.place("pending", &record.client, &record.id);
            let parent = self.store.part("pending").join(record.client.as_str());
            files::private_folder(&parent)?;
            fs::rename(&temp, folder)?;
            files::sync_folder(&parent)
        })();
        if made.is_err() {
            let _ = fs::remove_dir_all(&temp);
        }
        made?;
        Ok(true)
    }

    /// Where a job is. Asking keeps its lease alive.
    ///
    /// # Errors
    /// There is no such job of this client.
    pub fn status(&self, client: &Name, id: &JobId) -> Result<JobStatus, ApiError> {
        let (folder, record) = self.find(client, id).ok_or_else(|| ApiError::not_found("job"))?;
        let base = JobStatus {
            id: record.id,
            model: record.model,
            keys: record.keys,
            state: JobState::Queued,
            progress: 0.0,
            seconds: None,
            error: None,
        };
        if let Ok(seen) = File::options().write(true).open(folder.join("seen")) {
            let _ = seen.set_modified(SystemTime::now());
        }
        // It may have moved between the two looks.
        let outcome = read_json::<Outcome>(&folder.join("outcome.json"))
            .or_else(|| read_json(&self.place("done", client, id).join("outcome.json")));
        if let Some(Outcome { state, error, seconds }) = outcome {
            return Ok(JobStatus { state, error, seconds, progress: 1.0, ..base });
        }
        Ok(match read_json::<ProgressFile>(&folder.join("progress.json")) {
            Some(ProgressFile { done }) => JobStatus { state: JobState::Running, progress: done, ..base },
            None => base,
        })
    }

    /// The numbers of a client's jobs.
    ///
    /// # Errors
    /// A folder cannot be read.
    pub fn list(&self, client: &Name) -> Result<Vec<JobStatus>, ApiError> {
        let mut ids: Vec<JobId> = vec![];
        for part in ["pending", "done"] {
            ids.extend(
                entries(&self.store.part(part).join(client.as_str()))?.iter().filter_map(|p| id_of(p)),
            );
        }
        ids.sort();
        ids.dedup();
        Ok(ids.iter().filter_map(|id| self.status(client, id).ok()).collect())
    }

    /// The encrypted result of a finished job.
    ///
    /// # Errors
    /// The job is not done.
    pub fn result(&self, client: &Name, id: &JobId) -> Result<File, ApiError> {
        let status = self.status(client, id)?;
        if status.state != JobState::Done {
            let message = format!("the job is {:?}, it has no result", status.state).to_lowercase();
            return Err(ApiError::conflict("no_result", message));
        }
        // Between outcome and rename the result is still in the pending folder.
        let path = ["done", "pending", "done"].map(|part| self.place(part, client, id).join("result.ct"));
        path.iter().find_map(|p| File::open(p).ok()).ok_or_else(|| ApiError::not_found("result"))
    }

    /// Cancels a job that is not finished; removes one that is.
    ///
    /// # Errors
    /// There is no such job of this client.
    pub fn delete(&self, client: &Name, id: &JobId) -> Result<(), ApiError> {
        let (folder, _) = self.find(client, id).ok_or_else(|| ApiError::not_found("job"))?;
        if folder == self.place("done", client, id) {
            return Ok(self.store.discard(&folder)?);
        }
        match File::create(folder.join("cancel")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        if let Some(claim) = self.claim(client, id)? {
            self.finish(&claim, &cancelled())?;
        }
        Ok(())
    }

    /// Takes the next job: of the client whose turn it is after `last`, its oldest. `None` if nothing waits.
    ///
    /// # Errors
    /// A folder cannot be read.
    pub fn next(&self, last: Option<&Name>, again: bool) -> io::Result<Option<Claim>> {
        let mut clients: Vec<Name> =
            entries(&self.store.part("pending"))?.iter().filter_map(|p| id_of(p)).collect();
        clients.sort();
        if let Some(last) = last {
            // Those after the last come first; the last itself comes first of all while its turn goes on.
            let first = clients.partition_point(|c| if again { c < last } else { c <= last });
            let count = clients.len().max(1);
            clients.rotate_left(first % count);
        }
        for client in clients {
            let mut jobs: Vec<(SystemTime, JobId)> =
                entries(&self.store.part("pending").join(client.as_str()))?
                    .iter()
                    .filter_map(|p| {
                        Some((fs::metadata(p.join("job.json")).ok()?.modified().ok()?, id_of(p)?))
                    })
                    .collect();
            jobs.sort();
            for (_, id) in jobs {
                if let Some(claim) = self.claim(&client, &id)? {
                    return Ok(Some(claim));
                }
            }
        }
        Ok(None)
    }

    /// Takes a job, unless somebody works on it.
    fn claim(&self, client: &Name, id: &JobId) -> io::Result<Option<Claim>> {
        let folder = self.place("pending", client, id);
        let path = folder.join("claim");
        let lock = match File::options().create(true).write(true).truncate(false).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if lock.try_lock().is_err() || !is_same(&lock, &path) {
            return Ok(None);
        }
        let Some(record) = read_json::<Record>(&folder.join("job.json")) else {
            return Ok(None);
        };
        let claim = Claim { folder, record, _lock: lock };
        if claim.folder.join("outcome.json").exists() {
            // The process died between outcome and rename.
            self.move_to_done(&claim)?;
            return Ok(None);
        }
        Ok(Some(claim))
    }

    /// Ends a job.
    ///
    /// # Errors
    /// The outcome cannot be written; the job stays in the queue.
    pub fn finish(&self, claim: &Claim, outcome: &Outcome) -> io::Result<()> {
        files::write(&claim.folder.join("outcome.json"), &serde_json::to_vec(outcome)?)?;
        self.move_to_done(claim)
    }

    fn move_to_done(&self, claim: &Claim) -> io::Result<()> {
        for left in ["latent.ct", "progress.json", "progress.partial", "cancel", "seen", "attempts"] {
            let _ = fs::remove_file(claim.folder.join(left));
        }
        let parent = self.store.part("done").join(claim.record.client.as_str());
        files::private_folder(&parent)?;
        fs::rename(&claim.folder, parent.join(claim.record.id.as_str()))?;
        files::sync_folder(&parent)?;
        if let Some(pending) = claim.folder.parent() {
            files::sync_folder(pending)?;
        }
        Ok(())
    }

    /// After a start: what nobody works on waits again, with a fresh lease. Returns how many jobs wait.
    ///
    /// # Errors
    /// A folder cannot be read.
    pub fn recover(&self) -> io::Result<usize> {
        let mut waiting = 0;
        for client in entries(&self.store.part("pending"))? {
            for job in entries(&client)? {
                let (Some(client), Some(id)) = (id_of(&client), id_of(&job)) else { continue };
                if let Some(claim) = self.claim(&client, &id)? {
                    let _ = fs::remove_file(claim.folder.join("progress.json"));
                    if let Ok(seen) = File::options().write(true).open(claim.folder.join("seen")) {
                        let _ = seen.set_modified(SystemTime::now());
                    }
                    waiting += 1;
                }
            }
        }
        Ok(waiting)
    }

    /// Cancels jobs whose clients left, and removes old results.
    ///
    /// # Errors
    /// A folder cannot be read.
    pub fn sweep(&self, limits: &Limits) -> io::Result<()> {
        for client in entries(&self.store.part("pending"))? {
            for job in entries(&client)? {
                let (Some(client), Some(id)) = (id_of(&client), id_of(&job)) else { continue };
                if let Some(claim) = self.claim(&client, &id)?.filter(Claim::is_left) {
                    tracing::info!(client = %client, job = %id, "its client left: cancelled");
                    self.finish(&claim, &cancelled())?;
                }
            }
        }
        let age = Duration::from_secs(limits.result_hours * 3600);
        for client in entries(&self.store.part("done"))? {
            for job in entries(&client)? {
                if older(&job.join("outcome.json"), age) {
                    self.store.discard(&job)?;
                }
            }
        }
        Ok(())
    }

    /// Jobs that wait or run.
    #[must_use]
    pub fn pending(&self) -> usize {
        let clients = entries(&self.store.part("pending")).unwrap_or_default();
        clients.iter().map(|c| entries(c).map_or(0, |e| e.len())).sum()
    }
}

/// The outcome of a job that its client does not want any more.
#[must_use]
pub fn cancelled() -> Outcome {
    let message = "cancelled by its client, or left by it for longer than its lease".into();
    let error = Some(ErrorBody { code: "cancelled".into(), message });
    Outcome { state: JobState::Cancelled, error, seconds: None }
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&files::read(path, MAX_JSON).ok()?).ok()
}

/// Whether the open file is still the one under this name.
fn is_same(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}
