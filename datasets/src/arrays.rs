//! Films of array files: bytes in memory, resized once while the file is read.

use std::path::Path;

use crate::source::Pixels;
use crate::{DataError, Film, Fit, Result};

/// The most bytes that the films of all splits may take in memory, after resizing.
pub(crate) const MAX_MEMORY: u64 = 16 << 30;

/// Films as bytes, all of one side.
pub(crate) struct Bytes {
    pub side: usize,
    pub bytes: Vec<u8>,
}

impl Pixels for Bytes {
    fn film(&self, index: usize, side: usize, fit: Fit) -> Result<Film> {
        let area = self.side * self.side;
        let film = Film::from_bytes(self.side, self.side, &self.bytes[index * area..][..area]);
        Ok(if side == self.side { film } else { film.resized(side, fit) })
    }
}

/// An error about an array file.
pub(crate) fn array_error(path: &Path, problem: String, advice: &str) -> DataError {
    DataError::Array { path: path.into(), problem, advice: advice.into() }
}

/// The luma of ITU-R BT.709, as image files are converted, in [0, 1].
pub(crate) fn luma(red: u8, green: u8, blue: u8) -> f32 {
    (0.2126 * f32::from(red) + 0.7152 * f32::from(green) + 0.0722 * f32::from(blue)) / 255.0
}

/// One stored film (grey, or red-green-blue interleaved) at `side x side`.
pub(crate) fn resize(pixels: &[u8], height: usize, width: usize, side: usize, fit: Fit) -> Vec<u8> {
    let film = if pixels.len() == height * width {
        if height == side && width == side {
            return pixels.to_vec();
        }
        Film::from_bytes(height, width, pixels)
    } else {
        let pixels = pixels.as_chunks::<3>().0.iter().map(|&[r, g, b]| luma(r, g, b)).collect();
        Film { height, width, pixels }
    };
    film.resized(side, fit).to_bytes()
}
