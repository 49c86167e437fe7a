//! A study, as its TOML file says: one run configuration, what each cell changes in it, on which films, from which seeds.
//!
//! ```toml
//! name = "latent-size"
//! title = "Latent size"
//! rows = "latent-size"                 # which table of the paper the rows belong to
//! seeds = [1, 2]
//! base = "../nih256.toml"              # optional: a run configuration to start from, relative to this file
//!
//! [run.data]                           # what is changed in it for all cells; without `base`, the whole configuration
//! side = 64
//!
//! [[cells]]
//! name = "f = 2"
//! set.vqgan.model = { multipliers = [1, 2], latent_channels = 2 }
//!
//! [[datasets]]                         # optional: every cell on each of them
//! name = "NIH"
//! expected_films = 112_120             # for the plan, where the films are not there
//! set.data.source.nih = { root = "data/nih" }
//! ```
//!
//! A cell of the study is one (data set, cell, seed). Its configuration is base, run, data set, cell, command line and seed
//! merged in this order; tables are merged key by key, everything else is replaced.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use pipeline::error::{Error, Explain as _, Result};
use pipeline::{refuse, require};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};
use train::Config;
use train::config::merge;

/// The most cells that a study may have: data sets x cells x seeds.
const MOST_CELLS: usize = 4096;
/// The most bytes of a study file.
const MOST_BYTES: u64 = 1 << 20;

/// What the rows of the study are, and with it which columns lead its tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rows {
    /// Table 4: the downsampling factor.
    LatentSize,
    /// Table 1: the network.
    Architecture,
    /// Table 2: the activation.
    Activation,
    /// Table 3: clear against encrypted.
    Environment,
}

impl Rows {
    /// The table of Kim et al. 2025 that shows the same.
    pub fn table_of_paper(self) -> u32 {
        match self {
            Self::Architecture => 1,
            Self::Activation => 2,
            Self::Environment => 3,
            Self::LatentSize => 4,
        }
    }
}

/// The file, unchecked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StudyLiteral {
    name: String,
    title: String,
    rows: Rows,
    seeds: Vec<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base: Option<PathBuf>,
    #[serde(default)]
    run: Table,
    cells: Vec<CellLiteral>,
    #[serde(default)]
    datasets: Vec<DatasetLiteral>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CellLiteral {
    name: String,
    #[serde(default)]
    set: Table,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DatasetLiteral {
    name: String,
    #[serde(default)]
    expected_films: Option<usize>,
    #[serde(default)]
    set: Table,
}

/// What the command line changes.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Films to use instead of the study's.
    pub data: Option<PathBuf>,
    /// `section.field=value` for the run configuration of every cell.
    pub overrides: Vec<String>,
}

/// Which cell: its place in the study.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CellId {
    /// The data set's name.
    pub dataset: String,
    /// The cell's name.
    pub cell: String,
    /// The seed of its run.
    pub seed: u64,
}

impl CellId {
    /// A folder name: what is unusual in the names becomes `-`.
    pub fn folder(&self) -> String {
        let safe = |text: &str| -> String {
            let letters = text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' });
            letters
                .collect::<String>()
                .split('-')
                .filter(|part| !part.is_empty())
                .collect::<Vec<_>>()
                .join("-")
        };
        format!("{}_{}_seed-{}", safe(&self.dataset), safe(&self.cell), self.seed).to_lowercase()
    }
}

impl std::fmt::Display for CellId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {}, seed {}", self.dataset, self.cell, self.seed)
    }
}

/// One run of the study.
#[derive(Debug, Clone)]
pub struct Cell {
    /// Its place.
    pub id: CellId,
    /// Its configuration; `run.dir` is set where it runs.
    pub config: Config,
    /// Films to expect where the data set is not there.
    pub expected_films: Option<usize>,
}

/// A study, checked.
#[derive(Debug, Clone)]
pub struct Study {
    /// Its name, which is also that of its folder.
    pub name: String,
    /// What a reader is told it is.
    pub title: String,
    /// What its rows are.
    pub rows: Rows,
    /// All runs: data sets, cells, seeds, in the order of the file.
    pub cells: Vec<Cell>,
    /// The file as it was read, base and command line merged in, for the report.
    pub text: String,
}

impl Study {
    /// Reads a study and expands it into its cells.
    ///
    /// # Errors
    /// Names the file and the field that cannot be used.
    pub fn read(file: &Path, changes: &Changes) -> Result<Self> {
        let place = || format!("cannot use the study {}", file.display());
        let literal: StudyLiteral = typed(read_table(file)?).explain(place)?;
        Self::expand(literal, file.parent().unwrap_or(Path::new(".")), changes).explain(place)
    }

