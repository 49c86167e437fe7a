//! The plan of a study: what is done, what would run, and what the rest is expected to take. No stage is run, and
//! the films need not be there.

use std::collections::BTreeSet;
use std::time::Duration;

use classifier::ClassifierConfig;
use pipeline::Context;
use pipeline::error::Result;
use pipeline::require;
use pipeline::settings;
use report::{Table, readable_bytes, readable_time};

use super::cache::Cache;
use super::estimate::{self, Cost, FilmCounts};
use super::forecast::{Forecasts, Request};
use super::key::{self, Films, Stage};
use super::runner::{Opened, Shard};
use super::study::{Cell, Study};

/// Films that are assumed where nothing says how many there are.
const UNKNOWN_FILMS: usize = 10_000;

/// What a shard is expected to take.
pub struct Plan {
    /// A row a run, and the sum.
    pub table: Table,
    /// What the estimates stand on, and what is expected to fail.
    pub remarks: Vec<String>,
}

/// The plan of a shard; `speed` divides the times of training.
///
/// # Errors
/// A configuration cannot be used, `speed` is not a positive number, or the user interrupted.
pub fn plan(context: &Context, study: &Study, shard: Shard, cache: &Cache, speed: f64) -> Result<Plan> {
    require!(speed.is_finite() && speed > 0.0, "--speed expects a positive number, got {speed}");
    let cells = shard.cells(study);
    let mut remarks = BTreeSet::new();
    let entries = entries(&cells, cache, &mut remarks)?;
    let mut forecasts = Forecasts::new(cache.forecasts())?;
    let requests: Vec<Request> = entries.iter().filter_map(Entry::request).collect();
    forecasts.prepare(context, &requests)?;

    let mut table = Table::new(
        &format!("{}: what each run adds to those above it", study.name),
        &["run", "films", "done", "to do", "time", "disk", "disk while it runs"],
    );
    let mut total = Cost::default();
    for entry in &entries {
        let cost = entry.cost(&forecasts, speed, &mut remarks);
        total.seconds += cost.seconds;
        total.bytes += cost.bytes;
        total.temporary = total.temporary.max(cost.temporary);
        let first = [entry.cell.id.to_string(), entry.films.clone(), names(&entry.done), names(&entry.to_do)];
        table.rows.push(first.into_iter().chain(cells_of(cost)).collect());
    }
    let mut row = vec![format!("all {}", cells.len()), String::new(), String::new(), String::new()];
    row.extend(cells_of(total));
    table.rows.push(row);
    let basis = format!(
        "estimates for {}, {} threads on ciphertexts; a factor of two either way is usual",
        if (speed - 1.0).abs() < f64::EPSILON {
            "training on two cores of an x86-64 server".to_owned()
        } else {
            format!("training {speed} times as fast as on two cores of an x86-64 server")
        },
        rayon::current_num_threads()
    );
    Ok(Plan { table, remarks: std::iter::once(basis).chain(remarks).collect() })
}

fn names(stages: &[Stage]) -> String {
    let names: Vec<_> = stages.iter().map(|stage| stage.name()).collect();
    if names.is_empty() { "-".to_owned() } else { names.join(", ") }
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

/// A cell, and what of it is done and would run.
struct Entry<'a> {
    cell: &'a Cell,
    /// How many films, as text.
    films: String,
    counts: FilmCounts,
    done: Vec<Stage>,
    to_do: Vec<Stage>,
}

/// The cells of a shard; what an earlier one of them will do is neither done nor to do.
fn entries<'a>(cells: &[&'a Cell], cache: &Cache, remarks: &mut BTreeSet<String>) -> Result<Vec<Entry<'a>>> {
    let mut opened = Opened::default();
    let mut seen = BTreeSet::new();
    let mut entries = Vec::with_capacity(cells.len());
    for &cell in cells {
        let (films, counts, text) = match opened.films(&cell.config) {
            Ok(dataset) => (Films::of(Some(dataset)), FilmCounts::of(dataset), dataset.len().to_string()),
            Err(error) => {
                let name = &cell.id.dataset;
                remarks.insert(format!("{name} is not here, so nothing of it counts as done: {error}"));
                let expected = cell.expected_films.unwrap_or(UNKNOWN_FILMS);
                (Films::Absent, FilmCounts::expected(&cell.config, expected), format!("about {expected}"))
            }
        };
        let mut entry = Entry { cell, films: text, counts, done: Vec::new(), to_do: Vec::new() };
        for key in key::keys(&cell.config, &films)? {
            if cache.is_done(&key) {
                entry.done.push(key.stage);
            } else if seen.insert(key.key) {
                entry.to_do.push(key.stage);
            }
        }
        entries.push(entry);
    }
    Ok(entries)
}

impl Entry<'_> {
    /// What the planner has to be asked for this cell; nothing where no network is to be exported.
    fn request(&self) -> Option<Request> {
        let model = estimate::model(&self.cell.config, self.counts).ok()?;
        let options = settings::export(&self.cell.config).ok()?.plan_options();
        let planned = self.to_do.iter().any(|&stage| stage >= Stage::Export);
        planned.then_some(Request { model, options })
    }

    /// What the stages to do cost; a remark on each that is expected to fail.
    fn cost(&self, forecasts: &Forecasts, speed: f64, remarks: &mut BTreeSet<String>) -> Cost {
        let plan = |model: &ClassifierConfig| {
            let options =
                settings::export(&self.cell.config).map_err(|error| error.to_string())?.plan_options();
            forecasts.of(&Request { model: model.clone(), options })
        };
        let mut sum = Cost::default();
        for &stage in &self.to_do {
            match estimate::cost(stage, &self.cell.config, self.counts, plan) {
                Ok(cost) => {
                    sum.seconds += if stage < Stage::Export { cost.seconds / speed } else { cost.seconds };
                    sum.bytes += cost.bytes;
                    sum.temporary = sum.temporary.max(cost.temporary);
                }
                Err(error) => {
                    let (cell, name) = (&self.cell.id, stage.name());
                    remarks.insert(format!("{cell}: {name} is expected to fail: {error}"));
                    // Stages behind it do not run.
                    break;
                }
            }
        }
        sum
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
