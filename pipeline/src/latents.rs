//! Which films of a run are encrypted, and their latents as the encrypted side takes them.

use datasets::{FilmDataset, LatentSet, Split};
use train::Config;

use crate::error::Result;
use crate::require;
use crate::settings;

/// Films of a run that are encrypted.
#[derive(Clone, Copy)]
pub struct HeldOut<'a> {
    /// The films of the run.
    pub dataset: &'a FilmDataset,
    /// Their latents.
    pub latents: &'a LatentSet,
    /// Which of them.
    pub chosen: &'a [usize],
}

impl HeldOut<'_> {
    /// Their names, in order.
    pub fn names(&self) -> Vec<String> {
        self.chosen.iter().map(|&film| self.latents.ids[film].clone()).collect()
    }
}

/// The latents of some films, each `[channels, height, width]` row-major.
pub fn of(latents: &LatentSet, films: &[usize]) -> Vec<Vec<f64>> {
    films.iter().map(|&film| latents.latent(film).iter().map(|&value| f64::from(value)).collect()).collect()
}

/// `count` films of the test split, evenly spread over it; all of them if there are fewer.
pub fn held_out(latents: &LatentSet, count: usize) -> Vec<usize> {
    let test = latents.indices(Split::Test);
    let count = count.min(test.len());
    (0..count).map(|k| test[k * test.len() / count]).collect()
}

/// As [`held_out`], for a run whose latents were just made.
///
/// # Errors
/// The test split is empty.
pub fn held_out_of(config: &Config, latents: &LatentSet) -> Result<Vec<usize>> {
    let films = held_out(latents, settings::encrypted(config)?.films);
    require!(
        !films.is_empty(),
        "the test split holds no film: check the data set's lists and `data.test_fraction`"
    );
    Ok(films)
}
