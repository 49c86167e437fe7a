//! `veilray export`: the trained classifier becomes an HE-ready model file.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use pipeline::export::export_run;
use pipeline::{Context, RunFolder};
use train::encode_latents;

use crate::arguments::{RunArguments, configuration};

/// Fold, calibrate and pack the trained classifier into an HE-ready model file.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The run.
    #[command(flatten)]
    pub run: RunArguments,
    /// Also write the report as JSON to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Most memory that the evaluation keys may take, in MiB; overrides the configuration.
    #[arg(long, value_name = "MIB")]
    pub max_key_memory: Option<usize>,
}

/// Exports the classifier of a run and prints what is known of it before it runs.
///
/// # Errors
/// As [`export_run`], or the JSON report cannot be written.
pub fn run(context: &Context, arguments: &Arguments) -> Result<()> {
    let mut run = arguments.run.clone();
    run.overrides.extend(arguments.max_key_memory.map(|mib| format!("export.max_key_megabytes={mib}")));
    let config = configuration(&run)?;
    let folder = RunFolder::new(&config.run.dir);
    let session = context.session(&config.run.dir);
    let latents = encode_latents(&config, &session)?;
    let (_, report) = export_run(context, &config, &latents, &session.classifier_model(), &folder)?;
    print!("{report}");
    if let Some(file) = &arguments.json {
        durable::copy(&folder.export_report(), file)
            .with_context(|| format!("cannot write the report to {}", file.display()))?;
    }
    context.say(&format!("next: veilray keygen --config {}", arguments.run.config.display()));
    Ok(())
}
