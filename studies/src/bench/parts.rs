//! The two processes of a row, and the files that they hand each other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use he_model::zoo::{Recipe, random, random_input};
use he_model::{HeModel, Offsets, PlanOptions, Preprocessing, Ranges, Shape, plan};
use he_runtime::client::{self, KeyBundle};
use he_runtime::{Circuit, EncryptedTensor, Server, ServerKeys};
use pipeline::error::Result;
use pipeline::files::load_model;
use pipeline::{Context, Keys, keygen};
use serde::{Deserialize, Serialize};

use super::rows::Row;

/// Labels of the NIH data set.
const LABELS: usize = 14;
/// Runs one after the other: the first also touches memory for the first time.
const RUNS: usize = 2;
/// Seed of weights and films.
const SEED: u64 = 1;

/// The latents of a row.
pub fn latents(row: &Row, shape: Shape) -> Vec<Vec<f64>> {
    (0..row.films as u64).map(|film| random_input(shape, SEED + film)).collect()
}

/// What the first process says.
#[derive(Debug, Serialize, Deserialize)]
pub struct Prepared {
    pub log_ring_degree: u32,
    pub levels: usize,
    pub security: String,
    pub planning_seconds: f64,
    pub key_seconds: f64,
    pub predicted_seconds: f64,
}

/// What the evaluating process says.
#[derive(Debug, Serialize, Deserialize)]
pub struct Evaluated {
    pub loading_seconds: f64,
    pub film_seconds: Vec<f64>,
    pub key_count: usize,
    /// Largest resident size of the process, where the system tells it.
    pub peak_bytes: Option<u64>,
}

/// What the processes hand each other.
pub struct Files<'a>(&'a Path);

impl<'a> Files<'a> {
    pub fn new(folder: &'a Path) -> Self {
        Self(folder)
    }

    pub fn model(&self) -> PathBuf {
        self.0.join("model.safetensors")
    }

    pub fn keys(&self) -> Keys {
        Keys::new(self.0.join("keys"))
    }

    pub fn latent(&self) -> PathBuf {
        self.0.join("latent.ct")
    }

    pub fn result(&self) -> PathBuf {
        self.0.join("result.ct")
    }
}

pub fn prepare(row: &Row, files: &Files, max_key_megabytes: usize) -> Result<Prepared> {
    let (channels, side) = row.latent;
    let input = Shape::new(channels, side, side);
    let recipe = Recipe {
        architecture: row.architecture,
        input,
        labels: LABELS,
        se: row.se,
        post_add_activation: false,
        shrink: 1,
    };
    let graph = random(&recipe, SEED)?;
    let start = Instant::now();
    let options =
        PlanOptions { max_key_bytes: max_key_megabytes << 20, films: row.films, ..PlanOptions::default() };
    let plan = plan(&graph, &options)?;
    let planning_seconds = start.elapsed().as_secs_f64();
    let preprocessing = Preprocessing::unknown(256, input);
    let labels = (1..=LABELS).map(|i| format!("finding {i}")).collect();
    let mut ranges = Ranges::new(&graph);
    let films = latents(row, input);
    films.iter().try_for_each(|film| ranges.observe(&graph, film).map(drop))?;
    let model = HeModel {
        plan,
        labels,
        preprocessing,
        ranges,
        graph,
        offsets: Offsets::new(),
        notes: BTreeMap::new(),
    };
    model.save(&files.model())?;
    let circuit = Circuit::new(&model)?;
    let start = Instant::now();
    let bundle = KeyBundle::generate(&circuit.spec, &mut keygen::random()?)?;
    let key_seconds = start.elapsed().as_secs_f64();
    keygen::save(&bundle, &circuit.parameters, &files.keys())?;
    let encrypted = client::encrypt_batch(&circuit.spec, &bundle.client, &films, &mut keygen::random()?)?;
    encrypted.save(&circuit.parameters, &files.latent())?;
    Ok(Prepared {
        log_ring_degree: model.plan.ring.log_ring_degree,
        levels: circuit.trace.depth,
        security: format!("{:?}", model.plan.ring.security),
        planning_seconds,
        key_seconds,
        predicted_seconds: circuit.trace.seconds(),
    })
}

pub fn evaluate(context: &Context, files: &Files) -> Result<Evaluated> {
    let start = Instant::now();
    let model = load_model(&files.model())?;
    let parameters = Circuit::new(&model)?.parameters;
    let keys = ServerKeys::load(&parameters, &files.keys().evaluation())?;
    let key_count = keys.count();
    let server = Server::new(&model, keys)?;
    let latent = EncryptedTensor::load_latent(&parameters, &files.latent())?;
    let loading_seconds = start.elapsed().as_secs_f64();
    let mut film_seconds = Vec::new();
    for _ in 0..RUNS {
        let start = Instant::now();
        let (result, _) = server.run(&latent, &mut |_| {}, context.interrupt())?;
        film_seconds.push(start.elapsed().as_secs_f64());
        result.save(&parameters, &files.result())?;
    }
    Ok(Evaluated { loading_seconds, film_seconds, key_count, peak_bytes: peak_bytes() })
}

/// Largest resident size of this process so far, where the system tells it.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}
