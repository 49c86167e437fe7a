//! An SVG as PNG, with a font of its own: the same pixels on every machine.

use std::sync::{Arc, LazyLock};

use resvg::tiny_skia::{Color, Pixmap, Transform};
use resvg::usvg::{self, fontdb};

/// Pixels of the PNG for one unit of the SVG.
pub const SCALE: f32 = 2.0;

/// The only font that is looked at, whatever a text asks for (`fonts/README.md`).
const FONT: &[u8] = include_bytes!("../fonts/Roboto-Regular.ttf");
const FAMILY: &str = "Roboto";

/// Why a drawing or a picture has no PNG.
#[derive(Debug, thiserror::Error)]
pub enum PngError {
    /// The text is no SVG.
    #[error("cannot read the SVG: {0}")]
    Svg(#[from] usvg::Error),
    /// Its size in pixels is zero or too large for the memory.
    #[error(
        "an SVG of {width} x {height} has no raster: expected a size of at least one unit that fits into memory"
    )]
    Size {
        /// Width in units.
        width: f32,
        /// Height in units.
        height: f32,
    },
    /// The pixels cannot be written as PNG.
    #[error("cannot write the PNG: {0}")]
    Encoding(String),
}

static OPTIONS: LazyLock<usvg::Options<'static>> = LazyLock::new(|| {
    let mut fonts = fontdb::Database::new();
    fonts.load_font_data(FONT.to_vec());
    fonts.set_sans_serif_family(FAMILY);
    fonts.set_monospace_family(FAMILY);
    // What is taken for a family that is not there.
    fonts.set_serif_family(FAMILY);
    usvg::Options { font_family: FAMILY.into(), fontdb: Arc::new(fonts), ..usvg::Options::default() }
});

/// The SVG on white, with [`SCALE`] pixels a unit.
///
/// # Errors
/// The text is no SVG, or its size has no raster.
pub fn render(svg: &str) -> Result<Vec<u8>, PngError> {
    let tree = usvg::Tree::from_str(svg, &OPTIONS)?;
    let (width, height) = (tree.size().width(), tree.size().height());
    let pixels = |units: f32| (units * SCALE).round() as u32;
    let mut raster = Pixmap::new(pixels(width), pixels(height)).ok_or(PngError::Size { width, height })?;
    raster.fill(Color::WHITE);
    resvg::render(&tree, Transform::from_scale(SCALE, SCALE), &mut raster.as_mut());
    raster.encode_png().map_err(|error| PngError::Encoding(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pixels(body: &str) -> image::RgbImage {
        let svg =
            format!("<svg width=\"40\" height=\"30\" xmlns=\"http://www.w3.org/2000/svg\">{body}</svg>");
        image::load_from_memory(&render(&svg).expect("a PNG")).expect("a picture").to_rgb8()
    }

    /// Dark pixels in columns `from..to` of the SVG, as an area in units.
    fn ink(picture: &image::RgbImage, from: u32, to: u32) -> f32 {
        let columns = from * SCALE as u32..to * SCALE as u32;
        let sum: f32 = picture
            .enumerate_pixels()
            .filter(|(x, _, _)| columns.contains(x))
            .map(|(_, _, pixel)| f32::from(255 - pixel[0]) / 255.0)
            .sum();
        sum / (SCALE * SCALE)
    }

    #[test]
    fn shapes_have_their_area_and_what_is_empty_is_white() {
        let picture = pixels("<rect x=\"3\" y=\"4\" width=\"10\" height=\"20\"/>");
        assert_eq!(picture.dimensions(), (80, 60));
        assert!((ink(&picture, 0, 40) - 200.0).abs() < 0.01);
        assert_eq!(picture.get_pixel(79, 59).0, [255; 3]);
    }

    #[test]
    fn text_is_drawn_where_it_is_asked_for_in_any_font() {
        for family in ["sans-serif", "Helvetica Neue", "monospace"] {
            for text in ["f = 8", "\u{b1}", "\u{d7}", "\u{3b1}", "\u{2020}", "\u{e9}"] {
                let picture = pixels(&format!(
                    "<text x=\"20\" y=\"20\" font-size=\"8\" font-family=\"{family}\" text-anchor=\"middle\">{text}</text>"
                ));
                assert!(ink(&picture, 8, 32) > 1.0, "{text} in {family}");
                assert_eq!(ink(&picture, 0, 8) + ink(&picture, 32, 40), 0.0, "{text} in {family}");
            }
        }
    }

    #[test]
    fn what_is_no_svg_is_refused() {
        assert!(matches!(render("<p>no</p>"), Err(PngError::Svg(_))));
        let huge = "<svg width=\"1e9\" height=\"1e9\" xmlns=\"http://www.w3.org/2000/svg\"/>";
        assert!(matches!(render(huge), Err(PngError::Size { .. } | PngError::Svg(_))));
    }
}
