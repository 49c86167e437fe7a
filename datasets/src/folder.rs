//! A folder of PNG, JPEG or DICOM films and a CSV file with a row per film.
//!
//! Columns are found by their usual names unless the configuration names them. Labels are either one column per
//! finding (1, 0, and blank or -1 for unknown) or one column with names joined by `|`.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files::Files;
use crate::source::{DataSource, Loaded};
use crate::split::{Assigned, Record};
use crate::table::{Row, Table};
use crate::{DataError, Fit, Result, Split};

const IMAGE: [&str; 8] = ["image", "file", "filename", "path", "image index", "image path", "image id", "id"];
const PATIENT: [&str; 5] = ["patient", "patient id", "subject", "subject id", "case"];
const SPLIT: [&str; 3] = ["split", "fold", "subset"];
const JOINED: [&str; 4] = ["labels", "finding labels", "findings", "label"];

/// The CSV file of a folder: the named one, `labels.csv`, or the only one.
fn find_table(config: &FolderConfig) -> Result<PathBuf> {
    let root = &config.root;
    if let Some(name) = &config.csv {
        return Ok(root.join(name));
    }
    let mut tables = Vec::new();
    for entry in std::fs::read_dir(root).map_err(DataError::io(root, "list the folder"))? {
        let path = entry.map_err(DataError::io(root, "list the folder"))?.path();
        if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv")) {
            tables.push(path);
        }
    }
    tables.sort();
    if let Some(labels) = tables.iter().find(|path| path.file_name().is_some_and(|name| name == "labels.csv"))
    {
        return Ok(labels.clone());
    }
    match &tables[..] {
        [one] => Ok(one.clone()),
        [] => Err(DataError::Empty {
            path: root.clone(),
            expected: "CSV file".into(),
            advice: "put labels.csv there, with a row per film".into(),
        }),
        several => Err(DataError::config(
            "source.folder.csv",
            format!("{} has {} CSV files and none is labels.csv", root.display(), several.len()),
            "say which one to use",
        )),
    }
}

/// How the table spells its labels.
enum Spelling {
    /// One column each.
    Columns(Vec<usize>),
    /// One column of names joined by `|`.
    Joined(usize, Vec<String>),
}

/// A cell of a label column; `None` if it is none of the accepted values.
fn parse_cell(text: &str) -> Option<Option<bool>> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "1.0" | "true" | "yes" => Some(Some(true)),
        "0" | "0.0" | "false" | "no" => Some(Some(false)),
        "" | "-1" | "-1.0" | "nan" => Some(None),
        _ => None,
    }
}

fn names_in(text: &str) -> impl Iterator<Item = &str> {
    text.split('|').map(str::trim).filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case("no finding"))
}

fn spelling(config: &FolderConfig, table: &Table, taken: &[usize]) -> Result<Spelling> {
    if !config.label_columns.is_empty() {
        let columns = config.label_columns.iter().map(|name| table.column(&[name])).collect::<Result<_>>()?;
        return Ok(Spelling::Columns(columns));
    }
    let binary = |column: usize| table.rows().all(|row| parse_cell(row.get(column)).is_some());
    let informative = |column: usize| table.rows().any(|row| !row.get(column).is_empty());
    if let Some(column) = table.find(&JOINED).filter(|&column| !binary(column)) {
        let names: BTreeSet<&str> = table.rows().flat_map(|row| names_in(row.get(column))).collect();
        return Ok(Spelling::Joined(column, names.into_iter().map(str::to_owned).collect()));
    }
    let columns: Vec<usize> = (0..table.header().len())
        .filter(|column| !taken.contains(column) && binary(*column) && informative(*column))
        .collect();
    if columns.is_empty() {
        return Err(DataError::MissingColumn {
            path: table.path().into(),
            expected: "with labels: one per finding with 1, 0 or blank in every row, or \"labels\" with names joined by |".into(),
            found: table.header().join(", "),
        });
    }
    Ok(Spelling::Columns(columns))
}

fn parse_labels(row: Row<'_>, spelling: &Spelling, table: &Table) -> Result<Vec<Option<bool>>> {
    match spelling {
        Spelling::Columns(columns) => columns
            .iter()
            .map(|&column| {
                parse_cell(row.get(column)).ok_or_else(|| {
                    row.error(
                        format!(
                            "expected 1, 0, blank or -1 in column {:?}, found {:?}",
                            table.header()[column],
                            row.get(column)
                        ),
                        "correct the value",
                    )
                })
            })
            .collect(),
        Spelling::Joined(column, names) => {
            let found: BTreeSet<&str> = names_in(row.get(*column)).collect();
            Ok(names.iter().map(|name| Some(found.contains(name.as_str()))).collect())
        }
    }
}

fn parse_split(row: Row<'_>, column: usize) -> Result<Assigned> {
    match row.get(column).to_ascii_lowercase().as_str() {
        "train" | "training" => Ok(Assigned::Fixed(Split::Train)),
        "val" | "valid" | "validation" | "dev" => Ok(Assigned::Fixed(Split::Validation)),
        "test" => Ok(Assigned::Fixed(Split::Test)),
        "" => Ok(Assigned::NotTest),
        other => Err(row.error(
            format!("expected train, validation or test as split, found {other:?}"),
            "correct the value",
        )),
    }
}

