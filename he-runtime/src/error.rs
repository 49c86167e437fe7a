//! What can go wrong when a model meets keys and ciphertexts.

/// Errors of client and server.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// From the scheme.
    #[error(transparent)]
    Ckks(#[from] ckks::Error),
    /// From the model.
    #[error(transparent)]
    Model(#[from] he_model::ModelError),
    /// The file system said no.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What happened.
        source: std::io::Error,
    },
    /// A file that is not what it should be, or cut short.
    #[error("{path} is not a valid {what}: {reason}")]
    Malformed {
        /// The file.
        path: String,
        /// What was expected.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Made for another model.
    #[error(
        "the {what} was made for another model (model {expected}, {what} for {got}): encrypt again with this model's files"
    )]
    OtherModel {
        /// What.
        what: &'static str,
        /// Digest of the model here, shortened.
        expected: String,
        /// Digest in the message, shortened.
        got: String,
    },
    /// Made with another key.
    #[error(
        "the {what} was made with another key (here {expected}, there {got}): use the keys that encrypted it"
    )]
    OtherKey {
        /// What.
        what: &'static str,
        /// Identity of the key here, shortened.
        expected: String,
        /// Identity in the message, shortened.
        got: String,
    },
    /// Keys that the model needs are not there.
    #[error(
        "the evaluation keys lack {missing} of the {needed} keys that the model needs, the first is {first}: generate keys for this model"
    )]
    MissingKeys {
        /// Number of missing keys.
        missing: usize,
        /// Number of keys needed.
        needed: usize,
        /// The first one, in words.
        first: String,
    },
    /// A tensor of the wrong size.
    #[error("the latent has {got} values, the model reads {expected} ({shape})")]
    Length {
        /// Values expected.
        expected: usize,
        /// Values given.
        got: usize,
        /// The model's input.
        shape: he_model::Shape,
    },
    /// More films than a batch holds, or none.
    #[error("{got} films were given, one run of this model takes 1 to {most}: make batches of that size")]
    Batch {
        /// Films that one run takes.
        most: usize,
        /// Films given.
        got: usize,
    },
    /// A description of a model that no exporter writes.
    #[error("the model's description says that its {what} lies in slots as it cannot: {reason}")]
    Layout {
        /// Latent or result.
        what: &'static str,
        /// What does not fit.
        reason: String,
    },
    /// A value that the model was not calibrated for.
    #[error(
        "the latent holds the value {value}, the model was calibrated for magnitudes up to {limit}: this film is unlike those it was made for"
    )]
    OutOfRange {
        /// The value.
        value: f64,
        /// Largest magnitude.
        limit: f64,
    },
    /// A ciphertext at the wrong level or scale, or too few of them.
    #[error("the {what} does not fit the model: {reason}")]
    Ciphertext {
        /// What.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// The first eight hexadecimal digits of a digest.
pub(crate) fn short(digest: &[u8; 32]) -> String {
    digest.iter().take(4).map(|b| format!("{b:02x}")).collect()
}

impl From<durable::Error> for RuntimeError {
    fn from(error: durable::Error) -> Self {
        Self::Io { path: error.path.display().to_string(), source: error.source }
    }
}
