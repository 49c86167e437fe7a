//! An opened data set: the list of its films, and their pixels on demand.
//!
//! Opening reads tables and directories, settles labels and splits, and reads array files whole (as bytes);
//! image files are decoded when a film is asked for. [`FilmDataset::films`] decodes a batch in parallel.

use rayon::prelude::*;

use crate::cache::{self, Cache};
use crate::config::DataConfig;
use crate::source::{Loaded, Pixels};
use crate::split::{self, Record};
use crate::{DataError, Example, Film, Result, Split};

/// An opened data set. Shared between threads freely.
pub struct FilmDataset {
    config: DataConfig,
    label_names: Vec<String>,
    examples: Vec<Example>,
    /// The place of each film in `pixels`.
    places: Vec<usize>,
    pixels: Box<dyn Pixels>,
    /// Resized films, by their place in this data set.
    cached: Option<Cache>,
    digest: String,
    notes: Vec<String>,
}

impl std::fmt::Debug for FilmDataset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FilmDataset").field("config", &self.config).field("films", &self.len()).finish()
    }
}

impl FilmDataset {
    /// Opens the data set that `config` describes.
    ///
    /// # Errors
    /// Says which file or field is wrong, what was expected, and what to do.
    pub fn open(config: &DataConfig) -> Result<Self> {
        config.check()?;
        Self::assemble(config, config.source.load(config.side, config.fit)?)
    }

    fn assemble(config: &DataConfig, loaded: Loaded) -> Result<Self> {
        let Loaded { label_names, mut records, pixels, content, notes } = loaded;
        let label_names = select_labels(&config.labels, label_names, &mut records)?;
        let all = split::assign(records, config.seed, config.validation_fraction, config.test_fraction);
        let places = split::limit(&all, config.seed, config.limits);
        let examples: Vec<Example> = if places.len() == all.len() {
            all
        } else {
            places.iter().map(|&place| all[place].clone()).collect()
        };
        let folder = config.cache.as_ref().filter(|_| pixels.is_slow());
        // Cached films are rounded to 8 bits, which makes them other films.
        let content = if folder.is_some() { format!("{content}; 8 bits") } else { content };
        let digest = digest(config, &label_names, &examples, &content);
        let cached = match folder {
            Some(folder) => {
                Cache::open(&cache::file_in(folder, &digest), config.side, examples.len(), &digest)?
            }
            None => None,
        };
        let config = config.clone();
        Ok(FilmDataset { config, label_names, examples, places, pixels, cached, digest, notes })
    }

    /// The configuration this was opened with.
    #[must_use]
    pub fn config(&self) -> &DataConfig {
        &self.config
    }

    /// The names of the labels, in the order of [`Example::labels`].
    #[must_use]
    pub fn label_names(&self) -> &[String] {
        &self.label_names
    }

    /// The films, in a fixed order.
    #[must_use]
    pub fn examples(&self) -> &[Example] {
        &self.examples
    }

    /// The number of films in all splits.
    #[must_use]
    pub fn len(&self) -> usize {
        self.examples.len()
    }

