//! The model file: what is written is read back, and whatever was altered is refused by name.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use he_model::zoo::{Architecture, Recipe, random, random_input};
use he_model::{
    FileError, FilmFit, HeModel, Offsets, Op, PlanOptions, Preprocessing, Ranges, SecurityLevel, Shape, plan,
};

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
    let first = graph.nodes().iter().find(|n| matches!(n.op(), Op::Conv2d(_))).unwrap();
    let offsets = Offsets::from([(first.name().to_owned(), vec![0.125; first.shape().channels])]);
    HeModel {
        plan: plan(&graph, &options).unwrap(),
        ranges,
        graph,
        labels: vec!["effusion".into(), "mass".into()],
        preprocessing: Preprocessing {
            film_side: 64,
            film_fit: FilmFit::default(),
            latent: input,
            encoder_digest: "abc".into(),
            latent_range: 1.0,
        },
        offsets,
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

/// Files that do not say how films become square are of before they did, when all clients cropped.
#[test]
fn how_films_become_square_is_part_of_a_model() {
    let text = |model: &HeModel| serde_json::to_string(&model.preprocessing).unwrap();
    let cropped = model();
    assert!(!text(&cropped).contains("film_fit"));
    let mut padded = cropped.clone();
    padded.preprocessing.film_fit = FilmFit::Pad;
    assert!(text(&padded).contains(r#""film_fit":"pad""#));
    assert_ne!(padded.digest(), cropped.digest());
    let folder = tempfile::tempdir().unwrap();
    for model in [cropped, padded] {
        let path = folder.path().join("model.safetensors");
        model.save(&path).unwrap();
        assert_eq!(HeModel::load(&path).unwrap().preprocessing, model.preprocessing);
    }
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
    let error = altered(|b| replace(b, "\"head.bias\":{", "\"head.bios\":{"));
    assert!(matches!(&error, FileError::MissingTensor { tensor, .. } if tensor == "head.bias"), "{error}");
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

#[test]
fn a_batch_is_read_as_it_was_written_and_one_that_cannot_be_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let mut model = model();
    let one = model.digest();
    for films in [2, 1] {
        model.plan.packing.frame_mut().films = films;
        model.save(&path).unwrap();
        assert_eq!(HeModel::load(&path).unwrap().plan.packing.films(), films);
        assert_eq!(model.digest() == one, films == 1, "a model for batches is another model");
    }
    for films in [0, 3, 1024, usize::MAX] {
        model.plan.packing.frame_mut().films = films;
        model.save(&path).unwrap();
        let error = HeModel::load(&path).unwrap_err();
        assert!(matches!(&error, FileError::Mismatch { reason, .. } if reason.contains("films")), "{error}");
    }
}

#[test]
fn offsets_that_fit_no_node_are_refused_and_those_that_fit_move_the_program() {
    let mut model = model();
    let plain = model.plan.program(&model.graph).unwrap();
    assert_ne!(model.program().unwrap(), plain);
    assert_ne!(HeModel { offsets: Offsets::new(), ..model.clone() }.digest(), model.digest());
    let input = random_input(model.graph.input_shape(), 1);
    let (name, numbers) = model.offsets.iter().next().unwrap();
    let (name, count) = (name.clone(), numbers.len());
    let stem = model.graph.find(&name).unwrap().0;
    let moved = model.graph.with_offsets(&model.offsets).unwrap().run_all(&input).unwrap();
    let still = model.graph.run_all(&input).unwrap();
    assert!(moved[stem].iter().zip(&still[stem]).all(|(a, b)| (a - b - 0.125).abs() < 1e-12));
    let bad = [
        ("nowhere", vec![0.0; 2]),
        ("input", vec![0.0; 3]),
        (&name, vec![0.0; 99]),
        (&name, vec![f64::INFINITY; count]),
    ];
    for (name, values) in bad {
        model.offsets = Offsets::from([(name.to_owned(), values)]);
        let error = model.program().unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        model.save(&path).unwrap();
        HeModel::load(&path).unwrap_err();
    }
}
