//! `veilray decrypt`: the client decrypts results and reads the findings.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use he_runtime::Circuit;
use pipeline::batches::Batch;
use pipeline::decrypt::{decrypt_batch, load_keys, to_json, to_table};
use pipeline::files::{ciphertexts_in, load_model};
use pipeline::{Context, Keys, RunFolder};

use crate::arguments::{PathArguments, choose, locate};

/// Client: decrypt results and print the probability of each finding.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The run, or the model.
    #[command(flatten)]
    pub paths: PathArguments,
    /// Folder with the client's keys; the secret key is read. `keys/` of the run unless given.
    #[arg(long, short, value_name = "DIR")]
    pub keys: Option<PathBuf>,
    /// Folder of the lists that `encrypt` wrote beside its ciphertexts, where a ciphertext holds several films; `encrypted/` of the run
    /// unless given.
    #[arg(long, value_name = "DIR")]
    pub lists: Option<PathBuf>,
    /// Print yes or no at probability 0.5 instead of numbers: the form that is safe to pass on (SECURITY.md).
    #[arg(long)]
    pub labels_only: bool,
    /// Print JSON instead of a table, with probabilities in full.
    #[arg(long)]
    pub json: bool,
    /// Encrypted results; unless given, all of `results/` of the run.
    #[arg(value_name = "RESULT")]
    pub inputs: Vec<PathBuf>,
}

/// Decrypts the results that the user named, or all of the run.
///
/// # Errors
/// A file cannot be read or does not belong to the model or the keys.
pub fn run(context: &Context, arguments: &Arguments) -> Result<()> {
    let located = locate(&arguments.paths)?;
    let folder = located.folder.as_ref();
    let keys_of_run = folder.map(|run| run.keys().dir().to_owned());
    let keys = Keys::new(choose(arguments.keys.as_ref(), keys_of_run, "--keys DIR")?);
    let inputs: Vec<PathBuf> = if arguments.inputs.is_empty() {
        let of_run = choose(None, folder.map(RunFolder::results), "the results to decrypt")?;
        ciphertexts_in(&of_run, "infer")?
    } else {
        arguments.inputs.clone()
    };
    let spec = Circuit::new(&load_model(&located.model)?)?.spec;
    let client_keys = load_keys(&spec, &keys)?;
    let lists = arguments.lists.clone().or_else(|| folder.map(RunFolder::encrypted));
    let mut films = Vec::with_capacity(inputs.len());
    for input in &inputs {
        let batch = Batch::of_file(&spec, &client_keys.key(), lists.as_deref(), input)?;
        let logits = decrypt_batch(&spec, &client_keys, input, batch.films.len())?;
        films.extend(batch.films.into_iter().zip(logits));
    }
    print_findings(&spec.labels, &films, arguments.labels_only, arguments.json);
    context.say("these numbers must not go back to the server: see SECURITY.md, IND-CPA-D");
    Ok(())
}

/// Prints the findings of films, given their logits; no table where there is no film.
pub fn print_findings(labels: &[String], films: &[(String, Vec<f64>)], labels_only: bool, json: bool) {
    if json {
        println!("{:#}", to_json(labels, films, labels_only));
    } else if !films.is_empty() {
        print!("{}", to_table(labels, films, labels_only).to_text());
    }
}
