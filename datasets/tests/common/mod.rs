//! Small data sets written to temporary folders.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::Write;
use std::path::{Path, PathBuf};

use datasets::{DataConfig, FilmDataset, Source};

/// The folder with real films, if this machine has it.
pub fn real_data() -> Option<PathBuf> {
    let folder = std::env::var_os("VEILRAY_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"), PathBuf::from);
    if folder.is_dir() {
        Some(folder)
    } else {
        println!("skipped: no real films at {} (set VEILRAY_DATA)", folder.display());
        None
    }
}

pub fn write(path: &Path, bytes: impl AsRef<[u8]>) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// A grey PNG whose pixels are `shade`, with a darker left half.
pub fn png(path: &Path, side: u32, shade: u8) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    image::GrayImage::from_fn(side, side, |x, _| image::Luma([if x < side / 2 { shade / 2 } else { shade }]))
        .save(path)
        .unwrap();
}

/// The bytes of an uncompressed NumPy array.
pub fn npy(dtype: &str, shape: &[usize], data: &[u8]) -> Vec<u8> {
    let shape: String = shape.iter().map(|n| format!("{n}, ")).collect();
    let mut header = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({shape}), }}");
    while !(header.len() + 11).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(u16::try_from(header.len()).unwrap().to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

/// Writes a deflated zip file.
pub fn zip(path: &Path, members: &[(&str, Vec<u8>)]) {
    let mut zip = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    for (name, bytes) in members {
        zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
}

pub fn open(source: Source) -> datasets::Result<FilmDataset> {
    let mut config = DataConfig::new(source);
    config.side = 16;
    FilmDataset::open(&config)
}

/// The error's text, which must name all of `parts`.
pub fn fails_naming(result: datasets::Result<impl std::fmt::Debug>, parts: &[&str]) {
    let text = result.expect_err("this must be refused").to_string();
    for part in parts {
        assert!(text.contains(part), "expected the error to name {part:?}: {text}");
    }
}
