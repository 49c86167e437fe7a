//! Which source a path is, for users who have a path and no configuration.

use std::path::Path;

use crate::config::{CheXpertConfig, CifarConfig, FolderConfig, MnistConfig, NihConfig, NpzConfig, Source};
use crate::{DataError, Result};

/// The layouts that [`detect`] knows, for messages.
pub const KNOWN_LAYOUTS: &str = "a folder with Data_Entry_2017*.csv or sample_labels.csv (NIH ChestX-ray14), \
     a folder with train.csv and train/ (CheXpert), a .npz file (MedMNIST), a folder of images with a CSV file, \
     or a folder with MNIST (train-images-idx3-ubyte) or CIFAR-10 (data_batch_1.bin)";

/// Finds out which source `path` is.
///
/// # Errors
/// The path does not exist, or is none of [`KNOWN_LAYOUTS`].
pub fn detect(path: &Path) -> Result<Source> {
    let unknown = |found: String| DataError::UnknownLayout { path: path.into(), found };
    if !path.exists() {
        return Err(DataError::Missing { path: path.into(), expected: KNOWN_LAYOUTS.into() });
    }
    if path.is_file() {
        let is_npz = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("npz"));
        return if is_npz {
            Ok(Source::Npz(NpzConfig { path: path.into(), label_names: Vec::new() }))
        } else {
            Err(unknown("a single file".into()))
        };
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
            advice: format!("expected {KNOWN_LAYOUTS}"),
        });
    }
    if names.iter().any(|name| crate::nih::is_table(name)) {
        return Ok(Source::Nih(NihConfig { root: path.into() }));
    }
    if crate::chexpert::find_root(path).is_some() {
        return Ok(Source::Chexpert(CheXpertConfig::new(path)));
    }
    if crate::digits::is_mnist(path) {
        return Ok(Source::Mnist(MnistConfig { root: path.into() }));
    }
    if crate::digits::is_cifar(path) {
        return Ok(Source::Cifar10(CifarConfig { root: path.into() }));
    }
    let ending = |wanted: &str| -> Vec<&String> {
        names.iter().filter(|name| name.to_ascii_lowercase().ends_with(wanted)).collect()
    };
    if !ending(".csv").is_empty() {
        return Ok(Source::Folder(FolderConfig::new(path)));
    }
    match ending(".npz")[..] {
        [one] => Ok(Source::Npz(NpzConfig { path: path.join(one), label_names: Vec::new() })),
        [] => Err(unknown("a folder with no table of labels".into())),
        _ => Err(unknown("a folder with several .npz files: name one of them".into())),
    }
}
