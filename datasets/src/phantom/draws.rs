//! Random draws: one stream per (seed, purpose, number), so that any film can be made on its own.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A stream of draws that depends on its three names only.
pub(crate) struct Draws(ChaCha8Rng);

impl Draws {
    pub fn new(seed: u64, purpose: &str, number: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("veilray 2026 random draws");
        hasher.update(&seed.to_le_bytes());
        hasher.update(&number.to_le_bytes());
        hasher.update(purpose.as_bytes());
        Draws(ChaCha8Rng::from_seed(*hasher.finalize().as_bytes()))
    }

    /// Uniform in `[low, high)`.
    pub fn uniform(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.0.random::<f32>()
    }

    /// Normal with the given mean and deviation, cut at 2.5 deviations: anatomy has no outliers.
    pub fn normal(&mut self, mean: f32, deviation: f32) -> f32 {
        mean + deviation * self.standard().clamp(-2.5, 2.5)
    }

    /// Standard normal (Box and Muller 1958).
    pub fn standard(&mut self) -> f32 {
        self.standard_pair().0
    }

    /// Two independent standard normals from one pair of draws.
    pub fn standard_pair(&mut self) -> (f32, f32) {
        let radius = (-2.0 * (1.0 - self.0.random::<f32>()).ln()).sqrt();
        let (sine, cosine) = (std::f32::consts::TAU * self.0.random::<f32>()).sin_cos();
        (radius * cosine, radius * sine)
    }

    /// True with the given probability.
    pub fn chance(&mut self, probability: f32) -> bool {
        self.0.random::<f32>() < probability
    }

    /// Uniform in `low..=high`.
    pub fn count(&mut self, low: usize, high: usize) -> usize {
        self.0.random_range(low..=high)
    }

    /// -1 or 1.
    pub fn side(&mut self) -> f32 {
        if self.chance(0.5) { -1.0 } else { 1.0 }
    }
}
