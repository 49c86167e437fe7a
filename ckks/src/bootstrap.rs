//! Bootstrapping: a ciphertext at the end of its levels becomes one with many, of the same values.
//!
//! The circuit, slots first to coefficients:
//!
//! 1. **Slots to coefficients** ([`transform`]): the values become the coefficients of the message, on a handful of limbs.
//! 2. **To a sparse secret**: a key switch modulo q_0 to a secret of few nonzero coefficients, which exists in keys only.
//! 3. **Raise**: residues modulo q_0 are taken for residues modulo Q. The message becomes m + q_0 I, where the integer
//!    polynomial I has coefficients of a few units, because the secret is sparse.
//! 4. **Coefficients to slots**, whose first map also switches back to the secret of all other keys; then the conjugate is
//!    added, which leaves the real part.
//! 5. **Sine** ([`series`]): I is removed from every slot.
//!
//! Values come first to coefficients, so that garbage in unused slots stays there, noise of the sine reaches a value directly, and
//! the maps to coefficients run at the bottom of the chain.
//!
//! Sources: Cheon, Han, Kim, Kim and Song, Bootstrapping for approximate homomorphic encryption (2018), for the circuit;
//! Bossuat, Troncoso-Pastoriza and Hubaux, Bootstrapping for approximate homomorphic encryption with negligible
//! failure-probability by using sparse-secret encapsulation (eprint 2022/024), for the sparse secret.

pub(crate) mod circuit;
pub(crate) mod fit;
pub(crate) mod function;
pub(crate) mod keys;
pub(crate) mod literal;
pub(crate) mod multiples;
mod noise;
pub(crate) mod plan;
pub(crate) mod raise;
mod ring;
pub(crate) mod scales;
pub(crate) mod series;
pub(crate) mod shapes;
pub(crate) mod transform;

pub use function::BootstrapFunction;
pub use keys::BootstrapKeys;
pub use literal::BootstrapLiteral;
