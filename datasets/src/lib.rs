//! Chest film data sets: the built-in phantom, NIH ChestX-ray14, CheXpert, MedMNIST arrays, image folders, and the
//! classical MNIST and CIFAR-10; splits by patient; the latent cache.
//!
//! A [`DataConfig`] says where films come from; [`FilmDataset::open`] checks everything that can be checked
//! without decoding and gives the list of [`Example`]s; [`FilmDataset::film`] gives pixels. No model is known
//! here. Nothing read from disk is trusted: sizes are bounded before memory is spent, and every error names the
//! file, what was expected, what came and what to do.
//!
//! | module | what |
//! |---|---|
//! | [`config`] | [`DataConfig`] |
//! | `sources` | the kinds of data sets: one file each, and one line there |
//! | [`phantom`] | the generator of synthetic films |
//! | [`attributes`] | what a table says about films besides findings |
//! | [`augment`] | small changes to films for training |
//! | [`mod@detect`] | which source a path is |
//! | [`latent_set`] | [`LatentSet`], the cached latents |
//!
//! **Invariant**: no patient has films in two splits, unless the data set's own lists say so.
//!
//! ```
//! use datasets::{DataConfig, FilmDataset, PhantomConfig, Source, Split};
//!
//! let source = Source::Phantom(PhantomConfig { films: 60, ..PhantomConfig::default() });
//! let films = FilmDataset::open(&DataConfig::new(source))?;
//! let first = films.indices(Split::Test)[0];
//! assert_eq!(films.film(first)?.pixels.len(), 64 * 64);
//! # Ok::<(), datasets::DataError>(())
//! ```

pub mod attributes;
pub mod augment;
pub mod chexpert;
pub mod config;
pub mod detect;
pub mod latent_set;
pub mod phantom;

mod arrays;
mod cache;
mod cifar;
mod dataset;
mod dicom;
mod error;
mod example;
mod files;
mod film;
mod folder;
mod image_bounds;
mod image_file;
mod jpeg_end;
mod mnist;
pub mod nih;
mod npy;
mod npz;
mod pictures;
mod source;
mod sources;
mod split;
mod table;

pub use attributes::{Attribute, AttributesConfig};
pub use augment::Augmentation;
pub use chexpert::{CheXpertConfig, Uncertainty};
pub use cifar::CifarConfig;
pub use config::DataConfig;
pub use dataset::FilmDataset;
pub use detect::detect;
pub use error::{DataError, Result, advice_on_space};
pub use example::{Example, Split};
pub use film::{Film, Fit};
pub use folder::FolderConfig;
pub use image_file::{load_film, load_film_with};
pub use latent_set::LatentSet;
pub use mnist::MnistConfig;
pub use nih::NihConfig;
pub use npz::NpzConfig;
pub use phantom::PhantomConfig;
pub use sources::Source;
pub use split::Limits;
