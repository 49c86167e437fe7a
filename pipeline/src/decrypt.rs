//! The client decrypts results and reads the findings.

use std::path::Path;

use he_runtime::client::{self, ClientKeys};
use he_runtime::{ClientSpec, EncryptedTensor};
use report::Table;
use serde_json::json;

use crate::error::{Explain as _, Result};
use crate::run_folder::Keys;

/// Reads the secret key.
///
/// # Errors
/// It is missing or refused.
pub fn load_keys(spec: &ClientSpec, keys: &Keys) -> Result<ClientKeys> {
    ClientKeys::load(&spec.parameters()?, &keys.secret())
        .explain(|| format!("cannot use the secret key {}", keys.secret().display()))
}

/// The logits of the films in one result, one a label for each of the first `films` places.
///
/// # Errors
/// The file cannot be read or does not belong to the model or the key.
pub fn decrypt_batch(
    spec: &ClientSpec,
    keys: &ClientKeys,
    file: &Path,
    films: usize,
) -> Result<Vec<Vec<f64>>> {
    let result = EncryptedTensor::load_logits(&spec.parameters()?, file)?;
    client::decrypt_batch(spec, keys, &result, films).explain(|| format!("cannot decrypt {}", file.display()))
}

/// 1 / (1 + exp(-x)).
pub fn sigmoid(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}

/// A list with the findings of each film, probabilities in full.
pub fn to_json(labels: &[String], films: &[(String, Vec<f64>)], labels_only: bool) -> serde_json::Value {
    let value = |&logit: &f64| if labels_only { json!(logit > 0.0) } else { json!(sigmoid(logit)) };
    let film = |(name, logits): &(String, Vec<f64>)| {
        let findings: serde_json::Map<_, _> = labels.iter().cloned().zip(logits.iter().map(value)).collect();
        json!({ "film": name, "findings": findings })
    };
    films.iter().map(film).collect()
}

/// A row for each finding, a column for each film.
pub fn to_table(labels: &[String], films: &[(String, Vec<f64>)], labels_only: bool) -> Table {
    let caption =
        if labels_only { "findings (probability above 0.5)" } else { "probability of each finding" };
    let mut table = Table::new(caption, &["finding"]);
    table.head.extend(films.iter().map(|(name, _)| name.clone()));
    for (index, label) in labels.iter().enumerate() {
        let cell = |logit: f64| match (labels_only, logit > 0.0) {
            (true, true) => "yes".to_owned(),
            (true, false) => "no".to_owned(),
            (false, _) => format!("{:.4}", sigmoid(logit)),
        };
        let cells = films.iter().map(|(_, logits)| cell(logits[index]));
        table.rows.push(std::iter::once(label.clone()).chain(cells).collect());
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_round_and_json_does_not() {
        let labels = ["nodule".to_owned(), "mass".to_owned()];
        let films = [("one".to_owned(), vec![0.123_456_789, -40.0])];
        let json = to_json(&labels, &films, false);
        for (label, logit) in labels.iter().zip(&films[0].1) {
            let text = json[0]["findings"][label].to_string();
            assert_eq!(text.parse::<f64>().unwrap().to_bits(), sigmoid(*logit).to_bits(), "{text}");
        }
        assert_eq!(to_table(&labels, &films, false).rows, [["nodule", "0.5308"], ["mass", "0.0000"]]);
        assert_eq!(to_table(&labels, &films, true).rows, [["nodule", "yes"], ["mass", "no"]]);
        let yes_and_no = json!({ "nodule": true, "mass": false });
        assert_eq!(to_json(&labels, &films, true)[0]["findings"], yes_and_no);
        assert_eq!(to_json(&labels, &[], false), json!([]));
    }
}
