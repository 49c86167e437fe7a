//! The client compresses films with the VQGAN encoder and encrypts their latents.

use std::path::Path;
use std::time::{Duration, Instant};

use burn::tensor::Device;
use ckks::Parameters;
use datasets::{Film, Fit, load_film_with};
use he_model::{HeModel, Preprocessing};
use he_runtime::client::{self, ClientKeys, EncryptionKey};
use he_runtime::messages::KeyIdentity;
use he_runtime::{Circuit, ClientSpec, PublicKeyFile};
use train::checkpoint::{Checkpoint, Kind};
use train::films::to_tensor;
use train::load_vqgan;
use vqgan::{Vqgan, VqganConfig};

use crate::batches::Batch;
use crate::context::Context;
use crate::error::{Explain as _, Result};
use crate::files::make_folder;
use crate::film_fit;
use crate::keygen::random;
use crate::latents::HeldOut;
use crate::require;
use crate::run_folder::{Keys, RunFolder};

/// The client's encoder: a VQGAN checkpoint that belongs to the model.
pub struct Encoder {
    config: VqganConfig,
    fit: Fit,
    net: Vqgan,
    device: Device,
}

impl Encoder {
    /// Reads the checkpoint and refuses one that did not make the latents on which the model was trained.
    ///
    /// # Errors
    /// The checkpoint cannot be read or is another one.
    pub fn load(path: &Path, model: &HeModel) -> Result<Self> {
        Self::of(path, &model.preprocessing)
    }

    /// As [`Encoder::load`], for a client that knows the model's description only. An empty digest is any.
    ///
    /// # Errors
    /// The checkpoint cannot be read or is another one.
    pub fn of(path: &Path, preprocessing: &Preprocessing) -> Result<Self> {
        let expected = preprocessing.encoder_digest.as_str();
        let digest = Checkpoint::load(path, Kind::Vqgan)?.digest();
        require!(
            expected.is_empty() || expected == digest,
            "{} is not the encoder of this model: expected the checkpoint with digest {expected}, found {digest}; \
             name the right one with --encoder",
            path.display()
        );
        let device = Device::flex();
        let (config, net) = load_vqgan(path, &device)?;
        let fit = film_fit::of_model(preprocessing.film_fit);
        Ok(Self { config, fit, net, device })
    }

    /// Side of the films that it reads, in pixels.
    pub fn side(&self) -> usize {
        self.config.side
    }

    /// Reads a film from a file as the films of training were read.
    ///
    /// # Errors
    /// The file is not a film.
    pub fn film(&self, path: &Path) -> Result<Film> {
        Ok(load_film_with(path, self.config.side, self.fit)?)
    }

    /// The latent of a film, `[channels, height, width]` row-major.
    pub fn latent(&self, film: &Film) -> Vec<f32> {
        let x = to_tensor(film.pixels.clone(), self.config.side, &self.device);
        self.net.encode(x).latent(self.config.latent).into_data().iter::<f32>().collect()
    }

    /// The film that the decoder makes of a film's latent, values in [0, 1].
    pub fn reconstruction(&self, film: &Film) -> Vec<f32> {
        let x = to_tensor(film.pixels.clone(), self.config.side, &self.device);
        let latent = self.net.encode(x).latent(self.config.latent);
        train::films::to_pixels(self.net.decode(latent)).into_iter().next().unwrap_or_default()
    }
}

/// What a folder of keys has to encrypt with.
pub enum EncryptionKeys {
    /// The folder of the client that decrypts.
    Client(ClientKeys),
    /// Only the public key: a station that makes films and never sees results.
    Public(PublicKeyFile),
}

impl EncryptionKeys {
    /// The secret key where there is one, because its ciphertexts carry far less noise; otherwise the public one.
    ///
    /// # Errors
    /// A key is malformed, or there is none.
    pub fn load(parameters: &Parameters, keys: &Keys) -> Result<Self> {
        Ok(if keys.secret().exists() {
            Self::Client(ClientKeys::load(parameters, &keys.secret())?)
        } else {
            Self::Public(PublicKeyFile::load(parameters, &keys.public())?)
        })
    }

