//! Files of the service and of the clinic: whole under their final names, in folders that are there already.
//!
//! A folder that is gone means that its job or key was taken away meanwhile: nothing is written then, where [`durable`] alone
//! would make the folder again.

use std::io;
use std::path::Path;

pub use durable::read;

/// Writes a file, so that after a crash there is either the old content or the new.
///
/// # Errors
/// What the file system says, also of a folder that is not there.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    folder_of(path).metadata()?;
    Ok(durable::write(path, bytes)?)
}

/// As [`write()`], readable by the owner alone from the first byte on.
///
/// # Errors
/// As [`write()`].
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    folder_of(path).metadata()?;
    Ok(durable::write_private(path, bytes)?)
}

/// Makes the names in a folder survive a power cut.
///
/// # Errors
/// What the file system says.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    Ok(durable::sync_folder(folder)?)
}

/// Makes a folder that only its owner can enter. One that is there keeps its mode.
///
/// # Errors
/// What the file system says.
pub fn private_folder(folder: &Path) -> io::Result<()> {
    Ok(durable::private_folder(folder)?)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_was_taken_away_does_not_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let job = folder.path().join("job");
        private_folder(&job).unwrap();
        write(&job.join("outcome"), b"one").unwrap();
        write_private(&job.join("outcome"), b"two").unwrap();
        assert_eq!(read(&job.join("outcome"), 3).unwrap(), b"two");
        std::fs::remove_dir_all(&job).unwrap();
        assert_eq!(write(&job.join("outcome"), b"late").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(!job.exists());
    }
}
