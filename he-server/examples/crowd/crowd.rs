//! Many clients at once, some of whose requests are cancelled, altered or under the wrong keys; every answer is compared with the clear.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use he_client::{ClientError, Clinic};
use he_model::zoo::random_input;
use he_model::{GraphError, HeModel};
use he_protocol::JobId;
use he_protocol::api::JobState;
use rayon::prelude::*;

/// What the crowd does.
#[derive(Debug, Clone, Copy)]
pub struct Script {
    /// Requests of all clients.
    pub requests: usize,
    /// Share of the requests that are cancelled: one half at once, the other half when they run.
    pub cancelled: f64,
    /// Share of the requests whose ciphertext is altered, cut or too long.
    pub altered: f64,
    /// Share of the requests whose ciphertext is under another client's key.
    pub wrong_keys: f64,
    /// Most films of a request; it has one to so many.
    pub films: usize,
    /// Requests of a client that are under way at a time.
    pub at_once: usize,
    /// Largest difference of a logit from the clear.
    pub tolerance: f64,
    /// Draws films and the order of the requests.
    pub seed: u64,
}

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    Cancelled,
    Altered,
    WrongKeys,
}

/// What the crowd saw.
#[derive(Debug, Default)]
pub struct Summary {
    /// Requests that were answered.
    pub answered: usize,
    /// Films in them.
    pub films: usize,
    /// Requests that were cancelled, and how many of them the service had finished before.
    pub cancelled: [usize; 2],
    /// Bad requests that were refused, by the service's reason.
    pub refused: BTreeMap<String, usize>,
    /// Films whose answer is not theirs, but that of another film.
    pub mixed_up: usize,
    /// Films whose answer is no film's.
    pub wrong: usize,
    /// Whatever else should not have happened.
    pub failures: Vec<String>,
    /// From encryption to decryption, of the requests that were answered.
    pub latencies: Vec<Duration>,
    /// From the first request to the last answer.
    pub wall: Duration,
    /// Largest difference of a logit from the clear.
    pub largest_difference: f64,
    /// Distance of the two films with the most similar logits: a mix-up cannot hide if it is well above the tolerance.
    pub closest: f64,
}

impl Summary {
    /// Whether nothing happened that should not have.
    pub fn is_clean(&self) -> bool {
        self.mixed_up + self.wrong + self.failures.len() == 0
    }

    /// The middle of the latencies.
    pub fn median_latency(&self) -> Duration {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    }
}

/// A request: its fate, and its films with the logits that they have in the clear.
struct Request {
    fate: Fate,
    films: Vec<(Vec<f64>, Vec<f64>)>,
}

