//! What a clinic and a service are given: model, encoder, and a card that says what is known of them.

use std::collections::BTreeMap;
use std::path::Path;

use he_protocol::{Card, Name, Package};
use train::Session;

use crate::encrypt::Encoder;
use crate::error::{Explain as _, Result};
use crate::eval::Evaluation;
use crate::files::load_model;
use crate::require;
use crate::run_folder::RunFolder;

/// Makes the package of a run in the folder `to`. The figures of an [`Evaluation`] go into the model card, where one is
/// in the run folder, and so do these notes.
///
/// # Errors
/// A file is missing or does not belong to the model, or the package cannot be written.
pub fn create(
    folder: &RunFolder,
    session: &Session<'_>,
    to: &Path,
    name: Name,
    notes: BTreeMap<String, String>,
) -> Result<Package> {
    let model = load_model(&folder.model())?;
    let encoder = session.vqgan_model();
    Encoder::load(&encoder, &model)?;
    let mut card = Card { notes: model.notes.clone(), ..Card::default() };
    card.notes.extend(notes);
    if let Ok(bytes) = std::fs::read(folder.evaluation()) {
        let evaluation: Evaluation = serde_json::from_slice(&bytes).explain(|| {
            format!("{} cannot be read: run `veilray eval` again", folder.evaluation().display())
        })?;
        require!(
            evaluation.labels == model.labels,
            "{} is about other labels than the model: run `veilray eval` again",
            folder.evaluation().display()
        );
        fill(&mut card, &evaluation);
    }
    Ok(Package::create(to, name, &folder.model(), Some(&encoder), card)?)
}

/// Puts the figures of an evaluation on a card.
fn fill(card: &mut Card, evaluation: &Evaluation) {
    let mut put = |name: &str, value: Option<f64>| {
        if let Some(value) = value.filter(|v| v.is_finite()) {
            card.metrics.insert(name.into(), value);
        }
    };
    put("test films", Some(evaluation.test_films as f64));
    put("macro AUROC, all test films, clear", evaluation.test.macro_.auroc);
    put("micro AUROC, all test films, clear", evaluation.test.micro.auroc);
    put("films run encrypted", Some(evaluation.films.len() as f64));
    put("macro AUROC of these, clear", evaluation.clear.macro_.auroc);
    put("macro AUROC of these, encrypted", evaluation.encrypted.macro_.auroc);
    put("largest difference of a logit, clear against encrypted", Some(evaluation.largest_difference()));
    for (label, class) in evaluation.labels.iter().zip(&evaluation.test.classes) {
        if let Some(auroc) = class.pair.auroc {
            card.auroc.insert(label.clone(), auroc);
        }
    }
}
