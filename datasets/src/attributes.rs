//! What a table says about films besides findings: view, sex, age, whatever a release records.
//!
//! Each attribute is a question with the answers yes, no and unknown, as labels are; films are found by their names.

use std::collections::HashMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::table::Table;
use crate::{DataError, Result};

/// Questions about films, and the table that answers them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttributesConfig {
    /// A CSV file with a header line, plain or `.gz`.
    pub table: PathBuf,
    /// The column with the names of films, as the data set names them (`Image Index`).
    #[serde(default = "image_index")]
    pub film: String,
    /// The questions.
    pub attributes: Vec<Attribute>,
}

/// One question about a film: exactly one of `is` and `above` is given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attribute {
    /// The column that answers it.
    pub column: String,
    /// Yes where the column says this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is: Option<String>,
    /// Yes where the column holds a number above this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<f64>,
}

fn image_index() -> String {
    "Image Index".to_owned()
}

impl AttributesConfig {
    /// Checks what can be checked without the table; `field` is where the configuration stands.
    ///
    /// # Errors
    /// There is no question, or one with no condition or two.
    pub fn check(&self, field: &str) -> Result<()> {
        if self.attributes.is_empty() {
            let advice = "name at least one, for example { column = \"View Position\", is = \"AP\" }";
            return Err(DataError::config(
                format!("{field}.attributes"),
                "expected a list, got none",
                advice,
            ));
        }
        match self.attributes.iter().position(|a| a.is.is_some() == a.above.is_some()) {
            None => Ok(()),
            Some(place) => Err(DataError::config(
                format!("{field}.attributes[{place}]"),
                "expected exactly one of `is` and `above`",
                "write for example { column = \"Patient Age\", above = 60 }",
            )),
        }
    }

    /// The answers for the films named `ids`, in their order, one per attribute; `None` where the film is not in the
    /// table or its field is empty.
    ///
    /// # Errors
    /// The table cannot be read, lacks a column, names a film twice with different answers, knows none of the films, or
    /// holds something that is no number where a number is asked for.
    pub fn read(&self, ids: &[String]) -> Result<Vec<Vec<Option<bool>>>> {
        let table = Table::read(&self.table)?;
        let film = table.column(&[self.film.as_str()])?;
        let columns =
            self.attributes.iter().map(|a| table.column(&[a.column.as_str()])).collect::<Result<Vec<_>>>()?;
        let mut answers: HashMap<&str, Vec<Option<bool>>> = HashMap::with_capacity(table.len());
        for row in table.rows() {
            let answer = |(attribute, &column): (&Attribute, &usize)| match (row.get(column), attribute.above)
            {
                ("", _) => Ok(None),
                (value, None) => Ok(Some(attribute.is.as_deref() == Some(value))),
                (value, Some(above)) => match value.parse::<f64>() {
                    Ok(number) => Ok(Some(number > above)),
                    Err(_) => Err(row.error(
                        format!("expected a number in column {:?}, found {value:?}", attribute.column),
                        "correct it, leave it empty, or ask with `is`",
                    )),
                },
            };
            let found = self.attributes.iter().zip(&columns).map(answer).collect::<Result<Vec<_>>>()?;
            let name = row.required(film)?;
            if answers.get(name).is_some_and(|earlier| *earlier != found) {
                let problem = format!("film {name:?} occurs a second time, with other attributes");
                return Err(row.error(problem, "take one of the lines out"));
            }
            answers.insert(name, found);
        }
        if !ids.iter().any(|id| answers.contains_key(id.as_str())) {
            let like = ids.first().map_or("", String::as_str);
            return Err(DataError::Empty {
                path: self.table.clone(),
                expected: format!("film of this data set (its films have names like {like:?})"),
                advice: format!("check the table, and that column {:?} names films", self.film),
            });
        }
        let unknown = vec![None; self.attributes.len()];
        Ok(ids.iter().map(|id| answers.get(id.as_str()).unwrap_or(&unknown).clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(column: &str, is: Option<&str>, above: Option<f64>) -> Attribute {
        Attribute { column: column.into(), is: is.map(str::to_owned), above }
    }

    fn config(text: &str, attributes: Vec<Attribute>) -> (tempfile::TempDir, AttributesConfig) {
        let folder = tempfile::tempdir().unwrap();
        let table = folder.path().join("films.csv");
        std::fs::write(&table, text).unwrap();
        (folder, AttributesConfig { table, film: image_index(), attributes })
    }

    fn ids(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn films_are_found_by_name_and_gaps_are_unknown() {
        let text = "Image Index,View Position,Patient Age\nb.png,AP,71\na.png,PA,\n";
        let questions =
            vec![attribute("View Position", Some("AP"), None), attribute("Patient Age", None, Some(60.0))];
        let (_folder, config) = config(text, questions);
        config.check("here").unwrap();
        let answers = config.read(&ids(&["a.png", "b.png", "c.png"])).unwrap();
        assert_eq!(answers, [vec![Some(false), None], vec![Some(true), Some(true)], vec![None, None]]);
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let refused = |text: &str, attribute: Attribute| {
            let (_folder, config) = config(text, vec![attribute]);
            config.read(&ids(&["a.png"])).unwrap_err().to_string()
        };
        let text = "Image Index,Age\na.png,old\n";
        assert!(refused(text, attribute("Age", None, Some(1.0))).contains("line 2: expected a number"));
        assert!(refused(text, attribute("Sex", Some("M"), None)).contains("no column \"Sex\""));
        assert!(refused("Image Index,Age\nz,1\n", attribute("Age", None, Some(1.0))).contains("a.png"));
        let twice = "Image Index,Age\na.png,1\na.png,2\n";
        assert!(refused(twice, attribute("Age", None, Some(1.5))).contains("second time"));
        for both in [attribute("Age", None, None), attribute("Age", Some("1"), Some(1.0))] {
            let (_folder, config) = config(text, vec![both]);
            assert!(config.check("here").unwrap_err().to_string().contains("here.attributes[0]"));
        }
    }
}
