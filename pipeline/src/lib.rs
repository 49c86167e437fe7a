//! The jobs of a run: each a function with typed input and output, that tells its progress and stops when it is asked
//! to.
//!
//! | module | what it does |
//! |---|---|
//! | [`export`] | a trained classifier becomes an HE-ready model |
//! | [`keygen`], [`encrypt`], [`infer`], [`decrypt`] | keys, ciphertexts, their classification, findings |
//! | [`batches`] | which film is where: films that share a ciphertext |
//! | [`eval`] | clear against encrypted |
//! | [`simulate`] | what encryption will cost in precision |
//! | [`ranges`] | what the activations are given on films that calibration has not seen |
//! | [`package`] | what a clinic and a service are given |
//! | [`data`] | what is wrong with a data set |
//! | [`context`], [`run_folder`], [`settings`], [`files`], [`latents`], [`mod@error`] | what all of them share |
//!
//! The sides of the encrypted part meet through files only. Training is the crate `train`; what a user types and reads
//! is the binary's.

pub mod batches;
pub mod context;
pub mod data;
pub mod decrypt;
pub mod encrypt;
pub mod error;
pub mod eval;
pub mod export;
pub mod files;
pub mod film_fit;
pub mod infer;
pub mod keygen;
pub mod latents;
pub mod package;
pub mod ranges;
pub mod run_folder;
pub mod settings;
pub mod simulate;

pub use self::context::Context;
pub use self::error::{Error, Result};
pub use self::run_folder::{Keys, RunFolder};
