//! What clinic and service agree on.
//!
//! | module | what it is |
//! |---|---|
//! | [`api`] | requests and answers as JSON, header names |
//! | [`id`] | names, digests and job numbers, valid by construction |
//! | [`package`] | a model package: HE-ready model, encoder, model card, each under its digest |
//! | [`files`] | files that are whole under their final names, also after a power cut |
//!
//! **Invariant.** No type here can hold or use a secret key: this crate stands on `he-runtime` without its feature `client`.

pub mod api;
pub mod files;
pub mod id;
pub mod package;

pub use id::{Digest, IdError, JobId, Name};
pub use package::{Card, Manifest, Package, PackageError};
