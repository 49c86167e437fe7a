//! Films to latents, once, for all films of a data set.

use std::sync::Arc;

use datasets::{Augmentation, LatentSet, Split};
use serde_json::json;

use crate::{
    Config, Result, Session, TrainError,
    checkpoint::{Checkpoint, Kind},
    films::{Films, consecutive, open_dataset},
    progress::Meter,
    sampler::derived_seed,
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
    let dataset = Arc::new(open_dataset(&config.data, session)?);
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

/// Encodes the training films `copies` times more, changed a little each time, into `latents-1.safetensors` and so
/// on. Row `i` of a copy is the `i`th training film of `latents`.
///
/// Copies that were made from the same films, encoder, changes and seed are read instead.
///
/// # Errors
///
/// As [`encode_latents`].
pub fn encode_copies(
    config: &Config,
    latents: &LatentSet,
    copies: usize,
    change: Augmentation,
    session: &Session<'_>,
) -> Result<Vec<LatentSet>> {
    if copies == 0 {
        return Ok(Vec::new());
    }
    let dataset = Arc::new(open_dataset(&config.data, session)?);
    let path = session.vqgan_model();
    let digest = Checkpoint::load(&path, Kind::Vqgan)?.digest();
    if dataset.digest() != latents.data_digest || digest != latents.encoder_digest {
        return Err(TrainError::Mismatch {
            what: "the latents",
            expected: "those of this run's films and VQGAN, to make changed copies of".into(),
            found: "those of others".into(),
            advice: "encode the films again, or set classifier.train.augment.copies = 0".into(),
        });
    }
    let device = config.run.device()?;
    let (model, net) = load_vqgan(&path, &device)?;
    let films = Films::new(Arc::clone(&dataset));
    let train = dataset.indices(Split::Train);
    let listener = session.progress();
    let mut sets = Vec::with_capacity(copies);
    for copy in 1..=copies {
        let seed = derived_seed(config.run.seed, "changed films", 0);
        let data_digest =
            blake3::hash(json!([latents.data_digest, change, seed, copy]).to_string().as_bytes()).to_hex();
        let cache = session.dir().join(format!("latents-{copy}.safetensors"));
        if let Ok(set) = LatentSet::load(&cache)
            && set.encoder_digest == digest
            && set.data_digest == data_digest.as_str()
        {
            sets.push(set);
            continue;
        }
        let batches = consecutive(train.clone(), BATCH).map(move |batch| (batch, copy as u64));
        let batches = films.read_ahead_changed(batches, Some((change, seed)));
        listener.start(&format!("encoding copy {copy}"), train.len() as u64, 0);
        let mut meter = Meter::new();
        let (mut values, mut done) = (Vec::new(), 0);
        while let Some((indices, x)) = batches.next(&device)? {
            values.extend(net.encode(x).latent(model.latent).into_data().iter::<f32>());
            done += indices.len();
            listener.step(done as u64, &meter.add_films(indices.len()));
            if session.interrupted() {
                listener.finish("encoding: stopped");
                return Err(TrainError::Interrupted { stage: "encoding", step: done as u64, file: path });
            }
        }
        let of_train = |all: &[String]| train.iter().map(|&film| all[film].clone()).collect::<Vec<_>>();
        let set = LatentSet {
            label_names: latents.label_names.clone(),
            ids: of_train(&latents.ids),
            patients: of_train(&latents.patients),
            splits: vec![Split::Train; train.len()],
            labels: train.iter().map(|&film| latents.labels[film].clone()).collect(),
            channels: latents.channels,
            height: latents.height,
            width: latents.width,
            latents: values,
            encoder_digest: digest.clone(),
            data_digest: data_digest.to_string(),
        };
        set.save(&cache)?;
        listener.finish(&format!("changed copy {copy} of {} films -> {}", train.len(), cache.display()));
        sets.push(set);
    }
    Ok(sets)
}
