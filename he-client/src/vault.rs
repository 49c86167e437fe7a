//! The folder of one enrolment.
//!
//! ```text
//! enrolment.json    address of the service, description of the model, digest of the evaluation keys
//! public.key        encrypts
//! secret.key        decrypts (mode 0600); or secret.sealed: the same under a passphrase
//! evaluation.keys   for the service; can be deleted once uploaded
//! ```
//!
//! `secret.sealed` is `magic "VRSK" | version u8 | m_cost, t_cost, p_cost u32 | salt [16] | nonce [24] | XChaCha20-Poly1305 ciphertext`, with all before the
//! ciphertext as associated data and the key from Argon2id.

use std::fs;
use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use he_protocol::api::ModelDescription;
use he_protocol::{Digest, files};
use he_runtime::client::{ClientKeys, KeyBundle};
use he_runtime::{ClientSpec, PublicKeyFile};
use rand::SeedableRng as _;
use rand_chacha::ChaCha20Rng;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::ClientError;

const MAGIC: &[u8; 5] = b"VRSK\x01";
const HEAD: usize = 5 + 12 + 16 + 24;
/// Argon2id: KiB of memory, passes, lanes. RFC 9106, section 4, second recommendation.
const COST: (u32, u32, u32) = (64 << 10, 3, 4);
/// More than this is refused before anything is computed: a file may not ask for all memory.
const MAX_COST: (u32, u32, u32) = (1 << 20, 16, 16);
const MAX_SEALED: u64 = 4 << 20;

/// A passphrase, wiped when dropped.
pub type Passphrase = Zeroizing<String>;

/// `enrolment.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolment {
    /// Address of the service.
    pub url: String,
    /// The model, as the service described it.
    pub model: ModelDescription,
    /// Digest of the evaluation keys.
    pub keys: Digest,
    /// Size of the evaluation keys.
    pub key_bytes: u64,
}

/// The folder of one enrolment.
#[derive(Debug, Clone)]
pub struct Vault {
    folder: PathBuf,
}

/// A generator from the system's randomness.
pub(crate) fn random() -> Result<ChaCha20Rng, ClientError> {
    let failed = |e| ClientError::Options(format!("the system has no randomness: {e}"));
    ChaCha20Rng::try_from_rng(&mut rand::rngs::SysRng).map_err(failed)
}

impl Vault {
    /// The vault in `folder`, which may not exist yet.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.into() }
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The evaluation keys' file.
    #[must_use]
    pub fn evaluation_keys(&self) -> PathBuf {
        self.path("evaluation.keys")
    }

    /// Whether the secret key is under a passphrase.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.path("secret.sealed").exists()
    }

    /// The enrolment, if there is one.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn enrolment(&self) -> Result<Option<Enrolment>, ClientError> {
        let path = self.path("enrolment.json");
        if !path.exists() {
            return Ok(None);
        }
        let bytes = files::read(&path, 16 << 20).map_err(ClientError::io(&path))?;
        let read = serde_json::from_slice(&bytes);
        read.map(Some)
            .map_err(|e| ClientError::Vault { path: path.display().to_string(), reason: e.to_string() })
    }

    /// Makes keys for a model and writes them; the enrolment's own file comes last, so it stands for all of them.
    ///
    /// # Errors
    /// There are keys already, or a file cannot be written.
    pub fn create(
        &self,
        url: &str,
        model: ModelDescription,
        passphrase: Option<&Passphrase>,
    ) -> Result<Enrolment, ClientError> {
        if self.enrolment()?.is_some() {
            return Err(ClientError::Vault {
                path: self.folder.display().to_string(),
                reason: "there are keys here already: name another folder".into(),
            });
        }
        files::private_folder(&self.folder).map_err(ClientError::io(&self.folder))?;
        let parameters = model.spec.parameters()?;
        let bundle = KeyBundle::generate(&model.spec, &mut random()?)?;
        let evaluation = self.evaluation_keys();
        bundle.server.save(&parameters, &evaluation)?;
        bundle.public.save(&parameters, &self.path("public.key"))?;
        match passphrase {
            None => bundle.client.save(&parameters, &self.path("secret.key"))?,
            Some(passphrase) => {
                let sealed = seal(&bundle.client.to_bytes(&parameters)?, passphrase)?;
                let path = self.path("secret.sealed");
                files::write_private(&path, &sealed).map_err(ClientError::io(&path))?;
            }
        }
        let file = fs::File::open(&evaluation).map_err(ClientError::io(&evaluation))?;
        let key_bytes = file.metadata().map_err(ClientError::io(&evaluation))?.len();
        let keys = Digest::read(file).map_err(ClientError::io(&evaluation))?;
        let enrolment = Enrolment { url: url.into(), model, keys, key_bytes };
        let path = self.path("enrolment.json");
        let text = serde_json::to_vec_pretty(&enrolment).map_err(|e| ClientError::Answer(e.to_string()))?;
        files::write_private(&path, &text).map_err(ClientError::io(&path))?;
        Ok(enrolment)
    }

    /// The public key.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn public(&self, spec: &ClientSpec) -> Result<PublicKeyFile, ClientError> {
        Ok(PublicKeyFile::load(&spec.parameters()?, &self.path("public.key"))?)
    }

    /// The secret key.
    ///
    /// # Errors
    /// It cannot be read, others can read it, or the passphrase is missing or wrong.
    pub fn secret(
        &self,
        spec: &ClientSpec,
        passphrase: Option<&Passphrase>,
    ) -> Result<ClientKeys, ClientError> {
        let parameters = spec.parameters()?;
        let sealed = self.path("secret.sealed");
        let refused = |path: &Path, reason: &str| ClientError::Vault {
            path: path.display().to_string(),
            reason: reason.into(),
        };
        if self.is_sealed() {
            let missing = || refused(&sealed, "the key is under a passphrase: give it");
            let passphrase = passphrase.ok_or_else(missing)?;
            let bytes = files::read(&sealed, MAX_SEALED).map_err(ClientError::io(&sealed))?;
            let open = unseal(&bytes, passphrase)
                .ok_or_else(|| refused(&sealed, "the passphrase is wrong, or the file was altered"))?;
            return Ok(ClientKeys::from_bytes(&parameters, &open)?);
        }
        let path = self.path("secret.key");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(&path).map_err(ClientError::io(&path))?.permissions().mode();
            if mode & 0o077 != 0 {
                return Err(refused(
                    &path,
                    "others can read this key: take their access away (chmod 600), and enrol again if they may have read it",
                ));
            }
        }
        Ok(ClientKeys::load(&parameters, &path)?)
    }
}

