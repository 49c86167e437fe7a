//! CheXpert v1.0 in its own layouts: the small and the full release, and the folders of the AIMI download.
//!
//! `Path` in the tables begins with the name of the release and is relative to the folder that holds it, so the
//! name is stripped and the rest looked for below the root. Frontal films are told by the column
//! `Frontal/Lateral`: a few frontal rows have neither AP nor PA. Values are 1 (positive), 0 (negative), -1
//! (uncertain) and blank (not mentioned); what uncertain and blank become is configured. A file of labels made
//! by CheXbert or VisualCheXbert can replace the training labels, film by film.
//!
//! Splits: patients of `train.csv` are training and validation (drawn). With the test labels (`groundtruth.csv`)
//! there, their studies are the test split and `valid.csv` is validation; without them `valid.csv` is the test
//! split, because it is what was read by several radiologists; without either, test patients are drawn too.
//!
//! The data use agreement of Stanford AIMI forbids passing on any part of the data set.
//! J. Irvin et al., *CheXpert*, AAAI 2019.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files::Files;
use crate::source::{DataSource, Loaded};
use crate::split::{Assigned, Record};
use crate::table::{Row, Table};
use crate::{DataError, Fit, Result, Split};

/// The 14 observations, in the order of the tables.
pub const LABELS: [&str; 14] = [
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
];

/// The folders of the AIMI download that hold tables, and those that hold training patients.
const AIMI_TABLES: &str = "CheXpert-v1.0 batch 1 (validate & csv)";
const AIMI_TRAIN: [&str; 3] =
    ["CheXpert-v1.0 batch 2 (train 1)", "CheXpert-v1.0 batch 3 (train 2)", "CheXpert-v1.0 batch 4 (train 3)"];
const RELEASES: [&str; 2] = ["CheXpert-v1.0-small", "CheXpert-v1.0"];

/// The folder below (or equal to) `root` that holds `train.csv`, if this is CheXpert.
pub(crate) fn find_root(root: &Path) -> Option<PathBuf> {
    let nested = RELEASES.iter().map(|name| root.join(name));
    std::iter::once(root.to_path_buf()).chain(nested).find(|folder| {
        folder.join(AIMI_TABLES).join("train.csv").is_file()
            || (folder.join("train.csv").is_file()
                && Table::read_header(&folder.join("train.csv"))
                    .is_ok_and(|header| header.iter().any(|column| column == "Frontal/Lateral")))
    })
}

/// Where things are.
struct Layout {
    root: PathBuf,
    tables: PathBuf,
    aimi: bool,
}

impl Layout {
    fn find(config: &CheXpertConfig) -> Result<Self> {
        if !config.root.is_dir() {
            return Err(DataError::Missing {
                path: config.root.clone(),
                expected: "the folder of CheXpert".into(),
            });
        }
        let root = find_root(&config.root).ok_or_else(|| DataError::Empty {
            path: config.root.clone(),
            expected: "train.csv of CheXpert (with a column \"Frontal/Lateral\")".into(),
            advice: "name the folder that holds train.csv and train/, or the one above it".into(),
        })?;
        let aimi = root.join(AIMI_TABLES).is_dir();
        let tables = if aimi { root.join(AIMI_TABLES) } else { root.clone() };
        Ok(Layout { root, tables, aimi })
    }

    /// The file of a film whose path begins with the split: `train/patient00001/study1/view1_frontal.jpg`.
    fn resolve(&self, relative: &str) -> Option<PathBuf> {
        let direct = self.root.join(relative);
        if direct.is_file() {
            return Some(direct);
        }
        if !self.aimi {
            return None;
        }
        let within = relative.strip_prefix("train/");
        let batches = within.into_iter().flat_map(|rest| AIMI_TRAIN.iter().map(move |batch| (*batch, rest)));
        std::iter::once((AIMI_TABLES, relative))
            .chain(batches)
            .map(|(folder, rest)| self.root.join(folder).join(rest))
            .find(|path| path.is_file())
    }
}

