//! The figures of a study: what each cell costs and what it gives, and reconstructions beside each other with an enlarged region.

use std::fmt::Write as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::GrayImage;

use super::record::{Outline, Record, StudyFolder};
use super::results::median;
use super::stages::{PICTURED_FILMS, picture_name};
use super::study::{Rows, in_order};
use super::tables::{Mean, Row, rows};
use crate::report::escape;
use crate::report::figure::{Figure, Point, Series};
use crate::report::raster::Canvas;

/// A figure in both formats.
pub struct Drawing {
    /// Its file name, without extension.
    pub name: String,
    /// As an `<svg>` element.
    pub svg: String,
    /// As PNG.
    pub png: Vec<u8>,
}

/// Most cells whose reconstructions stand side by side.
const MOST_PICTURED: usize = 6;

/// All figures that the records have points for.
pub fn all(outline: &Outline, records: &[Record], folder: &StudyFolder) -> Vec<Drawing> {
    let charts = charts(outline, records).into_iter().filter(Figure::has_points);
    let mut drawings: Vec<Drawing> = charts
        .map(|figure| Drawing { svg: figure.to_svg(), png: figure.to_png(), name: figure.name.clone() })
        .collect();
    drawings.extend(reconstructions(outline, records, folder));
    drawings
}

/// What is on the vertical axis of a chart.
struct Axis {
    name: &'static str,
    title: &'static str,
    y_label: &'static str,
    is_logarithmic: bool,
}

fn charts(outline: &Outline, records: &[Record]) -> Vec<Figure> {
    let rows = rows(outline, records);
    let datasets = in_order(rows.iter().map(|row| row.dataset.to_owned()));
    let categories = in_order(rows.iter().map(|row| row.cell.to_owned()));
    let chart = |axis: Axis, kinds: &[(&str, Figures)]| {
        let mut series = Vec::new();
        for dataset in &datasets {
            for (kind, figure) in kinds {
                let points = categories.iter().map(|cell| {
                    let row = rows.iter().find(|row| row.dataset == *dataset && row.cell == *cell)?;
                    point(row.mean(figure)?)
                });
                let name = match (datasets.len(), kinds.len()) {
                    (1, _) => (*kind).to_owned(),
                    (_, 1) => dataset.clone(),
                    _ => format!("{dataset}, {kind}"),
                };
                series.push(Series { name, points: points.collect() });
            }
        }
        let is_ordered = outline.rows == Rows::LatentSize;
        Figure {
            name: axis.name.into(),
            title: axis.title.into(),
            x_label: if is_ordered { "downsampling factor".into() } else { String::new() },
            categories: categories.clone(),
            y_label: axis.y_label.into(),
            is_logarithmic: axis.is_logarithmic,
            is_ordered,
            series,
        }
    };
    let axis = |name, title, y_label, is_logarithmic| Axis { name, title, y_label, is_logarithmic };
    let mut figures = vec![
        chart(
            axis("time", "Time for one film on ciphertexts", "seconds", true),
            &[
                ("measured", |r| median(&r.results.encrypted.as_ref()?.result.seconds)),
                ("of processors", |r| median(&r.results.encrypted.as_ref()?.result.processor_seconds)),
                ("predicted for one thread", |r| Some(r.results.export.as_ref()?.result.predicted_seconds)),
            ],
        ),
        chart(
            axis("auroc", "AUROC on all test films", "AUROC", false),
            &[
                ("macro", |r| r.results.classifier.as_ref()?.result.test.macro_.auroc),
                ("micro", |r| r.results.classifier.as_ref()?.result.test.micro.auroc),
            ],
        ),
        chart(
            axis("f1", "F1 on all test films", "F1", false),
            &[
                ("macro", |r| r.results.classifier.as_ref()?.result.test.macro_.f1),
                ("micro", |r| r.results.classifier.as_ref()?.result.test.micro.f1),
            ],
        ),
    ];
    // Elsewhere the networks are all of about one size.
    let classifier: (&str, Figures) =
        ("classifier", |r| Some(r.results.classifier.as_ref()?.result.parameters as f64));
    if outline.rows == Rows::Architecture {
        figures.push(chart(axis("parameters", "Parameters", "parameters", true), &[classifier]));
    }
    if outline.rows == Rows::LatentSize {
        let vqgan: (&str, Figures) =
            ("VQGAN", |r| Some(r.results.latents.as_ref()?.result.parameters as f64));
        figures.push(chart(axis("parameters", "Parameters", "parameters", true), &[classifier, vqgan]));
        figures.push(chart(
            axis("psnr", "Reconstruction of the test films", "PSNR, dB", false),
            &[("PSNR", |r| Some(r.results.latents.as_ref()?.result.test.psnr))],
        ));
        figures.push(chart(
            axis("ssim", "Reconstruction of the test films", "SSIM", false),
            &[("SSIM", |r| r.results.latents.as_ref()?.result.test.ssim)],
        ));
    }
    if outline.rows == Rows::Environment {
        figures.push(chart(
            axis("environment", "Time for one film", "seconds", true),
            &[
                ("clear", |r| median(&r.results.encrypted.as_ref()?.result.clear_seconds)),
                ("encrypted", |r| median(&r.results.encrypted.as_ref()?.result.seconds)),
            ],
        ));
    }
    figures
}

