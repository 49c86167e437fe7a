//! What travels between client and server, and lies in files.
//!
//! Each message is `magic "VRHE" | version u16 | kind u8 | model digest | key identity | count u32`, then that many objects
//! in the scheme's own checked format. The key identity is the digest of the public key, so results, ciphertexts and
//! evaluation keys that do not belong together are told apart before any of them is used.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;

use durable::Access;

use ckks::{Ciphertext, EvaluationKeys, Parameters, PublicKey, Wire};

use crate::RuntimeError;
use crate::circuit::ClientSpec;
use crate::error::short;

const MAGIC: &[u8; 4] = b"VRHE";
const VERSION: u16 = 1;
/// More ciphertexts than any latent needs.
const MAX_CIPHERTEXTS: u32 = 1 << 12;

/// Identifies a key pair: the digest of its public key.
pub type KeyIdentity = [u8; 32];

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Latent = 1,
    Logits = 2,
    EvaluationKeys = 3,
    PublicKey = 4,
    #[cfg(feature = "client")]
    ClientKeys = 5,
}

impl Kind {
    /// Who may read a file of it: that of a secret key its owner alone, from the first byte on.
    fn access(self) -> Access {
        match self {
            #[cfg(feature = "client")]
            Self::ClientKeys => Access::Private,
            _ => Access::Shared,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Latent => "encrypted latent",
            Self::Logits => "encrypted result",
            Self::EvaluationKeys => "file of evaluation keys",
            Self::PublicKey => "public key",
            #[cfg(feature = "client")]
            Self::ClientKeys => "file of client keys",
        }
    }
}

/// The head of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) model: [u8; 32],
    pub(crate) key: KeyIdentity,
    pub(crate) count: u32,
}

/// Writes a file: to a temporary name beside it, synced, then renamed.
pub(crate) fn write_file(
    path: &Path,
    header: Header,
    body: impl FnOnce(&mut BufWriter<&File>) -> Result<(), RuntimeError>,
) -> Result<(), RuntimeError> {
    let io = |source| RuntimeError::Io { path: path.display().to_string(), source };
    let mut head = Vec::with_capacity(75);
    head.extend_from_slice(MAGIC);
    head.extend_from_slice(&VERSION.to_le_bytes());
    head.push(header.kind as u8);
    head.extend_from_slice(&header.model);
    head.extend_from_slice(&header.key);
    head.extend_from_slice(&header.count.to_le_bytes());
    durable::write_with(path, header.kind.access(), |to| {
        to.write_all(&head).map_err(io)?;
        body(to)
    })
}

/// Opens a file and reads its head.
pub(crate) fn read_file(path: &Path, kind: Kind) -> Result<(Header, BufReader<File>), RuntimeError> {
    let shown = || path.display().to_string();
    let io = |source| RuntimeError::Io { path: shown(), source };
    let malformed =
        |reason: &str| RuntimeError::Malformed { path: shown(), what: kind.name(), reason: reason.into() };
    let mut from = BufReader::with_capacity(1 << 20, File::open(path).map_err(io)?);
    let mut head = [0u8; 75];
    from.read_exact(&mut head).map_err(|_| malformed("it is too short"))?;
    let part = |at: usize| <[u8; 32]>::try_from(&head[at..at + 32]).unwrap_or([0; 32]);
    if &head[..4] != MAGIC {
        return Err(malformed("it does not start with VRHE"));
    }
    if head[4..6] != VERSION.to_le_bytes() {
        return Err(malformed("it was written by another version of this program"));
    }
    if head[6] != kind as u8 {
        return Err(malformed("it holds something else"));
    }
    let count = u32::from_le_bytes([head[71], head[72], head[73], head[74]]);
    if count > MAX_CIPHERTEXTS {
        return Err(malformed("it claims more objects than any model has"));
    }
    Ok((Header { kind, model: part(7), key: part(39), count }, from))
}

