//! CSV tables and lists of names, read by column name, with bounds and errors that name the line.

use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use crate::{DataError, Result};

/// The most bytes of a table after decompression. The largest real one, CheXpert's, has 35 MB.
const MAX_TABLE_BYTES: u64 = 1 << 30;

/// A CSV file in memory. Rows may have more or fewer fields than the header: real releases do.
pub(crate) struct Table {
    path: PathBuf,
    header: Vec<String>,
    rows: Vec<csv::StringRecord>,
}

/// One row: its fields and its line in the file.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    table: &'a Table,
    record: &'a csv::StringRecord,
}

/// Opens a file, decompressing `.gz`, and reads at most `MAX_TABLE_BYTES`.
fn read_text(path: &Path, expected: &str) -> Result<String> {
    let file = std::fs::File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => DataError::Missing { path: path.into(), expected: expected.into() },
        _ => DataError::io(path, "open the file")(error),
    })?;
    let zipped = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gz"));
    let source: Box<dyn Read> = if zipped { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    let mut bytes = Vec::new();
    source.take(MAX_TABLE_BYTES + 1).read_to_end(&mut bytes).map_err(DataError::io(path, "read the file"))?;
    if bytes.len() as u64 > MAX_TABLE_BYTES {
        return Err(DataError::TooLarge {
            path: path.into(),
            what: "its size in bytes".into(),
            found: bytes.len() as u64,
            limit: MAX_TABLE_BYTES,
        });
    }
    Ok(match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

impl Table {
    /// Reads a CSV file with a header line.
    pub fn read(path: &Path) -> Result<Self> {
        let text = read_text(path, "a CSV file with a header line")?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let mut reader =
            csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(text.as_bytes());
        let bad = |error: csv::Error| DataError::Row {
            path: path.into(),
            line: error.position().map_or(1, csv::Position::line),
            problem: format!("expected comma-separated fields, but the line cannot be read ({error})"),
            advice: "save the table again as CSV in UTF-8".into(),
        };
        let header: Vec<String> = reader.headers().map_err(bad)?.iter().map(str::to_owned).collect();
        let rows = reader.records().collect::<std::result::Result<Vec<_>, _>>().map_err(bad)?;
        if rows.is_empty() {
            return Err(DataError::Row {
                path: path.into(),
                line: 1,
                problem: "expected a header line and one line per film, found no films".into(),
                advice: "check that the file is complete".into(),
            });
        }
        Ok(Table { path: path.into(), header, rows })
    }

    /// The header line alone, without reading the rest of the file.
    pub fn read_header(path: &Path) -> Result<Vec<String>> {
        let file = std::fs::File::open(path).map_err(DataError::io(path, "open the file"))?;
        let mut reader =
            csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(file.take(1 << 16));
        let header =
            reader.headers().map_err(|e| DataError::io(path, "read the header")(std::io::Error::other(e)))?;
        Ok(header.iter().map(str::to_owned).collect())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn header(&self) -> &[String] {
        &self.header
    }

    /// The first column with one of the names (letter case, spaces and underscores do not matter).
    pub fn find(&self, names: &[&str]) -> Option<usize> {
        let plain = |name: &str| name.to_ascii_lowercase().replace([' ', '_', '-'], "");
        names.iter().find_map(|name| self.header.iter().position(|column| plain(column) == plain(name)))
    }

    /// As [`Table::find`], but the column must be there.
    pub fn column(&self, names: &[&str]) -> Result<usize> {
        self.find(names).ok_or_else(|| {
            let quoted: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
            let found: Vec<&str> = self.header.iter().take(40).map(String::as_str).collect();
            DataError::MissingColumn {
                path: self.path.clone(),
                expected: quoted.join(" or "),
                found: found.join(", "),
            }
        })
    }

    pub fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.rows.iter().map(|record| Row { table: self, record })
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }
}

impl<'a> Row<'a> {
    /// The line in the file, from 1.
    pub fn line(self) -> u64 {
        self.record.position().map_or(0, csv::Position::line)
    }

    /// The field, empty if the row is short.
    pub fn get(self, column: usize) -> &'a str {
        self.record.get(column).unwrap_or("")
    }

    /// The field, which must not be empty.
    pub fn required(self, column: usize) -> Result<&'a str> {
        match self.get(column) {
            "" => Err(self.error(
                format!("expected a value in column {:?}, found nothing", self.table.header[column]),
                "complete the line, or take it out",
            )),
            value => Ok(value),
        }
    }

    pub fn error(self, problem: impl Into<String>, advice: &str) -> DataError {
        DataError::Row {
            path: self.table.path.clone(),
            line: self.line(),
            problem: problem.into(),
            advice: advice.into(),
        }
    }

    /// Where this row is, for messages.
    pub fn place(self) -> String {
        format!("{}, line {}", self.table.path.display(), self.line())
    }
}

/// Reads a list of names, one per line; `None` if there is no such file.
pub(crate) fn read_list(path: &Path) -> Result<Option<Vec<String>>> {
    if !path.exists() {
        return Ok(None);
    }
    let text = read_text(path, "a list of file names, one per line")?;
    Ok(Some(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()))
}
