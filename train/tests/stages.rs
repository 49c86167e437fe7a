//! The stages on a tiny phantom: they learn, they resume exactly, and they refuse what does not fit.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use burn::tensor::Device;
use datasets::{LatentSet, Split};
use train::{
    Session, TrainError,
    checkpoint::{Checkpoint, Kind},
    config, encode_latents, evaluate, load_classifier, load_vqgan, test_reconstruction, test_report,
    train_classifier, train_vqgan,
};

mod common;

use common::{StopAfter, TINY, tensors, tiny};

/// Both networks, once without a break and once interrupted in each stage: the same weights, bit for bit.
#[test]
fn an_interrupted_run_computes_what_an_uninterrupted_one_would() {
    let config = tiny(&[]);
    let folder = tempfile::tempdir().unwrap();
    let whole = Session::quiet(folder.path().join("whole"));
    let vqgan = train_vqgan(&config, &whole).unwrap();
    let latents = encode_latents(&config, &whole).unwrap();
    let report = train_classifier(&config, &latents, &whole).unwrap();
    assert_eq!((vqgan.steps, report.epochs), (12, 3));

    let broken_dir = folder.path().join("broken");
    for stop in [3, 8] {
        let flag = Arc::new(AtomicBool::new(false));
        let listener = StopAfter(stop, Arc::clone(&flag));
        let session = Session::new(&broken_dir, &listener, flag);
        let stopped = train_vqgan(&config, &session).unwrap_err();
        assert!(matches!(stopped, TrainError::Interrupted { step, .. } if step == stop), "{stopped}");
    }
    let session = Session::quiet(&broken_dir);
    let again = train_vqgan(&config, &session).unwrap();
    assert_eq!(again.digest, vqgan.digest);
    let last = |dir: &Path, network: &str| dir.join(network).join("last.safetensors");
    assert_eq!(
        tensors(last(&broken_dir, "vqgan"), Kind::Vqgan),
        tensors(last(whole.dir(), "vqgan"), Kind::Vqgan)
    );

    let latents = encode_latents(&config, &session).unwrap();
    let flag = Arc::new(AtomicBool::new(false));
    let listener = StopAfter(7, Arc::clone(&flag));
    let stopped =
        train_classifier(&config, &latents, &Session::new(&broken_dir, &listener, flag)).unwrap_err();
    assert!(matches!(stopped, TrainError::Interrupted { step: 7, .. }), "{stopped}");
    let again = train_classifier(&config, &latents, &session).unwrap();
    assert_eq!(again.digest, report.digest);
    assert_eq!(again.validation, report.validation);
    assert_eq!(
        tensors(last(&broken_dir, "classifier"), Kind::Classifier),
        tensors(last(whole.dir(), "classifier"), Kind::Classifier)
    );
    // A finished stage returns at once, with the same report.
    assert_eq!(train_classifier(&config, &latents, &session).unwrap().digest, report.digest);
}

/// A validation film on which the polynomials overflow ends no training while it lasts, and is named where no epoch is left.
#[test]
fn a_film_without_numbers_is_named_at_the_end() {
    let config = tiny(&[]);
    let folder = tempfile::tempdir().unwrap();
    let session = Session::quiet(folder.path());
    train_vqgan(&config, &session).unwrap();
    let mut latents = encode_latents(&config, &session).unwrap();
    let film = latents.indices(Split::Validation)[1];
    let len = latents.latent_len();
    latents.latents[film * len..(film + 1) * len].fill(1e30);
    let error = train_classifier(&config, &latents, &session).unwrap_err().to_string();
    assert!(error.contains(&latents.ids[film]) && error.contains("range_penalty"), "{error}");
    let history = fs::read_to_string(folder.path().join("classifier/metrics.csv")).unwrap();
    assert_eq!(history.lines().count(), 1 + 3, "every epoch was gone through:\n{history}");
}

