//! `veilray decrypt`: the client decrypts results and reads the findings.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use he_runtime::client::{self, ClientKeys};
use he_runtime::{Circuit, ClientSpec, EncryptedTensor};
use serde_json::json;

use super::{choose, ciphertexts_in, film_name, load_model, locate, sigmoid};
use crate::cli::DecryptArguments;
use crate::context::Context;
use crate::report::Table;
use crate::run_folder::{Keys, RunFolder};

/// Decrypts the results that the user named, or all of the run.
///
/// # Errors
/// A file cannot be read or does not belong to the model or the keys.
pub fn run(context: &Context, arguments: &DecryptArguments) -> Result<()> {
    let located = locate(&arguments.paths)?;
    let folder = located.folder.as_ref();
    let keys_of_run = folder.map(|run| run.keys().dir().to_owned());
    let keys = Keys::new(choose(arguments.keys.as_ref(), keys_of_run, "--keys DIR")?);
    let inputs: Vec<PathBuf> = if arguments.inputs.is_empty() {
        let of_run = choose(None, folder.map(RunFolder::results), "the results to decrypt")?;
        ciphertexts_in(&of_run, "infer")?
    } else {
        arguments.inputs.clone()
    };
    let spec = Circuit::new(&load_model(&located.model)?)?.spec;
    let client_keys = load_keys(&spec, &keys)?;
    let mut films = Vec::with_capacity(inputs.len());
    for input in &inputs {
        films.push((film_name(input), decrypt_file(&spec, &client_keys, input)?));
    }
    print(&spec.labels, &films, arguments.labels_only, arguments.json);
    context.say("these numbers must not go back to the server: see SECURITY.md, IND-CPA-D");
    Ok(())
}

/// Reads the secret key.
///
/// # Errors
/// It is missing or refused.
pub fn load_keys(spec: &ClientSpec, keys: &Keys) -> Result<ClientKeys> {
    ClientKeys::load(&spec.parameters()?, &keys.secret())
        .with_context(|| format!("cannot use the secret key {}", keys.secret().display()))
}

/// The logits in one result, one a label.
///
/// # Errors
/// The file cannot be read or does not belong to the model or the key.
pub fn decrypt_file(spec: &ClientSpec, keys: &ClientKeys, file: &Path) -> Result<Vec<f64>> {
    let result = EncryptedTensor::load_logits(&spec.parameters()?, file)?;
    client::decrypt(spec, keys, &result).with_context(|| format!("cannot decrypt {}", file.display()))
}

/// Prints the findings of films, given their logits.
pub fn print(labels: &[String], films: &[(String, Vec<f64>)], labels_only: bool, json: bool) {
    let cell = |logit: f64| match (labels_only, logit > 0.0) {
        (true, true) => json!(true),
        (true, false) => json!(false),
        (false, _) => json!((sigmoid(logit) * 1e4).round() / 1e4),
    };
    if json {
        let films: Vec<_> = films
            .iter()
            .map(|(name, logits)| {
                let findings: serde_json::Map<_, _> =
                    labels.iter().cloned().zip(logits.iter().map(|&logit| cell(logit))).collect();
                json!({ "film": name, "findings": findings })
            })
            .collect();
        println!("{:#}", serde_json::Value::Array(films));
        return;
    }
    let caption =
        if labels_only { "findings (probability above 0.5)" } else { "probability of each finding" };
    let mut table = Table::new(caption, &["finding"]);
    table.head.extend(films.iter().map(|(name, _)| name.clone()));
    for (index, label) in labels.iter().enumerate() {
        let mut row = vec![label.clone()];
        row.extend(films.iter().map(|(_, logits)| match cell(logits[index]) {
            serde_json::Value::Bool(true) => "yes".to_owned(),
            serde_json::Value::Bool(false) => "no".to_owned(),
            number => number.as_f64().map_or_else(String::new, |value| format!("{value:.4}")),
        }));
        table.rows.push(row);
    }
    print!("{}", table.to_text());
}
