//! `veilray bench he`: networks of the paper on ciphertexts, from random range-safe weights, without any training.
//!
//! Each row runs in processes of its own, so that memory is that of what a server does: one makes model, keys and ciphertext, one
//! loads them and evaluates, and this one decrypts and compares. Nothing is shared but files in a temporary folder, which is removed.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use he_model::zoo::{Architecture, Recipe, random, random_input};
use he_model::{HeModel, Offsets, PlanOptions, Preprocessing, Ranges, Shape, plan};
use he_runtime::client::{self, KeyBundle};
use he_runtime::{Circuit, EncryptedTensor, Server, ServerKeys};
use report::{Table, readable_bytes};
use serde::{Deserialize, Serialize};

use super::load_model;
use crate::cli::{BenchHeArguments, BenchPartArguments};
use crate::context::{Context, size_of};
use crate::run_folder::Keys;

/// A network at a size, and what is asked of it.
struct Row {
    name: &'static str,
    architecture: Architecture,
    se: bool,
    /// Channels and side of the latent.
    latent: (usize, usize),
    /// Films in a batch.
    films: usize,
    /// Most memory for keys unless the user says otherwise, in MiB.
    key_megabytes: usize,
    target: Target,
    elsewhere: &'static str,
}

/// What a row is asked for.
enum Target {
    /// Seconds at most.
    Seconds(f64),
    /// Second film of a batch: this share more than the row of one film, at most.
    Beside { alone: &'static str, share: f64 },
}

impl Target {
    /// The limit in seconds, as far as it is known.
    fn seconds(&self, results: &[RowResult]) -> Option<f64> {
        match self {
            Self::Seconds(seconds) => Some(*seconds),
            Self::Beside { alone, share } => {
                let alone = results.iter().find(|r| r.name == *alone)?;
                Some((1.0 + share) * alone.evaluated.film_seconds.last()?)
            }
        }
    }