/// Without a label that has both positives and negatives no epoch has an AUROC: the lowest loss chooses, and the listener is
/// told.
#[test]
fn without_any_auroc_the_lowest_loss_is_kept() {
    #[derive(Default)]
    struct Heard(std::sync::Mutex<String>);
    impl train::Progress for Heard {
        fn finish(&self, summary: &str) {
            self.0.lock().unwrap().push_str(summary);
        }
    }
    let config = tiny(&["classifier.train.epochs=6", "classifier.train.learning_rate=0.05"]);
    let folder = tempfile::tempdir().unwrap();
    let heard = Heard::default();
    let session = Session::new(folder.path(), &heard, Arc::default());
    train_vqgan(&config, &session).unwrap();
    let mut latents = encode_latents(&config, &session).unwrap();
    for film in latents.indices(Split::Validation) {
        latents.labels[film].fill(Some(false));
    }
    let report = train_classifier(&config, &latents, &session).unwrap();
    assert_eq!(report.validation.macro_.auroc, None);
    let rows = fs::read_to_string(folder.path().join("classifier/metrics.json")).unwrap();
    let history = train::history::History { rows: serde_json::from_str(&rows).unwrap() };
    let losses = history.column("validation/loss");
    let lowest = losses.iter().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
    let per_epoch = losses[0].0;
    assert_eq!((losses.len(), report.best_epoch), (6, lowest.0 / per_epoch), "{losses:?}");
    let heard = heard.0.lock().unwrap();
    assert!(
        heard.contains("undefined in every epoch") && heard.contains("lowest validation loss"),
        "{heard}"
    );
}

#[test]
fn training_reduces_the_loss_and_leaves_a_complete_run_folder() {
    let config =
        tiny(&["vqgan.train.steps=60", "vqgan.train.validate_every=30", "classifier.train.epochs=12"]);
    let folder = tempfile::tempdir().unwrap();
    let session = Session::quiet(folder.path());
    train_vqgan(&config, &session).unwrap();
    let latents = encode_latents(&config, &session).unwrap();
    let report = train_classifier(&config, &latents, &session).unwrap();

    let column = |network: &str, name: &str| {
        let path = folder.path().join(network).join("metrics.json");
        let rows = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        train::history::History { rows }.column(name)
    };
    for (network, name) in [("vqgan", "train/reconstruction_loss"), ("classifier", "train/loss")] {
        let losses = column(network, name);
        let (first, last) = (losses.first().unwrap().1, losses.last().unwrap().1);
        assert!(last < first, "{network}: {first} to {last}");
    }
    for file in ["config.toml", "latents.safetensors", "vqgan/metrics.csv", "vqgan/reconstructions.png"] {
        assert!(folder.path().join(file).exists(), "{file}");
    }
    let kept = fs::read_to_string(folder.path().join("config.toml")).unwrap();
    assert_eq!(config::parse(&kept, Path::new("config.toml"), &[]).unwrap(), config);

    let classifier = load_classifier(&session.classifier_model(), &Device::flex()).unwrap();
    assert_eq!(classifier.label_names, latents.label_names);
    assert_eq!(evaluate(&classifier, &latents, Split::Validation).unwrap(), report.validation);
    let (model, _) = load_vqgan(&session.vqgan_model(), &Device::flex()).unwrap();
    assert_eq!(model, config.vqgan.model);

    let report = test_report(&config, &latents, &session).unwrap();
    assert_eq!(report.classifier, evaluate(&classifier, &latents, Split::Test).unwrap());
    let baseline = &report.reconstruction.baseline;
    assert_eq!((baseline.words, baseline.side), (16, 2));
    assert!((15.0..45.0).contains(&baseline.psnr), "{baseline:?}");
    assert_eq!(report.ranges.len(), 4, "LeNet's activations");
    assert!(report.ranges.iter().all(|layer| layer.largest > 0.0 && layer.interval == 6.0));
    let [low, high] = report.intervals.micro.auroc.unwrap();
    assert!((low..=high).contains(&report.classifier.micro.auroc.unwrap()), "{low} to {high}");
    let csv = fs::read_to_string(folder.path().join("test.csv")).unwrap();
    assert!(csv.contains("macro AUROC,") && csv.contains("k-means PSNR,"), "{csv}");
    assert!(folder.path().join("test.json").exists());
    let both: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.path().join("test.json")).unwrap()).unwrap();
    assert_eq!(both["vqgan"]["psnr"].as_f64(), Some(report.reconstruction.vqgan.psnr));

    // Without a classifier the same of the VQGAN, beside it: the report of both stays.
    assert_eq!(test_reconstruction(&config, &session).unwrap(), report.reconstruction);
    assert_eq!(fs::read_to_string(folder.path().join("test.csv")).unwrap(), csv);
    let alone = fs::read_to_string(folder.path().join("vqgan/test.csv")).unwrap();
    assert_eq!(alone.lines().count(), 5, "{alone}");
    assert!(alone.lines().skip(1).all(|line| csv.contains(line)), "{alone}");
}

