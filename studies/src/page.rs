//! Writes what a reader looks at: tables in three formats, figures in two, and `report.html` with all of it, the study's file and
//! the commits that made the results.

use std::collections::BTreeMap;
use std::path::PathBuf;

use pipeline::error::Result;
use report::{Report, Section, Table, readable_time};

use super::cache::Done;
use super::figures::{self, Drawing};
use super::paper;
use super::record::{Outline, Record, StudyFolder};
use super::study::in_order;
use super::tables;

/// Writes tables, figures and the page of a study's folder from its records; returns the page.
///
/// # Errors
/// A record is damaged, or a file cannot be written.
pub fn write(folder: &StudyFolder, outline: &Outline) -> Result<PathBuf> {
    let records = folder.records(outline)?;
    let tables = tables::all(outline, &records);
    for (name, table) in &tables {
        for (extension, text) in
            [("md", table.to_markdown()), ("csv", table.to_csv()), ("tex", table.to_latex())]
        {
            let file = folder.root().join("tables").join(format!("{name}.{extension}"));
            durable::write(&file, text.as_bytes())?;
        }
    }
    let drawings = figures::all(outline, &records, folder);
    for drawing in &drawings {
        let file =
            |extension: &str| folder.root().join("figures").join(format!("{}.{extension}", drawing.name));
        durable::write(&file("svg"), drawing.svg.as_bytes())?;
        durable::write(&file("png"), &report::png::render(&drawing.svg)?)?;
    }
    let page = folder.root().join("report.html");
    durable::write(&page, report_of(outline, &records, tables, drawings).to_html().as_bytes())?;
    Ok(page)
}

fn report_of(
    outline: &Outline,
    records: &[Record],
    tables: Vec<(&'static str, Table)>,
    drawings: Vec<Drawing>,
) -> Report {
    let complete = records.iter().filter(|record| record.is_complete()).count();
    let failed = records.iter().filter(|record| record.failure.is_some()).count();
    let (of_runs, of_cells): (Vec<_>, Vec<_>) =
        tables.into_iter().partition(|(name, _)| ["runs", "failures"].contains(name));
    let only = |tables: Vec<(&'static str, Table)>| tables.into_iter().map(|(_, table)| table).collect();
    Report {
        title: outline.title.clone(),
        summary: format!(
            "{complete} of {} runs are complete{}, {failed} failed. {}",
            outline.cells.len(),
            in_the_clear(records),
            films_on_ciphertexts(records)
        ),
        sections: vec![
            Section {
                title: "Results".into(),
                text: vec![comparability(records)],
                tables: only(of_cells),
                ..Section::default()
            },
            Section {
                title: "Figures".into(),
                drawings: drawings.into_iter().map(|drawing| drawing.svg).collect(),
                ..Section::default()
            },
            Section { title: "Runs".into(), tables: only(of_runs), ..Section::default() },
            origin(outline, records),
        ],
    }
}

/// How many of the complete runs end in the clear.
fn in_the_clear(records: &[Record]) -> String {
    match records.iter().filter(|record| record.is_complete() && !record.is_polynomial).count() {
        0 => String::new(),
        runs => format!(" ({runs} of them in the clear, for their networks are not polynomial)"),
    }
}

fn films_on_ciphertexts(records: &[Record]) -> String {
    let done = records.iter().filter_map(|record| record.results.encrypted.as_ref());
    let (films, asked) =
        done.fold((0, 0), |(films, asked), e| (films + e.result.seconds.len(), asked + e.result.asked));
    format!("{films} films were classified on ciphertexts where {asked} were asked for.")
}

/// Which figures can stand beside those of the paper.
fn comparability(records: &[Record]) -> String {
    let same = in_order(records.iter().filter_map(|record| record.paper_data.clone()));
    let names = "Kim et al., MICCAI 2025 (arXiv 2506.15258)";
    if same.is_empty() {
        format!(
            "None of these films are the whole data sets of {names} at {} pixels: its figures stand here for orientation \
             and are marked where they are not comparable.",
            paper::FILM_SIDE
        )
    } else {
        format!("Films as in {names}: {}.", same.join(", "))
    }
}

/// Where the results come from: films, stages with their program, machine and time, and the study's file.
fn origin(outline: &Outline, records: &[Record]) -> Section {
    let mut films: BTreeMap<String, String> = BTreeMap::new();
    let mut makers = Table::new("Programs and machines", &["program and machine", "stages"]);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut stages = Table::new(
        "Stages, each under the first run that needs it; what runs share is done once",
        &["run", "stage", "key", "runs that share it", "time of its last session"],
    );
    let mut sharing: BTreeMap<(String, String), usize> = BTreeMap::new();
    for (stage, key) in records.iter().flat_map(|record| &record.keys) {
        *sharing.entry((stage.name().to_owned(), key.clone())).or_default() += 1;
    }
    for record in records {
        if let Some(latents) = &record.results.latents {
            films.entry(record.id.dataset.clone()).or_insert_with(|| latents.result.films.clone());
        }
        let mut add = |name: &str, key: &str, seconds: f64, maker: String| {
            // Taken out, so that the next run of the same stage is not listed again.
            let Some(runs) = sharing.remove(&(name.to_owned(), key.to_owned())) else { return };
            *counts.entry(maker).or_default() += 1;
            let time = readable_time(std::time::Duration::from_secs_f64(seconds.max(0.0)));
            let key = key.chars().take(12).collect();
            stages.rows.push(vec![record.id.to_string(), name.into(), key, runs.to_string(), time]);
        };
        macro_rules! stage {
            ($name:literal, $done:expr) => {
                if let Some(Done { key, seconds, made_by, .. }) = &$done {
                    add($name, key, *seconds, made_by.describe());
                }
            };
        }
        stage!("vqgan", record.results.vqgan);
        stage!("latents", record.results.latents);
        stage!("classifier", record.results.classifier);
        stage!("export", record.results.export);
        stage!("encrypted", record.results.encrypted);
    }
    makers.rows = counts.into_iter().map(|(maker, count)| vec![maker, count.to_string()]).collect();
    let films = films.into_iter().map(|(name, text)| (format!("films: {name}"), text));
    let study = std::iter::once((format!("{}.toml, as it was run", outline.name), outline.text.clone()));
    Section {
        title: "Where this comes from".into(),
        tables: vec![makers, stages],
        listings: study.chain(films).collect(),
        ..Section::default()
    }
}
