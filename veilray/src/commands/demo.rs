//! `veilray demo`: the whole idea, from films to an encrypted diagnosis, and a report of it.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use pipeline::{Context, RunFolder};
use studies::demo::{self, page};
use train::Config;

use super::eval::print_evaluation;

/// All of it: films to encrypted diagnosis, with a report at the end.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Films to use instead of the built-in phantom: an NIH folder, a `.npz` in the layout of MedMNIST, a folder.
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// Configuration file; the built-in demo configuration (configs/demo.toml) unless given.
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Override one value of the configuration. Can be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Run folder; overrides `run.dir` of the configuration.
    #[arg(long, short, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// How many held-out films to classify encrypted; overrides `encrypted.films`.
    #[arg(long, value_name = "N")]
    pub films: Option<usize>,
    /// Begin again: do not reuse what an earlier demo left in the run folder.
    #[arg(long)]
    pub fresh: bool,
}

/// The configuration that `demo` runs unless told otherwise.
const BUILT_IN: &str = include_str!("../../../configs/demo.toml");

/// Runs the demo.
///
/// # Errors
/// Whatever a stage reports.
pub fn run(context: &Context, arguments: &Arguments) -> Result<()> {
    let config = configuration(arguments)?;
    let outcome = demo::run(context, config, arguments.fresh)?;
    let dir = &outcome.config.run.dir;
    print_evaluation(&outcome.evaluation);
    print!("{}{}", page::time_table(&outcome).to_text(), page::size_table(&outcome).to_text());
    print!("{}", page::parameter_table(&outcome).to_text());
    println!("report: {}", RunFolder::new(dir).report().display());
    println!("TensorBoard logs: {}", dir.display());
    Ok(())
}

/// The built-in configuration or the user's, with the overrides of the command line.
fn configuration(arguments: &Arguments) -> Result<Config> {
    let mut overrides = arguments.overrides.clone();
    if let Some(films) = arguments.films {
        overrides.push(format!("encrypted.films={films}"));
    }
    let mut config = match &arguments.config {
        Some(file) => train::config::read(file, &overrides)?,
        None => train::config::parse(BUILT_IN, Path::new("the built-in demo configuration"), &overrides)?,
    };
    if let Some(data) = &arguments.data {
        config.data.source = datasets::detect(data)?;
        if arguments.out.is_none() && arguments.config.is_none() {
            config.run.dir = PathBuf::from("runs").join(format!("demo-{}", run_name(data)));
        }
    }
    if let Some(out) = &arguments.out {
        config.run.dir.clone_from(out);
    }
    Ok(config)
}

/// A folder name for the demo on other films: the last part of their path.
fn run_name(data: &Path) -> String {
    data.file_stem().map_or_else(|| "films".to_owned(), |stem| stem.to_string_lossy().into_owned())
}
