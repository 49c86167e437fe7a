//! The sections `[export]` and `[encrypted]` of a configuration, which the training side only carries.

use std::num::NonZeroUsize;

use he_model::PlanOptions;
use serde::{Deserialize, Serialize};
use train::Config;

/// `[export]`: how the trained classifier becomes an HE-ready model.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExportSettings {
    /// Films (validation split) on which the ranges are measured.
    pub calibration_films: usize,
    /// Room beyond the largest value seen in calibration, as a factor.
    pub headroom: f64,
    /// log2 of the ring degree; chosen by cost if left out.
    pub log_ring_degree: Option<u32>,
    /// Most megabytes that the evaluation keys may take in memory.
    pub max_key_megabytes: usize,
    /// Residual stages, from the first one on, whose values have half a prime more of scale: more precise, a few levels more.
    pub wide_stages: usize,
    /// Films that a ciphertext has to hold at least, at the cost of one; rounded up to a power of two.
    #[serde(skip_serializing_if = "is_one")]
    pub films: NonZeroUsize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_one(films: &NonZeroUsize) -> bool {
    *films == NonZeroUsize::MIN
}

impl Default for ExportSettings {
    fn default() -> Self {
        Self {
            calibration_films: 256,
            headroom: 2.0,
            log_ring_degree: None,
            max_key_megabytes: 8192,
            wide_stages: PlanOptions::default().wide_stages,
            films: NonZeroUsize::MIN,
        }
    }
}

impl ExportSettings {
    /// What the section asks of the planner.
    pub fn plan_options(&self) -> PlanOptions {
        PlanOptions {
            log_ring_degree: self.log_ring_degree,
            max_key_bytes: self.max_key_megabytes << 20,
            wide_stages: self.wide_stages,
            films: self.films.get(),
            ..PlanOptions::default()
        }
    }
}

/// `[encrypted]`: what `demo` and `eval` run on ciphertexts.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EncryptedSettings {
    /// How many held-out (test) films are classified encrypted.
    pub films: usize,
}

impl Default for EncryptedSettings {
    fn default() -> Self {
        Self { films: 8 }
    }
}

/// The `[export]` section of `config`.
///
/// # Errors
/// Names the field that is unknown or of a wrong type.
pub fn export(config: &Config) -> train::Result<ExportSettings> {
    train::config::section(&config.export, "export")
}

/// The `[encrypted]` section of `config`.
///
/// # Errors
/// Names the field that is unknown or of a wrong type.
pub fn encrypted(config: &Config) -> train::Result<EncryptedSettings> {
    train::config::section(&config.encrypted, "encrypted")
}
