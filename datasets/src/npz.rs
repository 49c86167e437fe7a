//! MedMNIST array files: `{train,val,test}_images` (uint8, N x side x side) and `{train,val,test}_labels`.
//!
//! Members are inflated as a stream and resized block by block, so that memory is bounded by the films at the
//! wanted side, whatever the file claims. Checksums are verified by reading every member to its end. A
//! `<name>_index.csv.gz` (or `.csv`) beside the file, with columns `split`, `row`, `Image Index` and
//! `Patient ID`, gives films their names and patients; without it every film is its own patient.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use zip::ZipArchive;

use crate::arrays::{Bytes, MAX_MEMORY, array_error, resize};
use crate::npy::Header;
use crate::source::{DataSource, Loaded};
use crate::split::{Assigned, Record};
use crate::table::Table;
use crate::{DataError, Fit, Result, Split};

/// The largest side of a stored film.
const MAX_STORED_SIDE: usize = 2048;
/// The most films in one array.
const MAX_FILMS: usize = 4_000_000;
/// The most label columns or classes.
const MAX_LABELS: usize = 1024;
/// Rows read at a time, as long as they take at most `BLOCK_BYTES`.
const BLOCK: usize = 256;
const BLOCK_BYTES: usize = 32 << 20;

const COPY_AGAIN: &str = "the file is damaged or cut short: copy or download it again";
const LAYOUT: &str = "expected the MedMNIST layout: train_images, train_labels, val_images, ...";

/// Whether a path has the ending of such a file.
pub(crate) fn is_npz(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("npz"))
}

/// The array file, opened.
struct Archive<'a> {
    path: &'a Path,
    zip: ZipArchive<BufReader<File>>,
    side: usize,
    fit: Fit,
}

/// The labels of one split: a row of integers per film.
struct Labels {
    columns: usize,
    values: Vec<i64>,
}