/// `CheXpert-v1.0-small/train/patient00001/...` without the release; refuses paths that leave the folder.
fn strip_release<'a>(row: Row<'_>, path: &'a str) -> Result<&'a str> {
    let stripped =
        RELEASES.iter().find_map(|release| path.strip_prefix(release)?.strip_prefix('/')).unwrap_or(path);
    if stripped.starts_with('/') || stripped.split('/').any(|part| part == ".." || part.is_empty()) {
        return Err(row.error(
            format!(
                "expected a path as CheXpert-v1.0/train/patient00001/study1/view1_frontal.jpg, found {path:?}"
            ),
            "correct the table",
        ));
    }
    Ok(stripped)
}

/// The patient in a path: its part that begins with `patient`.
fn patient_of<'a>(row: Row<'_>, path: &'a str) -> Result<&'a str> {
    path.split('/').find(|part| part.starts_with("patient")).ok_or_else(|| {
        row.error(format!("expected a path with a folder patientNNNNN, found {path:?}"), "correct the table")
    })
}

/// The label columns of a table and what to do with uncertain and blank cells.
struct Reader<'a> {
    config: &'a CheXpertConfig,
    columns: Vec<usize>,
}

impl<'a> Reader<'a> {
    fn new(config: &'a CheXpertConfig, table: &Table) -> Result<Self> {
        let columns = LABELS.iter().map(|label| table.column(&[label])).collect::<Result<_>>()?;
        Ok(Reader { config, columns })
    }

    fn labels(&self, row: Row<'_>) -> Result<Vec<Option<bool>>> {
        let cell = |(label, &column): (&str, &usize)| match row.get(column) {
            "1.0" | "1" => Ok(Some(true)),
            "0.0" | "0" => Ok(Some(false)),
            "-1.0" | "-1" => {
                Ok(self.config.uncertainty_by_label.get(label).unwrap_or(&self.config.uncertainty).value())
            }
            "" => Ok(self.config.blank.value()),
            other => Err(row.error(
                format!("expected 1.0, 0.0, -1.0 or blank for {label:?}, found {other:?}"),
                "correct the value",
            )),
        };
        LABELS.iter().copied().zip(&self.columns).map(cell).collect()
    }
}

impl Uncertainty {
    fn value(self) -> Option<bool> {
        match self {
            Uncertainty::Ignore => None,
            Uncertainty::Zeros => Some(false),
            Uncertainty::Ones => Some(true),
        }
    }
}

/// Labels by path, from a file that replaces those of `train.csv`.
fn other_labels(
    config: &CheXpertConfig,
    layout: &Layout,
) -> Result<Option<HashMap<String, Vec<Option<bool>>>>> {
    let Some(name) = &config.labels_file else { return Ok(None) };
    let places = [layout.root.join(name), layout.tables.join(name), config.root.join(name)];
    let path = places.iter().find(|path| path.is_file()).unwrap_or(&places[0]);
    let table = Table::read(path)?;
    let reader = Reader::new(config, &table)?;
    let column = table.column(&["Path"])?;
    let mut labels = HashMap::with_capacity(table.len());
    for row in table.rows() {
        let path = strip_release(row, row.required(column)?)?;
        if labels.insert(path.to_owned(), reader.labels(row)?).is_some() {
            return Err(row.error(format!("film {path:?} has a second line"), "keep one line per film"));
        }
    }
    Ok(Some(labels))
}

/// What is gathered from the tables.
#[derive(Default)]
struct Gathered {
    records: Vec<Record>,
    paths: Vec<PathBuf>,
    without_file: usize,
    lateral: usize,
    without_labels: usize,
    seen: HashSet<String>,
}

impl Gathered {
    /// Adds a film, which must not have been added before.
    fn add(&mut self, row: Row<'_>, path: PathBuf, record: Record) -> Result<()> {
        if !self.seen.insert(record.id.clone()) {
            let problem = format!("film {:?} has a second line", record.id);
            return Err(row.error(problem, "keep one line per film"));
        }
        self.paths.push(path);
        self.records.push(record);
        Ok(())
    }
}