    fn expand(mut literal: StudyLiteral, folder: &Path, changes: &Changes) -> Result<Self> {
        check_names(&literal)?;
        let mut base = match &literal.base {
            Some(file) => read_table(&folder.join(file))?,
            None => Table::new(),
        };
        merge(&mut base, &literal.run);
        if let Some(data) = &changes.data {
            let source =
                Value::try_from(datasets::detect(data)?).map_err(Error::refused).explain(|| "the films")?;
            let name =
                data.file_stem().map_or_else(|| "films".into(), |stem| stem.to_string_lossy().into_owned());
            let mut set = Table::new();
            set.insert("data".into(), Value::Table(Table::from_iter([("source".to_owned(), source)])));
            literal.datasets = vec![DatasetLiteral { name, expected_films: None, set }];
        } else if literal.datasets.is_empty() {
            literal.datasets =
                vec![DatasetLiteral { name: source_name(&base), expected_films: None, set: Table::new() }];
        }
        let count = literal.datasets.len() * literal.cells.len() * literal.seeds.len();
        require!(count <= MOST_CELLS, "it has {count} runs, more than {MOST_CELLS}: split it");
        let mut cells = Vec::with_capacity(count);
        for dataset in &literal.datasets {
            for cell in &literal.cells {
                for &seed in &literal.seeds {
                    let id = CellId { dataset: dataset.name.clone(), cell: cell.name.clone(), seed };
                    let mut table = base.clone();
                    merge(&mut table, &dataset.set);
                    merge(&mut table, &cell.set);
                    let config =
                        resolve(table, &changes.overrides, seed).explain(|| format!("the run {id}"))?;
                    cells.push(Cell { id, config, expected_films: dataset.expected_films });
                }
            }
        }
        literal.run = base;
        literal.base = None;
        let mut text = String::new();
        for change in &changes.overrides {
            text.push_str(&format!("# --set {change}\n"));
        }
        text.push_str(
            &toml::to_string_pretty(&literal)
                .map_err(Error::refused)
                .explain(|| "cannot write the study down")?,
        );
        let StudyLiteral { name, title, rows, .. } = literal;
        Ok(Self { name, title, rows, cells, text })
    }

    /// The names of the data sets, in the order of the file.
    pub fn datasets(&self) -> Vec<String> {
        in_order(self.cells.iter().map(|cell| cell.id.dataset.clone()))
    }
}

/// The distinct values, each where it first occurs.
pub fn in_order(values: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    values.filter(|value| seen.insert(value.clone())).collect()
}

fn check_names(literal: &StudyLiteral) -> Result<()> {
    let name = &literal.name;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    require!(
        !name.is_empty() && name.len() <= 64 && name.chars().all(is_plain),
        "name is {name:?}; it becomes a folder: use 1 to 64 of a-z, 0-9, '-' and '_'"
    );
    require!(!literal.seeds.is_empty(), "seeds is empty; give at least one, for example [1]");
    require!(!literal.cells.is_empty(), "there are no [[cells]]; give at least one");
    let mut folders = BTreeSet::new();
    for cell in &literal.cells {
        for dataset in
            literal.datasets.iter().map(|d| d.name.as_str()).chain(literal.datasets.is_empty().then_some(""))
        {
            for &seed in &literal.seeds {
                let id = CellId { dataset: dataset.to_owned(), cell: cell.name.clone(), seed };
                if !folders.insert(id.folder()) {
                    refuse!(
                        "{id} occurs twice, or differs from another run in unusual characters only: rename it"
                    );
                }
            }
        }
    }
    Ok(())
}

/// The configuration of one run.
fn resolve(mut table: Table, overrides: &[String], seed: u64) -> Result<Config> {
    let run = table.entry("run").or_insert_with(|| Value::Table(Table::new()));
    let run = run.as_table_mut().explain(|| "`run` must be a section")?;
    run.insert(
        "seed".into(),
        Value::Integer(i64::try_from(seed).map_err(|_| Error::refused("a seed is too large"))?),
    );
    run.entry("dir").or_insert_with(|| Value::String("runs/ablation".into()));
    let text = toml::to_string(&table).map_err(Error::refused)?;
    let config = train::config::parse(&text, Path::new("the merged configuration"), overrides)?;
    pipeline::settings::export(&config)?;
    let films = pipeline::settings::encrypted(&config)?.films;
    require!(films > 0, "encrypted.films is 0; a study classifies at least one film on ciphertexts");
    Ok(config)
}

/// What a study without data sets calls its films.
fn source_name(table: &Table) -> String {
    let source = table.get("data").and_then(|data| data.get("source")).and_then(Value::as_table);
    source.and_then(|source| source.keys().next()).map_or_else(|| "phantom".to_owned(), Clone::clone)
}

