//! CheXpert in its layouts, with made-up rows and films.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::path::Path;

use common::{fails_naming, open, png, write};
use datasets::{CheXpertConfig, FilmDataset, Source, Split, Uncertainty, chexpert::LABELS, detect};

const COLUMNS: &str = "Path,Sex,Age,Frontal/Lateral,AP/PA";

/// A row: path, view, projection, and the labels that are not blank.
fn row(path: &str, view: &str, projection: &str, labels: &[(&str, &str)]) -> String {
    let cell = |label: &&str| labels.iter().find(|(name, _)| name == label).map_or("", |(_, value)| value);
    let cells: Vec<&str> = LABELS.iter().map(cell).collect();
    format!("{path},Female,60,{view},{projection},{}\n", cells.join(","))
}

fn header() -> String {
    format!("{COLUMNS},{}\n", LABELS.join(","))
}

/// Films are PNG data under the names of the release: what a file holds decides how it is decoded.
fn film(path: &Path) {
    let plain = path.with_extension("png");
    png(&plain, 24, 120);
    std::fs::rename(plain, path).unwrap();
}

/// Eight training patients with a frontal and a lateral film each, and a validation patient.
fn release(tables: &Path, train: &dyn Fn(usize) -> std::path::PathBuf, valid: &Path, name: &str) {
    let mut text = header();
    for patient in 1..=8 {
        let folder = format!("{name}/train/patient{patient:05}/study1");
        // A few frontal films of the real set say LL: the projection does not decide.
        let projection = if patient == 3 { "LL" } else { "AP" };
        let labels = [("Edema", "-1.0"), ("Atelectasis", "-1.0"), ("Fracture", "1.0"), ("Pneumonia", "0.0")];
        text += &row(&format!("{folder}/view1_frontal.jpg"), "Frontal", projection, &labels);
        text += &row(&format!("{folder}/view2_lateral.jpg"), "Lateral", "", &labels);
        for view in ["view1_frontal.jpg", "view2_lateral.jpg"] {
            film(&train(patient).join("study1").join(view));
        }
    }
    write(&tables.join("train.csv"), text);
    let path = "valid/patient64541/study1/view1_frontal.jpg";
    film(&valid.join(path));
    let text = header() + &row(&format!("{name}/{path}"), "Frontal", "PA", &[("No Finding", "1.0")]);
    write(&tables.join("valid.csv"), text);
}

fn small(root: &Path) {
    release(root, &|patient| root.join(format!("train/patient{patient:05}")), root, "CheXpert-v1.0-small");
}

fn config(root: &Path) -> CheXpertConfig {
    CheXpertConfig::new(root)
}

fn load(config: CheXpertConfig) -> datasets::Result<FilmDataset> {
    open(Source::Chexpert(config))
}

fn label(films: &FilmDataset, film: usize, name: &str) -> Option<bool> {
    films.examples()[film].labels[LABELS.iter().position(|label| *label == name).unwrap()]
}

#[test]
fn frontal_films_are_told_by_their_own_column() {
    let folder = tempfile::tempdir().unwrap();
    small(folder.path());
    assert_eq!(detect(folder.path()).unwrap(), Source::Chexpert(config(folder.path())));
    let films = load(config(folder.path())).unwrap();
    assert_eq!(films.len(), 9);
    assert!(films.examples().iter().any(|film| film.patient == "patient00003"));
    assert!(films.notes().iter().any(|note| note == "8 lateral films were left out."));
    assert_eq!(films.indices(Split::Test).len(), 1, "valid.csv, for want of test labels");
    assert_eq!(films.indices(Split::Validation).len(), 1);
    assert_eq!(films.film(0).unwrap().pixels.len(), 256);
    let both = load(CheXpertConfig { frontal_only: false, ..config(folder.path()) }).unwrap();
    assert_eq!(both.len(), 17);
    for patient in both.examples().chunks(2).take(8) {
        assert_eq!(patient[0].split, patient[1].split, "a patient's films stay together");
    }
}

#[test]
fn every_layout_gives_the_same_films() {
    let plain = tempfile::tempdir().unwrap();
    small(plain.path());
    let wanted = load(config(plain.path())).unwrap();

    // The folder above a release, and full-size paths.
    let above = tempfile::tempdir().unwrap();
    let root = above.path().join("CheXpert-v1.0");
    release(&root, &|patient| root.join(format!("train/patient{patient:05}")), &root, "CheXpert-v1.0");
    // The AIMI download: tables and validation in batch 1, patients without `train/` in batches 2 to 4.
    let aimi = tempfile::tempdir().unwrap();
    let tables = aimi.path().join("CheXpert-v1.0 batch 1 (validate & csv)");
    let batch = |patient: usize| {
        let number = 2 + patient % 3;
        let folder = format!("CheXpert-v1.0 batch {number} (train {})", number - 1);
        aimi.path().join(folder).join(format!("patient{patient:05}"))
    };
    release(&tables, &batch, &tables, "CheXpert-v1.0");
    for root in [above.path(), aimi.path()] {
        assert_eq!(detect(root).unwrap(), Source::Chexpert(config(root)));
        let films = load(config(root)).unwrap();
        assert_eq!(films.examples(), wanted.examples(), "{}", root.display());
        assert_eq!(films.film(3).unwrap(), wanted.film(3).unwrap());
    }
}

