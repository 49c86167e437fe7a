//! The benchmark: networks of the paper on ciphertexts, from random range-safe weights, without any training.
//!
//! Each row runs in processes of its own, so that memory is that of what a server does: one makes model, keys and
//! ciphertext, one loads them and evaluates, and this one decrypts and compares. Nothing is shared but files in a
//! temporary folder, which is removed.

mod parts;
mod rows;

use std::path::Path;

use he_runtime::client::{self, ClientKeys};
use he_runtime::{Circuit, EncryptedTensor};
use pipeline::Context;
use pipeline::error::{Explain as _, Result};
use pipeline::files::{load_model, size_of};
use pipeline::refuse;
use report::{Table, readable_bytes};
use serde::Serialize;

use self::parts::{Evaluated, Files, Prepared};
use self::rows::{ROWS, Row};

/// A process that works on a row.
pub struct Part<'a> {
    /// `prepare` or `evaluate`.
    pub name: &'a str,
    /// The row's name.
    pub row: &'a str,
    /// Folder of the files that the processes hand each other.
    pub folder: &'a Path,
    /// Most memory that the evaluation keys may take, in MiB.
    pub max_key_megabytes: usize,
}

/// A row's result.
#[derive(Debug, Serialize)]
pub struct RowResult {
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

/// What the rows gave.
pub struct Outcome {
    /// All rows that were asked for.
    pub table: Table,
    /// The rows that ran.
    pub results: Vec<RowResult>,
    /// How many did not.
    pub failed: usize,
}

const HEAD: [&str; 10] = [
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
];

/// Runs the rows that are named, all of them without a name. `start` runs [`part`] in a process of its own and gives
/// what it printed.
///
/// # Errors
/// An unknown row, or the user interrupted; a row that cannot be run is reported in its place.
pub fn run(
    context: &Context,
    names: &[String],
    max_key_megabytes: Option<usize>,
    start: &dyn Fn(&Part<'_>) -> Result<Vec<u8>>,
) -> Result<Outcome> {
    let known: Vec<&str> = ROWS.iter().map(|r| r.name).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
        refuse!("no row is called {unknown}: choose from {}", known.join(", "));
    }
    let caption =
        "14 labels, 128-bit security, random weights; the second run of a process that has its keys loaded";
    let mut table = Table::new(caption, &HEAD);
    let (mut results, mut measured, mut failed) = (Vec::new(), Vec::new(), 0);
    for row in ROWS.iter().filter(|row| names.is_empty() || names.iter().any(|name| name == row.name)) {
        context.check("the benchmark")?;
        context.say(row.name);
        match measure(row, max_key_megabytes.unwrap_or(row.key_megabytes), start) {
            Ok(mut result) => {
                result.target_seconds = row.target.seconds(&measured);
                table.rows.push(cells(row, &result, &measured));
                measured.extend(result.evaluated.film_seconds.last().map(|&seconds| (row.name, seconds)));
                results.push(result);
            }
            Err(error) => {
                failed += 1;
                context.say(&format!("  {}", error.in_full()));
                let mut cells = vec![
                    row.name.to_owned(),
                    row.films.to_string(),
                    format!("not run: {}", error.root_cause()),
                    row.target.verdict(None, &measured),
                    row.elsewhere.to_owned(),
                ];
                cells.resize(HEAD.len(), String::new());
                table.rows.push(cells);
            }
        }
    }
    Ok(Outcome { table, results, failed })
}

fn cells(row: &Row, result: &RowResult, measured: &[(&str, f64)]) -> Vec<String> {
    let seconds = result.evaluated.film_seconds.last().copied();
    vec![
        row.name.to_owned(),
        row.films.to_string(),
        seconds.map_or_else(|| "-".into(), |seconds| format!("{seconds:.2} s")),
        row.target.verdict(seconds, measured),
        row.elsewhere.to_owned(),
        format!("2^{}", result.prepared.log_ring_degree),
        result.prepared.levels.to_string(),
        result.evaluated.peak_bytes.map_or_else(|| "-".into(), readable_bytes),
        readable_bytes(result.key_bytes_on_the_wire),
        format!("{:.1e}", result.largest_logit_difference),
    ]
}

fn measure(
    row: &Row,
    max_key_megabytes: usize,
    start: &dyn Fn(&Part<'_>) -> Result<Vec<u8>>,
) -> Result<RowResult> {
    let folder = tempfile::tempdir().explain(|| "cannot make a temporary folder")?;
    let files = Files::new(folder.path());
    let part = |name| start(&Part { name, row: row.name, folder: folder.path(), max_key_megabytes });
    let prepared: Prepared = serde_json::from_slice(&part("prepare")?)?;
    let evaluated: Evaluated = serde_json::from_slice(&part("evaluate")?)?;
    let model = load_model(&files.model())?;
    let circuit = Circuit::new(&model)?;
    let keys = ClientKeys::load(&circuit.parameters, &files.keys().secret())?;
    let result = EncryptedTensor::load_logits(&circuit.parameters, &files.result())?;
    let mut difference = 0.0f64;
    let logits = client::decrypt_batch(&circuit.spec, &keys, &result, row.films)?;
    for (logits, latent) in logits.iter().zip(parts::latents(row, model.graph.input_shape())) {
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

/// One process of a row; its result is one line of JSON.
///
/// # Errors
/// The network cannot be planned within the keys' budget, or a file cannot be read or written.
pub fn part(context: &Context, part: &Part<'_>) -> Result<String> {
    let Some(row) = ROWS.iter().find(|r| r.name == part.row) else {
        refuse!("no row is called {}", part.row)
    };
    let files = Files::new(part.folder);
    Ok(match part.name {
        "prepare" => serde_json::to_string(&parts::prepare(row, &files, part.max_key_megabytes)?)?,
        "evaluate" => serde_json::to_string(&parts::evaluate(context, &files)?)?,
        other => refuse!("no part is called {other}"),
    })
}
