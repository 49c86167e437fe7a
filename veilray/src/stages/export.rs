//! `veilray export`: the trained classifier becomes an HE-ready model file.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use burn::tensor::Device;
use datasets::{LatentSet, Split};
use he_export::{Weights, build, fold};
use he_model::{HeModel, PlanOptions, Preprocessing, Ranges, Shape, plan};
use train::{Config, load_classifier};

use crate::cli::ExportArguments;
use crate::context::{Context, configuration};
use crate::run_folder::RunFolder;
use crate::settings;

/// Exports the classifier of a run.
///
/// # Errors
/// As [`export_run`].
pub fn run(context: &Context, arguments: &ExportArguments) -> Result<()> {
    let config = configuration(&arguments.run)?;
    let folder = RunFolder::new(&config.run.dir);
    let session = context.session(&config.run.dir);
    let latents = train::encode_latents(&config, &session)?;
    let (_, text) = export_run(context, &config, &latents, &session.classifier_model(), &folder)?;
    println!("{text}");
    context.say(&format!("next: veilray keygen --config {}", arguments.run.config.display()));
    Ok(())
}

/// Exports.
///
/// # Errors
/// x
pub fn export_run(
    context: &Context,
    config: &Config,
    latents: &LatentSet,
    classifier: &Path,
    folder: &RunFolder,
) -> Result<(HeModel, String)> {
    let settings = settings::export(config)?;
    let trained = load_classifier(classifier, &Device::flex())?;
    let weights = Weights::read(classifier)?;
    let (graph, _) = fold(&build(&trained.config, &weights)?)?;
    let mut ranges = Ranges::new(&graph);
    let films = latents.indices(Split::Validation);
    let mut range = 0f64;
    for &film in films.iter().take(settings.calibration_films) {
        let latent: Vec<f64> = latents.latent(film).iter().map(|&v| f64::from(v)).collect();
        range = latent.iter().fold(range, |m, v| m.max(v.abs()));
        ranges.observe(&graph, &latent)?;
    }
    let plan = plan(
        &graph,
        &PlanOptions {
            log_ring_degree: settings.log_ring_degree,
            max_key_bytes: settings.max_key_megabytes << 20,
            ..PlanOptions::default()
        },
    )?;
    let model = HeModel {
        graph,
        plan,
        labels: trained.label_names.clone(),
        preprocessing: Preprocessing {
            film_side: config.data.side,
            latent: Shape::new(latents.channels, latents.height, latents.width),
            encoder_digest: trained.encoder_digest.clone(),
            latent_range: range,
        },
        ranges,
        notes: BTreeMap::new(),
    };
    model.save(&folder.model())?;
    context.say(&format!("-> {}", folder.model().display()));
    Ok((model, String::new()))
}