/// SplitMix64: numbers that are the same on every machine.
fn draw(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A film unlike the others: random films of one strength have much the same logits.
fn film(model: &HeModel, seed: u64) -> Vec<f64> {
    let strength = model.preprocessing.latent_range * (0.1 + 0.9 * (seed % 1009) as f64 / 1009.0);
    random_input(model.preprocessing.latent, seed).into_iter().map(|v| strength * v).collect()
}

fn requests(model: &HeModel, script: &Script) -> Result<Vec<Request>, GraphError> {
    let count = |share: f64| (share * script.requests as f64).round() as usize;
    let mut fates = vec![];
    for (fate, share) in [
        (Fate::Cancelled, script.cancelled),
        (Fate::Altered, script.altered),
        (Fate::WrongKeys, script.wrong_keys),
    ] {
        fates.extend(vec![fate; count(share)]);
    }
    fates.resize(script.requests, Fate::Answered);
    let mut order: Vec<u64> = (0..script.requests as u64).collect();
    order.sort_by_key(|i| draw(script.seed, *i));
    let request = |(&number, &fate): (&u64, &Fate)| -> Result<Request, GraphError> {
        let films = 1 + draw(!script.seed, number) % script.films.max(1) as u64;
        let film = |place| -> Result<(Vec<f64>, Vec<f64>), GraphError> {
            let latent = film(model, draw(script.seed, 1_000_003 * (number + 1) + place));
            let clear = model.graph.run(&latent)?;
            Ok((latent, clear))
        };
        Ok(Request { fate, films: (0..films).map(film).collect::<Result<_, _>>()? })
    };
    let mut requests: Vec<Request> =
        order.par_iter().zip(&fates).map(request).collect::<Result<_, GraphError>>()?;
    // In the order of the numbers, so that the fates are mixed.
    let mut numbered: Vec<(u64, Request)> = order.into_iter().zip(requests.drain(..)).collect();
    numbered.sort_by_key(|(number, _)| *number);
    Ok(numbered.into_iter().map(|(_, request)| request).collect())
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter()
        .zip(b)
        .fold(0.0, |m, (a, b)| if (a - b).abs() > m || (a - b).is_nan() { (a - b).abs() } else { m })
}

/// The code of a refusal.
fn code(error: &ClientError) -> Option<&str> {
    match error {
        ClientError::Refused { code, .. } | ClientError::Job { code, .. } => Some(code),
        _ => None,
    }
}

/// Lets all clients act at once, and sees what they get.
///
/// # Errors
/// A film that the model cannot evaluate in the clear.
pub fn run(clinics: &[Clinic], model: &HeModel, script: &Script) -> Result<Summary, GraphError> {
    let requests = requests(model, script)?;
    let all: Vec<&[f64]> =
        requests.iter().flat_map(|r| &r.films).map(|(_, clear)| clear.as_slice()).collect();
    let pairs = all.iter().enumerate().flat_map(|(i, a)| all[..i].iter().map(move |b| distance(a, b)));
    let closest = pairs.fold(f64::INFINITY, f64::min);
    let summary = Mutex::new(Summary { closest, ..Summary::default() });
    // An idempotency key is never used twice, also when the crowd comes again with the same seed.
    let visit: u64 = rand::random();
    let started = Instant::now();
    std::thread::scope(|scope| {
        for own in 0..clinics.len() {
            let next = std::sync::Arc::new(AtomicUsize::new(own));
            for _ in 0..script.at_once.max(1) {
                let (next, requests, all, summary) = (next.clone(), &requests, &all, &summary);
                scope.spawn(move || {
                    loop {
                        let number = next.fetch_add(clinics.len(), Ordering::Relaxed);
                        let Some(request) = requests.get(number) else { return };
                        let actor = Actor { clinics, own, visit, number, script, request };
                        actor.act(all, summary);
                    }
                });
            }
        }
    });
    let mut summary = summary.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    summary.wall = started.elapsed();
    Ok(summary)
}

/// A client with a request.
struct Actor<'a> {
    clinics: &'a [Clinic],
    own: usize,
    visit: u64,
    number: usize,
    script: &'a Script,
    request: &'a Request,
}

