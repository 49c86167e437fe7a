//! Small changes to chest films that leave their findings alone: shifts, rotations, zoom, contrast, brightness.
//!
//! No flips unless asked for: hearts are on the left. A change depends on its seed alone, and
//! [`Augmentation::seed`] makes one from (seed, epoch, film), so that runs repeat and resume exactly. Pixels are
//! interpolated linearly; what comes from outside repeats the edge.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{DataError, Result};

/// How far films are changed; each value is drawn evenly from 0 to the bound, in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Augmentation {
    /// Largest shift along each axis, as part of the side. 0.04.
    pub shift: f32,
    /// Largest rotation in degrees. 5.
    pub rotation: f32,
    /// Largest change of size, as part of it. 0.05.
    pub zoom: f32,
    /// Largest change of contrast around the film's mean, as part of it. 0.1.
    pub contrast: f32,
    /// Largest brightness added or taken, of 1. 0.05.
    pub brightness: f32,
    /// Mirrors half of the films, left to right. Off: hearts are on the left.
    pub flip: bool,
}

impl Default for Augmentation {
    fn default() -> Self {
        Augmentation { shift: 0.04, rotation: 5.0, zoom: 0.05, contrast: 0.1, brightness: 0.05, flip: false }
    }
}

impl Augmentation {
    /// Checks the bounds; `field` is where they stand in the configuration.
    ///
    /// # Errors
    /// Names the bound that makes no sense.
    pub fn check(&self, field: &str) -> Result<()> {
        for (name, value, most) in [
            ("shift", self.shift, 0.5),
            ("rotation", self.rotation, 180.0),
            ("zoom", self.zoom, 0.9),
            ("contrast", self.contrast, 1.0),
            ("brightness", self.brightness, 1.0),
        ] {
            if !(0.0..=most).contains(&value) {
                return Err(DataError::config(
                    format!("{field}.{name}"),
                    format!("expected 0 to {most}, got {value}"),
                    "0 turns it off",
                ));
            }
        }
        Ok(())
    }

    /// The seed of one film in one epoch.
    #[must_use]
    pub fn seed(seed: u64, epoch: u64, film: usize) -> u64 {
        let mut hasher = blake3::Hasher::new_derive_key("veilray 2026 augmentation");
        hasher.update(&seed.to_le_bytes()).update(&epoch.to_le_bytes()).update(&(film as u64).to_le_bytes());
        let mut bytes = [0u8; 8];
        bytes.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        u64::from_le_bytes(bytes)
    }

    /// Changes films that stand one after the other, `side x side` pixels in `[0, 1]` each, in parallel.
    ///
    /// # Panics
    /// If there is not one seed per film.
    pub fn apply_all(&self, pixels: &mut [f32], side: usize, seeds: &[u64]) {
        assert_eq!(pixels.len(), seeds.len() * side * side, "one seed per film");
        pixels.par_chunks_exact_mut((side * side).max(1)).zip(seeds).for_each(|(film, &seed)| {
            let changed = self.apply(film, side, seed);
            film.copy_from_slice(&changed);
        });
    }