/// Everything that changes films, latents and weights on the way, and a break in the middle: the same bits.
#[test]
fn averages_and_augmentation_resume_exactly_too() {
    let config = tiny(&[
        "vqgan.train.augment.shift=0.1",
        "vqgan.train.average.decay=0.9",
        "vqgan.train.keep_every=6",
        "classifier.train.augment.copies=2",
        "classifier.train.average.decay=0.9",
        "classifier.train.keep_every=2",
    ]);
    let folder = tempfile::tempdir().unwrap();
    let whole = Session::quiet(folder.path().join("whole"));
    let vqgan = train_vqgan(&config, &whole).unwrap();
    let latents = encode_latents(&config, &whole).unwrap();
    let report = train_classifier(&config, &latents, &whole).unwrap();
    for kept in ["vqgan/step-6", "vqgan/step-12", "classifier/epoch-2", "latents-2"] {
        assert!(whole.dir().join(format!("{kept}.safetensors")).exists(), "{kept}");
    }
    let plain = Session::quiet(folder.path().join("plain"));
    assert_ne!(train_vqgan(&tiny(&[]), &plain).unwrap().digest, vqgan.digest, "the changes change something");

    let dir = folder.path().join("broken");
    let interrupted = |stop: u64, run: &dyn Fn(&Session<'_>) -> TrainError| {
        let flag = Arc::new(AtomicBool::new(false));
        let listener = StopAfter(stop, Arc::clone(&flag));
        let stopped = run(&Session::new(&dir, &listener, flag));
        assert!(matches!(stopped, TrainError::Interrupted { .. }), "{stopped}");
    };
    interrupted(8, &|session| train_vqgan(&config, session).unwrap_err());
    let session = Session::quiet(&dir);
    assert_eq!(train_vqgan(&config, &session).unwrap().digest, vqgan.digest);
    let latents = encode_latents(&config, &session).unwrap();
    interrupted(7, &|session| train_classifier(&config, &latents, session).unwrap_err());
    assert_eq!(train_classifier(&config, &latents, &session).unwrap().digest, report.digest);
}

/// A polynomial network starts from the weights of its ReLU twin, and nothing else does.
#[test]
fn polynomials_start_from_a_relu_twin() {
    let folder = tempfile::tempdir().unwrap();
    let relu = Session::quiet(folder.path().join("relu"));
    let config = tiny(&["vqgan.train.steps=6", "classifier.model.activation.kind=\"relu\""]);
    train_vqgan(&config, &relu).unwrap();
    let latents = encode_latents(&config, &relu).unwrap();
    train_classifier(&config, &latents, &relu).unwrap();
    let twin = format!("classifier.train.start_from={:?}", relu.classifier_model());
    let tuned = tiny(&["vqgan.train.steps=6", "classifier.train.learning_rate=1e-9", &twin]);
    let poly = Session::quiet(folder.path().join("poly"));
    train_classifier(&tuned, &latents, &poly).unwrap();
    let (a, b) = (
        tensors(relu.classifier_model(), Kind::Classifier),
        tensors(poly.classifier_model(), Kind::Classifier),
    );
    assert!(b.contains_key("features.0.act.coefficients") && !a.contains_key("features.0.act.coefficients"));
    let difference =
        |name: &str| a[name].1.iter().zip(&b[name].1).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(difference("features.0.conv.weight") < 1e-6 && difference("head.weight") < 1e-6);
    let wide = tiny(&["classifier.model.width_divisor=4", &twin]);
    let refused = train_classifier(&wide, &latents, &Session::quiet(folder.path().join("wide"))).unwrap_err();
    assert!(refused.to_string().contains("expected shape"), "{refused}");
}

/// The activations that nothing is trained in learn too, inside their interval.
#[test]
fn square_and_chebyshev_activations_train() {
    let folder = tempfile::tempdir().unwrap();
    let first = Session::quiet(folder.path().join("first"));
    train_vqgan(&tiny(&["vqgan.train.steps=6"]), &first).unwrap();
    let latents = encode_latents(&tiny(&["vqgan.train.steps=6"]), &first).unwrap();
    for kind in ["square", "chebyshev-relu"] {
        let kind_set = format!("classifier.model.activation.kind={kind:?}");
        let config = tiny(&[&kind_set, "classifier.train.epochs=10", "classifier.train.range_penalty=1.0"]);
        let session = Session::quiet(folder.path().join(kind));
        train_classifier(&config, &latents, &session).unwrap();
        let path = session.classifier_dir().join("metrics.json");
        let rows = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        let losses = train::history::History { rows }.column("train/loss");
        assert!(losses.last().unwrap().1 < losses[0].1, "{kind}: {losses:?}");
    }
}

