//! The layouts on disk, in small: every variant that real releases show.

mod common;

use common::{npy, open, png, write, zip};
use datasets::{
    DataConfig, FilmDataset, FolderConfig, NihConfig, NpzConfig, PhantomConfig, Source, Split, detect,
};
use std::io::Write;
use std::path::Path;

/// Eight films of four patients, in the header of the official release (11 fields for 9 names).
fn nih(root: &Path, images: &str) {
    let header = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,\
                  OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]";
    let mut table = String::from(header);
    for film in 0..8 {
        let (patient, number) = (1 + film / 2, film % 2);
        let name = format!("{patient:08}_{number:03}.png");
        let labels = ["No Finding", "Cardiomegaly|Emphysema", "Pleural_Thickening"][film % 3];
        table.push_str(&format!("\n{name},{labels},{number},{patient},58,M,PA,2682,2749,0.143,0.143"));
        png(&root.join(images).join(name), 32, 40 + 20 * film as u8);
    }
    write(&root.join("Data_Entry_2017_v2020.csv"), table);
}

fn nih_source(root: &Path) -> Source {
    Source::Nih(NihConfig { root: root.into() })
}

#[test]
fn nih_reads_every_nesting_the_same() {
    let mut digests = Vec::new();
    for images in ["images", "images_001/images", "sample/sample/images", "."] {
        let folder = tempfile::tempdir().unwrap();
        nih(folder.path(), images);
        assert_eq!(detect(folder.path()).unwrap(), nih_source(folder.path()));
        let films = open(nih_source(folder.path())).unwrap();
        assert_eq!(films.len(), 8);
        assert_eq!(films.label_names().len(), 14);
        let second = &films.examples()[1];
        assert_eq!((second.id.as_str(), second.patient.as_str()), ("00000001_001.png", "1"));
        let positive: Vec<usize> = (0..14).filter(|&label| second.labels[label] == Some(true)).collect();
        assert_eq!(positive, [1, 10]);
        let film = films.film(1).unwrap();
        assert!((film.pixels[0] - 30.0 / 255.0).abs() < 1e-6);
        assert!((film.pixels[15] - 60.0 / 255.0).abs() < 1e-6);
        digests.push(films.digest());
    }
    assert_ne!(digests[0], digests[1], "paths are part of the digest");
}

#[test]
fn nih_variants_of_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for name in ["00000007_000.png", "00000007_001.png", "00000009_000.png"] {
        png(&root.join("sample/images").join(name), 16, 200);
    }
    let table = "Image_Index,Finding_Labels,Follow_Up_#,Patient_ID,Patient_Age,Patient_Gender,View_Position\n\
                 00000007_000.png,No Finding,0,7,040Y,M,PA\n\
                 00000007_001.png,Hernia,1,7,040Y,M,PA\n\
                 00000009_000.png,Mass|Nodule,0,9,057Y,F,AP,,,\n\
                 00000010_000.png,Mass,0,10,057Y,F,AP\n";
    write(&root.join("sample_labels.csv"), table);
    let films = open(nih_source(root)).unwrap();
    assert_eq!(films.len(), 3);
    assert!(films.notes().iter().any(|note| note.starts_with("1 rows of the table have no image")));
}

#[test]
fn nih_lists_decide_the_splits() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    nih(root, "images");
    write(&root.join("test_list.txt"), "00000004_000.png\n00000004_001.png");
    let names = |patients: std::ops::Range<usize>| -> String {
        patients.flat_map(|p| (0..2).map(move |n| format!("{p:08}_{n:03}.png\n"))).collect()
    };
    write(&root.join("train_val_list.txt"), names(1..4));
    let films = open(nih_source(root)).unwrap();
    assert_eq!(films.indices(Split::Test), [6, 7]);
    let validation = films.indices(Split::Validation);
    assert_eq!(validation.len(), 2, "one whole patient is drawn");
    assert_eq!(films.examples()[validation[0]].patient, films.examples()[validation[1]].patient);
    write(&root.join("val_list.txt"), names(2..3));
    assert_eq!(open(nih_source(root)).unwrap().indices(Split::Validation), [2, 3]);
}

