//! The mapping file: how a network trained elsewhere differs from the published code.

use std::{collections::BTreeMap, fs, path::Path};

use serde::Deserialize;
use toml::Table;

use crate::{Result, TrainError};

/// The most bytes of a mapping file: 57 layers with all their tensors take 20 kB.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Differences in names and in shape. Empty, it stands for the published code.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mapping {
    /// Fields of `[classifier.model]` that differ from the published network.
    pub model: Table,
    /// Published name of a module or tensor to its name in the file. The longest name that fits counts.
    pub names: BTreeMap<String, String>,
    /// Coefficients, ascending powers, of activations of which the file has none. A name also stands for all that end in
    /// it: `attn.sigmoid` for every gate.
    pub coefficients: BTreeMap<String, Vec<f64>>,
    /// Names in the file, or what they begin with, that the classifier does not need.
    pub ignore: Vec<String>,
}

impl Mapping {
    /// Reads a mapping file.
    ///
    /// # Errors
    ///
    /// It is missing, too long, or has a field that is unknown or of another type.
    pub fn read(file: &Path) -> Result<Self> {
        let refuse =
            |problem: String| TrainError::Config { file: file.into(), path: "mapping".into(), problem };
        let length = fs::metadata(file).map_err(TrainError::io(file, "look at the file"))?.len();
        if length > MAX_FILE_BYTES {
            return Err(refuse(format!("expected a TOML file of a few kilobytes, found {length} bytes")));
        }
        let text = fs::read_to_string(file).map_err(TrainError::io(file, "read the file"))?;
        let mapping: Self = toml::from_str(&text).map_err(|e| refuse(e.to_string()))?;
        for (name, values) in &mapping.coefficients {
            if !matches!(values.len(), 3 | 4) || values.iter().any(|v| !v.is_finite()) {
                return Err(refuse(format!(
                    "coefficients.{name}: expected [c, b, a], or four for a gate, all finite, found {values:?}"
                )));
            }
        }
        Ok(mapping)
    }

    /// The name in the file of a published name, and the entry that says so.
    pub(super) fn resolve(&self, published: &str) -> (String, Option<&str>) {
        let fits = |entry: &str| match published.strip_prefix(entry) {
            Some(rest) if rest.is_empty() || rest.starts_with('.') => Some(rest.to_owned()),
            _ => None,
        };
        let found = self.names.iter().filter_map(|(entry, name)| Some((entry, name, fits(entry)?)));
        match found.max_by_key(|(entry, ..)| entry.len()) {
            Some((entry, name, rest)) => (format!("{name}{rest}"), Some(entry)),
            None => (published.to_owned(), None),
        }
    }

    /// Coefficients given for the activation `published`, and the entry that gives them.
    pub(super) fn coefficients(&self, published: &str) -> Option<(&str, &[f64])> {
        let fits = |entry: &str| match published.strip_suffix(entry) {
            Some(rest) => rest.is_empty() || rest.ends_with('.'),
            None => false,
        };
        let found = self.coefficients.iter().filter(|(entry, _)| fits(entry)).max_by_key(|(e, _)| e.len());
        found.map(|(entry, values)| (entry.as_str(), values.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_entry_at_a_dot_counts() {
        let text = "[names]\n\"layer1\" = \"body.0\"\n\"layer1.0.conv1\" = \"first\"\n[coefficients]\n\"sigmoid\" = [0.5, 0.1, 0.0, 0.0]";
        let mapping: Mapping = toml::from_str(text).unwrap();
        let name = |published| mapping.resolve(published).0;
        assert_eq!(name("layer1.0.conv1.weight"), "first.weight");
        assert_eq!(name("layer1.0.conv10.weight"), "body.0.0.conv10.weight");
        assert_eq!(name("layer10.0"), "layer10.0");
        assert_eq!(mapping.coefficients("layer1.0.attn.sigmoid").unwrap().0, "sigmoid");
        assert!(mapping.coefficients("layer1.0.attn.notsigmoid").is_none());
    }

    #[test]
    fn what_cannot_be_a_mapping_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("map.toml");
        let refused = |text: &str| {
            fs::write(&file, text).unwrap();
            Mapping::read(&file).unwrap_err().to_string()
        };
        assert!(refused("[name]\na = \"b\"").contains("unknown field `name`"));
        assert!(refused("[coefficients]\nrelu = [1.0]").contains("coefficients.relu"));
        assert!(refused("[coefficients]\nrelu = [1.0, nan, 0.0]").contains("finite"));
        assert!(refused(&"#".repeat(2 << 20)).contains("bytes"));
        assert!(Mapping::read(&folder.path().join("gone.toml")).is_err());
    }
}