/// A folder that cannot be written: the error names it, and what was there before is whole. `full_disk.rs` has the disk.
#[test]
fn a_folder_that_cannot_be_written_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let session = Session::quiet(folder.path());
    let config = tiny(&["vqgan.train.steps=6"]);
    train_vqgan(&config, &session).unwrap();
    let before = fs::read(session.vqgan_model()).unwrap();
    fs::write(folder.path().join("classifier"), "a file where the stage wants its folder").unwrap();
    let latents = encode_latents(&config, &session).unwrap();
    let refused = train_classifier(&config, &latents, &session).unwrap_err().to_string();
    assert!(refused.contains("classifier") && refused.contains("could not"), "{refused}");
    assert_eq!(fs::read(session.vqgan_model()).unwrap(), before);
}

#[test]
fn gradients_add_up_over_batches() {
    let folder = tempfile::tempdir().unwrap();
    // Adam divides by the root of what may be rounding alone; a large epsilon keeps that from growing.
    let common = ["vqgan.train.adam.epsilon=1e-3", "classifier.train.adam.epsilon=1e-3"];
    let plain = [
        "classifier.model.batch_norm=false",
        "classifier.model.activation.interval=0.2",
        "classifier.train.peak_penalty=0.01",
        "vqgan.train.discriminator.start=100",
    ];
    let halved = [
        "vqgan.train.batch=2",
        "vqgan.train.accumulate=2",
        "classifier.train.batch=3",
        "classifier.train.accumulate=3",
    ];
    let whole = ["classifier.train.batch=9"];
    // Both VQGANs differ by rounding, and a latent that lies between two codes can choose another: the classifiers that are
    // compared get the same latents.
    let run = |name: &str, settings: &[&[&str]], latents: Option<LatentSet>| {
        let config = tiny(&settings.concat());
        let session = Session::quiet(folder.path().join(name));
        train_vqgan(&config, &session).unwrap();
        let latents = latents.unwrap_or_else(|| {
            let mut latents = encode_latents(&config, &session).unwrap();
            // Unknown labels, unevenly spread: a mean over labels is not the mean of the parts' means.
            for (film, labels) in latents.labels.iter_mut().enumerate() {
                labels.iter_mut().skip(film % 4).for_each(|label| *label = None);
            }
            latents
        });
        train_classifier(&config, &latents, &session).unwrap();
        (config, session, latents)
    };
    let losses = |session: &Session<'_>, network: &str, name: &str| {
        let path = session.dir().join(network).join("metrics.json");
        let rows = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        train::history::History { rows }.column(name)
    };
    let (_, one, latents) = run("one", &[&common, &plain, &whole], None);
    let (_, two, _) = run("two", &[&common, &plain, &halved], Some(latents));
    for (network, name) in [
        ("vqgan", "train/reconstruction_loss"),
        ("vqgan", "train/codebook_loss"),
        ("vqgan", "train/gradient_norm"),
        ("vqgan", "validation/psnr"),
        ("classifier", "train/loss"),
        ("classifier", "train/range_penalty"),
        ("classifier", "train/peak_penalty"),
        ("classifier", "train/gradient_norm"),
    ] {
        let (a, b) = (losses(&one, network, name), losses(&two, network, name));
        assert!(!a.is_empty() && a.len() == b.len(), "{name}: {a:?}, {b:?}");
        for ((step, a), (_, b)) in a.into_iter().zip(b) {
            assert!((a - b).abs() < 1e-4 * a.abs().max(1e-3), "{name} at step {step}: {a} and {b}");
        }
    }

    // With batch norm and discriminator, whose statistics are each part's own, and a break.
    let (config, whole, latents) = run("whole", &[&halved], None);
    let dir = folder.path().join("broken");
    let flag = Arc::new(AtomicBool::new(false));
    let listener = StopAfter(8, Arc::clone(&flag));
    train_vqgan(&config, &Session::new(&dir, &listener, flag)).unwrap_err();
    let session = Session::quiet(&dir);
    train_vqgan(&config, &session).unwrap();
    assert_eq!(
        tensors(session.vqgan_model(), Kind::Vqgan),
        tensors(whole.vqgan_model(), Kind::Vqgan),
        "an interrupted run"
    );
    let flag = Arc::new(AtomicBool::new(false));
    let listener = StopAfter(7, Arc::clone(&flag));
    train_classifier(&config, &latents, &Session::new(&dir, &listener, flag)).unwrap_err();
    train_classifier(&config, &latents, &session).unwrap();
    assert_eq!(
        tensors(session.classifier_model(), Kind::Classifier),
        tensors(whole.classifier_model(), Kind::Classifier)
    );
    let refused = config::parse(TINY, Path::new("tiny.toml"), &["vqgan.train.accumulate=0".to_owned()]);
    assert!(refused.unwrap_err().to_string().contains("vqgan.train.accumulate is 0"));
}

