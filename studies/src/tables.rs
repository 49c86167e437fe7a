//! The tables of a study, from the records of its cells: accuracy, ciphertexts, reconstructions, and what failed.
//!
//! A row is one cell of one data set over its seeds. A figure is the mean over the seeds that have it, with the sample standard
//! deviation where there are several; a row in which a seed is missing says so.

use report::{Table, readable_bytes};

use super::describe;
use super::key::Stage;
use super::paper;
use super::record::{Outline, Record};
use super::results::median;
use super::study::{Rows, in_order};

/// Marks a figure of the paper that ours cannot be compared with.
const NOT_COMPARABLE: &str = " †";

/// The records of one cell on one data set, over its seeds.
pub struct Row<'a> {
    /// The data set.
    pub dataset: &'a str,
    /// The cell.
    pub cell: &'a str,
    /// The seeds that the study has.
    pub seeds: usize,
    /// The records that are there.
    pub records: Vec<&'a Record>,
}

/// The rows of a study in its order, one for each data set and cell.
pub fn rows<'a>(outline: &'a Outline, records: &'a [Record]) -> Vec<Row<'a>> {
    let mut rows: Vec<Row<'a>> = Vec::new();
    for (id, _) in &outline.cells {
        let found = rows.iter().position(|row| row.dataset == id.dataset && row.cell == id.cell);
        let index = found.unwrap_or_else(|| {
            rows.push(Row { dataset: &id.dataset, cell: &id.cell, seeds: 0, records: Vec::new() });
            rows.len() - 1
        });
        rows[index].seeds += 1;
        rows[index].records.extend(records.iter().filter(|record| record.id == *id));
    }
    rows
}

/// Mean and sample standard deviation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mean {
    /// The mean.
    pub value: f64,
    /// The deviation; absent for one value.
    pub deviation: Option<f64>,
}

/// The mean of some values; absent without any.
pub fn mean(values: &[f64]) -> Option<Mean> {
    let count = values.len() as f64;
    let value = values.iter().sum::<f64>() / count;
    let squares = values.iter().map(|v| (v - value).powi(2)).sum::<f64>();
    let deviation = (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt());
    (!values.is_empty()).then_some(Mean { value, deviation })
}

impl Row<'_> {
    /// The mean of a figure over the seeds that have it.
    pub fn mean(&self, figure: impl Fn(&Record) -> Option<f64>) -> Option<Mean> {
        mean(&self.records.iter().filter_map(|record| figure(record)).collect::<Vec<_>>())
    }

    /// As text: `0.912 ± 0.003`, or a dash.
    fn text(&self, decimals: usize, figure: impl Fn(&Record) -> Option<f64>) -> String {
        let Some(mean) = self.mean(figure) else { return "-".into() };
        match mean.deviation {
            Some(deviation) => format!("{:.decimals$} ± {deviation:.decimals$}", mean.value),
            None => format!("{:.decimals$}", mean.value),
        }
    }

    /// A text that is the same for all seeds, from the first that has it.
    fn same<T: ToString>(&self, figure: impl Fn(&Record) -> Option<T>) -> String {
        self.records.iter().find_map(|r| figure(r)).map_or_else(|| "-".into(), |value| value.to_string())
    }

    /// The cell's name, with the seeds that it stands on where some are missing.
    fn name(&self, is_there: impl Fn(&Record) -> bool) -> String {
        let there = self.records.iter().filter(|record| is_there(record)).count();
        if there == self.seeds {
            self.cell.to_owned()
        } else {
            format!("{} ({there} of {} seeds)", self.cell, self.seeds)
        }
    }
}

/// Whether the tables name the data sets: not where there is only one.
fn has_datasets(outline: &Outline) -> bool {
    in_order(outline.cells.iter().map(|(id, _)| id.dataset.clone())).len() > 1
}

/// A table whose first columns are the data set, where there are several, and the cell.
fn start(outline: &Outline, caption: &str, head: &[&str]) -> Table {
    let mut table = Table::new(caption, &[]);
    let first = match outline.rows {
        Rows::LatentSize => "latent",
        Rows::Architecture => "network",
        Rows::Activation => "activation",
        Rows::Environment => "network, environment",
    };
    table.head =
        has_datasets(outline).then_some("data").into_iter().chain([first]).map(str::to_owned).collect();
    table.head.extend(head.iter().map(|&title| title.to_owned()));
    table
}

