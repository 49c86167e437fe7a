//! A disk that is really full, at every place where a run writes: errors that say so, whole files, and the same weights once
//! there is room.
//!
//! The disk is a tmpfs of a few hundred kilobytes in a mount namespace of its own; where the system does not let a test
//! make one, it says so and is skipped.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::{
    fs,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    process::Command,
};

use common::tiny;
use datasets::{DataError, FilmDataset};
use train::{
    Config, Session, TrainError,
    checkpoint::{Checkpoint, Kind},
    encode_latents, train_classifier, train_vqgan,
};

/// Names the small disk to the process inside the namespace.
const DISK: &str = "VEILRAY_SMALL_DISK";
/// Exit status of the shell where there is no namespace or no tmpfs.
const NOT_ALLOWED: i32 = 77;

#[test]
fn a_full_disk_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=2m tmpfs \"$0\" 2>/dev/null || exit 77; exec \"$1\" --exact inside_a_small_disk --ignored --nocapture";
    let inside = Command::new("unshare")
        .args(["-r", "-m", "sh", "-c", script])
        .args([folder.path(), &std::env::current_exe().unwrap()])
        .env(DISK, folder.path())
        .output();
    let output = match inside {
        Ok(output) => output,
        Err(error) => {
            println!("skipped: no unshare ({error})");
            return;
        }
    };
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.code() == Some(NOT_ALLOWED) || err.contains("unshare:") {
        println!("skipped: no mount namespace here ({})", err.trim());
        return;
    }
    assert!(output.status.success() && out.contains("1 passed"), "{out}\n{err}");
    print!("{out}");
}

/// Fills the disk but for so many pages of 4096 bytes.
fn leave(disk: &Path, pages: u64) {
    let ballast = disk.join("ballast");
    let mut file = fs::File::create(&ballast).unwrap();
    let page = [1u8; 4096];
    loop {
        match file.write_all(&page) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => break,
            Err(error) => panic!("{error}"),
        }
    }
    let length = file.metadata().unwrap().len();
    file.set_len(length.saturating_sub(4096 * pages)).unwrap();
}

/// Whether an error is that of a full disk, in words too.
fn is_full(error: &TrainError) -> bool {
    let reason = match error {
        TrainError::Io { source, .. } | TrainError::Data(DataError::Io { source, .. }) => source,
        _ => return false,
    };
    let text = error.to_string();
    reason.kind() == ErrorKind::StorageFull && text.contains("No space left") && text.contains("make room")
}

/// Every file of the run under its final name is whole, and no temporary one stays.
fn check_files(run: &Path) {
    for (file, kind) in [
        ("vqgan/model.safetensors", Kind::Vqgan),
        ("vqgan/last.safetensors", Kind::Vqgan),
        ("classifier/model.safetensors", Kind::Classifier),
        ("classifier/last.safetensors", Kind::Classifier),
    ] {
        let path = run.join(file);
        if path.exists() {
            Checkpoint::load(&path, kind).unwrap();
        }
    }
    if run.join("latents.safetensors").exists() {
        datasets::LatentSet::load(&run.join("latents.safetensors")).unwrap();
    }
    for folder in [run.to_path_buf(), run.join("vqgan"), run.join("classifier"), run.join("films")] {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(!name.starts_with('.'), "{name} was left behind");
        }
    }
}

fn whole_run(config: &Config, session: &Session<'_>) -> train::Result<[String; 2]> {
    let vqgan = train_vqgan(config, session)?;
    let latents = encode_latents(config, session)?;
    Ok([vqgan.digest, train_classifier(config, &latents, session)?.digest])
}

#[test]
#[ignore = "started by a_full_disk_loses_nothing, on a disk of its own"]
fn inside_a_small_disk() {
    let Some(disk) = std::env::var_os(DISK).map(PathBuf::from) else {
        println!("skipped: no {DISK}");
        return;
    };
    let config =
        tiny(&["classifier.train.epochs=1", "vqgan.train.steps=8", "vqgan.train.checkpoint_every=2"]);
    let roomy = tempfile::tempdir_in("/tmp").unwrap();
    let expected = whole_run(&config, &Session::quiet(roomy.path())).unwrap();

    // Ever more room for each stage, until it fits: it is stopped by every write that it makes.
    let run = disk.join("run");
    let session = Session::quiet(&run);
    let mut stops = std::collections::BTreeSet::new();
    let mut stage = |name: &str, work: &dyn Fn() -> train::Result<String>| {
        for pages in 0..400 {
            leave(&disk, pages);
            let result = work();
            check_files(&run);
            let error = match result {
                Ok(digest) => {
                    println!("{name} fits into {pages} pages");
                    return digest;
                }
                Err(error) => error,
            };
            assert!(is_full(&error), "{name}, {pages} pages: {error}");
            if let TrainError::Io { file, .. } | TrainError::Data(DataError::Io { path: file, .. }) = error {
                let file = file.file_name().unwrap().to_string_lossy().into_owned();
                stops.insert(format!("{name}: {}", file.split_inclusive("tfevents").next().unwrap()));
            }
        }
        panic!("{name} does not fit into 400 pages")
    };
    let vqgan = stage("vqgan", &|| Ok(train_vqgan(&config, &session)?.digest));
    stage("latents", &|| Ok(encode_latents(&config, &session)?.data_digest));
    let latents = encode_latents(&config, &session).unwrap();
    let classifier = stage("classifier", &|| Ok(train_classifier(&config, &latents, &session)?.digest));
    assert_eq!([vqgan, classifier], expected, "the weights are those of a run that was never stopped");
    println!("stopped by {stops:?}");
    for stop in [
        "vqgan: config.toml",
        "vqgan: last.safetensors",
        "latents: latents.safetensors",
        "classifier: last.safetensors",
    ] {
        assert!(stops.contains(stop), "{stop} is not among {stops:?}");
    }

    // The cache of films: none under its final name until it is whole.
    let films = disk.join("films");
    fs::create_dir_all(&films).unwrap();
    for film in 0..12u8 {
        let image = image::GrayImage::from_pixel(64, 64, image::Luma([film * 20]));
        image.save(roomy.path().join(format!("f{film}.png"))).unwrap();
    }
    let rows = (0..12).map(|film| format!("f{film}.png,{}\n", film % 2)).collect::<String>();
    fs::write(roomy.path().join("labels.csv"), format!("image,Mass\n{rows}")).unwrap();
    let mut data =
        datasets::DataConfig::new(datasets::Source::Folder(datasets::FolderConfig::new(roomy.path())));
    data.side = 64;
    data.cache = Some(films.clone());
    for pages in [0, 1, 4] {
        leave(&disk, pages);
        let mut dataset = FilmDataset::open(&data).unwrap();
        let error = TrainError::from(dataset.make_cache(&|_| {}).unwrap_err());
        assert!(is_full(&error), "{error}");
        assert_eq!(fs::read_dir(&films).unwrap().count(), 0);
    }
    leave(&disk, 40);
    let mut dataset = FilmDataset::open(&data).unwrap();
    dataset.make_cache(&|_| {}).unwrap();
    assert!(dataset.is_cached() && dataset.film(3).is_ok());
}