/// The image of a row. Absolute paths and `..` are refused: a table must not reach outside its folder.
fn image_path(root: &Path, row: Row<'_>, name: &str) -> Result<PathBuf> {
    let relative = Path::new(name);
    if !relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(row.error(
            format!("expected an image path inside {}, found {name:?}", root.display()),
            "write paths relative to the folder, without ..",
        ));
    }
    let direct = root.join(relative);
    let candidates = [direct.clone(), root.join("images").join(relative)];
    for candidate in &candidates {
        if candidate.is_file() {
            return Ok(candidate.clone());
        }
        for extension in ["png", "jpg", "jpeg", "dcm"] {
            let with = PathBuf::from(format!("{}.{extension}", candidate.display()));
            if with.is_file() {
                return Ok(with);
            }
        }
    }
    Err(DataError::Missing { path: direct, expected: format!("the film that {} names", row.place()) })
}

/// A folder of PNG, JPEG or DICOM images and a CSV file with a row per image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FolderConfig {
    /// The folder; image names in the CSV file are relative to it.
    pub root: PathBuf,
    /// The CSV file, relative to the folder. Left out: `labels.csv`, or the only CSV file there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csv: Option<PathBuf>,
    /// The column with the image's file name. Left out: the first of `image`, `file`, `filename`, `path`, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_column: Option<String>,
    /// The column with the patient. Left out: the first of `patient`, `patient_id`, `subject_id`, ...; where
    /// there is none, each film is its own patient.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patient_column: Option<String>,
    /// The column with `train`, `validation` or `test`. Left out: `split`, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split_column: Option<String>,
    /// The columns that are labels: 1, 0, blank or -1 for unknown. Left out: every other column that holds
    /// only such values, or one column of names joined by `|`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub label_columns: Vec<String>,
}

impl FolderConfig {
    /// A folder whose CSV file and columns are found by their usual names.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        FolderConfig {
            root: root.into(),
            csv: None,
            image_column: None,
            patient_column: None,
            split_column: None,
            label_columns: Vec::new(),
        }
    }
}

impl DataSource for FolderConfig {
    const LAYOUT: &'static str = "a folder of images with a CSV file";

    fn detect(path: &Path, names: &[String]) -> Option<Self> {
        let is_table = |name: &String| name.to_ascii_lowercase().ends_with(".csv");
        names.iter().any(is_table).then(|| FolderConfig::new(path))
    }

    fn load(&self, _: usize, _: Fit) -> Result<Loaded> {
        let root = &self.root;
        if !root.is_dir() {
            return Err(DataError::Missing {
                path: root.clone(),
                expected: "a folder of images with a CSV file".into(),
            });
        }
        let table = Table::read(&find_table(self)?)?;
        let named = |given: &Option<String>, usual: &[&str]| match given {
            Some(name) => table.column(&[name]).map(Some),
            None => Ok(table.find(usual)),
        };
        let image = match &self.image_column {
            Some(name) => table.column(&[name])?,
            None => table.column(&IMAGE)?,
        };
        let patient = named(&self.patient_column, &PATIENT)?;
        let split = named(&self.split_column, &SPLIT)?;
        let taken: Vec<usize> = [Some(image), patient, split].into_iter().flatten().collect();
        let spelling = spelling(self, &table, &taken)?;
        let label_names = match &spelling {
            Spelling::Columns(columns) => {
                columns.iter().map(|&column| table.header()[column].clone()).collect()
            }
            Spelling::Joined(_, names) => names.clone(),
        };
        let (mut records, mut paths) = (Vec::new(), Vec::new());
        let mut seen = BTreeSet::new();
        for row in table.rows() {
            let name = row.required(image)?;
            if !seen.insert(name) {
                return Err(row.error(format!("film {name:?} has a second line"), "keep one line per film"));
            }
            paths.push(image_path(root, row, name)?);
            records.push(Record {
                id: name.to_owned(),
                patient: match patient {
                    Some(column) => row.required(column)?.to_owned(),
                    None => name.to_owned(),
                },
                labels: parse_labels(row, &spelling, &table)?,
                split: split.map_or(Ok(Assigned::Open), |column| parse_split(row, column))?,
            });
        }
        // Without a single prescribed test film, an empty split column leaves everything open.
        if !records.iter().any(|record| record.split == Assigned::Fixed(Split::Test)) {
            for record in &mut records {
                if record.split == Assigned::NotTest {
                    record.split = Assigned::Open;
                }
            }
        }
        let mut notes = vec![format!("Image folder {}: {} films.", root.display(), records.len())];
        if patient.is_none() {
            notes.push("No patient column: every film counts as its own patient.".into());
        }
        let files = Files { paths };
        Ok(Loaded { label_names, records, content: files.content(root), pixels: Box::new(files), notes })
    }
}