fn push(table: &mut Table, outline: &Outline, row: &Row<'_>, name: String, cells: Vec<String>) {
    let first = has_datasets(outline).then(|| row.dataset.to_owned());
    table.rows.push(first.into_iter().chain([name]).chain(cells).collect());
}

/// All tables of a study, each with the name of its file.
pub fn all(outline: &Outline, records: &[Record]) -> Vec<(&'static str, Table)> {
    let rows = rows(outline, records);
    let mut tables = Vec::new();
    if outline.rows == Rows::Environment {
        tables.push(("environment", environment(outline, &rows)));
    }
    tables.push(("accuracy", accuracy(outline, &rows)));
    tables.push(("ciphertexts", ciphertexts(outline, &rows)));
    tables.push(("latents", latents(outline, &rows)));
    tables.push(("runs", runs(outline, records)));
    let failures = failures(outline, records);
    if !failures.rows.is_empty() {
        tables.push(("failures", failures));
    }
    tables
}

/// AUROC and F1 on the whole test split, in the clear.
fn accuracy(outline: &Outline, rows: &[Row<'_>]) -> Table {
    let number = outline.rows.table_of_paper();
    let caption = format!(
        "Accuracy on all test films, in the clear (as Table {number} of Kim et al. 2025){}; the paper's AUROC stands beside \
         ours where the films are the paper's and it is on record",
        over_seeds(rows)
    );
    let head = [
        "AUROC macro",
        "AUROC micro",
        "AUROC weighted",
        "F1 macro",
        "F1 micro",
        "F1 weighted",
        "parameters",
        "paper: AUROC",
    ];
    let mut table = start(outline, &caption, &head);
    for row in rows {
        let of = |figure: fn(&classifier::Metrics) -> Option<f64>| {
            row.text(3, |r| figure(&r.results.classifier.as_ref()?.result.test))
        };
        let cells = vec![
            of(|m| m.macro_.auroc),
            of(|m| m.micro.auroc),
            of(|m| m.weighted.auroc),
            of(|m| m.macro_.f1),
            of(|m| m.micro.f1),
            of(|m| m.weighted.f1),
            row.same(|r| Some(r.results.classifier.as_ref()?.result.parameters)),
            // The paper's figure is that of its best network; ours is beside it where the films are the paper's.
            row.same(|r| paper::auroc(r.paper_data.as_deref()?)),
        ];
        push(&mut table, outline, row, row.name(|r| r.results.classifier.is_some()), cells);
    }
    table
}

/// What encryption costs.
fn ciphertexts(outline: &Outline, rows: &[Row<'_>]) -> Table {
    let caption = format!(
        "On ciphertexts: seconds for one film (median of the films), precision and size{}; - nothing of it in the paper is on \
         record; † the paper's figure is not comparable (other machine, and other films or latents of another size)",
        over_seeds(rows)
    );
    let head = [
        "seconds",
        "processor seconds",
        "predicted, one thread",
        "paper: seconds",
        "films",
        "AUROC micro, clear",
        "encrypted",
        "largest logit difference",
        "levels",
        "log2 N",
        "log2 QP",
        "keys",
    ];
    let mut table = start(outline, &caption, &head);
    for row in rows.iter().filter(|row| row.records.is_empty() || row.records.iter().any(|r| r.is_polynomial))
    {
        let encrypted = |r: &Record| r.results.encrypted.as_ref().map(|done| done.result.clone());
        let export = |r: &Record| r.results.export.as_ref().map(|done| done.result.clone());
        let worst =
            row.records.iter().filter_map(|r| Some(encrypted(r)?.largest_difference)).reduce(f64::max);
        let cells = vec![
            row.text(2, |r| median(&encrypted(r)?.seconds)),
            row.text(2, |r| median(&encrypted(r)?.processor_seconds)),
            row.text(2, |r| Some(export(r)?.predicted_seconds)),
            row.same(paper_seconds),
            row.same(films_text),
            row.text(3, |r| encrypted(r)?.clear.micro.auroc),
            row.text(3, |r| encrypted(r)?.encrypted.micro.auroc),
            worst.map_or_else(|| "-".into(), |worst| format!("{worst:.1e}")),
            row.same(|r| Some(export(r)?.depth)),
            row.same(|r| Some(export(r)?.log_ring_degree)),
            row.same(|r| export(r).map(|e| e.modulus_bits + e.special_bits)),
            row.same(|r| Some(readable_bytes(encrypted(r)?.key_bytes))),
        ];
        push(&mut table, outline, row, row.name(|r| r.results.encrypted.is_some()), cells);
    }
    table
}

/// How many films were classified on ciphertexts, of how many that were asked for.
fn films_text(record: &Record) -> Option<String> {
    let encrypted = &record.results.encrypted.as_ref()?.result;
    Some(format!("{} of {}", encrypted.seconds.len(), encrypted.asked))
}

/// The paper's seconds for the same network and factor, marked where they are not comparable.
fn paper_seconds(record: &Record) -> Option<String> {
    let classifier = &record.results.classifier.as_ref()?.result;
    let factor = record.results.latents.as_ref()?.result.factor;
    let said = paper::seconds(&classifier.architecture, classifier.se, factor)?;
    let is_same = record.paper_data.is_some() && record.film_side == paper::FILM_SIDE;
    Some(if is_same { said.to_owned() } else { format!("{said}{NOT_COMPARABLE}") })
}

/// What a caption says of the seeds; nothing where there is one.
fn over_seeds(rows: &[Row<'_>]) -> String {
    let seeds = rows.iter().map(|row| row.seeds).max().unwrap_or(0);
    if seeds > 1 { format!("; mean ± deviation over {seeds} seeds") } else { String::new() }
}

/// Compression. Rows that share their latents are one.
fn latents(outline: &Outline, rows: &[Row<'_>]) -> Table {
    let head = ["f", "latent", "PSNR, dB", "SSIM", "codes in use, %", "VQGAN parameters", "test films"];
    let caption = format!("Reconstruction of all test films by the VQGAN{}", over_seeds(rows));
    let mut table = start(outline, &caption, &head);
    let mut keys = Vec::with_capacity(rows.len());
    for row in rows {
        let of = |r: &Record| r.results.latents.as_ref().map(|done| done.result.clone());
        let cells = vec![
            row.same(|r| Some(of(r)?.factor)),
            row.same(|r| of(r).map(|l| format!("{}x{}x{}", l.shape[1], l.shape[2], l.shape[0]))),
            row.text(2, |r| Some(of(r)?.test.psnr)),
            row.text(3, |r| of(r)?.test.ssim),
            row.text(0, |r| Some(100.0 * of(r)?.test.codes_used)),
            row.same(|r| Some(of(r)?.parameters)),
            row.same(|r| Some(of(r)?.test.films)),
        ];
        push(&mut table, outline, row, row.name(|r| r.results.latents.is_some()), cells);
        keys.push(row.records.iter().filter_map(|r| r.keys.get(&Stage::Latents)).collect::<Vec<_>>());
    }
    merge_shared(&mut table, usize::from(has_datasets(outline)), &keys);
    table
}

/// Makes one row of those with the same keys; the column `name` says how many there are.
fn merge_shared(table: &mut Table, name: usize, keys: &[Vec<&String>]) {
    let rows = std::mem::take(&mut table.rows);
    for (index, (mut row, own)) in rows.into_iter().zip(keys).enumerate() {
        let is_shared = |other: &&Vec<&String>| *other == own && !own.is_empty();
        if keys[..index].iter().any(|other| is_shared(&other)) {
            continue;
        }
        match keys[index + 1..].iter().filter(is_shared).count() {
            0 => {}
            1 => row[name].push_str(" and another"),
            others => row[name].push_str(&format!(" and {others} others")),
        }
        table.rows.push(row);
    }
}

/// Table 3: the same films, clear and encrypted.
fn environment(outline: &Outline, rows: &[Row<'_>]) -> Table {
    let caption = format!(
        "Clear against encrypted on the same films (as Table 3 of Kim et al. 2025){}; - nothing of it in the paper is on \
         record; † the paper's figure is not comparable",
        over_seeds(rows)
    );
    let head =
        ["films", "seconds a film", "paper: seconds", "AUROC macro", "AUROC micro", "F1 macro", "F1 micro"];
    let mut table = start(outline, &caption, &head);
    for row in rows {
        for is_encrypted in [false, true] {
            let result = |r: &Record| r.results.encrypted.as_ref().map(|done| done.result.clone());
            let metrics = |r: &Record| result(r).map(|e| if is_encrypted { e.encrypted } else { e.clear });
            let seconds = |r: &Record| {
                result(r).and_then(|e| median(if is_encrypted { &e.seconds } else { &e.clear_seconds }))
            };
            let cells = vec![
                row.same(films_text),
                row.text(if is_encrypted { 2 } else { 4 }, seconds),
                if is_encrypted { row.same(paper_seconds) } else { "-".into() },
                row.text(3, |r| metrics(r)?.macro_.auroc),
                row.text(3, |r| metrics(r)?.micro.auroc),
                row.text(3, |r| metrics(r)?.macro_.f1),
                row.text(3, |r| metrics(r)?.micro.f1),
            ];
            let name = row.name(|r| r.results.encrypted.is_some());
            let name = format!("{name}, {}", if is_encrypted { "encrypted" } else { "clear" });
            push(&mut table, outline, row, name, cells);
        }
    }
    table
}

/// Every run: what of it is there, and the figures before any mean.
fn runs(outline: &Outline, records: &[Record]) -> Table {
    let head = [
        "run",
        "state",
        "network",
        "activation",
        "PSNR, dB",
        "AUROC macro",
        "95 %",
        "films on ciphertexts",
        "seconds a film",
        "largest logit difference",
        "training, s",
    ];
    let mut table = Table::new("Every run", &head);
    for (id, _) in &outline.cells {
        let Some(record) = records.iter().find(|record| record.id == *id) else {
            let mut cells = vec![id.to_string(), "not run".into()];
            cells.resize(head.len(), "-".into());
            table.rows.push(cells);
            continue;
        };
        let dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
        let r = &record.results;
        let classifier = r.classifier.as_ref().map(|done| &done.result);
        let encrypted = r.encrypted.as_ref().map(|done| &done.result);
        let state = match &record.failure {
            Some(failure) => format!("failed at {}", failure.stage),
            None if record.is_polynomial => "done".to_owned(),
            None => "done, in the clear only".to_owned(),
        };
        let training = r.vqgan.as_ref().map(|v| v.result.training_seconds).into_iter();
        let training: f64 = training.chain(classifier.map(|c| c.training_seconds)).sum();
        let interval = classifier.and_then(|c| c.intervals.macro_.auroc);
        table.rows.push(vec![
            id.to_string(),
            state,
            dash(classifier.map(|c| describe::network(&c.architecture, c.se))),
            record.activation.clone(),
            dash(r.latents.as_ref().map(|l| format!("{:.2}", l.result.test.psnr))),
            dash(classifier.and_then(|c| c.test.macro_.auroc).map(|a| format!("{a:.3}"))),
            dash(interval.map(|[low, high]| format!("{low:.3} to {high:.3}"))),
            dash(films_text(record)),
            dash(encrypted.and_then(|e| median(&e.seconds)).map(|s| format!("{s:.2}"))),
            dash(encrypted.map(|e| format!("{:.1e}", e.largest_difference))),
            format!("{training:.0}"),
        ]);
    }
    table
}

/// The runs that failed, and why.
fn failures(outline: &Outline, records: &[Record]) -> Table {
    let mut table =
        Table::new("Runs that failed; the same command tries them again", &["run", "stage", "error"]);
    for (id, _) in &outline.cells {
        let failure =
            records.iter().find(|record| record.id == *id).and_then(|record| record.failure.as_ref());
        if let Some(failure) = failure {
            table.rows.push(vec![id.to_string(), failure.stage.clone(), failure.error.clone()]);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_have_a_deviation_where_there_are_several() {
        assert_eq!(mean(&[]), None);
        assert_eq!(mean(&[2.0]), Some(Mean { value: 2.0, deviation: None }));
        let both = mean(&[1.0, 3.0]).expect("a mean");
        assert!(
            (both.value - 2.0).abs() < 1e-12 && (both.deviation.expect("two") - 2f64.sqrt()).abs() < 1e-12
        );
    }

    #[test]
    fn rows_that_share_everything_are_one() {
        let mut table = Table::new("latents", &["network", "f"]);
        table.rows = ["a", "b", "c", "d", "e"].map(|name| vec![name.to_owned(), "4".into()]).to_vec();
        let (one, two) = ("one".to_owned(), "two".to_owned());
        merge_shared(&mut table, 0, &[vec![&one], vec![&two], vec![&one], vec![], vec![]]);
        let names: Vec<&str> = table.rows.iter().map(|row| row[0].as_str()).collect();
        assert_eq!(names, ["a and another", "b", "d", "e"], "rows that are not run share nothing");
    }

    #[test]
    fn the_middle_of_an_even_number_of_films_is_between_two() {
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[]), None);
    }
}