    /// In words, for a time of so many seconds.
    fn verdict(&self, seconds: Option<f64>, results: &[RowResult]) -> String {
        let limit = self.seconds(results);
        let met = match seconds.zip(limit) {
            Some((seconds, limit)) if seconds <= limit => " met",
            Some(_) => " missed",
            None => "",
        };
        match self {
            Self::Seconds(limit) => format!("{limit:.0} s{met}"),
            Self::Beside { alone, share } => {
                let more = seconds.zip(limit).map_or_else(String::new, |(seconds, limit)| {
                    format!(" ({:+.0} %)", 100.0 * (seconds / limit * (1.0 + share) - 1.0))
                });
                format!("+{:.0} % of {alone}{met}{more}", 100.0 * share)
            }
        }
    }
}

/// What a second film in a batch may cost, as a share of the first.
const SECOND_FILM: f64 = 0.6;

/// The rows: f = 2, 4, 8, 16 of films of 256 pixels. A batch comes after the row of one film.
const ROWS: [Row; 9] = [
    Row {
        name: "resnet20-f8",
        architecture: Architecture::ResNet(20),
        se: false,
        latent: (4, 32),
        films: 1,
        key_megabytes: 4096,
        target: Target::Seconds(10.0),
        elsewhere: "76.9 s (Kim et al. 2025)",
    },
    Row {
        name: "resnet20-se-f8",
        architecture: Architecture::ResNet(20),
        se: true,
        latent: (4, 32),
        films: 1,
        key_megabytes: 12288,
        target: Target::Seconds(40.0),
        elsewhere: "92.1 s (Kim et al. 2025)",
    },
    Row {
        name: "lenet-f8",
        architecture: Architecture::LeNet,
        se: false,
        latent: (4, 32),
        films: 1,
        key_megabytes: 4096,
        target: Target::Seconds(5.0),
        elsewhere: "",
    },
    Row {
        name: "resnet20-f16",
        architecture: Architecture::ResNet(20),
        se: false,
        latent: (8, 16),
        films: 1,
        key_megabytes: 4096,
        target: Target::Seconds(5.0),
        elsewhere: "",
    },
    Row {
        name: "resnet20-f4",
        architecture: Architecture::ResNet(20),
        se: false,
        latent: (3, 64),
        films: 1,
        key_megabytes: 4096,
        target: Target::Seconds(40.0),
        elsewhere: "",
    },
    Row {
        name: "resnet20-f2",
        architecture: Architecture::ResNet(20),
        se: false,
        latent: (2, 128),
        films: 1,
        key_megabytes: 4096,
        target: Target::Seconds(160.0),
        elsewhere: "almost 600 s (Kim et al. 2025)",
    },
    Row {
        name: "resnet20-f8-two",
        architecture: Architecture::ResNet(20),
        se: false,
        latent: (4, 32),
        films: 2,
        key_megabytes: 4096,
        target: Target::Beside { alone: "resnet20-f8", share: SECOND_FILM },
        elsewhere: "",
    },
    Row {
        name: "lenet-f8-two",
        architecture: Architecture::LeNet,
        se: false,
        latent: (4, 32),
        films: 2,
        key_megabytes: 4096,
        target: Target::Beside { alone: "lenet-f8", share: SECOND_FILM },
        elsewhere: "",
    },
    Row {
        name: "resnet20-f16-two",
        architecture: Architecture::ResNet(20),
        se: false,
        latent: (8, 16),
        films: 2,
        key_megabytes: 4096,
        target: Target::Beside { alone: "resnet20-f16", share: SECOND_FILM },
        elsewhere: "",
    },
];

/// Labels of the NIH data set.
const LABELS: usize = 14;
/// Runs one after the other: the first also touches memory for the first time.
const RUNS: usize = 2;
/// Seed of weights and films.
const SEED: u64 = 1;

/// The latents of a row.
fn latents(row: &Row, shape: Shape) -> Vec<Vec<f64>> {
    (0..row.films as u64).map(|film| random_input(shape, SEED + film)).collect()
}

/// What the first process says.
#[derive(Debug, Serialize, Deserialize)]
struct Prepared {
    log_ring_degree: u32,
    levels: usize,
    security: String,
    planning_seconds: f64,
    key_seconds: f64,
    predicted_seconds: f64,
}

/// What the evaluating process says.
#[derive(Debug, Serialize, Deserialize)]
struct Evaluated {
    loading_seconds: f64,
    film_seconds: Vec<f64>,
    key_count: usize,
    /// Largest resident size of the process, where the system tells it.
    peak_bytes: Option<u64>,
}

/// A row's result, as written with `--json`.
#[derive(Debug, Serialize)]
struct RowResult {
    name: &'static str,
    films: usize,
    /// `None` where the row of one film was not run.
    target_seconds: Option<f64>,
    prepared: Prepared,
    evaluated: Evaluated,
    key_bytes_on_the_wire: u64,
    ciphertext_bytes: u64,
    largest_logit_difference: f64,
}

/// Runs the rows asked for and prints the table.
///
/// # Errors
/// An unknown row; a row that cannot be run is reported in its place, and makes the exit status non-zero at the end.
pub fn he(context: &Context, arguments: &BenchHeArguments, threads: Option<usize>) -> Result<()> {
    let names: Vec<&str> = ROWS.iter().map(|r| r.name).collect();
    if let Some(unknown) = arguments.rows.iter().find(|r| !names.contains(&r.as_str())) {
        bail!("no row is called {unknown}: choose from {}", names.join(", "));
    }
    let mut table = Table::new(
        "14 labels, 128-bit security, random weights; the second run of a process that has its keys loaded",
        &[
            "network",
            "films",
            "time",
            "target",
            "elsewhere",
            "N",
            "levels",
            "peak memory",
            "keys on the wire",
            "logit difference",
        ],
    );
    let (mut results, mut failed) = (Vec::new(), 0);
    for row in ROWS.iter().filter(|r| arguments.rows.is_empty() || arguments.rows.iter().any(|n| n == r.name))
    {
        context.check("the benchmark")?;
        context.say(row.name);
        match measure(row, arguments, threads) {
            Ok(mut result) => {
                result.target_seconds = row.target.seconds(&results);
                table.rows.push(cells(row, &result, &results));
                results.push(result);
            }
            Err(error) => {
                failed += 1;
                context.say(&format!("  {error:#}"));
                let mut cells = vec![
                    row.name.to_owned(),
                    row.films.to_string(),
                    format!("not run: {}", error.root_cause()),
                    row.target.verdict(None, &results),
                    row.elsewhere.to_owned(),
                ];
                cells.resize(10, String::new());
                table.rows.push(cells);
            }
        }
    }
    print!("{}", table.to_text());
    let threads = threads.unwrap_or_else(rayon::current_num_threads);
    println!("{threads} threads, {}", ckks::instruction_set());
    if let Some(file) = &arguments.json {
        train::files::write_atomically(file, serde_json::to_string_pretty(&results)?.as_bytes())?;
    }
    ensure!(failed == 0, "{failed} rows could not be run");
    Ok(())
}

fn cells(row: &Row, result: &RowResult, results: &[RowResult]) -> Vec<String> {
    let seconds = result.evaluated.film_seconds.last().copied();
    vec![
        row.name.to_owned(),
        row.films.to_string(),
        seconds.map_or_else(|| "-".into(), |seconds| format!("{seconds:.2} s")),
        row.target.verdict(seconds, results),
        row.elsewhere.to_owned(),
        format!("2^{}", result.prepared.log_ring_degree),
        result.prepared.levels.to_string(),
        result.evaluated.peak_bytes.map_or_else(|| "-".into(), readable_bytes),
        readable_bytes(result.key_bytes_on_the_wire),
        format!("{:.1e}", result.largest_logit_difference),
    ]
}

fn measure(row: &Row, arguments: &BenchHeArguments, threads: Option<usize>) -> Result<RowResult> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let files = Files::new(folder.path());
    let child = |part: &str| -> Result<Vec<u8>> {
        let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
        if let Some(threads) = threads {
            command.arg("--threads").arg(threads.to_string());
        }
        command.args(["bench", "part", part, row.name]).arg(folder.path());
        let megabytes = arguments.max_key_megabytes.unwrap_or(row.key_megabytes);
        command.arg(format!("--max-key-megabytes={megabytes}"));
        let output = command.stderr(Stdio::piped()).output().context("cannot start this program again")?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            let message = text.trim().trim_start_matches("error: ").replace('\n', "; ");
            bail!(
                "{}",
                if message.is_empty() { format!("{part} ended with {}", output.status) } else { message }
            );
        }
        Ok(output.stdout)
    };
    let prepared: Prepared = serde_json::from_slice(&child("prepare")?)?;
    let evaluated: Evaluated = serde_json::from_slice(&child("evaluate")?)?;
    let model = load_model(&files.model())?;
    let circuit = Circuit::new(&model)?;
    let keys = client::ClientKeys::load(&circuit.parameters, &files.keys().secret())?;
    let result = EncryptedTensor::load_logits(&circuit.parameters, &files.result())?;
    let mut difference = 0.0f64;
    let logits = client::decrypt_batch(&circuit.spec, &keys, &result, row.films)?;
    for (logits, latent) in logits.iter().zip(latents(row, model.graph.input_shape())) {
        let clear = model.graph.run(&latent)?;
        difference = logits.iter().zip(&clear).map(|(a, b)| (a - b).abs()).fold(difference, f64::max);
    }
    Ok(RowResult {
        name: row.name,
        films: row.films,
        target_seconds: None,
        prepared,
        evaluated,
        key_bytes_on_the_wire: size_of(&files.keys().evaluation()),
        ciphertext_bytes: size_of(&files.latent()),
        largest_logit_difference: difference,
    })
}

