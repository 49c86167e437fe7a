//! `veilray data check`: what is in a data set, and what is wrong with it.

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use datasets::FilmDataset;
use pipeline::Context;
use pipeline::data::{label_table, problems};

use crate::arguments::{RunArguments, configuration};

/// Read a whole data set and say what is in it and what is wrong with it.
#[derive(Debug, Args)]
pub struct Arguments {
    /// What to do with the data.
    #[command(subcommand)]
    pub action: Action,
}

/// What can be done with a data set alone.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Report counts, labels, broken files and patients that appear in two splits.
    Check(RunArguments),
}

/// At most so many problems are shown.
const SHOWN: usize = 20;

/// Does what was asked for with the data.
///
/// # Errors
/// The data set cannot be opened, the user interrupted, or something is wrong with the data.
pub fn run(context: &Context, arguments: &Arguments) -> Result<()> {
    match &arguments.action {
        Action::Check(arguments) => check(context, arguments),
    }
}

/// Prints counts, labels, and what is wrong.
fn check(context: &Context, arguments: &RunArguments) -> Result<()> {
    let mut config = configuration(arguments)?;
    // The films themselves, not what an earlier run made of them.
    config.data.cache = None;
    let dataset = FilmDataset::open(&config.data)?;
    println!("{}", dataset.describe());
    println!("{}", label_table(&dataset).to_text());
    let problems = problems(context, &dataset)?;
    if problems.is_empty() {
        println!("no broken film, no patient and no picture in two splits");
        return Ok(());
    }
    for problem in problems.iter().take(SHOWN) {
        println!("- {problem}");
    }
    bail!("{} problems found in the data, {} shown above", problems.len(), problems.len().min(SHOWN))
}
