//! The figures of a study: what each cell costs and what it gives; reconstructions beside each other are in
//! [`super::reconstructions`].

use report::figure::{Figure, Point, Series};

use super::reconstructions;
use super::record::{Outline, Record, StudyFolder};
use super::results::{ClassifierResult, EncryptedResult, ExportResult, LatentsResult, median};
use super::study::{Rows, in_order};
use super::tables::{Mean, Row, rows};

/// A figure that is drawn.
pub struct Drawing {
    /// Its file name, without extension.
    pub name: String,
    /// As an `<svg>` element.
    pub svg: String,
}

/// All figures that the records have points for.
pub fn all(outline: &Outline, records: &[Record], folder: &StudyFolder) -> Vec<Drawing> {
    let charts = charts(outline, records).into_iter().filter(Figure::has_points);
    let mut drawings: Vec<Drawing> =
        charts.map(|figure| Drawing { svg: figure.to_svg(), name: figure.name }).collect();
    if outline.rows == Rows::LatentSize {
        let strips = reconstructions::all(&rows(outline, records), folder);
        drawings.extend(strips.into_iter().map(|(name, svg)| Drawing { name, svg }));
    }
    drawings
}

/// A value of one record.
type Value = fn(&Record) -> Option<f64>;

/// A chart before its points: what is on its vertical axis, and each kind of point.
struct Chart {
    name: &'static str,
    title: &'static str,
    y_label: &'static str,
    is_logarithmic: bool,
    kinds: &'static [(&'static str, Value)],
}

const TIME: Chart = Chart {
    name: "time",
    title: "Time for one film on ciphertexts",
    y_label: "seconds",
    is_logarithmic: true,
    kinds: &[
        ("measured", |r| median(&encrypted(r)?.seconds)),
        ("of processors", |r| median(&encrypted(r)?.processor_seconds)),
        ("predicted for one thread", |r| Some(export(r)?.predicted_seconds)),
    ],
};
const AUROC: Chart = Chart {
    name: "auroc",
    title: "AUROC on all test films",
    y_label: "AUROC",
    is_logarithmic: false,
    kinds: &[("macro", |r| classifier(r)?.test.macro_.auroc), ("micro", |r| classifier(r)?.test.micro.auroc)],
};
const F1: Chart = Chart {
    name: "f1",
    title: "F1 on all test films",
    y_label: "F1",
    is_logarithmic: false,
    kinds: &[("macro", |r| classifier(r)?.test.macro_.f1), ("micro", |r| classifier(r)?.test.micro.f1)],
};
const CLASSIFIER_PARAMETERS: (&str, Value) = ("classifier", |r| Some(classifier(r)?.parameters as f64));
const CLASSIFIER_SIZE: Chart = Chart {
    name: "parameters",
    title: "Parameters",
    y_label: "parameters",
    is_logarithmic: true,
    kinds: &[CLASSIFIER_PARAMETERS],
};
const SIZE: Chart = Chart {
    kinds: &[CLASSIFIER_PARAMETERS, ("VQGAN", |r| Some(latents(r)?.parameters as f64))],
    ..CLASSIFIER_SIZE
};
const PSNR: Chart = Chart {
    name: "psnr",
    title: "Reconstruction of the test films",
    y_label: "PSNR, dB",
    is_logarithmic: false,
    kinds: &[("PSNR", |r| Some(latents(r)?.test.psnr))],
};
const SSIM: Chart = Chart {
    name: "ssim",
    title: "Reconstruction of the test films",
    y_label: "SSIM",
    is_logarithmic: false,
    kinds: &[("SSIM", |r| latents(r)?.test.ssim)],
};
const ENVIRONMENT: Chart = Chart {
    name: "environment",
    title: "Time for one film",
    y_label: "seconds",
    is_logarithmic: true,
    kinds: &[
        ("clear", |r| median(&encrypted(r)?.clear_seconds)),
        ("encrypted", |r| median(&encrypted(r)?.seconds)),
    ],
};

fn encrypted(record: &Record) -> Option<&EncryptedResult> {
    Some(&record.results.encrypted.as_ref()?.result)
}

fn export(record: &Record) -> Option<&ExportResult> {
    Some(&record.results.export.as_ref()?.result)
}

fn classifier(record: &Record) -> Option<&ClassifierResult> {
    Some(&record.results.classifier.as_ref()?.result)
}

fn latents(record: &Record) -> Option<&LatentsResult> {
    Some(&record.results.latents.as_ref()?.result)
}

/// The charts of a study. Networks differ in size only where the rows are architectures or latents.
fn charts(outline: &Outline, records: &[Record]) -> Vec<Figure> {
    let own: &[Chart] = match outline.rows {
        Rows::Architecture => &[CLASSIFIER_SIZE],
        Rows::LatentSize => &[SIZE, PSNR, SSIM],
        Rows::Environment => &[ENVIRONMENT],
        Rows::Activation => &[],
    };
    let rows = rows(outline, records);
    let is_ordered = outline.rows == Rows::LatentSize;
    [TIME, AUROC, F1].iter().chain(own).map(|chart| chart.drawn(&rows, is_ordered)).collect()
}

impl Chart {
    /// The chart of these rows: a series for each data set and kind of point.
    fn drawn(&self, rows: &[Row<'_>], is_ordered: bool) -> Figure {
        let datasets = in_order(rows.iter().map(|row| row.dataset.to_owned()));
        let categories = in_order(rows.iter().map(|row| row.cell.to_owned()));
        let mut series = Vec::new();
        for dataset in &datasets {
            for (kind, value) in self.kinds {
                let points = categories.iter().map(|cell| {
                    let row = rows.iter().find(|row| row.dataset == *dataset && row.cell == *cell)?;
                    point(row.mean(value)?)
                });
                let name = match (datasets.len(), self.kinds.len()) {
                    (1, _) => (*kind).to_owned(),
                    (_, 1) => dataset.clone(),
                    _ => format!("{dataset}, {kind}"),
                };
                series.push(Series { name, points: points.collect() });
            }
        }
        Figure {
            name: self.name.into(),
            title: self.title.into(),
            x_label: if is_ordered { "downsampling factor".into() } else { String::new() },
            categories,
            y_label: self.y_label.into(),
            is_logarithmic: self.is_logarithmic,
            is_ordered,
            series,
        }
    }
}

fn point(mean: Mean) -> Option<Point> {
    let point = Point { value: mean.value, deviation: mean.deviation.unwrap_or(0.0) };
    point.value.is_finite().then_some(point)
}
