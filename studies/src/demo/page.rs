//! The page and the tables at the end of the demo.

use std::path::Path;

use datasets::FilmDataset;
use pipeline::encrypt::Encoder;
use pipeline::error::Result;
use pipeline::{Context, RunFolder};
use report::chart::{Chart, Line};
use report::{Picture, PictureRow, Report, Section, Table, readable_bytes, readable_time};
use train::history::Row;

use super::outcome::{Outcome, median};

/// How many films the page shows with their latents.
const PICTURED_FILMS: usize = 4;

/// Time of each stage.
pub fn time_table(outcome: &Outcome) -> Table {
    let mut table = Table::new(
        "time of each stage (stages that an earlier run had finished take no time)",
        &["stage", "time"],
    );
    for (name, time) in &outcome.stages {
        table.rows.push(vec![name.clone(), readable_time(*time)]);
    }
    if let Some(time) = median(&outcome.encrypted_times) {
        let count = outcome.encrypted_times.len();
        let one = match outcome.model.plan.packing.films() {
            1 => "one film on ciphertexts".to_owned(),
            films => format!("one batch of up to {films} films on ciphertexts"),
        };
        table.rows.push(vec![format!("{one} (median of {count})"), readable_time(time)]);
    }
    table
}

/// Sizes of model, keys and ciphertexts.
pub fn size_table(outcome: &Outcome) -> Table {
    let mut table = Table::new("sizes", &["what", "size"]);
    for (name, bytes) in &outcome.sizes {
        table.rows.push(vec![name.clone(), readable_bytes(*bytes)]);
    }
    table
}

/// The encryption parameters and what they promise.
pub fn parameter_table(outcome: &Outcome) -> Table {
    let ring = &outcome.model.plan.ring;
    let bits = |sizes: &[u32]| sizes.iter().sum::<u32>();
    let mut table = Table::new("encryption parameters (RNS-CKKS)", &["parameter", "value"]);
    let mut row = |name: &str, value: String| table.rows.push(vec![name.into(), value]);
    row("ring degree N", format!("2^{}", ring.log_ring_degree));
    row(
        "ciphertext modulus Q",
        format!("{} bits in {} primes", bits(&ring.modulus_bits), ring.modulus_bits.len()),
    );
    row(
        "special modulus P",
        format!("{} bits in {} primes", bits(&ring.special_bits), ring.special_bits.len()),
    );
    row("log2 of QP", format!("{} bits", bits(&ring.modulus_bits) + bits(&ring.special_bits)));
    row("scale", format!("2^{}", outcome.model.plan.scale_bits));
    row("secret", "uniform ternary".into());
    row("security", ring.security.describe().into());
    table
}

/// Writes the page.
///
/// # Errors
/// A film cannot be read, or the file cannot be written.
pub fn write(context: &Context, outcome: &Outcome, folder: &RunFolder) -> Result<()> {
    let session = context.session(&outcome.config.run.dir);
    let report = Report {
        title: "Veilray: from films to an encrypted diagnosis".into(),
        summary: format!(
            "{}; {} films classified on ciphertexts, largest difference of a logit {:.1e}",
            outcome.data.lines().next().unwrap_or_default().trim_end_matches('.'),
            outcome.evaluation.films.len(),
            outcome.evaluation.largest_difference()
        ),
        sections: vec![
            findings(outcome),
            pictures(outcome, &session.vqgan_model())?,
            training(outcome, &session.vqgan_dir(), &session.classifier_dir()),
            encryption(outcome)?,
        ],
    };
    Ok(durable::write(&folder.report(), report.to_html().as_bytes())?)
}

fn findings(outcome: &Outcome) -> Section {
    Section {
        title: "Findings, clear and encrypted".into(),
        text: vec![
            "Each film was encoded and encrypted by the client, classified by the server on ciphertexts only, and \
             decrypted by the client. The clear probability is that of the trained network on the same latent."
                .into(),
            format!(
                "Largest difference of a logit: {:.2e} between clear and encrypted, {:.2e} between the trained network \
                 and the exported graph.",
                outcome.evaluation.largest_difference(),
                outcome.evaluation.largest_graph_difference()
            ),
            "Decrypted numbers must not go back to whoever computed them: CKKS is not IND-CPA-D. Pass on labels \
             instead (veilray decrypt --labels-only)."
                .into(),
        ],
        tables: vec![outcome.evaluation.probability_table(), outcome.evaluation.metrics_table()],
        ..Section::default()
    }
}

