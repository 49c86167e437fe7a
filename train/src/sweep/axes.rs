//! What varies: fields with several values, from the configuration and the command line.

use toml::{Table, Value};

use crate::{Result, TrainError};

/// The longest name of a run's folder, in bytes; file systems take 255.
const LONGEST_NAME: usize = 160;

/// A field and the values that it takes, as TOML.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// Path of the field, for example `classifier.train.learning_rate`.
    pub field: String,
    /// Its values.
    pub values: Vec<String>,
}

/// Overrides with one value, and axes from those with several.
pub(super) fn split(overrides: &[String]) -> Result<(Vec<String>, Vec<Axis>)> {
    let (mut fixed, mut axes) = (Vec::new(), Vec::new());
    for text in overrides {
        let refuse = |problem: &str| TrainError::Override { text: text.clone(), problem: problem.into() };
        let (field, values) = text.split_once('=').ok_or_else(|| refuse("there is no '='"))?;
        let values = at_commas(values);
        if let [_] = values[..] {
            fixed.push(text.clone());
            continue;
        }
        if values.iter().any(|value| value.is_empty()) {
            return Err(refuse("a value between commas is empty"));
        }
        axes.push(Axis {
            field: field.trim().to_owned(),
            values: values.into_iter().map(str::to_owned).collect(),
        });
    }
    Ok((fixed, axes))
}

/// The parts of a text between commas that stand in no bracket and no quotes.
fn at_commas(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth, mut quote) = (Vec::new(), 0, 0usize, None);
    for (place, letter) in text.char_indices() {
        match (quote, letter) {
            (Some(open), letter) if open == letter => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(letter),
            (None, '[' | '{') => depth += 1,
            (None, ']' | '}') => depth = depth.saturating_sub(1),
            (None, ',') if depth == 0 => {
                parts.push(text[start..place].trim());
                start = place + 1;
            }
            (None, _) => {}
        }
    }
    parts.push(text[start..].trim());
    parts
}

/// The axes of `[sweep]` and of the command line, which goes before.
pub(super) fn join(table: &Table, given: Vec<Axis>, fixed: &[String]) -> Result<Vec<Axis>> {
    let mut axes = Vec::new();
    flatten("", table, &mut axes)?;
    let fixed: Vec<&str> = fixed.iter().filter_map(|text| Some(text.split_once('=')?.0.trim())).collect();
    axes.retain(|axis| !fixed.contains(&axis.field.as_str()));
    for axis in given {
        match axes.iter_mut().find(|known| known.field == axis.field) {
            Some(known) => *known = axis,
            None => axes.push(axis),
        }
    }
    for axis in &axes {
        let refuse = |problem: String| TrainError::Value {
            field: "sweep",
            found: format!("{} = {}", axis.field, axis.values.join(", ")),
            expected: problem,
        };
        if axis.field == "run.dir" || axis.field.split('.').next() == Some("sweep") {
            return Err(refuse("this field cannot vary: the sweep names the folders of its runs".into()));
        }
        for (i, value) in axis.values.iter().enumerate() {
            if axis.values[..i].contains(value) {
                return Err(refuse(format!("give every value once; {value} is there twice")));
            }
        }
    }
    Ok(axes)
}

/// `"a.b" = [...]`, `a.b = [...]` and `[sweep.a]` are the same.
fn flatten(path: &str, table: &Table, axes: &mut Vec<Axis>) -> Result<()> {
    for (key, value) in table {
        let field = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match value {
            Value::Table(inner) => flatten(&field, inner, axes)?,
            Value::Array(values) if !values.is_empty() => {
                axes.push(Axis { field, values: values.iter().map(Value::to_string).collect() });
            }
            other => {
                return Err(TrainError::Value {
                    field: "sweep",
                    found: format!("{field} = {other}"),
                    expected: "every field of [sweep] must be a list of at least one value".into(),
                });
            }
        }
    }
    Ok(())
}

/// Field and value of every axis in the given run; the last axis changes fastest.
pub(super) fn combination(axes: &[Axis], mut run: usize) -> Vec<(String, String)> {
    let mut values = axes
        .iter()
        .rev()
        .map(|axis| {
            let value = &axis.values[run % axis.values.len()];
            run /= axis.values.len();
            (axis.field.clone(), value.clone())
        })
        .collect::<Vec<_>>();
    values.reverse();
    values
}

