//! NIH ChestX-ray14 in its own directory layout.
//!
//! Films are found by base name anywhere below the root, because the official archives, the Kaggle mirror
//! (`images_001/images/`) and its sample nest them differently. The table's columns are found by name, because
//! releases differ in their number (`OriginalImage[Width,Height]` is an unquoted header with a comma in it).
//! `test_list.txt` fixes the test films and `val_list.txt` the validation films where they exist; otherwise
//! validation patients are drawn.
//!
//! Data provider: NIH Clinical Center, <https://nihcc.app.box.com/v/ChestXray-NIHCC>; X. Wang et al.,
//! *ChestX-ray8*, CVPR 2017.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files::{self, Files};
use crate::source::{DataSource, Loaded};
use crate::split::{Assigned, Record};
use crate::table::{self, Row, Table};
use crate::{DataError, Fit, Result, Split};

/// The 14 findings, in the order of ChestMNIST and of the CheXNet lists.
pub const LABELS: [&str; 14] = [
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
];

const NO_FINDING: &str = "No Finding";

/// Whether a file name is that of a table of this data set.
pub(crate) fn is_table(name: &str) -> bool {
    let name = name.strip_suffix(".gz").unwrap_or(name);
    (name.starts_with("Data_Entry_2017") && name.ends_with(".csv")) || name == "sample_labels.csv"
}

/// The table in a folder: the newest release first.
fn find_table(root: &Path) -> Result<PathBuf> {
    let mut tables = Vec::new();
    for entry in std::fs::read_dir(root).map_err(DataError::io(root, "list the folder"))? {
        let name = entry.map_err(DataError::io(root, "list the folder"))?.file_name();
        let name = name.to_string_lossy().into_owned();
        if is_table(&name) {
            tables.push((!name.contains("v2020"), name.starts_with("sample"), name));
        }
    }
    tables.sort();
    match tables.into_iter().next() {
        Some((_, _, name)) => Ok(root.join(name)),
        None => Err(DataError::Empty {
            path: root.into(),
            expected: "Data_Entry_2017*.csv or sample_labels.csv".into(),
            advice: "name the folder that holds the table of NIH ChestX-ray14, with the images below it"
                .into(),
        }),
    }
}

/// The findings that a row names.
fn parse_labels(row: Row<'_>, column: usize) -> Result<Vec<Option<bool>>> {
    let mut labels = vec![Some(false); LABELS.len()];
    for name in row.required(column)?.split('|').map(str::trim) {
        if name == NO_FINDING {
            continue;
        }
        let place =
            LABELS.iter().position(|label| *label == name).ok_or_else(|| DataError::UnknownLabel {
                place: row.place(),
                label: name.into(),
                known: format!("{}, {NO_FINDING}", LABELS.join(", ")),
            })?;
        labels[place] = Some(true);
    }
    Ok(labels)
}

/// The official lists, as far as they are there.
struct Lists {
    train_validation: Option<HashSet<String>>,
    validation: Option<HashSet<String>>,
    test: Option<HashSet<String>>,
}

impl Lists {
    fn read(root: &Path) -> Result<Self> {
        let read = |name: &str| -> Result<Option<HashSet<String>>> {
            Ok(table::read_list(&root.join(name))?.map(|names| names.into_iter().collect()))
        };
        Ok(Lists {
            train_validation: read("train_val_list.txt")?,
            validation: read("val_list.txt")?,
            test: read("test_list.txt")?,
        })
    }

    /// `None` for a film that the lists leave out.
    fn assign(&self, name: &str) -> Option<Assigned> {
        let within = |list: &Option<HashSet<String>>| list.as_ref().is_some_and(|names| names.contains(name));
        if within(&self.test) {
            Some(Assigned::Fixed(Split::Test))
        } else if within(&self.validation) {
            Some(Assigned::Fixed(Split::Validation))
        } else if self.train_validation.is_some() && !within(&self.train_validation) {
            None
        } else if self.test.is_some() {
            Some(if self.validation.is_some() { Assigned::Fixed(Split::Train) } else { Assigned::NotTest })
        } else {
            Some(Assigned::Open)
        }
    }
}

/// Side of the films in whose pixels [`BoundingBox`]es are given.
pub const BOX_SIDE: f32 = 1024.0;

/// Where a radiologist saw a finding, in pixels of the 1024-pixel film.
#[derive(Clone, Debug, PartialEq)]
pub struct BoundingBox {
    /// The film.
    pub film: String,
    /// The finding, by its place in [`LABELS`].
    pub finding: usize,
    /// Left edge.
    pub x: f32,
    /// Upper edge.
    pub y: f32,
    /// Width.
    pub width: f32,
    /// Height.
    pub height: f32,
}

impl BoundingBox {
    /// The box in pixels of a film of another side, which was resized without cropping.
    #[must_use]
    pub fn at_side(&self, side: usize) -> Self {
        let factor = side as f32 / BOX_SIDE;
        let [x, y, width, height] = [self.x, self.y, self.width, self.height].map(|v| v * factor);
        BoundingBox { film: self.film.clone(), finding: self.finding, x, y, width, height }
    }
}

