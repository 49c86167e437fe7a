//! The service: takes evaluation keys and encrypted latents, classifies, and hands back encrypted results.
//!
//! | module | what it is |
//! |---|---|
//! | [`config`] | what an operator sets, and every limit |
//! | [`tokens`] | bearer tokens, of which only digests are kept |
//! | [`keys`] | evaluation keys on disk: uploads in parts, bounded per client |
//! | [`jobs`] | the queue: one folder a job, states by rename, claims by file lock |
//! | [`engine`] | models, prepared keys in bounded memory, the threads that classify |
//! | [`routes`] | HTTP; [`limits`]: rates and bodies; [`listen`]: connections, TLS, shutdown; [`metrics`] |
//!
//! **Invariants.** No type that can hold or use a secret key is reachable from the binary. All that was accepted is on disk before it
//! is acknowledged; a job is in exactly one place and one state, also after a crash. Every size, count, rate and wait has a bound in
//! [`config::Limits`]. Several processes may share one state folder.

pub mod config;
pub mod engine;
pub mod error;
pub mod jobs;
pub mod keys;
pub mod limits;
pub mod listen;
pub mod metrics;
pub mod routes;
mod store;
pub mod tokens;

pub use config::{Config, Limits};
pub use error::{ApiError, ServiceError};
pub use listen::Service;
