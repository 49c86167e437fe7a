//! The folder of a study: one record a cell, from which all tables and figures are made.
//!
//! ```text
//! OUT/study.json  study.toml  cells/CELL/{cell.json, film-0.png, reconstruction-0.png}
//! OUT/{report.html, tables/*.{md,csv,tex}, figures/*.{svg,png}}
//! ```
//!
//! A record carries the digest of the cell's configuration: one that another version of the study left is not mixed in. Folders of
//! shards hold different cells of the same study and merge by union.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pipeline::error::{Explain as _, Result};
use pipeline::require;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::key::Stage;
use super::provenance::Provenance;
use super::results::Results;
use super::study::{Cell, CellId, Rows, Study};

/// The most bytes of a record.
const MOST_BYTES: u64 = 16 << 20;

/// The study as its folder says it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outline {
    /// The study's name.
    pub name: String,
    /// What it is.
    pub title: String,
    /// What its rows are.
    pub rows: Rows,
    /// All runs in their order, with the digests of their configurations.
    pub cells: Vec<(CellId, String)>,
    /// The whole file with base and command line merged in.
    pub text: String,
}

impl Outline {
    /// The outline of a study.
    ///
    /// # Errors
    /// A configuration cannot be written down.
    pub fn of(study: &Study) -> Result<Self> {
        let cells = study.cells.iter().map(|cell| Ok((cell.id.clone(), digest(cell)?)));
        Ok(Self {
            name: study.name.clone(),
            title: study.title.clone(),
            rows: study.rows,
            cells: cells.collect::<Result<_>>()?,
            text: study.text.clone(),
        })
    }
}

/// The digest of a cell's configuration, apart from where it runs.
///
/// # Errors
/// The configuration cannot be written down.
pub fn digest(cell: &Cell) -> Result<String> {
    let mut config = cell.config.clone();
    config.run.dir = PathBuf::new();
    let text = json!({ "cell": cell.id, "config": config }).to_string();
    Ok(blake3::hash(text.as_bytes()).to_hex().to_string())
}

/// Why a cell has not all of its results.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// The stage that failed.
    pub stage: String,
    /// What it said.
    pub error: String,
}

/// What is known of a cell.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// Which cell.
    pub id: CellId,
    /// The digest of its configuration.
    pub config: String,
    /// Whether the network is polynomial, so that it ends on ciphertexts.
    pub is_polynomial: bool,
    /// Side of the films in pixels, and whether they are the whole data set of the paper.
    pub film_side: usize,
    /// The data set of the paper, where the films are all of it at its size.
    pub paper_data: Option<String>,
    /// Name of the activation.
    pub activation: String,
    /// The keys of the cell's stages.
    pub keys: BTreeMap<Stage, String>,
    /// The finished stages.
    pub results: Results,
    /// The stage that failed, if one did.
    pub failure: Option<Failure>,
    /// Which program and machine wrote the record.
    pub made_by: Provenance,
}

impl Record {
    /// Whether every stage of the cell is finished.
    pub fn is_complete(&self) -> bool {
        let is_encrypted = self.results.encrypted.is_some() || !self.is_polynomial;
        self.failure.is_none() && self.results.classifier.is_some() && is_encrypted
    }
}

/// The folder of a study, or of a shard of it.
#[derive(Debug, Clone)]
pub struct StudyFolder {
    root: PathBuf,
}

impl StudyFolder {
    /// The study in `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of a cell.
    pub fn cell(&self, id: &CellId) -> PathBuf {
        self.root.join("cells").join(id.folder())
    }

