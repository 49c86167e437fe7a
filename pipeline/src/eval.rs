//! Clear and encrypted results side by side, over the films whose encrypted results are there.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use classifier::Metrics;
use datasets::{LatentSet, Split};
use he_model::HeModel;
use he_runtime::Circuit;
use report::Table;
use serde::{Deserialize, Serialize};
use train::{Config, evaluate, load_classifier, logits};

use crate::batches::Places;
use crate::decrypt::{decrypt_batch, load_keys, sigmoid};
use crate::error::{Explain as _, Result};
use crate::latents;
use crate::require;
use crate::run_folder::RunFolder;

/// One film, three times: the trained network, the folded graph, and the ciphertext.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FilmResult {
    /// The film.
    pub id: String,
    /// Its place in the data set.
    pub index: usize,
    /// Known labels.
    pub labels: Vec<Option<bool>>,
    /// Logits of the trained network (Burn, f32).
    pub clear: Vec<f64>,
    /// Logits of the exported graph (f64).
    pub graph: Vec<f64>,
    /// Decrypted logits.
    pub encrypted: Vec<f64>,
}

/// Clear against encrypted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Evaluation {
    /// Names of the findings.
    pub labels: Vec<String>,
    /// The films that were run encrypted.
    pub films: Vec<FilmResult>,
    /// The trained network on all films of the test split.
    pub test: Metrics,
    /// Films in the test split.
    pub test_films: usize,
    /// The trained network on the films that were run encrypted.
    pub clear: Metrics,
    /// The decrypted logits of those films.
    pub encrypted: Metrics,
}

impl Evaluation {
    /// Largest difference between a clear and an encrypted logit.
    pub fn largest_difference(&self) -> f64 {
        largest(self.films.iter().map(|film| (&film.clear, &film.encrypted)))
    }

    /// Largest difference between the trained network and the exported graph.
    pub fn largest_graph_difference(&self) -> f64 {
        largest(self.films.iter().map(|film| (&film.clear, &film.graph)))
    }

    /// AUROC and F1, clear and encrypted, over the same films, and clear over the whole test split.
    pub fn metrics_table(&self) -> Table {
        let films = format!("{} films, clear", self.films.len());
        let encrypted = format!("{} films, encrypted", self.films.len());
        let all = format!("all {} test films, clear", self.test_films);
        let mut table = Table::new(
            "AUROC on held-out films (- where a finding has no positive or no negative film)",
            &["finding", &films, &encrypted, &all],
        );
        for (index, label) in self.labels.iter().enumerate() {
            let of =
                |metrics: &Metrics| figure(metrics.classes.get(index).and_then(|class| class.pair.auroc));
            table.rows.push(vec![label.clone(), of(&self.clear), of(&self.encrypted), of(&self.test)]);
        }
        type Mean = fn(&Metrics) -> Option<f64>;
        let means: [(&str, Mean); 5] = [
            ("macro AUROC", |metrics| metrics.macro_.auroc),
            ("micro AUROC", |metrics| metrics.micro.auroc),
            ("weighted AUROC", |metrics| metrics.weighted.auroc),
            ("macro F1", |metrics| metrics.macro_.f1),
            ("micro F1", |metrics| metrics.micro.f1),
        ];
        for (name, mean) in means {
            let row = [&self.clear, &self.encrypted, &self.test].map(|metrics| figure(mean(metrics)));
            table.rows.push(std::iter::once(name.to_owned()).chain(row).collect());
        }
        table
    }

    /// Clear and encrypted probability per film and finding; positive labels are marked.
    pub fn probability_table(&self) -> Table {
        let mut table =
            Table::new("probability clear / encrypted of each finding (* the film has it)", &["film"]);
        table.head.extend(self.labels.iter().cloned());
        table.head.push("largest logit difference".into());
        for film in &self.films {
            let mut row = vec![film.id.clone()];
            for index in 0..self.labels.len() {
                let mark = if film.labels[index] == Some(true) { "*" } else { "" };
                let (clear, encrypted) = (sigmoid(film.clear[index]), sigmoid(film.encrypted[index]));
                row.push(format!("{mark}{clear:.3} / {encrypted:.3}"));
            }
            row.push(format!("{:.1e}", largest([(&film.clear, &film.encrypted)])));
            table.rows.push(row);
        }
        table
    }
}

