//! The client's side: the only one that can decrypt.
//!
//! A decrypted result must not go back to whoever computed it: the scheme is approximate, and its noise depends on
//! the secret (Li and Micciancio, 2021).

use std::path::Path;

use ckks::{
    Ciphertext, Decryptor, Encoder, Encryptor, KeyGenerator, Parameters, Plaintext, SecretEncryptor,
    SecretKey, Wire,
};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::RuntimeError;
use crate::circuit::ClientSpec;
use crate::messages::{
    EncryptedTensor, Header, KeyIdentity, Kind, PublicKeyFile, ServerKeys, finish, named, read_file,
    write_file,
};
use crate::reference::clear_layers;
use crate::simulate::LayerError;

/// Bytes that a secret coefficient takes at most.
const SECRET_ROOM: usize = 4;

/// The key pair. It cannot be cloned or printed.
pub struct ClientKeys {
    key: KeyIdentity,
    secret: SecretKey,
}

impl ClientKeys {
    /// Identity of the key pair.
    #[must_use]
    pub fn key(&self) -> KeyIdentity {
        self.key
    }

    /// Writes the secret key's file. Whoever reads it can decrypt.
    ///
    /// # Errors
    /// What the file system says.
    pub fn save(&self, parameters: &Parameters, path: &Path) -> Result<(), RuntimeError> {
        let header = Header { kind: Kind::ClientKeys, model: [0; 32], key: self.key, count: 1 };
        write_file(path, header, |to| Ok(self.secret.write_to(parameters, to)?))
    }

    /// The secret key as bytes that wipe themselves, for storage under a passphrase.
    ///
    /// # Errors
    /// Parameters of another key.
    pub fn to_bytes(&self, parameters: &Parameters) -> Result<Zeroizing<Vec<u8>>, RuntimeError> {
        // Room for all of it beforehand: a vector that grows leaves copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_ROOM * parameters.ring_degree() + 4096));
        bytes.extend_from_slice(&self.key);
        self.secret.write_to(parameters, &mut *bytes)?;
        Ok(bytes)
    }

    /// The key from what [`ClientKeys::to_bytes`] gave.
    ///
    /// # Errors
    /// Bytes that are cut short, altered, or made for other parameters.
    pub fn from_bytes(parameters: &Parameters, bytes: &[u8]) -> Result<Self, RuntimeError> {
        let short = || RuntimeError::Malformed {
            path: "the sealed key".into(),
            what: Kind::ClientKeys.name(),
            reason: "it is too short".into(),
        };
        let (key, rest) = bytes.split_first_chunk::<32>().ok_or_else(short)?;
        Ok(Self { key: *key, secret: SecretKey::from_bytes(parameters, rest)? })
    }

    /// Reads the file.
    ///
    /// # Errors
    /// A file that is cut short, altered, or made for other parameters.
    pub fn load(parameters: &Parameters, path: &Path) -> Result<Self, RuntimeError> {
        let kind = Kind::ClientKeys;
        let (header, mut from) = read_file(path, kind)?;
        let secret = SecretKey::read_from(parameters, &mut from).map_err(named(path, kind))?;
        finish(path, kind, from)?;
        Ok(Self { key: header.key, secret })
    }
}

/// All keys of a fresh key pair.
pub struct KeyBundle {
    /// Stays with the client.
    pub client: ClientKeys,
    /// Encrypts.
    pub public: PublicKeyFile,
    /// Goes to the server.
    pub server: ServerKeys,
}

impl KeyBundle {
    /// Draws a secret and makes the keys that a model needs, each cut to its levels.
    ///
    /// # Errors
    /// Parameters that the scheme refuses, or a description that is none.
    pub fn generate(spec: &ClientSpec, rng: &mut impl CryptoRng) -> Result<Self, RuntimeError> {
        spec.check()?;
        let parameters = spec.parameters()?;
        let secret = SecretKey::generate(&parameters, rng);
        let generator = KeyGenerator::new(&parameters, &secret)?;
        let public = PublicKeyFile::new(&parameters, generator.public_key(rng))?;
        let evaluation = generator.evaluation_keys(&spec.key_request()?, rng)?;
        let key = public.key();
        Ok(Self { client: ClientKeys { key, secret }, server: ServerKeys { key, evaluation }, public })
    }
}

/// What a latent is encrypted with.
#[derive(Clone, Copy)]
pub enum EncryptionKey<'a> {
    /// By anyone who has the public key. The noise is sqrt(4N/3) times that under the secret key, some 300 times at
    /// N = 2^16, and dominates the error of the logits.
    Public(&'a PublicKeyFile),
    /// By the client that will decrypt.
    Secret(&'a ClientKeys),
}

impl<'a> From<&'a PublicKeyFile> for EncryptionKey<'a> {
    fn from(key: &'a PublicKeyFile) -> Self {
        Self::Public(key)
    }
}