impl Actor<'_> {
    fn clinic(&self) -> &Clinic {
        &self.clinics[self.own]
    }

    /// The idempotency key.
    fn name(&self) -> String {
        format!("crowd-{:016x}-{:08}-{:08}", self.visit, self.own, self.number)
    }

    fn latents(&self) -> Vec<&Vec<f64>> {
        self.request.films.iter().map(|(latent, _)| latent).collect()
    }

    fn act(&self, all: &[&[f64]], summary: &Mutex<Summary>) {
        let started = Instant::now();
        let outcome = match self.request.fate {
            Fate::Answered => self.ask().map(|films| {
                let latency = started.elapsed();
                let mut summary = summary.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                summary.answered += 1;
                summary.latencies.push(latency);
                self.judge(films, all, &mut summary);
            }),
            Fate::Cancelled => self.cancel().map(|was_done| {
                let mut summary = summary.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                summary.cancelled[0] += 1;
                summary.cancelled[1] += usize::from(was_done);
            }),
            Fate::Altered => {
                self.be_refused(&["malformed", "other_key", "other_model", "ciphertext"], summary, || {
                    let mut bytes = self.clinic().encrypt_batch(&self.latents())?;
                    let at = draw(self.script.seed, 77 + self.number as u64) as usize % bytes.len();
                    match self.number % 4 {
                        0 => bytes.truncate(at),
                        1 => bytes.push(at as u8),
                        _ => bytes[at] ^= 0x10,
                    }
                    // An empty body is no ciphertext, and no client sends one.
                    Ok(if bytes.is_empty() { vec![0] } else { bytes })
                })
            }
            Fate::WrongKeys => self.be_refused(&["other_key"], summary, || {
                self.clinics[(self.own + 1) % self.clinics.len()].encrypt_batch(&self.latents())
            }),
        };
        if let Err(error) = outcome {
            let mut summary = summary.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            summary.failures.push(format!("request {} ({:?}): {error}", self.number, self.request.fate));
        }
    }

    fn ask(&self) -> Result<Vec<Result<Vec<f64>, ClientError>>, ClientError> {
        let bytes = self.clinic().encrypt_batch(&self.latents())?;
        let job = self.clinic().submit_bytes(&bytes, &self.name())?.id;
        drop(bytes);
        let end = self.clinic().wait(&job, &AtomicBool::new(false), &mut |_| {})?;
        if end.state != JobState::Done {
            let (code, message) = end.error.map(|e| (e.code, e.message)).unwrap_or_default();
            return Err(ClientError::Job { code, message });
        }
        self.clinic().results(&job, self.request.films.len())
    }

    fn judge(&self, films: Vec<Result<Vec<f64>, ClientError>>, all: &[&[f64]], summary: &mut Summary) {
        for (got, (_, want)) in films.into_iter().zip(&self.request.films) {
            summary.films += 1;
            let got = match got {
                Ok(got) => got,
                Err(error) => {
                    summary.wrong += 1;
                    summary.failures.push(format!("request {}: {error}", self.number));
                    continue;
                }
            };
            let difference = distance(&got, want);
            if difference <= self.script.tolerance {
                summary.largest_difference = summary.largest_difference.max(difference);
                continue;
            }
            let is_anothers = all.iter().any(|other| distance(&got, other) <= self.script.tolerance);
            *(if is_anothers { &mut summary.mixed_up } else { &mut summary.wrong }) += 1;
            summary.failures.push(format!("request {}: a logit is off by {difference:.3e}", self.number));
        }
    }

    /// Whether the job was done before it could be cancelled.
    fn cancel(&self) -> Result<bool, ClientError> {
        let clinic = self.clinic();
        let job = clinic.submit_bytes(&clinic.encrypt_batch(&self.latents())?, &self.name())?.id;
        if self.number.is_multiple_of(2) {
            let runs = AtomicBool::new(false);
            let mut look = |status: &he_protocol::api::JobStatus| {
                runs.store(status.state != JobState::Queued, Ordering::Relaxed);
            };
            match clinic.wait(&job, &runs, &mut look) {
                Ok(_) | Err(ClientError::Interrupted) => {}
                Err(error) => return Err(error),
            }
        }
        clinic.delete(&job)?;
        let state = self.end_of(&job)?;
        clinic.delete(&job)?;
        match state {
            Some(JobState::Cancelled) => Ok(false),
            Some(JobState::Done) | None => Ok(true),
            Some(other) => Err(ClientError::Answer(format!("a cancelled job ended as {other:?}"))),
        }
    }

    /// None: the job had ended, and what was to cancel it removed it.
    fn end_of(&self, job: &JobId) -> Result<Option<JobState>, ClientError> {
        match self.clinic().wait(job, &AtomicBool::new(false), &mut |_| {}) {
            Ok(end) => Ok(Some(end.state)),
            Err(error) if code(&error) == Some("not_found") => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn be_refused(
        &self,
        expected: &[&str],
        summary: &Mutex<Summary>,
        bytes: impl FnOnce() -> Result<Vec<u8>, ClientError>,
    ) -> Result<(), ClientError> {
        match self.clinic().submit_bytes(&bytes()?, &self.name()) {
            Ok(status) => {
                self.clinic().delete(&status.id)?;
                Err(ClientError::Answer("a bad ciphertext was accepted".into()))
            }
            Err(error) => match code(&error).filter(|code| expected.contains(code)) {
                Some(code) => {
                    let mut summary = summary.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    *summary.refused.entry(code.to_owned()).or_default() += 1;
                    Ok(())
                }
                None => Err(error),
            },
        }
    }
}
