//! What a demo gives.

use std::time::Duration;

use he_model::HeModel;
use he_runtime::LayerTime;
use pipeline::eval::Evaluation;
use train::{ClassifierReport, Config, VqganReport};

/// Everything that the page at the end shows.
pub struct Outcome {
    /// What was run.
    pub config: Config,
    /// One line on the films.
    pub data: String,
    /// What training the VQGAN gave.
    pub vqgan: VqganReport,
    /// What training the classifier gave.
    pub classifier: ClassifierReport,
    /// The exported model.
    pub model: HeModel,
    /// The report of the export, as text.
    pub export: String,
    /// Clear against encrypted.
    pub evaluation: Evaluation,
    /// Time of each stage in this invocation.
    pub stages: Vec<(String, Duration)>,
    /// Time of the encrypted evaluation of each ciphertext that was classified in this invocation.
    pub encrypted_times: Vec<Duration>,
    /// Time of each layer for the last ciphertext classified in this invocation.
    pub layers: Vec<LayerTime>,
    /// Sizes of the files that travel or stay, and of the server's memory.
    pub sizes: Vec<(String, u64)>,
}

/// The middle of the times.
pub fn median(times: &[Duration]) -> Option<Duration> {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied()
}
