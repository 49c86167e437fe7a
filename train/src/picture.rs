//! Grey pictures: rows of films side by side, as PNG.

use std::path::Path;

use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};

use crate::Result;

/// Pixels between two films in a grid.
const GAP: usize = 2;

/// A grey picture of 8 bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Row-major, `height * width`.
    pub pixels: Vec<u8>,
}

impl Picture {
    /// Films of `height x width` pixels in `[0, 1]`, one list per row of the grid.
    #[must_use]
    pub fn grid(rows: &[Vec<&[f32]>], height: usize, width: usize) -> Self {
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let total_height = (rows.len() * (height + GAP)).saturating_sub(GAP).max(1);
        let total_width = (columns * (width + GAP)).saturating_sub(GAP).max(1);
        let mut pixels = vec![0; total_height * total_width];
        for (r, row) in rows.iter().enumerate() {
            for (c, film) in row.iter().enumerate() {
                for (y, line) in film.chunks_exact(width).take(height).enumerate() {
                    let start = (r * (height + GAP) + y) * total_width + c * (width + GAP);
                    for (target, value) in pixels[start..start + width].iter_mut().zip(line) {
                        *target = (value.clamp(0.0, 1.0) * 255.0 + 0.5) as u8;
                    }
                }
            }
        }
        Self { height: total_height, width: total_width, pixels }
    }

    /// The picture as a PNG file.
    ///
    /// # Panics
    ///
    /// Panics if there are not `height * width` pixels.
    #[must_use]
    pub fn png(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        PngEncoder::new(&mut bytes)
            .write_image(&self.pixels, self.width as u32, self.height as u32, ExtendedColorType::L8)
            .expect("a picture has height * width pixels, and memory does not fail");
        bytes
    }

    /// Writes the picture as a PNG file.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        Ok(durable::write(path, &self.png())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_puts_films_in_their_places() {
        let (dark, light) = (vec![0.0; 4], vec![1.0; 4]);
        let grid = Picture::grid(&[vec![&dark, &light], vec![&light, &dark]], 2, 2);
        assert_eq!((grid.height, grid.width), (6, 6));
        assert_eq!(grid.pixels[..6], [0, 0, 0, 0, 255, 255]);
        assert_eq!(grid.pixels[24..30], [255, 255, 0, 0, 0, 0]);
        assert_eq!(&grid.png()[1..4], b"PNG");
    }
}
