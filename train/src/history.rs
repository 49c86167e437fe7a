//! The figures of a stage over its steps: `metrics.csv` for plotting, `metrics.json` for programs.

use std::{collections::BTreeSet, path::Path};

use serde::{Deserialize, Serialize};

use crate::Result;

/// One row: a step and its figures in a fixed order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Steps done.
    pub step: u64,
    /// Name and value; a value that is undefined (an AUROC without positives) is `null`.
    pub figures: Vec<(String, Option<f64>)>,
}

/// All rows of a stage. It travels in the checkpoint, so that a resumed run continues the same table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// Rows, in the order of their steps.
    pub rows: Vec<Row>,
}

impl History {
    /// Adds a row.
    pub fn push<'a>(&mut self, step: u64, figures: impl IntoIterator<Item = (&'a str, f64)>) {
        let figures = figures
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.is_finite().then_some(value)))
            .collect();
        self.rows.push(Row { step, figures });
    }

    /// Steps and values of one figure.
    #[must_use]
    pub fn column(&self, name: &str) -> Vec<(u64, f64)> {
        self.rows
            .iter()
            .filter_map(|row| {
                let (_, value) = row.figures.iter().find(|(figure, _)| figure == name)?;
                Some((row.step, (*value)?))
            })
            .collect()
    }

    /// Names of all figures, in the order in which they first appear.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let mut seen = BTreeSet::new();
        let names = self.rows.iter().flat_map(|row| row.figures.iter().map(|(name, _)| name.as_str()));
        names.filter(|name| seen.insert(*name)).collect()
    }

    /// The table as CSV; a figure that a row does not have is left empty.
    #[must_use]
    pub fn csv(&self) -> String {
        let names = self.names();
        let mut text = format!("step,{}\n", names.join(","));
        for row in &self.rows {
            text.push_str(&row.step.to_string());
            for name in &names {
                text.push(',');
                if let Some((_, Some(value))) = row.figures.iter().find(|(figure, _)| figure == name) {
                    text.push_str(&value.to_string());
                }
            }
            text.push('\n');
        }
        text
    }

    /// Writes `metrics.csv` and `metrics.json` into a folder.
    ///
    /// # Errors
    ///
    /// A file cannot be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        durable::write(&folder.join("metrics.csv"), self.csv().as_bytes())?;
        let json = serde_json::to_string_pretty(&self.rows).unwrap_or_default();
        Ok(durable::write(&folder.join("metrics.json"), json.as_bytes())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_with_different_figures_share_one_table() {
        let mut history = History::default();
        history.push(1, [("loss", 0.5)]);
        history.push(2, [("loss", 0.25), ("psnr", f64::NAN)]);
        history.push(3, [("psnr", 30.0)]);
        assert_eq!(history.csv(), "step,loss,psnr\n1,0.5,\n2,0.25,\n3,,30\n");
        assert_eq!(history.column("psnr"), vec![(3, 30.0)]);
    }
}
