//! Every bad input is refused with an error that names the file, what was expected, what came and what to do.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{fails_naming, npy, open, png, write, zip};
use datasets::{
    DataConfig, FilmDataset, FolderConfig, LatentSet, NihConfig, NpzConfig, PhantomConfig, Source, detect,
    load_film,
};
use std::path::Path;

fn nih(root: &Path) -> datasets::Result<FilmDataset> {
    open(Source::Nih(NihConfig { root: root.into() }))
}

fn npz(path: &Path) -> datasets::Result<FilmDataset> {
    open(Source::Npz(NpzConfig { path: path.into(), label_names: Vec::new() }))
}

fn folder(root: &Path) -> datasets::Result<FilmDataset> {
    open(Source::Folder(FolderConfig::new(root)))
}

#[test]
fn missing_and_empty_folders() {
    let temporary = tempfile::tempdir().unwrap();
    let gone = temporary.path().join("gone");
    fails_naming(nih(&gone), &["gone", "not found", "NIH"]);
    fails_naming(npz(&gone), &["gone", "not found", ".npz"]);
    fails_naming(folder(&gone), &["gone", "not found", "CSV"]);
    fails_naming(detect(&gone), &["gone", "not found"]);
    fails_naming(nih(temporary.path()), &["found no", "Data_Entry_2017"]);
    fails_naming(folder(temporary.path()), &["found no CSV", "labels.csv"]);
    fails_naming(detect(temporary.path()), &["found no data set", "NIH"]);
    write(&temporary.path().join("notes.txt"), "hello");
    fails_naming(detect(temporary.path()), &["not a data set", "no table"]);
    fails_naming(detect(&temporary.path().join("notes.txt")), &["not a data set", "a single file"]);
}

#[test]
fn tables_without_columns_films_or_sense() {
    let temporary = tempfile::tempdir().unwrap();
    let root = temporary.path();
    let table = root.join("Data_Entry_2017.csv");
    write(&table, "Image Index,Findings of the day,Patient ID\n00000001_000.png,Mass,1\n");
    fails_naming(nih(root), &["Data_Entry_2017.csv", "Finding Labels", "Findings of the day"]);
    write(&table, "Image Index,Finding Labels,Patient ID\n");
    fails_naming(nih(root), &["Data_Entry_2017.csv", "no films"]);
    write(&table, "");
    fails_naming(nih(root), &["Data_Entry_2017.csv", "no films"]);
    write(&table, "Image Index,Finding Labels,Patient ID\n00000001_000.png,Mass,1\n");
    fails_naming(nih(root), &["found no PNG film"]);
    png(&root.join("images/00000002_000.png"), 16, 9);
    fails_naming(nih(root), &["found no PNG film", "same release"]);
    png(&root.join("images/00000001_000.png"), 16, 9);
    write(&table, "Image Index,Finding Labels,Patient ID\n00000001_000.png,Masss,1\n");
    fails_naming(nih(root), &["Data_Entry_2017.csv, line 2", "\"Masss\"", "Pleural_Thickening"]);
    write(&table, "Image Index,Finding Labels,Patient ID\n00000001_000.png,,1\n");
    fails_naming(nih(root), &["line 2", "Finding Labels", "found nothing"]);
    write(&table, b"\xff\xfe\x00\x00\x01".as_slice());
    fails_naming(nih(root), &["Data_Entry_2017.csv"]);
}

#[test]
fn images_that_are_broken() {
    let temporary = tempfile::tempdir().unwrap();
    let film = temporary.path().join("film.png");
    fails_naming(load_film(&film, 32), &["film.png", "not found"]);
    write(&film, "");
    fails_naming(load_film(&film, 32), &["film.png", "zero bytes", "copy the file again"]);
    write(&film, "these are no pixels at all");
    fails_naming(load_film(&film, 32), &["film.png", "PNG, JPEG or DICOM", "none of them"]);
    png(&film, 64, 90);
    let whole = std::fs::read(&film).unwrap();
    for length in [9, 20, 40, whole.len() / 2, whole.len() - 14] {
        write(&film, &whole[..length]);
        fails_naming(load_film(&film, 32), &["film.png", "decoding failed"]);
    }
    let mut altered = whole.clone();
    altered[whole.len() / 2] ^= 0x55;
    write(&film, altered);
    fails_naming(load_film(&film, 32), &["film.png", "decoding failed"]);
    fails_naming(load_film(temporary.path(), 32), &["found a folder"]);
}

/// A PNG header that claims a size, with a checksum that holds.
fn claiming(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0d".to_vec();
    let mut chunk = b"IHDR".to_vec();
    chunk.extend(width.to_be_bytes());
    chunk.extend(height.to_be_bytes());
    chunk.extend([8, 0, 0, 0, 0]);
    let mut checksum = flate2::Crc::new();
    checksum.update(&chunk);
    bytes.extend(&chunk);
    bytes.extend(checksum.sum().to_be_bytes());
    bytes.extend(b"\x00\x00\x00\x00IDAT");
    bytes
}

