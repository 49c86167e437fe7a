//! What is public about the models.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use he_protocol::Name;

use super::{App, Client, answer, id};
use crate::error::ApiError;

pub(super) async fn list(State(app): State<App>, Client(client): Client) -> Response {
    answer(client, Ok(Json(app.engine.list())))
}

pub(super) async fn describe(
    State(app): State<App>,
    Client(client): Client,
    Path(model): Path<String>,
) -> Response {
    let described = id::<Name>(&model).and_then(|name| app.engine.describe(&name));
    answer(client, described.map(Json))
}

pub(super) async fn encoder(
    State(app): State<App>,
    Client(client): Client,
    Path(model): Path<String>,
) -> Response {
    let file = async {
        let path = app.engine.model(&id(&model)?)?.package.encoder_path();
        let path = path.ok_or_else(|| ApiError::not_found("encoder"))?;
        send(tokio::fs::File::open(path).await?).await
    };
    answer(client, file.await)
}

/// A file as the body of an answer, read as fast as the client takes it.
pub(crate) async fn send(file: tokio::fs::File) -> Result<Response, ApiError> {
    let length = file.metadata().await?.len();
    let chunks = futures_util::stream::try_unfold(file, |mut file| async move {
        use tokio::io::AsyncReadExt as _;
        let mut buffer = vec![0; 256 << 10];
        let n = file.read(&mut buffer).await?;
        buffer.truncate(n);
        Ok::<_, std::io::Error>((n > 0).then_some((buffer, file)))
    });
    let head = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, length.to_string()),
    ];
    Ok((head, Body::from_stream(chunks)).into_response())
}