/// What the processes hand each other.
struct Files<'a>(&'a Path);

impl<'a> Files<'a> {
    fn new(folder: &'a Path) -> Self {
        Self(folder)
    }

    fn model(&self) -> std::path::PathBuf {
        self.0.join("model.safetensors")
    }

    fn keys(&self) -> Keys {
        Keys::new(self.0.join("keys"))
    }

    fn latent(&self) -> std::path::PathBuf {
        self.0.join("latent.ct")
    }

    fn result(&self) -> std::path::PathBuf {
        self.0.join("result.ct")
    }
}

/// One process of a row; its result is one line of JSON.
///
/// # Errors
/// The network cannot be planned within the keys' budget, or a file cannot be read or written.
pub fn part(context: &Context, arguments: &BenchPartArguments) -> Result<()> {
    let Some(row) = ROWS.iter().find(|r| r.name == arguments.row) else {
        bail!("no row is called {}", arguments.row)
    };
    let files = Files::new(&arguments.folder);
    let line = match arguments.part.as_str() {
        "prepare" => serde_json::to_string(&prepare(row, &files, arguments.max_key_megabytes)?)?,
        "evaluate" => serde_json::to_string(&evaluate(context, &files)?)?,
        other => bail!("no part is called {other}"),
    };
    println!("{line}");
    Ok(())
}

fn prepare(row: &Row, files: &Files, max_key_megabytes: usize) -> Result<Prepared> {
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
    let bundle = KeyBundle::generate(&circuit.spec, &mut super::keygen::random()?)?;
    let key_seconds = start.elapsed().as_secs_f64();
    super::keygen::save(&bundle, &circuit.parameters, &files.keys())?;
    let encrypted =
        client::encrypt_batch(&circuit.spec, &bundle.client, &films, &mut super::keygen::random()?)?;
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

fn evaluate(context: &Context, files: &Files) -> Result<Evaluated> {
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