#[test]
fn images_that_claim_absurd_sizes() {
    let temporary = tempfile::tempdir().unwrap();
    let film = temporary.path().join("bomb.png");
    write(&film, claiming(1_000_000, 1_000));
    fails_naming(load_film(&film, 32), &["bomb.png", "longer side", "1000000", "16384"]);
    write(&film, claiming(u32::MAX / 2, u32::MAX / 2));
    fails_naming(load_film(&film, 32), &["bomb.png"]);
    write(&film, claiming(0, 7));
    fails_naming(load_film(&film, 32), &["bomb.png"]);
}

fn good_npz(path: &Path) {
    let members = [
        ("train_images.npy", npy("|u1", &[4, 8, 8], &[7; 256])),
        ("train_labels.npy", npy("|u1", &[4, 2], &[0, 1, 1, 0, 0, 0, 1, 1])),
    ];
    zip(path, &members);
}

#[test]
fn arrays_cut_short_or_of_another_kind() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("films.npz");
    good_npz(&path);
    assert_eq!(npz(&path).unwrap().len(), 4);
    let whole = std::fs::read(&path).unwrap();
    for length in (0..whole.len()).step_by(7) {
        write(&path, &whole[..length]);
        fails_naming(npz(&path), &["films.npz", "again"]);
    }
    // Any single altered byte is an error or leaves the content alone (names, dates); never a panic.
    good_npz(&path);
    let digest = npz(&path).unwrap().digest();
    for place in 0..whole.len() {
        let mut altered = whole.clone();
        altered[place] ^= 0x10;
        write(&path, &altered);
        if let Ok(films) = npz(&path)
            && films.digest() == digest
        {
            assert_eq!(films.film(0).unwrap().pixels[0], 7.0 / 255.0);
        }
    }
    let images = || npy("|u1", &[4, 8, 8], &[7; 256]);
    let labels = || npy("|u1", &[4, 2], &[0; 8]);
    let refused = |members: &[(&str, Vec<u8>)], parts: &[&str]| {
        zip(&path, members);
        fails_naming(npz(&path), parts);
    };
    refused(&[("x.npy", images())], &["films.npz", "train_images", "x.npy", "MedMNIST"]);
    refused(&[("train_images.npy", images())], &["train_labels"]);
    let with =
        |images: Vec<u8>, labels: Vec<u8>| [("train_images.npy", images), ("train_labels.npy", labels)];
    refused(&with(npy("|u1", &[4, 8, 8], &[7; 255]), labels()), &["train_images", "after row 0"]);
    refused(&with(npy("|u1", &[4, 8, 8], &[7; 257]), labels()), &["train_images", "more data"]);
    refused(&with(npy("<f4", &[4, 8, 8], &[0; 1024]), labels()), &["uint8", "<f4"]);
    refused(&with(npy("|u1", &[4, 64], &[7; 256]), labels()), &["films x height x width", "[4, 64]"]);
    refused(&with(npy("|u1", &[4, 0, 8], &[]), labels()), &["with pixels"]);
    refused(&with(images(), npy("|u1", &[3, 2], &[0; 6])), &["train_labels", "4 rows", "[3, 2]"]);
    refused(&with(images(), npy("<f4", &[4, 2], &[0; 32])), &["train_labels", "integers"]);
    refused(&with(images(), npy("|u1", &[4, 2], &[0, 0, 0, 0, 0, 0, 0, 9])), &["0 and 1", "9"]);
    refused(&with(images(), npy("|i1", &[4, 2], &[0, 0, 0, 0, 0, 0, 0, 0xff])), &["-1"]);
    let huge = npy("|u1", &[usize::MAX / 2, 8, 8], &[7; 256]);
    refused(&with(huge, labels()), &["number of films", "limit"]);
    refused(&with(npy("|u1", &[1, 1 << 20, 1 << 20], &[7; 256]), labels()), &["side of the films", "limit"]);
    refused(&with(npy("|u1", &[3_000_000, 1, 1], &[7; 256]), labels()), &["train_images", "after row 256"]);
}

#[test]
fn an_index_that_does_not_fit() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("films.npz");
    good_npz(&path);
    let index = temporary.path().join("films_index.csv");
    let refused = |text: &str, parts: &[&str]| {
        write(&index, text);
        fails_naming(npz(&path), parts);
    };
    refused("split,row,image\ntrain,0,a\n", &["films_index.csv", "Patient ID"]);
    refused("split,row,image,patient\ntrain,0,a,p\n", &["films.npz", "no line for row 1 of train"]);
    refused("split,row,image,patient\nother,0,a,p\n", &["films_index.csv, line 2", "\"other\""]);
    refused("split,row,image,patient\ntrain,zero,a,p\n", &["line 2", "\"zero\""]);
    refused("split,row,image,patient\ntrain,0,a,p\ntrain,0,a,p\n", &["line 3", "twice"]);
}

