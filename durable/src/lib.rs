//! Files that are whole under their final names.
//!
//! A file is written under a temporary name in the folder where it belongs, synced, renamed, and its folder is
//! synced: after a crash, a full disk or an interruption there is either the old content or the new, never half of
//! one. Every crate of the workspace writes through this one, so that there is one place to get it right.
//!
//! ```
//! # let folder = tempfile::tempdir().unwrap();
//! let path = folder.path().join("results/answer.json");
//! durable::write(&path, b"{}").unwrap();
//! assert_eq!(durable::read(&path, 16).unwrap(), b"{}");
//! ```

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// Which step of a write failed, on which path.
#[derive(Debug, thiserror::Error)]
#[error("{}: could not {step}: {source}", path.display())]
pub struct Error {
    /// The file or folder that the step was about.
    pub path: PathBuf,
    /// What was tried, as in "write the file to disk".
    pub step: &'static str,
    /// What the file system says.
    pub source: io::Error,
}

impl Error {
    fn at<'a>(path: &'a Path, step: &'static str) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self { path: path.to_owned(), step, source }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.source.kind(), error)
    }
}

/// What a write of this crate returns.
pub type Result<T> = std::result::Result<T, Error>;

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Whoever the process's umask lets read.
    Shared,
    /// Its owner alone, from the first byte on.
    Private,
}

/// Writes a file, making its folder if need be.
///
/// # Errors
/// The step that failed; `path` then holds what it held before.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_with(path, Access::Shared, |file| file.write_all(bytes).map_err(Error::at(path, WRITE)))
}

/// As [`write()`], readable by the owner alone from the first byte on.
///
/// # Errors
/// As [`write()`].
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    write_with(path, Access::Private, |file| file.write_all(bytes).map_err(Error::at(path, WRITE)))
}

/// As [`write()`], for a file that is written piece by piece.
///
/// # Errors
/// As [`write()`], or what `body` returns; `path` then holds what it held before.
pub fn write_with<E: From<Error>>(
    path: &Path,
    access: Access,
    body: impl FnOnce(&mut BufWriter<&File>) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let temporary = temporary(path, access)?;
    let mut writer = BufWriter::with_capacity(1 << 20, temporary.as_file());
    body(&mut writer)?;
    writer.flush().map_err(Error::at(path, WRITE))?;
    drop(writer);
    Ok(finish(temporary, path)?)
}

/// As [`write()`], for a library that wants to write to a path: `body` gets the temporary one.
///
/// # Errors
/// As [`write_with()`].
pub fn write_by_path<E: From<Error>>(
    path: &Path,
    body: impl FnOnce(&Path) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let temporary = temporary(path, Access::Shared)?;
    body(temporary.path())?;
    // Opened again, because `body` may have put another file under the temporary name.
    let written = temporary.into_temp_path();
    File::open(&written).and_then(|file| file.sync_all()).map_err(Error::at(path, WRITE))?;
    written.persist(path).map_err(|e| Error::at(path, RENAME)(e.error))?;
    Ok(sync_folder(folder_of(path))?)
}

const WRITE: &str = "write the file to disk";
const RENAME: &str = "rename the finished file";

fn temporary(path: &Path, access: Access) -> Result<NamedTempFile> {
    let folder = folder_of(path);
    fs::create_dir_all(folder).map_err(Error::at(folder, "make the folder"))?;
    let mut prefix = OsString::from(".");
    prefix.push(path.file_name().unwrap_or_default());
    prefix.push(".");
    // Names are 255 bytes at most; a long one is told by its random part alone.
    if prefix.len() > 200 {
        prefix = OsString::from(".");
    }
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(".partial");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(match access {
        Access::Shared => 0o666,
        Access::Private => 0o600,
    }));
    #[cfg(not(unix))]
    let _ = access;
    builder.tempfile_in(folder).map_err(Error::at(folder, "make a temporary file"))
}

