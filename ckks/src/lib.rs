//! RNS-CKKS homomorphic encryption: ring, encoder, keys, evaluator, linear maps and wire format.
mod arith;
mod basis;
mod ciphertext;
mod embedding;
mod encoder;
mod encryptor;
mod error;
mod evaluation_keys;
mod evaluator;
mod galois;
mod kernels;
mod key_switch;
mod ntt;
mod parameters;
mod plaintext;
mod poly;
mod primes;
mod sampling;
#[cfg(feature = "secret-key")]
mod secret;
mod security;

pub use ciphertext::{Ciphertext, Product};
pub use encoder::Encoder;
pub use encryptor::{Encryptor, PublicKey};
pub use error::{Error, Result};
pub use evaluation_keys::{EvaluationKeyRequest, EvaluationKeys, GaloisKey, RelinearizationKey};
pub use evaluator::{Diagonal, Evaluator, LinearTerm, LinearTransform};
pub use galois::GaloisElement;
pub use num_complex::Complex64;
pub use parameters::{KeyShape, KeyTier, Parameters, ParametersLiteral};
pub use plaintext::{PeriodicPlaintext, Plaintext};
pub use poly::{Coefficient, Evaluation, Poly};
#[cfg(feature = "secret-key")]
pub use secret::{Decryptor, KeyGenerator, SecretKey};
pub use security::{SecretDistribution, Security};
