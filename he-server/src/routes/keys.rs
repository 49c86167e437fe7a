//! Uploads of evaluation keys.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use he_protocol::Digest;
use he_protocol::api::KeyRequest;

use super::{App, Client, answer, blocking, body_slot, id, json};
use crate::error::ApiError;
use crate::limits::read_body;

pub(super) async fn list(State(app): State<App>, Client(client): Client) -> Response {
    let (store, name) = (app.keys.clone(), client.clone());
    answer(client, blocking(move || store.list(&name)).await.map(Json))
}

pub(super) async fn begin(State(app): State<App>, Client(client): Client, body: Body) -> Response {
    let begun = async {
        let _slot = body_slot(&app, &client)?;
        let request: KeyRequest = json(&app, body).await?;
        app.engine.model(&request.model)?;
        if request.bytes == 0 {
            return Err(ApiError::refused("malformed", "keys of 0 bytes"));
        }
        let (app, client) = (Arc::clone(&app), client.clone());
        blocking(move || app.keys.begin(&client, &request, &app.limits)).await
    };
    let begun = begun.await;
    answer(client, begun.map(Json))
}

pub(super) async fn status(
    State(app): State<App>,
    Client(client): Client,
    Path(digest): Path<String>,
) -> Response {
    let status = id(&digest).and_then(|digest| app.keys.status(&client, &digest));
    answer(client, status.map(Json))
}

pub(super) async fn part(
    State(app): State<App>,
    Client(client): Client,
    Path((digest, offset)): Path<(String, String)>,
    body: Body,
) -> Response {
    let appended = async {
        let digest: Digest = id(&digest)?;
        let bad =
            |_| ApiError::new(StatusCode::BAD_REQUEST, "bad_identifier", "the offset is no number of bytes");
        let offset: u64 = offset.parse().map_err(bad)?;
        // Before the body is read: an upload that is not there, or is elsewhere, costs nothing.
        let at = app.keys.status(&client, &digest)?;
        if at.received != offset {
            let message = format!("the next part begins at byte {}, this one at {offset}", at.received);
            return Err(ApiError::conflict("wrong_offset", message));
        }
        let _slot = body_slot(&app, &client)?;
        let bytes = read_body(body, app.limits.part_bytes, &app.limits).await?;
        let (app, client) = (Arc::clone(&app), client.clone());
        blocking(move || app.keys.append(&client, &digest, offset, &bytes)).await
    };
    let appended = appended.await;
    answer(client, appended.map(Json))
}

pub(super) async fn complete(
    State(app): State<App>,
    Client(client): Client,
    Path(digest): Path<String>,
) -> Response {
    let completed = async {
        let digest: Digest = id(&digest)?;
        let (app, client) = (Arc::clone(&app), client.clone());
        blocking(move || {
            app.keys.complete(&client, &digest, |file, model| {
                app.engine.prepare(&client, &digest, model, file).map(drop)
            })
        })
        .await
    };
    let completed = completed.await;
    answer(client, completed.map(Json))
}

pub(super) async fn remove(
    State(app): State<App>,
    Client(client): Client,
    Path(digest): Path<String>,
) -> Response {
    let removed = async {
        let digest: Digest = id(&digest)?;
        let (app, client) = (Arc::clone(&app), client.clone());
        blocking(move || {
            app.keys.delete(&client, &digest)?;
            app.engine.forget(&client, &digest);
            Ok(StatusCode::NO_CONTENT)
        })
        .await
    };
    let removed = removed.await;
    answer(client, removed)
}
