//! The state folder: its parts, its lock, and names for what is not finished yet.
//!
//! ```text
//! tokens/CLIENT.json                     digests of tokens
//! keys/CLIENT/DIGEST/{meta.json, part}   an upload; {meta.json, evaluation.keys} once checked
//! pending/CLIENT/JOB/{job.json, latent.ct, claim, seen, [attempts, progress.json, cancel]}
//! done/CLIENT/JOB/{job.json, outcome.json, [result.ct]}
//! temp/                                  what has no final name yet
//! ```

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use he_protocol::files;

/// Paths of a state folder.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    root: PathBuf,
}

impl Store {
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        files::private_folder(root)?;
        for part in ["keys", "pending", "done", "temp"] {
            files::private_folder(&root.join(part))?;
        }
        let store = Self { root: root.into() };
        store.sweep_temp(Duration::from_secs(3600))?;
        Ok(store)
    }

    pub(crate) fn part(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Held while something is counted and admitted, by one process and thread at a time.
    pub(crate) fn lock(&self) -> io::Result<File> {
        let file = File::options().create(true).write(true).truncate(false).open(self.root.join("lock"))?;
        file.lock()?;
        Ok(file)
    }

    /// A name in `temp/` that nobody else has.
    pub(crate) fn temp(&self) -> io::Result<PathBuf> {
        let mut random = [0u8; 16];
        getrandom::fill(&mut random).map_err(|e| io::Error::other(e.to_string()))?;
        Ok(self.root.join("temp").join(format!("{:032x}", u128::from_le_bytes(random))))
    }

    /// Takes a folder away at once, by renaming it, then removes it.
    pub(crate) fn discard(&self, folder: &Path) -> io::Result<()> {
        let temp = self.temp()?;
        fs::rename(folder, &temp)?;
        fs::remove_dir_all(temp)
    }

    /// Removes what a crash left in `temp/`: nothing there is worked on for `age`.
    pub(crate) fn sweep_temp(&self, age: Duration) -> io::Result<()> {
        for entry in entries(&self.root.join("temp"))? {
            if older(&entry, age) {
                let _ = if entry.is_dir() { fs::remove_dir_all(&entry) } else { fs::remove_file(&entry) };
            }
        }
        Ok(())
    }
}

/// A file in `temp/` that is removed when dropped, unless it was renamed away.
pub(crate) struct TempFile(pub(crate) PathBuf);

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The paths in a folder, in no order; none if it is not there.
pub(crate) fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|e| e.map(|e| e.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(vec![]),
        Err(error) => Err(error),
    }
}

/// Whether a file was last written more than `age` ago.
pub(crate) fn older(path: &Path, age: Duration) -> bool {
    let modified = fs::metadata(path).and_then(|m| m.modified());
    modified.is_ok_and(|m| SystemTime::now().duration_since(m).unwrap_or_default() > age)
}

/// The last component of a path, as an identifier; none for whatever else lies there.
pub(crate) fn id_of<T: std::str::FromStr>(path: &Path) -> Option<T> {
    path.file_name()?.to_str()?.parse().ok()
}
