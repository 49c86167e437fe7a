//! `veilray ablate`: studies. A study is a list of runs that differ in what its file says; each runs the whole chain from films to
//! ciphertexts, and the tables and figures at the end are made from all of them.
//!
//! | module | what it holds |
//! |---|---|
//! | [`study`] | the file, expanded into cells: (data set, cell, seed) |
//! | [`key`] | stages, and the digests that name their results |
//! | [`cache`] | finished and begun stages, shared by cells, studies and shards |
//! | [`stages`], [`results`], [`clock`] | the stages themselves, from the code of the subcommands; what they give, in what time |
//! | [`runner`] | cells one after the other; failures are recorded |
//! | [`record`] | the folder of a study; merging the folders of shards |
//! | [`estimate`], [`forecast`], [`plan`] | what a study will cost, before it runs |
//! | [`tables`], [`figures`], [`reconstructions`], [`page`] | what a reader sees |
//! | [`paper`] | figures of the paper |
//!
//! Invariant: tables are made from records only, and records from finished stages only. An interrupted study therefore
//! continues to the same tables: what was finished is read, and training resumes to the same bits on the CPU.

mod cache;
mod clock;
mod describe;
mod estimate;
mod figures;
mod forecast;
mod key;
mod page;
mod paper;
mod plan;
mod provenance;
mod reconstructions;
mod record;
mod results;
mod runner;
mod stages;
mod study;
mod tables;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use self::cache::Cache;
use self::record::{Outline, StudyFolder};
use self::study::{Changes, Study};
use crate::cli::{AblateArguments, AblateReportArguments};
use crate::context::Context;

pub use self::runner::Shard;

/// Where studies and their cache are kept unless the user says otherwise.
const HOME: &str = "runs/ablation";

/// Runs a study, or prints its plan.
///
/// # Errors
/// The study cannot be used, the user interrupted, or a cell failed (after all others have run and the report is written).
pub fn run(context: &Context, arguments: &AblateArguments) -> Result<()> {
    let file = arguments.config.as_ref().context("give the study with --config FILE")?;
    let changes = Changes { data: arguments.data.clone(), overrides: arguments.overrides.clone() };
    let study = Study::read(file, &changes)?;
    let shard = arguments.shard.unwrap_or(Shard { index: 0, of: 1 });
    let cache = Cache::new(arguments.cache.clone().unwrap_or_else(|| Path::new(HOME).join("cache")));
    if arguments.dry_run {
        return plan::print(context, &study, shard, &cache, arguments.speed);
    }
    let out = arguments.out.clone().unwrap_or_else(|| default_folder(&study, &changes));
    let folder = StudyFolder::new(out);
    let outline = Outline::of(&study)?;
    folder.write_outline(&outline)?;
    let outcome = runner::run(context, &study, shard, &cache, &folder);
    // Also after an interruption: the report shows what is there.
    let page = page::write(&folder, &outline)?;
    let failed = outcome?;
    println!("report: {}", page.display());
    ensure!(
        failed.is_empty(),
        "{} of {} runs failed: the report says why, and the same command tries them again",
        failed.len(),
        shard.cells(&study).len()
    );
    Ok(())
}

/// Merges the folders of shards and writes the report.
///
/// # Errors
/// The folders are of different studies, or a file cannot be read or written.
pub fn report(arguments: &AblateReportArguments) -> Result<()> {
    let folder = StudyFolder::new(arguments.out.clone().unwrap_or_else(|| arguments.folders[0].clone()));
    let outline = record::merge(&arguments.folders, &folder)?;
    let page = page::write(&folder, &outline)?;
    println!("report: {}", page.display());
    let missing = outline.cells.len() - folder.records(&outline)?.len();
    if missing > 0 {
        println!(
            "{missing} of {} runs are in none of the folders: the tables show them as not run",
            outline.cells.len()
        );
    }
    Ok(())
}

/// The folder of a study: its name, and that of the films where they are the user's.
fn default_folder(study: &Study, changes: &Changes) -> PathBuf {
    let films = changes.data.is_some().then(|| study.datasets().join("-"));
    let name = std::iter::once(study.name.clone()).chain(films).collect::<Vec<_>>().join("-");
    Path::new(HOME).join(name)
}
