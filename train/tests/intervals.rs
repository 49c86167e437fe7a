//! Keeping activations inside their interval: the penalty on the largest value of each film, gains, fixed statistics; mixed
//! films.

use std::{
    fs,
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

use train::{
    Config, Session, TrainError, checkpoint::Kind, config, encode_latents, history::History,
    train_classifier, train_vqgan,
};

mod common;

use common::{StopAfter, TINY, tensors, tiny};

fn column(session: &Session<'_>, name: &str) -> Vec<f64> {
    let text =
        fs::read_to_string(session.classifier_dir().join("metrics.json")).expect("metrics are written");
    let history = History { rows: serde_json::from_str(&text).expect("a list of rows") };
    history.column(name).into_iter().map(|(_, value)| value).collect()
}

/// The same run with and without the penalty: with it, the largest values of the last epoch are smaller.
#[test]
fn the_peak_penalty_reins_in_the_largest_values() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [
        "classifier.model.activation.interval=1.0",
        "classifier.train.epochs=12",
        "classifier.train.range_penalty=0",
    ];
    let first = Session::quiet(folder.path());
    let config = tiny(&settings);
    train_vqgan(&config, &first).unwrap();
    let latents = encode_latents(&config, &first).unwrap();
    let largest = |weight: &str| {
        let session = Session::quiet(folder.path().join(weight));
        let weight = format!("classifier.train.peak_penalty={weight}");
        let config = tiny(&[&settings[..], &[&weight]].concat());
        train_classifier(&config, &latents, &session).unwrap();
        let last = |name: &str| *column(&session, name).last().unwrap();
        (last("largest/features.0.act"), last("train/peak_penalty"))
    };
    let (free, held) = (largest("0"), largest("1.0"));
    assert!(held.0 < 0.7 * free.0, "{held:?} and {free:?}");
    assert!(held.1 < 0.2 * free.1, "{held:?} and {free:?}");
}

/// All three on top of a trained network: its statistics stay, its weights do not, and a break changes no bit.
#[test]
fn fixed_statistics_stay_and_everything_resumes_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let first = Session::quiet(folder.path().join("first"));
    let config = tiny(&[]);
    train_vqgan(&config, &first).unwrap();
    let latents = encode_latents(&config, &first).unwrap();
    train_classifier(&config, &latents, &first).unwrap();
    let from = format!("classifier.train.start_from={:?}", first.classifier_model());
    let config = tiny(&[
        &from,
        "classifier.train.fixed_statistics=true",
        "classifier.train.peak_penalty=0.5",
        "classifier.train.augment.gain=0.3",
        "classifier.train.augment.mix=0.5",
    ]);
    let whole = Session::quiet(folder.path().join("whole"));
    train_classifier(&config, &latents, &whole).unwrap();
    let [before, after] = [&first, &whole].map(|s| tensors(s.classifier_model(), Kind::Classifier));
    let (mut fixed, mut trained) = (0, 0);
    for (name, values) in &before {
        if name.contains("running_") {
            assert_eq!(&after[name], values, "{name}");
            fixed += 1;
        } else {
            assert_ne!(&after[name], values, "{name}");
            trained += 1;
        }
    }
    assert!(fixed >= 2 && trained > fixed, "{fixed} and {trained} tensors");

    let broken = Session::quiet(folder.path().join("broken"));
    let flag = Arc::new(AtomicBool::new(false));
    let listener = StopAfter(7, Arc::clone(&flag));
    let stopped =
        train_classifier(&config, &latents, &Session::new(broken.dir(), &listener, flag)).unwrap_err();
    assert!(matches!(stopped, TrainError::Interrupted { step: 7, .. }), "{stopped}");
    train_classifier(&config, &latents, &broken).unwrap();
    assert_eq!(tensors(broken.classifier_model(), Kind::Classifier), after);
}

/// What is left at its default is not written: checkpoints from before there was a choice can be continued.
#[test]
fn settings_are_checked_and_left_out_at_their_defaults() {
    let parse = |text: &str| -> Result<Config, TrainError> {
        config::parse(TINY, Path::new("tiny.toml"), &[text.to_owned()])
    };
    let written = serde_json::to_string(&parse("classifier.train.augment.shift=1").unwrap()).unwrap();
    for field in ["gain", "mix", "peak_penalty", "fixed_statistics"] {
        assert!(!written.contains(&format!("{field:?}")), "{field}");
    }
    for (set, problem) in [
        ("classifier.train.augment.gain=1.0", "classifier.train.augment.gain is 1"),
        ("classifier.train.augment.gain=-0.1", "at least 0 and below 1"),
        ("classifier.train.augment.mix=1.5", "classifier.train.augment.mix is 1.5"),
        ("classifier.train.peak_penalty=-1.0", "classifier.train.peak_penalty is -1"),
        ("classifier.train.fixed_statistics=true", "start_from, which is missing"),
    ] {
        let refused = parse(set).unwrap_err().to_string();
        assert!(refused.contains(problem), "{refused}");
    }
}