    /// Whether there are no films at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.examples.is_empty()
    }

    /// The side of the films, in pixels.
    #[must_use]
    pub fn side(&self) -> usize {
        self.config.side
    }

    /// The films of a split.
    #[must_use]
    pub fn indices(&self, split: Split) -> Vec<usize> {
        (0..self.len()).filter(|&i| self.examples[i].split == split).collect()
    }

    /// The pixels of one film, at the configured side.
    ///
    /// # Errors
    /// The file is missing or cannot be decoded, or the index is out of range.
    pub fn film(&self, index: usize) -> Result<Film> {
        let &place = self.places.get(index).ok_or(DataError::Index { index, len: self.len() })?;
        if let Some(cached) = &self.cached {
            return cached.film(index, self.config.side, self.config.fit);
        }
        self.pixels.film(place, self.config.side, self.config.fit)
    }

    /// The pixels of several films, decoded in parallel, in the order of `indices`.
    ///
    /// # Errors
    /// As [`FilmDataset::film`]; the error of the first film that fails in the order given.
    pub fn films(&self, indices: &[usize]) -> Result<Vec<Film>> {
        let films: Vec<Result<Film>> = indices.par_iter().map(|&index| self.film(index)).collect();
        films.into_iter().collect()
    }

    /// As [`FilmDataset::films`], with an error for each film that fails.
    pub fn films_or_errors(&self, indices: &[usize]) -> Vec<Result<Film>> {
        indices.par_iter().map(|&index| self.film(index)).collect()
    }

    /// Whether films come from a cache of resized films.
    #[must_use]
    pub fn is_cached(&self) -> bool {
        self.cached.is_some()
    }

    /// Makes the cache of resized films that the configuration asks for, unless it is there or films are in memory
    /// anyway. `progress` hears how many films are done.
    ///
    /// # Errors
    /// A film cannot be read, or the cache cannot be written; none is left behind then.
    pub fn make_cache(&mut self, progress: &dyn Fn(usize)) -> Result<()> {
        let Some(folder) = self.config.cache.clone().filter(|_| self.pixels.is_slow() && !self.is_cached())
        else {
            return Ok(());
        };
        let path = cache::file_in(&folder, &self.digest);
        let (side, films) = (self.config.side, self.len());
        Cache::write(&path, side, films, &self.digest, |range| {
            let end = range.end;
            let block = self.films(&range.collect::<Vec<_>>());
            progress(end);
            block
        })?;
        self.cached = Cache::open(&path, side, films, &self.digest)?;
        Ok(())
    }

    /// A digest (64 hexadecimal digits) of what a training run sees: films, labels, splits and resolution.
    ///
    /// Array files are covered by their checksums, image files by name and size (not by content: reading a
    /// full chest film release takes an hour), the phantom by its version and seed.
    #[must_use]
    pub fn digest(&self) -> String {
        self.digest.clone()
    }

    /// A few lines for people: the source, films and patients per split, positives per label.
    #[must_use]
    pub fn describe(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        for note in &self.notes {
            let _ = writeln!(text, "{note}");
        }
        let width = self.label_names.iter().map(String::len).max().unwrap_or(0).max(8);
        let _ = writeln!(text, "{:width$}  {:>10} {:>10} {:>10}", "", "train", "validation", "test");
        let mut row = |name: &str, value: &dyn Fn(Split) -> usize| {
            let cells: Vec<String> = Split::ALL.iter().map(|&s| format!("{:>10}", value(s))).collect();
            let _ = writeln!(text, "{name:width$}  {}", cells.join(" "));
        };
        let of = |split: Split| self.examples.iter().filter(move |e| e.split == split);
        row("films", &|s| of(s).count());
        row("patients", &|s| {
            of(s).map(|e| e.patient.as_str()).collect::<std::collections::BTreeSet<_>>().len()
        });
        for (label, name) in self.label_names.iter().enumerate() {
            row(name, &|s| of(s).filter(|e| e.labels[label] == Some(true)).count());
        }
        text.truncate(text.trim_end().len());
        text
    }

    /// What the loader wants the user to know, the source first.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

/// Keeps the wanted labels, in the wanted order.
fn select_labels(wanted: &[String], names: Vec<String>, records: &mut [Record]) -> Result<Vec<String>> {
    if wanted.is_empty() {
        return Ok(names);
    }
    let places = wanted
        .iter()
        .map(|label| {
            names.iter().position(|name| name == label).ok_or_else(|| DataError::UnknownLabel {
                place: "data.labels".into(),
                label: label.clone(),
                known: names.join(", "),
            })
        })
        .collect::<Result<Vec<usize>>>()?;
    for record in records {
        record.labels = places.iter().map(|&place| record.labels[place]).collect();
    }
    Ok(wanted.to_vec())
}

fn digest(config: &DataConfig, label_names: &[String], examples: &[Example], content: &str) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("veilray 2026 data set");
    let mut text = |s: &str| {
        hasher.update(&(s.len() as u64).to_le_bytes());
        hasher.update(s.as_bytes());
    };
    text(&format!("side {} fit {:?}", config.side, config.fit));
    text(content);
    label_names.iter().for_each(|name| text(name));
    for example in examples {
        text(&example.id);
        text(&example.patient);
        text(example.split.name());
        let labels: String = example
            .labels
            .iter()
            .map(|label| match label {
                Some(true) => '1',
                Some(false) => '0',
                None => '?',
            })
            .collect();
        text(&labels);
    }
    hasher.finalize().to_hex().to_string()
}