impl<'a> Archive<'a> {
    fn open(path: &'a Path, side: usize, fit: Fit) -> Result<Self> {
        let file = File::open(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                DataError::Missing { path: path.into(), expected: "a MedMNIST .npz file".into() }
            }
            _ => DataError::io(path, "open the array file")(error),
        })?;
        let zip = ZipArchive::new(BufReader::with_capacity(1 << 20, file))
            .map_err(|e| array_error(path, format!("expected a .npz (zip) file, but {e}"), COPY_AGAIN))?;
        Ok(Archive { path, zip, side, fit })
    }

    fn has(&self, name: &str) -> bool {
        self.zip.index_for_name(&format!("{name}.npy")).is_some()
    }

    fn names(&self) -> String {
        self.zip.file_names().take(20).collect::<Vec<_>>().join(", ")
    }

    /// Names, sizes and checksums of all members.
    fn content(&mut self) -> Result<String> {
        let mut parts = Vec::new();
        for index in 0..self.zip.len() {
            let member = self
                .zip
                .by_index_raw(index)
                .map_err(|e| array_error(self.path, format!("member {index}: {e}"), COPY_AGAIN))?;
            parts.push(format!("{} {} {:08x}", member.name(), member.size(), member.crc32()));
        }
        parts.sort();
        Ok(parts.join("; "))
    }

    /// One member: its header, and the reader behind it.
    fn member(&mut self, name: &str) -> Result<(Header, impl Read)> {
        let path = self.path;
        if !self.has(name) {
            let problem = format!("no array {name:?}; its members are: {}", self.names());
            return Err(array_error(path, problem, LAYOUT));
        }
        let fail = |problem: String| array_error(path, format!("{name}: {problem}"), COPY_AGAIN);
        let mut member = self.zip.by_name(&format!("{name}.npy")).map_err(|e| fail(e.to_string()))?;
        let header = Header::read(&mut member).map_err(fail)?;
        Ok((header, member))
    }

    /// Appends the films of a split to `bytes`; returns how many there are.
    fn films(&mut self, name: &str, bytes: &mut Vec<u8>) -> Result<usize> {
        let (path, side, fit) = (self.path, self.side, self.fit);
        let (header, member) = self.member(name)?;
        let refuse = |problem: String| array_error(path, format!("{name}: {problem}"), LAYOUT);
        let (films, height, width, colours) = match header.shape[..] {
            [films, height, width] => (films, height, width, 1),
            [films, height, width, colours @ (1 | 3)] => (films, height, width, colours),
            _ => {
                return Err(refuse(format!(
                    "expected films x height x width, found shape {:?}",
                    header.shape
                )));
            }
        };
        if header.dtype != "|u1" {
            return Err(refuse(format!("expected bytes (uint8), found type {:?}", header.dtype)));
        }
        let too_large = |what: String, found: u64, limit: u64| DataError::TooLarge {
            path: path.into(),
            what,
            found,
            limit,
        };
        if films > MAX_FILMS {
            return Err(too_large(format!("the number of films in {name}"), films as u64, MAX_FILMS as u64));
        }
        let stored = height.max(width);
        if stored > MAX_STORED_SIDE {
            return Err(too_large(
                format!("the side of the films in {name}"),
                stored as u64,
                MAX_STORED_SIDE as u64,
            ));
        }
        if height == 0 || width == 0 {
            return Err(refuse(format!("expected films with pixels, found shape {:?}", header.shape)));
        }
        let memory = (bytes.len() + films * side * side) as u64;
        if memory > MAX_MEMORY {
            let problem = format!(
                "{films} films at {side} x {side} pixels need {} GiB of memory, above the limit of {} GiB",
                memory >> 30,
                MAX_MEMORY >> 30
            );
            return Err(array_error(path, format!("{name}: {problem}"), "choose a smaller data.side"));
        }
        let area = height * width * colours;
        stream(path, name, member, films, area, |block| {
            let resized: Vec<Vec<u8>> =
                block.par_chunks_exact(area).map(|pixels| resize(pixels, height, width, side, fit)).collect();
            bytes.extend(resized.into_iter().flatten());
        })?;
        Ok(films)
    }

    /// The labels of a split, which has `films` films.
    fn labels(&mut self, name: &str, films: usize) -> Result<Labels> {
        let path = self.path;
        let (header, member) = self.member(name)?;
        let refuse = |problem: String| array_error(path, format!("{name}: {problem}"), LAYOUT);
        let columns = match header.shape[..] {
            [rows] if rows == films => 1,
            [rows, columns @ 1..=MAX_LABELS] if rows == films => columns,
            _ => {
                return Err(refuse(format!(
                    "expected {films} rows of labels, found shape {:?}",
                    header.shape
                )));
            }
        };
        let size = header
            .integer_size()
            .ok_or_else(|| refuse(format!("expected integers, found type {:?}", header.dtype)))?;
        let mut values = Vec::new();
        stream(path, name, member, films, columns * size, |block| {
            values.extend(block.chunks_exact(size).map(|bytes| header.integer(bytes)));
        })?;
        Ok(Labels { columns, values })
    }
}

/// Reads `rows` rows of `row` bytes and hands them to `take`, some at a time; then checks that nothing follows.
fn stream(
    path: &Path,
    name: &str,
    mut member: impl Read,
    rows: usize,
    row: usize,
    mut take: impl FnMut(&[u8]),
) -> Result<()> {
    let fail = |problem: String| array_error(path, format!("{name}: {problem}"), COPY_AGAIN);
    let at_once = (BLOCK_BYTES / row.max(1)).clamp(1, BLOCK).min(rows);
    let mut buffer = vec![0u8; row * at_once];
    let mut done = 0;
    while done < rows {
        let block = &mut buffer[..row * (rows - done).min(at_once)];
        member.read_exact(block).map_err(|e| {
            fail(format!("expected {rows} rows of {row} bytes, but the data fails after row {done} ({e})"))
        })?;
        take(block);
        done += block.len() / row;
    }
    // Reading past the last row makes the zip reader verify the checksum.
    match member.read(&mut [0u8; 1]) {
        Ok(0) => Ok(()),
        Ok(_) => Err(fail(format!("more data than {rows} rows of {row} bytes"))),
        Err(e) => Err(fail(format!("its checksum does not match ({e})"))),
    }
}