/// `learning_rate=0.001,seed=2`: the last part of each field, as much more of it as tells fields apart, and the value.
pub(super) fn folder_name<'a>(values: &[(String, String)], taken: impl Iterator<Item = &'a str>) -> String {
    let short = |field: &str| {
        let parts = field.split('.').collect::<Vec<_>>();
        let tail = |n: usize| parts[parts.len() - n..].join(".");
        let is_alone = |tail: &str| {
            values.iter().filter(|(other, _)| other == tail || other.ends_with(&format!(".{tail}"))).count()
                == 1
        };
        (1..=parts.len()).map(tail).find(|tail| is_alone(tail)).unwrap_or_else(|| field.to_owned())
    };
    let safe = |letter: char| {
        if letter.is_ascii_alphanumeric() || "._+-=,".contains(letter) { letter } else { '-' }
    };
    let name = values
        .iter()
        .map(|(field, value)| format!("{}={}", short(field), value.trim_matches(['"', '\''])))
        .collect::<Vec<_>>()
        .join(",");
    let mut name: String = name.chars().map(safe).collect();
    if name.len() > LONGEST_NAME || taken.into_iter().any(|taken| taken == name) {
        let digest = blake3::hash(format!("{values:?}").as_bytes()).to_hex();
        name.truncate(LONGEST_NAME);
        name = format!("{name}-{}", &digest[..8]);
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(values: &[&str]) -> Vec<String> {
        values.iter().map(|&value| value.to_owned()).collect()
    }

    #[test]
    fn commas_split_values_but_not_lists_or_texts() {
        assert_eq!(at_commas("1e-3, 2e-3"), ["1e-3", "2e-3"]);
        assert_eq!(at_commas("[1, 2], [1,2,2]"), ["[1, 2]", "[1,2,2]"]);
        assert_eq!(at_commas("\"a,b\",'c,\"d'"), ["\"a,b\"", "'c,\"d'"]);
        assert_eq!(at_commas("{ shift = 1, copies = 2 }"), ["{ shift = 1, copies = 2 }"]);
        let (fixed, axes) = split(&texts(&["a.b=1", "a.c=1,2", "list=[1,2]"])).unwrap();
        assert_eq!(fixed, ["a.b=1", "list=[1,2]"]);
        assert_eq!(axes, [Axis { field: "a.c".into(), values: texts(&["1", "2"]) }]);
        assert!(split(&texts(&["a=1,,2"])).is_err());
    }

    #[test]
    fn the_command_line_goes_before_the_table() {
        let table: Table = "\"a.b\" = [1, 2]\na.c = [3, 4]\n[run]\nseed = [1, 2, 3]".parse().unwrap();
        let given = vec![Axis { field: "a.c".into(), values: texts(&["5", "6"]) }];
        let axes = join(&table, given, &texts(&["run.seed=7"])).unwrap();
        let fields = axes.iter().map(|a| (a.field.as_str(), a.values.join(" "))).collect::<Vec<_>>();
        assert_eq!(fields, [("a.c", "5 6".to_owned()), ("a.b", "1 2".to_owned())]);
        let refused = |text: &str| join(&text.parse().unwrap(), vec![], &[]).unwrap_err().to_string();
        assert!(refused("a = 1").contains("list of at least one value"));
        assert!(refused("a = []").contains("list of at least one value"));
        assert!(refused("a = [1, 1]").contains("there twice"));
        assert!(refused("run.dir = [\"x\", \"y\"]").contains("cannot vary"));
    }

    #[test]
    fn names_are_short_and_differ() {
        let pair = |field: &str, value: &str| (field.to_owned(), value.to_owned());
        let none = || std::iter::empty();
        let rate = pair("classifier.train.learning_rate", "0.001");
        assert_eq!(folder_name(&[rate.clone(), pair("run.seed", "2")], none()), "learning_rate=0.001,seed=2");
        let both = [rate, pair("vqgan.train.learning_rate", "0.1")];
        assert_eq!(
            folder_name(&both, none()),
            "classifier.train.learning_rate=0.001,vqgan.train.learning_rate=0.1"
        );
        let odd = folder_name(&[pair("a.path", "\"../x y\"")], none());
        assert_eq!(odd, "path=..-x-y");
        assert_ne!(folder_name(&[pair("a.path", "\"../x/y\"")], std::iter::once(odd.as_str())), odd);
        assert!(folder_name(&[pair("a", &"9".repeat(500))], none()).len() < 200);
    }
}