impl<'a> From<&'a ClientKeys> for EncryptionKey<'a> {
    fn from(keys: &'a ClientKeys) -> Self {
        Self::Secret(keys)
    }
}

impl EncryptionKey<'_> {
    fn identity(self) -> KeyIdentity {
        match self {
            Self::Public(file) => file.key(),
            Self::Secret(keys) => keys.key(),
        }
    }
}

/// An encryptor made ready: the key's transform is paid once, not for every ciphertext.
enum Ready {
    Public(Encryptor),
    Secret(SecretEncryptor),
}

impl Ready {
    fn new(parameters: &Parameters, key: EncryptionKey<'_>) -> Result<Self, RuntimeError> {
        Ok(match key {
            EncryptionKey::Public(file) => Self::Public(Encryptor::new(parameters, file.public.clone())?),
            EncryptionKey::Secret(keys) => Self::Secret(SecretEncryptor::new(parameters, &keys.secret)?),
        })
    }

    fn encrypt(&self, plain: &Plaintext, rng: &mut impl CryptoRng) -> Result<Ciphertext, RuntimeError> {
        Ok(match self {
            Self::Public(encryptor) => encryptor.encrypt(plain, rng)?,
            Self::Secret(encryptor) => encryptor.encrypt(plain, rng)?,
        })
    }
}

/// Encrypts a latent, `[channels, height, width]` row-major.
///
/// # Errors
/// As [`encrypt_batch`].
pub fn encrypt<'a>(
    spec: &ClientSpec,
    key: impl Into<EncryptionKey<'a>>,
    latent: &[f64],
    rng: &mut impl CryptoRng,
) -> Result<EncryptedTensor, RuntimeError> {
    encrypt_batch(spec, key, &[latent], rng)
}

/// Encrypts the latents of 1 to [`ClientSpec::films`] films, `[channels, height, width]` row-major each, for one run. Places that are left
/// repeat the films given, so that no slot holds values that the model was not calibrated for.
///
/// # Errors
/// No film or too many, a latent of the wrong size, or with values far outside of what the model was calibrated for.
pub fn encrypt_batch<'a>(
    spec: &ClientSpec,
    key: impl Into<EncryptionKey<'a>>,
    latents: &[impl AsRef<[f64]>],
    rng: &mut impl CryptoRng,
) -> Result<EncryptedTensor, RuntimeError> {
    spec.check()?;
    let batch = Zeroizing::new(spec.batch(latents)?);
    latents.iter().try_for_each(|latent| spec.check_film(latent.as_ref()))?;
    let parameters = spec.parameters()?;
    let encoder = Encoder::new(&parameters);
    let key = key.into();
    let encryptor = Ready::new(&parameters, key)?;
    let encrypt = |slots: Vec<ckks::Complex64>| -> Result<Ciphertext, RuntimeError> {
        let plain = encoder.encode(&slots, spec.input_scale, spec.input_level)?;
        encryptor.encrypt(&plain, rng)
    };
    let ciphertexts = spec.input.pack(&batch).into_iter().map(encrypt).collect::<Result<_, _>>()?;
    Ok(EncryptedTensor { kind: Kind::Latent, model: spec.model_bytes(), key: key.identity(), ciphertexts })
}

/// Decrypts the logits of a film, one a label; those of the first one in a batch.
///
/// # Errors
/// A result of another model or key.
pub fn decrypt(
    spec: &ClientSpec,
    keys: &ClientKeys,
    logits: &EncryptedTensor,
) -> Result<Vec<f64>, RuntimeError> {
    decrypt_batch(spec, keys, logits, 1).map(|mut films| films.swap_remove(0))
}

/// Decrypts the logits of the first `films` films of a batch, one a label for each film, in the order in which they were encrypted.
///
/// # Errors
/// A result of another model or key, or more films than a batch holds.
pub fn decrypt_batch(
    spec: &ClientSpec,
    keys: &ClientKeys,
    logits: &EncryptedTensor,
    films: usize,
) -> Result<Vec<Vec<f64>>, RuntimeError> {
    spec.check()?;
    if !(1..=spec.films()).contains(&films) {
        return Err(RuntimeError::Batch { most: spec.films(), got: films });
    }
    let expected = (spec.output.ciphertexts(), spec.output_level, spec.output_scale);
    logits.check(&spec.model_bytes(), &keys.key, expected)?;
    let parameters = spec.parameters()?;
    let slots = slots(&parameters, keys, &logits.ciphertexts)?;
    Ok((0..films).map(|film| spec.output.unpack_film(&slots, film)).collect())
}

