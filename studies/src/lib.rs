//! Whole runs, and what a reader is shown of them: studies of many runs, the demo, the benchmark on ciphertexts.
//!
//! A study is a list of runs that differ in what its file says; each runs the whole chain from films to ciphertexts, and
//! the tables and figures at the end are made from all of them.
//!
//! | module | what it holds |
//! |---|---|
//! | `study` | the file, expanded into cells: (data set, cell, seed) |
//! | `key` | stages, and the digests that name their results |
//! | `cache` | finished and begun stages, shared by cells, studies and shards |
//! | `stages`, `results`, `clock` | the stages themselves, from the jobs of `pipeline`; what they give, in what time |
//! | `runner` | cells one after the other; failures are recorded |
//! | `record` | the folder of a study; merging the folders of shards |
//! | `estimate`, `forecast`, [`plan`] | what a study will cost, before it runs |
//! | `tables`, `figures`, `reconstructions`, `page` | what a reader sees |
//! | `paper` | figures of the paper |
//! | [`demo`], [`bench`](mod@bench) | one run with its page; networks of the paper on ciphertexts |
//!
//! Invariant: tables are made from records only, and records from finished stages only. An interrupted study therefore
//! continues to the same tables: what was finished is read, and training resumes to the same bits on the CPU.

pub mod bench;
mod cache;
mod clock;
pub mod demo;
mod describe;
mod estimate;
mod figures;
mod forecast;
mod key;
mod page;
mod paper;
mod picture;
pub mod plan;
mod provenance;
mod reconstructions;
mod record;
mod results;
mod runner;
mod stages;
mod study;
mod tables;

use std::path::{Path, PathBuf};

use pipeline::Context;
use pipeline::error::Result;

pub use self::cache::Cache;
pub use self::record::StudyFolder;
pub use self::runner::Shard;
pub use self::study::{CellId, Changes, Study};

use self::record::Outline;

/// What a study, or a shard of it, left.
pub struct Finished {
    /// The page with its tables and figures.
    pub page: PathBuf,
    /// The cells that failed.
    pub failed: Vec<CellId>,
}

/// Runs the cells of a shard and writes tables, figures and page into `folder`, also after an interruption.
///
/// # Errors
/// A file cannot be written, or the user interrupted.
pub fn run(
    context: &Context,
    study: &Study,
    shard: Shard,
    cache: &Cache,
    folder: &StudyFolder,
) -> Result<Finished> {
    let outline = Outline::of(study)?;
    folder.write_outline(&outline)?;
    let outcome = runner::run(context, study, shard, cache, folder);
    let page = page::write(folder, &outline)?;
    Ok(Finished { page, failed: outcome? })
}

/// What the folders of shards hold together.
pub struct Merged {
    /// The page with the tables and figures of all of them.
    pub page: PathBuf,
    /// Runs of the study.
    pub runs: usize,
    /// Runs that are in none of the folders.
    pub missing: usize,
}

/// Gathers the records of several folders of one study in `into` and writes tables, figures and page of all of them.
///
/// # Errors
/// The folders are of different studies, or a file cannot be read or written.
pub fn merge(from: &[PathBuf], into: &Path) -> Result<Merged> {
    let folder = StudyFolder::new(into);
    let outline = record::merge(from, &folder)?;
    let page = page::write(&folder, &outline)?;
    let runs = outline.cells.len();
    Ok(Merged { page, runs, missing: runs - folder.records(&outline)?.len() })
}
