//! A loss or gradient that is no longer a number: what is said of it, and what is left to look at.

use std::path::Path;

use serde_json::json;

use crate::{TrainError, optimizer::NotFinite};

/// What was no number, and where.
#[derive(Debug)]
pub(crate) struct Broken {
    /// `loss` or `gradient`.
    pub quantity: &'static str,
    /// Its value.
    pub value: f64,
    /// The layer or parameter, with the words before it; empty if it is not known.
    pub place: String,
    /// Which part of the step, where its gradients are added up over several; `None` if that is not known.
    pub part: Option<usize>,
}

impl Broken {
    /// A loss, and the layer whose output was the first that is not finite.
    pub fn loss(value: f64, layer: Option<String>, part: usize) -> Self {
        let place = layer.map(|layer| format!(", first at {layer}")).unwrap_or_default();
        Self { quantity: "loss", value, place, part: Some(part) }
    }

    /// A gradient; `network` comes before the parameter's name.
    pub fn gradient(error: NotFinite, network: &str) -> Self {
        let place = format!(" in {network}{}", error.parameter);
        Self { quantity: "gradient", value: error.norm, place, part: None }
    }

    /// The error, once stage, step and the films of each part are known. The names of all films concerned are left in
    /// `not-finite.json`.
    pub fn on(self, stage: &'static str, step: u64, parts: &[Vec<String>], folder: &Path) -> TrainError {
        let Self { quantity, value, place, part } = self;
        let films = match part.and_then(|part| parts.get(part)) {
            Some(films) => films.clone(),
            None => parts.concat(),
        };
        let record = json!({
            "stage": stage, "quantity": quantity, "value": value.to_string(), "step": step,
            "place": place.trim_start_matches([',', ' ']), "films": films,
        });
        // The error to report is this one, whether or not the record could be written.
        let _ = durable::write(&folder.join("not-finite.json"), format!("{record:#}\n").as_bytes());
        TrainError::NotFinite { stage, quantity, value, step, place, films }
    }
}
