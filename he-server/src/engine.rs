//! Models, prepared keys in bounded memory, and the threads that classify.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use he_model::HeModel;
use he_protocol::api::{ErrorBody, FileInfo, JobState, ModelDescription, ModelSummary, PublicLimits};
use he_protocol::{Digest, Name, Package};
use he_runtime::{Circuit, ClientSpec, EncryptedTensor, RuntimeError, Server, ServerKeys};

use crate::config::Limits;
use crate::error::{ApiError, ServiceError};
use crate::jobs::{Claim, JobStore, Outcome, cancelled};
use crate::keys::KeyStore;
use crate::metrics::Metrics;

/// How long an idle worker waits before it looks for jobs that another process accepted.
const IDLE: Duration = Duration::from_millis(250);
/// How often a worker tells its progress and looks whether its job was cancelled.
const TELL: Duration = Duration::from_millis(200);
/// Memory of prepared keys over their file: seeded halves are expanded.
const EXPANSION: u64 = 2;

/// A model that the service offers.
pub struct Offered {
    /// The package it came from.
    pub package: Package,
    model: HeModel,
    /// The ring.
    pub parameters: ckks::Parameters,
    /// What clients have to know.
    pub spec: ClientSpec,
}

/// Keys of a client, prepared for a model.
struct Prepared {
    client: Name,
    keys: Digest,
    server: Arc<Server>,
    bytes: u64,
    used: Instant,
}

/// Everything that classifies.
pub struct Engine {
    models: BTreeMap<Name, Offered>,
    cache: Mutex<Vec<Prepared>>,
    loading: Mutex<()>,
    jobs: JobStore,
    keys: KeyStore,
    limits: Limits,
    metrics: Arc<Metrics>,
    wake: (Mutex<u64>, Condvar),
    stop: AtomicBool,
    /// Set when a shutdown has waited long enough.
    interrupt: AtomicBool,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Engine {
    pub(crate) fn new(
        packages: &[std::path::PathBuf],
        jobs: JobStore,
        keys: KeyStore,
        limits: Limits,
        metrics: Arc<Metrics>,
    ) -> Result<Self, ServiceError> {
        let mut models = BTreeMap::new();
        for folder in packages {
            let package = Package::open(folder)?;
            let model = package.load_model()?;
            let Circuit { parameters, spec, .. } = Circuit::new(&model)?;
            let name = package.manifest.name.clone();
            tracing::info!(model = %name, package = %package.digest, labels = spec.labels.len(), "model loaded");
            if models.insert(name.clone(), Offered { package, model, parameters, spec }).is_some() {
                return Err(ServiceError::Config(format!("two packages have the name {name}: rename one")));
            }
        }
        if models.is_empty() {
            return Err(ServiceError::Config("no model package was named: give --package FOLDER".into()));
        }
        Ok(Self {
            models,
            cache: Mutex::default(),
            loading: Mutex::default(),
            jobs,
            keys,
            limits,
            metrics,
            wake: Default::default(),
            stop: AtomicBool::new(false),
            interrupt: AtomicBool::new(false),
        })
    }

    /// The model of this name.
    ///
    /// # Errors
    /// 404.
    pub fn model(&self, name: &Name) -> Result<&Offered, ApiError> {
        self.models.get(name).ok_or_else(|| {
            let status = axum::http::StatusCode::NOT_FOUND;
            ApiError::new(status, "no_model", "there is no model of this name: GET /v1/models lists them")
        })
    }

    /// All models.
    #[must_use]
    pub fn list(&self) -> Vec<ModelSummary> {
        let summary = |(name, offered): (&Name, &Offered)| ModelSummary {
            name: name.clone(),
            digest: offered.package.manifest.model_digest.clone(),
            labels: offered.spec.labels.clone(),
        };
        self.models.iter().map(summary).collect()
    }

    /// Everything public about a model.
    ///
    /// # Errors
    /// 404.
    pub fn describe(&self, name: &Name) -> Result<ModelDescription, ApiError> {
        let Offered { package, spec, .. } = self.model(name)?;
        let manifest = &package.manifest;
        let l = &self.limits;
        Ok(ModelDescription {
            name: name.clone(),
            spec: spec.clone(),
            logit_range: manifest.logit_range,
            batch: spec.films(),
            encoder: manifest.encoder.as_ref().map(|e| FileInfo { digest: e.digest.clone(), bytes: e.bytes }),
            card: manifest.card.clone(),
            limits: PublicLimits {
                part_bytes: l.part_bytes,
                key_bytes: l.key_bytes_per_client,
                key_sets: l.key_sets_per_client,
                queued_jobs: l.queued_jobs_per_client,
                lease_seconds: l.lease_seconds,
            },
        })
    }

    /// Most bytes of an encrypted latent: two halves of one residue a prime and coefficient, and their heads.
    #[must_use]
    pub fn latent_bytes(offered: &Offered) -> u64 {
        let spec = &offered.spec;
        let one = 2 * (spec.input_level as u64 + 1) * 4 * offered.parameters.ring_degree() as u64;
        4096 + spec.input.ciphertexts() as u64 * (one + 4096)
    }

    /// Reads keys, checks that they are what the model needs, and keeps them ready.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn prepare(
        &self,
        client: &Name,
        digest: &Digest,
        name: &Name,
        file: &Path,
    ) -> Result<Arc<Server>, ApiError> {
        if let Some(server) = self.cached(client, digest) {
            return Ok(server);
        }
        let offered = self.model(name)?;
        // One at a time: what is loaded and not yet counted is bounded by one client's keys.
        let _loading = locked(&self.loading);
        if let Some(server) = self.cached(client, digest) {
            return Ok(server);
        }
        self.make_room(std::fs::metadata(file)?.len().saturating_mul(EXPANSION));
        let started = Instant::now();
        let refused = |e: RuntimeError| ApiError::from_runtime(&e);
        let keys = ServerKeys::load(&offered.parameters, file).map_err(refused)?;
        let server = Arc::new(Server::new(&offered.model, keys).map_err(refused)?);
        let bytes = server.bytes() as u64;
        self.make_room(bytes);
        let (client, keys) = (client.clone(), digest.clone());
        tracing::info!(%client, bytes, seconds = started.elapsed().as_secs_f64(), "evaluation keys prepared");
        self.metrics.key_loads.add(1);
        let mut cache = locked(&self.cache);
        cache.push(Prepared { client, keys, server: Arc::clone(&server), bytes, used: Instant::now() });
        self.metrics.key_memory.set(cache.iter().map(|p| p.bytes).sum());
        Ok(server)
    }

