//! `veilray keygen`: a client's keys for one model. The secret key never leaves the key folder.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use pipeline::files::load_model;
use pipeline::keygen::generate;
use pipeline::{Context, Keys};

use crate::arguments::{PathArguments, choose, locate};

/// Make a client's keys for an HE-ready model: secret, public and evaluation keys.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The run, or the model.
    #[command(flatten)]
    pub paths: PathArguments,
    /// Folder for the keys; `keys/` of the run folder unless given.
    #[arg(long, short, value_name = "DIR")]
    pub keys: Option<PathBuf>,
    /// Replace keys that are already there. Results made under them can no longer be decrypted.
    #[arg(long)]
    pub force: bool,
}

/// Makes keys for the model that the user named.
///
/// # Errors
/// Keys are already there and `--force` was not given, or a file cannot be read or written.
pub fn run(context: &Context, arguments: &Arguments) -> Result<()> {
    let located = locate(&arguments.paths)?;
    let of_run = located.folder.as_ref().map(|folder| folder.keys().dir().to_owned());
    let keys = Keys::new(choose(arguments.keys.as_ref(), of_run, "--keys DIR")?);
    if keys.secret().exists() && !arguments.force {
        bail!(
            "{} is already there: results made under it could no longer be decrypted; \
             --force replaces it, or name another folder with --keys",
            keys.secret().display()
        );
    }
    generate(context, &load_model(&located.model)?, &keys)?;
    context
        .say("next: veilray encrypt (client), then send evaluation.keys and the ciphertexts to the server");
    Ok(())
}
