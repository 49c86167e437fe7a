//! `veilray test`: both networks on the test films, in the clear; and the exported model, where there is one.

use std::path::Path;

use anyhow::Result;
use burn::tensor::Device;
use clap::Args;
use classifier::metrics::Pair;
use classifier::{Interval, PairIntervals};
use datasets::LatentSet;
use pipeline::eval::figure;
use pipeline::files::load_model;
use pipeline::{Context, RunFolder, ranges, settings};
use report::Table;
use train::{
    Config, Reconstruction, TestReport, encode_latents, load_classifier, test_reconstruction, test_report,
};

use crate::arguments::{RunArguments, configuration};

/// Measure both networks on the test films, in the clear: reconstruction against k-means, AUROC and F1 with
/// confidence intervals, ranges of the activations.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The run.
    #[command(flatten)]
    pub run: RunArguments,
}

/// Measures the networks of a configuration on its test films.
///
/// # Errors
/// As [`train::encode_latents`] and [`train::test_report()`].
pub fn run(context: &Context, arguments: &Arguments) -> Result<()> {
    let config = configuration(&arguments.run)?;
    let session = context.session(&config.run.dir);
    let written = |folder: &Path| format!("-> {}, test.csv", folder.join("test.json").display());
    if !session.classifier_model().exists() {
        println!("{}", pictures(&test_reconstruction(&config, &session)?).to_text());
        context.say(&written(&session.vqgan_dir()));
        context.say("the run has no classifier yet: `veilray train classifier` trains one");
        return Ok(());
    }
    let latents = encode_latents(&config, &session)?;
    let report = test_report(&config, &latents, &session)?;
    for table in tables(&report) {
        println!("{}", table.to_text());
    }
    context.say(&written(session.dir()));
    exported(context, &config, &latents)
}

/// Prints and writes what the activations of the run's exported model are given on the test films, if it was exported.
fn exported(context: &Context, config: &Config, latents: &LatentSet) -> Result<()> {
    let folder = RunFolder::new(&config.run.dir);
    if !folder.model().exists() {
        context
            .say("the run is not exported yet: `veilray export` calibrates the intervals of its activations");
        return Ok(());
    }
    let model = load_model(&folder.model())?;
    let session = context.session(&config.run.dir);
    let trained = load_classifier(&session.classifier_model(), &Device::flex())?;
    if model.notes.get("checkpoint") != Some(&trained.digest) {
        context.say("the exported model is of an earlier classifier: `veilray export` makes it again");
        return Ok(());
    }
    let report = ranges::on_test_films(context, &model, latents, settings::export(config)?.headroom)?;
    println!("{}", report.table().to_text());
    let json = serde_json::to_string_pretty(&report)?;
    durable::write(&folder.ranges(), json.as_bytes())?;
    context.say(&format!("-> {}", folder.ranges().display()));
    Ok(())
}

/// The VQGAN beside k-means.
fn pictures(Reconstruction { vqgan, baseline }: &Reconstruction) -> Table {
    let mut pictures = Table::new(
        &format!("reconstruction of {} test films", vqgan.films),
        &["codebook", "PSNR", "SSIM", "codes in use"],
    );
    pictures.rows.push(vec![
        "VQGAN".into(),
        format!("{:.2} dB", vqgan.psnr),
        figure(vqgan.ssim),
        format!("{:.0} %", 100.0 * vqgan.codes_used),
    ]);
    pictures.rows.push(vec![
        format!("k-means, {} words of {1} x {1} pixels", baseline.words, baseline.side),
        format!("{:.2} dB", baseline.psnr),
        "-".into(),
        "-".into(),
    ]);
    pictures
}

/// The tables of a report: reconstruction, metrics, ranges.
pub fn tables(report: &TestReport) -> Vec<Table> {
    let intervals = &report.intervals;
    let mut metrics = Table::new(
        &format!(
            "{} test films of {} patients; 95 % intervals of {} resamples of patients",
            report.films, intervals.patients, intervals.rounds
        ),
        &["finding", "positive", "AUROC", "95 %", "F1", "95 %"],
    );
    let mut row = |name: &str, positives: String, pair: Pair, of: PairIntervals| {
        let (auroc, f1) = (range(of.auroc), range(of.f1));
        metrics.rows.push(vec![name.into(), positives, figure(pair.auroc), auroc, figure(pair.f1), f1]);
    };
    for class in &report.classifier.classes {
        let of = intervals.classes.get(&class.label).copied().unwrap_or_default();
        row(&class.label, class.positives.to_string(), class.pair, of);
    }
    row("macro", String::new(), report.classifier.macro_, intervals.macro_);
    row("micro", String::new(), report.classifier.micro, intervals.micro);
    row("weighted", String::new(), report.classifier.weighted, intervals.weighted);

    let outside = report.outside().len();
    let caption = match outside {
        0 => "largest pre-activations on test films: all inside".to_owned(),
        count => format!("largest pre-activations on test films: {count} layers outside"),
    };
    let mut ranges = Table::new(&caption, &["activation", "largest", "interval"]);
    for layer in &report.ranges {
        ranges.rows.push(vec![
            layer.layer.clone(),
            format!("{:.2}", layer.largest),
            format!("{}", layer.interval),
        ]);
    }
    vec![pictures(&report.reconstruction), metrics, ranges]
}

fn range(interval: Option<Interval>) -> String {
    interval.map_or_else(|| "-".to_owned(), |[low, high]| format!("{low:.3} to {high:.3}"))
}
