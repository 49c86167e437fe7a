//! `veilray simulate`: what encryption will cost in precision, layer by layer, without keys and without ciphertexts.
//!
//! The packed program runs in the clear with modelled noise ([`he_runtime::simulate`]) on held-out films of the run.

use anyhow::{Context as _, Result};
use he_model::HeModel;
use he_runtime::Circuit;
use he_runtime::client::{self, ClientKeys, KeyBundle};
use he_runtime::simulate::{self, LayerError};
use he_runtime::{PublicKeyFile, ServerKeys};
use report::Table;
use train::encode_latents;

use super::{encrypt, keygen, load_model};
use crate::cli::SimulateArguments;
use crate::context::{Context, configuration};
use crate::run_folder::RunFolder;

/// Simulates films of a run and prints the largest error of every layer over them.
///
/// # Errors
/// The run has no exported model or latents.
pub fn run(context: &Context, arguments: &SimulateArguments) -> Result<()> {
    let config = configuration(&arguments.run)?;
    let folder = RunFolder::new(&config.run.dir);
    let session = context.session(&config.run.dir);
    let latents = encode_latents(&config, &session)?;
    let model = load_model(&folder.model())?;
    let circuit = Circuit::new(&model)?;
    let films = encrypt::held_out(&latents, arguments.films);
    let mut worst: Vec<LayerError> = Vec::new();
    let mut rng = keygen::random()?;
    for batch in films.chunks(circuit.spec.films()) {
        context.check("simulating")?;
        let of_film = |&index: &usize| latents.latent(index).iter().map(|&v| f64::from(v)).collect();
        let batch_latents: Vec<Vec<f64>> = batch.iter().map(of_film).collect();
        let layers = simulate::compare_layers(&model, &circuit, &batch_latents, &mut rng)
            .with_context(|| format!("cannot simulate {}", latents.ids[batch[0]]))?;
        if worst.is_empty() {
            worst = layers;
        } else {
            worst.iter_mut().zip(&layers).for_each(|(worst, layer)| worst.widen(layer));
        }
    }
    print!("{}", table(&format!("{} films, simulated noise", films.len()), &worst, None).to_text());
    if let Some(last) = worst.last() {
        println!("predicted largest difference of a logit: {:.1e}", last.error);
    }
    Ok(())
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
    let mut rng = keygen::random()?;
    let measured = client::compare_layers(model, bundle, latents, &mut rng)?;
    let simulated = simulate::compare_layers(model, &circuit, latents, &mut rng)?;
    let films = match latents.len() {
        1 => "one film".to_owned(),
        films => format!("the worst of {films} films in one ciphertext"),
    };
    Ok(table(&format!("clear against encrypted, layer by layer, {films}"), &measured, Some(&simulated)))
}

fn table(caption: &str, layers: &[LayerError], predicted: Option<&[LayerError]>) -> Table {
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