/// Burn's random numbers are one stream for the whole process: a network that is read in another thread takes none of those that
/// the weights of this one follow from.
#[test]
fn weights_follow_from_their_seed_while_others_are_read() {
    let config = tiny(&["vqgan.train.steps=6"]);
    let folder = tempfile::tempdir().unwrap();
    let session = Session::quiet(folder.path());
    train_vqgan(&config, &session).unwrap();
    let device = Device::flex();
    let weights = || {
        let net = train::state::seeded(&device, 1, || config.vqgan.model.init(&device)).unwrap();
        train::state::collect(&net)
    };
    let alone = weights();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                load_vqgan(&session.vqgan_model(), &Device::flex()).unwrap();
            }
        });
        let same = (0..100).all(|_| weights() == alone);
        done.store(true, Ordering::Relaxed);
        assert!(same);
    });
}

/// Averaged codes learn without a gradient of their own, and resume exactly.
#[test]
fn a_codebook_of_averages_trains_and_resumes_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let settings = ["vqgan.train.steps=40", "vqgan.train.codebook.average_decay=0.8"];
    let config = tiny(&settings);
    let whole = Session::quiet(folder.path().join("whole"));
    let report = train_vqgan(&config, &whole).unwrap();
    let last = tensors(whole.vqgan_dir().join("last.safetensors"), Kind::Vqgan);
    assert!(last.contains_key("optimizer.quant_conv.weight.moment_1"));
    assert!(!last.contains_key("optimizer.quantize.embedding.weight.moment_1"), "codes have no gradient");
    assert_eq!(last["codebook_average.sums"].0, last["quantize.embedding.weight"].0);
    let dir = folder.path().join("broken");
    for stop in [3, 4, 23] {
        let flag = Arc::new(AtomicBool::new(false));
        let listener = StopAfter(stop, Arc::clone(&flag));
        train_vqgan(&config, &Session::new(&dir, &listener, flag)).unwrap_err();
    }
    let session = Session::quiet(&dir);
    assert_eq!(train_vqgan(&config, &session).unwrap().digest, report.digest);
    assert_eq!(tensors(session.vqgan_dir().join("last.safetensors"), Kind::Vqgan), last);

    // The codes stay close to the encoder's outputs as well as those that follow the gradient do.
    let plain = Session::quiet(folder.path().join("plain"));
    train_vqgan(&tiny(&settings[..1]), &plain).unwrap();
    let distance = |session: &Session<'_>| {
        let rows = fs::read_to_string(session.vqgan_dir().join("metrics.json")).unwrap();
        let history = train::history::History { rows: serde_json::from_str(&rows).unwrap() };
        history.column("train/codebook_loss").last().unwrap().1
    };
    let (averaged, trained) = (distance(&whole), distance(&plain));
    assert!(averaged < 1.5 * trained, "{averaged} against {trained}");
    let refused = config::parse(TINY, Path::new("t"), &["vqgan.train.codebook.average_decay=1.0".to_owned()]);
    assert!(refused.unwrap_err().to_string().contains("average_decay is 1"));
}