    /// One film of `side x side` pixels in `[0, 1]`, changed.
    #[must_use]
    pub fn apply(&self, film: &[f32], side: usize, seed: u64) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // All draws are always taken, so that turning one change off leaves the others as they were.
        let mut draw = |bound: f32| bound * rng.random_range(-1.0f32..=1.0);
        let (right, down) = (draw(self.shift) * side as f32, draw(self.shift) * side as f32);
        let angle = draw(self.rotation).to_radians();
        let size = 1.0 + draw(self.zoom);
        let (contrast, brightness) = (1.0 + draw(self.contrast), draw(self.brightness));
        let flip = draw(1.0) > 0.0 && self.flip;
        let mean = film.iter().sum::<f32>() / film.len().max(1) as f32;
        let centre = (side as f32 - 1.0) / 2.0;
        let (sin, cos) = (angle.sin() / size, angle.cos() / size);
        let last = side.saturating_sub(1);
        let mut changed = Vec::with_capacity(film.len());
        for y in 0..side {
            for x in 0..side {
                let (dx, dy) = (x as f32 - centre - right, y as f32 - centre - down);
                let dx = if flip { -dx } else { dx };
                // The inverse of the change tells where a pixel comes from.
                let from_x = (cos * dx + sin * dy + centre).clamp(0.0, last as f32);
                let from_y = (cos * dy - sin * dx + centre).clamp(0.0, last as f32);
                let (left, top) = (from_x as usize, from_y as usize);
                let (part_x, part_y) = (from_x - left as f32, from_y - top as f32);
                let at = |y: usize, x: usize| film[y.min(last) * side + x.min(last)];
                let upper = at(top, left) * (1.0 - part_x) + at(top, left + 1) * part_x;
                let lower = at(top + 1, left) * (1.0 - part_x) + at(top + 1, left + 1) * part_x;
                let value = upper * (1.0 - part_y) + lower * part_y;
                changed.push(((value - mean) * contrast + mean + brightness).clamp(0.0, 1.0));
            }
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Augmentation =
        Augmentation { shift: 0.0, rotation: 0.0, zoom: 0.0, contrast: 0.0, brightness: 0.0, flip: false };

    /// A bright spot right of the middle.
    fn spot(side: usize) -> Vec<f32> {
        let (x, y) = (side * 3 / 4, side / 2);
        (0..side * side)
            .map(|i| {
                let (dx, dy) = ((i % side) as f32 - x as f32, (i / side) as f32 - y as f32);
                0.2 + 0.6 * (-(dx * dx + dy * dy) / 8.0).exp()
            })
            .collect()
    }

    fn centre_of_mass(film: &[f32], side: usize) -> (f32, f32) {
        let total: f32 = film.iter().map(|v| v - 0.2).sum();
        let sum = |f: fn(usize, usize) -> usize| {
            film.iter().enumerate().map(|(i, v)| (v - 0.2) * f(i, side) as f32).sum::<f32>() / total
        };
        (sum(|i, side| i % side), sum(|i, side| i / side))
    }

    #[test]
    fn nothing_changes_nothing_and_seeds_decide() {
        let film = spot(32);
        for (a, b) in NONE.apply(&film, 32, 3).iter().zip(&film) {
            assert!((a - b).abs() < 1e-6);
        }
        let usual = Augmentation::default();
        let (seed, other) = (Augmentation::seed(1, 2, 3), Augmentation::seed(1, 2, 4));
        assert_eq!(usual.apply(&film, 32, seed), usual.apply(&film, 32, seed));
        assert_ne!(usual.apply(&film, 32, seed), usual.apply(&film, 32, other));
        assert_ne!(seed, Augmentation::seed(1, 3, 3));
        let mut two = [film.clone(), film.clone()].concat();
        usual.apply_all(&mut two, 32, &[seed, other]);
        assert_eq!(two[..1024], usual.apply(&film, 32, seed));
        assert_eq!(two[1024..], usual.apply(&film, 32, other));
    }

    #[test]
    fn changes_stay_within_their_bounds() {
        let (side, film) = (64, spot(64));
        let (x, y) = centre_of_mass(&film, side);
        let (mut furthest, mut mirrored) = (0f32, 0);
        for seed in 0..200 {
            let moved = Augmentation { shift: 0.1, ..NONE }.apply(&film, side, seed);
            let (mx, my) = centre_of_mass(&moved, side);
            assert!((mx - x).abs() < 6.6 && (my - y).abs() < 6.6, "a tenth of 64 pixels: {mx} {my}");
            furthest = furthest.max((mx - x).abs());
            let turned = Augmentation { rotation: 10.0, ..NONE }.apply(&film, side, seed);
            let (_, ty) = centre_of_mass(&turned, side);
            assert!((ty - y).abs() < 16.5 * 10f32.to_radians().sin() + 0.2, "{ty}");
            let bright = Augmentation { brightness: 0.1, ..NONE }.apply(&film, side, seed);
            assert!(bright.iter().zip(&film).all(|(a, b)| (a - b).abs() < 0.1001));
            let whole = Augmentation::default().apply(&film, side, seed);
            assert!(whole.iter().all(|v| (0.0..=1.0).contains(v)));
            let in_place = Augmentation { contrast: 0.0, brightness: 0.0, ..Augmentation::default() };
            let in_place = in_place.apply(&film, side, seed);
            assert!(centre_of_mass(&in_place, side).0 > 36.0, "no flip by default");
            let flipped = Augmentation { flip: true, ..NONE }.apply(&film, side, seed);
            mirrored += usize::from(centre_of_mass(&flipped, side).0 < 32.0);
        }
        assert!(furthest > 5.0, "the bound is used: {furthest}");
        assert!((60..140).contains(&mirrored), "{mirrored} of 200");
    }

    #[test]
    fn bounds_are_checked() {
        assert!(Augmentation::default().check("a").is_ok());
        let text = Augmentation { shift: f32::NAN, ..NONE }.check("data.x").unwrap_err().to_string();
        assert!(text.contains("data.x.shift"), "{text}");
        assert!(Augmentation { rotation: 200.0, ..NONE }.check("x").is_err());
    }
}
