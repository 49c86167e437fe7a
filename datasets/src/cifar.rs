//! CIFAR-10 in its binary version, plain or gzip-compressed: for sanity checks of networks.
//!
//! Source: A. Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, 2009 (records of 3,073 bytes: label, then red,
//! green and blue planes).

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::arrays::{array_error, luma};
use crate::pictures::{CLASSES, COPY_AGAIN, Gathered, find, missing, read};
use crate::source::{DataSource, Loaded};
use crate::split::Assigned;
use crate::{Film, Fit, Result, Split};

const SIDE: usize = 32;
const RECORD: usize = 1 + 3 * SIDE * SIDE;
const NAMES: [&str; CLASSES] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// CIFAR-10: a folder with `data_batch_1.bin` ... and `test_batch.bin`, plain or `.gz`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CifarConfig {
    /// The folder.
    pub root: PathBuf,
}

impl DataSource for CifarConfig {
    const LAYOUT: &'static str = "a folder with CIFAR-10 (data_batch_1.bin)";

    fn detect(path: &Path, _: &[String]) -> Option<Self> {
        find(path, "data_batch_1.bin").is_some().then(|| CifarConfig { root: path.into() })
    }

    fn load(&self, side: usize, fit: Fit) -> Result<Loaded> {
        let root = &self.root;
        let mut all = Gathered::new(side);
        let names = (1..=5).map(|n| (format!("data_batch_{n}"), Assigned::NotTest));
        for (name, split) in names.chain([("test_batch".to_owned(), Assigned::Fixed(Split::Test))]) {
            let file = format!("{name}.bin");
            let Some(path) = find(root, &file) else {
                // Parts of the set are common: only the first batch and the test batch must be there.
                if name == "data_batch_1" || name == "test_batch" {
                    return Err(missing(root, &file));
                }
                continue;
            };
            let bytes = read(&path)?;
            all.content.update(&bytes);
            let (records, rest) = bytes.as_chunks::<RECORD>();
            if records.is_empty() || !rest.is_empty() {
                let problem = format!("expected records of {RECORD} bytes, found {} bytes", bytes.len());
                return Err(array_error(&path, problem, COPY_AGAIN));
            }
            all.check_memory(records.len(), &path)?;
            for (number, record) in records.iter().enumerate() {
                let (red, rest) = record[1..].split_at(SIDE * SIDE);
                let (green, blue) = rest.split_at(SIDE * SIDE);
                let pixels = red.iter().zip(green).zip(blue).map(|((&r, &g), &b)| luma(r, g, b)).collect();
                let film = Film { height: SIDE, width: SIDE, pixels };
                let film = film.resized(side, fit).to_bytes();
                all.push(format!("{name}-{number:05}"), record[0], split, film, &path)?;
            }
        }
        let names = NAMES.iter().map(|&name| name.to_owned()).collect();
        Ok(all.finish(names, format!("CIFAR-10 in {}", root.display())))
    }
}
