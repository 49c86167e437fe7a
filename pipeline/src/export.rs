//! The trained classifier becomes an HE-ready model file.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::Device;
use datasets::{LatentSet, Split};
use he_export::{Export, ExportInputs, Weights, export};
use he_model::HeModel;
use he_runtime::rounding::offsets;
use train::{Config, load_classifier};

use crate::context::Context;
use crate::error::{Explain as _, Result};
use crate::latents;
use crate::run_folder::RunFolder;
use crate::simulate::worst_errors;
use crate::{film_fit, settings};

/// Calibration films on which the offsets are measured: their mean, over all positions, settles with few.
const OFFSET_FILMS: usize = 32;

/// Calibration films on which the error of every layer is foreseen: two seeds of one network differed by a factor of ten on single films.
const FORESEEN_FILMS: usize = 4;

/// Largest error of a logit that is not warned of.
const LARGE_ERROR: f64 = 0.01;

/// Exports the classifier at `classifier`, calibrated on the validation films of `latents`, into the run folder; returns
/// the model and the report as text.
///
/// # Errors
/// The checkpoint does not fit the run, values leave their range, no parameters are large enough, or a file cannot be
/// written.
pub fn export_run(
    context: &Context,
    config: &Config,
    latents: &LatentSet,
    classifier: &Path,
    folder: &RunFolder,
) -> Result<(HeModel, String)> {
    let settings = settings::export(config)?;
    let trained = load_classifier(classifier, &Device::flex())?;
    trained.check_labels(latents)?;
    let weights = Weights::read(classifier)?;
    let films = latents.indices(Split::Validation);
    let calibration = films.iter().take(settings.calibration_films).map(|&film| latents.latent(film));
    let network = trained.config.network().map_err(train::TrainError::from)?;
    let inputs = ExportInputs {
        network: &network,
        weights: &weights,
        labels: &trained.label_names,
        film_side: config.data.side,
        film_fit: film_fit::in_model(config.data.fit),
        encoder_digest: &trained.encoder_digest,
        headroom: settings.headroom,
        plan: settings.plan_options(),
        notes: BTreeMap::from([
            ("architecture".to_owned(), trained.config.architecture.name()),
            ("checkpoint".to_owned(), trained.digest.clone()),
        ]),
    };
    let Export { mut model, mut report, .. } =
        export(&inputs, calibration).explain(|| format!("cannot export {}", classifier.display()))?;
    let corrected = &films[..films.len().min(settings.calibration_films).min(OFFSET_FILMS)];
    model.offsets = offsets(&model, &latents::of(latents, corrected))?;
    let foreseen = &corrected[..corrected.len().min(FORESEEN_FILMS)];
    let foreseen = worst_errors(context, &model, latents, foreseen)?;
    report.set_predicted_errors(foreseen.iter().map(|layer| (layer.name.as_str(), layer.error)));
    if let Some(logits) = foreseen.last().filter(|logits| logits.error.is_nan() || logits.error > LARGE_ERROR)
    {
        context.say(&format!(
            "warning: logits are expected to be off by up to {:.1e} (largest logit {:.1}); more of export.max_key_megabytes or \
             export.wide_stages makes them more exact",
            logits.error, logits.magnitude
        ));
    }
    model.save(&folder.model())?;
    durable::write(&folder.export_report(), serde_json::to_string_pretty(&report)?.as_bytes())?;
    context.say(&format!("HE-ready model -> {}", folder.model().display()));
    Ok((model, report.to_string()))
}
