//! Image files below a folder: finding them, and decoding them on demand.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::image_file::load_film_with;
use crate::source::Pixels;
use crate::{DataError, Film, Fit, Result};

/// How deep below the root folders are searched.
const MAX_DEPTH: usize = 8;
/// The most files that are listed. NIH has 112,120 films, CheXpert 223,648.
const MAX_FILES: usize = 4_000_000;

/// The image files below `root`, by base name, in a fixed order. Where a name occurs twice, the first path in
/// alphabetical order is kept and the second value counts the others.
pub(crate) fn by_name(root: &Path, extensions: &[&str]) -> Result<(BTreeMap<String, PathBuf>, usize)> {
    let mut found = BTreeMap::new();
    let mut repeated = 0;
    let mut total = 0;
    let mut folders = vec![(root.to_path_buf(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(&folder).map_err(DataError::io(&folder, "list the folder"))? {
            entries.push(entry.map_err(DataError::io(&folder, "list the folder"))?);
        }
        entries.sort_by_key(std::fs::DirEntry::file_name);
        let mut below = Vec::new();
        for entry in entries {
            let path = entry.path();
            let is_image = path
                .extension()
                .and_then(|e| e.to_str())
                .is_some_and(|e| extensions.iter().any(|wanted| e.eq_ignore_ascii_case(wanted)));
            if is_image {
                total += 1;
                if total > MAX_FILES {
                    return Err(DataError::TooLarge {
                        path: root.into(),
                        what: "its number of image files".into(),
                        found: total as u64,
                        limit: MAX_FILES as u64,
                    });
                }
                match found.entry(entry.file_name().to_string_lossy().into_owned()) {
                    std::collections::btree_map::Entry::Vacant(place) => {
                        place.insert(path);
                    }
                    std::collections::btree_map::Entry::Occupied(_) => repeated += 1,
                }
            } else if depth < MAX_DEPTH && path.is_dir() {
                below.push((path, depth + 1));
            }
        }
        folders.extend(below.into_iter().rev());
    }
    Ok((found, repeated))
}

/// Films in image files.
pub(crate) struct Files {
    pub paths: Vec<PathBuf>,
}

impl Files {
    /// A digest of names (relative to `root`) and sizes. A file that cannot be looked at counts as size 0: the
    /// error comes when its film is asked for.
    pub fn content(&self, root: &Path) -> String {
        let sizes: Vec<u64> =
            self.paths.par_iter().map(|path| std::fs::metadata(path).map_or(0, |m| m.len())).collect();
        let mut hasher = blake3::Hasher::new();
        for (path, size) in self.paths.iter().zip(sizes) {
            hasher.update(path.strip_prefix(root).unwrap_or(path).to_string_lossy().as_bytes());
            hasher.update(&[0]);
            hasher.update(&size.to_le_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }
}

impl Pixels for Files {
    fn film(&self, index: usize, side: usize, fit: Fit) -> Result<Film> {
        load_film_with(&self.paths[index], side, fit)
    }

    fn is_slow(&self) -> bool {
        true
    }
}
