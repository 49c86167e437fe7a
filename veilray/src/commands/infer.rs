//! `veilray infer`: the server classifies encrypted latents. It reads a model, evaluation keys and ciphertexts, and
//! nothing in it can decrypt.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use pipeline::files::{ciphertexts_in, film_name, make_folder};
use pipeline::infer::Service;
use pipeline::{Context, RunFolder};
use report::readable_time;

use crate::arguments::{PathArguments, choose, locate};

/// Server: classify encrypted latents. Reads evaluation keys only; cannot decrypt.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The run, or the model.
    #[command(flatten)]
    pub paths: PathArguments,
    /// Evaluation keys, which hold nothing secret; `keys/evaluation.keys` of the run unless given.
    #[arg(long, short, value_name = "FILE")]
    pub evaluation_keys: Option<PathBuf>,
    /// Folder for the encrypted results; `results/` of the run unless given.
    #[arg(long, short, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Encrypted latents; unless given, all of `encrypted/` of the run.
    #[arg(value_name = "CIPHERTEXT")]
    pub inputs: Vec<PathBuf>,
}

/// Classifies the ciphertexts that the user named, or all of the run.
///
/// # Errors
/// A file cannot be read or does not belong to the model or the keys.
pub fn run(context: &Context, arguments: &Arguments) -> Result<()> {
    let located = locate(&arguments.paths)?;
    let folder = located.folder.as_ref();
    let keys_of_run = folder.map(|run| run.keys().evaluation());
    let keys = choose(arguments.evaluation_keys.as_ref(), keys_of_run, "--evaluation-keys FILE")?;
    let out = choose(arguments.out.as_ref(), folder.map(RunFolder::results), "--out DIR")?;
    let inputs = if arguments.inputs.is_empty() {
        let of_run = choose(None, folder.map(RunFolder::encrypted), "the ciphertexts to classify")?;
        ciphertexts_in(&of_run, "encrypt")?
    } else {
        arguments.inputs.clone()
    };
    let service = Service::start(context, &located.model, &keys)?;
    make_folder(&out)?;
    for input in &inputs {
        let (file, time, _) = service.classify(context, input, &out)?;
        context.say(&format!("{} in {} -> {}", film_name(input), readable_time(time), file.display()));
    }
    context.say("next: veilray decrypt (client)");
    Ok(())
}
