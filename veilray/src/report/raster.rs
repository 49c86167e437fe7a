//! A canvas of pixels for figures as PNG: lines, circles and text with smooth edges, no font of the system.
//!
//! Coordinates are those of the SVG figures; the canvas has [`SCALE`] pixels a unit. Text comes from pre-rendered glyphs of Noto Sans
//! Mono (Latin 1), scaled; other characters become `?`.

use std::convert::Infallible;

use image::{ImageFormat, Rgb, RgbImage};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster};
use plotters_backend::text_anchor::{HPos, VPos};
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind,
    FontTransform,
};

/// Pixels a unit.
pub const SCALE: f64 = 2.0;
/// Height of a glyph's box over the size of its font.
const BOX_OVER_SIZE: f64 = 1.37;
/// Width of a glyph's box over its height.
const WIDTH_OVER_HEIGHT: f64 = 0.44;

/// A canvas, white at first.
pub struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<[f32; 3]>,
}

impl Canvas {
    /// A canvas of `width x height` units.
    pub fn new(width: u32, height: u32) -> Self {
        let (width, height) = ((f64::from(width) * SCALE) as usize, (f64::from(height) * SCALE) as usize);
        Self { width, height, pixels: vec![[255.0; 3]; width * height] }
    }

    /// The canvas as PNG.
    pub fn to_png(&self) -> Vec<u8> {
        let picture = RgbImage::from_fn(self.width as u32, self.height as u32, |x, y| {
            Rgb(self.pixels[y as usize * self.width + x as usize].map(|value| value.round() as u8))
        });
        let mut png = std::io::Cursor::new(Vec::new());
        match picture.write_to(&mut png, ImageFormat::Png) {
            Ok(()) => png.into_inner(),
            Err(_) => Vec::new(),
        }
    }

    /// Mixes a colour into a pixel; `share` from 0 to 1.
    fn mix(&mut self, x: i64, y: i64, colour: [u8; 3], share: f64) {
        let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y)) else { return };
        if x < self.width && y < self.height {
            let share = share.clamp(0.0, 1.0) as f32;
            for (old, new) in self.pixels[y * self.width + x].iter_mut().zip(colour) {
                *old += share * (f32::from(new) - *old);
            }
        }
    }

    /// Colours each pixel of a box by a coverage that depends on its centre.
    fn cover(&mut self, x: [f64; 2], y: [f64; 2], colour: [u8; 3], coverage: impl Fn(f64, f64) -> f64) {
        let range = |[low, high]: [f64; 2], end: usize| {
            (low.floor() as i64).max(0)..=(high.ceil() as i64).min(end as i64 - 1)
        };
        for row in range(y, self.height) {
            for column in range(x, self.width) {
                let share = coverage(column as f64 + 0.5, row as f64 + 0.5);
                if share > 0.0 {
                    self.mix(column, row, colour, share);
                }
            }
        }
    }

    /// A line between two points in units, with round ends.
    pub fn line(&mut self, from: [f64; 2], to: [f64; 2], width: f64, colour: [u8; 3], alpha: f64) {
        let ([ax, ay], [bx, by]) = (from.map(|v| v * SCALE), to.map(|v| v * SCALE));
        let (dx, dy, half) = (bx - ax, by - ay, 0.5 * width * SCALE);
        let length = (dx * dx + dy * dy).max(1e-12);
        let reach = half + 1.0;
        self.cover(
            [ax.min(bx) - reach, ax.max(bx) + reach],
            [ay.min(by) - reach, ay.max(by) + reach],
            colour,
            |x, y| {
                let t = (((x - ax) * dx + (y - ay) * dy) / length).clamp(0.0, 1.0);
                let distance = (x - ax - t * dx).hypot(y - ay - t * dy);
                alpha * (half + 0.5 - distance).clamp(0.0, 1.0)
            },
        );
    }

    /// A filled rectangle between two corners in units.
    pub fn rectangle(&mut self, from: [f64; 2], to: [f64; 2], colour: [u8; 3], alpha: f64) {
        let ([x0, y0], [x1, y1]) = (from.map(|v| v * SCALE), to.map(|v| v * SCALE));
        self.cover([x0, x1], [y0, y1], colour, |x, y| {
            let inside = |v: f64, low: f64, high: f64| v >= low && v <= high;
            if inside(x, x0, x1) && inside(y, y0, y1) { alpha } else { 0.0 }
        });
    }

    /// A grey picture, `values` row-major from 0 to 255, from a corner in units, each of its pixels `zoom` units wide.
    pub fn picture(&mut self, corner: [f64; 2], values: &[u8], columns: usize, zoom: f64) {
        let cell = zoom * SCALE;
        let [x0, y0] = corner.map(|v| v * SCALE);
        let rows = values.len() / columns.max(1);
        for y in 0..(rows as f64 * cell) as usize {
            for x in 0..(columns as f64 * cell) as usize {
                let (row, column) = ((y as f64 / cell) as usize, (x as f64 / cell) as usize);
                let value = values.get(row * columns + column).copied().unwrap_or(0);
                self.mix(x0 as i64 + x as i64, y0 as i64 + y as i64, [value; 3], 1.0);
            }
        }
    }

    /// A text of the given font size in units, centred at `point`.
    pub fn text(&mut self, text: &str, point: [f64; 2], size: f64, colour: [u8; 3]) {
        let (width, height) = text_size(text, size);
        let place = |x: f64, y: f64| (point[0] - 0.5 * width + x, point[1] - 0.5 * height + y);
        self.glyphs(text, size, colour, 1.0, place);
    }

    /// Draws glyphs; `place` maps a point of the text's box, in units, to the canvas.
    fn glyphs(
        &mut self,
        text: &str,
        size: f64,
        colour: [u8; 3],
        alpha: f64,
        place: impl Fn(f64, f64) -> (f64, f64),
    ) {
        let height = size * BOX_OVER_SIZE;
        let width = height * WIDTH_OVER_HEIGHT;
        // Two samples a pixel along each axis, so that rotated and reduced glyphs stay whole.
        let step = 0.5 / SCALE;
        for (index, character) in text.chars().enumerate() {
            let glyph = get_raster(character, FontWeight::Regular, RasterHeight::Size32)
                .or_else(|| get_raster('?', FontWeight::Regular, RasterHeight::Size32));
            let Some(glyph) = glyph else { continue };
            let sample = |x: f64, y: f64| f64::from(glyph.pixel(x as usize, y as usize).unwrap_or(0)) / 255.0;
            let (columns, rows) = ((width / step) as usize, (height / step) as usize);
            for row in 0..rows {
                for column in 0..columns {
                    let (x, y) = (column as f64 * step, row as f64 * step);
                    let share = sample(x / width * glyph.width() as f64, y / height * glyph.height() as f64);
                    if share > 0.0 {
                        let (x, y) = place(index as f64 * width + x, y);
                        // Four samples cover a pixel together: 1 - (1 - a)^4 = share.
                        let part = 1.0 - (1.0 - (alpha * share).min(0.999)).powf(0.25);
                        self.mix((x * SCALE).floor() as i64, (y * SCALE).floor() as i64, colour, part);
                    }
                }
            }
        }
    }
}