    /// The key pair.
    pub fn identity(&self) -> KeyIdentity {
        match self {
            Self::Client(keys) => keys.key(),
            Self::Public(file) => file.key(),
        }
    }

    /// For [`encrypt_batch`].
    pub fn key(&self) -> EncryptionKey<'_> {
        match self {
            Self::Client(keys) => keys.into(),
            Self::Public(file) => file.into(),
        }
    }
}

/// Encodes and encrypts the films of a batch into `folder`, with the list of them where a ciphertext holds several.
///
/// # Errors
/// A latent is outside the calibrated range, or a file cannot be written.
pub fn encrypt_batch(
    spec: &ClientSpec,
    key: EncryptionKey<'_>,
    encoder: &Encoder,
    batch: &Batch,
    films: &[Film],
    folder: &Path,
) -> Result<Duration> {
    let started = Instant::now();
    let mut latents = Vec::with_capacity(films.len());
    for (name, film) in batch.films.iter().zip(films) {
        let latent: Vec<f64> = encoder.latent(film).into_iter().map(f64::from).collect();
        spec.check_film(&latent).explain(|| format!("cannot encrypt {name}"))?;
        latents.push(latent);
    }
    let encrypted = client::encrypt_batch(spec, key, &latents, &mut random()?)?;
    // The list first: a ciphertext without one could not be read any more.
    batch.save(folder)?;
    encrypted.save(&spec.parameters()?, &batch.ciphertext(folder))?;
    Ok(started.elapsed())
}

/// Encrypts held-out films of a run with its keys and into its folder, except the batches that are encrypted already.
///
/// # Errors
/// As [`encrypt_batch`], or the encoder, a key or a film cannot be read.
pub fn encrypt_run(
    context: &Context,
    films: HeldOut<'_>,
    model: &HeModel,
    encoder: &Path,
    run: &RunFolder,
) -> Result<()> {
    let spec = Circuit::new(model)?.spec;
    let keys = EncryptionKeys::load(&spec.parameters()?, &run.keys())?;
    let encoder = Encoder::load(encoder, model)?;
    let folder = run.encrypted();
    make_folder(&folder)?;
    let batches = Batch::group(&spec, &keys.identity(), &films.names())?;
    for (batch, chosen) in batches.iter().zip(films.chosen.chunks(spec.films())) {
        context.check("encrypting")?;
        if batch.ciphertext(&folder).exists() {
            continue;
        }
        let films = chosen.iter().map(|&film| Ok(films.dataset.film(film)?)).collect::<Result<Vec<_>>>()?;
        encrypt_batch(&spec, keys.key(), &encoder, batch, &films, &folder)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use datasets::Fit;
    use he_model::FilmFit;

    use super::*;

    /// Before, clients cropped films whatever the training had done.
    #[test]
    fn a_client_reads_films_as_they_were_read_in_training() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("film.png");
        image::GrayImage::from_fn(16, 8, |x, y| image::Luma([(x * 16 + y) as u8]))
            .save(&path)
            .expect("a film");
        let config = VqganConfig {
            side: 8,
            width: 4,
            multipliers: vec![1, 1],
            residual_blocks: 1,
            attention_sides: vec![],
            middle_attention: false,
            latent_channels: 1,
            codes: 2,
            latent: vqgan::LatentKind::default(),
        };
        let device = Device::flex();
        let encoder = |fit| {
            let net = config.init(&device).expect("a network");
            Encoder { config: config.clone(), fit: film_fit::of_model(fit), net, device: device.clone() }
        };
        let fits = [(FilmFit::Crop, Fit::Crop), (FilmFit::Pad, Fit::Pad), (FilmFit::Stretch, Fit::Stretch)];
        let films = fits.map(|(of_model, of_training)| {
            let film = encoder(of_model).film(&path).expect("a film");
            assert_eq!(film, load_film_with(&path, 8, of_training).expect("a film"));
            film
        });
        assert!(films[0] != films[1] && films[1] != films[2] && films[0] != films[2]);
    }
}
