//! Evaluation keys on disk: uploaded once, in parts that can be resumed, checked before they count.

use std::fs::{self, File};
use std::io::{self, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use he_protocol::api::{KeyRequest, KeyStatus};
use he_protocol::{Digest, Name, files};
use serde::{Deserialize, Serialize};

use crate::config::Limits;
use crate::error::ApiError;
use crate::store::{Store, entries, id_of, older};

/// What an upload was begun for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Meta {
    model: Name,
    bytes: u64,
}

/// The keys of all clients.
#[derive(Debug, Clone)]
pub struct KeyStore {
    store: Store,
}

impl KeyStore {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    fn client(&self, client: &Name) -> PathBuf {
        self.store.part("keys").join(client.as_str())
    }

    fn folder(&self, client: &Name, digest: &Digest) -> PathBuf {
        self.client(client).join(digest.as_str())
    }

    /// The file of checked keys, and the model they are for.
    #[must_use]
    pub fn complete_file(&self, client: &Name, digest: &Digest) -> Option<(PathBuf, Name)> {
        let folder = self.folder(client, digest);
        let file = folder.join("evaluation.keys");
        (file.exists()).then(|| Some((file, meta(&folder)?.model))).flatten()
    }

    /// How far an upload is.
    ///
    /// # Errors
    /// There is none.
    pub fn status(&self, client: &Name, digest: &Digest) -> Result<KeyStatus, ApiError> {
        let folder = self.folder(client, digest);
        let Meta { model, bytes } = meta(&folder).ok_or_else(|| ApiError::not_found("set of keys"))?;
        let complete = folder.join("evaluation.keys").exists();
        let part = fs::metadata(folder.join("part")).map_or(0, |m| m.len());
        let received = if complete { bytes } else { part };
        Ok(KeyStatus { model, digest: digest.clone(), bytes, received, complete })
    }

