//! Films and their reconstructions by each cell side by side, whole and with the region enlarged where they differ
//! most.

use std::fmt::Write as _;
use std::path::Path;

use report::{Picture, escape};

use super::picture::{PICTURED_FILMS, picture_name};
use super::record::StudyFolder;
use super::study::in_order;
use super::tables::Row;

/// Most cells whose reconstructions stand side by side.
const MOST_PICTURED: usize = 6;
/// Side of a picture in the drawing, the gap between two, and the height of the line of names.
const SHOWN: f64 = 150.0;
const GAP: f64 = 10.0;
const HEAD: f64 = 26.0;
/// Share of the side that is enlarged.
const REGION: u32 = 4;

/// One drawing a data set, of the first record of each cell that has pictures: its file name, and the `<svg>` element.
pub fn all(rows: &[Row<'_>], folder: &StudyFolder) -> Vec<(String, String)> {
    let datasets = in_order(rows.iter().map(|row| row.dataset.to_owned()));
    let of = |dataset: &String| {
        let cells: Vec<&Row<'_>> =
            rows.iter().filter(|row| row.dataset == *dataset).take(MOST_PICTURED).collect();
        let films: Vec<Strip> =
            (0..PICTURED_FILMS).filter_map(|film| Strip::read(&cells, film, folder)).collect();
        let name = if datasets.len() == 1 {
            "reconstructions".to_owned()
        } else {
            let safe = dataset.to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
            format!("reconstructions-{safe}")
        };
        (!films.is_empty()).then(|| (name, draw(&films)))
    };
    datasets.iter().filter_map(of).collect()
}

/// One film, then each cell's reconstruction of it, with their names. There are at least two pictures, all of one size.
struct Strip {
    pictures: Vec<(String, Picture)>,
}

/// A square in a picture, in pixels.
struct Region {
    x: u32,
    y: u32,
    side: u32,
}

impl Strip {
    fn read(rows: &[&Row<'_>], film: usize, folder: &StudyFolder) -> Option<Self> {
        let mut pictures: Vec<(String, Picture)> = Vec::new();
        for row in rows {
            let mut cells = row.records.iter().map(|record| folder.cell(&record.id));
            let cell = cells.find(|cell| cell.join(picture_name("film", film)).exists());
            let Some(cell) = cell else { continue };
            let original = read_picture(&cell.join(picture_name("film", film)))?;
            let reconstruction = read_picture(&cell.join(picture_name("reconstruction", film)))?;
            if pictures.is_empty() {
                pictures.push(("film".into(), original));
            }
            if reconstruction.size() == pictures[0].1.size() {
                pictures.push((row.cell.to_owned(), reconstruction));
            }
        }
        (pictures.len() > 1).then_some(Self { pictures })
    }

    /// The square, a quarter of the side wide, in which the coarsest reconstruction, the last, is worst.
    fn region(&self) -> Region {
        let (film, coarsest) = (&self.pictures[0].1, &self.pictures[self.pictures.len() - 1].1);
        let (width, height) = film.size();
        let all = width.min(height);
        let side = (all / REGION).max(1);
        let step = (side / 4).max(1) as usize;
        let error = |x0: u32, y0: u32| -> u64 {
            let pixels = (y0..y0 + side).flat_map(|y| (x0..x0 + side).map(move |x| (x, y)));
            pixels.map(|(x, y)| u64::from(film.pixel(x, y).abs_diff(coarsest.pixel(x, y))).pow(2)).sum()
        };
        let corners =
            (0..=all - side).step_by(step).flat_map(|y| (0..=all - side).step_by(step).map(move |x| (x, y)));
        let (x, y) = corners.max_by_key(|&(x, y)| error(x, y)).unwrap_or((0, 0));
        Region { x, y, side }
    }
}

fn read_picture(file: &Path) -> Option<Picture> {
    Picture::from_png(&std::fs::read(file).ok()?)
}

/// Two rows a film: the whole film with the region framed, and the region enlarged.
fn draw(strips: &[Strip]) -> String {
    let columns = strips.iter().map(|strip| strip.pictures.len()).max().unwrap_or(0);
    let width = columns as f64 * (SHOWN + GAP) + GAP;
    let height = HEAD + strips.len() as f64 * 2.0 * (SHOWN + GAP) + GAP;
    let mut svg = format!(
        "<svg width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         xmlns=\"http://www.w3.org/2000/svg\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    let left = |column: usize| GAP + column as f64 * (SHOWN + GAP);
    for (column, (name, _)) in strips.iter().take(1).flat_map(|strip| &strip.pictures).enumerate() {
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"18\" font-family=\"sans-serif\" font-size=\"13\" text-anchor=\"middle\">{}</text>",
            left(column) + SHOWN / 2.0,
            escape(name)
        );
    }
    for (index, strip) in strips.iter().enumerate() {
        let region = strip.region();
        let y = HEAD + index as f64 * 2.0 * (SHOWN + GAP);
        for (column, (_, picture)) in strip.pictures.iter().enumerate() {
            draw_column(&mut svg, picture, &region, left(column), y);
        }
    }
    svg.push_str("</svg>");
    svg
}

/// One picture with its region framed at `(x, y)`, and the region enlarged below.
fn draw_column(svg: &mut String, picture: &Picture, region: &Region, x: f64, y: f64) {
    let part = picture.part(region.x, region.y, region.side);
    for (shown, y) in [(picture, y), (&part, y + SHOWN + GAP)] {
        let _ = writeln!(
            svg,
            "<image x=\"{x}\" y=\"{y}\" width=\"{SHOWN}\" height=\"{SHOWN}\" \
             style=\"image-rendering:pixelated\" href=\"{}\"/>",
            shown.data_uri()
        );
    }
    let zoom = SHOWN / f64::from(picture.size().0);
    let [left, top, side] = [region.x, region.y, region.side].map(|pixels| f64::from(pixels) * zoom);
    let _ = writeln!(
        svg,
        "<rect x=\"{}\" y=\"{}\" width=\"{side}\" height=\"{side}\" fill=\"none\" stroke=\"#d55e00\" \
         stroke-width=\"1.5\"/>",
        x + left,
        y + top
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_is_where_the_coarsest_reconstruction_is_worst() {
        let film: Vec<f32> = (0..32 * 32)
            .map(|k| (k % 32, k / 32))
            .map(|(x, y)| if (18..24).contains(&x) && (9..15).contains(&y) { 1.0 } else { 0.0 })
            .collect();
        let picture = |values: &[f32]| Picture::from_values(values, 32, 32, 0.0, 1.0);
        let pictures = vec![("film".into(), picture(&film)), ("f = 16".into(), picture(&[0.0; 32 * 32]))];
        let strip = Strip { pictures };
        let Region { x, y, side } = strip.region();
        assert_eq!(side, 8);
        assert!((16..=18).contains(&x) && (7..=9).contains(&y), "{x}, {y}");
        let svg = draw(&[strip]);
        assert_eq!(svg.matches("<image").count(), 4, "film and reconstruction, whole and enlarged");
        let png = Picture::from_png(&report::png::render(&svg).expect("a PNG")).expect("a picture");
        let middle = |picture: &Picture, column: f64, row: f64| {
            let place = |k: f64, head: f64| 2 * (head + GAP + k * (SHOWN + GAP) + SHOWN / 2.0) as u32;
            picture.pixel(place(column, 0.0), place(row, HEAD - GAP))
        };
        assert!(middle(&png, 0.0, 1.0) > 250 && middle(&png, 1.0, 1.0) < 5, "the region of each is there");
    }
}
