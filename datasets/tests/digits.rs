//! MNIST and CIFAR-10: made-up files, damaged files, and the real ones where this machine has them.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::io::Write;
use std::path::Path;

use common::{fails_naming, open, write};
use datasets::{CifarConfig, DataConfig, FilmDataset, MnistConfig, Source, Split, detect};

fn idx(shape: &[u32], values: &[u8]) -> Vec<u8> {
    let mut bytes = (0x0800 + shape.len() as u32).to_be_bytes().to_vec();
    shape.iter().for_each(|n| bytes.extend(n.to_be_bytes()));
    bytes.extend(values);
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn mnist_files(root: &Path) {
    for (prefix, count) in [("train", 12u32), ("t10k", 4)] {
        let pixels: Vec<u8> = (0..count * 64).map(|i| (i / 64 * 20) as u8).collect();
        let classes: Vec<u8> = (0..count as u8).map(|i| i % 10).collect();
        write(&root.join(format!("{prefix}-images-idx3-ubyte")), idx(&[count, 8, 8], &pixels));
        write(&root.join(format!("{prefix}-labels-idx1-ubyte.gz")), gzip(&idx(&[count], &classes)));
    }
}

fn mnist(root: &Path) -> datasets::Result<FilmDataset> {
    open(Source::Mnist(MnistConfig { root: root.into() }))
}

fn cifar(root: &Path) -> datasets::Result<FilmDataset> {
    open(Source::Cifar10(CifarConfig { root: root.into() }))
}

#[test]
fn idx_files_become_films() {
    let folder = tempfile::tempdir().unwrap();
    mnist_files(folder.path());
    assert_eq!(detect(folder.path()).unwrap(), Source::Mnist(MnistConfig { root: folder.path().into() }));
    let films = mnist(folder.path()).unwrap();
    assert_eq!(films.indices(Split::Test).len(), 4);
    assert_eq!(films.indices(Split::Validation).len(), 1, "a tenth of the rest");
    assert_eq!(films.examples()[11].labels[1], Some(true));
    assert!((films.film(3).unwrap().pixels[0] - 60.0 / 255.0).abs() < 1e-6);
}

#[test]
fn idx_files_that_are_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fails_naming(mnist(root), &["train-images-idx3-ubyte", "not found"]);
    mnist_files(root);
    let images = root.join("train-images-idx3-ubyte");
    let whole = std::fs::read(&images).unwrap();
    for length in [0, 3, 9, 15, 16, whole.len() - 1] {
        write(&images, &whole[..length]);
        fails_naming(mnist(root), &["train-images-idx3-ubyte", "again"]);
    }
    let refused = |bytes: Vec<u8>, parts: &[&str]| {
        write(&images, bytes);
        fails_naming(mnist(root), parts);
    };
    refused(idx(&[11, 8, 8], &[0; 704]), &["train-labels", "expected 11 labels", "found 12"]);
    refused(idx(&[u32::MAX, u32::MAX, u32::MAX], &[0; 9]), &["its header says", "9 follow"]);
    refused(idx(&[12, 0, 8], &[]), &["1 to 1024 pixels"]);
    refused(idx(&[12], &[0; 12]), &["magic number 2051", "2049"]);
    write(&images, whole);
    let labels = root.join("train-labels-idx1-ubyte.gz");
    write(&labels, gzip(&idx(&[12], &[10; 12])));
    fails_naming(mnist(root), &["train-labels", "class from 0 to 9", "10"]);
    let cut = gzip(&idx(&[12], &[1; 12]));
    write(&labels, &cut[..cut.len() - 4]);
    fails_naming(mnist(root), &["train-labels", "reading failed"]);
    // A bomb: gzip of more zeros than the limit is refused while it inflates.
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for _ in 0..1025 {
        encoder.write_all(&vec![0u8; 1 << 20]).unwrap();
    }
    write(&labels, encoder.finish().unwrap());
    fails_naming(mnist(root), &["train-labels", "limit"]);
}

/// Sixty thousand pictures fit at 28 pixels, not at 2048: the memory is counted before it is spent.
#[test]
fn pictures_that_would_not_fit_into_memory() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    mnist_files(root);
    write(&root.join("train-images-idx3-ubyte"), idx(&[60_000, 1, 1], &[7; 60_000]));
    write(&root.join("train-labels-idx1-ubyte.gz"), gzip(&idx(&[60_000], &[1; 60_000])));
    let mut config = DataConfig::new(Source::Mnist(MnistConfig { root: root.into() }));
    config.side = 2048;
    fails_naming(FilmDataset::open(&config), &["60000 pictures", "GiB", "data.side"]);
}

#[test]
fn cifar_records() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let batch = |count: u8| -> Vec<u8> {
        (0..count).flat_map(|n| std::iter::once(n % 10).chain(std::iter::repeat_n(n * 9, 3072))).collect()
    };
    write(&root.join("data_batch_1.bin.gz"), gzip(&batch(20)));
    fails_naming(cifar(root), &["test_batch.bin", "not found"]);
    write(&root.join("test_batch.bin"), batch(5));
    assert_eq!(detect(root).unwrap(), Source::Cifar10(CifarConfig { root: root.into() }));
    let films = cifar(root).unwrap();
    assert_eq!((films.len(), films.indices(Split::Test).len()), (25, 5));
    assert_eq!(films.label_names()[8], "ship");
    assert!((films.film(4).unwrap().pixels[9] - 36.0 / 255.0).abs() < 1.0 / 255.0, "grey stays grey");
    write(&root.join("test_batch.bin"), &batch(5)[..4 * 3073 + 1]);
    fails_naming(cifar(root), &["test_batch.bin", "records of 3073", "12293"]);
    write(&root.join("test_batch.bin"), []);
    fails_naming(cifar(root), &["test_batch.bin", "0 bytes"]);
    let mut wrong = batch(5);
    wrong[3073] = 77;
    write(&root.join("test_batch.bin"), wrong);
    fails_naming(cifar(root), &["class from 0 to 9", "77"]);
}

#[test]
fn the_real_files() {
    let Some(data) = common::real_data() else { return };
    let count = |films: &FilmDataset| Split::ALL.map(|split| films.indices(split).len());
    let digits = mnist(&data.join("mnist")).unwrap();
    assert_eq!(count(&digits), [54_000, 6_000, 10_000]);
    let of_digit = |digit: usize| {
        digits.examples().iter().filter(|e| e.split == Split::Test && e.labels[digit] == Some(true)).count()
    };
    // As published for the test set.
    let published = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009];
    assert_eq!((0..10).map(of_digit).collect::<Vec<_>>(), published);
    let colour = cifar(&data.join("cifar10")).unwrap();
    assert_eq!(count(&colour), [9_000, 1_000, 10_000]);
    for class in 0..10 {
        let test = colour.examples().iter().filter(|e| e.split == Split::Test);
        assert_eq!(test.filter(|e| e.labels[class] == Some(true)).count(), 1000);
    }
}
