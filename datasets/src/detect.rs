//! Which source a path is, for users who have a path and no configuration.

use std::path::Path;

use crate::npz::is_npz;
use crate::sources::known_layouts;
use crate::{DataError, Result, Source};

/// Finds out which source `path` is.
///
/// # Errors
/// The path does not exist, or is no data set of a known layout, which the message lists.
pub fn detect(path: &Path) -> Result<Source> {
    let unknown = |found: &str| DataError::UnknownLayout {
        path: path.into(),
        found: found.into(),
        known: known_layouts(),
    };
    if !path.exists() {
        return Err(DataError::Missing { path: path.into(), expected: known_layouts() });
    }
    if path.is_file() {
        return Source::at(path, &[]).ok_or_else(|| unknown("a single file"));
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).map_err(DataError::io(path, "list the folder"))? {
        let entry = entry.map_err(DataError::io(path, "list the folder"))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    if names.is_empty() {
        return Err(DataError::Empty {
            path: path.into(),
            expected: "data set".into(),
            advice: format!("expected {}", known_layouts()),
        });
    }
    let several = names.iter().filter(|name| is_npz(Path::new(name))).count() > 1;
    Source::at(path, &names).ok_or_else(|| match several {
        true => unknown("a folder with several .npz files: name one of them"),
        false => unknown("a folder with no table of labels"),
    })
}
