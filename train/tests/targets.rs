//! Attributes and teachers as part of the target: they change what is learned, resume exactly, and leave no trace in the shape
//! of what is kept.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

use burn::tensor::Device;
use datasets::LatentSet;
use train::{
    Config, Session, TrainError, checkpoint::Kind, encode_latents, load_classifier, logits, train_classifier,
    train_vqgan,
};

mod common;

use common::{StopAfter, tensors, tiny};

const SHORT: &str = "vqgan.train.steps=6";

/// The run folder and latents that the classifiers of a test share.
fn shared(folder: &Path) -> LatentSet {
    let session = Session::quiet(folder.join("shared"));
    let config = tiny(&[SHORT]);
    train_vqgan(&config, &session).unwrap();
    encode_latents(&config, &session).unwrap()
}

/// Trains in `name` without a break, and in another folder with one; returns what the first kept.
fn trained_twice(config: &Config, latents: &LatentSet, folder: &Path, name: &str) -> train::ClassifierReport {
    let whole = Session::quiet(folder.join(name));
    let report = train_classifier(config, latents, &whole).unwrap();
    let dir = folder.join(format!("{name}-broken"));
    let flag = Arc::new(AtomicBool::new(false));
    let listener = StopAfter(7, Arc::clone(&flag));
    let stopped = train_classifier(config, latents, &Session::new(&dir, &listener, flag)).unwrap_err();
    assert!(matches!(stopped, TrainError::Interrupted { step: 7, .. }), "{stopped}");
    let again = train_classifier(config, latents, &Session::quiet(&dir)).unwrap();
    assert_eq!(again.digest, report.digest);
    let last = |dir: &Path| tensors(dir.join("classifier/last.safetensors"), Kind::Classifier);
    assert_eq!(last(&dir), last(whole.dir()));
    report
}

#[test]
fn attributes_shape_training_and_are_dropped_from_what_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let latents = shared(folder.path());
    let table = folder.path().join("films.csv");
    // Every third film is not in the table.
    let row = |(film, id): (usize, &String)| (film % 3 > 0).then(|| format!("{id},{},{film}\n", film % 2));
    let rows = latents.ids.iter().enumerate().filter_map(row).collect::<String>();
    fs::write(&table, format!("film,view,age\n{rows}")).unwrap();
    let from = format!(
        "classifier.train.auxiliary.from={{ table = {table:?}, film = \"film\", attributes = [{{ column = \"view\", is = \"1\" }}, {{ column = \"age\", above = 20 }}] }}"
    );
    let config = tiny(&[SHORT, &from, "classifier.train.average.decay=0.5"]);
    let plain = tiny(&[SHORT, "classifier.train.average.decay=0.5"]);
    let report = trained_twice(&config, &latents, folder.path(), "attributes");
    let without = train_classifier(&plain, &latents, &Session::quiet(folder.path().join("without"))).unwrap();
    assert_ne!(report.digest, without.digest);

    let session = Session::quiet(folder.path().join("attributes"));
    let kept = load_classifier(&session.classifier_model(), &Device::flex()).unwrap();
    assert_eq!(kept.config.labels, latents.label_names.len());
    assert_eq!(logits(&kept.net, &kept.config, &latents, &[0]).unwrap()[0].len(), latents.label_names.len());

    // Weights that were kept start another run with attributes, whose logits start afresh.
    let start = format!("classifier.train.start_from={:?}", session.classifier_model());
    let tuned = tiny(&[SHORT, &from, &start, "classifier.train.learning_rate=1e-9"]);
    let second = Session::quiet(folder.path().join("second"));
    train_classifier(&tuned, &latents, &second).unwrap();
    let head = |session: &Session<'_>| {
        tensors(session.classifier_model(), Kind::Classifier)["head.weight"].1.clone()
    };
    assert!(head(&session).iter().zip(head(&second)).all(|(a, b)| (a - b).abs() < 1e-6));

    // Other answers are another run.
    fs::write(&table, format!("film,view,age\n{}", rows.replace(",1,", ",0,"))).unwrap();
    let dir = folder.path().join("attributes");
    let refused = train_classifier(&config, &latents, &Session::quiet(&dir)).unwrap_err();
    assert!(matches!(refused, TrainError::OtherRun { .. }), "{refused}");
    let nothing = tiny(&[SHORT, &from.replace("films.csv", "nowhere.csv")]);
    let refused = train_classifier(&nothing, &latents, &Session::quiet(folder.path().join("nothing")));
    assert!(refused.unwrap_err().to_string().contains("nowhere.csv"));
}

#[test]
fn a_student_comes_close_to_its_teacher() {
    let folder = tempfile::tempdir().unwrap();
    let latents = shared(folder.path());
    let relu = Session::quiet(folder.path().join("relu"));
    let relu_config =
        tiny(&[SHORT, "classifier.model.activation.kind=\"relu\"", "classifier.train.epochs=10"]);
    train_classifier(&relu_config, &latents, &relu).unwrap();
    let teacher = relu.classifier_model();
    let teachers = format!("classifier.train.distill.teachers=[{teacher:?}, {teacher:?}]");
    let distilled = ["classifier.train.distill.weight=1.0", "classifier.train.distill.temperature=2.0"];
    let config = tiny(&[&[SHORT, &*teachers, "classifier.train.augment.shift=1"], &distilled[..]].concat());
    trained_twice(&config, &latents, folder.path(), "student");

    let far = tiny(&[
        SHORT,
        "classifier.model.activation.kind=\"relu\"",
        "run.seed=9",
        "classifier.train.epochs=20",
    ]);
    let near = tiny(
        &[
            &[
                SHORT,
                &*teachers,
                "classifier.model.activation.kind=\"relu\"",
                "run.seed=9",
                "classifier.train.epochs=20",
            ],
            &distilled[..],
        ]
        .concat(),
    );
    let scores = |session: &Session<'_>| {
        let net = load_classifier(&session.classifier_model(), &Device::flex()).unwrap();
        let all = (0..latents.len()).collect::<Vec<_>>();
        logits(&net.net, &net.config, &latents, &all).unwrap().concat()
    };
    let distance = |name: &str, config: &Config| {
        let session = Session::quiet(folder.path().join(name));
        train_classifier(config, &latents, &session).unwrap();
        scores(&session).iter().zip(scores(&relu)).map(|(a, b)| (a - b).powi(2)).sum::<f64>()
    };
    let (far, near) = (distance("far", &far), distance("near", &near));
    assert!(near < 0.8 * far, "the distance to the teacher is {near}, without it {far}");

    let mut others = latents.clone();
    others.encoder_digest = "another".into();
    let refused =
        train_classifier(&config, &others, &Session::quiet(folder.path().join("others"))).unwrap_err();
    assert!(refused.to_string().contains("another encoder"), "{refused}");
}

#[test]
fn settings_that_cannot_work_are_refused_by_name() {
    let refused = |set: &str| {
        let parsed = train::config::parse(common::TINY, Path::new("tiny.toml"), &[set.to_owned()]);
        parsed.and_then(|config| config.validate()).unwrap_err().to_string()
    };
    assert!(refused("classifier.train.distill.teachers=[]").contains("distill.teachers"));
    let heavy = "classifier.train.distill={ teachers = [\"a\"], weight = 1.5 }";
    assert!(refused(heavy).contains("distill.weight"));
    assert!(refused("classifier.train.distill={ teachers = [\"a\"], wait = 1 }").contains("wait"));
    let none = "classifier.train.auxiliary.from={ table = \"a\", attributes = [] }";
    assert!(refused(none).contains("auxiliary.from.attributes"));
}