    fn cached(&self, client: &Name, digest: &Digest) -> Option<Arc<Server>> {
        let mut cache = locked(&self.cache);
        let found = cache.iter_mut().find(|p| &p.client == client && &p.keys == digest)?;
        found.used = Instant::now();
        Some(Arc::clone(&found.server))
    }

    /// Lets go of the keys that were not used for the longest time, until `bytes` more fit. Keys that a job uses stay and are counted: to let
    /// go of them would free nothing before the job ends.
    fn make_room(&self, bytes: u64) {
        let mut cache = locked(&self.cache);
        while cache.iter().map(|p| p.bytes).sum::<u64>().saturating_add(bytes) > self.limits.memory_bytes {
            let idle = cache.iter().enumerate().filter(|(_, p)| Arc::strong_count(&p.server) == 1);
            let Some(oldest) = idle.min_by_key(|(_, p)| p.used).map(|(i, _)| i) else { break };
            cache.swap_remove(oldest);
        }
        self.metrics.key_memory.set(cache.iter().map(|p| p.bytes).sum());
    }

    /// Forgets a client's keys.
    pub fn forget(&self, client: &Name, digest: &Digest) {
        let mut cache = locked(&self.cache);
        cache.retain(|p| &p.client != client || &p.keys != digest);
        self.metrics.key_memory.set(cache.iter().map(|p| p.bytes).sum());
    }

    /// Tells the workers that a job came.
    pub fn wake(&self) {
        *locked(&self.wake.0) += 1;
        self.wake.1.notify_all();
    }

    /// No job is begun any more.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Jobs that run go back to the queue.
    pub fn interrupt(&self) {
        self.interrupt.store(true, Ordering::SeqCst);
    }

