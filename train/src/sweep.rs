//! Many runs from one configuration: every combination of the values that some of its fields take.
//!
//! Values come from a table `[sweep]` of the configuration and from `--set field=a,b,c`. Every run has its own folder below
//! that of the configuration, named after its values, and is a run like any other: it resumes where it stopped, and
//! every stage can be started in it by hand. Runs that differ in the classifier alone share one VQGAN and its latents
//! through hard links. Runs that differ in `run.seed` alone are one *setting*, of which the summary gives mean and
//! deviation. Settings are compared on validation films; only the best of them is shown the test films, and only if
//! that is asked for.

mod axes;
mod summary;

use std::{
    fs,
    path::{Path, PathBuf},
};

use datasets::LatentSet;

pub use axes::Axis;
pub use summary::{Figure, Outcome, Setting, Summary};

use crate::{
    Config, Result, Session, TrainError, config, encode_latents, test_report, train_classifier, train_vqgan,
};

/// The most runs of one sweep: more is a slip of the pen.
const MOST_RUNS: usize = 1000;

/// One run of a sweep.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its folder's name.
    pub name: String,
    /// Field and value of every axis.
    pub values: Vec<(String, String)>,
    /// Its configuration, whose `run.dir` is its folder.
    pub config: Config,
}

/// All runs of a configuration, in the order in which they are run.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// The folder above those of the runs.
    pub dir: PathBuf,
    /// The runs; those that share a VQGAN are neighbours.
    pub members: Vec<Member>,
}

/// What is done in every run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Train the VQGAN; settings are compared by PSNR.
    Vqgan,
    /// Train the classifier too; settings are compared by macro AUROC.
    Classifier,
}

impl Sweep {
    /// Reads a configuration and the values that its fields take. A `--set` with one value fixes a field, one with several
    /// replaces what `[sweep]` says of it. `dir` replaces `run.dir`.
    ///
    /// # Errors
    ///
    /// As [`config::read`], nothing varies, too many runs, or a combination is no configuration.
    pub fn read(file: &Path, overrides: &[String], dir: Option<&Path>) -> Result<Self> {
        let (fixed, given) = axes::split(overrides)?;
        let base = config::read(file, &fixed)?;
        let axes = axes::join(&base.sweep, given, &fixed)?;
        if axes.is_empty() {
            return Err(TrainError::Value {
                field: "sweep",
                found: "empty".into(),
                expected: "give values for at least one field, in a table [sweep] or as --set field=a,b,c"
                    .into(),
            });
        }
        let runs = axes.iter().try_fold(1usize, |runs, axis| runs.checked_mul(axis.values.len()));
        let Some(runs) = runs.filter(|&runs| runs <= MOST_RUNS) else {
            let found = axes.iter().map(|axis| axis.values.len().to_string()).collect::<Vec<_>>().join(" x ");
            let expected = format!("at most {MOST_RUNS} runs can be asked for at once");
            return Err(TrainError::Value { field: "sweep", found, expected });
        };
        let dir = dir.map_or_else(|| base.run.dir.clone(), Path::to_path_buf);
        let mut members: Vec<Member> = Vec::with_capacity(runs);
        for run in 0..runs {
            let values = axes::combination(&axes, run);
            let mut all = fixed.clone();
            all.extend(values.iter().map(|(field, value)| format!("{field}={value}")));
            let mut config = config::read(file, &all)?;
            let name = axes::folder_name(&values, members.iter().map(|member| member.name.as_str()));
            config.run.dir = dir.join(&name);
            config.sweep = toml::Table::new();
            members.push(Member { name, values, config });
        }
        Ok(Self { dir, members: neighbours(members) })
    }

