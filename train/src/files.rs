//! Files that are either whole or absent: written under a temporary name in the same folder, synced, renamed.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

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
    write_to_disk(file.as_file_mut(), bytes).map_err(TrainError::io(path, "write the file to disk"))?;
    file.persist(path).map_err(|e| TrainError::io(path, "rename the finished file")(e.error))?;
    Ok(())
}

/// Returns once the bytes have left every cache.
fn write_to_disk(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_is_told_with_what_to_do() {
        let mut full = File::options().write(true).open("/dev/full").unwrap();
        let reason = write_to_disk(&mut full, b"a checkpoint").unwrap_err();
        assert_eq!(reason.kind(), io::ErrorKind::StorageFull);
        let text = TrainError::io("run/last.safetensors", "write the file to disk")(reason).to_string();
        assert!(text.contains("last.safetensors: could not write the file to disk: No space left"), "{text}");
        assert!(text.contains("nothing that was there before is lost: make room"), "{text}");
    }

    #[test]
    fn what_was_there_stays_if_the_new_file_cannot_be_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/file");
        write_atomically(&path, b"old").unwrap();
        // A folder where the file should be renamed to.
        fs::create_dir_all(folder.path().join("b/file/inner")).unwrap();
        let refused = write_atomically(&folder.path().join("b/file"), b"new").unwrap_err().to_string();
        assert!(refused.contains("rename the finished file"), "{refused}");
        assert_eq!(fs::read_dir(folder.path().join("b")).unwrap().count(), 1, "no temporary file stays");
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }
}
