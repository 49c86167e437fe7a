//! `veilray encode`: films to cached latents.

use anyhow::Result;
use train::encode_latents;

use crate::cli::RunArguments;
use crate::context::{Context, configuration};

/// Encodes all films of a configuration.
///
/// # Errors
/// As [`train::encode_latents`].
pub fn run(context: &Context, arguments: &RunArguments) -> Result<()> {
    let config = configuration(arguments)?;
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
    context.say(&format!("next: veilray train classifier --config {}", arguments.config.display()));
    Ok(())
}
