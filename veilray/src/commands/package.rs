//! `veilray package`: what a clinic and a service are given.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use pipeline::package::create;
use pipeline::{Context, RunFolder};

use crate::arguments::{RunArguments, configuration};

/// Put model, encoder and model card of a run into one folder: what a clinic and a service need.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The run.
    #[command(flatten)]
    pub run: RunArguments,
    /// Name under which a service offers the model: a-z, 0-9, '-' and '_'.
    #[arg(long, value_name = "NAME")]
    pub name: he_protocol::Name,
    /// Folder of the package; `package/` of the run folder unless given.
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
    /// A line of the model card, for example `--note "intended use=research"`. Can be given several times.
    #[arg(long = "note", value_name = "HEADING=TEXT")]
    pub notes: Vec<String>,
}

/// Makes the package of a run. Figures of `veilray eval` go into the model card, where they are there.
///
/// # Errors
/// A file is missing or does not belong to the model, or the package cannot be written.
pub fn run(context: &Context, arguments: &Arguments) -> Result<()> {
    let config = configuration(&arguments.run)?;
    let folder = RunFolder::new(&config.run.dir);
    let mut notes = BTreeMap::new();
    for note in &arguments.notes {
        let (heading, text) = note.split_once('=').context("expected --note HEADING=TEXT")?;
        notes.insert(heading.trim().to_owned(), text.trim().to_owned());
    }
    if !folder.evaluation().exists() {
        context.say("no eval.json in the run folder: the model card will hold no figures");
    }
    let to = arguments.to.clone().unwrap_or_else(|| config.run.dir.join("package"));
    let session = context.session(&config.run.dir);
    let made = create(&folder, &session, &to, arguments.name.clone(), notes)?;
    context.say(&format!("package -> {}", to.display()));
    println!("{}", made.digest);
    context.say(
        "tell this digest to whoever receives the package: `veilray inspect DIR --digest DIGEST` checks it",
    );
    Ok(())
}
