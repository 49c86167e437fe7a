//! `veilray data check`: what is in a data set, and what is wrong with it.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use datasets::{FilmDataset, Split};
use train::progress::StepState;

use crate::cli::RunArguments;
use crate::context::{Context, configuration};

/// At most so many problems are shown.
const SHOWN: usize = 20;

/// Reads every film of a configuration's data set and prints counts, labels, broken films and patients that appear in
/// two splits.
///
/// # Errors
/// The data set cannot be opened, the user interrupted, or something is wrong with the data.
pub fn check(context: &Context, arguments: &RunArguments) -> Result<()> {
    let config = configuration(arguments)?;
    let dataset = FilmDataset::open(&config.data)?;
    println!("{}", dataset.describe());
    let mut problems = leaks(dataset.examples().iter().map(|film| (film.patient.as_str(), film.split)));
    let total = dataset.examples().len();
    let progress = context.progress();
    progress.start("reading films", total as u64, 0);
    for index in 0..total {
        if let Err(interrupted) = context.check("reading the films") {
            progress.finish("reading films: stopped");
            return Err(interrupted);
        }
        if let Err(error) = dataset.film(index) {
            problems.push(error.to_string());
        }
        progress.step(index as u64 + 1, &StepState::default());
    }
    progress.finish(&format!("{total} films read"));
    if problems.is_empty() {
        println!("no broken film, no patient in two splits");
        return Ok(());
    }
    for problem in problems.iter().take(SHOWN) {
        println!("- {problem}");
    }
    bail!("{} problems found in the data, {} shown above", problems.len(), problems.len().min(SHOWN))
}

/// A line for every patient whose films are in more than one split.
fn leaks<'a>(films: impl Iterator<Item = (&'a str, Split)>) -> Vec<String> {
    let mut seen = BTreeMap::<&str, Vec<Split>>::new();
    for (patient, split) in films {
        let splits = seen.entry(patient).or_default();
        if !splits.contains(&split) {
            splits.push(split);
        }
    }
    seen.iter()
        .filter(|(_, splits)| splits.len() > 1)
        .map(|(patient, splits)| format!("patient {patient} has films in {splits:?}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patient_in_two_splits_is_a_leak() {
        let films = [("a", Split::Train), ("b", Split::Train), ("a", Split::Train), ("b", Split::Test)];
        let found = leaks(films.into_iter());
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("patient b"), "{found:?}");
    }
}