/// A figure of one record.
type Figures = fn(&Record) -> Option<f64>;

fn point(mean: Mean) -> Option<Point> {
    let point = Point { value: mean.value, deviation: mean.deviation.unwrap_or(0.0) };
    point.value.is_finite().then_some(point)
}

/// Films and their reconstructions, one drawing a data set: the first record of each cell that has pictures.
fn reconstructions(outline: &Outline, records: &[Record], folder: &StudyFolder) -> Vec<Drawing> {
    if outline.rows != Rows::LatentSize {
        return Vec::new();
    }
    let rows = rows(outline, records);
    let datasets = in_order(rows.iter().map(|row| row.dataset.to_owned()));
    let of = |dataset: &String| {
        let cells: Vec<&Row<'_>> =
            rows.iter().filter(|row| row.dataset == *dataset).take(MOST_PICTURED).collect();
        let films: Vec<Strip> = (0..PICTURED_FILMS).filter_map(|film| strip(&cells, film, folder)).collect();
        let name = if datasets.len() == 1 {
            "reconstructions".to_owned()
        } else {
            format!(
                "reconstructions-{}",
                dataset.to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "-")
            )
        };
        (!films.is_empty()).then(|| draw_strips(name, &films))
    };
    datasets.iter().filter_map(of).collect()
}

/// One film: its name and raster, then each cell's reconstruction.
struct Strip {
    pictures: Vec<(String, GrayImage)>,
}

