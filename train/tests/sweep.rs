//! Sweeps: every run is the run that it would be alone, VQGANs are shared, interruptions and failures are survived.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::{
    fs,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use common::{TINY, tiny};
use train::{
    Progress, Session, Sweep, TrainError, encode_latents, progress::StepState, sweep::Until,
    train_classifier, train_vqgan,
};

/// Remembers which stages began, and asks to stop in the nth step of all.
#[derive(Default)]
struct Listener {
    stages: Mutex<Vec<String>>,
    steps_left: Mutex<Option<u64>>,
    flag: Arc<AtomicBool>,
}

impl Progress for Listener {
    fn start(&self, stage: &str, _total: u64, _done: u64) {
        self.stages.lock().unwrap().push(stage.to_owned());
    }

    fn step(&self, _done: u64, _state: &StepState) {
        if let Some(left) = self.steps_left.lock().unwrap().as_mut() {
            *left -= 1;
            self.flag.store(*left == 0, Ordering::Relaxed);
        }
    }
}

impl Listener {
    fn count(&self, stage: &str) -> usize {
        self.stages.lock().unwrap().iter().filter(|name| *name == stage).count()
    }
}

fn sweep(folder: &Path, overrides: &[&str]) -> Sweep {
    let file = folder.join("sweep.toml");
    fs::write(&file, format!("{TINY}\n[sweep]\nclassifier.train.learning_rate = [5e-3, 1e-3]\n")).unwrap();
    let overrides = overrides.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
    Sweep::read(&file, &overrides, Some(&folder.join("runs"))).unwrap()
}

#[test]
fn runs_are_those_that_each_would_be_alone() {
    let folder = tempfile::tempdir().unwrap();
    let sweep = sweep(folder.path(), &["run.seed=3,4", "classifier.train.epochs=2"]);
    let names = sweep.members.iter().map(|member| member.name.as_str()).collect::<Vec<_>>();
    // In pairs that share a VQGAN.
    let [a, b, c, d] = [
        "learning_rate=0.005,seed=3",
        "learning_rate=0.001,seed=3",
        "learning_rate=0.005,seed=4",
        "learning_rate=0.001,seed=4",
    ];
    assert_eq!(names, [a, b, c, d]);

    // Interrupted in the second run's classifier, then continued.
    let first = Listener { steps_left: Mutex::new(Some(30)), ..Listener::default() };
    let session = |listener: &'static Listener| {
        move |dir: &Path| Session::new(dir, listener, Arc::clone(&listener.flag))
    };
    let first: &'static Listener = Box::leak(Box::new(first));
    let stopped = sweep.run(Until::Classifier, false, session(first)).unwrap_err();
    assert!(matches!(stopped, TrainError::Interrupted { .. }), "{stopped}");
    let second: &'static Listener = Box::leak(Box::default());
    let summary = sweep.run(Until::Classifier, true, session(second)).unwrap();
    // One VQGAN and one set of latents for each seed, whatever was interrupted.
    for stage in ["VQGAN", "encoding"] {
        assert_eq!((first.count(stage), second.count(stage)), (1, 1), "{stage}");
    }
    assert_eq!((first.count("classifier"), second.count("classifier")), (2, 3));

    for member in &sweep.members {
        let dir = &member.config.run.dir;
        let config = train::config::read(&dir.join("config.toml"), &[]).unwrap();
        assert_eq!(config, member.config);
        let alone = Session::quiet(folder.path().join("alone").join(&member.name));
        let overrides =
            member.values.iter().map(|(field, value)| format!("{field}={value}")).collect::<Vec<_>>();
        let overrides =
            overrides.iter().map(String::as_str).chain(["classifier.train.epochs=2"]).collect::<Vec<_>>();
        let config = tiny(&overrides);
        let vqgan = train_vqgan(&config, &alone).unwrap();
        let latents = encode_latents(&config, &alone).unwrap();
        let report = train_classifier(&config, &latents, &alone).unwrap();
        let row = summary.runs.iter().find(|run| run.run == member.name).unwrap();
        let figure = |name: &str| row.figures.iter().find(|(known, _)| *known == name).unwrap().1;
        assert_eq!(figure("validation PSNR"), Some(vqgan.best.psnr));
        assert_eq!(figure("validation macro AUROC"), report.validation.macro_.auroc, "{}", member.name);
    }
    assert_eq!(summary.settings.len(), 2);
    assert!(summary.settings.iter().all(|setting| setting.runs.len() == 2));
    let psnr = summary.settings[0].figure("validation PSNR").unwrap();
    assert!(psnr.runs == 2 && psnr.deviation.unwrap() > 0.0, "{psnr:?}");
    // Test films are shown to the best setting alone.
    let best = summary.best.unwrap();
    for (i, setting) in summary.settings.iter().enumerate() {
        assert_eq!(setting.test.is_empty(), i != best);
        for run in &setting.runs {
            assert_eq!(sweep.dir.join(run).join("test.json").exists(), i == best);
        }
    }
    let csv = fs::read_to_string(sweep.dir.join("sweep.csv")).unwrap();
    assert!(
        csv.contains("\"classifier.train.learning_rate\",runs,failed")
            && csv.contains("test macro AUROC mean"),
        "{csv}"
    );
}

#[test]
fn a_run_that_fails_is_noted_and_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let sweep =
        sweep(folder.path(), &["classifier.train.learning_rate=1e30,1e-3", "classifier.train.epochs=2"]);
    let summary = sweep.run(Until::Classifier, false, |dir| Session::quiet(dir)).unwrap();
    assert!(summary.runs[0].failed.as_ref().unwrap().contains("became"), "{:?}", summary.runs[0]);
    assert_eq!((summary.best, summary.settings[0].failed, summary.settings[1].failed), (Some(1), 1, 0));
    let only = sweep.run(Until::Vqgan, false, |dir| Session::quiet(dir)).unwrap();
    assert_eq!(only.compared_by, "validation PSNR");
    assert_eq!(only.runs.iter().filter(|run| run.failed.is_none()).count(), 2);
}

#[test]
fn what_cannot_vary_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.toml");
    fs::write(&file, TINY).unwrap();
    let refused = |overrides: &[&str]| {
        let overrides = overrides.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        Sweep::read(&file, &overrides, None).unwrap_err().to_string()
    };
    assert!(refused(&[]).contains("give values for at least one field"));
    assert!(refused(&["run.dir=a,b"]).contains("cannot vary"));
    assert!(refused(&["vqgan.train.batch=2,x"]).contains("vqgan.train.batch: invalid type"));
    assert!(refused(&["vqgan.train.botch=2,3"]).contains("botch"));
    let many = (0..40).map(|i| i.to_string()).collect::<Vec<_>>().join(",");
    let many = [format!("run.seed={many}"), format!("data.seed={many}")];
    assert!(refused(&[&many[0], &many[1]]).contains("at most 1000 runs"));
}
