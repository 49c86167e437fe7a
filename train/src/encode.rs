//! Films to latents, once, for all films of a data set.

use std::sync::Arc;

use datasets::{FilmDataset, LatentSet};

use crate::{
    Config, Result, Session, TrainError,
    checkpoint::{Checkpoint, Kind},
    films::{Films, consecutive},
    progress::Meter,
    vqgan_stage::load_vqgan,
};

/// Films encoded at a time.
const BATCH: usize = 32;

/// Encodes all films with the run's VQGAN into `latents.safetensors`.
///
/// Latents that were made from the same films by the same encoder are read instead.
///
/// # Errors
///
/// There is no VQGAN yet, it does not fit the films, a film cannot be read, or the user interrupted.
pub fn encode_latents(config: &Config, session: &Session<'_>) -> Result<LatentSet> {
    config.validate()?;
    let dataset = Arc::new(FilmDataset::open(&config.data)?);
    let path = session.vqgan_model();
    let digest = Checkpoint::load(&path, Kind::Vqgan)?.digest();
    let cache = session.latents();
    if cache.exists() {
        match LatentSet::load(&cache) {
            Ok(set) if set.encoder_digest == digest && set.data_digest == dataset.digest() => return Ok(set),
            Ok(_) => {
                session.progress().note("cached latents are of another encoder or other films: made again")
            }
            Err(error) => session.progress().note(&format!("{error}; made again")),
        }
    }
    let device = config.run.device()?;
    let (model, net) = load_vqgan(&path, &device)?;
    if model.side != config.data.side {
        return Err(TrainError::Mismatch {
            what: "side of the films",
            expected: format!("{} pixels, as the VQGAN was trained", model.side),
            found: format!("{} pixels", config.data.side),
            advice: "set data.side and vqgan.model.side to the same number, or train the VQGAN again".into(),
        });
    }
    let films = Films::new(Arc::clone(&dataset));
    let total = dataset.len();
    let mut latents = Vec::with_capacity(total * model.latent_shape().iter().product::<usize>());
    let batches = films.read_ahead(consecutive((0..total).collect(), BATCH));
    let listener = session.progress();
    listener.start("encoding", total as u64, 0);
    let mut meter = Meter::new();
    let mut done = 0;
    while let Some((indices, x)) = batches.next(&device)? {
        latents.extend(net.encode(x).latent(model.latent).into_data().iter::<f32>());
        done += indices.len();
        listener.step(done as u64, &meter.add_films(indices.len()));
        if session.interrupted() {
            listener.finish("encoding: stopped");
            return Err(TrainError::Interrupted { stage: "encoding", step: done as u64, file: path });
        }
    }
    let set = LatentSet::new(&dataset, model.latent_shape(), latents, digest)?;
    set.save(&cache)?;
    listener.finish(&format!("encoded {total} films in {:.0} s -> {}", meter.seconds(), cache.display()));
    Ok(set)
}