/// Film names and patients by (split, row).
type Index = HashMap<(&'static str, usize), (String, String)>;

/// Reads the index beside the array file, if there is one.
fn read_index(path: &Path) -> Result<Option<Index>> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let candidates = ["csv.gz", "csv"].map(|ending| path.with_file_name(format!("{stem}_index.{ending}")));
    let Some(found) = candidates.iter().find(|candidate| candidate.exists()) else { return Ok(None) };
    let table = Table::read(found)?;
    let split = table.column(&["split"])?;
    let row_number = table.column(&["row"])?;
    let image = table.column(&["Image Index", "image", "id"])?;
    let patient = table.column(&["Patient ID", "patient", "subject_id"])?;
    let mut index = Index::with_capacity(table.len());
    for row in table.rows() {
        let name = row.required(split)?;
        let (name, _) = SPLITS.into_iter().find(|(known, _)| *known == name).ok_or_else(|| {
            row.error(
                format!("expected train, val or test as split, found {name:?}"),
                "correct the index, or take it away",
            )
        })?;
        let number: usize = row.required(row_number)?.parse().map_err(|_| {
            row.error(
                format!("expected a row number, found {:?}", row.get(row_number)),
                "correct the index, or take it away",
            )
        })?;
        let entry = (row.required(image)?.to_owned(), row.required(patient)?.to_owned());
        if index.insert((name, number), entry).is_some() {
            return Err(row.error(
                format!("row {number} of {name} occurs twice"),
                "correct the index, or take it away",
            ));
        }
    }
    Ok(Some(index))
}

const SPLITS: [(&str, Split); 3] =
    [("train", Split::Train), ("val", Split::Validation), ("test", Split::Test)];

/// What the label columns mean.
enum Meaning {
    /// Each column is a finding, 0 or 1.
    Findings,
    /// One column with the number of a class.
    Classes(usize),
}

/// A MedMNIST array file: `{train,val,test}_{images,labels}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NpzConfig {
    /// The `.npz` file. A `<name>_index.csv.gz` (or `.csv`) beside it gives patients and film names.
    pub path: PathBuf,
    /// Names of the label columns, or of the classes. Empty: the 14 NIH names where there are 14 columns,
    /// numbers otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub label_names: Vec<String>,
}

impl DataSource for NpzConfig {
    const LAYOUT: &'static str = "a .npz file (MedMNIST)";

    fn detect(path: &Path, names: &[String]) -> Option<Self> {
        if names.is_empty() {
            return is_npz(path).then(|| NpzConfig { path: path.into(), label_names: Vec::new() });
        }
        let mut found = names.iter().filter(|name| is_npz(Path::new(name)));
        let (name, None) = (found.next()?, found.next()) else { return None };
        Some(NpzConfig { path: path.join(name), label_names: Vec::new() })
    }

