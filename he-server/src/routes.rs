//! HTTP: the table of routes, who is asking, and the log of requests.

mod jobs;
mod keys;
mod models;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{ConnectInfo, FromRequestParts, MatchedPath, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post, put};
use he_protocol::Name;
use tokio::sync::watch;

use crate::config::Limits;
use crate::engine::Engine;
use crate::error::ApiError;
use crate::jobs::JobStore;
use crate::keys::KeyStore;
use crate::limits::{Held, Rate};
use crate::metrics::{Metrics, resident_bytes};
use crate::store::Store;
use crate::tokens::Tokens;

/// What every request is given.
pub type App = Arc<State>;

/// The service.
pub struct State {
    /// What classifies.
    pub engine: Arc<Engine>,
    /// The queue.
    pub jobs: JobStore,
    /// Evaluation keys.
    pub keys: KeyStore,
    pub(crate) store: Store,
    /// Who may ask.
    pub tokens: Tokens,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Requests by client.
    pub requests: Rate<Name>,
    /// Refused tokens by address.
    pub refusals: Rate<std::net::IpAddr>,
    /// Bodies being read, by client.
    pub bodies: Held<Name>,
    /// Event streams, by client.
    pub streams: Held<Name>,
    /// Every limit.
    pub limits: Limits,
    /// Whether the service is ending.
    pub stopping: watch::Sender<bool>,
}

/// A route: method, path, handler.
pub type Route = (&'static str, &'static str, fn() -> MethodRouter<App>);

/// All routes of the service: the router is made from this table, and `docs/openapi.json` is tested against it.
pub const ROUTES: &[Route] = &[
    ("get", "/v1/models", || get(models::list)),
    ("get", "/v1/models/{model}", || get(models::describe)),
    ("get", "/v1/models/{model}/encoder", || get(models::encoder)),
    ("get", "/v1/keys", || get(keys::list)),
    ("post", "/v1/keys", || post(keys::begin)),
    ("get", "/v1/keys/{digest}", || get(keys::status)),
    ("delete", "/v1/keys/{digest}", || delete(keys::remove)),
    ("put", "/v1/keys/{digest}/parts/{offset}", || put(keys::part)),
    ("post", "/v1/keys/{digest}/complete", || post(keys::complete)),
    ("get", "/v1/jobs", || get(jobs::list)),
    ("post", "/v1/jobs", || post(jobs::submit)),
    ("get", "/v1/jobs/{job}", || get(jobs::status)),
    ("delete", "/v1/jobs/{job}", || delete(jobs::remove)),
    ("get", "/v1/jobs/{job}/events", || get(jobs::events)),
    ("get", "/v1/jobs/{job}/result", || get(jobs::result)),
    ("get", "/v1/openapi.json", || get(openapi)),
    ("get", "/healthz", || get(healthy)),
    ("get", "/readyz", || get(ready)),
];

/// Routes that need no token.
pub const OPEN: &[&str] = &["/v1/openapi.json", "/healthz", "/readyz"];

/// Routes for operators, on their own address.
pub const ADMIN_ROUTES: &[Route] = &[
    ("get", "/metrics", || get(metrics)),
    ("get", "/healthz", || get(healthy)),
    ("get", "/readyz", || get(ready)),
];

/// The OpenAPI description.
pub const OPENAPI: &str = include_str!("../../docs/openapi.json");

/// The service's routes.
pub fn router(app: App) -> Router {
    from_table(ROUTES, app)
}

/// The operators' routes.
pub fn admin_router(app: App) -> Router {
    from_table(ADMIN_ROUTES, app)
}

fn from_table(table: &[Route], app: App) -> Router {
    let mut router = Router::new();
    for (_, path, handler) in table {
        router = router.route(path, handler());
    }
    let log = axum::middleware::from_fn_with_state(Arc::clone(&app), log);
    router.fallback(nothing).layer(log).with_state(app)
}

async fn nothing() -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "no_route",
        "there is nothing here: GET /v1/openapi.json describes the routes",
    )
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

async fn healthy() -> &'static str {
    "ok\n"
}

async fn ready(axum::extract::State(app): axum::extract::State<App>) -> Response {
    if *app.stopping.borrow() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
    }
    "ready\n".into_response()
}

