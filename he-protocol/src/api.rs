//! Requests and answers of the service, as JSON. `docs/openapi.json` describes the routes.

use he_runtime::ClientSpec;
use serde::{Deserialize, Serialize};

use crate::{Card, Digest, JobId, Name};

/// Header that names a submission: a retry under the same key never submits twice.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Header with the seconds after which a job whose client neither asks nor follows is cancelled.
pub const LEASE_SECONDS: &str = "veilray-lease-seconds";

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// For programs, for example `queue_full`.
    pub code: String,
    /// For people: what was expected, what came, what to do.
    pub message: String,
}

/// One model in the list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelSummary {
    /// Its name on this service.
    pub name: Name,
    /// Digest of the model: what ciphertexts and keys refer to.
    pub digest: Digest,
    /// Names of the findings.
    pub labels: Vec<String>,
}

/// Everything public about a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelDescription {
    /// Its name on this service.
    pub name: Name,
    /// What a client has to know to make keys and ciphertexts.
    pub spec: ClientSpec,
    /// Largest magnitude of a logit in calibration; 0 if unknown.
    pub logit_range: f64,
    /// Films that one ciphertext holds.
    pub batch: usize,
    /// The encoder to use, if the service hands it out.
    pub encoder: Option<FileInfo>,
    /// The model card.
    pub card: Card,
    /// Limits that a client must keep.
    pub limits: PublicLimits,
}

/// A file that can be fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileInfo {
    /// Digest of its bytes.
    pub digest: Digest,
    /// Its size.
    pub bytes: u64,
}

/// Limits of the service that a client has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicLimits {
    /// Most bytes of one part of an upload.
    pub part_bytes: u64,
    /// Most bytes of evaluation keys that a client may keep here.
    pub key_bytes: u64,
    /// Most sets of evaluation keys that a client may keep here.
    pub key_sets: usize,
    /// Most jobs of a client that may wait.
    pub queued_jobs: usize,
    /// Most seconds of a lease.
    pub lease_seconds: u64,
}

/// Begins an upload of evaluation keys, or finds one that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRequest {
    /// Model that the keys are for.
    pub model: Name,
    /// Digest of the file.
    pub digest: Digest,
    /// Size of the file.
    pub bytes: u64,
}

/// How far an upload of evaluation keys is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyStatus {
    /// Model that the keys are for.
    pub model: Name,
    /// Digest of the file.
    pub digest: Digest,
    /// Size of the file.
    pub bytes: u64,
    /// Bytes that the service has: where the next part begins.
    pub received: u64,
    /// Checked and ready for jobs.
    pub complete: bool,
}

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Accepted, on disk, waiting for its turn.
    Queued,
    /// Being classified.
    Running,
    /// The encrypted result is there.
    Done,
    /// Refused or failed; the status says why.
    Failed,
    /// Cancelled by its client, or left by it.
    Cancelled,
}

impl JobState {
    /// Whether nothing more will happen.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
}

/// A job as its client sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobStatus {
    /// Its number.
    pub id: JobId,
    /// The model.
    pub model: Name,
    /// The evaluation keys.
    pub keys: Digest,
    /// Where it is.
    pub state: JobState,
    /// Share of the predicted time that is done, 0 to 1.
    pub progress: f64,
    /// Seconds of evaluation, once done.
    pub seconds: Option<f64>,
    /// Why it failed.
    pub error: Option<ErrorBody>,
}

/// `model` and `keys` of a submission, in the query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobQuery {
    /// The model.
    pub model: Name,
    /// The evaluation keys.
    pub keys: Digest,
}
