//! `veilray simulate`: what encryption will cost in precision, layer by layer, without keys and without ciphertexts.
//!
//! The packed program runs in the clear with modelled noise ([`he_runtime::simulate`]) on held-out films of the run.

use anyhow::Result;
use clap::Args;
use pipeline::files::load_model;
use pipeline::latents::held_out;
use pipeline::simulate::{table, worst_errors};
use pipeline::{Context, RunFolder};
use train::encode_latents;

use crate::arguments::{RunArguments, configuration};

/// Run the packed network in the clear with modelled noise: the precision to expect, without keys.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The run.
    #[command(flatten)]
    pub run: RunArguments,
    /// Held-out films to simulate.
    #[arg(long, default_value_t = 4, value_name = "N")]
    pub films: usize,
}

/// Simulates films of a run and prints the largest error of every layer over them.
///
/// # Errors
/// The run has no exported model or latents.
pub fn run(context: &Context, arguments: &Arguments) -> Result<()> {
    let config = configuration(&arguments.run)?;
    let folder = RunFolder::new(&config.run.dir);
    let session = context.session(&config.run.dir);
    let latents = encode_latents(&config, &session)?;
    let model = load_model(&folder.model())?;
    let films = held_out(&latents, arguments.films);
    let worst = worst_errors(context, &model, &latents, &films)?;
    print!("{}", table(&format!("{} films, simulated noise", films.len()), &worst, None).to_text());
    if let Some(last) = worst.last() {
        println!("predicted largest difference of a logit: {:.1e}", last.error);
    }
    Ok(())
}