    /// Runs everything, from where it stands. After each run `sweep.csv` and `sweep.json` in the sweep's folder say what is
    /// known. A run whose loss becomes no number is noted as failed, and the next one begins.
    ///
    /// With `test`, the runs of the setting that is best on validation films are measured on test films at the end.
    ///
    /// # Errors
    ///
    /// A stage fails for another reason, or the user interrupted; the same call continues.
    pub fn run<'s>(
        &self,
        until: Until,
        test: bool,
        session: impl Fn(&Path) -> Session<'s>,
    ) -> Result<Summary> {
        let mut outcomes: Vec<Outcome> = Vec::new();
        let mut latents: Option<(usize, LatentSet)> = None;
        for (number, member) in self.members.iter().enumerate() {
            let session = session(&member.config.run.dir);
            let title = format!("run {} of {}: {}", number + 1, self.members.len(), member.name);
            session.progress().note(&title);
            let donor = self.members[..number].iter().position(|other| same_vqgan(other, member));
            if let Some(donor) = donor.map(|donor| &self.members[donor]) {
                share(&donor.config.run.dir, &member.config.run.dir)?;
            }
            if latents.as_ref().is_some_and(|(owner, _)| !same_vqgan(&self.members[*owner], member)) {
                latents = None;
            }
            let outcome = match run_member(member, until, &session, &mut latents, number) {
                Err(error @ TrainError::NotFinite { .. }) => {
                    session.progress().note(&format!("failed: {error}"));
                    Outcome::failed(member, error.to_string())
                }
                outcome => outcome?,
            };
            outcomes.push(outcome);
            Summary::new(&outcomes, until).save(&self.dir)?;
        }
        let mut summary = Summary::new(&outcomes, until);
        if test && until == Until::Classifier {
            self.test_best(&mut summary, session)?;
            summary.save(&self.dir)?;
        }
        Ok(summary)
    }

    /// Measures the runs of the best setting on the test films.
    fn test_best<'s>(&self, summary: &mut Summary, session: impl Fn(&Path) -> Session<'s>) -> Result<()> {
        let Some(best) = summary.best_setting().map(|setting| setting.runs.clone()) else { return Ok(()) };
        let mut reports = Vec::with_capacity(best.len());
        for member in self.members.iter().filter(|member| best.contains(&member.name)) {
            let session = session(&member.config.run.dir);
            let latents = encode_latents(&member.config, &session)?;
            reports.push(test_report(&member.config, &latents, &session)?);
        }
        summary.add_test(&reports);
        Ok(())
    }
}

fn run_member(
    member: &Member,
    until: Until,
    session: &Session<'_>,
    latents: &mut Option<(usize, LatentSet)>,
    number: usize,
) -> Result<Outcome> {
    let config = &member.config;
    let vqgan = train_vqgan(config, session)?;
    if until == Until::Vqgan {
        return Ok(Outcome::done(member, &vqgan, None));
    }
    let set = match latents {
        Some((_, set)) => set,
        none => &mut none.insert((number, encode_latents(config, session)?)).1,
    };
    let classifier = train_classifier(config, set, session)?;
    Ok(Outcome::done(member, &vqgan, Some(&classifier)))
}

/// Whether two runs train the same VQGAN on the same films, bit for bit.
fn same_vqgan(a: &Member, b: &Member) -> bool {
    let (a, b) = (&a.config, &b.config);
    let run = |of: &Config| (of.run.seed, of.run.device.clone(), of.run.precision);
    run(a) == run(b) && a.data == b.data && a.vqgan == b.vqgan
}

/// Members in the order of their groups' first members.
fn neighbours(mut members: Vec<Member>) -> Vec<Member> {
    let mut sorted = Vec::with_capacity(members.len());
    while !members.is_empty() {
        let first = members.remove(0);
        let (same, others) = members.into_iter().partition(|other| same_vqgan(&first, other));
        sorted.push(first);
        sorted.extend::<Vec<_>>(same);
        members = others;
    }
    sorted
}

/// Gives a run the VQGAN and the latents of another, unless it has its own. Files are linked: they are never changed, only
/// replaced.
fn share(from: &Path, to: &Path) -> Result<()> {
    for name in [
        "vqgan/model.safetensors",
        "vqgan/metrics.csv",
        "vqgan/metrics.json",
        "vqgan/reconstructions.png",
        "vqgan/last.safetensors",
        "latents.safetensors",
    ] {
        let (from, to) = (from.join(name), to.join(name));
        if to.exists() || !from.exists() {
            continue;
        }
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).map_err(TrainError::io(folder, "make the folder"))?;
        }
        if fs::hard_link(&from, &to).is_err() {
            // Another file system, or one without links.
            durable::copy(&from, &to)?;
        }
    }
    Ok(())
}
