//! The files that jobs hand each other: models, ciphertexts, and the names of films.

use std::path::{Path, PathBuf};

use he_model::HeModel;

use crate::error::{Explain as _, Result};
use crate::refuse;

/// Extension of ciphertext files.
pub const CIPHERTEXT: &str = "ct";

/// Reads an HE-ready model.
///
/// # Errors
/// The file is not there (says which command makes it) or is refused.
pub fn load_model(path: &Path) -> Result<HeModel> {
    if !path.exists() {
        refuse!("there is no HE-ready model at {}: `veilray export` makes it", path.display());
    }
    Ok(HeModel::load(path)?)
}

/// The files in `folder` that end in `.ct`, sorted by name.
///
/// # Errors
/// The folder is missing or holds none; `made_by` is the command that fills it.
pub fn ciphertexts_in(folder: &Path, made_by: &str) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder)
        .explain(|| format!("cannot read {}: `veilray {made_by}` makes it", folder.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.explain(|| format!("cannot read {}", folder.display()))?.path();
        if path.extension().is_some_and(|extension| extension == CIPHERTEXT) {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        refuse!("no .{CIPHERTEXT} file in {}: `veilray {made_by}` makes them", folder.display());
    }
    Ok(files)
}

/// The file for a film's ciphertext: its name with everything unusual replaced, so that no name leaves the folder.
pub fn ciphertext_file(folder: &Path, film: &str) -> PathBuf {
    let safe: String = film
        .chars()
        .map(
            |character| {
                if character.is_ascii_alphanumeric() || "-_".contains(character) { character } else { '_' }
            },
        )
        .collect();
    folder.join(format!("{safe}.{CIPHERTEXT}"))
}

/// The film's name that a ciphertext file carries.
pub fn film_name(file: &Path) -> String {
    file.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
}

/// Makes a folder and its parents.
///
/// # Errors
/// It cannot be made.
pub fn make_folder(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).explain(|| format!("cannot make the folder {}", folder.display()))
}

/// Size of a file in bytes; 0 if it cannot be read.
pub fn size_of(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn film_names_cannot_leave_the_folder() {
        let file = ciphertext_file(Path::new("out"), "../../etc/passwd");
        assert_eq!(file, Path::new("out/______etc_passwd.ct"));
        assert_eq!(film_name(&file), "______etc_passwd");
    }
}
