//! What can go wrong on the clinic's side.

use he_runtime::RuntimeError;

/// Errors of the client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The service refused.
    #[error("the service refused ({code}): {message}")]
    Refused {
        /// Status of the answer.
        status: u16,
        /// For programs.
        code: String,
        /// For people.
        message: String,
    },
    /// The service cannot be reached, after all retries.
    #[error("{url} cannot be reached: {reason}; check the address and that the service runs")]
    Unreachable {
        /// The address.
        url: String,
        /// What happened last.
        reason: String,
    },
    /// The service answered something that this program does not understand.
    #[error("the service's answer is not what was expected: {0}")]
    Answer(String),
    /// The address, the token or a certificate is refused.
    #[error("{0}")]
    Options(String),
    /// The service wants parameters that are not secure.
    #[error("the service's model has insecure parameters, which are for tests only: do not send films to it")]
    Insecure,
    /// A job failed or was cancelled.
    #[error("the job ended without a result ({code}): {message}")]
    Job {
        /// For programs.
        code: String,
        /// For people.
        message: String,
    },
    /// The result decrypts to what no film gives.
    #[error(
        "the result decrypts to {value:.3e}, far outside of the model's range ({limit:.1}): the service used other evaluation keys or computed something else; enrol again"
    )]
    Implausible {
        /// The number.
        value: f64,
        /// Largest magnitude that is believed.
        limit: f64,
    },
    /// The file system said no.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What happened.
        source: std::io::Error,
    },
    /// The vault is not what it should be.
    #[error("{path}: {reason}")]
    Vault {
        /// The file.
        path: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// From the runtime.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

impl ClientError {
    pub(crate) fn io(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.display().to_string();
        move |source| Self::Io { path, source }
    }
}
