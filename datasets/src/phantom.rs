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

use crate::config::PhantomConfig;
use crate::dataset::{Loaded, Pixels};
use crate::split::{Assigned, Record};
use crate::{Film, Fit, Result};
use anatomy::Anatomy;
use draws::Draws;
use findings::Findings;

pub use findings::LABELS;

/// Raised whenever the same seed makes another picture or label.
const VERSION: u32 = 1;

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

/// The phantom as a data set.
pub(crate) fn load(config: &PhantomConfig) -> Loaded {
    let phantom = Phantom::new(config.seed, config.films_per_patient);
    let records = (0..config.films)
        .map(|film| Record {
            id: format!("phantom-{film:06}"),
            patient: format!("patient-{:05}", phantom.patient(film)),
            labels: phantom.labels(film).iter().map(|&label| Some(label)).collect(),
            split: Assigned::Open,
        })
        .collect();
    let PhantomConfig { films, films_per_patient, seed } = config;
    Loaded {
        label_names: LABELS.iter().map(|&name| name.to_owned()).collect(),
        records,
        pixels: Box::new(phantom),
        content: format!("phantom version {VERSION} seed {seed} patients of {films_per_patient}"),
        notes: vec![format!(
            "Built-in phantom, seed {seed}: {films} synthetic films, {films_per_patient} per patient."
        )],
    }
}
