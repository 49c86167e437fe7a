//! A classifier as an earlier stage left it, and what it gives on latents.

use std::path::Path;

use burn::{module::Module, tensor::Device};
use classifier::{Classifier, ClassifierConfig, Metrics};
use datasets::{LatentSet, Split};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::batches::Batch;
use crate::{
    Result, TrainError,
    checkpoint::{Checkpoint, Kind, refusal},
    stage::OTHER_ARCHITECTURE,
    state::{apply, seeded},
};

/// Latents evaluated at a time.
const BATCH: usize = 128;

/// A classifier as an earlier stage left it.
pub struct LoadedClassifier {
    /// Its shape.
    pub config: ClassifierConfig,
    /// The network, without autodiff.
    pub net: Classifier,
    /// Names of its labels, one per logit.
    pub label_names: Vec<String>,
    /// Digest of the encoder whose latents it was trained on.
    pub encoder_digest: String,
    /// Digest of the checkpoint.
    pub digest: String,
}

impl LoadedClassifier {
    /// Checks that its logits stand for the labels of these latents, in their order.
    ///
    /// # Errors
    ///
    /// They do not.
    pub fn check_labels(&self, latents: &LatentSet) -> Result<()> {
        if self.label_names == latents.label_names {
            return Ok(());
        }
        Err(TrainError::Mismatch {
            what: "labels",
            expected: format!("{:?}, as the classifier was trained", self.label_names),
            found: format!("{:?}", latents.label_names),
            advice: "use the data set of this run, or train the classifier again".into(),
        })
    }
}

/// The largest pre-activation of one layer on films.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerRange {
    /// The activation.
    pub layer: String,
    /// The largest magnitude that it saw.
    pub largest: f64,
    /// The interval `[-r, r]` that it is meant for.
    pub interval: f64,
}

/// Reads a classifier.
///
/// # Errors
///
/// The file is missing, damaged, or of another network or architecture.
pub fn load_classifier(path: &Path, device: &Device) -> Result<LoadedClassifier> {
    let checkpoint = Checkpoint::load(path, Kind::Classifier)?;
    let again = "it was written by another version: train again";
    let config: ClassifierConfig = serde_json::from_value(checkpoint.model.clone())
        .map_err(|e| refusal(path, format!("its configuration is not that of a classifier ({e})"), again))?;
    let text = |key: &str| checkpoint.extra.get(key).cloned().unwrap_or(Value::Null);
    let label_names: Vec<String> = serde_json::from_value(text("label_names"))
        .map_err(|e| refusal(path, format!("it does not name its labels ({e})"), again))?;
    if label_names.len() != config.labels {
        let problem = format!("expected {} label names, found {}", config.labels, label_names.len());
        return Err(refusal(path, problem, again));
    }
    let encoder_digest = text("encoder_digest").as_str().unwrap_or_default().to_owned();
    let device = device.clone().without_autodiff();
    // All weights are replaced; builders take turns all the same, or another one's would not follow from its seed.
    let net = seeded(&device, 0, || Classifier::from_config(&config, &device))?;
    let net = apply(net, &checkpoint.tensors).map_err(|p| refusal(path, p, OTHER_ARCHITECTURE))?;
    Ok(LoadedClassifier { config, net, label_names, encoder_digest, digest: checkpoint.digest() })
}

/// Logits of the given latents, one list per film.
///
/// # Errors
///
/// The latents do not have the shape that the network expects.
pub fn logits(
    net: &Classifier,
    config: &ClassifierConfig,
    latents: &LatentSet,
    indices: &[usize],
) -> Result<Vec<Vec<f64>>> {
    let shape = [latents.channels, latents.height, latents.width];
    if config.latent != shape {
        return Err(TrainError::Mismatch {
            what: "shape of the latents",
            expected: format!("{:?}, as the classifier was trained", config.latent),
            found: format!("{shape:?}"),
            advice: "encode the films again with the VQGAN of this run, or train the classifier again".into(),
        });
    }
    Ok(all_logits(net, latents, indices))
}

/// Metrics of a classifier on one split of the latents.
///
/// # Errors
///
/// Latents and network do not fit, or the split is empty.
pub fn evaluate(classifier: &LoadedClassifier, latents: &LatentSet, split: Split) -> Result<Metrics> {
    let indices = latents.indices(split);
    if indices.is_empty() {
        return Err(TrainError::EmptySplit {
            split,
            advice: "check data.limits and the data set's own lists",
        });
    }
    classifier.check_labels(latents)?;
    let scores = logits(&classifier.net, &classifier.config, latents, &indices)?;
    metrics_of(latents, &indices, &scores)
}

/// The largest pre-activation of every layer on one split of the latents, in the order in which layers run.
///
/// # Errors
///
/// The latents do not have the shape that the network expects, or its configuration cannot be used.
pub(crate) fn ranges(
    classifier: &LoadedClassifier,
    latents: &LatentSet,
    split: Split,
) -> Result<Vec<LayerRange>> {
    let indices = latents.indices(split);
    // Refuses latents of another shape.
    logits(&classifier.net, &classifier.config, latents, &indices[..indices.len().min(1)])?;
    let device = classifier.net.devices().into_iter().next().unwrap_or_default();
    let mut layers: Vec<LayerRange> = Vec::new();
    for batch in indices.chunks(BATCH) {
        let (_, seen) = classifier.net.forward_watched(Batch::new(latents, batch, &device).latents);
        let largest = seen.largest.into_data().iter::<f32>().map(f64::from).collect::<Vec<_>>();
        if layers.is_empty() {
            let interval = |name: &str| {
                let config = &classifier.config;
                if name.ends_with(".gate") { config.gate.interval } else { config.activation.interval }
            };
            let layer = |name: String| LayerRange { interval: interval(&name), layer: name, largest: 0.0 };
            layers = seen.names.into_iter().map(layer).collect();
        }
        for (layer, largest) in layers.iter_mut().zip(largest) {
            // A NaN stays: no comparison replaces it.
            if largest > layer.largest || largest.is_nan() {
                layer.largest = largest;
            }
        }
    }
    Ok(layers)
}

pub(super) fn all_logits(net: &Classifier, latents: &LatentSet, indices: &[usize]) -> Vec<Vec<f64>> {
    let device = net.devices().into_iter().next().unwrap_or_default();
    let mut scores = Vec::with_capacity(indices.len());
    for batch in indices.chunks(BATCH) {
        let logits = net.forward(Batch::new(latents, batch, &device).latents);
        let labels = logits.dims()[1];
        let values = logits.into_data().iter::<f32>().map(f64::from).collect::<Vec<_>>();
        scores.extend(values.chunks_exact(labels.max(1)).map(<[f64]>::to_vec));
    }
    scores
}

/// Metrics of logits, one list per film of `indices`.
pub(super) fn metrics_of(latents: &LatentSet, indices: &[usize], scores: &[Vec<f64>]) -> Result<Metrics> {
    let labels = indices.iter().map(|&i| latents.labels[i].clone()).collect::<Vec<_>>();
    Ok(Metrics::measure(&latents.label_names, scores, &labels, 0.0)?)
}
