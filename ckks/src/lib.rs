#![doc = include_str!("../README.md")]
//!
//! # Inside
//!
//! **Invariants.** Primes are below 2^30 and = 1 mod 2N, one `u32` limb each. Residues are fully reduced, always. A ciphertext at level l has
//! l + 1 limbs. Results do not depend on the number of threads or on the instruction set. Types that can hold, make or
//! use a secret key exist only with the feature `secret-key`, which a server leaves out.
//!
//! | module | what it is |
//! |---|---|
//! | `arith`, `primes`, `ntt`, `kernels` | one prime: Montgomery arithmetic, transforms, and the inner loops (with the transform in vectors the only `unsafe`) |
//! | `poly`, `galois`, `basis`, `sampling` | polynomials in residue form, automorphisms, basis conversion, randomness |
//! | `literal`, `security`, `plan` | plain numbers to a checked plan: the 128-bit bounds, primes, shapes and sizes of keys, without transforms |
//! | `preset` | parameters by ring, and by depth and precision |
//! | `parameters` | a plan with the transforms of its primes |
//! | `embedding`, `encoder`, `plaintext` | slots to polynomials and back; plaintexts of short period at the cost of their period |
//! | `encryptor`, `secret` | public-key encryption; secret key, key generation, decryption and noise flooding |
//! | `key_switch`, `evaluation_keys`, `evaluator` | hybrid key switching, keys cut to their level, operations, linear maps and polynomials |
//! | `polynomial` | polynomials in the monomial and the Chebyshev basis, and fits to functions |
//! | `noise` | every formula about noise, and the precision it predicts for a circuit |
//! | `wire` | versioned bytes of every object |
//!
//! **Not guaranteed.** IND-CPA only, not IND-CPA-D: decrypted numbers must not go back to whoever computed them, unless flooded
//! (`Flooding`). Constant time is aimed at, not claimed. Noise estimates are expectations, not bounds. The digest of a wire object finds accidents, not forgers.
//! Freed memory that held residues of ciphertexts is recycled unwiped; secrets, encryption errors, flooding noise, dense plaintexts and
//! what encoding and decoding work on are wiped. Slots handed to or by the
//! caller are the caller's to wipe.
//!
//! Source of the scheme: Cheon, Han, Kim, Kim and Song, A full RNS variant of approximate homomorphic encryption (2018).

mod arith;
mod basis;
mod bootstrap;
mod buffer;
mod ciphertext;
mod embedding;
mod encoder;
mod encryptor;
mod error;
mod evaluation_keys;
mod evaluator;
mod galois;
#[allow(unsafe_code, reason = "entering code compiled for an instruction set, and vectors by hand")]
mod kernels;
mod key_switch;
mod literal;
mod noise;
mod ntt;
mod parameters;
mod plaintext;
mod plan;
mod poly;
mod polynomial;
mod preset;
mod primes;
mod sampling;
#[cfg(feature = "secret-key")]
mod secret;
mod security;
mod wire;

pub use bootstrap::{BootstrapFunction, BootstrapKeys, BootstrapLiteral};
pub use ciphertext::{Ciphertext, Product};
pub use encoder::Encoder;
pub use encryptor::{Encryptor, PublicKey};
pub use error::{Error, Result};
pub use evaluation_keys::{EvaluationKeyRequest, EvaluationKeys, GaloisKey, RelinearizationKey};
pub use evaluator::{
    Diagonal, Evaluator, ExtendedCiphertext, LinearMatrix, LinearTerm, LinearTransform, MatrixTerm, Move,
    OperationCounts,
};
pub use galois::GaloisElement;
pub use kernels::isa::instruction_set;
pub use literal::ParametersLiteral;
pub use noise::{Estimate, NoiseModel};
pub use num_complex::Complex64;
pub use parameters::Parameters;
pub use plaintext::{PeriodicPlaintext, Plaintext};
pub use plan::{KeyShape, KeyTier, RingPlan};
pub use poly::{Coefficient, Evaluation, Poly};
pub use polynomial::{Basis, Polynomial};
pub use preset::Preset;
pub use primes::MAX_PRIME_BITS;
#[cfg(feature = "secret-key")]
pub use secret::{Decryptor, Flooding, KeyGenerator, SecretEncryptor, SecretKey};
pub use security::{SecretDistribution, Security};
pub use wire::Wire;
