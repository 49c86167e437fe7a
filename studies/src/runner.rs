//! Runs the cells of a study one after the other: what is done is skipped, what fails is recorded, and the rest goes on.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use datasets::{FilmDataset, Source};
use pipeline::Context;
use pipeline::error::{Error, Explain as _, Result};
use train::Config;

use super::cache::Cache;
use super::key::{self, Films, Stage};
use super::picture::picture_names;
use super::provenance::Provenance;
use super::record::{Failure, Record, StudyFolder, digest};
use super::results::Results;
use super::stages::Stages;
use super::study::{Cell, CellId, Study};

/// Which part of a study runs here: cell `k` runs in shard `k mod of`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// This shard, from 0.
    pub index: usize,
    /// All shards.
    pub of: usize,
}

impl Shard {
    /// The cells of this shard, in the study's order.
    pub fn cells(self, study: &Study) -> Vec<&Cell> {
        study
            .cells
            .iter()
            .enumerate()
            .filter(|(k, _)| k % self.of == self.index)
            .map(|(_, cell)| cell)
            .collect()
    }
}

impl std::str::FromStr for Shard {
    type Err = String;

    /// `i/n` with `i` from 0 to `n - 1`, as job arrays number their jobs.
    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || format!("expected i/n with i from 0 to n - 1, for example 0/4, got {text:?}");
        let (index, of) = text.split_once('/').ok_or_else(refuse)?;
        let (index, of) = (index.parse().map_err(|_| refuse())?, of.parse().map_err(|_| refuse())?);
        if index < of { Ok(Self { index, of }) } else { Err(refuse()) }
    }
}

/// Data sets that were opened, so that cells on the same films share one.
#[derive(Default)]
pub struct Opened(Vec<(datasets::DataConfig, Result<FilmDataset, String>)>);

impl Opened {
    /// The films of a configuration, or why they cannot be opened.
    pub fn films(&mut self, config: &Config) -> Result<&FilmDataset, String> {
        let found = self.0.iter().position(|(data, _)| *data == config.data);
        let index = found.unwrap_or_else(|| {
            let opened = FilmDataset::open(&config.data).map_err(|error| error.to_string());
            self.0.push((config.data.clone(), opened));
            self.0.len() - 1
        });
        self.0[index].1.as_ref().map_err(Clone::clone)
    }
}

/// Runs the cells of a shard and writes their records. Returns the cells that failed.
///
/// # Errors
/// The user interrupted, or a record cannot be written; a failing cell is no error.
pub fn run(
    context: &Context,
    study: &Study,
    shard: Shard,
    cache: &Cache,
    out: &StudyFolder,
) -> Result<Vec<CellId>> {
    let cells = shard.cells(study);
    let mut opened = Opened::default();
    let mut failed = Vec::new();
    for (number, cell) in cells.iter().enumerate() {
        context.check("the study")?;
        context.say(&format!("== {} of {}: {}", number + 1, cells.len(), cell.id));
        let record = run_cell(context, cell, &mut opened, cache, out)?;
        if let Some(failure) = &record.failure {
            context.say(&format!("{} failed at {}: {}", cell.id, failure.stage, failure.error));
            failed.push(cell.id.clone());
        }
        out.write_record(&record)?;
    }
    Ok(failed)
}

fn run_cell(
    context: &Context,
    cell: &Cell,
    opened: &mut Opened,
    cache: &Cache,
    out: &StudyFolder,
) -> Result<Record> {
    let mut record = blank(cell)?;
    let mut stage = "films";
    let mut work = || -> Result<()> {
        let dataset = opened.films(&cell.config).map_err(Error::Refused)?;
        let keys = key::keys(&cell.config, &Films::of(Some(dataset)))?;
        record.paper_data = paper_data(&cell.config, dataset.len());
        record.keys = keys.iter().map(|key| (key.stage, key.key.clone())).collect();
        let stages = Stages { context, cache, config: &cell.config, dataset, keys: &keys };
        stage = Stage::Vqgan.name();
        record.results.vqgan = Some(stages.vqgan()?);
        stage = Stage::Latents.name();
        record.results.latents = Some(stages.latents()?);
        let (from, to) = (stages.folder(Stage::Latents)?, out.cell(&cell.id));
        for name in picture_names() {
            let target = to.join(&name);
            if target.exists() {
                std::fs::remove_file(&target).explain(|| format!("cannot replace {}", target.display()))?;
            }
            super::cache::link(&from.join(&name), &target)?;
        }
        stage = Stage::Classifier.name();
        record.results.classifier = Some(stages.classifier()?);
        if record.is_polynomial {
            stage = Stage::Export.name();
            record.results.export = Some(stages.export()?);
            stage = Stage::Encrypted.name();
            record.results.encrypted = Some(stages.encrypted()?);
        }
        Ok(())
    };
    // A panic of a library is one cell's failure: a study of days must not end with it.
    let outcome = catch_unwind(AssertUnwindSafe(&mut work))
        .unwrap_or_else(|_| Err(Error::refused("the program panicked, see its messages")));
    if let Err(error) = outcome {
        if error.is_interrupted() {
            return Err(error);
        }
        record.failure = Some(Failure { stage: stage.to_owned(), error: error.in_full() });
    }
    Ok(record)
}

/// A record without results.
fn blank(cell: &Cell) -> Result<Record> {
    let model = cell.config.classifier_model(cell.config.vqgan.model.latent_shape(), 1)?;
    Ok(Record {
        id: cell.id.clone(),
        config: digest(cell)?,
        is_polynomial: model.is_polynomial(),
        film_side: cell.config.data.side,
        paper_data: None,
        activation: super::describe::activation(&model),
        keys: BTreeMap::new(),
        results: Results::default(),
        failure: None,
        made_by: Provenance::here(),
    })
}

/// The data set of the paper that these films are, whole and at its size.
fn paper_data(config: &Config, films: usize) -> Option<String> {
    let is_whole = config.data.side == 256 && config.data.limits == datasets::Limits::default();
    let name = match &config.data.source {
        // Wang et al. 2017; the frontal films of CheXpert's train.csv and valid.csv (Irvin et al. 2019).
        Source::Nih(_) if films == 112_120 => "NIH ChestX-ray14",
        Source::Chexpert(_) if films >= 191_027 => "CheXpert",
        _ => return None,
    };
    is_whole.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_counted_from_zero() {
        assert_eq!("1/4".parse(), Ok(Shard { index: 1, of: 4 }));
        for text in ["4/4", "1", "a/2", "-1/2", "0/0", ""] {
            assert!(text.parse::<Shard>().unwrap_err().contains("0/4"), "{text}");
        }
    }
}