/// CheXpert: a folder with `train.csv` and `train/`, the folder above it, or the AIMI download.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheXpertConfig {
    /// The folder.
    pub root: PathBuf,
    /// A table of labels that replaces those of `train.csv`, as `train_cheXbert.csv`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels_file: Option<PathBuf>,
    /// What an uncertain label (-1) becomes: `ignore` (masked), `zeros` or `ones`. `ignore`.
    #[serde(default)]
    pub uncertainty: Uncertainty,
    /// The same for single labels, as `Atelectasis = "ones"`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub uncertainty_by_label: BTreeMap<String, Uncertainty>,
    /// What a blank label (not mentioned) becomes. `zeros`, as almost everywhere.
    #[serde(default = "default_blank")]
    pub blank: Uncertainty,
    /// Leaves out lateral films. `true`.
    #[serde(default = "default_true")]
    pub frontal_only: bool,
}

/// What a label becomes that is neither positive nor negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Uncertainty {
    /// Unknown: masked in losses and metrics.
    #[default]
    Ignore,
    /// Negative.
    Zeros,
    /// Positive.
    Ones,
}

impl CheXpertConfig {
    /// CheXpert with the default treatment of uncertain and blank labels.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        CheXpertConfig {
            root: root.into(),
            labels_file: None,
            uncertainty: Uncertainty::Ignore,
            uncertainty_by_label: BTreeMap::new(),
            blank: default_blank(),
            frontal_only: true,
        }
    }
}

fn default_blank() -> Uncertainty {
    Uncertainty::Zeros
}

fn default_true() -> bool {
    true
}

impl DataSource for CheXpertConfig {
    const LAYOUT: &'static str = "a folder with train.csv and train/ (CheXpert)";

    fn detect(path: &Path, names: &[String]) -> Option<Self> {
        let found = !names.is_empty() && find_root(path).is_some();
        found.then(|| CheXpertConfig::new(path))
    }

    fn load(&self, _: usize, _: Fit) -> Result<Loaded> {
        for label in self.uncertainty_by_label.keys() {
            if !LABELS.contains(&label.as_str()) {
                return Err(DataError::UnknownLabel {
                    place: "data.source.chexpert.uncertainty_by_label".into(),
                    label: label.clone(),
                    known: LABELS.join(", "),
                });
            }
        }
        let layout = Layout::find(self)?;
        let replaced = other_labels(self, &layout)?;
        let mut all = Gathered::default();
        let has_test = read_test(self, &layout, &mut all)?;
        let has_valid = layout.tables.join("valid.csv").is_file();
        let train = if has_test || has_valid { Assigned::NotTest } else { Assigned::Open };
        read_films(self, &layout, "train.csv", train, replaced.as_ref(), &mut all)?;
        if has_valid {
            let split = if has_test { Split::Validation } else { Split::Test };
            read_films(self, &layout, "valid.csv", Assigned::Fixed(split), None, &mut all)?;
        }
        if all.records.is_empty() {
            return Err(DataError::Empty {
                path: layout.root,
                expected: "film that train.csv names".into(),
                advice: "unpack the images beside the tables, as train/patient00001/study1/view1_frontal.jpg"
                    .into(),
            });
        }
        let mut notes = vec![format!(
            "CheXpert in {}: {} films (Irvin et al., AAAI 2019; do not pass on any part of it).",
            layout.root.display(),
            all.records.len()
        )];
        for (count, text) in [
            (all.without_file, "rows have no image file and were left out."),
            (all.lateral, "lateral films were left out."),
            (all.without_labels, "films have no line in the other label file and were left out."),
        ] {
            if count > 0 {
                notes.push(format!("{count} {text}"));
            }
        }
        let files = Files { paths: all.paths };
        Ok(Loaded {
            label_names: LABELS.iter().map(|&name| name.to_owned()).collect(),
            records: all.records,
            content: files.content(&layout.root),
            pixels: Box::new(files),
            notes,
        })
    }
}

