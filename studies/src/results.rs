//! What the stages of a cell give: the figures of which tables and pictures are made, and nothing that can be computed from them.

use classifier::{Intervals, Metrics};
use serde::{Deserialize, Serialize};
use train::VqganFigures;

use super::cache::Done;

/// Training the VQGAN.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VqganResult {
    /// Steps done.
    pub steps: u64,
    /// Seconds of training over all sessions.
    pub training_seconds: f64,
    /// Figures on the validation films.
    pub validation: VqganFigures,
}

/// Latents, and reconstructions of the test films.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LatentsResult {
    /// What the data set says of itself.
    pub films: String,
    /// Films in all splits.
    pub all_films: usize,
    /// Shape `[channels, height, width]` of a latent.
    pub shape: [usize; 3],
    /// The downsampling factor f.
    pub factor: usize,
    /// Figures on the test films.
    pub test: VqganFigures,
    /// Parameters of encoder, quantiser and decoder.
    pub parameters: usize,
}

/// Training the classifier, and its metrics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassifierResult {
    /// The network, by the name that configurations use.
    pub architecture: String,
    /// With squeeze and excitation.
    pub se: bool,
    /// Parameters of the network.
    pub parameters: usize,
    /// Epochs done, and the one whose weights were kept.
    pub epochs: [u64; 2],
    /// Seconds of training over all sessions.
    pub training_seconds: f64,
    /// Films in the test split.
    pub test_films: usize,
    /// Metrics on the test films.
    pub test: Metrics,
    /// Their 95 % intervals over patients.
    pub intervals: Intervals,
}

/// The HE-ready model: the part of its report that a table shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExportResult {
    /// Multiplicative depth in rescalings.
    pub depth: usize,
    /// log2 of the ring degree.
    pub log_ring_degree: u32,
    /// Bits of the ciphertext modulus.
    pub modulus_bits: u32,
    /// Bits of the special modulus.
    pub special_bits: u32,
    /// What the parameters promise.
    pub security: String,
    /// Number of evaluation keys.
    pub key_count: usize,
    /// Bytes of the evaluation keys in memory.
    pub key_bytes: usize,
    /// Predicted seconds of one thread.
    pub predicted_seconds: f64,
    /// Parameters after folding.
    pub weights: usize,
}

/// Test films on ciphertexts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EncryptedResult {
    /// Films that the configuration asked for. As many were classified: fewer are an error.
    pub asked: usize,
    /// Seconds of the evaluation of each film on ciphertexts.
    pub seconds: Vec<f64>,
    /// Processor seconds of each film, over all threads; empty where the system does not say.
    #[serde(default)]
    pub processor_seconds: Vec<f64>,
    /// Seconds of the trained network in the clear for each of these films, one at a time.
    pub clear_seconds: Vec<f64>,
    /// The trained network on these films.
    pub clear: Metrics,
    /// The decrypted logits of these films.
    pub encrypted: Metrics,
    /// Largest difference of a logit between the two.
    pub largest_difference: f64,
    /// Bytes of the evaluation keys as they travel.
    pub key_bytes: u64,
    /// Bytes of one encrypted latent.
    pub ciphertext_bytes: u64,
}

/// The stages of a cell that are finished.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Results {
    /// The VQGAN.
    pub vqgan: Option<Done<VqganResult>>,
    /// Latents and reconstructions.
    pub latents: Option<Done<LatentsResult>>,
    /// The classifier.
    pub classifier: Option<Done<ClassifierResult>>,
    /// The HE-ready model; absent where the network is not polynomial.
    pub export: Option<Done<ExportResult>>,
    /// Films on ciphertexts; absent where the network is not polynomial.
    pub encrypted: Option<Done<EncryptedResult>>,
}

/// The middle value; absent where there is none.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    Some(if sorted.len().is_multiple_of(2) { 0.5 * (sorted[middle - 1] + upper) } else { upper })
}