/// Makes sure that nothing follows.
pub(crate) fn finish(path: &Path, kind: Kind, mut from: impl Read) -> Result<(), RuntimeError> {
    match from.read(&mut [0u8; 1]) {
        Ok(0) => Ok(()),
        _ => Err(RuntimeError::Malformed {
            path: path.display().to_string(),
            what: kind.name(),
            reason: "bytes are left over at its end".into(),
        }),
    }
}

/// Adds the file's name to an error of the scheme.
pub(crate) fn named(path: &Path, kind: Kind) -> impl Fn(ckks::Error) -> RuntimeError {
    move |e| RuntimeError::Malformed {
        path: path.display().to_string(),
        what: kind.name(),
        reason: e.to_string(),
    }
}

/// An encrypted latent or encrypted logits.
#[derive(Debug, Clone)]
pub struct EncryptedTensor {
    pub(crate) kind: Kind,
    pub(crate) model: [u8; 32],
    pub(crate) key: KeyIdentity,
    pub(crate) ciphertexts: Vec<Ciphertext>,
}

impl EncryptedTensor {
    /// Identity of the key it was made with.
    #[must_use]
    pub fn key(&self) -> KeyIdentity {
        self.key
    }

    /// Bytes in memory, which is about the size of its file.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.ciphertexts.iter().map(Ciphertext::bytes).sum()
    }

    /// Writes the file.
    ///
    /// # Errors
    /// What the file system says.
    pub fn save(&self, parameters: &Parameters, path: &Path) -> Result<(), RuntimeError> {
        let count = self.ciphertexts.len() as u32;
        let header = Header { kind: self.kind, model: self.model, key: self.key, count };
        write_file(path, header, |to| {
            self.ciphertexts.iter().try_for_each(|c| c.write_to(parameters, &mut *to)).map_err(Into::into)
        })
    }

    /// Reads an encrypted latent.
    ///
    /// # Errors
    /// A file that is cut short, altered, or made for other parameters.
    pub fn load_latent(parameters: &Parameters, path: &Path) -> Result<Self, RuntimeError> {
        Self::load(parameters, path, Kind::Latent)
    }

    /// Reads encrypted logits.
    ///
    /// # Errors
    /// A file that is cut short, altered, or made for other parameters.
    pub fn load_logits(parameters: &Parameters, path: &Path) -> Result<Self, RuntimeError> {
        Self::load(parameters, path, Kind::Logits)
    }

    fn load(parameters: &Parameters, path: &Path, kind: Kind) -> Result<Self, RuntimeError> {
        let (header, mut from) = read_file(path, kind)?;
        let read = |_| Ciphertext::read_from(parameters, &mut from);
        let ciphertexts = (0..header.count).map(read).collect::<Result<_, _>>().map_err(named(path, kind))?;
        finish(path, kind, from)?;
        Ok(Self { kind, model: header.model, key: header.key, ciphertexts })
    }

    /// Checks, before it waits for its turn, that a latent belongs to this model and key and has the level and scale that
    /// the model expects.
    ///
    /// # Errors
    /// What does not belong together, by name.
    pub fn check_latent(&self, spec: &ClientSpec, key: &KeyIdentity) -> Result<(), RuntimeError> {
        let expected = (spec.input.ciphertexts(), spec.input_level, spec.input_scale);
        self.check(&spec.model_bytes(), key, expected)
    }

    /// Checks that it belongs to this model and key, and has the level and scale that the model expects.
    pub(crate) fn check(
        &self,
        model: &[u8; 32],
        key: &KeyIdentity,
        expected: (usize, usize, f64),
    ) -> Result<(), RuntimeError> {
        let what = self.kind.name();
        if &self.model != model {
            return Err(RuntimeError::OtherModel { what, expected: short(model), got: short(&self.model) });
        }
        if &self.key != key {
            return Err(RuntimeError::OtherKey { what, expected: short(key), got: short(&self.key) });
        }
        let (count, level, scale) = expected;
        let refuse = |reason| Err(RuntimeError::Ciphertext { what, reason });
        if self.ciphertexts.len() != count {
            return refuse(format!("it has {} ciphertexts, expected {count}", self.ciphertexts.len()));
        }
        for c in &self.ciphertexts {
            if c.level() != level {
                return refuse(format!("a ciphertext has level {}, expected {level}", c.level()));
            }
            if (c.scale() / scale - 1.0).abs() > 1e-6 {
                return refuse(format!("a ciphertext has scale {:e}, expected {scale:e}", c.scale()));
            }
        }
        Ok(())
    }
}

