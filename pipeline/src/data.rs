//! What is in a data set, and what is wrong with it.

use std::collections::BTreeMap;

use datasets::{FilmDataset, Split};
use report::Table;
use train::progress::StepState;

use crate::context::Context;
use crate::error::Result;

/// Films read between two looks at Ctrl-C.
const BLOCK: usize = 256;

/// Reads every film and says what is wrong: broken films, and what two splits share: patients, or films with the same
/// pixels.
///
/// # Errors
/// The user interrupted.
pub fn problems(context: &Context, dataset: &FilmDataset) -> Result<Vec<String>> {
    let mut problems = leaks(dataset.examples().iter().map(|film| (film.patient.as_str(), film.split)));
    let total = dataset.examples().len();
    let progress = context.progress();
    progress.start("reading films", total as u64, 0);
    let mut pixels = BTreeMap::<[u8; 32], Vec<usize>>::new();
    for start in (0..total).step_by(BLOCK) {
        if let Err(interrupted) = context.check("reading the films") {
            progress.finish("reading films: stopped");
            return Err(interrupted);
        }
        let block: Vec<usize> = (start..(start + BLOCK).min(total)).collect();
        let end = start + block.len();
        for (index, film) in block.iter().zip(dataset.films_or_errors(&block)) {
            match film {
                Ok(film) => {
                    pixels.entry(*blake3::hash(&film.to_bytes()).as_bytes()).or_default().push(*index);
                }
                Err(error) => problems.push(error.to_string()),
            }
        }
        progress.step(end as u64, &StepState::default());
    }
    problems.extend(twins(dataset, &pixels));
    progress.finish(&format!("{total} films read"));
    Ok(problems)
}

/// Positive, negative and unknown films of every label.
pub fn label_table(dataset: &FilmDataset) -> Table {
    let mut table = Table::new("labels over all splits", &["label", "positive", "negative", "unknown"]);
    for (label, name) in dataset.label_names().iter().enumerate() {
        let count = |wanted: Option<bool>| {
            dataset.examples().iter().filter(|film| film.labels[label] == wanted).count().to_string()
        };
        table.rows.push(vec![name.clone(), count(Some(true)), count(Some(false)), count(None)]);
    }
    table
}

/// A line for every picture that occurs in more than one split.
fn twins(dataset: &FilmDataset, pixels: &BTreeMap<[u8; 32], Vec<usize>>) -> Vec<String> {
    let films = dataset.examples();
    pixels
        .values()
        .filter(|same| same.iter().any(|&film| films[film].split != films[same[0]].split))
        .map(|same| {
            let names: Vec<String> =
                same.iter().map(|&film| format!("{} ({})", films[film].id, films[film].split)).collect();
            format!("the same picture in two splits: {}", names.join(", "))
        })
        .collect()
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
    fn a_picture_in_two_splits_is_a_leak_and_labels_are_counted() {
        let phantom = datasets::PhantomConfig { films: 30, ..datasets::PhantomConfig::default() };
        let config = datasets::DataConfig::new(datasets::Source::Phantom(phantom));
        let dataset = FilmDataset::open(&config).unwrap();
        let (train, test) = (dataset.indices(Split::Train), dataset.indices(Split::Test));
        let same = |films: Vec<usize>| twins(&dataset, &BTreeMap::from([([0u8; 32], films)]));
        assert!(same(vec![train[0], train[1]]).is_empty(), "twice in one split is no leak");
        let found = same(vec![train[0], test[0]]);
        assert!(found[0].contains("(train)") && found[0].contains("(test)"), "{found:?}");
        let table = label_table(&dataset);
        assert_eq!(table.rows.len(), dataset.label_names().len());
        for row in &table.rows {
            let counts: usize = row[1..].iter().map(|cell| cell.parse::<usize>().unwrap()).sum();
            assert_eq!(counts, 30);
        }
    }

    #[test]
    fn a_patient_in_two_splits_is_a_leak() {
        let films = [("a", Split::Train), ("b", Split::Train), ("a", Split::Train), ("b", Split::Test)];
        let found = leaks(films.into_iter());
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("patient b"), "{found:?}");
    }
}
