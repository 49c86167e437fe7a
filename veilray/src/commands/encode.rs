//! `veilray encode`: films to cached latents.

use anyhow::Result;
use clap::Args;
use pipeline::Context;
use train::encode_latents;

use crate::arguments::{RunArguments, configuration};

/// Encode all films into latents with the trained VQGAN and cache them in the run folder.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The run.
    #[command(flatten)]
    pub run: RunArguments,
}

/// Encodes all films of a configuration.
///
/// # Errors
/// As [`train::encode_latents`].
pub fn run(context: &Context, arguments: &Arguments) -> Result<()> {
    let config = configuration(&arguments.run)?;
    let session = context.session(&config.run.dir);
    let latents = encode_latents(&config, &session)?;
    context.say(&format!(
        "{} latents of {}x{}x{} -> {}",
        latents.len(),
        latents.channels,
        latents.height,
        latents.width,
        session.latents().display()
    ));
    context.say(&format!("next: veilray train classifier --config {}", arguments.run.config.display()));
    Ok(())
}