/// A run with a perceptual distance and a discriminator: it lowers the distance, resumes exactly, knows its weights, and
/// refuses files that hold others.
#[test]
fn a_perceptual_distance_is_trained_for() {
    let folder = tempfile::tempdir().unwrap();
    let weights = folder.path().join("vgg.safetensors");
    let theirs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pytorch/perceptual.safetensors");
    fs::copy(&theirs, &weights).unwrap();
    let setting = format!("vqgan.train.perceptual.weights={weights:?}");
    let config = tiny(&[&setting, "vqgan.train.steps=60", "vqgan.train.discriminator.start=50"]);
    let whole = Session::quiet(folder.path().join("whole"));
    let report = train_vqgan(&config, &whole).unwrap();
    let history = |session: &Session<'_>| {
        let rows = fs::read_to_string(session.vqgan_dir().join("metrics.json")).unwrap();
        train::history::History { rows: serde_json::from_str(&rows).unwrap() }
    };
    let distances = history(&whole).column("train/perceptual_loss");
    assert_eq!(distances.len(), 3);
    assert!(distances[2].1 < 0.9 * distances[0].1, "{distances:?}");
    assert!(report.best.psnr > 10.0);

    let broken = Session::quiet(folder.path().join("broken"));
    let flag = Arc::new(AtomicBool::new(false));
    let listener = StopAfter(55, Arc::clone(&flag));
    train_vqgan(&config, &Session::new(broken.dir(), &listener, flag)).unwrap_err();
    // Other weights under the same name are another run.
    let mut state = train::import::read_pytorch(&theirs).unwrap();
    state.get_mut("lin2.model.1.weight").unwrap().1[0] += 0.5;
    let save = |state: &train::state::State| {
        let run = serde_json::Value::Null;
        let file = Checkpoint {
            kind: Kind::Vqgan,
            model: run.clone(),
            run: run.clone(),
            extra: run,
            tensors: state.clone(),
        };
        file.save(&weights).unwrap();
    };
    save(&state);
    let refused = train_vqgan(&config, &broken).unwrap_err().to_string();
    assert!(refused.contains("perceptual weights was"), "{refused}");
    fs::copy(&theirs, &weights).unwrap();
    assert_eq!(train_vqgan(&config, &broken).unwrap().digest, report.digest);

    let other = Session::quiet(folder.path().join("other"));
    state.remove("features.28.bias");
    save(&state);
    let refused = train_vqgan(&config, &other).unwrap_err().to_string();
    assert!(
        refused.contains("vgg.safetensors") && refused.contains("no tensor \"features.28.bias\""),
        "{refused}"
    );
    assert!(refused.contains("docs/training.md"), "{refused}");
    fs::remove_file(&weights).unwrap();
    assert!(train_vqgan(&config, &other).unwrap_err().to_string().contains("not found"));
    let small = [setting, "data.side=8".into(), "vqgan.model.side=8".into()];
    let refused = config::parse(TINY, Path::new("t"), &small).unwrap_err().to_string();
    assert!(refused.contains("at least 16 pixels"), "{refused}");
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let refused = |overrides: &[&str]| {
        let overrides = overrides.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        config::parse(TINY, Path::new("tiny.toml"), &overrides).unwrap_err().to_string()
    };
    let unknown = refused(&["vqgan.train.epochz=3"]);
    assert!(unknown.contains("tiny.toml: vqgan.train") && unknown.contains("epochz"), "{unknown}");
    let kind = refused(&["vqgan.train.batch=\"many\""]);
    assert!(kind.contains("vqgan.train.batch: invalid type"), "{kind}");
    let layer = refused(&["classifier.model.architecture=\"resnet21\""]);
    assert!(layer.contains("classifier.model.architecture") && layer.contains("resnet20"), "{layer}");
    let side = refused(&["vqgan.model.side=32"]);
    assert!(side.contains("vqgan.model.side is 32; it must be data.side, which is 16"), "{side}");
    assert!(refused(&["run.device=abacus"]).contains("this build knows: flex"));
    assert!(refused(&["no equals sign"]).contains("there is no '='"));
    assert!(refused(&["run.seed.deeper=1"]).contains("\"seed\" is a value, not a section"));
    let missing = config::read(Path::new("nowhere.toml"), &[]).unwrap_err().to_string();
    assert!(missing.contains("nowhere.toml: not found"), "{missing}");
}