    /// Classifies until [`Engine::stop`].
    pub fn work(&self) {
        let (mut last, mut turn): (Option<Name>, usize) = (None, 0);
        while !self.stop.load(Ordering::SeqCst) {
            let seen = *locked(&self.wake.0);
            let claim = self.jobs.next(last.as_ref(), turn < self.limits.jobs_per_turn);
            match claim {
                Ok(Some(claim)) => {
                    let client = claim.record.client.clone();
                    turn = if last.as_ref() == Some(&client) { turn + 1 } else { 1 };
                    last = Some(client);
                    self.run(claim);
                    continue;
                }
                Ok(None) => {}
                Err(error) => tracing::error!(%error, "the queue cannot be read"),
            }
            let wake = locked(&self.wake.0);
            if *wake == seen {
                drop(self.wake.1.wait_timeout(wake, IDLE));
            }
        }
    }

    /// Runs one job to its outcome, or puts it back.
    fn run(&self, claim: Claim) {
        let (client, job) = (claim.record.client.clone(), claim.record.id.clone());
        let started = Instant::now();
        claim.tell(0.0);
        let attempts = claim.count_attempt().unwrap_or(1);
        let outcome = if claim.is_cancelled() {
            Some(cancelled())
        } else if attempts > self.limits.attempts {
            let tries = attempts - 1;
            Some(failed(
                "gave_up",
                format!(
                    "the service stopped {tries} times while it ran this job: submit it again, or tell the operator"
                ),
            ))
        } else {
            let tried = catch_unwind(AssertUnwindSafe(|| self.classify(&claim)));
            tried.unwrap_or_else(|_| {
                tracing::error!(%client, %job, "the evaluation panicked");
                Some(failed("internal", "the service failed on this job; its log says where".into()))
            })
        };
        let Some(outcome) = outcome else {
            claim.forget_attempts();
            tracing::info!(%client, %job, "put back into the queue");
            return;
        };
        self.metrics.jobs(outcome.state).add(1);
        if let Some(seconds) = outcome.seconds {
            self.metrics.evaluation_millis.add((seconds * 1e3) as u64);
            let places = self.model(&claim.record.model).map_or(0, |model| model.spec.films());
            self.metrics.film_places.add(places as u64);
        }
        let code = outcome.error.as_ref().map_or("", |e| e.code.as_str());
        let seconds = started.elapsed().as_secs_f64();
        tracing::info!(%client, %job, state = ?outcome.state, code, seconds, "job ended");
        if let Err(error) = self.jobs.finish(&claim, &outcome) {
            tracing::error!(%client, %job, %error, "the outcome cannot be written");
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    /// `None`: interrupted by a shutdown.
    fn classify(&self, claim: &Claim) -> Option<Outcome> {
        let record = &claim.record;
        let evaluated = (|| {
            let (file, model) = self.keys.complete_file(&record.client, &record.keys).ok_or_else(|| {
                ApiError::refused("keys_gone", "the evaluation keys of this job were deleted")
            })?;
            if model != record.model {
                return Err(ApiError::refused("other_model", "the evaluation keys are for another model"));
            }
            let offered = self.model(&model)?;
            let server = self.prepare(&record.client, &record.keys, &model, &file)?;
            let refused = |e: RuntimeError| ApiError::from_runtime(&e);
            let latent =
                EncryptedTensor::load_latent(&offered.parameters, &claim.latent()).map_err(refused)?;
            let (interrupt, mut told, started) = (AtomicBool::new(false), Instant::now(), Instant::now());
            let mut by_client = false;
            let mut tell = |progress: he_runtime::Progress<'_>| {
                if told.elapsed() >= TELL {
                    told = Instant::now();
                    claim.tell(progress.done);
                    by_client |= claim.is_cancelled();
                }
                if by_client || self.interrupt.load(Ordering::Relaxed) {
                    interrupt.store(true, Ordering::Relaxed);
                }
            };
            match server.run(&latent, &mut tell, &interrupt) {
                Ok((result, _)) => {
                    let seconds = started.elapsed().as_secs_f64();
                    result.save(&offered.parameters, &claim.result()).map_err(refused)?;
                    Ok(Some(Outcome { state: JobState::Done, error: None, seconds: Some(seconds) }))
                }
                Err(RuntimeError::Interrupted) if by_client => Ok(Some(cancelled())),
                Err(RuntimeError::Interrupted) => Ok(None),
                Err(error) => Err(refused(error)),
            }
        })();
        evaluated.unwrap_or_else(|error| Some(failed(error.code, error.message)))
    }
}

fn failed(code: &str, message: String) -> Outcome {
    let error = Some(ErrorBody { code: code.into(), message });
    Outcome { state: JobState::Failed, error, seconds: None }
}