fn finish(temporary: NamedTempFile, path: &Path) -> Result<()> {
    temporary.as_file().sync_all().map_err(Error::at(path, WRITE))?;
    temporary.persist(path).map_err(|e| Error::at(path, RENAME)(e.error))?;
    sync_folder(folder_of(path))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Moves a file or a folder within one file system, so that the move survives a power cut.
///
/// # Errors
/// The step that failed.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(Error::at(to, "rename"))?;
    sync_folder(folder_of(to))?;
    if folder_of(from) == folder_of(to) { Ok(()) } else { sync_folder(folder_of(from)) }
}

/// Copies a file, so that `to` is either what it was or the whole copy.
///
/// # Errors
/// The step that failed.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    write_with(to, Access::Shared, |file| {
        let mut source = File::open(from).map_err(Error::at(from, "open the file"))?;
        io::copy(&mut source, file).map(drop).map_err(Error::at(to, WRITE))
    })
}

/// Makes the names in a folder survive a power cut.
///
/// # Errors
/// What the file system says.
pub fn sync_folder(folder: &Path) -> Result<()> {
    #[cfg(unix)]
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(Error::at(folder, "sync the folder"))?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

/// Reads a file of at most `limit` bytes.
///
/// # Errors
/// What the file system says; `InvalidData` if it is larger.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("more than {limit} bytes")));
    }
    Ok(bytes)
}

/// Makes a folder, and those above it, that only its owner can enter. A folder that is there keeps its mode.
///
/// # Errors
/// What the file system says.
pub fn private_folder(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(Error::at(folder, "make the folder"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<OsString> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn files_are_replaced_whole_and_private_ones_are_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        write(&path, b"one").unwrap();
        write_private(&path, b"two").unwrap();
        assert_eq!(read(&path, 3).unwrap(), b"two");
        assert_eq!(read(&path, 2).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(names(folder.path()), ["x"], "no temporary file stays");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            let inner = folder.path().join("a/b");
            private_folder(&inner).unwrap();
            assert_eq!(fs::metadata(&inner).unwrap().permissions().mode() & 0o777, 0o700);
            fs::set_permissions(&inner, fs::Permissions::from_mode(0o755)).unwrap();
            private_folder(&inner).unwrap();
            assert_eq!(fs::metadata(&inner).unwrap().permissions().mode() & 0o777, 0o755);
        }
    }

    #[test]
    fn what_was_there_stays_when_a_step_fails() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/file");
        write(&path, b"old").unwrap();
        let refused = write_with(&path, Access::Shared, |file| {
            file.write_all(b"half").map_err(Error::at(&path, WRITE))?;
            Err(Error::at(&path, WRITE)(io::ErrorKind::StorageFull.into()))
        });
        assert_eq!(io::Error::from(refused.unwrap_err()).kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        // A folder where the file should be renamed to.
        fs::create_dir_all(folder.path().join("b/file/inner")).unwrap();
        let refused = write(&folder.path().join("b/file"), b"new").unwrap_err();
        assert_eq!(refused.step, RENAME);
        assert_eq!(names(&folder.path().join("b")), ["file"], "no temporary file stays");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_is_told() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut writer = BufWriter::new(&full);
        let reason = writer.write_all(b"x").and_then(|()| writer.flush()).unwrap_err();
        let text = Error::at(Path::new("run/last"), WRITE)(reason).to_string();
        assert!(text.starts_with("run/last: could not write the file to disk: No space left"), "{text}");
    }

    #[test]
    fn long_names_other_writers_and_copies() {
        let folder = tempfile::tempdir().unwrap();
        let long = folder.path().join("n".repeat(250));
        write_by_path::<Error>(&long, |temporary| {
            fs::remove_file(temporary).unwrap();
            fs::write(temporary, b"by a library").map_err(Error::at(temporary, WRITE))
        })
        .unwrap();
        let copied = folder.path().join("deep/copy");
        copy(&long, &copied).unwrap();
        rename(&copied, &folder.path().join("moved")).unwrap();
        assert_eq!(read(&folder.path().join("moved"), 99).unwrap(), b"by a library");
        assert_eq!(copy(&copied, &long).unwrap_err().step, "open the file");
        assert_eq!(read(&long, 99).unwrap(), b"by a library");
    }
}
