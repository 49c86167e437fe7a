//! Refusals, as clients read them, and failures, as operators do.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use he_protocol::api::ErrorBody;
use he_runtime::RuntimeError;

/// Why the service cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The file system or the network said no.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// What happened.
        source: std::io::Error,
    },
    /// A package is refused.
    #[error(transparent)]
    Package(#[from] he_protocol::PackageError),
    /// A model cannot be made concrete.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// A certificate or key is refused.
    #[error("TLS: {0}")]
    Tls(String),
    /// The configuration contradicts itself.
    #[error("{0}")]
    Config(String),
}

impl ServiceError {
    /// Says what was being done.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { what: what.into(), source }
    }
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// Status of the answer.
    pub status: StatusCode,
    /// For programs.
    pub code: &'static str,
    /// For people.
    pub message: String,
    /// Seconds after which another try makes sense.
    pub retry_after: Option<u64>,
}

impl ApiError {
    /// A refusal.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after: None }
    }

    /// 404.
    pub fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("there is no such {what} of this client"))
    }

    /// 409.
    pub fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, message)
    }

    /// 422: understood, and refused.
    pub fn refused(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, message)
    }

    /// 429, with the seconds to wait.
    pub fn too_many(code: &'static str, message: impl Into<String>, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..Self::new(StatusCode::TOO_MANY_REQUESTS, code, message) }
    }

    /// 500: logged in full, told without paths.
    pub fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "internal error");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the service could not do this; its log says why",
        )
    }

    /// What the runtime refused, without the service's paths.
    pub fn from_runtime(error: &RuntimeError) -> Self {
        let (code, message) = match error {
            RuntimeError::Malformed { what, reason, .. } => {
                ("malformed", format!("this is not a valid {what}: {reason}"))
            }
            RuntimeError::OtherModel { .. } => ("other_model", error.to_string()),
            RuntimeError::OtherKey { .. } => ("other_key", error.to_string()),
            RuntimeError::MissingKeys { .. } => ("missing_keys", error.to_string()),
            RuntimeError::Ciphertext { .. } => ("ciphertext", error.to_string()),
            RuntimeError::Ckks(inner) => ("malformed", inner.to_string()),
            other => return Self::internal(other),
        };
        Self::refused(code, message)
    }

    /// The body.
    pub fn body(&self) -> ErrorBody {
        ErrorBody { code: self.code.into(), message: self.message.clone() }
    }
}

impl From<std::io::Error> for ApiError {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::StorageFull {
            tracing::error!("the disk is full");
            let status = StatusCode::INSUFFICIENT_STORAGE;
            return Self::new(status, "storage_full", "the service has no room on disk: try later");
        }
        Self::internal(&error)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = Json(self.body());
        let mut response = (self.status, body).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
