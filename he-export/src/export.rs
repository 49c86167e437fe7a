//! The whole way from a checkpoint to an HE-ready model: build, fold, calibrate, plan, report.

use std::collections::BTreeMap;

use he_model::{FilmFit, HeModel, Offsets, PlanOptions, Preprocessing, plan};
use networks::Network;

use crate::{Calibration, ExportError, Folds, Report, Weights, build, calibrate, fold};

/// What the caller knows besides the weights.
#[derive(Debug, Clone)]
pub struct ExportInputs<'a> {
    /// The classifier.
    pub network: &'a Network,
    /// Its tensors.
    pub weights: &'a Weights,
    /// Name of each output.
    pub labels: &'a [String],
    /// Side of the films in pixels.
    pub film_side: usize,
    /// How films become square.
    pub film_fit: FilmFit,
    /// Digest of the encoder that made the latents; empty if unknown.
    pub encoder_digest: &'a str,
    /// Factor by which a film may exceed what calibration saw.
    pub headroom: f64,
    /// What the user decides about packing and parameters.
    pub plan: PlanOptions,
    /// Free text by key for the model file.
    pub notes: BTreeMap<String, String>,
}

/// An exported model and what is known of it before it runs.
#[derive(Debug, Clone)]
pub struct Export {
    /// The model.
    pub model: HeModel,
    /// Depth, ring, keys, predicted time, ranges.
    pub report: Report,
    /// What calibration measured.
    pub calibration: Calibration,
    /// What folding did.
    pub folds: Folds,
}

/// Exports a classifier. `latents` are held-out latents for calibration, `[channels, height, width]` row-major each.
///
/// # Errors
/// Weights that do not fit the network, values out of range, or a network for which no parameters are large enough.
pub fn export<'a>(
    inputs: &ExportInputs<'_>,
    latents: impl IntoIterator<Item = &'a [f32]>,
) -> Result<Export, ExportError> {
    let (graph, folds) = fold(&build(inputs.network, inputs.weights)?)?;
    let outputs = graph.output_shape().len();
    if inputs.labels.len() != outputs {
        return Err(ExportError::Labels { expected: outputs, got: inputs.labels.len() });
    }
    let calibration = calibrate(&graph, latents, inputs.headroom)?;
    let plan = plan(&graph, &inputs.plan)?;
    let trace = plan.trace(&plan.program(&graph)?)?;
    let report = Report::new(&graph, &plan, &trace, &calibration);
    let model = HeModel {
        preprocessing: Preprocessing {
            film_side: inputs.film_side,
            film_fit: inputs.film_fit,
            latent: graph.input_shape(),
            encoder_digest: inputs.encoder_digest.to_owned(),
            latent_range: calibration.latent_range,
        },
        graph,
        plan,
        labels: inputs.labels.to_vec(),
        ranges: calibration.ranges.clone(),
        offsets: Offsets::new(),
        notes: inputs.notes.clone(),
    };
    Ok(Export { model, report, calibration, folds })
}
