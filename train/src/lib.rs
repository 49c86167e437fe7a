//! Training loops, checkpoints, TensorBoard logs and the configuration types.
//!
//! A run is one TOML file ([`Config`]) and one folder ([`Session`]). Its stages are functions that pick up where
//! they stopped:
//!
//! | stage | reads | writes |
//! |---|---|---|
//! | [`train_vqgan`] | films | `vqgan/model.safetensors` |
//! | [`encode_latents`] | films, the VQGAN | `latents.safetensors` |
//! | [`train_classifier`] | latents | `classifier/model.safetensors` |
//! | [`evaluate`] | latents, the classifier | figures |
//! | [`test_report()`] | test films, both networks | `test.json`, `test.csv` |
//! | [`test_reconstruction`] | test films, the VQGAN | `vqgan/test.json`, `vqgan/test.csv` |
//! | [`Sweep::run`] | everything above, many times | a run folder each, `sweep.csv`, `sweep.json` |
//!
//! Invariants:
//!
//! - Every random choice derives from the run's seed and the step: an interrupted and resumed run
//!   computes the weights of an uninterrupted one, bit for bit on the CPU.
//! - A step is the same on any number of devices: its batches are shared out, and their gradients added up in order.
//! - Weights are kept by validation films; test films are looked at by [`evaluate`] alone.
//! - A file is whole or absent ([`durable`]); a checkpoint says what it is and is checked when read ([`checkpoint`]).

pub mod average;
pub mod checkpoint;
pub mod config;
pub mod devices;
pub mod films;
pub mod history;
pub mod import;
pub mod optimizer;
pub mod picture;
pub mod progress;
pub mod sampler;
pub mod schedule;
pub mod state;
pub mod sweep;
pub mod tensorboard;

mod classifier_stage;
mod encode;
mod error;
mod not_finite;
mod session;
mod stage;
mod test_report;
mod vqgan_stage;
mod workers;

pub use classifier_stage::{
    ClassifierReport, LayerRange, LoadedClassifier, evaluate, load_classifier, logits, train_classifier,
};
pub use config::Config;
pub use encode::{encode_copies, encode_latents};
pub use error::{Result, TrainError};
pub use progress::{Progress, Terminal};
pub use session::Session;
pub use sweep::Sweep;
pub use test_report::{
    Baseline, FilmPair, Reconstruction, TestReport, reconstruct_test_films, test_reconstruction, test_report,
    with_intervals,
};
pub use vqgan_stage::{VqganFigures, VqganReport, load_vqgan, train_vqgan};