fn read_films(
    config: &CheXpertConfig,
    layout: &Layout,
    name: &str,
    split: Assigned,
    replaced: Option<&HashMap<String, Vec<Option<bool>>>>,
    all: &mut Gathered,
) -> Result<()> {
    let table = Table::read(&layout.tables.join(name))?;
    let (path, view) = (table.column(&["Path"])?, table.column(&["Frontal/Lateral"])?);
    let reader = Reader::new(config, &table)?;
    for row in table.rows() {
        match row.get(view) {
            "Frontal" => {}
            "Lateral" if config.frontal_only => {
                all.lateral += 1;
                continue;
            }
            "Lateral" => {}
            other => {
                return Err(row.error(
                    format!("expected Frontal or Lateral in column \"Frontal/Lateral\", found {other:?}"),
                    "correct the value",
                ));
            }
        }
        let relative = strip_release(row, row.required(path)?)?;
        let own = reader.labels(row)?;
        let labels = match replaced {
            None => own,
            Some(replaced) => match replaced.get(relative) {
                Some(labels) => labels.clone(),
                None => {
                    all.without_labels += 1;
                    continue;
                }
            },
        };
        let patient = patient_of(row, relative)?.to_owned();
        match layout.resolve(relative) {
            Some(file) => {
                all.add(row, file, Record { id: relative.to_owned(), patient, labels, split })?;
            }
            None => all.without_file += 1,
        }
    }
    Ok(())
}

/// The test set: one row of labels per study, which holds for all of its films; some copies have a row per film.
fn read_test(config: &CheXpertConfig, layout: &Layout, all: &mut Gathered) -> Result<bool> {
    let names = ["groundtruth.csv", "test_labels.csv", "test.csv"];
    let folders = [&layout.root, &layout.tables, &config.root];
    let mut places = names.iter().flat_map(|name| folders.map(|folder| folder.join(name)));
    let Some(file) = places.find(|path| path.is_file()) else { return Ok(false) };
    let table = Table::read(&file)?;
    let column = table.column(&["Study", "Path"])?;
    let reader = Reader::new(config, &table)?;
    for row in table.rows() {
        let relative = strip_release(row, row.required(column)?)?;
        let (labels, patient) = (reader.labels(row)?, patient_of(row, relative)?.to_owned());
        let (study, wanted) = match relative.rsplit_once('/') {
            Some((study, film)) if film.starts_with("view") => (study, Some(film)),
            _ => (relative, None),
        };
        let films = films_of_study(config, layout, study)?;
        let named = |name: &str| wanted.is_none_or(|film| film == name);
        let mut found = false;
        for (name, path) in films.into_iter().filter(|(name, _)| named(name)) {
            found = true;
            let (patient, labels) = (patient.clone(), labels.clone());
            let id = format!("{study}/{name}");
            all.add(row, path, Record { id, patient, labels, split: Assigned::Fixed(Split::Test) })?;
        }
        match wanted {
            Some(film) if config.frontal_only && film.contains("lateral") => all.lateral += 1,
            _ if !found => all.without_file += 1,
            _ => {}
        }
    }
    Ok(true)
}

/// The films in the folder of a study, in the order of their names.
fn films_of_study(config: &CheXpertConfig, layout: &Layout, study: &str) -> Result<Vec<(String, PathBuf)>> {
    let nested = RELEASES.iter().map(|release| layout.root.join(release).join(study));
    let mut folders = std::iter::once(layout.root.join(study)).chain(nested);
    let Some(folder) = folders.find(|folder| folder.is_dir()) else { return Ok(Vec::new()) };
    let mut films = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(DataError::io(&folder, "list the study"))? {
        let name = entry.map_err(DataError::io(&folder, "list the study"))?.file_name();
        let name = name.to_string_lossy().into_owned();
        let image = [".jpg", ".jpeg", ".png"].iter().any(|ending| name.ends_with(ending));
        if image && (name.contains("frontal") || !config.frontal_only) {
            films.push((name.clone(), folder.join(&name)));
        }
    }
    films.sort();
    Ok(films)
}