/// Reads `BBox_List_2017.csv` (or `.csv.gz`).
///
/// Its header is `Image Index,Finding Label,Bbox [x,y,w,h],,,`, and it writes `Infiltrate` for Infiltration.
///
/// # Errors
/// The file is missing, or a line names an unknown finding or a box outside the film.
pub fn bounding_boxes(path: &Path) -> Result<Vec<BoundingBox>> {
    let table = Table::read(path)?;
    let image = table.column(&["Image Index"])?;
    let finding = table.column(&["Finding Label", "Finding Labels"])?;
    let first = table.header().iter().position(|name| name.starts_with("Bbox")).ok_or_else(|| {
        DataError::MissingColumn {
            path: path.into(),
            expected: "\"Bbox [x,y,w,h]\"".into(),
            found: table.header().join(", "),
        }
    })?;
    let mut boxes = Vec::with_capacity(table.len());
    for row in table.rows() {
        let name = match row.required(finding)? {
            "Infiltrate" => "Infiltration",
            name => name,
        };
        let finding = LABELS.iter().position(|label| *label == name).ok_or_else(|| {
            DataError::UnknownLabel { place: row.place(), label: name.into(), known: LABELS.join(", ") }
        })?;
        let mut sides = [0f32; 4];
        for (place, side) in sides.iter_mut().enumerate() {
            let text = row.required(first + place)?;
            *side = text.parse().map_err(|_| {
                row.error(
                    format!("expected x, y, width, height in pixels, found {text:?}"),
                    "correct the line",
                )
            })?;
        }
        let [x, y, width, height] = sides;
        // Rounding in the list reaches a little beyond the film.
        let inside = |from: f32, length: f32| from >= 0.0 && length > 0.0 && from + length <= BOX_SIDE + 1.0;
        if !inside(x, width) || !inside(y, height) {
            let problem = format!("expected a box within {BOX_SIDE} pixels, found {sides:?}");
            return Err(row.error(problem, "correct the line"));
        }
        boxes.push(BoundingBox { film: row.required(image)?.to_owned(), finding, x, y, width, height });
    }
    Ok(boxes)
}

/// NIH ChestX-ray14: a folder with `Data_Entry_2017*.csv` (or `sample_labels.csv`) and PNG files anywhere below.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NihConfig {
    /// The folder.
    pub root: PathBuf,
}

impl DataSource for NihConfig {
    const LAYOUT: &'static str = "a folder with Data_Entry_2017*.csv or sample_labels.csv (NIH ChestX-ray14)";

    fn detect(path: &Path, names: &[String]) -> Option<Self> {
        names.iter().any(|name| is_table(name)).then(|| NihConfig { root: path.into() })
    }

    fn load(&self, _: usize, _: Fit) -> Result<Loaded> {
        let root = &self.root;
        if !root.is_dir() {
            return Err(DataError::Missing {
                path: root.clone(),
                expected: "the folder of NIH ChestX-ray14".into(),
            });
        }
        let table = Table::read(&find_table(root)?)?;
        let image = table.column(&["Image Index"])?;
        let findings = table.column(&["Finding Labels"])?;
        let patient = table.find(&["Patient ID"]);
        let lists = Lists::read(root)?;
        let (mut images, repeated) = files::by_name(root, &["png"])?;
        if images.is_empty() {
            return Err(DataError::Empty {
                path: root.clone(),
                expected: "PNG film".into(),
                advice: "unpack the images_*.tar.gz archives below this folder".into(),
            });
        }
        let (mut records, mut paths) = (Vec::new(), Vec::new());
        let (mut without_file, mut unlisted) = (0, 0);
        for row in table.rows() {
            let name = row.required(image)?;
            let labels = parse_labels(row, findings)?;
            // A row is used once: a second row for the same film finds no file left.
            let Some(path) = images.remove(name) else {
                without_file += 1;
                continue;
            };
            let Some(split) = lists.assign(name) else {
                unlisted += 1;
                continue;
            };
            let patient = match patient {
                Some(column) => row.required(column)?.trim_start_matches('0').to_owned(),
                None => name.split('_').next().unwrap_or(name).trim_start_matches('0').to_owned(),
            };
            records.push(Record { id: name.to_owned(), patient, labels, split });
            paths.push(path);
        }
        if records.is_empty() {
            return Err(DataError::Empty {
                path: root.clone(),
                expected: format!("PNG film that {} names and the lists allow", table.path().display()),
                advice: "check that images, table and lists are of the same release".into(),
            });
        }
        let mut notes = vec![format!(
            "NIH ChestX-ray14 in {}: {} films (data: NIH Clinical Center; Wang et al., CVPR 2017).",
            root.display(),
            records.len()
        )];
        let mut note = |count: usize, text: &str| {
            if count > 0 {
                notes.push(format!("{count} {text}"));
            }
        };
        note(without_file, "rows of the table have no image file and were left out.");
        note(images.len(), "image files are not in the table and were left out.");
        note(unlisted, "films are in none of the lists and were left out.");
        note(repeated, "image files repeat the name of another and were left out.");
        let list = ["BBox_List_2017.csv", "BBox_List_2017.csv.gz"].map(|name| root.join(name));
        if let Some(list) = list.iter().find(|list| list.is_file()) {
            let names: HashSet<&str> = records.iter().map(|record| record.id.as_str()).collect();
            let boxes =
                bounding_boxes(list)?.iter().filter(|found| names.contains(found.film.as_str())).count();
            note(boxes, "bounding boxes mark findings on these films.");
        }
        let files = Files { paths };
        Ok(Loaded {
            label_names: LABELS.iter().map(|&name| name.to_owned()).collect(),
            records,
            content: files.content(root),
            pixels: Box::new(files),
            notes,
        })
    }
}