fn read_table(file: &Path) -> Result<Table> {
    let length = std::fs::metadata(file)
        .explain(|| format!("cannot read {}: configs/ablation holds the studies", file.display()))?
        .len();
    require!(
        length <= MOST_BYTES,
        "{}: expected a TOML file of a few kilobytes, found {length} bytes",
        file.display()
    );
    let text = std::fs::read_to_string(file).explain(|| format!("cannot read {}", file.display()))?;
    text.parse::<Table>().map_err(Error::refused).explain(|| format!("{} is not TOML", file.display()))
}

fn typed(table: Table) -> Result<StudyLiteral> {
    serde_path_to_error::deserialize(Value::Table(table)).map_err(|error| {
        let path = error.path().to_string();
        Error::Refused(format!("{path}: {}", error.into_inner().to_string().trim().replace('\n', " ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/ablation").join(name)
    }

    fn parse(text: &str) -> Result<Study> {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("study.toml");
        std::fs::write(&file, text).expect("written");
        Study::read(&file, &Changes::default())
    }

    /// Every study that the repository ships can be planned without any data.
    #[test]
    fn shipped_studies_hold() {
        let mut names = BTreeSet::new();
        for entry in std::fs::read_dir(shipped("")).expect("configs/ablation") {
            let path = entry.expect("entry").path();
            let study = Study::read(&path, &Changes::default()).unwrap_or_else(|e| panic!("{}", e.in_full()));
            assert!(study.cells.len() >= 2, "{}", path.display());
            assert!(names.insert(study.name.clone()), "{} twice", study.name);
        }
        for rows in ["latent-size", "architecture", "activation", "environment"] {
            for size in ["", "-full"] {
                assert!(names.contains(&format!("{rows}{size}")), "{rows}{size} in {names:?}");
            }
        }
    }

    #[test]
    fn cells_are_data_sets_times_cells_times_seeds() {
        let study = Study::read(&shipped("latent-size.toml"), &Changes::default()).expect("the study");
        let factors: Vec<usize> =
            study.cells.iter().map(|cell| cell.config.vqgan.model.downsampling_factor()).collect();
        assert_eq!(in_order(factors.iter().map(ToString::to_string)), ["2", "4", "8", "16"]);
        assert_eq!(study.cells.len(), 8, "two seeds");
        assert!(study.cells.iter().all(|cell| cell.config.run.seed == cell.id.seed));
        let changes = Changes { overrides: vec!["vqgan.train.steps=7".into()], ..Changes::default() };
        let changed = Study::read(&shipped("latent-size.toml"), &changes).expect("the study");
        assert!(changed.cells.iter().all(|cell| cell.config.vqgan.train.steps == 7));
    }

    #[test]
    fn a_source_of_films_replaces_another() {
        let mut table: Table =
            "data = { side = 64, source = { phantom = { films = 9 } } }".parse().expect("TOML");
        merge(&mut table, &"data = { source = { nih = { root = 'x' } } }".parse().expect("TOML"));
        assert_eq!(table["data"]["side"].as_integer(), Some(64));
        assert_eq!(source_name(&table), "nih");
        assert!(table["data"]["source"].get("phantom").is_none());
    }

    #[test]
    fn what_cannot_be_a_study_is_refused_by_name() {
        let refused = |text: &str| parse(text).expect_err(text).in_full();
        let head = "name = 'a'\ntitle = 'A'\nrows = 'activation'\n";
        assert!(refused(&format!("{head}seeds = []\ncells = [{{ name = 'x' }}]")).contains("seeds is empty"));
        assert!(refused(&format!("{head}seeds = [1]\ncells = []")).contains("[[cells]]"));
        assert!(
            refused(&format!("{head}seeds = [1, 1]\ncells = [{{ name = 'x' }}]")).contains("occurs twice")
        );
        assert!(
            refused(&format!("{head}seeds = [1]\ncells = [{{ name = 'x', sett = 1 }}]")).contains("sett")
        );
        assert!(
            refused(&format!("{head}seeds = [1]\ncells = [{{ name = 'x' }}]\nbase = 'none.toml'"))
                .contains("none.toml")
        );
        assert!(
            refused("name = '../a'\ntitle = 'A'\nrows = 'activation'\nseeds = [1]\ncells = []")
                .contains("folder")
        );
    }

    #[test]
    fn folders_of_cells_hold_nothing_unusual() {
        let id = CellId { dataset: "../x".into(), cell: "f = 2, SE/é".into(), seed: 3 };
        assert_eq!(id.folder(), "x_f-2-se_seed-3");
    }
}