#[test]
fn uncertain_and_blank_labels_become_what_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    small(folder.path());
    let films = load(config(folder.path())).unwrap();
    let of = |films: &FilmDataset| {
        ["Edema", "Atelectasis", "Fracture", "Pneumonia", "Mass"]
            .iter()
            .take(4)
            .map(|name| label(films, 0, name))
            .chain([label(films, 0, "Lung Lesion")])
            .collect::<Vec<_>>()
    };
    let (yes, no) = (Some(true), Some(false));
    assert_eq!(of(&films), [None, None, yes, no, no], "blank is negative");
    let zeros = CheXpertConfig { uncertainty: Uncertainty::Zeros, ..config(folder.path()) };
    assert_eq!(of(&load(zeros.clone()).unwrap()), [no, no, yes, no, no]);
    let mut mixed = zeros;
    mixed.uncertainty_by_label.insert("Atelectasis".into(), Uncertainty::Ones);
    mixed.blank = Uncertainty::Ignore;
    let mixed = load(mixed).unwrap();
    assert_eq!(of(&mixed), [no, yes, yes, no, None]);
    assert_ne!(mixed.digest(), films.digest());
    let mut unknown = config(folder.path());
    unknown.uncertainty_by_label.insert("Atelectatis".into(), Uncertainty::Ones);
    fails_naming(load(unknown), &["uncertainty_by_label", "Atelectatis", "Atelectasis"]);
}

#[test]
fn other_label_files_replace_the_training_labels() {
    let folder = tempfile::tempdir().unwrap();
    small(folder.path());
    // Labels of the full release fit the films of the small one; a film without a line is left out.
    let mut text = header();
    for patient in 1..=7 {
        let path = format!("CheXpert-v1.0/train/patient{patient:05}/study1/view1_frontal.jpg");
        text += &row(&path, "Frontal", "AP", &[("Edema", "1"), ("Fracture", "0")]);
    }
    for name in ["train_cheXbert.csv", "train_visualCheXbert.csv"] {
        write(&folder.path().join(name), &text);
        let films = load(CheXpertConfig { labels_file: Some(name.into()), ..config(folder.path()) }).unwrap();
        assert_eq!(films.len(), 8, "seven for training and the validation film");
        assert_eq!((label(&films, 0, "Edema"), label(&films, 0, "Fracture")), (Some(true), Some(false)));
        assert_eq!(label(&films, 7, "No Finding"), Some(true), "valid.csv keeps its own");
        assert!(films.notes().iter().any(|note| note.starts_with("1 films have no line")));
    }
    let twice = text.clone() + text.lines().last().unwrap();
    write(&folder.path().join("twice.csv"), twice);
    let again = CheXpertConfig { labels_file: Some("twice.csv".into()), ..config(folder.path()) };
    fails_naming(load(again), &["twice.csv, line 9", "second line"]);
    let gone = CheXpertConfig { labels_file: Some("gone.csv".into()), ..config(folder.path()) };
    fails_naming(load(gone), &["gone.csv", "not found"]);
}

#[test]
fn test_labels_are_of_studies() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    small(root);
    let study = "test/patient64741/study1";
    for view in ["view1_frontal.jpg", "view2_frontal.jpg", "view3_lateral.jpg"] {
        film(&root.join(study).join(view));
    }
    let columns = format!("Study,{}\n", LABELS.join(","));
    let line = |path: &str| format!("CheXpert-v1.0/{path}{}\n", ",1".to_owned() + &",0".repeat(13));
    write(&root.join("groundtruth.csv"), columns.clone() + &line(study));
    let films = load(config(root)).unwrap();
    let test = films.indices(Split::Test);
    assert_eq!(test.len(), 2, "both frontal films of the study");
    assert_eq!(label(&films, test[1], "No Finding"), Some(true));
    let validation: Vec<usize> = films.indices(Split::Validation);
    assert_eq!(films.examples()[validation[0]].patient, "patient64541", "valid.csv is validation now");
    assert_eq!(validation.len(), 1, "and none are drawn");

    // A row per film, as in some copies, names each film once.
    let rows: String = ["view1_frontal.jpg", "view2_frontal.jpg", "view3_lateral.jpg"]
        .iter()
        .map(|view| line(&format!("{study}/{view}")))
        .collect();
    write(&root.join("groundtruth.csv"), columns.replace("Study", "Path") + &rows);
    assert_eq!(load(config(root)).unwrap().examples(), films.examples());
    write(&root.join("groundtruth.csv"), columns + &line(study) + &line(study));
    fails_naming(load(config(root)), &["groundtruth.csv, line 3", "second line"]);
}

#[test]
fn tables_that_do_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fails_naming(load(config(&root.join("gone"))), &["gone", "CheXpert"]);
    fails_naming(load(config(root)), &["train.csv", "Frontal/Lateral"]);
    small(root);
    let good = std::fs::read_to_string(root.join("train.csv")).unwrap();
    let refused = |from: &str, to: &str, parts: &[&str]| {
        assert!(good.contains(from), "{from}");
        write(&root.join("train.csv"), good.replacen(from, to, 1));
        fails_naming(load(config(root)), parts);
    };
    refused(",Frontal,", ",Oblique,", &["train.csv, line 2", "Oblique", "Frontal or Lateral"]);
    refused("-1.0", "2.0", &["train.csv, line 2", "2.0", "Edema"]);
    refused("Pneumothorax", "Pneumo", &["train.csv", "Pneumothorax", "Pneumo"]);
    refused("/train/patient00001", "/../../patient00001", &["line 2", "patient00001"]);
    refused("train/patient00001/study1", "train/subject1/study1", &["line 2", "patientNNNNN"]);
    let first = good.lines().nth(1).unwrap();
    refused("CheXpert-v1.0-small/train/patient00002", &format!("{first}\nx"), &["line 4", "second line"]);
    std::fs::remove_dir_all(root.join("train")).unwrap();
    std::fs::remove_dir_all(root.join("valid")).unwrap();
    write(&root.join("train.csv"), &good);
    fails_naming(load(config(root)), &["found no film", "unpack"]);
}
