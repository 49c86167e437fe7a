//! A loss or gradient that is no longer a number: what is said of it, and what is left to look at.

use std::path::Path;

use serde_json::json;

use crate::{TrainError, files::write_atomically, optimizer::NotFinite};

/// What was no number, and where.
#[derive(Debug)]
pub(crate) struct Broken {
    /// `loss` or `gradient`.
    pub quantity: &'static str,
    /// Its value.
    pub value: f64,
    /// The layer or parameter, with the words before it; empty if it is not known.
    pub place: String,
}

impl Broken {
    /// A loss, and the layer whose output was the first that is not finite.
    pub fn loss(value: f64, layer: Option<String>) -> Self {
        let place = layer.map(|layer| format!(", first at {layer}")).unwrap_or_default();
        Self { quantity: "loss", value, place }
    }

    /// A gradient; `network` comes before the parameter's name.
    pub fn gradient(error: NotFinite, network: &str) -> Self {
        let place = format!(" in {network}{}", error.parameter);
        Self { quantity: "gradient", value: error.norm, place }
    }

    /// The error, once stage, step and films are known. The names of all films are left in `not-finite.json`.
    pub fn on(self, stage: &'static str, step: u64, films: Vec<String>, folder: &Path) -> TrainError {
        let Self { quantity, value, place } = self;
        let record = json!({
            "stage": stage, "quantity": quantity, "value": value.to_string(), "step": step,
            "place": place.trim_start_matches([',', ' ']), "films": films,
        });
        // The error to report is this one, whether or not the record could be written.
        let _ = write_atomically(&folder.join("not-finite.json"), format!("{record:#}\n").as_bytes());
        TrainError::NotFinite { stage, quantity, value, step, place, films }
    }
}