#[test]
fn folders_that_do_not_fit() {
    let temporary = tempfile::tempdir().unwrap();
    let root = temporary.path();
    png(&root.join("a.png"), 16, 5);
    let table = root.join("labels.csv");
    let refused = |text: &str, parts: &[&str]| {
        write(&table, text);
        fails_naming(folder(root), parts);
    };
    refused("picture,Mass\na.png,1\n", &["labels.csv", "image", "picture"]);
    refused("image,age\na.png,61\n", &["labels.csv", "with labels", "age"]);
    refused("image,Mass\nb.png,1\n", &["b.png", "not found", "line 2"]);
    refused("image,Mass\n../a.png,1\n", &["line 2", "../a.png", "inside"]);
    refused("image,Mass\n/etc/hostname,1\n", &["line 2", "inside"]);
    refused("image,Mass\na.png,1\na.png,0\n", &["line 3", "second line"]);
    refused("image,Mass,split\na.png,1,sometimes\n", &["line 2", "sometimes"]);
    write(&table, "image,Mass\na.png,perhaps\n");
    let mut config = FolderConfig::new(root);
    config.label_columns = vec!["Mass".into()];
    fails_naming(open(Source::Folder(config.clone())), &["line 2", "Mass", "perhaps"]);
    config.label_columns = vec!["Edema".into()];
    fails_naming(open(Source::Folder(config)), &["labels.csv", "Edema", "Mass"]);
    std::fs::rename(&table, root.join("one.csv")).unwrap();
    write(&root.join("two.csv"), "image,Mass\na.png,1\n");
    fails_naming(folder(root), &["source.folder.csv", "2 CSV files"]);
}

#[test]
fn configurations_that_cannot_work() {
    let refused = |change: &dyn Fn(&mut DataConfig), parts: &[&str]| {
        let source = Source::Phantom(PhantomConfig { films: 9, ..PhantomConfig::default() });
        let mut config = DataConfig::new(source);
        change(&mut config);
        fails_naming(FilmDataset::open(&config), parts);
    };
    refused(&|c| c.side = 4, &["data.side", "4"]);
    refused(&|c| c.side = 100_000, &["data.side", "100000"]);
    refused(&|c| c.validation_fraction = 1.5, &["data.validation_fraction", "1.5"]);
    refused(&|c| c.test_fraction = f64::NAN, &["data.test_fraction"]);
    refused(&|c| c.test_fraction = 0.95, &["no patients for training"]);
    refused(&|c| c.labels = vec!["Edemaa".into()], &["data.labels", "Edemaa", "Edema"]);
    refused(&|c| c.labels = vec!["Edema".into(), "Edema".into()], &["data.labels", "twice"]);
    let none = Source::Phantom(PhantomConfig { films: 0, ..PhantomConfig::default() });
    fails_naming(open(none), &["films", "0"]);
    for (json, part) in [
        (r#"{"sidee": 64}"#, "sidee"),
        (r#"{"source": {"nih": {"root": "x", "rot": 1}}}"#, "rot"),
        (r#"{"source": {"nihh": {"root": "x"}}}"#, "nihh"),
        (r#"{"side": "large"}"#, "large"),
    ] {
        let text = serde_json::from_str::<DataConfig>(json).expect_err(json).to_string();
        assert!(text.contains(part), "{text}");
    }
}

fn latents() -> LatentSet {
    let source = Source::Phantom(PhantomConfig { films: 6, ..PhantomConfig::default() });
    let films = FilmDataset::open(&DataConfig::new(source)).unwrap();
    let values = (0..6 * 2 * 4 * 4).map(|i| i as f32 / 7.0).collect();
    LatentSet::new(&films, [2, 4, 4], values, "encoder").unwrap()
}

#[test]
fn latents_survive_and_damage_is_seen() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("run/latents.safetensors");
    fails_naming(LatentSet::load(&path), &["latents.safetensors", "not found", "veilray encode"]);
    let mut set = latents();
    set.labels[2][3] = None;
    set.save(&path).unwrap();
    set.save(&path).unwrap();
    assert_eq!(LatentSet::load(&path).unwrap(), set);
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no temporary file stays");
    assert_eq!(set.latent(1)[0], 32.0 / 7.0);

    let whole = std::fs::read(&path).unwrap();
    for length in (0..whole.len()).step_by(41) {
        write(&path, &whole[..length]);
        fails_naming(LatentSet::load(&path), &["latents.safetensors", "veilray encode"]);
    }
    let text = String::from_utf8_lossy(&whole).into_owned();
    for (from, to, part) in [
        ("veilray.latents", "veilray.latentz", "metadata"),
        ("version\\\":1", "version\\\":9", "version 9"),
        ("phantom-000001", "phantom\\\",\\\"01", "dimension"),
        ("\"I8\"", "\"U8\"", "labels"),
    ] {
        assert!(text.contains(from), "{from}");
        let place = whole.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        let mut altered = whole.clone();
        altered[place..place + from.len()].copy_from_slice(to.as_bytes());
        write(&path, altered);
        fails_naming(LatentSet::load(&path), &["latents.safetensors", part]);
    }
    let mut wrong = latents();
    wrong.latents[5] = f32::NAN;
    fails_naming(wrong.save(&path), &["not finite"]);
    wrong.latents.pop();
    fails_naming(wrong.save(&path), &["2 x 4 x 4"]);
}
