//! `veilray bench he`: networks of the paper on ciphertexts, without any training.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use clap::{Args, Subcommand};
use pipeline::error::Explain as _;
use pipeline::{Context, refuse};
use studies::bench::{self, Part};

/// Measure encrypted inference on this machine, from random weights.
#[derive(Debug, Args)]
pub struct Arguments {
    /// What to measure.
    #[command(subcommand)]
    pub what: What,
}

/// What can be measured.
#[derive(Debug, Subcommand)]
pub enum What {
    /// The networks of the paper on ciphertexts: time, memory, keys, precision, beside their targets.
    He(HeArguments),
    /// One process of a row (started by `bench he`).
    #[command(hide = true)]
    Part(PartArguments),
}

/// Arguments of `bench he`.
#[derive(Debug, Args)]
pub struct HeArguments {
    /// Rows to run, all unless given: resnet20-f8, resnet20-se-f8, lenet-f8, resnet20-f16, resnet20-f4, resnet20-f2; with two films in a
    /// batch resnet20-f8-two, lenet-f8-two, resnet20-f16-two.
    #[arg(long, value_delimiter = ',', value_name = "ROW")]
    pub rows: Vec<String>,
    /// Most memory that the evaluation keys of a row may take, in MiB: 4096 unless given, 12288 with gates.
    #[arg(long, value_name = "MIB")]
    pub max_key_megabytes: Option<usize>,
    /// Also write the results as JSON to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Arguments of one process of a row.
#[derive(Debug, Args)]
pub struct PartArguments {
    /// `prepare` or `evaluate`.
    pub part: String,
    /// The row's name.
    pub row: String,
    /// Folder of the files that the processes hand each other.
    pub folder: PathBuf,
    /// Most memory that the evaluation keys may take, in MiB.
    #[arg(long)]
    pub max_key_megabytes: usize,
}

/// Measures, or is a process of a measurement.
///
/// # Errors
/// An unknown row, or one that cannot be run.
pub fn run(context: &Context, arguments: &Arguments) -> Result<()> {
    match &arguments.what {
        What::He(arguments) => he(context, arguments),
        What::Part(arguments) => {
            let part = Part {
                name: &arguments.part,
                row: &arguments.row,
                folder: &arguments.folder,
                max_key_megabytes: arguments.max_key_megabytes,
            };
            println!("{}", bench::part(context, &part)?);
            Ok(())
        }
    }
}

fn he(context: &Context, arguments: &HeArguments) -> Result<()> {
    let outcome = bench::run(context, &arguments.rows, arguments.max_key_megabytes, &start)?;
    print!("{}", outcome.table.to_text());
    println!("{} threads, {}", rayon::current_num_threads(), ckks::instruction_set());
    if let Some(file) = &arguments.json {
        durable::write(file, serde_json::to_string_pretty(&outcome.results)?.as_bytes())?;
    }
    ensure!(outcome.failed == 0, "{} rows could not be run", outcome.failed);
    Ok(())
}

/// Runs a part of a row in a process of its own; what it printed.
fn start(part: &Part<'_>) -> pipeline::Result<Vec<u8>> {
    let mut command = Command::new(std::env::current_exe().explain(|| "cannot find this program")?);
    command.arg("--threads").arg(rayon::current_num_threads().to_string());
    command.args(["bench", "part", part.name, part.row]).arg(part.folder);
    command.arg(format!("--max-key-megabytes={}", part.max_key_megabytes));
    let output = command.stderr(Stdio::piped()).output().explain(|| "cannot start this program again")?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let text = String::from_utf8_lossy(&output.stderr);
    match text.trim().trim_start_matches("error: ").replace('\n', "; ") {
        message if message.is_empty() => refuse!("{} ended with {}", part.name, output.status),
        message => refuse!("{message}"),
    }
}
