//! From a TOML file, and overrides given on the command line, to a typed configuration.

use std::{fs, path::Path};

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::{Config, Result, TrainError};

/// The most bytes of a configuration file.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Reads a configuration file, applies overrides (`section.field=value`), and checks the result.
///
/// # Errors
///
/// Names the file, the path of the field, and what was expected of it.
pub fn read(file: &Path, overrides: &[String]) -> Result<Config> {
    let length = match fs::metadata(file) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let advice =
                "check the path; configs/ holds one file for each run that a user would start".to_owned();
            return Err(TrainError::Missing { file: file.into(), advice });
        }
        Err(error) => return Err(TrainError::io(file, "look at the file")(error)),
    };
    if length > MAX_FILE_BYTES {
        let problem = format!("expected a TOML file of a few kilobytes, found {length} bytes");
        return Err(TrainError::Config { file: file.into(), path: "the file".into(), problem });
    }
    let text = fs::read_to_string(file).map_err(TrainError::io(file, "read the file"))?;
    parse(&text, file, overrides)
}

/// As [`read`], from a text; `file` only appears in messages.
///
/// # Errors
///
/// As [`read`].
pub fn parse(text: &str, file: &Path, overrides: &[String]) -> Result<Config> {
    let refuse = |path: String, problem: String| TrainError::Config { file: file.into(), path, problem };
    let mut table = text.parse::<Table>().map_err(|e| refuse("not TOML".into(), e.to_string()))?;
    for text in overrides {
        apply_override(&mut table, text)?;
    }
    let config: Config = typed(table).map_err(|(path, problem)| refuse(path, problem))?;
    config.validate()?;
    Ok(config)
}

/// Reads a section that [`Config`] only carries, such as `export`.
///
/// # Errors
///
/// Names the path of the field, beginning with `name`.
pub fn section<T: DeserializeOwned>(table: &Table, name: &str) -> Result<T> {
    typed(table.clone()).map_err(|(path, problem)| {
        let path = if path == "." { name.to_owned() } else { format!("{name}.{path}") };
        TrainError::Config { file: "the configuration".into(), path, problem }
    })
}

/// Lays `change` over `table`: sections field by field, everything else replaced.
///
/// A section `source` is replaced as a whole: it names one kind of data, and two kinds at once are none.
pub fn merge(table: &mut Table, change: &Table) {
    for (key, value) in change {
        match (table.get_mut(key), value) {
            (Some(Value::Table(old)), Value::Table(new)) if key != "source" => merge(old, new),
            _ => {
                table.insert(key.clone(), value.clone());
            }
        }
    }
}

fn typed<T: DeserializeOwned>(table: Table) -> std::result::Result<T, (String, String)> {
    serde_path_to_error::deserialize(Value::Table(table)).map_err(|error| {
        let path = error.path().to_string();
        (path, error.into_inner().to_string().trim().replace('\n', " "))
    })
}

/// `a.b.c=value`; the value is TOML, and what is not TOML is a string.
fn apply_override(table: &mut Table, text: &str) -> Result<()> {
    let refuse = |problem: &str| TrainError::Override { text: text.to_owned(), problem: problem.to_owned() };
    let (path, value) = text.split_once('=').ok_or_else(|| refuse("there is no '='"))?;
    let value = value.trim();
    let parsed = format!("value = {value}")
        .parse::<Table>()
        .ok()
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(value.to_owned()));
    let mut keys = path.trim().split('.').collect::<Vec<_>>();
    if keys.iter().any(|key| key.is_empty()) {
        return Err(refuse("a part of the name is empty"));
    }
    let last = keys.pop().unwrap_or_default();
    let mut place = table;
    for key in keys {
        let next = place.entry(key).or_insert_with(|| Value::Table(Table::new()));
        place = next.as_table_mut().ok_or_else(|| refuse(&format!("{key:?} is a value, not a section")))?;
    }
    place.insert(last.to_owned(), parsed);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_replaces_fields_and_whole_sources() {
        let mut table: Table =
            "a = 1\nlist = [1, 2]\n[data]\nside = 64\n[data.source.phantom]\nfilms = 9".parse().unwrap();
        let change = "list = [3]\nb.c = 2\n[data.source.folder]\nroot = \"x\"".parse().unwrap();
        merge(&mut table, &change);
        let expected: Table =
            "a = 1\nlist = [3]\nb.c = 2\n[data]\nside = 64\n[data.source.folder]\nroot = \"x\""
                .parse()
                .unwrap();
        assert_eq!(table, expected);
    }
}
