//! Which findings a film shows, and how strongly.
//!
//! Findings come in company, as in life: heart failure brings an enlarged heart, edema and effusions; a tumour
//! brings a mass, nodules and collapsed lung behind it; pneumonia brings consolidation with some fluid. Severity
//! runs from 0 (subtle, at the limit of what the pixels show) to 1.

use super::draws::Draws;

/// The findings, in the order of the labels (the order of the same names in NIH ChestX-ray14).
pub const LABELS: [&str; 8] =
    ["Atelectasis", "Cardiomegaly", "Effusion", "Mass", "Nodule", "Pneumothorax", "Consolidation", "Edema"];

/// A finding on one side: -1 the left of the film, 1 the right.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sided {
    pub side: f32,
    pub severity: f32,
}

/// What is drawn on one film.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings {
    pub atelectasis: Option<Sided>,
    pub cardiomegaly: Option<f32>,
    /// One or two effusions.
    pub effusions: Vec<Sided>,
    pub mass: Option<Sided>,
    pub nodules: Vec<Sided>,
    pub pneumothorax: Option<Sided>,
    pub consolidations: Vec<Sided>,
    pub edema: Option<f32>,
}

/// What a patient suffers from, shared by their films.
#[derive(Clone, Copy, Debug)]
struct Conditions {
    heart_failure: bool,
    tumour: bool,
    infection: bool,
    /// Side of the tumour or infection.
    side: f32,
    /// An enlarged heart does not come and go.
    heart: Option<f32>,
}

impl Conditions {
    fn draw(draws: &mut Draws) -> Self {
        let heart_failure = draws.chance(0.19);
        let enlarged = draws.chance(if heart_failure { 0.72 } else { 0.06 });
        Conditions {
            heart_failure,
            tumour: draws.chance(0.20),
            infection: draws.chance(0.20),
            side: draws.side(),
            heart: enlarged.then(|| draws.uniform(0.0, 1.0)),
        }
    }
}

impl Findings {
    /// Draws the findings of one film; `patient` is the patient's own stream, from its start.
    pub fn draw(patient: &mut Draws, film: &mut Draws) -> Self {
        let conditions = Conditions::draw(patient);
        let either = |film: &mut Draws, yes: bool, with: f32, without: f32| {
            film.chance(if yes { with } else { without })
        };
        let sided = |film: &mut Draws, side: f32| Sided { side, severity: film.uniform(0.0, 1.0) };
        let Conditions { heart_failure, tumour, infection, side, heart } = conditions;

        let mut effusions = Vec::new();
        if heart_failure && film.chance(0.55) {
            let first = film.side();
            effusions.push(sided(film, first));
            if film.chance(0.5) {
                effusions.push(sided(film, -first));
            }
        } else if either(film, tumour || infection, 0.20, 0.04) {
            effusions.push(sided(film, side));
        }
        let mut nodules = Vec::new();
        if either(film, tumour, 0.50, 0.06) {
            for _ in 0..film.count(1, 3) {
                let where_ = film.side();
                nodules.push(sided(film, where_));
            }
        }
        let mut consolidations = Vec::new();
        if either(film, infection, 0.70, 0.025) {
            consolidations.push(sided(film, side));
            if film.chance(0.25) {
                consolidations.push(sided(film, -side));
            }
        }
        let pneumothorax = film.chance(0.12).then(|| {
            let side = film.side();
            sided(film, side)
        });
        Findings {
            atelectasis: either(film, tumour || !effusions.is_empty(), 0.28, 0.08).then(|| sided(film, side)),
            cardiomegaly: heart,
            effusions,
            mass: either(film, tumour, 0.60, 0.015).then(|| sided(film, side)),
            nodules,
            pneumothorax,
            consolidations,
            edema: either(film, heart_failure, 0.62, 0.02).then(|| film.uniform(0.0, 1.0)),
        }
    }

    /// One entry per label of [`LABELS`].
    pub fn labels(&self) -> [bool; LABELS.len()] {
        [
            self.atelectasis.is_some(),
            self.cardiomegaly.is_some(),
            !self.effusions.is_empty(),
            self.mass.is_some(),
            !self.nodules.is_empty(),
            self.pneumothorax.is_some(),
            !self.consolidations.is_empty(),
            self.edema.is_some(),
        ]
    }
}
