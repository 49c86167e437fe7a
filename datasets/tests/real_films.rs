//! Real films, where this machine has them: counts as documented with the data, and known pixels.

mod common;

use datasets::{DataConfig, FilmDataset, Split, detect};

#[test]
fn nih_array_file() {
    let Some(data) = common::real_data() else { return };
    let path = data.join("nih_chestxray14/nih10k_64.npz");
    let mut config = DataConfig::new(detect(&path).unwrap());
    config.side = 32;
    let films = FilmDataset::open(&config).unwrap();
    assert_eq!(Split::ALL.map(|split| films.indices(split).len()), [7427, 1081, 1492]);
    let positives = |split: Split, label: usize| {
        films.examples().iter().filter(|e| e.split == split && e.labels[label] == Some(true)).count()
    };
    assert_eq!(
        (0..14).map(|label| positives(Split::Train, label)).collect::<Vec<_>>(),
        [636, 123, 580, 898, 205, 294, 74, 307, 210, 58, 140, 131, 212, 13]
    );
    assert_eq!(positives(Split::Validation, 13), 0);
    assert_eq!(films.examples()[0].id, "00001337_000.png");
    assert_eq!(films.examples()[0].patient, "1337");
    let film = films.film(0).unwrap();
    let mean = film.pixels.iter().sum::<f32>() / 1024.0;
    assert!((0.2..0.8).contains(&mean), "{mean}");
}

#[test]
fn nih_folder() {
    let Some(data) = common::real_data() else { return };
    let root = data.join("nih_chestxray14/png128");
    let mut config = DataConfig::new(detect(&root).unwrap());
    config.side = 64;
    let films = FilmDataset::open(&config).unwrap();
    assert_eq!(Split::ALL.map(|split| films.indices(split).len()), [1300, 250, 450]);
    let patients: std::collections::BTreeSet<&str> =
        films.examples().iter().map(|example| example.patient.as_str()).collect();
    assert_eq!(patients.len(), 651);
    let batch = films.films(&films.indices(Split::Validation)).unwrap();
    assert!(batch.iter().all(|film| film.pixels.len() == 64 * 64));

    // The array file holds the same films, box-averaged to 64: ours must agree to rounding.
    let array =
        FilmDataset::open(&DataConfig::new(detect(&data.join("nih_chestxray14/nih10k_64.npz")).unwrap()));
    let array = array.unwrap();
    let mut largest = 0f32;
    for index in (0..films.len()).step_by(97) {
        let id = &films.examples()[index].id;
        let same = array.examples().iter().position(|example| example.id == *id).unwrap();
        assert_eq!(films.examples()[index].labels, array.examples()[same].labels);
        assert_eq!(films.examples()[index].split, array.examples()[same].split, "{id}");
        let (ours, theirs) = (films.film(index).unwrap(), array.film(same).unwrap());
        for (a, b) in ours.pixels.iter().zip(&theirs.pixels) {
            largest = largest.max((a - b).abs());
        }
    }
    assert!(largest < 1.01 / 255.0, "largest difference {largest}");
}
