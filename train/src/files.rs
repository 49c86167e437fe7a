//! Files that are either whole or absent: written under a temporary name in the same folder, synced, renamed.

use std::{fs, io::Write, path::Path};

use crate::{Result, TrainError};

/// Writes `bytes` to `path` atomically, making its folder if need be.
///
/// # Errors
///
/// The folder cannot be made, or the file cannot be written; `path` then holds what it held before.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder).map_err(TrainError::io(folder, "make the folder"))?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".writing-");
    // Temporary files are private by default; these are to be read like any other file, as the umask says.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder).map_err(TrainError::io(folder, "make a temporary file"))?;
    file.write_all(bytes).map_err(TrainError::io(path, "write the file"))?;
    file.as_file().sync_all().map_err(TrainError::io(path, "write the file to disk"))?;
    file.persist(path).map_err(|e| TrainError::io(path, "rename the finished file")(e.error))?;
    Ok(())
}
