//! MNIST as IDX files, plain or gzip-compressed: for sanity checks of networks.
//!
//! Source: Y. LeCun, C. Cortes, *MNIST* (big-endian IDX, magic 2051 and 2049).

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::arrays::{array_error, resize};
use crate::pictures::{CLASSES, COPY_AGAIN, Gathered, find, missing, read};
use crate::source::{DataSource, Loaded};
use crate::split::Assigned;
use crate::{Fit, Result, Split};

/// MNIST: a folder with the four IDX files, plain or `.gz`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MnistConfig {
    /// The folder.
    pub root: PathBuf,
}

/// The dimensions and values of an IDX file of bytes.
fn parse_idx<'a>(path: &Path, bytes: &'a [u8], rank: usize) -> Result<(Vec<usize>, &'a [u8])> {
    let number = |place: usize| -> Option<u32> {
        Some(u32::from_be_bytes(bytes.get(4 * place..4 * place + 4)?.try_into().ok()?))
    };
    let magic = 0x0800 + rank as u32;
    if number(0) != Some(magic) {
        let found = number(0).map_or("fewer than 4 bytes".into(), |found| found.to_string());
        return Err(array_error(
            path,
            format!("expected an IDX file with magic number {magic}, found {found}"),
            COPY_AGAIN,
        ));
    }
    let cut = || array_error(path, "expected an IDX header, but the file ends".into(), COPY_AGAIN);
    let shape = (1..=rank)
        .map(|place| Some(number(place)? as usize))
        .collect::<Option<Vec<usize>>>()
        .ok_or_else(cut)?;
    let values = &bytes[4 * (rank + 1)..];
    let expected = shape.iter().try_fold(1usize, |product, &n| product.checked_mul(n));
    if expected != Some(values.len()) {
        let problem = format!("its header says {shape:?} bytes, but {} follow", values.len());
        return Err(array_error(path, problem, COPY_AGAIN));
    }
    Ok((shape, values))
}

impl DataSource for MnistConfig {
    const LAYOUT: &'static str = "a folder with MNIST (train-images-idx3-ubyte)";

    fn detect(path: &Path, _: &[String]) -> Option<Self> {
        find(path, "train-images-idx3-ubyte").is_some().then(|| MnistConfig { root: path.into() })
    }

    fn load(&self, side: usize, fit: Fit) -> Result<Loaded> {
        let root = &self.root;
        let mut all = Gathered::new(side);
        for (prefix, split) in [("train", Assigned::NotTest), ("t10k", Assigned::Fixed(Split::Test))] {
            let file = |kind: &str| {
                let name = format!("{prefix}-{kind}-ubyte");
                find(root, &name).ok_or_else(|| missing(root, &name))
            };
            let (images_path, labels_path) = (file("images-idx3")?, file("labels-idx1")?);
            let (images, labels) = (read(&images_path)?, read(&labels_path)?);
            all.content.update(&images).update(&labels);
            let (shape, pixels) = parse_idx(&images_path, &images, 3)?;
            let (count, classes) = parse_idx(&labels_path, &labels, 1)?;
            let (height, width) = (shape[1], shape[2]);
            if count[0] != shape[0] {
                let problem = format!("expected {} labels as there are images, found {}", shape[0], count[0]);
                return Err(array_error(&labels_path, problem, COPY_AGAIN));
            }
            if !(1..=1024).contains(&height) || !(1..=1024).contains(&width) {
                let problem =
                    format!("expected pictures of 1 to 1024 pixels a side, found {height} x {width}");
                return Err(array_error(&images_path, problem, COPY_AGAIN));
            }
            all.check_memory(shape[0], &images_path)?;
            for (number, (pixels, &class)) in pixels.chunks_exact(height * width).zip(classes).enumerate() {
                let film = resize(pixels, height, width, side, fit);
                all.push(format!("{prefix}-{number:05}"), class, split, film, &labels_path)?;
            }
        }
        let names = (0..CLASSES).map(|digit| digit.to_string()).collect();
        Ok(all.finish(names, format!("MNIST in {}", root.display())))
    }
}
