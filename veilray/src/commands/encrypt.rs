//! `veilray encrypt`: the client compresses films with the VQGAN encoder and encrypts their latents.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use datasets::{Film, FilmDataset, LatentSet};
use he_runtime::Circuit;
use pipeline::batches::Batch;
use pipeline::encrypt::{Encoder, EncryptionKeys, encrypt_batch};
use pipeline::files::{load_model, make_folder, size_of};
use pipeline::latents::held_out;
use pipeline::{Context, Keys, RunFolder, settings};
use report::{readable_bytes, readable_time};

use crate::arguments::{PathArguments, choose, locate};

/// Client: encode films with the VQGAN encoder and encrypt their latents.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The run, or the model.
    #[command(flatten)]
    pub paths: PathArguments,
    /// VQGAN checkpoint whose encoder makes the latents; `vqgan/model.safetensors` of the run unless given.
    #[arg(long, value_name = "FILE")]
    pub encoder: Option<PathBuf>,
    /// Folder with the client's keys; only the public key is read. `keys/` of the run unless given.
    #[arg(long, short, value_name = "DIR")]
    pub keys: Option<PathBuf>,
    /// Folder for the ciphertexts, one file a film, or a batch with the list of its films beside it where a ciphertext holds several;
    /// `encrypted/` of the run unless given.
    #[arg(long, short, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Films (PNG, JPEG or DICOM); unless given, the run's held-out films, as many as `encrypted.films` says.
    #[arg(value_name = "FILM")]
    pub films: Vec<PathBuf>,
}

/// Encrypts the films that the user named, or the run's held-out films.
///
/// # Errors
/// A file cannot be read, or does not belong to the model.
pub fn run(context: &Context, arguments: &Arguments) -> Result<()> {
    let located = locate(&arguments.paths)?;
    let folder = located.folder.as_ref();
    let of_run = |path: fn(&RunFolder) -> PathBuf| folder.map(path);
    let keys = choose(arguments.keys.as_ref(), of_run(|run| run.keys().dir().to_owned()), "--keys DIR")?;
    let out = choose(arguments.out.as_ref(), of_run(RunFolder::encrypted), "--out DIR")?;
    let encoder_of_run = located.config.as_ref().map(|config| context.session(&config.run.dir).vqgan_model());
    let encoder_path = choose(arguments.encoder.as_ref(), encoder_of_run, "--encoder FILE")?;

    let model = load_model(&located.model)?;
    let spec = Circuit::new(&model)?.spec;
    let keys = EncryptionKeys::load(&spec.parameters()?, &Keys::new(keys))?;
    let encoder = Encoder::load(&encoder_path, &model)?;
    make_folder(&out)?;
    let films: Vec<(String, Film)> = if arguments.films.is_empty() {
        let config = located.config.as_ref().context("name films to encrypt, or a run with --config FILE")?;
        let latents = LatentSet::load(&context.session(&config.run.dir).latents())?;
        let dataset = FilmDataset::open(&config.data)?;
        let chosen = held_out(&latents, settings::encrypted(config)?.films);
        chosen
            .into_iter()
            .map(|index| Ok((latents.ids[index].clone(), dataset.film(index)?)))
            .collect::<Result<_>>()?
    } else {
        let name =
            |path: &PathBuf| path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into());
        let load = |path: &PathBuf| Ok((name(path), encoder.film(path)?));
        arguments.films.iter().map(load).collect::<Result<_>>()?
    };
    // Ciphertexts of another model or key would be sent along and refused there.
    Batch::in_folder(&spec, &keys.identity(), &out)?;
    let (names, films): (Vec<String>, Vec<Film>) = films.into_iter().unzip();
    let mut films = films.into_iter();
    for batch in Batch::group(&spec, &keys.identity(), &names)? {
        context.check("encrypting")?;
        let films: Vec<Film> = films.by_ref().take(batch.films.len()).collect();
        let time = encrypt_batch(&spec, keys.key(), &encoder, &batch, &films, &out)?;
        let file = batch.ciphertext(&out);
        context.say(&format!(
            "{} -> {} ({}, {})",
            batch.films.join(", "),
            file.display(),
            readable_bytes(size_of(&file)),
            readable_time(time)
        ));
    }
    context.say("next: veilray infer (server)");
    Ok(())
}