/// Width and height of a text in units.
pub fn text_size(text: &str, size: f64) -> (f64, f64) {
    let height = size * BOX_OVER_SIZE;
    (text.chars().count() as f64 * height * WIDTH_OVER_HEIGHT, height)
}

/// plotters draws on a canvas through this.
pub struct CanvasBackend<'a>(pub &'a mut Canvas);

type Drawn = Result<(), DrawingErrorKind<Infallible>>;

fn point((x, y): BackendCoord) -> [f64; 2] {
    [f64::from(x) + 0.5, f64::from(y) + 0.5]
}

impl DrawingBackend for CanvasBackend<'_> {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        ((self.0.width as f64 / SCALE) as u32, (self.0.height as f64 / SCALE) as u32)
    }

    fn ensure_prepared(&mut self) -> Drawn {
        Ok(())
    }

    fn present(&mut self) -> Drawn {
        Ok(())
    }

    fn draw_pixel(&mut self, (x, y): BackendCoord, colour: BackendColor) -> Drawn {
        let corner = [f64::from(x), f64::from(y)];
        self.0.rectangle(corner, corner.map(|v| v + 1.0), rgb(colour), colour.alpha);
        Ok(())
    }

    fn draw_line<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S) -> Drawn {
        let colour = style.color();
        self.0.line(point(from), point(to), f64::from(style.stroke_width()), rgb(colour), colour.alpha);
        Ok(())
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        from: BackendCoord,
        to: BackendCoord,
        style: &S,
        fill: bool,
    ) -> Drawn {
        if fill {
            let corner = |(x, y): BackendCoord| [f64::from(x), f64::from(y)];
            self.0.rectangle(
                corner(from),
                corner((to.0 + 1, to.1 + 1)),
                rgb(style.color()),
                style.color().alpha,
            );
            return Ok(());
        }
        let corners = [from, (to.0, from.1), to, (from.0, to.1), from];
        self.draw_path(corners, style)
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Drawn {
        let mut before = None;
        for next in path {
            if let Some(before) = before {
                self.draw_line(before, next, style)?;
            }
            before = Some(next);
        }
        Ok(())
    }

    fn draw_circle<S: BackendStyle>(
        &mut self,
        centre: BackendCoord,
        radius: u32,
        style: &S,
        fill: bool,
    ) -> Drawn {
        let ([cx, cy], radius) = (point(centre).map(|v| v * SCALE), f64::from(radius) * SCALE);
        let (colour, half) = (style.color(), 0.5 * f64::from(style.stroke_width()) * SCALE);
        let reach = radius + half + 1.0;
        self.0.cover([cx - reach, cx + reach], [cy - reach, cy + reach], rgb(colour), |x, y| {
            let distance = (x - cx).hypot(y - cy);
            let outside = if fill { distance - radius } else { (distance - radius).abs() - half };
            colour.alpha * (0.5 - outside).clamp(0.0, 1.0)
        });
        Ok(())
    }

    fn draw_text<T: BackendTextStyle>(&mut self, text: &str, style: &T, at: BackendCoord) -> Drawn {
        let (width, height) = text_size(text, style.size());
        let dx = match style.anchor().h_pos {
            HPos::Left => 0.0,
            HPos::Center => -0.5 * width,
            HPos::Right => -width,
        };
        let dy = match style.anchor().v_pos {
            VPos::Top => 0.0,
            VPos::Center => -0.5 * height,
            VPos::Bottom => -height,
        };
        let [px, py] = point(at);
        let transform = style.transform();
        let place = |x: f64, y: f64| {
            let (x, y) = (x + dx, y + dy);
            let (x, y) = match transform {
                FontTransform::None => (x, y),
                FontTransform::Rotate90 => (-y, x),
                FontTransform::Rotate180 => (-x, -y),
                FontTransform::Rotate270 => (y, -x),
            };
            (px + x, py + y)
        };
        self.0.glyphs(text, style.size(), rgb(style.color()), style.color().alpha, place);
        Ok(())
    }

    fn estimate_text_size<T: BackendTextStyle>(
        &self,
        text: &str,
        style: &T,
    ) -> Result<(u32, u32), DrawingErrorKind<Infallible>> {
        let (width, height) = text_size(text, style.size());
        Ok((width.ceil() as u32, height.ceil() as u32))
    }
}

