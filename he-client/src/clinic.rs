//! Enrol, upload keys, submit, follow, fetch, decrypt.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use he_model::SecurityLevel;
use he_protocol::api::{
    IDEMPOTENCY_KEY, JobState, JobStatus, KeyRequest, KeyStatus, LEASE_SECONDS, ModelDescription,
    ModelSummary,
};
use he_protocol::{Digest, JobId, Name, files};
use he_runtime::EncryptedTensor;
use he_runtime::client::{ClientKeys, decrypt_batch, encrypt_batch};

use crate::ClientError;
use crate::http::{Call, Connection};
use crate::vault::{Enrolment, Passphrase, Vault, random};

/// A larger encoder is refused.
const MAX_ENCODER: u64 = 8 << 30;
/// A logit may exceed the calibrated range by this factor, and must exceed [`LEAST_LIMIT`], before it is not believed.
const RANGE_FACTOR: f64 = 8.0;
const LEAST_LIMIT: f64 = 30.0;

/// The logits of a film, one a label, or why there are none; films that shared a job share its error.
pub type Logits = Result<Vec<f64>, Arc<ClientError>>;

/// How far something is, for whoever watches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Step {
    /// Bytes of the evaluation keys that the service has, of all.
    Upload(u64, u64),
    /// A film's number among the films, the state of its job, and the share of the job's time that is done.
    Job(usize, JobState, f64),
}

/// One finding of a film.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Finding {
    /// Its name.
    pub label: String,
    /// The network's output.
    pub logit: f64,
    /// 1 / (1 + exp(-logit)).
    pub probability: f64,
}

/// Names the logits of a film.
#[must_use]
pub fn findings(labels: &[String], logits: &[f64]) -> Vec<Finding> {
    let finding = |(label, &logit): (&String, &f64)| Finding {
        label: label.clone(),
        logit,
        probability: 1.0 / (1.0 + (-logit).exp()),
    };
    labels.iter().zip(logits).map(finding).collect()
}

/// The models that a service offers.
///
/// # Errors
/// The service refuses or cannot be reached.
pub fn models(connection: &Connection) -> Result<Vec<ModelSummary>, ClientError> {
    connection.json(Call::new("GET", "/v1/models"))
}

/// Describes a model.
///
/// # Errors
/// The service refuses or cannot be reached.
pub fn describe(connection: &Connection, model: &Name) -> Result<ModelDescription, ClientError> {
    connection.json(Call::new("GET", &format!("/v1/models/{model}")))
}

/// Fetches a model's encoder into `folder`, under its digest, unless it is there. `None`: the service does not hand it out.
///
/// # Errors
/// The bytes do not have the digest of the description, or a file cannot be written.
pub fn fetch_encoder(
    connection: &Connection,
    model: &ModelDescription,
    folder: &Path,
) -> Result<Option<PathBuf>, ClientError> {
    let Some(info) = &model.encoder else { return Ok(None) };
    let path = folder.join(format!("encoder-{}.safetensors", &info.digest.as_str()[..16]));
    if let Ok(file) = File::open(&path)
        && Digest::read(file).map_err(ClientError::io(&path))? == info.digest
    {
        return Ok(Some(path));
    }
    let call = format!("/v1/models/{}/encoder", model.name);
    let bytes = connection.bytes(Call::new("GET", &call), info.bytes.min(MAX_ENCODER))?;
    if Digest::of(&bytes) != info.digest {
        return Err(ClientError::Answer(
            "the encoder's bytes do not have the digest of its description".into(),
        ));
    }
    std::fs::create_dir_all(folder).map_err(ClientError::io(folder))?;
    files::write(&path, &bytes).map_err(ClientError::io(&path))?;
    Ok(Some(path))
}

/// One enrolled clinic: a service, a model, and keys.
pub struct Clinic {
    connection: Connection,
    enrolment: Enrolment,
    vault: Vault,
    secret: ClientKeys,
    lease: Option<Duration>,
}

