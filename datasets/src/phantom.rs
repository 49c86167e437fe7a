//! The built-in phantom: synthetic frontal chest films with labelled findings.
//!
//! A film is a pure function of (seed, number, side). It is drawn as a radiograph is formed: soft tissue, bone
//! and lung are laid over each other as optical thickness (`anatomy`), findings change shapes or add opacity
//! the way they do in patients (`findings`), and an exposure curve with noise makes the picture (`render`).
//! The shapes follow what radiology primers describe (a meniscus that rises at the chest wall, a lucent rim
//! without vessels, a bat-wing haze), so that a classifier has to look where a reader looks.
//!
//! Consecutive films belong to one patient: same anatomy and chronic findings, another breath, position,
//! exposure and acute findings. Some of every finding are subtle on purpose.
//!
//! This is no substitute for real films: it exists so that everything can be run, and tested, without data.

mod anatomy;
mod canvas;
mod draws;
mod findings;
mod render;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::source::{DataSource, Loaded, Pixels};
use crate::split::{Assigned, Record};
use crate::{DataError, Film, Fit, Result};
use anatomy::Anatomy;
use draws::Draws;
use findings::Findings;

pub use findings::LABELS;

/// Raised whenever the same seed makes another picture or label.
const VERSION: u32 = 1;

/// The built-in phantom.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PhantomConfig {
    /// Films in all splits together. 3000.
    pub films: usize,
    /// Films per patient, same anatomy. 3.
    pub films_per_patient: usize,
    /// Decides anatomies, findings and noise. 0.
    pub seed: u64,
}

impl Default for PhantomConfig {
    fn default() -> Self {
        PhantomConfig { films: 3000, films_per_patient: 3, seed: 0 }
    }
}

/// A generator of films.
#[derive(Clone, Copy, Debug)]
pub struct Phantom {
    seed: u64,
    films_per_patient: usize,
}

impl Phantom {
    /// The generator for a seed; `films_per_patient` consecutive films share a patient (0 counts as 1).
    #[must_use]
    pub fn new(seed: u64, films_per_patient: usize) -> Self {
        Phantom { seed, films_per_patient: films_per_patient.max(1) }
    }

    /// The number of the patient on a film.
    #[must_use]
    pub fn patient(&self, film: usize) -> usize {
        film / self.films_per_patient
    }

    /// The findings on a film, one entry per label of [`LABELS`].
    #[must_use]
    pub fn labels(&self, film: usize) -> [bool; LABELS.len()] {
        self.findings(film).labels()
    }

    /// The pixels of a film, `side x side`.
    #[must_use]
    pub fn film(&self, film: usize, side: usize) -> Film {
        let anatomy = Anatomy::draw(&mut Draws::new(self.seed, "anatomy", self.patient(film) as u64));
        let mut draws = Draws::new(self.seed, "picture", film as u64);
        render::render(&anatomy, &self.findings(film), &mut draws, side)
    }

    fn findings(&self, film: usize) -> Findings {
        let mut patient = Draws::new(self.seed, "conditions", self.patient(film) as u64);
        Findings::draw(&mut patient, &mut Draws::new(self.seed, "findings", film as u64))
    }
}

impl Pixels for Phantom {
    fn film(&self, index: usize, side: usize, _: Fit) -> Result<Film> {
        Ok(Phantom::film(self, index, side))
    }
}

impl DataSource for PhantomConfig {
    /// It is nowhere on disk.
    const LAYOUT: &'static str = "";

    fn detect(_: &Path, _: &[String]) -> Option<Self> {
        None
    }

    fn check(&self) -> Result<()> {
        if !(1..=1_000_000).contains(&self.films) {
            return Err(DataError::config(
                "source.phantom.films",
                format!("expected 1 to 1000000 films, got {}", self.films),
                "3000 train a small classifier",
            ));
        }
        if self.films_per_patient == 0 {
            return Err(DataError::config(
                "source.phantom.films_per_patient",
                "expected at least 1, got 0",
                "3 gives every patient three films",
            ));
        }
        Ok(())
    }

    fn load(&self, _: usize, _: Fit) -> Result<Loaded> {
        let phantom = Phantom::new(self.seed, self.films_per_patient);
        let records = (0..self.films)
            .map(|film| Record {
                id: format!("phantom-{film:06}"),
                patient: format!("patient-{:05}", phantom.patient(film)),
                labels: phantom.labels(film).iter().map(|&label| Some(label)).collect(),
                split: Assigned::Open,
            })
            .collect();
        let PhantomConfig { films, films_per_patient, seed } = self;
        Ok(Loaded {
            label_names: LABELS.iter().map(|&name| name.to_owned()).collect(),
            records,
            pixels: Box::new(phantom),
            content: format!("phantom version {VERSION} seed {seed} patients of {films_per_patient}"),
            notes: vec![format!(
                "Built-in phantom, seed {seed}: {films} synthetic films, {films_per_patient} per patient."
            )],
        })
    }
}
