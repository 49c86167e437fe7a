//! The model file: what is written is read back, and whatever was altered is refused by name.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use he_model::zoo::{Architecture, Recipe, random, random_input};
use he_model::{FileError, HeModel, PlanOptions, Preprocessing, Ranges, SecurityLevel, Shape, plan};

fn model() -> HeModel {
    let input = Shape::new(3, 8, 8);
    let architecture = Architecture::ResNet(8);
    let recipe = Recipe { architecture, input, labels: 2, se: true, post_add_activation: true, shrink: 8 };
    let graph = random(&recipe, 5).unwrap();
    let options = PlanOptions {
        log_ring_degree: Some(10),
        security: SecurityLevel::InsecureForTests,
        ..PlanOptions::default()
    };
    let mut ranges = Ranges::new(&graph);
    ranges.observe(&graph, &random_input(input, 1)).unwrap();
    HeModel {
        plan: plan(&graph, &options).unwrap(),
        ranges,
        graph,
        labels: vec!["effusion".into(), "mass".into()],
        preprocessing: Preprocessing {
            film_side: 64,
            latent: input,
            encoder_digest: "abc".into(),
            latent_range: 1.0,
        },
        notes: BTreeMap::from([("architecture".into(), "ResNet8".into())]),
    }
}

/// Writes a model, changes the bytes, and returns the error of reading them.
fn altered(change: impl Fn(&mut Vec<u8>)) -> FileError {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    model().save(&path).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    change(&mut bytes);
    std::fs::write(&path, bytes).unwrap();
    HeModel::load(&path).unwrap_err()
}

/// Replaces text of equal length in the JSON header.
fn replace(bytes: &mut [u8], from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let at = bytes.windows(from.len()).position(|w| w == from.as_bytes()).expect("the text is there");
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
}

#[test]
fn a_model_is_read_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let model = model();
    model.save(&path).unwrap();
    let read = HeModel::load(&path).unwrap();
    assert!(read == model);
    assert_eq!(read.digest(), model.digest());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_changed_weight_is_refused_by_name() {
    let error = altered(|bytes| {
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
    });
    assert!(matches!(&error, FileError::Changed { what, .. } if what.contains('.')), "{error}");
}

#[test]
fn a_changed_header_another_version_and_a_missing_tensor_are_refused() {
    let error = altered(|b| replace(b, "effusion", "infusion"));
    assert!(matches!(error, FileError::Changed { .. }), "{error}");
    let error = altered(|b| replace(b, "\"version\":\"2\"", "\"version\":\"9\""));
    assert!(matches!(error, FileError::Version { .. }), "{error}");
    let error = altered(|b| replace(b, "\"fc.bias\":{", "\"fc.bios\":{"));
    assert!(matches!(&error, FileError::MissingTensor { tensor, .. } if tensor == "fc.bias"), "{error}");
    let error = altered(|b| replace(b, "veilray-he-model", "veilray-xx-model"));
    assert!(matches!(error, FileError::Malformed { .. }), "{error}");
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    for keep in [0, 1, 7, 8, 100, 5000] {
        let error = altered(|b| b.truncate(keep));
        assert!(matches!(error, FileError::Malformed { .. }), "{error}");
    }
    let error = altered(|b| b.truncate(b.len() - 1));
    assert!(matches!(error, FileError::Malformed { .. }), "{error}");
    let missing = HeModel::load(std::path::Path::new("no/such/model")).unwrap_err();
    assert!(matches!(missing, FileError::Io { .. }));
}