#[test]
fn colour_and_deep_images_become_grey() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    nih(root, "images");
    let rgba = image::RgbaImage::from_pixel(32, 32, image::Rgba([120, 120, 120, 255]));
    rgba.save(root.join("images/00000001_000.png")).unwrap();
    let deep = image::ImageBuffer::from_pixel(32, 32, image::Luma([32_896u16]));
    deep.save(root.join("images/00000001_001.png")).unwrap();
    let films = open(nih_source(root)).unwrap();
    assert!((films.film(0).unwrap().pixels[5] - 120.0 / 255.0).abs() < 2.0 / 255.0);
    assert!((films.film(1).unwrap().pixels[5] - 32_896.0 / 65_535.0).abs() < 1e-5);
}

fn medmnist(path: &Path, label_type: &str, label_columns: usize) {
    let mut members = Vec::new();
    let names: Vec<(String, String)> =
        ["train", "val", "test"].map(|s| (format!("{s}_images.npy"), format!("{s}_labels.npy"))).into();
    for (split, (images, labels)) in names.iter().enumerate() {
        let count = [6, 2, 3][split];
        let pixels: Vec<u8> = (0..count * 28 * 28).map(|i| (i / (28 * 28) * 10) as u8).collect();
        let width = if label_type == "|u1" { 1 } else { 8 };
        let mut values = vec![0u8; count * label_columns * width];
        for row in 0..count {
            values[(row * label_columns + row % label_columns) * width] = 1;
        }
        members.push((images.as_str(), npy("|u1", &[count, 28, 28], &pixels)));
        members.push((labels.as_str(), npy(label_type, &[count, label_columns], &values)));
    }
    zip(path, &members);
}

#[test]
fn npz_of_medmnist() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chestmnist.npz");
    for label_type in ["|u1", "<i8"] {
        medmnist(&path, label_type, 14);
        assert_eq!(detect(&path).unwrap(), detect(folder.path()).unwrap());
        let films = open(detect(&path).unwrap()).unwrap();
        assert_eq!(Split::ALL.map(|split| films.indices(split).len()), [6, 2, 3]);
        assert_eq!(films.label_names()[12], "Pleural_Thickening");
        assert_eq!(films.examples()[2].labels[2], Some(true));
        assert_eq!(films.examples()[2].labels.iter().filter(|label| **label == Some(true)).count(), 1);
        let film = films.film(4).unwrap();
        assert_eq!((film.height, film.pixels[77]), (16, 40.0 / 255.0));
    }
}

#[test]
fn npz_with_an_index_has_patients() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("films.npz");
    medmnist(&path, "|u1", 3);
    let mut index = String::from("split,row,Image Index,Finding Labels,Patient ID\n");
    for (split, count) in [("train", 6), ("val", 2), ("test", 3)] {
        for row in 0..count {
            index.push_str(&format!("{split},{row},{split}_{row}.png,No Finding,{split}{}\n", row / 2));
        }
    }
    let file = std::fs::File::create(folder.path().join("films_index.csv.gz")).unwrap();
    let mut gz = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    gz.write_all(index.as_bytes()).unwrap();
    gz.finish().unwrap();
    let films =
        open(Source::Npz(NpzConfig { path, label_names: vec!["a".into(), "b".into(), "c".into()] })).unwrap();
    assert_eq!(films.examples()[3].id, "train_3.png");
    assert_eq!(films.examples()[3].patient, "train1");
    assert_eq!(films.label_names(), ["a", "b", "c"]);
}

#[test]
fn folder_with_columns() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let mut table = String::from("filename,patient_id,age,Edema,Mass,split\n");
    for film in 0..6 {
        png(&root.join(format!("images/f{film}.png")), 20, 100);
        let mass = ["1", "0", "", "-1", "1.0", "0.0"][film];
        let split = ["train", "train", "train", "val", "test", "test"][film];
        table.push_str(&format!("f{film}.png,p{},{},1,{mass},{split}\n", film / 2, 30 + film));
    }
    write(&root.join("labels.csv"), table);
    let films = open(detect(root).unwrap()).unwrap();
    assert_eq!(films.label_names(), ["Edema", "Mass"], "age is no label");
    let mass: Vec<Option<bool>> = films.examples().iter().map(|example| example.labels[1]).collect();
    assert_eq!(mass, [Some(true), Some(false), None, None, Some(true), Some(false)]);
    assert_eq!(films.indices(Split::Test), [4, 5]);
    assert_eq!(films.indices(Split::Validation), [3]);
    assert_eq!(films.film(0).unwrap().pixels.len(), 256);
}