impl Clinic {
    /// Makes keys for a model, unless the vault has them, and uploads what the service lacks of the evaluation keys. Can be repeated: an
    /// upload goes on where it broke off.
    ///
    /// # Errors
    /// Insecure parameters, a vault for another model, or a service that refuses.
    pub fn enrol(
        connection: Connection,
        model: &Name,
        vault: Vault,
        passphrase: Option<&Passphrase>,
        on_step: &mut dyn FnMut(Step),
    ) -> Result<Self, ClientError> {
        let description = describe(&connection, model)?;
        if description.spec.ring.security == SecurityLevel::InsecureForTests {
            return Err(ClientError::Insecure);
        }
        Self::enrol_checked(connection, description, vault, passphrase, on_step)
    }

    /// As [`Clinic::enrol`], with parameters that protect nothing: for tests.
    ///
    /// # Errors
    /// As [`Clinic::enrol`].
    #[doc(hidden)]
    pub fn enrol_insecure_for_tests(
        connection: Connection,
        model: &Name,
        vault: Vault,
        passphrase: Option<&Passphrase>,
        on_step: &mut dyn FnMut(Step),
    ) -> Result<Self, ClientError> {
        let description = describe(&connection, model)?;
        Self::enrol_checked(connection, description, vault, passphrase, on_step)
    }

    fn enrol_checked(
        connection: Connection,
        description: ModelDescription,
        vault: Vault,
        passphrase: Option<&Passphrase>,
        on_step: &mut dyn FnMut(Step),
    ) -> Result<Self, ClientError> {
        let (said, films) = (description.batch, description.spec.films());
        if said != films {
            return Err(ClientError::Answer(format!(
                "a ciphertext is said to hold {said} films, by the model's layouts it holds {films}"
            )));
        }
        let enrolment = match vault.enrolment()? {
            None => vault.create(connection.url(), description, passphrase)?,
            Some(found) if found.model.spec == description.spec => found,
            Some(found) => {
                return Err(ClientError::Vault {
                    path: vault.folder().display().to_string(),
                    reason: format!(
                        "these keys are for another model or version ({}): name another folder",
                        found.model.name
                    ),
                });
            }
        };
        let clinic = Self::with(connection, vault, enrolment, passphrase)?;
        clinic.upload(on_step)?;
        Ok(clinic)
    }

