//! The cache of resized films: the same films, quicker; and damage that is seen.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{fails_naming, png, write};
use datasets::{DataConfig, FilmDataset, FolderConfig, PhantomConfig, Source};

fn config(root: &Path) -> DataConfig {
    let mut config = DataConfig::new(Source::Folder(FolderConfig::new(root)));
    config.side = 16;
    config.cache = Some(root.join("cache"));
    config
}

fn films(root: &Path) {
    let mut table = String::from("image,Mass\n");
    for film in 0..9 {
        png(&root.join(format!("f{film}.png")), 50, 20 * film as u8);
        table.push_str(&format!("f{film}.png,{}\n", film % 2));
    }
    write(&root.join("labels.csv"), table);
}

fn cache_file(root: &Path) -> std::path::PathBuf {
    std::fs::read_dir(root.join("cache")).unwrap().next().unwrap().unwrap().path()
}

#[test]
fn films_come_from_the_cache_once_it_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    films(root);
    let config = config(root);
    let mut dataset = FilmDataset::open(&config).unwrap();
    let before = dataset.films(&[0, 5, 8]).unwrap();
    assert!(!dataset.is_cached());
    let done = AtomicUsize::new(0);
    dataset.make_cache(&|films| done.store(films, Ordering::Relaxed)).unwrap();
    assert_eq!(done.into_inner(), 9);
    assert!(dataset.is_cached());
    // The films themselves are no longer needed; the cache is found again.
    std::fs::write(
        root.join("f5.png"),
        std::fs::read(root.join("f5.png")).unwrap().iter().map(|_| 0u8).collect::<Vec<_>>(),
    )
    .unwrap();
    let again = FilmDataset::open(&config).unwrap();
    assert!(again.is_cached());
    assert_eq!(again.digest(), dataset.digest());
    for (cached, plain) in again.films(&[0, 5, 8]).unwrap().iter().zip(&before) {
        let largest = cached.pixels.iter().zip(&plain.pixels).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(largest < 0.5001 / 255.0, "{largest}");
    }
    assert_eq!(std::fs::read_dir(root.join("cache")).unwrap().count(), 1, "no temporary file stays");
    // Another size is another cache, and rounding is part of what the data set is.
    let mut other = config.clone();
    other.side = 8;
    assert!(!FilmDataset::open(&other).unwrap().is_cached());
    other.side = 16;
    other.cache = None;
    assert_ne!(FilmDataset::open(&other).unwrap().digest(), dataset.digest());
}

#[test]
fn half_written_and_altered_caches_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    films(root);
    let config = config(root);
    FilmDataset::open(&config).unwrap().make_cache(&|_| {}).unwrap();
    let path = cache_file(root);
    let whole = std::fs::read(&path).unwrap();
    for length in [0, 7, 80, 300, whole.len() - 1] {
        write(&path, &whole[..length]);
        fails_naming(FilmDataset::open(&config), &["films-", "remove the file"]);
    }
    for place in [3, 9, 20, 60, whole.len() - 3, whole.len() - 60] {
        let mut altered = whole.clone();
        altered[place] ^= 4;
        write(&path, altered);
        fails_naming(FilmDataset::open(&config), &["films-", "remove the file"]);
    }
    let mut altered = whole.clone();
    altered[88 + 3 * 256 + 7] ^= 1;
    write(&path, altered);
    let dataset = FilmDataset::open(&config).unwrap();
    assert!(dataset.film(2).is_ok());
    fails_naming(dataset.film(3), &["film 3", "checksum"]);
}

/// A film that cannot be read stops the making and names itself; no cache stays behind.
#[test]
fn a_broken_film_leaves_no_cache() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    films(root);
    write(&root.join("f7.png"), "no film");
    let mut dataset = FilmDataset::open(&config(root)).unwrap();
    fails_naming(dataset.make_cache(&|_| {}), &["f7.png"]);
    assert_eq!(std::fs::read_dir(root.join("cache")).unwrap().count(), 0);
    assert!(!dataset.is_cached());
}

/// What is in memory anyway is not cached.
#[test]
fn the_phantom_needs_no_cache() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = DataConfig::new(Source::Phantom(PhantomConfig { films: 9, ..PhantomConfig::default() }));
    let digest = FilmDataset::open(&config).unwrap().digest();
    config.cache = Some(folder.path().join("cache"));
    let mut dataset = FilmDataset::open(&config).unwrap();
    dataset.make_cache(&|_| {}).unwrap();
    assert!(!dataset.is_cached() && !folder.path().join("cache").exists());
    assert_eq!(dataset.digest(), digest);
}