fn strip(rows: &[&Row<'_>], film: usize, folder: &StudyFolder) -> Option<Strip> {
    let mut pictures: Vec<(String, GrayImage)> = Vec::new();
    for row in rows {
        let cell = row
            .records
            .iter()
            .map(|r| folder.cell(&r.id))
            .find(|c| c.join(picture_name("film", film)).exists());
        let Some(cell) = cell else { continue };
        let original = read_picture(&cell.join(picture_name("film", film)))?;
        let reconstruction = read_picture(&cell.join(picture_name("reconstruction", film)))?;
        if pictures.is_empty() {
            pictures.push(("film".into(), original));
        }
        if reconstruction.dimensions() == pictures[0].1.dimensions() {
            pictures.push((row.cell.to_owned(), reconstruction));
        }
    }
    (pictures.len() > 1).then_some(Strip { pictures })
}

fn read_picture(file: &Path) -> Option<GrayImage> {
    Some(image::load_from_memory(&std::fs::read(file).ok()?).ok()?.to_luma8())
}

/// Side of a picture in the drawing, and the gap between two.
const SHOWN: f64 = 150.0;
const GAP: f64 = 10.0;
/// Share of the side that is enlarged.
const REGION: u32 = 4;

/// Corner of the square, a quarter of the side wide, in which the coarsest reconstruction, the last, is worst.
fn region(strip: &Strip) -> (u32, u32, u32) {
    let (film, coarsest) = (&strip.pictures[0].1, &strip.pictures[strip.pictures.len() - 1].1);
    let side = film.width().min(film.height());
    let window = (side / REGION).max(1);
    let step = (window / 4).max(1) as usize;
    let error = |x0: u32, y0: u32| -> u64 {
        let cells = (y0..y0 + window).flat_map(|y| (x0..x0 + window).map(move |x| (x, y)));
        cells
            .map(|(x, y)| u64::from(film.get_pixel(x, y)[0].abs_diff(coarsest.get_pixel(x, y)[0])).pow(2))
            .sum()
    };
    let corners = (0..=side - window)
        .step_by(step)
        .flat_map(|y| (0..=side - window).step_by(step).map(move |x| (x, y)));
    let (x, y) = corners.max_by_key(|&(x, y)| error(x, y)).unwrap_or((0, 0));
    (x, y, window)
}

/// Two rows a film: the whole film with the region framed, and the region enlarged.
fn draw_strips(name: String, strips: &[Strip]) -> Drawing {
    let columns = strips.iter().map(|strip| strip.pictures.len()).max().unwrap_or(0);
    let width = (columns as f64 * (SHOWN + GAP) + GAP) as u32;
    let height = (strips.len() as f64 * 2.0 * (SHOWN + GAP) + 26.0 + GAP) as u32;
    let mut canvas = Canvas::new(width, height);
    let mut svg = format!(
        "<svg width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         xmlns=\"http://www.w3.org/2000/svg\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    const FRAME: [u8; 3] = [213, 94, 0];
    for (index, strip) in strips.iter().enumerate() {
        let (rx, ry, window) = region(strip);
        for (column, (label, picture)) in strip.pictures.iter().enumerate() {
            let x = GAP + column as f64 * (SHOWN + GAP);
            let y = 26.0 + index as f64 * 2.0 * (SHOWN + GAP);
            if index == 0 {
                canvas.text(label, [x + SHOWN / 2.0, 14.0], 12.0, [27, 31, 36]);
                let _ = writeln!(
                    svg,
                    "<text x=\"{}\" y=\"18\" font-family=\"sans-serif\" font-size=\"13\" text-anchor=\"middle\">{}</text>",
                    x + SHOWN / 2.0,
                    escape(label)
                );
            }
            let part = image::imageops::crop_imm(picture, rx, ry, window, window).to_image();
            for (raster, y) in [(picture, y), (&part, y + SHOWN + GAP)] {
                canvas.picture(
                    [x, y],
                    raster.as_raw(),
                    raster.width() as usize,
                    SHOWN / f64::from(raster.width()),
                );
                let _ = writeln!(
                    svg,
                    "<image x=\"{x}\" y=\"{y}\" width=\"{SHOWN}\" height=\"{SHOWN}\" \
                     style=\"image-rendering:pixelated\" href=\"{}\"/>",
                    data_uri(raster)
                );
            }
            let zoom = SHOWN / f64::from(picture.width());
            let corner = [x + f64::from(rx) * zoom, y + f64::from(ry) * zoom];
            let side = f64::from(window) * zoom;
            let far = corner.map(|v| v + side);
            for (from, to) in [
                (corner, [far[0], corner[1]]),
                ([far[0], corner[1]], far),
                (far, [corner[0], far[1]]),
                ([corner[0], far[1]], corner),
            ] {
                canvas.line(from, to, 1.5, FRAME, 1.0);
            }
            let _ = writeln!(
                svg,
                "<rect x=\"{}\" y=\"{}\" width=\"{side}\" height=\"{side}\" fill=\"none\" stroke=\"#d55e00\" \
                 stroke-width=\"1.5\"/>",
                corner[0], corner[1]
            );
        }
    }
    svg.push_str("</svg>");
    Drawing { name, svg, png: canvas.to_png() }
}

fn data_uri(picture: &GrayImage) -> String {
    let mut png = std::io::Cursor::new(Vec::new());
    match picture.write_to(&mut png, image::ImageFormat::Png) {
        Ok(()) => format!("data:image/png;base64,{}", STANDARD.encode(png.into_inner())),
        Err(_) => String::from("data:,"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_is_where_the_coarsest_reconstruction_is_worst() {
        let film = GrayImage::from_fn(32, 32, |x, y| {
            image::Luma([if (18..24).contains(&x) && (9..15).contains(&y) { 255 } else { 0 }])
        });
        let pictures = vec![("film".into(), film), ("f = 16".into(), GrayImage::new(32, 32))];
        let strip = Strip { pictures };
        let (x, y, window) = region(&strip);
        assert_eq!(window, 8);
        assert!((16..=18).contains(&x) && (7..=9).contains(&y), "{x}, {y}");
        let drawing = draw_strips("reconstructions".into(), &[strip]);
        assert_eq!(drawing.svg.matches("<image").count(), 4, "film and reconstruction, whole and enlarged");
        assert!(image::load_from_memory(&drawing.png).is_ok());
    }
}
