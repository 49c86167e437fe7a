//! What encryption will cost in precision, layer by layer, without keys and without ciphertexts.
//!
//! The packed program runs in the clear with modelled noise ([`he_runtime::simulate`]).

use datasets::LatentSet;
use he_model::HeModel;
use he_runtime::Circuit;
use he_runtime::client::{self, ClientKeys, KeyBundle};
use he_runtime::simulate::{self, LayerError};
use he_runtime::{PublicKeyFile, ServerKeys};
use report::Table;

use crate::context::Context;
use crate::error::{Explain as _, Result};
use crate::keygen::random;
use crate::latents;
use crate::run_folder::RunFolder;

/// The largest error that modelled noise makes at each layer, over all of these films; nothing without films.
///
/// # Errors
/// The model does not take these latents, or the user interrupted.
pub fn worst_errors(
    context: &Context,
    model: &HeModel,
    latents: &LatentSet,
    films: &[usize],
) -> Result<Vec<LayerError>> {
    let circuit = Circuit::new(model)?;
    let mut rng = random()?;
    let mut worst: Vec<LayerError> = Vec::new();
    for batch in films.chunks(circuit.spec.films()) {
        context.check("simulating")?;
        let layers = simulate::compare_layers(model, &circuit, &latents::of(latents, batch), &mut rng)
            .explain(|| format!("cannot simulate {}", latents.ids[batch[0]]))?;
        if worst.is_empty() {
            worst = layers;
        } else {
            worst.iter_mut().zip(&layers).for_each(|(worst, layer)| worst.widen(layer));
        }
    }
    Ok(worst)
}

/// Runs the latents of one batch on ciphertexts with the run's keys and compares every layer with the clear and with the simulation.
///
/// # Errors
/// Keys are missing or belong to another model.
pub fn compare(model: &HeModel, folder: &RunFolder, latents: &[Vec<f64>]) -> Result<Table> {
    let circuit = Circuit::new(model)?;
    let (parameters, keys) = (&circuit.parameters, folder.keys());
    let bundle = KeyBundle {
        client: ClientKeys::load(parameters, &keys.secret())?,
        public: PublicKeyFile::load(parameters, &keys.public())?,
        server: ServerKeys::load(parameters, &keys.evaluation())?,
    };
    let mut rng = random()?;
    let measured = client::compare_layers(model, bundle, latents, &mut rng)?;
    let simulated = simulate::compare_layers(model, &circuit, latents, &mut rng)?;
    let films = match latents.len() {
        1 => "one film".to_owned(),
        films => format!("the worst of {films} films in one ciphertext"),
    };
    Ok(table(&format!("clear against encrypted, layer by layer, {films}"), &measured, Some(&simulated)))
}

/// A row for each layer, with the error that was predicted where there is one.
pub fn table(caption: &str, layers: &[LayerError], predicted: Option<&[LayerError]>) -> Table {
    let mut head = vec!["layer", "largest value", "largest error", "precision"];
    if predicted.is_some() {
        head.push("predicted error");
    }
    let mut table = Table::new(caption, &head);
    for layer in layers {
        let mut row = vec![
            layer.name.clone(),
            format!("{:.3}", layer.magnitude),
            format!("{:.1e}", layer.error),
            format!("{:.1} bits", layer.precision_bits()),
        ];
        if let Some(predicted) = predicted {
            let same = predicted.iter().find(|p| p.name == layer.name);
            row.push(same.map_or_else(|| "-".into(), |p| format!("{:.1e}", p.error)));
        }
        table.rows.push(row);
    }
    table
}