#[test]
fn folder_with_joined_labels() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    png(&root.join("a.png"), 20, 100);
    png(&root.join("b.png"), 20, 100);
    write(&root.join("films.csv"), "image,labels\na,Edema|Mass\nb,No Finding\n");
    let films = open(Source::Folder(FolderConfig::new(root))).unwrap();
    assert_eq!(films.label_names(), ["Edema", "Mass"]);
    assert_eq!(films.examples()[1].labels, [Some(false), Some(false)]);
}

#[test]
fn labels_limits_and_digest() {
    let phantom = Source::Phantom(PhantomConfig { films: 90, ..PhantomConfig::default() });
    let whole = FilmDataset::open(&DataConfig::new(phantom.clone())).unwrap();
    let mut config = DataConfig::new(phantom);
    config.labels = vec!["Edema".into(), "Atelectasis".into()];
    config.limits.train = Some(10);
    let part = FilmDataset::open(&config).unwrap();
    assert_eq!(part.indices(Split::Train).len(), 10);
    assert_eq!(part.indices(Split::Test).len(), whole.indices(Split::Test).len());
    for (index, example) in part.examples().iter().enumerate() {
        let same = whole.examples().iter().position(|other| other.id == example.id).unwrap();
        assert_eq!(example.labels, [whole.examples()[same].labels[7], whole.examples()[same].labels[0]]);
        assert_eq!(example.split, whole.examples()[same].split);
        if index % 20 == 0 {
            assert_eq!(part.film(index).unwrap(), whole.film(same).unwrap());
        }
    }
    assert_ne!(part.digest(), whole.digest());
    assert_eq!(part.digest(), FilmDataset::open(&config).unwrap().digest());
    let films = part.films(&[3, 1, 2]).unwrap();
    assert_eq!(films[1], part.film(1).unwrap());
    assert!(part.describe().contains("Edema"));
}

#[test]
fn bounding_boxes_of_nih() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    nih(root, "images");
    let list = root.join("BBox_List_2017.csv");
    let header = "Image Index,Finding Label,Bbox [x,y,w,h],,,\n";
    let good = "00000001_000.png,Infiltrate,225.08,547.02,86.78,79.19\nother.png,Mass,0,0,1024,1024,,\n";
    write(&list, format!("{header}{good}"));
    let boxes = datasets::nih::bounding_boxes(&list).unwrap();
    assert_eq!((boxes.len(), boxes[0].finding, boxes[0].x), (2, 3, 225.08));
    assert_eq!(boxes[1].at_side(256).width, 256.0);
    let films = open(nih_source(root)).unwrap();
    assert!(films.notes().iter().any(|note| note == "1 bounding boxes mark findings on these films."));
    for (line, parts) in [
        ("a.png,Masss,1,1,1,1", ["line 2", "Masss"]),
        ("a.png,Mass,1,1,1", ["line 2", "found nothing"]),
        ("a.png,Mass,1,1,wide,1", ["line 2", "wide"]),
        ("a.png,Mass,900,1,200,1", ["line 2", "within 1024"]),
        ("a.png,Mass,nan,1,2,1", ["line 2", "within 1024"]),
    ] {
        write(&list, format!("{header}{line}\n"));
        common::fails_naming(datasets::nih::bounding_boxes(&list), &parts);
    }
    let Some(data) = common::real_data() else { return };
    let real =
        datasets::nih::bounding_boxes(&data.join("nih_chestxray14/labels/BBox_List_2017.csv.gz")).unwrap();
    assert_eq!(real.len(), 984);
    let kinds: std::collections::BTreeSet<usize> = real.iter().map(|found| found.finding).collect();
    assert_eq!(kinds.len(), 8);
}
