//! Jobs: submit, follow, fetch, cancel.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use he_protocol::api::{IDEMPOTENCY_KEY, JobQuery, JobStatus, LEASE_SECONDS};
use he_protocol::{JobId, Name};
use he_runtime::{EncryptedTensor, ServerKeys};

use super::{App, Client, answer, blocking, body_slot, id};
use crate::error::ApiError;
use crate::jobs::Record;
use crate::limits::read_to_file;
use crate::store::TempFile;

/// How often a followed job is looked at.
const LOOK: Duration = Duration::from_millis(200);

pub(super) async fn list(State(app): State<App>, Client(client): Client) -> Response {
    let (jobs, name) = (app.jobs.clone(), client.clone());
    answer(client, blocking(move || jobs.list(&name)).await.map(Json))
}

fn bad(message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "bad_request", message)
}

/// The idempotency key and the seconds of the lease.
fn headers(app: &super::State, headers: &HeaderMap) -> Result<(String, u64), ApiError> {
    let text = |name| headers.get(name).map(|v| v.to_str().unwrap_or("?"));
    let key = text(IDEMPOTENCY_KEY).unwrap_or_default();
    if !(16..=128).contains(&key.len()) || !key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Err(bad(format!(
            "expected a header `{IDEMPOTENCY_KEY}` of 16 to 128 letters, digits and '-', drawn at random for each submission"
        )));
    }
    let most = app.limits.lease_seconds;
    let lease = match text(LEASE_SECONDS) {
        None => most,
        Some(given) => match given.parse() {
            Ok(seconds @ 2..) => most.min(seconds),
            _ => return Err(bad(format!("expected 2 to {most} seconds in `{LEASE_SECONDS}`"))),
        },
    };
    Ok((key.into(), lease))
}

pub(super) async fn submit(
    State(app): State<App>,
    Client(client): Client,
    query: Result<Query<JobQuery>, QueryRejection>,
    head: HeaderMap,
    body: Body,
) -> Response {
    let submitted = accept(&app, &client, query, &head, body).await;
    answer(client, submitted.map(|status| (StatusCode::ACCEPTED, Json(status))))
}

async fn accept(
    app: &App,
    client: &Name,
    query: Result<Query<JobQuery>, QueryRejection>,
    head: &HeaderMap,
    body: Body,
) -> Result<JobStatus, ApiError> {
    let Query(query) = query.map_err(|e| bad(e.body_text()))?;
    let (key, lease_seconds) = headers(app, head)?;
    if *app.stopping.borrow() {
        let message = "the service is ending: try again in a moment";
        let error = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", message);
        return Err(ApiError { retry_after: Some(5), ..error });
    }
    let limit = crate::engine::Engine::latent_bytes(app.engine.model(&query.model)?);
    let missing = || {
        ApiError::refused(
            "no_keys",
            "there are no complete evaluation keys of this digest: upload them first",
        )
    };
    let (keys_file, keys_model) = app.keys.complete_file(client, &query.keys).ok_or_else(missing)?;
    if keys_model != query.model {
        let message = format!("these evaluation keys were uploaded for the model {keys_model}");
        return Err(ApiError::refused("other_model", message));
    }
    let slot = body_slot(app, client)?;
    let temp = TempFile(app.store.temp()?);
    let latent = read_to_file(body, limit, &app.limits, temp.0.clone()).await?;
    drop(slot);
    let id = JobId::of(client, &key);
    let record =
        Record { id, client: client.clone(), model: query.model, keys: query.keys, latent, lease_seconds };
    let app = Arc::clone(app);
    blocking(move || {
        let offered = app.engine.model(&record.model)?;
        let refused = |e| ApiError::from_runtime(&e);
        let tensor = EncryptedTensor::load_latent(&offered.parameters, &temp.0).map_err(refused)?;
        let key = ServerKeys::identity_in(&keys_file).map_err(refused)?;
        tensor.check_latent(&offered.spec, &key).map_err(refused)?;
        drop(tensor);
        if app.jobs.submit(&record, &temp, &app.limits)? {
            app.metrics.accepted.add(1);
            app.engine.wake();
        }
        app.jobs.status(&record.client, &record.id)
    })
    .await
}

pub(super) async fn status(
    State(app): State<App>,
    Client(client): Client,
    Path(job): Path<String>,
) -> Response {
    let status = id(&job).and_then(|job| app.jobs.status(&client, &job));
    answer(client, status.map(Json))
}

pub(super) async fn events(
    State(app): State<App>,
    Client(client): Client,
    Path(job): Path<String>,
) -> Response {
    let stream = (|| {
        let job: JobId = id(&job)?;
        let first = app.jobs.status(&client, &job)?;
        let most = app.limits.streams_per_client;
        let slot = app.streams.take(&client, most).ok_or_else(|| {
            ApiError::too_many(
                "too_many_streams",
                format!("{most} jobs of this client are followed at once"),
                1,
            )
        })?;
        let start = (Arc::clone(&app), client.clone(), job, Some(first), None::<JobStatus>, slot);
        let stream =
            futures_util::stream::unfold(start, |(app, client, job, first, mut last, slot)| async move {
                if last.as_ref().is_some_and(|l| l.state.is_final()) {
                    return None;
                }
                let mut next = first;
                loop {
                    let status = match next.take() {
                        Some(status) => status,
                        None => {
                            let mut stopping = app.stopping.subscribe();
                            tokio::select! {
                                () = tokio::time::sleep(LOOK) => {}
                                _ = stopping.wait_for(|s| *s) => return None,
                            }
                            let (app, client, job) = (Arc::clone(&app), client.clone(), job.clone());
                            blocking(move || app.jobs.status(&client, &job)).await.ok()?
                        }
                    };
                    if last.as_ref() != Some(&status) {
                        let event = Event::default().event("status").json_data(&status).ok()?;
                        last = Some(status);
                        return Some((Ok::<_, Infallible>(event), (app, client, job, None, last, slot)));
                    }
                }
            });
        let alive = KeepAlive::new().interval(Duration::from_secs(10));
        Ok(Sse::new(stream).keep_alive(alive).into_response())
    })();
    answer(client, stream)
}

pub(super) async fn result(
    State(app): State<App>,
    Client(client): Client,
    Path(job): Path<String>,
) -> Response {
    let file = async {
        let job: JobId = id(&job)?;
        let (app, client) = (Arc::clone(&app), client.clone());
        let file = blocking(move || app.jobs.result(&client, &job)).await?;
        super::models::send(tokio::fs::File::from_std(file)).await
    };
    let file = file.await;
    answer(client, file)
}

pub(super) async fn remove(
    State(app): State<App>,
    Client(client): Client,
    Path(job): Path<String>,
) -> Response {
    let removed = async {
        let job: JobId = id(&job)?;
        let (app, client) = (Arc::clone(&app), client.clone());
        blocking(move || app.jobs.delete(&client, &job)).await
    };
    let removed = removed.await;
    answer(client, removed.map(|()| StatusCode::NO_CONTENT))
}
