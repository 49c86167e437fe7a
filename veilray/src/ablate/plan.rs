//! The plan of a study: what is done, what would run, and what the rest is expected to take. Nothing is run, and the films need
//! not be there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Result, ensure};

use super::cache::Cache;
use super::estimate::{Cost, Encrypted, FilmCounts, cost, encrypted};
use super::key::{self, Films, StageKey};
use super::runner::{Opened, Shard};
use super::study::{Cell, Study};
use crate::context::{Context, readable_bytes, readable_time};
use crate::report::Table;
use crate::settings;

/// Films that are assumed where nothing says how many there are.
const UNKNOWN_FILMS: usize = 10_000;

/// Prints the plan of a shard; `speed` divides the times of training.
///
/// # Errors
/// A configuration cannot be used, or `speed` is not a positive number.
pub fn print(context: &Context, study: &Study, shard: Shard, cache: &Cache, speed: f64) -> Result<()> {
    ensure!(speed.is_finite() && speed > 0.0, "--speed expects a positive number, got {speed}");
    let mut planner =
        Planner { cache, speed, opened: Opened::default(), planned: BTreeMap::new(), seen: BTreeSet::new() };
    let mut table = Table::new(
        &format!("{}: what each run adds to those above it", study.name),
        &["run", "films", "done", "to do", "time", "disk", "disk while it runs"],
    );
    let mut total = Cost::default();
    let mut remarks = BTreeSet::new();
    let cells = shard.cells(study);
    for cell in &cells {
        context.check("the plan")?;
        let entry = planner.cell(cell, &mut remarks)?;
        total.seconds += entry.cost.seconds;
        total.bytes += entry.cost.bytes;
        total.temporary = total.temporary.max(entry.cost.temporary);
        let names = |names: &[&str]| if names.is_empty() { "-".to_owned() } else { names.join(", ") };
        let mut row = vec![cell.id.to_string(), entry.films, names(&entry.done), names(&entry.to_do)];
        row.extend(cells_of(entry.cost));
        table.rows.push(row);
    }
    let mut row = vec![format!("all {}", cells.len()), String::new(), String::new(), String::new()];
    row.extend(cells_of(total));
    table.rows.push(row);
    print!("{}", table.to_text());
    println!(
        "estimates for {}, {} threads on ciphertexts; a factor of two either way is usual",
        if (speed - 1.0).abs() < f64::EPSILON {
            "training on two cores of an x86-64 server".to_owned()
        } else {
            format!("training {speed} times as fast as on two cores of an x86-64 server")
        },
        rayon::current_num_threads()
    );
    for remark in remarks {
        println!("{remark}");
    }
    Ok(())
}

fn cells_of(cost: Cost) -> [String; 3] {
    let bytes = |bytes: f64| readable_bytes(bytes as u64);
    [long_time(cost.seconds), bytes(cost.bytes), bytes(cost.temporary)]
}

/// Hours and days where seconds would not be read.
fn long_time(seconds: f64) -> String {
    match seconds {
        s if s >= 2.0 * 86_400.0 => format!("{:.1} days", s / 86_400.0),
        s if s >= 7200.0 => format!("{:.1} h", s / 3600.0),
        s => readable_time(Duration::from_secs_f64(s.max(0.0))),
    }
}

/// What a cell adds.
struct Entry {
    films: String,
    done: Vec<&'static str>,
    to_do: Vec<&'static str>,
    cost: Cost,
}

struct Planner<'a> {
    cache: &'a Cache,
    speed: f64,
    opened: Opened,
    /// What the planner said of networks, by their configuration.
    planned: BTreeMap<String, Result<Encrypted, String>>,
    /// Keys that an earlier cell of the plan has.
    seen: BTreeSet<String>,
}

impl Planner<'_> {
    fn cell(&mut self, cell: &Cell, remarks: &mut BTreeSet<String>) -> Result<Entry> {
        let (films, counts, text) = match self.opened.films(&cell.config) {
            Ok(dataset) => (Films::of(Some(dataset)), FilmCounts::of(dataset), dataset.len().to_string()),
            Err(error) => {
                remarks.insert(format!(
                    "{} is not here, so nothing of it counts as done: {error}",
                    cell.id.dataset
                ));
                let expected = cell.expected_films.unwrap_or(UNKNOWN_FILMS);
                (Films::Absent, FilmCounts::expected(&cell.config, expected), format!("about {expected}"))
            }
        };
        let mut entry = Entry { films: text, done: Vec::new(), to_do: Vec::new(), cost: Cost::default() };
        let keys = key::keys(&cell.config, &films)?;
        for key in &keys {
            if self.cache.is_done(key) {
                entry.done.push(key.stage.name());
            } else if self.seen.insert(key.key.clone()) {
                entry.to_do.push(key.stage.name());
                self.add(&mut entry.cost, cell, key, counts, remarks);
            }
        }
        Ok(entry)
    }

    fn add(
        &mut self,
        sum: &mut Cost,
        cell: &Cell,
        key: &StageKey,
        films: FilmCounts,
        remarks: &mut BTreeSet<String>,
    ) {
        let planned = &mut self.planned;
        let plan = |model: &classifier::ClassifierConfig| {
            let budget = settings::export(&cell.config).map_err(|error| error.to_string())?.max_key_megabytes;
            planned.entry(format!("{model:?} {budget}")).or_insert_with(|| encrypted(model, budget)).clone()
        };
        match cost(key.stage, &cell.config, films, plan) {
            Ok(cost) => {
                let is_training = key.stage < super::key::Stage::Export;
                sum.seconds += if is_training { cost.seconds / self.speed } else { cost.seconds };
                sum.bytes += cost.bytes;
                sum.temporary = sum.temporary.max(cost.temporary);
            }
            Err(error) => {
                remarks.insert(format!("{}: {} is expected to fail: {error}", cell.id, key.stage.name()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_times_are_said_in_long_units() {
        assert_eq!(long_time(90.0), "1 min 30 s");
        assert_eq!(long_time(3.0 * 3600.0), "3.0 h");
        assert_eq!(long_time(10.0 * 86_400.0), "10.0 days");
    }
}
