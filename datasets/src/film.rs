//! A grey film and its resizing.
//!
//! Pixels are `f32` in `[0, 1]`, row by row, 0 black (air) and 1 white (bone). Reducing averages areas, as the
//! downscaled public sets do (an exact box filter: every source pixel counts by the area it shares with the
//! target pixel); enlarging interpolates linearly.

use serde::{Deserialize, Serialize};

/// A grey film: `height x width` pixels in `[0, 1]`, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Film {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// `height * width` values in `[0, 1]`.
    pub pixels: Vec<f32>,
}

/// How a film that is not square becomes square.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// Keep the central square of the short side, as the common pipelines do.
    #[default]
    Crop,
    /// Add black bands, so that nothing is lost.
    Pad,
    /// Scale the two axes separately.
    Stretch,
}

impl Film {
    /// The film at `side x side` pixels.
    #[must_use]
    pub fn resized(&self, side: usize, fit: Fit) -> Film {
        if self.height == side && self.width == side {
            return self.clone();
        }
        match fit {
            Fit::Stretch => self.scaled(side, side),
            _ if self.height == self.width => self.scaled(side, side),
            Fit::Crop => {
                let short = self.height.min(self.width);
                let (top, left) = ((self.height - short) / 2, (self.width - short) / 2);
                let mut pixels = Vec::with_capacity(short * short);
                for row in top..top + short {
                    pixels.extend_from_slice(&self.pixels[row * self.width + left..][..short]);
                }
                Film { height: short, width: short, pixels }.scaled(side, side)
            }
            Fit::Pad => {
                let long = self.height.max(self.width);
                let fraction = |length: usize| ((side * length + long / 2) / long).max(1);
                let inner = self.scaled(fraction(self.height), fraction(self.width));
                let (top, left) = ((side - inner.height) / 2, (side - inner.width) / 2);
                let mut pixels = vec![0.0; side * side];
                for row in 0..inner.height {
                    pixels[(top + row) * side + left..][..inner.width]
                        .copy_from_slice(&inner.pixels[row * inner.width..][..inner.width]);
                }
                Film { height: side, width: side, pixels }
            }
        }
    }

    /// The film at `height x width` pixels, each axis scaled on its own.
    #[must_use]
    pub fn scaled(&self, height: usize, width: usize) -> Film {
        let columns = weights(self.width, width);
        let rows = weights(self.height, height);
        let mut narrow = vec![0.0f32; self.height * width];
        for (source, target) in self.pixels.chunks_exact(self.width).zip(narrow.chunks_exact_mut(width)) {
            for (value, taps) in target.iter_mut().zip(&columns) {
                *value = taps.apply(|i| source[i]);
            }
        }
        let mut pixels = vec![0.0f32; height * width];
        for (target, taps) in pixels.chunks_exact_mut(width).zip(&rows) {
            for (offset, &weight) in taps.weights.iter().enumerate() {
                let source = &narrow[(taps.first + offset) * width..][..width];
                for (value, &s) in target.iter_mut().zip(source) {
                    *value += weight * s;
                }
            }
        }
        Film { height, width, pixels }
    }

    /// The film as bytes, 0 to 255, rounded.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.pixels.iter().map(|&p| (p.clamp(0.0, 1.0) * 255.0 + 0.5) as u8).collect()
    }

    /// A film from bytes, 0 to 255. The caller has checked that `bytes` holds `height * width` of them.
    pub(crate) fn from_bytes(height: usize, width: usize, bytes: &[u8]) -> Film {
        debug_assert_eq!(bytes.len(), height * width);
        Film { height, width, pixels: bytes.iter().map(|&b| f32::from(b) / 255.0).collect() }
    }
}

/// The source pixels that make one target pixel: consecutive, weights adding up to 1.
struct Taps {
    first: usize,
    weights: Vec<f32>,
}

impl Taps {
    fn apply(&self, source: impl Fn(usize) -> f32) -> f32 {
        self.weights.iter().enumerate().map(|(offset, &w)| w * source(self.first + offset)).sum()
    }
}

fn weights(from: usize, to: usize) -> Vec<Taps> {
    let ratio = from as f64 / to as f64;
    (0..to)
        .map(|target| {
            if ratio >= 1.0 {
                let (start, end) = (target as f64 * ratio, (target + 1) as f64 * ratio);
                let first = (start as usize).min(from - 1);
                let last = (end.ceil() as usize).clamp(first + 1, from);
                let shared = |i: usize| (end.min(i as f64 + 1.0) - start.max(i as f64)).max(0.0);
                let total: f64 = (first..last).map(shared).sum();
                Taps { first, weights: (first..last).map(|i| (shared(i) / total) as f32).collect() }
            } else {
                let centre = ((target as f64 + 0.5) * ratio - 0.5).clamp(0.0, (from - 1) as f64);
                let first = (centre as usize).min(from.saturating_sub(2));
                let part = (centre - first as f64) as f32;
                let weights = if from == 1 { vec![1.0] } else { vec![1.0 - part, part] };
                Taps { first, weights }
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(height: usize, width: usize) -> Film {
        let pixels = (0..height * width).map(|i| (i % width) as f32 / width as f32).collect();
        Film { height, width, pixels }
    }

    #[test]
    fn reducing_by_whole_factors_averages_blocks() {
        let film = Film { height: 2, width: 4, pixels: vec![0.0, 0.2, 0.4, 0.6, 0.2, 0.4, 0.8, 1.0] };
        let half = film.scaled(1, 2);
        assert!((half.pixels[0] - 0.2).abs() < 1e-6);
        assert!((half.pixels[1] - 0.7).abs() < 1e-6);
    }

    #[test]
    fn the_mean_survives_any_reduction() {
        let film = ramp(50, 37);
        let mean = |f: &Film| f.pixels.iter().sum::<f32>() / f.pixels.len() as f32;
        for side in [1, 7, 20, 36] {
            assert!((mean(&film.scaled(side, side)) - mean(&film)).abs() < 1e-4, "side {side}");
        }
    }

    #[test]
    fn enlarging_stays_between_its_neighbours() {
        let film = ramp(3, 3).scaled(10, 10);
        assert!(film.pixels.iter().all(|p| (0.0..=2.0 / 3.0 + 1e-6).contains(p)));
        assert_eq!(ramp(1, 1).scaled(4, 4).pixels, vec![0.0; 16]);
    }

    #[test]
    fn crop_keeps_the_middle_and_pad_keeps_everything() {
        let film = ramp(10, 30);
        let cropped = film.resized(10, Fit::Crop);
        assert_eq!(cropped.pixels[0], film.pixels[10]);
        let padded = film.resized(30, Fit::Pad);
        assert_eq!((padded.height, padded.width), (30, 30));
        assert_eq!(padded.pixels[0], 0.0);
        assert_eq!(padded.pixels[15 * 30 + 29], film.pixels[29]);
        assert_eq!(film.resized(8, Fit::Stretch).pixels.len(), 64);
    }
}