/// Three decimals, or a dash where undefined.
pub fn figure(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"))
}

fn largest<'a>(pairs: impl IntoIterator<Item = (&'a Vec<f64>, &'a Vec<f64>)>) -> f64 {
    let differences = pairs.into_iter().flat_map(|(a, b)| a.iter().zip(b).map(|(a, b)| (a - b).abs()));
    // A NaN anywhere must not vanish in a maximum.
    differences
        .fold(0.0, |largest: f64, value| if value > largest || value.is_nan() { value } else { largest })
}

/// Decrypts the results of the run's held-out films and compares them with the clear.
///
/// # Errors
/// A result is missing, or a file cannot be read.
pub fn compare(
    config: &Config,
    latents: &LatentSet,
    model: &HeModel,
    folder: &RunFolder,
    classifier: &Path,
) -> Result<Evaluation> {
    let spec = Circuit::new(model)?.spec;
    let keys = load_keys(&spec, &folder.keys())?;
    let trained = load_classifier(classifier, &Device::flex())?;
    let chosen = latents::held_out_of(config, latents)?;
    let ids: Vec<String> = chosen.iter().map(|&index| latents.ids[index].clone()).collect();
    let places = Places::find(&spec, &keys.key(), &ids, &folder.encrypted(), &folder.results())?;
    let done: Vec<usize> =
        chosen.iter().copied().filter(|&index| places.get(&latents.ids[index]).is_some()).collect();
    require!(
        done.len() == chosen.len(),
        "{} of the {} held-out films have no encrypted result in {}: run `veilray keygen`, `encrypt` and `infer` \
         with this configuration first",
        chosen.len() - done.len(),
        chosen.len(),
        folder.results().display()
    );
    let clear = logits(&trained.net, &trained.config, latents, &done)?;
    let mut films = Vec::with_capacity(done.len());
    let mut decrypted: BTreeMap<PathBuf, Vec<Vec<f64>>> = BTreeMap::new();
    for (&index, clear) in done.iter().zip(clear) {
        let id = latents.ids[index].clone();
        let (batch, place) = places.get(&id).explain(|| format!("{id} has no encrypted result"))?;
        let file = batch.ciphertext(&folder.results());
        let logits = match decrypted.entry(file) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let logits = decrypt_batch(&spec, &keys, new.key(), batch.films.len())?;
                new.insert(logits)
            }
        };
        films.push(FilmResult {
            encrypted: logits[*place].clone(),
            graph: model
                .graph
                .run(&latents::of(latents, &[index])[0])
                .explain(|| format!("cannot evaluate {id} in the clear"))?,
            labels: latents.labels[index].clone(),
            id,
            index,
            clear,
        });
    }
    let truth: Vec<_> = films.iter().map(|film| film.labels.clone()).collect();
    let measure = |scores: Vec<Vec<f64>>| Metrics::measure(&latents.label_names, &scores, &truth, 0.0);
    Ok(Evaluation {
        labels: latents.label_names.clone(),
        test: evaluate(&trained, latents, Split::Test)?,
        test_films: latents.indices(Split::Test).len(),
        clear: measure(films.iter().map(|film| film.clear.clone()).collect())?,
        encrypted: measure(films.iter().map(|film| film.encrypted.clone()).collect())?,
        films,
    })
}

/// Writes an evaluation as JSON.
///
/// # Errors
/// The file cannot be written.
pub fn save(evaluation: &Evaluation, file: &Path) -> Result<()> {
    Ok(durable::write(file, serde_json::to_string_pretty(evaluation)?.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_that_is_not_a_number_is_the_largest_difference() {
        assert!(largest([(&vec![0.0, 1.0], &vec![f64::NAN, 1.0])]).is_nan());
        assert_eq!(largest([(&vec![0.0, 1.0], &vec![0.25, 0.5])]), 0.5);
    }
}