fn rgb(colour: BackendColor) -> [u8; 3] {
    let (r, g, b) = colour.rgb;
    [r, g, b]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ink(canvas: &Canvas) -> f64 {
        canvas.pixels.iter().map(|p| f64::from(255.0 - p[0]) / 255.0).sum()
    }

    #[test]
    fn shapes_have_their_area() {
        let mut canvas = Canvas::new(40, 40);
        canvas.line([5.0, 20.0], [35.0, 20.0], 3.0, [0; 3], 1.0);
        let expected = (30.0 * 3.0 + std::f64::consts::PI * 1.5 * 1.5) * SCALE * SCALE;
        assert!((ink(&canvas) / expected - 1.0).abs() < 0.05, "{} against {expected}", ink(&canvas));
        let mut canvas = Canvas::new(40, 40);
        canvas.rectangle([3.0, 4.0], [13.0, 24.0], [0; 3], 1.0);
        assert!((ink(&canvas) - 200.0 * SCALE * SCALE).abs() < 1.0);
    }

    #[test]
    fn text_is_drawn_where_it_is_asked_for() {
        let mut canvas = Canvas::new(120, 30);
        canvas.text("f = 8 ± 1 µ", [60.0, 15.0], 11.0, [0; 3]);
        let (width, _) = text_size("f = 8 ± 1 µ", 11.0);
        assert!(ink(&canvas) > 100.0);
        let left = ((60.0 - 0.5 * width) * SCALE) as usize;
        let outside =
            canvas.pixels.chunks(canvas.width).flat_map(|row| &row[..left]).all(|p| *p == [255.0; 3]);
        assert!(outside, "nothing is drawn left of the text");
    }

    #[test]
    fn a_canvas_becomes_a_png_of_its_size() {
        let png = image::load_from_memory(&Canvas::new(30, 20).to_png()).expect("a PNG").to_rgb8();
        assert_eq!(png.dimensions(), ((30.0 * SCALE) as u32, (20.0 * SCALE) as u32));
    }
}