#[test]
fn checkpoints_of_other_runs_and_other_architectures_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let session = Session::quiet(folder.path());
    let short = ["vqgan.train.steps=4", "vqgan.train.codebook.warmup_steps=1"];
    let config = tiny(&short);
    assert!(
        encode_latents(&config, &session)
            .unwrap_err()
            .to_string()
            .contains("run `veilray train vqgan` first")
    );
    train_vqgan(&config, &session).unwrap();

    let other = tiny(&[short[0], short[1], "vqgan.train.batch=5"]);
    let refused = train_vqgan(&other, &session).unwrap_err().to_string();
    assert!(refused.contains("vqgan.train.batch was 4, now 5"), "{refused}");

    let path = session.vqgan_model();
    let mut checkpoint = Checkpoint::load(&path, Kind::Vqgan).unwrap();
    checkpoint.model["width"] = 8.into();
    checkpoint.save(&path).unwrap();
    let refused = load_vqgan(&path, &Device::flex()).err().unwrap().to_string();
    assert!(refused.contains("expected shape") && refused.contains("another architecture"), "{refused}");

    fs::write(&path, &fs::read(&path).unwrap()[..200]).unwrap();
    let refused = load_vqgan(&path, &Device::flex()).err().unwrap().to_string();
    assert!(refused.contains("damaged or cut short"), "{refused}");
}

/// A learning rate that blows up is reported with its step, and the checkpoint before it is kept.
#[test]
fn a_loss_that_is_no_number_stops_the_run_and_names_the_step() {
    let folder = tempfile::tempdir().unwrap();
    let session = Session::quiet(folder.path());
    let config = tiny(&["vqgan.train.learning_rate=1e30", "vqgan.train.steps=200"]);
    let stopped = train_vqgan(&config, &session).unwrap_err();
    let TrainError::NotFinite { step, films, place, .. } = &stopped else { panic!("{stopped}") };
    assert!(
        stopped.to_string().contains(&format!("at step {step}{place}, on a batch of 4 films: {}", films[0]))
    );
    assert!(place.starts_with(", first at ") || place.starts_with(" in "), "{place:?}");
    let record = fs::read_to_string(session.vqgan_dir().join("not-finite.json")).unwrap();
    assert!(films.len() == 4 && films.iter().all(|film| record.contains(&format!("\"{film}\""))), "{record}");
}

/// Weights or films that overflow: the layer where that first shows, and the films of the batch, are named.
#[test]
fn what_is_no_number_is_named_with_its_layer_and_films() {
    let folder = tempfile::tempdir().unwrap();
    let config = tiny(&["vqgan.train.steps=20"]);
    let session = Session::quiet(folder.path());
    let flag = Arc::new(AtomicBool::new(false));
    let listener = StopAfter(6, Arc::clone(&flag));
    train_vqgan(&config, &Session::new(folder.path(), &listener, flag)).unwrap_err();
    let last = session.vqgan_dir().join("last.safetensors");
    let whole = Checkpoint::load(&last, Kind::Vqgan).unwrap();
    for spoiled in [
        "decoder.mid.block_2.conv2.weight",
        "encoder.down.1.block.0.norm2.weight",
        "discriminator.main.0.weight",
    ] {
        let mut checkpoint = whole.clone();
        checkpoint.tensors.get_mut(spoiled).unwrap().1.fill(f32::MAX);
        checkpoint.save(&last).unwrap();
        let stopped = train_vqgan(&config, &session).unwrap_err();
        let TrainError::NotFinite { step: 7, place, films, .. } = &stopped else { panic!("{stopped}") };
        let layer = place.strip_prefix(", first at ").unwrap();
        assert!(spoiled.starts_with(layer) && films.len() == 4, "{spoiled}: {stopped}");
    }

    // A latent that overflows in the first convolution: its layer, and the step at which its film is drawn.
    let config = tiny(&["vqgan.train.steps=6"]);
    let session = Session::quiet(folder.path().join("classifier-run"));
    train_vqgan(&config, &session).unwrap();
    let mut latents = encode_latents(&config, &session).unwrap();
    let film = latents.indices(Split::Train)[3];
    let values = latents.latent_len();
    latents.latents[film * values..][..values].fill(f32::MAX);
    let stopped = train_classifier(&config, &latents, &session).unwrap_err();
    let TrainError::NotFinite { place, films, .. } = &stopped else { panic!("{stopped}") };
    assert!(place == ", first at features.0.act" && films.contains(&latents.ids[film]), "{stopped}");
}

/// Every file that the repository ships is a configuration, whatever data and devices are there.
#[test]
fn shipped_configurations_hold() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    let mut files = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            config::read(&path, &[]).unwrap_or_else(|error| panic!("{error}"));
            files += 1;
        }
    }
    assert!(files >= 2, "the shipped configurations were found");
}