fn cipher(head: &[u8], passphrase: &Passphrase) -> Option<XChaCha20Poly1305> {
    let number = |at: usize| Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?));
    let cost = (number(5)?, number(9)?, number(13)?);
    if cost.0 > MAX_COST.0 || cost.1 > MAX_COST.1 || cost.2 > MAX_COST.2 {
        return None;
    }
    let mut key = Zeroizing::new([0u8; 32]);
    let parameters = Params::new(cost.0, cost.1, cost.2, Some(32)).ok()?;
    Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters)
        .hash_password_into(passphrase.as_bytes(), head.get(17..33)?, &mut *key)
        .ok()?;
    XChaCha20Poly1305::new_from_slice(&*key).ok()
}

/// Bytes under a passphrase.
fn seal(secret: &[u8], passphrase: &Passphrase) -> Result<Vec<u8>, ClientError> {
    let mut head = MAGIC.to_vec();
    for number in [COST.0, COST.1, COST.2] {
        head.extend_from_slice(&number.to_le_bytes());
    }
    let mut random = [0u8; 40];
    let failed = |what: &str| ClientError::Options(format!("the key cannot be sealed: {what}"));
    getrandom::fill(&mut random).map_err(|_| failed("the system has no randomness"))?;
    head.extend_from_slice(&random);
    let cipher = cipher(&head, passphrase).ok_or_else(|| failed("the passphrase is refused"))?;
    let payload = Payload { msg: secret, aad: &head };
    let nonce = XNonce::from_slice(&head[33..HEAD]);
    let sealed = cipher.encrypt(nonce, payload).map_err(|_| failed("it is too large"))?;
    Ok([head, sealed].concat())
}

/// What was sealed; `None` for another passphrase or altered bytes.
fn unseal(sealed: &[u8], passphrase: &Passphrase) -> Option<Zeroizing<Vec<u8>>> {
    let (head, body) = sealed.split_at_checked(HEAD)?;
    head.starts_with(MAGIC).then_some(())?;
    let payload = Payload { msg: body, aad: head };
    let open = cipher(head, passphrase)?.decrypt(XNonce::from_slice(&head[33..HEAD]), payload).ok()?;
    Some(Zeroizing::new(open))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_bytes_open_under_their_passphrase_only_and_unaltered_only() {
        let passphrase = Zeroizing::new("correct horse".to_owned());
        let sealed = seal(b"secret bytes", &passphrase).unwrap();
        assert!(!sealed.windows(6).any(|w| w == b"secret"));
        assert_eq!(unseal(&sealed, &passphrase).unwrap().as_slice(), b"secret bytes");
        assert!(unseal(&sealed, &Zeroizing::new("wrong".to_owned())).is_none());
        for at in [0, 4, 20, 40, HEAD, sealed.len() - 1] {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert!(unseal(&altered, &passphrase).is_none(), "byte {at}");
        }
        let mut greedy = sealed.clone();
        greedy[5..9].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(unseal(&greedy, &passphrase).is_none());
        assert!(unseal(&sealed[..HEAD - 1], &passphrase).is_none());
    }
}