/// Decrypts ciphertexts to their slots.
pub(crate) fn slots(
    parameters: &Parameters,
    keys: &ClientKeys,
    ciphertexts: &[Ciphertext],
) -> Result<Vec<Vec<ckks::Complex64>>, RuntimeError> {
    let decryptor = Decryptor::new(parameters, &keys.secret)?;
    let encoder = Encoder::new(parameters);
    let decode = |c: &Ciphertext| -> Result<_, RuntimeError> { Ok(encoder.decode(&decryptor.decrypt(c)?)) };
    ciphertexts.iter().map(decode).collect()
}

/// Runs a model on 1 to [`ClientSpec::films`] films with all keys at hand and compares every layer with the clear, the worst film for
/// each: for the model's author, never for a server.
///
/// # Errors
/// As encryption and evaluation.
pub fn compare_layers(
    model: &he_model::HeModel,
    keys: KeyBundle,
    latents: &[impl AsRef<[f64]>],
    rng: &mut impl CryptoRng,
) -> Result<Vec<LayerError>, RuntimeError> {
    let server = crate::Server::new(model, keys.server)?;
    let spec = server.spec().clone();
    let parameters = spec.parameters()?;
    let encrypted = encrypt_batch(&spec, &keys.client, latents, rng)?;
    let clear = clear_layers(model, latents)?;
    let mut results = vec![];
    server.run_layers(&encrypted, &mut |result, ciphertexts| {
        let name = &server.circuit().executable.layers()[result.layer as usize];
        let Some(node) = model.graph.find(name) else { return Ok(()) };
        let slots = slots(&parameters, &keys.client, ciphertexts)?;
        let error = |(film, want): (usize, &Vec<Vec<f64>>)| {
            LayerError::new(name, &result.unpack_film(&slots, film), &want[node.0])
        };
        let mut films = clear.iter().enumerate().map(error);
        if let Some(mut worst) = films.next() {
            films.for_each(|film| worst.widen(&film));
            results.push(worst);
        }
        Ok(())
    })?;
    Ok(results)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use he_model::zoo::{Architecture, Recipe, random, random_input};
    use he_model::{HeModel, Offsets, PlanOptions, Preprocessing, Ranges, SecurityLevel, Shape, plan};
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha20Rng;

    use super::*;
    use crate::Circuit;

    /// Root mean square error of a latent that is encrypted and decrypted again.
    fn error<'a>(spec: &ClientSpec, keys: &ClientKeys, with: impl Into<EncryptionKey<'a>>) -> f64 {
        let mut rng = ChaCha20Rng::seed_from_u64(4);
        let latent = random_input(spec.input.shape(), 1);
        let encrypted = encrypt(spec, with, &latent, &mut rng).unwrap();
        let slots = slots(&spec.parameters().unwrap(), keys, &encrypted.ciphertexts).unwrap();
        let squares =
            spec.input.unpack(&slots).iter().zip(&latent).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
        (squares / latent.len() as f64).sqrt()
    }

    #[test]
    fn the_secret_key_adds_less_noise_by_the_factor_of_theory() {
        let input = Shape::new(3, 8, 8);
        let recipe = Recipe {
            architecture: Architecture::LeNet,
            input,
            labels: 5,
            se: false,
            post_add_activation: false,
            shrink: 8,
        };
        let graph = random(&recipe, 2).unwrap();
        let options = PlanOptions {
            security: SecurityLevel::InsecureForTests,
            log_ring_degree: Some(11),
            ..PlanOptions::default()
        };
        let plan = plan(&graph, &options).unwrap();
        let preprocessing = Preprocessing::unknown(64, input);
        let labels = (0..5).map(|i| format!("label {i}")).collect();
        let model = HeModel {
            plan,
            labels,
            preprocessing,
            ranges: Ranges::new(&graph),
            graph,
            offsets: Offsets::new(),
            notes: BTreeMap::new(),
        };
        let spec = Circuit::new(&model).unwrap().spec;
        let mut rng = ChaCha20Rng::seed_from_u64(3);
        let keys = KeyBundle::generate(&spec, &mut rng).unwrap();
        let (public, secret) =
            (error(&spec, &keys.client, &keys.public), error(&spec, &keys.client, &keys.client));
        // sqrt(4N/3), less what rounding the plaintext adds to both: 1/12 beside the variance of 3.2 is nothing.
        let expected = (4.0 * f64::from(1 << 11) / 3.0_f64).sqrt();
        assert!((public / secret / expected - 1.0).abs() < 0.3, "{public} / {secret}, expected {expected}");
    }
}