/// The keys that the server holds.
#[derive(Debug, Clone)]
pub struct ServerKeys {
    pub(crate) key: KeyIdentity,
    pub(crate) evaluation: EvaluationKeys,
}

impl ServerKeys {
    /// Identity of the key pair they belong to.
    #[must_use]
    pub fn key(&self) -> KeyIdentity {
        self.key
    }

    /// Bytes in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.evaluation.bytes()
    }

    /// Number of keys.
    #[must_use]
    pub fn count(&self) -> usize {
        self.evaluation.galois_keys().count() + self.evaluation.relinearization_keys().len()
    }

    /// Writes the file.
    ///
    /// # Errors
    /// What the file system says.
    pub fn save(&self, parameters: &Parameters, path: &Path) -> Result<(), RuntimeError> {
        let header = Header { kind: Kind::EvaluationKeys, model: [0; 32], key: self.key, count: 1 };
        write_file(path, header, |to| Ok(self.evaluation.write_to(parameters, to)?))
    }

    /// The key pair that a file of evaluation keys says it belongs to, from its head alone.
    ///
    /// # Errors
    /// A file that is no such file.
    pub fn identity_in(path: &Path) -> Result<KeyIdentity, RuntimeError> {
        read_file(path, Kind::EvaluationKeys).map(|(header, _)| header.key)
    }

    /// Reads the file.
    ///
    /// # Errors
    /// A file that is cut short, altered, or made for other parameters.
    pub fn load(parameters: &Parameters, path: &Path) -> Result<Self, RuntimeError> {
        let kind = Kind::EvaluationKeys;
        let (header, mut from) = read_file(path, kind)?;
        let evaluation = EvaluationKeys::read_from(parameters, &mut from).map_err(named(path, kind))?;
        finish(path, kind, from)?;
        Ok(Self { key: header.key, evaluation })
    }
}

/// The public key: all that is needed to encrypt.
#[derive(Debug, Clone)]
pub struct PublicKeyFile {
    pub(crate) key: KeyIdentity,
    pub(crate) public: PublicKey,
}

impl PublicKeyFile {
    pub(crate) fn new(parameters: &Parameters, public: PublicKey) -> Result<Self, RuntimeError> {
        let key = *blake3::hash(&public.to_bytes(parameters)?).as_bytes();
        Ok(Self { key, public })
    }

    /// Identity of the key pair.
    #[must_use]
    pub fn key(&self) -> KeyIdentity {
        self.key
    }

    /// Writes the file.
    ///
    /// # Errors
    /// What the file system says.
    pub fn save(&self, parameters: &Parameters, path: &Path) -> Result<(), RuntimeError> {
        let header = Header { kind: Kind::PublicKey, model: [0; 32], key: self.key, count: 1 };
        write_file(path, header, |to| Ok(self.public.write_to(parameters, to)?))
    }

    /// Reads the file.
    ///
    /// # Errors
    /// A file that is cut short, altered, or made for other parameters.
    pub fn load(parameters: &Parameters, path: &Path) -> Result<Self, RuntimeError> {
        let kind = Kind::PublicKey;
        let (header, mut from) = read_file(path, kind)?;
        let public = PublicKey::read_from(parameters, &mut from).map_err(named(path, kind))?;
        finish(path, kind, from)?;
        let file = Self::new(parameters, public)?;
        if file.key != header.key {
            let reason = "its identity is not that of its key".into();
            return Err(RuntimeError::Malformed {
                path: path.display().to_string(),
                what: kind.name(),
                reason,
            });
        }
        Ok(file)
    }
}
