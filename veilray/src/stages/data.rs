//! `veilray data check`: what is in a data set, and what is wrong with it.

use anyhow::Result;
use datasets::FilmDataset;

use crate::cli::RunArguments;
use crate::context::{Context, configuration};

/// Reads the whole data set of a configuration and prints a report.
///
/// # Errors
/// The data set cannot be opened, or a film in it cannot be read.
pub fn check(context: &Context, arguments: &RunArguments) -> Result<()> {
    let config = configuration(arguments)?;
    let dataset = FilmDataset::open(&config.data)?;
    println!("{}", dataset.describe());
    context.check("reading the data set")?;
    Ok(())
}
