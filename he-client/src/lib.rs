//! The clinic's side of the service: keys that stay here, latents encrypted here, results decrypted here.
//!
//! | module | what it is |
//! |---|---|
//! | [`http`] | one connection to a service: retries with backoff, TLS, errors in words |
//! | [`vault`] | the folder of one enrolment: keys at mode 0600, the secret key under a passphrase if wanted |
//! | [`clinic`] | enrol, upload keys, submit, follow, fetch, decrypt |
//!
//! **Invariants.** The secret key never leaves the vault and is wiped from memory. Parameters that are not secure are refused, whatever
//! the service says. A submission has one random idempotency key for all its retries, so nothing is submitted twice. Decrypted numbers are
//! handed to the caller and never sent anywhere.
//!
//! Turning a film into a latent is the caller's: this crate does not know Burn.

pub mod clinic;
mod error;
pub mod http;
pub mod vault;

pub use clinic::{Clinic, Finding, Step, findings};
pub use error::ClientError;
pub use http::{Connection, Options};
pub use vault::{Passphrase, Vault};