    /// Opens a vault that was enrolled.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn open(
        connection: Connection,
        vault: Vault,
        passphrase: Option<&Passphrase>,
    ) -> Result<Self, ClientError> {
        let missing = || ClientError::Vault {
            path: vault.folder().display().to_string(),
            reason: "there are no keys here: enrol first".into(),
        };
        let enrolment = vault.enrolment()?.ok_or_else(missing)?;
        Self::with(connection, vault, enrolment, passphrase)
    }

    fn with(
        connection: Connection,
        vault: Vault,
        enrolment: Enrolment,
        passphrase: Option<&Passphrase>,
    ) -> Result<Self, ClientError> {
        let secret = vault.secret(&enrolment.model.spec, passphrase)?;
        Ok(Self { connection, enrolment, vault, secret, lease: None })
    }

    /// Sets the lease of later jobs: the service cancels them when nobody asked for so long.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = Some(lease);
        self
    }

    /// The model, the service and the keys' digest.
    #[must_use]
    pub fn enrolment(&self) -> &Enrolment {
        &self.enrolment
    }

    /// The connection.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Sends what the service lacks of the evaluation keys.
    ///
    /// # Errors
    /// The service refuses or cannot be reached.
    pub fn upload(&self, on_step: &mut dyn FnMut(Step)) -> Result<(), ClientError> {
        let Enrolment { model, keys, key_bytes, .. } = &self.enrolment;
        let request = KeyRequest { model: model.name.clone(), digest: keys.clone(), bytes: *key_bytes };
        let body = serde_json::to_vec(&request).map_err(|e| ClientError::Answer(e.to_string()))?;
        let mut status: KeyStatus =
            self.connection.json(Call { body: &body, ..Call::new("POST", "/v1/keys") })?;
        if status.complete {
            return Ok(());
        }
        let path = self.vault.evaluation_keys();
        let mut file = File::open(&path).map_err(ClientError::io(&path))?;
        let room = usize::try_from(model.limits.part_bytes.clamp(1, 64 << 20)).unwrap_or(1 << 20);
        let mut part = Vec::with_capacity(room);
        let mut wrong = 0;
        while status.received < *key_bytes {
            on_step(Step::Upload(status.received, *key_bytes));
            file.seek(SeekFrom::Start(status.received)).map_err(ClientError::io(&path))?;
            part.clear();
            (&mut file).take(room as u64).read_to_end(&mut part).map_err(ClientError::io(&path))?;
            let call = format!("/v1/keys/{keys}/parts/{}", status.received);
            let sent = self.connection.json(Call { body: &part, ..Call::new("PUT", &call) });
            status = match sent {
                Ok(status) => status,
                // The answer to a part that arrived was lost, or another process uploads too: ask where to go on.
                Err(ClientError::Refused { status: 409, .. }) if wrong < 100 => {
                    wrong += 1;
                    std::thread::sleep(Duration::from_millis(50));
                    self.connection.json(Call::new("GET", &format!("/v1/keys/{keys}")))?
                }
                Err(error) => return Err(error),
            };
            if status.complete {
                return Ok(());
            }
        }
        on_step(Step::Upload(status.received, *key_bytes));
        let complete = format!("/v1/keys/{keys}/complete");
        self.connection.json::<KeyStatus>(Call::new("POST", &complete)).map(drop)
    }

    /// Films that one job takes.
    #[must_use]
    pub fn films(&self) -> usize {
        self.enrolment.model.spec.films()
    }

    /// Encrypts a latent, `[channels, height, width]` row-major, into the bytes that [`Clinic::submit_bytes`] sends.
    ///
    /// # Errors
    /// A latent that the model does not take.
    pub fn encrypt(&self, latent: &[f64]) -> Result<Vec<u8>, ClientError> {
        self.encrypt_batch(&[latent])
    }

    /// As [`Clinic::encrypt`], the latents of 1 to [`Clinic::films`] films for one job. How many there are does not show.
    ///
    /// # Errors
    /// No latent, too many, or one that the model does not take.
    pub fn encrypt_batch(&self, latents: &[impl AsRef<[f64]>]) -> Result<Vec<u8>, ClientError> {
        let spec = &self.enrolment.model.spec;
        let encrypted = encrypt_batch(spec, &self.secret, latents, &mut random()?)?;
        let file = self.scratch()?;
        encrypted.save(&spec.parameters()?, &file.0)?;
        std::fs::read(&file.0).map_err(ClientError::io(&file.0))
    }

    /// Submits an encrypted latent. `name` is its idempotency key: a call with the same one finds the first job.
    ///
    /// # Errors
    /// The service refuses or cannot be reached.
    pub fn submit_bytes(&self, encrypted: &[u8], name: &str) -> Result<JobStatus, ClientError> {
        let Enrolment { model, keys, .. } = &self.enrolment;
        let path = format!("/v1/jobs?model={}&keys={keys}", model.name);
        let lease = self.lease.map(|l| l.as_secs().max(2).to_string());
        let mut headers = vec![(IDEMPOTENCY_KEY, name)];
        headers.extend(lease.as_deref().map(|l| (LEASE_SECONDS, l)));
        self.connection.json(Call { headers: &headers, body: encrypted, ..Call::new("POST", &path) })
    }

    /// Where a job is.
    ///
    /// # Errors
    /// The service refuses or cannot be reached.
    pub fn status(&self, job: &JobId) -> Result<JobStatus, ClientError> {
        self.connection.json(Call::new("GET", &format!("/v1/jobs/{job}")))
    }

    /// Follows a job to its end.
    ///
    /// # Errors
    /// The service refuses or cannot be reached, or `interrupt` was set.
    pub fn wait(
        &self,
        job: &JobId,
        interrupt: &AtomicBool,
        on_status: &mut dyn FnMut(&JobStatus),
    ) -> Result<JobStatus, ClientError> {
        let path = format!("/v1/jobs/{job}/events");
        let mut alive = Instant::now();
        loop {
            let mut end = None;
            let followed = self.connection.events(&path, |data| {
                let status: JobStatus =
                    serde_json::from_str(data).map_err(|e| ClientError::Answer(e.to_string()))?;
                on_status(&status);
                alive = Instant::now();
                end = status.state.is_final().then_some(status);
                Ok(end.is_none() && !interrupt.load(Ordering::Relaxed))
            });
            if let Some(end) = end {
                return Ok(end);
            }
            if interrupt.load(Ordering::Relaxed) {
                return Err(ClientError::Interrupted);
            }
            followed?;
            // The stream broke, for example because the service was started again: the job is on its disk.
            if alive.elapsed() > Duration::from_secs(3600) {
                return Err(ClientError::Answer("an hour without a word about the job".into()));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Fetches the encrypted result of a finished job, decrypts its first film, and deletes it from the service.
    ///
    /// # Errors
    /// The job has no result, or it does not belong to these keys.
    pub fn result(&self, job: &JobId) -> Result<Vec<f64>, ClientError> {
        self.results(job, 1)?.swap_remove(0)
    }

    /// As [`Clinic::result`], the first `films` films of the job's batch, in the order in which they were encrypted: each with its logits, or
    /// with why they are not believed.
    ///
    /// # Errors
    /// The job has no result, it does not belong to these keys, or a batch does not hold so many films.
    pub fn results(
        &self,
        job: &JobId,
        films: usize,
    ) -> Result<Vec<Result<Vec<f64>, ClientError>>, ClientError> {
        let model = &self.enrolment.model;
        model.spec.check()?;
        let parameters = model.spec.parameters()?;
        let one = 2 * (model.spec.output_level as u64 + 1) * 4 * parameters.ring_degree() as u64;
        let limit = 4096 + model.spec.output.ciphertexts() as u64 * (one + 4096);
        let bytes = self.connection.bytes(Call::new("GET", &format!("/v1/jobs/{job}/result")), limit)?;
        let file = self.scratch()?;
        File::create(&file.0).and_then(|mut f| f.write_all(&bytes)).map_err(ClientError::io(&file.0))?;
        let result = EncryptedTensor::load_logits(&parameters, &file.0)?;
        let decrypted = decrypt_batch(&model.spec, &self.secret, &result, films)?;
        self.delete(job)?;
        let limit = (RANGE_FACTOR * model.logit_range).max(LEAST_LIMIT);
        let believed = |logits: Vec<f64>| match logits.iter().find(|v| v.is_nan() || v.abs() > limit) {
            Some(&value) => Err(ClientError::Implausible { value, limit }),
            None => Ok(logits),
        };
        Ok(decrypted.into_iter().map(believed).collect())
    }

    /// Cancels a job, or deletes one that ended. A job that is not there any more is no error.
    ///
    /// # Errors
    /// The service refuses or cannot be reached.
    pub fn delete(&self, job: &JobId) -> Result<(), ClientError> {
        match self.connection.send(Call::new("DELETE", &format!("/v1/jobs/{job}"))) {
            Ok(_) | Err(ClientError::Refused { status: 404, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes the evaluation keys from the service. [`Clinic::upload`] sends them again.
    ///
    /// # Errors
    /// The service refuses or cannot be reached.
    pub fn delete_keys(&self) -> Result<(), ClientError> {
        let path = format!("/v1/keys/{}", self.enrolment.keys);
        match self.connection.send(Call::new("DELETE", &path)) {
            Ok(_) | Err(ClientError::Refused { status: 404, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// One latent to its logits: encrypt, submit, wait, decrypt.
    ///
    /// # Errors
    /// As its parts; the job is cancelled if the caller interrupts.
    pub fn diagnose(
        &self,
        latent: &[f64],
        interrupt: &AtomicBool,
        on_status: &mut dyn FnMut(&JobStatus),
    ) -> Result<Vec<f64>, ClientError> {
        self.diagnose_batch(&[latent], interrupt, on_status)?.swap_remove(0)
    }

    /// As [`Clinic::diagnose`], the latents of 1 to [`Clinic::films`] films in one job.
    ///
    /// # Errors
    /// As its parts, for all of the films; one whose result is not believed has an error of its own.
    pub fn diagnose_batch(
        &self,
        latents: &[impl AsRef<[f64]>],
        interrupt: &AtomicBool,
        on_status: &mut dyn FnMut(&JobStatus),
    ) -> Result<Vec<Result<Vec<f64>, ClientError>>, ClientError> {
        let encrypted = self.encrypt_batch(latents)?;
        let name = format!("{:032x}", rand::random::<u128>());
        let job = self.submit_bytes(&encrypted, &name)?.id;
        drop(encrypted);
        let end = match self.wait(&job, interrupt, on_status) {
            Ok(end) => end,
            Err(error) => {
                let _ = self.delete(&job);
                return Err(error);
            }
        };
        if end.state != JobState::Done {
            let _ = self.delete(&job);
            let error = end.error.map(|e| (e.code, e.message));
            let (code, message) = error.unwrap_or_else(|| ("unknown".into(), "no reason was given".into()));
            return Err(ClientError::Job { code, message });
        }
        self.results(&job, latents.len())
    }

    /// Any number of latents, each to its logits or its error, in their order. Each job takes as many films as it can, and `at_once` jobs are
    /// under way at a time. A latent that the model does not take is refused here, and does not keep others from their job.
    pub fn diagnose_all(
        &self,
        latents: &[Vec<f64>],
        at_once: usize,
        interrupt: &AtomicBool,
        on_step: &(dyn Fn(Step) + Sync),
    ) -> Vec<Logits> {
        let spec = &self.enrolment.model.spec;
        let refused =
            |latent: &Vec<f64>| spec.check_film(latent).err().map(|e| Err(Arc::new(ClientError::from(e))));
        let results: Vec<Option<Logits>> = latents.iter().map(refused).collect();
        let sound: Vec<usize> = (0..latents.len()).filter(|&index| results[index].is_none()).collect();
        let batches: Vec<&[usize]> = sound.chunks(spec.films().max(1)).collect();
        let (next, results) = (AtomicUsize::new(0), Mutex::new(results));
        std::thread::scope(|scope| {
            for _ in 0..at_once.clamp(1, 16).min(batches.len()) {
                scope.spawn(|| {
                    while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let films: Vec<&Vec<f64>> = batch.iter().map(|&index| &latents[index]).collect();
                        let mut tell = |s: &JobStatus| {
                            batch.iter().for_each(|&index| on_step(Step::Job(index, s.state, s.progress)));
                        };
                        let outcome = if interrupt.load(Ordering::Relaxed) {
                            Err(ClientError::Interrupted)
                        } else {
                            self.diagnose_batch(&films, interrupt, &mut tell)
                        };
                        let outcome: Vec<Logits> = match outcome {
                            Ok(films) => films.into_iter().map(|film| film.map_err(Arc::new)).collect(),
                            Err(error) => vec![Err(Arc::new(error)); batch.len()],
                        };
                        let mut results = results.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                        batch.iter().zip(outcome).for_each(|(&index, film)| results[index] = Some(film));
                    }
                });
            }
        });
        let results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        results.into_iter().map(|r| r.unwrap_or_else(|| Err(Arc::new(ClientError::Interrupted)))).collect()
    }

    /// A file in the vault, removed when dropped. It holds ciphertexts only.
    fn scratch(&self) -> Result<Scratch, ClientError> {
        Ok(Scratch(self.vault.folder().join(format!("scratch-{:032x}.ct", rand::random::<u128>()))))
    }
}

struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