fn pictures(outcome: &Outcome, encoder: &Path) -> Result<Section> {
    let dataset = FilmDataset::open(&outcome.config.data)?;
    let encoder = Encoder::load(encoder, &outcome.model)?;
    let side = encoder.side();
    let latent = outcome.model.preprocessing.latent;
    let mut rows = Vec::new();
    for result in outcome.evaluation.films.iter().take(PICTURED_FILMS) {
        let film = dataset.film(result.index)?;
        let picture = |values: &[f32]| Picture::from_values(values, side, side, 0.0, 1.0);
        let mut pictures = vec![
            ("original".to_owned(), picture(&film.pixels)),
            ("reconstruction".to_owned(), picture(&encoder.reconstruction(&film))),
        ];
        let values = encoder.latent(&film);
        let area = latent.height * latent.width;
        for (channel, plane) in values.chunks(area).enumerate() {
            pictures
                .push((format!("latent {channel}"), Picture::stretched(plane, latent.height, latent.width)));
        }
        let named = outcome.evaluation.labels.iter().zip(&result.labels);
        let present: Vec<&str> =
            named.filter(|(_, label)| **label == Some(true)).map(|(name, _)| name.as_str()).collect();
        let label = if present.is_empty() { "no finding".to_owned() } else { present.join(", ") };
        rows.push(PictureRow { label: format!("{}: {label}", result.id), pictures });
    }
    Ok(Section {
        title: "Films, reconstructions and latents".into(),
        text: vec![format!(
            "The VQGAN compresses {side}x{side} pixels into {}x{}x{} (f = {}); PSNR {:.2} dB{} on {} validation films, \
             {:.0} % of the codes in use.",
            latent.height,
            latent.width,
            latent.channels,
            outcome.config.vqgan.model.downsampling_factor(),
            outcome.vqgan.best.psnr,
            outcome.vqgan.best.ssim.map_or_else(String::new, |ssim| format!(", SSIM {ssim:.3}")),
            outcome.vqgan.best.films,
            100.0 * outcome.vqgan.best.codes_used,
        )],
        pictures: rows,
        ..Section::default()
    })
}

/// The curves in `metrics.json` of a stage, grouped by what they show; none if there is no such file.
fn curves(folder: &Path, charts: &[(&str, &str, &[&str])]) -> Vec<Chart> {
    let rows: Vec<Row> = std::fs::read(folder.join("metrics.json"))
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default();
    let history = train::history::History { rows };
    let line = |name: &str| Line {
        name: name.to_owned(),
        points: history.column(name).into_iter().map(|(step, value)| (step as f64, value)).collect(),
    };
    charts
        .iter()
        .map(|(title, y_label, names)| Chart {
            title: (*title).to_owned(),
            x_label: "step".into(),
            y_label: (*y_label).to_owned(),
            lines: names.iter().map(|name| line(name)).filter(|line| !line.points.is_empty()).collect(),
        })
        .filter(|chart| !chart.lines.is_empty())
        .collect()
}

fn training(outcome: &Outcome, vqgan: &Path, classifier: &Path) -> Section {
    let mut charts = curves(vqgan, VQGAN_CHARTS);
    charts.extend(curves(classifier, CLASSIFIER_CHARTS));
    Section {
        title: "Training".into(),
        text: vec![format!(
            "VQGAN: {} steps in {:.0} s. Classifier: {} epochs in {:.0} s, weights of epoch {} kept (best macro AUROC \
             on validation films).",
            outcome.vqgan.steps,
            outcome.vqgan.seconds,
            outcome.classifier.epochs,
            outcome.classifier.seconds,
            outcome.classifier.best_epoch
        )],
        charts,
        tables: vec![time_table(outcome)],
        ..Section::default()
    }
}

fn encryption(outcome: &Outcome) -> Result<Section> {
    let mut tables = vec![parameter_table(outcome), size_table(outcome)];
    if !outcome.layers.is_empty() {
        let mut layers = Table::new(
            "time of each layer on ciphertexts (the last one)",
            &["layer", "measured", "predicted, one thread"],
        );
        for layer in &outcome.layers {
            layers.rows.push(vec![
                layer.name.clone(),
                readable_time(layer.time),
                format!("{:.0} ms", layer.predicted_milliseconds),
            ]);
        }
        tables.push(layers);
    }
    Ok(Section {
        title: "Encryption".into(),
        text: outcome.export.lines().take(3).map(str::to_owned).collect(),
        tables,
        ..Section::default()
    })
}

/// Title, y axis and figures of the VQGAN's charts.
const VQGAN_CHARTS: &[(&str, &str, &[&str])] = &[
    (
        "VQGAN: losses",
        "loss",
        &[
            "train/reconstruction_loss",
            "train/codebook_loss",
            "train/commitment_loss",
            "train/generator_loss",
        ],
    ),
    ("VQGAN: validation", "PSNR in dB", &["validation/psnr"]),
];

/// Title, y axis and figures of the classifier's charts.
const CLASSIFIER_CHARTS: &[(&str, &str, &[&str])] = &[
    ("classifier: loss", "binary cross-entropy", &["train/loss"]),
    ("classifier: validation", "AUROC", &["validation/macro_auroc", "validation/micro_auroc"]),
];