    /// All sets of a client.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn list(&self, client: &Name) -> Result<Vec<KeyStatus>, ApiError> {
        let mut digests: Vec<Digest> =
            entries(&self.client(client))?.iter().filter_map(|p| id_of(p)).collect();
        digests.sort();
        Ok(digests.iter().filter_map(|d| self.status(client, d).ok()).collect())
    }

    /// Begins an upload, or finds the one that was begun.
    ///
    /// # Errors
    /// The client's room is used up, or the same digest was announced differently.
    pub fn begin(&self, client: &Name, request: &KeyRequest, limits: &Limits) -> Result<KeyStatus, ApiError> {
        let _lock = self.store.lock()?;
        let wanted = Meta { model: request.model.clone(), bytes: request.bytes };
        let folder = self.folder(client, &request.digest);
        if let Some(found) = meta(&folder) {
            if found != wanted {
                return Err(ApiError::conflict(
                    "other_upload",
                    format!(
                        "keys of this digest were announced for model {} with {} bytes: delete them first",
                        found.model, found.bytes
                    ),
                ));
            }
            return self.status(client, &request.digest);
        }
        let used = |folder: &Path| -> Result<(usize, u64), ApiError> {
            let sets: Vec<Meta> = entries(folder)?.iter().filter_map(|p| meta(p)).collect();
            Ok((sets.len(), sets.iter().map(|m| m.bytes).sum()))
        };
        let (sets, bytes) = used(&self.client(client))?;
        if sets >= limits.key_sets_per_client
            || request.bytes > limits.key_bytes_per_client.saturating_sub(bytes)
        {
            let (most, room) = (limits.key_sets_per_client, limits.key_bytes_per_client);
            return Err(ApiError::refused(
                "too_many_keys",
                format!(
                    "{sets} sets of keys with {bytes} bytes are here; a client may keep {most} sets and {room} bytes: delete one first"
                ),
            ));
        }
        let mut all = 0;
        for other in entries(&self.store.part("keys"))? {
            all += used(&other)?.1;
        }
        if request.bytes > limits.key_bytes.saturating_sub(all) {
            let message = "the service has no room for more keys: ask its operator";
            return Err(ApiError::new(axum::http::StatusCode::INSUFFICIENT_STORAGE, "storage_full", message));
        }
        files::private_folder(&self.client(client))?;
        let temp = self.store.temp()?;
        files::private_folder(&temp)?;
        File::create(temp.join("part"))?.sync_all()?;
        files::write(&temp.join("meta.json"), &serde_json::to_vec(&wanted).map_err(io::Error::from)?)?;
        fs::rename(&temp, &folder)?;
        files::sync_folder(&self.client(client))?;
        self.status(client, &request.digest)
    }

    /// Appends a part at `offset`, which must be where the upload is.
    ///
    /// # Errors
    /// Another offset is expected, the upload is not there, or another request is writing to it.
    pub fn append(
        &self,
        client: &Name,
        digest: &Digest,
        offset: u64,
        bytes: &[u8],
    ) -> Result<KeyStatus, ApiError> {
        let status = self.status(client, digest)?;
        if status.complete {
            return Err(ApiError::conflict("complete", "these keys are complete"));
        }
        let mut part = self.open_part(client, digest)?;
        let received = part.metadata()?.len();
        if offset != received {
            return Err(ApiError::conflict(
                "wrong_offset",
                format!("the next part begins at byte {received}, this one at {offset}"),
            ));
        }
        if bytes.len() as u64 > status.bytes - received.min(status.bytes) {
            let announced = status.bytes;
            return Err(ApiError::refused(
                "too_large",
                format!("the part ends after the {announced} bytes announced"),
            ));
        }
        part.seek(io::SeekFrom::Start(received))?;
        part.write_all(bytes)?;
        part.sync_data()?;
        Ok(KeyStatus { received: received + bytes.len() as u64, ..status })
    }

    fn open_part(&self, client: &Name, digest: &Digest) -> Result<File, ApiError> {
        let missing = |_| ApiError::not_found("upload");
        let path = self.folder(client, digest).join("part");
        let part = File::options().read(true).write(true).open(path).map_err(missing)?;
        part.try_lock()
            .map_err(|_| ApiError::conflict("busy", "another request is writing to this upload"))?;
        Ok(part)
    }

    /// Checks an upload and makes it count. `check` reads the file as keys for the model; what it refuses is removed.
    ///
    /// # Errors
    /// Bytes are missing, the digest is another, or `check` refuses.
    pub fn complete(
        &self,
        client: &Name,
        digest: &Digest,
        check: impl FnOnce(&Path, &Name) -> Result<(), ApiError>,
    ) -> Result<KeyStatus, ApiError> {
        let status = self.status(client, digest)?;
        if status.complete {
            return Ok(status);
        }
        let mut part = self.open_part(client, digest)?;
        if status.received != status.bytes {
            let KeyStatus { received, bytes, .. } = status;
            return Err(ApiError::conflict("incomplete", format!("{received} of {bytes} bytes are here")));
        }
        let folder = self.folder(client, digest);
        part.rewind()?;
        let found = Digest::read(&part)?;
        let refused = if &found == digest {
            check(&folder.join("part"), &status.model).err()
        } else {
            let message = format!("the bytes have digest {found}, announced was {digest}: upload again");
            Some(ApiError::refused("digest_mismatch", message))
        };
        if let Some(error) = refused {
            // A failure of ours is no reason to make the client upload again.
            if error.status.is_client_error() {
                self.store.discard(&folder)?;
            }
            return Err(error);
        }
        fs::rename(folder.join("part"), folder.join("evaluation.keys"))?;
        files::sync_folder(&folder)?;
        Ok(KeyStatus { complete: true, ..status })
    }

    /// Removes a set of keys, complete or not.
    ///
    /// # Errors
    /// There is none.
    pub fn delete(&self, client: &Name, digest: &Digest) -> Result<(), ApiError> {
        let folder = self.folder(client, digest);
        meta(&folder).ok_or_else(|| ApiError::not_found("set of keys"))?;
        Ok(self.store.discard(&folder)?)
    }

    /// Removes uploads that do not go on.
    ///
    /// # Errors
    /// A folder cannot be read.
    pub fn sweep(&self, limits: &Limits) -> io::Result<()> {
        let age = Duration::from_secs(limits.upload_hours * 3600);
        for client in entries(&self.store.part("keys"))? {
            for folder in entries(&client)? {
                let part = folder.join("part");
                if part.exists() && older(&part, age) {
                    tracing::info!("an upload of keys that did not go on is removed");
                    self.store.discard(&folder)?;
                }
            }
        }
        Ok(())
    }
}

fn meta(folder: &Path) -> Option<Meta> {
    serde_json::from_slice(&files::read(&folder.join("meta.json"), 4096).ok()?).ok()
}
