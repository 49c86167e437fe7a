//! `veilray ablate`: studies, as [`studies`] runs them.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Subcommand};
use pipeline::Context;
use studies::{Cache, Changes, Shard, Study, StudyFolder, plan};

/// Where studies and their cache are kept unless the user says otherwise.
const HOME: &str = "runs/ablation";

/// Run a study: every cell of a table of the paper from films to ciphertexts, with tables and figures at the end.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Arguments {
    /// What else to do with studies.
    #[command(subcommand)]
    pub action: Option<Action>,
    /// Study file (TOML); `configs/ablation/` holds those of the paper, each in a quick and a full size.
    #[arg(long, short, value_name = "FILE", required = true)]
    pub config: Option<PathBuf>,
    /// Films to use instead of the study's: an NIH folder, a `.npz` in the layout of MedMNIST, a folder.
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// Override one value of every run, for example `--set encrypted.films=4`. Can be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Folder of the study: records, tables, figures, report; `runs/ablation/NAME` unless given.
    #[arg(long, short, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Folder of finished stages, which studies share; `runs/ablation/cache` unless given.
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// Run only part i of n, counted from 0, for example `--shard 0/4`.
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Shard>,
    /// Print what would run, what is done, and what the rest is expected to take; run nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// For the plan: how many times faster this machine trains than the two cores that the estimates come from.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    pub speed: f64,
}

/// What else can be done with studies.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Gather the runs of shards, and write tables, figures and report of all of them.
    Report(ReportArguments),
}

/// Arguments of `ablate report`.
#[derive(Debug, Args)]
pub struct ReportArguments {
    /// Folders of one study, as `ablate` wrote them.
    #[arg(value_name = "DIR", required = true)]
    pub folders: Vec<PathBuf>,
    /// Folder for the merged study; the first one unless given.
    #[arg(long, short, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Runs a study, prints its plan, or merges the folders of shards.
///
/// # Errors
/// The study cannot be used, the user interrupted, or a cell failed (after all others have run and the report is
/// written); the folders are of different studies.
pub fn run(context: &Context, arguments: &Arguments) -> Result<()> {
    match &arguments.action {
        Some(Action::Report(arguments)) => report(arguments),
        None => study(context, arguments),
    }
}

fn study(context: &Context, arguments: &Arguments) -> Result<()> {
    let file = arguments.config.as_ref().context("give the study with --config FILE")?;
    let changes = Changes { data: arguments.data.clone(), overrides: arguments.overrides.clone() };
    let study = Study::read(file, &changes)?;
    let shard = arguments.shard.unwrap_or(Shard { index: 0, of: 1 });
    let cache = Cache::new(arguments.cache.clone().unwrap_or_else(|| Path::new(HOME).join("cache")));
    if arguments.dry_run {
        let plan = plan::plan(context, &study, shard, &cache, arguments.speed)?;
        print!("{}", plan.table.to_text());
        plan.remarks.iter().for_each(|remark| println!("{remark}"));
        return Ok(());
    }
    let out = arguments.out.clone().unwrap_or_else(|| default_folder(&study, &changes));
    let finished = studies::run(context, &study, shard, &cache, &StudyFolder::new(out))?;
    println!("report: {}", finished.page.display());
    ensure!(
        finished.failed.is_empty(),
        "{} of {} runs failed: the report says why, and the same command tries them again",
        finished.failed.len(),
        shard.cells(&study).len()
    );
    Ok(())
}

/// The folder of a study: its name, and that of the films where they are the user's.
fn default_folder(study: &Study, changes: &Changes) -> PathBuf {
    let films = changes.data.is_some().then(|| study.datasets().join("-"));
    let name = std::iter::once(study.name.clone()).chain(films).collect::<Vec<_>>().join("-");
    Path::new(HOME).join(name)
}

fn report(arguments: &ReportArguments) -> Result<()> {
    let out = arguments.out.as_ref().unwrap_or(&arguments.folders[0]);
    let merged = studies::merge(&arguments.folders, out)?;
    println!("report: {}", merged.page.display());
    if merged.missing > 0 {
        println!(
            "{} of {} runs are in none of the folders: the tables show them as not run",
            merged.missing, merged.runs
        );
    }
    Ok(())
}