    /// Writes what the study is.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write_outline(&self, outline: &Outline) -> Result<()> {
        durable::write(&self.root.join("study.toml"), outline.text.as_bytes())?;
        write_json(&self.root.join("study.json"), outline)
    }

    /// Reads what the study is.
    ///
    /// # Errors
    /// The folder holds no study, or a damaged one.
    pub fn outline(&self) -> Result<Outline> {
        read_json(&self.root.join("study.json"))
            .explain(|| format!("{} is not the folder of a study", self.root.display()))
    }

    /// Writes a cell's record.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_record(&self, record: &Record) -> Result<()> {
        write_json(&self.cell(&record.id).join("cell.json"), record)
    }

    /// The records of the study's cells that are there and were made from the same configurations, in the study's order.
    ///
    /// # Errors
    /// A record is damaged.
    pub fn records(&self, outline: &Outline) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        for (id, config) in &outline.cells {
            let file = self.cell(id).join("cell.json");
            if !file.exists() {
                continue;
            }
            let record: Record = read_json(&file)?;
            if record.config == *config && record.id == *id {
                records.push(record);
            }
        }
        Ok(records)
    }
}

/// Gathers the records of several folders of one study in `into`: the outline, and for each cell the record that got furthest.
///
/// # Errors
/// A folder is of another study, or a file cannot be read or written.
pub fn merge(from: &[PathBuf], into: &StudyFolder) -> Result<Outline> {
    let mut outline: Option<Outline> = None;
    for root in from {
        let found = StudyFolder::new(root).outline()?;
        if let Some(first) = &outline {
            require!(
                first.cells == found.cells && first.name == found.name,
                "{} and {} hold different studies, or the same one under different configurations: merge folders of one \
                 study that were made with the same file and the same --set and --data",
                from[0].display(),
                root.display()
            );
        } else {
            outline = Some(found);
        }
    }
    let outline = outline.explain(|| "name the folders to merge")?;
    into.write_outline(&outline)?;
    let mut kept: BTreeMap<CellId, usize> =
        into.records(&outline)?.iter().map(|record| (record.id.clone(), progress(record))).collect();
    for root in from {
        let folder = StudyFolder::new(root);
        for record in folder.records(&outline)? {
            let (source, target) = (folder.cell(&record.id), into.cell(&record.id));
            if kept.get(&record.id).is_some_and(|&kept| kept >= progress(&record)) {
                continue;
            }
            kept.insert(record.id.clone(), progress(&record));
            if !same_folder(&source, &target) {
                copy_pictures(&source, &target)?;
                into.write_record(&record)?;
            }
        }
    }
    Ok(outline)
}

/// How far a cell got: complete cells before failed ones, those with more stages before those with fewer.
fn progress(record: &Record) -> usize {
    let r = &record.results;
    let stages = [
        r.vqgan.is_some(),
        r.latents.is_some(),
        r.classifier.is_some(),
        r.export.is_some(),
        r.encrypted.is_some(),
    ];
    10 * usize::from(record.is_complete()) + stages.into_iter().filter(|&is_there| is_there).count()
}

fn same_folder(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

fn copy_pictures(from: &Path, to: &Path) -> Result<()> {
    pipeline::files::make_folder(to)?;
    let entries = std::fs::read_dir(from).explain(|| format!("cannot read {}", from.display()))?;
    for entry in entries {
        let path = entry.explain(|| format!("cannot read {}", from.display()))?.path();
        if let (Some(name), true) = (path.file_name(), path.extension().is_some_and(|e| e == "png")) {
            durable::copy(&path, &to.join(name)).explain(|| format!("cannot copy {}", path.display()))?;
        }
    }
    Ok(())
}

fn write_json<T: Serialize>(file: &Path, value: &T) -> Result<()> {
    Ok(durable::write(file, serde_json::to_string_pretty(value)?.as_bytes())?)
}

fn read_json<T: DeserializeOwned>(file: &Path) -> Result<T> {
    let reading = || format!("cannot read {}", file.display());
    let length = std::fs::metadata(file).explain(reading)?.len();
    require!(length <= MOST_BYTES, "{}: expected at most {MOST_BYTES} bytes, found {length}", file.display());
    let bytes = std::fs::read(file).explain(reading)?;
    serde_json::from_slice(&bytes)
        .explain(|| format!("{} is damaged: remove it and run again", file.display()))
}