    fn load(&self, side: usize, fit: Fit) -> Result<Loaded> {
        let path = self.path.as_path();
        let mut archive = Archive::open(path, side, fit)?;
        let present: Vec<(&str, Split)> =
            SPLITS.into_iter().filter(|(name, _)| archive.has(&format!("{name}_images"))).collect();
        if !present.iter().any(|&(_, split)| split == Split::Train) {
            let problem = format!("no array \"train_images\"; its members are: {}", archive.names());
            return Err(array_error(path, problem, LAYOUT));
        }
        let mut bytes = Vec::new();
        let mut parts = Vec::new();
        for (name, split) in present {
            let films = archive.films(&format!("{name}_images"), &mut bytes)?;
            let labels = archive.labels(&format!("{name}_labels"), films)?;
            parts.push((name, split, films, labels));
        }
        let (columns, meaning) = meaning(path, &parts)?;
        let label_names = name_labels(self, columns)?;
        let index = read_index(path)?;
        let has = |wanted: Split| parts.iter().any(|&(_, split, ..)| split == wanted);
        let assigned = |split: Split| match split {
            Split::Train if !has(Split::Test) && !has(Split::Validation) => Assigned::Open,
            Split::Train if !has(Split::Validation) => Assigned::NotTest,
            fixed => Assigned::Fixed(fixed),
        };
        let mut records = Vec::new();
        for (name, split, films, labels) in &parts {
            for film in 0..*films {
                let row = &labels.values[film * labels.columns..][..labels.columns];
                let labels = match meaning {
                    Meaning::Findings => row.iter().map(|&value| Some(value == 1)).collect(),
                    Meaning::Classes(classes) => {
                        (0..classes as i64).map(|class| Some(class == row[0])).collect()
                    }
                };
                let (id, patient) = match &index {
                    None => (format!("{name}-{film:06}"), format!("{name}-{film:06}")),
                    Some(index) => index.get(&(*name, film)).cloned().ok_or_else(|| {
                        let problem = format!("the index beside it has no line for row {film} of {name}");
                        array_error(path, problem, "complete the index, or take it away")
                    })?,
                };
                records.push(Record { id, patient, labels, split: assigned(*split) });
            }
        }
        let mut notes = vec![format!("Array file {}: {} films.", path.display(), records.len())];
        if index.is_none() {
            notes.push("No index beside it: every film counts as its own patient.".into());
        }
        Ok(Loaded {
            label_names,
            records,
            content: archive.content()?,
            pixels: Box::new(Bytes { side, bytes }),
            notes,
        })
    }
}

/// Settles what the labels of all splits mean, and how many there are.
fn meaning(path: &Path, parts: &[(&str, Split, usize, Labels)]) -> Result<(usize, Meaning)> {
    let columns = parts[0].3.columns;
    if let Some((name, _, _, other)) = parts.iter().find(|(.., labels)| labels.columns != columns) {
        let problem = format!(
            "{name}_labels: expected {columns} columns as in the first split, found {}",
            other.columns
        );
        return Err(array_error(path, problem, LAYOUT));
    }
    let values = || parts.iter().flat_map(|(.., labels)| &labels.values);
    let largest = values().copied().max().unwrap_or(0);
    if let Some(negative) = values().find(|&&value| value < 0) {
        let problem = format!("expected labels from 0 on, found {negative}");
        return Err(array_error(path, problem, LAYOUT));
    }
    match (columns, largest) {
        (_, 0 | 1) => Ok((columns, Meaning::Findings)),
        (1, _) if largest < MAX_LABELS as i64 => {
            Ok((largest as usize + 1, Meaning::Classes(largest as usize + 1)))
        }
        _ => {
            let problem = format!("expected labels of 0 and 1 in {columns} columns, found {largest}");
            Err(array_error(path, problem, LAYOUT))
        }
    }
}

fn name_labels(config: &NpzConfig, columns: usize) -> Result<Vec<String>> {
    if config.label_names.len() == columns {
        return Ok(config.label_names.clone());
    }
    if !config.label_names.is_empty() {
        return Err(DataError::config(
            "source.npz.label_names",
            format!("expected {columns} names as the file has labels, got {}", config.label_names.len()),
            "name them all, or leave the field out",
        ));
    }
    Ok(if columns == crate::nih::LABELS.len() {
        crate::nih::LABELS.iter().map(|&name| name.to_owned()).collect()
    } else {
        (0..columns).map(|number| format!("label {number}")).collect()
    })
}
