//! `veilray train vqgan`, `veilray train import-vqgan` and `veilray train classifier`.

use anyhow::Result;
use train::{encode_latents, train_classifier, train_vqgan};

use crate::cli::{ImportArguments, RunArguments};
use crate::context::{Context, configuration};

/// Trains the VQGAN of a configuration.
///
/// # Errors
/// As [`train::train_vqgan`].
pub fn vqgan(context: &Context, arguments: &RunArguments) -> Result<()> {
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
///
/// # Errors
/// As [`train::import::import_vqgan`].
pub fn import(context: &Context, arguments: &ImportArguments) -> Result<()> {
    let config = configuration(&arguments.run)?;
    let session = context.session(&config.run.dir);
    train::import::import_vqgan(&config, &session, &arguments.from)?;
    context.say(&format!("VQGAN of {} -> {}", arguments.from.display(), session.vqgan_model().display()));
    context.say(&format!("next: veilray encode --config {}", arguments.run.config.display()));
    Ok(())
}

/// Trains the classifier of a configuration, encoding the films first if that was not done.
///
/// # Errors
/// As [`train::encode_latents`] and [`train::train_classifier`].
pub fn classifier(context: &Context, arguments: &RunArguments) -> Result<()> {
    let config = configuration(arguments)?;
    let session = context.session(&config.run.dir);
    let latents = encode_latents(&config, &session)?;
    let report = train_classifier(&config, &latents, &session)?;
    context.say(&format!(
        "classifier: best epoch {} of {}, validation macro AUROC {} -> {}",
        report.best_epoch,
        report.epochs,
        super::eval::figure(report.validation.macro_.auroc),
        session.classifier_model().display()
    ));
    context.say(&format!("next: veilray export --config {}", arguments.config.display()));
    Ok(())
}
