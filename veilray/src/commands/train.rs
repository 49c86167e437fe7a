//! `veilray train vqgan`, `veilray train import-vqgan` and `veilray train classifier`.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use pipeline::Context;
use train::{encode_latents, train_classifier, train_vqgan};

use crate::arguments::{RunArguments, configuration};

/// Train the VQGAN or the classifier of a configuration.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Which network.
    #[command(subcommand)]
    pub network: Network,
}

/// The two networks that are trained.
#[derive(Debug, Subcommand)]
pub enum Network {
    /// The VQGAN that compresses films into latents.
    Vqgan(RunArguments),
    /// Take the VQGAN from a PyTorch checkpoint in the layout of taming-transformers instead of training one.
    ImportVqgan(ImportArguments),
    /// The classifier on latents.
    Classifier(RunArguments),
}

/// Arguments of `train import-vqgan`.
#[derive(Debug, Args)]
pub struct ImportArguments {
    /// The run, whose `[vqgan.model]` describes the network of the file.
    #[command(flatten)]
    pub run: RunArguments,
    /// The checkpoint: `.ckpt`, `.pt` or `.safetensors`.
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,
}

/// Trains, or takes over, the network that was named.
///
/// # Errors
/// As [`train_vqgan`], [`train::import::import_vqgan`], [`encode_latents`] and [`train_classifier`].
pub fn run(context: &Context, arguments: &Arguments) -> Result<()> {
    match &arguments.network {
        Network::Vqgan(arguments) => vqgan(context, arguments),
        Network::ImportVqgan(arguments) => import(context, arguments),
        Network::Classifier(arguments) => classifier(context, arguments),
    }
}

/// Trains the VQGAN of a configuration.
fn vqgan(context: &Context, arguments: &RunArguments) -> Result<()> {
    let config = configuration(arguments)?;
    let session = context.session(&config.run.dir);
    let report = train_vqgan(&config, &session)?;
    context.say(&format!(
        "VQGAN: {} steps, PSNR {:.2} dB, {:.0} % of the codes in use -> {}",
        report.steps,
        report.best.psnr,
        100.0 * report.best.codes_used,
        session.vqgan_model().display()
    ));
    context.say(&format!("next: veilray encode --config {}", arguments.config.display()));
    Ok(())
}

/// Takes the VQGAN of a configuration from a PyTorch checkpoint.
fn import(context: &Context, arguments: &ImportArguments) -> Result<()> {
    let config = configuration(&arguments.run)?;
    let session = context.session(&config.run.dir);
    train::import::import_vqgan(&config, &session, &arguments.from)?;
    context.say(&format!("VQGAN of {} -> {}", arguments.from.display(), session.vqgan_model().display()));
    context.say(&format!("next: veilray encode --config {}", arguments.run.config.display()));
    Ok(())
}

/// Trains the classifier of a configuration, encoding the films first if that was not done.
fn classifier(context: &Context, arguments: &RunArguments) -> Result<()> {
    let config = configuration(arguments)?;
    let session = context.session(&config.run.dir);
    let latents = encode_latents(&config, &session)?;
    let report = train_classifier(&config, &latents, &session)?;
    context.say(&format!(
        "classifier: best epoch {} of {}, validation macro AUROC {} -> {}",
        report.best_epoch,
        report.epochs,
        pipeline::eval::figure(report.validation.macro_.auroc),
        session.classifier_model().display()
    ));
    context.say(&format!("next: veilray export --config {}", arguments.config.display()));
    Ok(())
}