async fn metrics(axum::extract::State(app): axum::extract::State<App>) -> Response {
    let text = app.metrics.render(app.jobs.pending(), resident_bytes());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

/// Counts and logs each request by the pattern of its path: what a client wrote into it, and its token, are not logged.
async fn log(axum::extract::State(app): axum::extract::State<App>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let pattern = request.extensions().get::<MatchedPath>().map(|p| p.as_str().to_owned());
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|c| c.0.ip());
    let response = next.run(request).await;
    let status = response.status().as_u16();
    app.metrics.answers[usize::from(status / 100 - 1).min(4)].add(1);
    let client = response.extensions().get::<Name>().map(Name::as_str).unwrap_or_default();
    let (path, milliseconds) = (pattern.as_deref().unwrap_or("-"), started.elapsed().as_millis() as u64);
    let code = response.extensions().get::<Code>().map_or("", |c| c.0);
    // A flood of refused requests is counted; one line a request is for those of known clients.
    if client.is_empty() {
        tracing::debug!(%method, path, status, code, milliseconds, ?peer, "request");
    } else {
        tracing::info!(%method, path, status, code, milliseconds, client, "request");
    }
    response
}

/// Code of a refusal, for the log.
#[derive(Clone, Copy)]
pub(crate) struct Code(&'static str);

/// The client whose token came with the request.
pub struct Client(pub Name);

impl FromRequestParts<App> for Client {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|c| c.0.ip());
        let peer = peer.ok_or_else(|| ApiError::internal(&"a request without a peer"))?;
        let over = |seconds| {
            app.metrics.over_rate.add(1);
            ApiError::too_many("too_many_requests", format!("too many requests: wait {seconds} s"), seconds)
        };
        app.refusals.check(peer).map_err(over)?;
        let given = parts.headers.get(header::AUTHORIZATION).and_then(|h| h.to_str().ok());
        let token = given.and_then(|h| h.strip_prefix("Bearer "));
        let Some(client) = token.and_then(|t| app.tokens.client(t)) else {
            app.metrics.refused_tokens.add(1);
            let _ = app.refusals.take(peer);
            tracing::debug!(%peer, "a token was refused");
            let message = "expected `Authorization: Bearer TOKEN` with a token of this service: ask its operator for one";
            return Err(ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", message));
        };
        app.requests.take(client.clone()).map_err(over)?;
        Ok(Self(client))
    }
}

/// An answer with the client that it is for, for the log.
pub(crate) fn answer<T: IntoResponse>(client: Name, result: Result<T, ApiError>) -> Response {
    let code = result.as_ref().err().map(|e| e.code);
    let mut response = result.into_response();
    response.extensions_mut().insert(client);
    if let Some(code) = code {
        response.extensions_mut().insert(Code(code));
    }
    response
}

/// An identifier in a path.
pub(crate) fn id<T: std::str::FromStr<Err = he_protocol::IdError>>(text: &str) -> Result<T, ApiError> {
    text.parse().map_err(|e: he_protocol::IdError| {
        ApiError::new(StatusCode::BAD_REQUEST, "bad_identifier", e.to_string())
    })
}

/// Runs what waits for the disk away from the threads that answer.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(|e| ApiError::internal(&e))?
}

/// Leave to read a body.
pub(crate) fn body_slot(app: &State, client: &Name) -> Result<crate::limits::Hold<Name>, ApiError> {
    let most = app.limits.bodies_per_client;
    app.bodies.take(client, most).ok_or_else(|| {
        ApiError::too_many(
            "too_many_bodies",
            format!("{most} uploads of this client run at once: wait for one"),
            1,
        )
    })
}

/// A JSON document of at most 64 KiB.
pub(crate) async fn json<T: serde::de::DeserializeOwned>(
    app: &State,
    body: axum::body::Body,
) -> Result<T, ApiError> {
    let bytes = crate::limits::read_body(body, 64 << 10, &app.limits).await?;
    let bad = |e: serde_json::Error| ApiError::new(StatusCode::BAD_REQUEST, "bad_request", e.to_string());
    serde_json::from_slice(&bytes).map_err(bad)
}
