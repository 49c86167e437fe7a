//! Runs HE-ready models on ciphertexts.
//!
//! | module | side | what it is |
//! |---|---|---|
//! | [`circuit`] | both | a model made concrete: program, real primes, levels, scales, keys needed |
//! | [`messages`] | both | what travels: encrypted latents and logits, evaluation keys, the public key |
//! | `client` | client | key generation, encryption, decryption (feature `client`) |
//! | [`server`] | server | evaluation, with progress, interruption and times |
//! | [`rounding`] | either | what rounding does to weights and masks, and the offsets that undo its mean |
//! | [`simulate`] | either | the same program in the clear with modelled noise |
//!
//! **Invariants.** Without the feature `client` no type that can hold a secret key can be named here. Every message
//! says for which model, parameters and key it was made, and is refused where these do not match, before any
//! expensive work.

pub mod circuit;
#[cfg(feature = "client")]
pub mod client;
mod encoded;
mod error;
mod interpreter;
pub mod messages;
mod reference;
pub mod rounding;
pub mod server;
mod shown;
pub mod simulate;

pub use circuit::{Circuit, ClientSpec};
pub use error::RuntimeError;
pub use messages::{EncryptedTensor, PublicKeyFile, ServerKeys};
pub use server::{LayerTime, Progress, Server};
