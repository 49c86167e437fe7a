//! Files that are either whole or absent, by [`durable`].

use std::path::Path;

use crate::Result;

/// Writes `bytes` to `path`, making its folder if need be.
///
/// # Errors
///
/// As [`durable::write()`].
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    Ok(durable::write(path, bytes)?)
}
