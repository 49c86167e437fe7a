//! The codebook as data: its k-means start, how much of it is used, revival of what is not, codes as moving averages.
//!
//! A codebook that starts at random around zero spends its first thousands of steps with a handful of codes in use.
//! Starting it as the k-means centres of the encoder's own outputs (after a short warm-up without
//! quantisation) makes short runs possible and leaves few dead codes; what dies later is revived
//! at an encoder output (Dhariwal et al., "Jukebox", 2020, section 3.1).
//!
//! These are host computations on a few thousand vectors, deterministic from their seed.

use rand::{RngExt, SeedableRng, seq::index};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// Centres of `codes` clusters of `points` (row-major, `dim` values each) after `iterations` of Lloyd's
/// algorithm, row-major.
///
/// Starts from distinct points; a cluster that loses all its points restarts at a random one. With fewer points than
/// codes, points repeat with a little noise.
///
/// # Panics
///
/// Panics if there is no point, or if `points` is no multiple of `dim`.
#[must_use]
pub fn kmeans(points: &[f32], dim: usize, codes: usize, iterations: usize, seed: u64) -> Vec<f32> {
    assert!(dim > 0 && !points.is_empty() && points.len().is_multiple_of(dim), "points of {dim} values each");
    let count = points.len() / dim;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut centres = Vec::with_capacity(codes * dim);
    if count >= codes {
        for i in index::sample(&mut rng, count, codes) {
            centres.extend_from_slice(&points[i * dim..(i + 1) * dim]);
        }
    } else {
        for i in 0..codes {
            let start = (i % count) * dim;
            centres.extend(points[start..start + dim].iter().map(|v| v + rng.random_range(-1e-3..1e-3)));
        }
    }
    for _ in 0..iterations {
        let mut sums = vec![0f64; codes * dim];
        let mut members = vec![0usize; codes];
        // Looking is parallel, adding is in the order of the points.
        let chosen: Vec<usize> =
            points.par_chunks_exact(dim).map(|point| nearest(point, &centres, dim)).collect();
        for (point, nearest) in points.chunks_exact(dim).zip(chosen) {
            members[nearest] += 1;
            for (sum, value) in sums[nearest * dim..].iter_mut().zip(point) {
                *sum += f64::from(*value);
            }
        }
        for (code, &members) in members.iter().enumerate() {
            let centre = &mut centres[code * dim..(code + 1) * dim];
            if members == 0 {
                let i = rng.random_range(0..count);
                centre.copy_from_slice(&points[i * dim..(i + 1) * dim]);
            } else {
                for (value, sum) in centre.iter_mut().zip(&sums[code * dim..]) {
                    *value = (sum / members as f64) as f32;
                }
            }
        }
    }
    centres
}

fn nearest(point: &[f32], centres: &[f32], dim: usize) -> usize {
    let mut best = (0, f32::INFINITY);
    for (i, centre) in centres.chunks_exact(dim).enumerate() {
        let distance = centre.iter().zip(point).map(|(a, b)| (a - b) * (a - b)).sum::<f32>();
        if distance < best.1 {
            best = (i, distance);
        }
    }
    best.0
}

/// Words of `side x side` pixels: the codebook that needs no network, and the baseline of every other.
#[derive(Clone, Debug)]
pub struct Words {
    side: usize,
    centres: Vec<f32>,
}

impl Words {
    /// The k-means words of `patches`, row-major with `side * side` values each.
    ///
    /// # Panics
    ///
    /// As [`kmeans`].
    #[must_use]
    pub fn learn(patches: &[f32], side: usize, words: usize, iterations: usize, seed: u64) -> Self {
        Self { side, centres: kmeans(patches, side * side, words, iterations, seed) }
    }

    /// The patches of a film of `film_side x film_side` pixels, row by row; what is left at the edges is left out.
    pub fn patches(film: &[f32], film_side: usize, side: usize) -> impl Iterator<Item = Vec<f32>> + '_ {
        let across = film_side / side;
        (0..across * across).map(move |i| {
            let (top, left) = (i / across * side, i % across * side);
            (0..side).flat_map(|y| &film[(top + y) * film_side + left..][..side]).copied().collect()
        })
    }

    /// Mean squared difference between a film and the nearest words of its patches.
    #[must_use]
    pub fn mean_squared_error(&self, film: &[f32], film_side: usize) -> f64 {
        let dim = self.side * self.side;
        let (mut sum, mut count) = (0.0, 0usize);
        for patch in Self::patches(film, film_side, self.side) {
            let word = nearest(&patch, &self.centres, dim);
            let word = &self.centres[word * dim..][..dim];
            sum += patch.iter().zip(word).map(|(a, b)| f64::from((a - b) * (a - b))).sum::<f64>();
            count += dim;
        }
        sum / count.max(1) as f64
    }
}

/// How often each code was chosen.
#[derive(Clone, Debug)]
pub struct CodeUsage {
    counts: Vec<u64>,
    /// Batches since each code was last chosen.
    idle: Vec<u64>,
}

impl CodeUsage {
    /// Nothing chosen yet.
    #[must_use]
    pub fn new(codes: usize) -> Self {
        Self { counts: vec![0; codes], idle: vec![0; codes] }
    }

    /// Counts one batch of chosen codes; indices outside the codebook are ignored.
    pub fn record(&mut self, indices: &[usize]) {
        for idle in &mut self.idle {
            *idle += 1;
        }
        for &i in indices {
            if let (Some(count), Some(idle)) = (self.counts.get_mut(i), self.idle.get_mut(i)) {
                *count += 1;
                *idle = 0;
            }
        }
    }

    /// Forgets the counts; how long each code has been idle is kept.
    pub fn reset_counts(&mut self) {
        self.counts.fill(0);
    }

    /// Share of the codes chosen at least once since the last reset, in `[0, 1]`.
    #[must_use]
    pub fn used(&self) -> f64 {
        self.counts.iter().filter(|&&c| c > 0).count() as f64 / self.counts.len() as f64
    }

    /// `exp(-sum p ln p)` of the frequencies: the number of equally frequent codes with the same entropy.
    #[must_use]
    pub fn perplexity(&self) -> f64 {
        let total = self.counts.iter().sum::<u64>() as f64;
        if total == 0.0 {
            return 0.0;
        }
        let entropy = self
            .counts
            .iter()
            .filter(|&&c| c > 0)
            .map(|&c| {
                let p = c as f64 / total;
                -p * p.ln()
            })
            .sum::<f64>();
        entropy.exp()
    }

    /// Codes not chosen in the last `batches` batches, which then count as just chosen.
    pub fn take_dead(&mut self, batches: u64) -> Vec<usize> {
        let dead = (0..self.idle.len()).filter(|&i| self.idle[i] >= batches).collect::<Vec<_>>();
        for &i in &dead {
            self.idle[i] = 0;
        }
        dead
    }

    /// Batches since each code was last chosen: the state that an exact resume needs.
    #[must_use]
    pub fn idle(&self) -> &[u64] {
        &self.idle
    }

    /// Restores what [`CodeUsage::idle`] returned; another length is ignored.
    pub fn restore_idle(&mut self, idle: &[u64]) {
        if idle.len() == self.idle.len() {
            self.idle.copy_from_slice(idle);
        }
    }
}

/// Codes as moving averages of the vectors that choose them, instead of by gradient.
///
/// van den Oord et al. (2017), appendix A.1: with `n_i` vectors `z` of a step choosing code `i`,
/// `N_i <- decay N_i + (1 - decay) n_i`, `m_i <- decay m_i + (1 - decay) sum z`, `e_i = m_i / N_i`. As in the published
/// implementations `N_i` is smoothed by a little of all counts, so that codes that nothing chooses stay where they are
/// rather than being divided by zero.
#[derive(Clone, Debug, PartialEq)]
pub struct CodeAverage {
    decay: f32,
    counts: Vec<f32>,
    sums: Vec<f32>,
}

/// Added to each count in the quotient.
const SMOOTHING: f32 = 1e-5;

impl CodeAverage {
    /// Starts at the given codes, row-major with `dim` values each, as if one vector stood at each.
    ///
    /// # Panics
    ///
    /// Panics if `dim` is zero.
    #[must_use]
    pub fn new(codebook: &[f32], dim: usize, decay: f64) -> Self {
        Self { decay: decay as f32, counts: vec![1.0; codebook.len() / dim], sums: codebook.to_vec() }
    }

    /// Continues from counts and sums; `None` if they do not belong to `codes` codes of `dim` values.
    #[must_use]
    pub fn restore(counts: Vec<f32>, sums: Vec<f32>, [codes, dim]: [usize; 2], decay: f64) -> Option<Self> {
        let fits = counts.len() == codes && sums.len() == codes * dim;
        fits.then_some(Self { decay: decay as f32, counts, sums })
    }

    /// `N`, one a code, and `m`, row-major: what an exact resume needs.
    #[must_use]
    pub fn state(&self) -> (&[f32], &[f32]) {
        (&self.counts, &self.sums)
    }

    /// Takes in the vectors of a step, row-major, with the code that each chose, and moves the codes.
    ///
    /// # Panics
    ///
    /// Panics if a code lies outside the codebook.
    pub fn update(&mut self, codebook: &mut [f32], chosen: &[usize], vectors: &[f32]) {
        let dim = self.sums.len() / self.counts.len();
        let fresh = 1.0 - self.decay;
        self.counts.iter_mut().chain(&mut self.sums).for_each(|value| *value *= self.decay);
        for (&code, vector) in chosen.iter().zip(vectors.chunks_exact(dim)) {
            self.counts[code] += fresh;
            for (sum, value) in self.sums[code * dim..].iter_mut().zip(vector) {
                *sum += fresh * value;
            }
        }
        let total = self.counts.iter().sum::<f32>();
        let rescale = total / (total + self.counts.len() as f32 * SMOOTHING);
        for (code, count) in self.counts.iter().enumerate() {
            let count = (count + SMOOTHING) * rescale;
            let place = code * dim..(code + 1) * dim;
            for (value, sum) in codebook[place.clone()].iter_mut().zip(&self.sums[place]) {
                *value = sum / count;
            }
        }
    }

    /// Starts the given codes again where `codebook` has moved them.
    ///
    /// # Panics
    ///
    /// Panics if a code lies outside the codebook.
    pub fn restart(&mut self, codebook: &[f32], codes: &[usize]) {
        let dim = self.sums.len() / self.counts.len();
        for &code in codes {
            let place = code * dim..(code + 1) * dim;
            self.counts[code] = 1.0;
            self.sums[place.clone()].copy_from_slice(&codebook[place]);
        }
    }
}

/// Moves the given codes to random `candidates` (encoder outputs, row-major).
///
/// # Panics
///
/// Panics if a code lies outside the codebook.
pub fn revive(codebook: &mut [f32], dim: usize, dead: &[usize], candidates: &[f32], seed: u64) {
    let count = candidates.len() / dim;
    if count == 0 {
        return;
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    for &code in dead {
        let i = rng.random_range(0..count);
        codebook[code * dim..(code + 1) * dim].copy_from_slice(&candidates[i * dim..(i + 1) * dim]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_patches_where_there_are_as_many() {
        let film: Vec<f32> = (0..64).map(|i| ((i / 8 / 4 * 2 + i % 8 / 4) as f32) / 4.0).collect();
        let patches: Vec<f32> = Words::patches(&film, 8, 4).flatten().collect();
        assert_eq!(patches.len(), 64);
        assert_eq!(patches[16..32], [0.25; 16]);
        assert!(Words::learn(&patches, 4, 4, 3, 1).mean_squared_error(&film, 8) < 1e-12);
        // One word is the mean: the variance is left.
        let error = Words::learn(&patches, 4, 1, 3, 1).mean_squared_error(&film, 8);
        assert!((error - 0.078_125).abs() < 1e-6, "{error}");
    }

    #[test]
    fn kmeans_finds_separate_clusters() {
        let points = (0..300)
            .flat_map(|i| {
                let centre = [[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]][i % 3];
                let jitter = ((i * 37 % 100) as f32 - 50.0) / 500.0;
                [centre[0] + jitter, centre[1] - jitter]
            })
            .collect::<Vec<f32>>();
        let centres = kmeans(&points, 2, 16, 10, 1);
        for target in [[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]] {
            let i = nearest(&target, &centres, 2);
            let distance = (centres[2 * i] - target[0]).hypot(centres[2 * i + 1] - target[1]);
            assert!(distance < 0.2, "{distance}");
        }
        assert_eq!(centres, kmeans(&points, 2, 16, 10, 1));
    }

    #[test]
    fn fewer_points_than_codes_are_repeated() {
        assert_eq!(kmeans(&[1.0, 2.0], 2, 4, 0, 3).len(), 8);
    }

    #[test]
    fn averages_follow_their_formula() {
        let mut codes = vec![1.0, 0.0, 5.0, 5.0];
        let mut average = CodeAverage::new(&codes, 2, 0.75);
        average.update(&mut codes, &[0, 0], &[3.0, 1.0, 5.0, 1.0]);
        // N = 0.75 + 0.25 * 2, m = 0.75 (1, 0) + 0.25 (8, 2)
        assert!((codes[0] - 2.75 / 1.25).abs() < 1e-4 && (codes[1] - 0.5 / 1.25).abs() < 1e-4, "{codes:?}");
        assert!((codes[2] - 5.0).abs() < 1e-3, "a code that nothing chose stays: {codes:?}");
        // The same vectors again and again: the code arrives at their mean, whatever happens to the other.
        for _ in 0..200 {
            average.update(&mut codes, &[0, 0], &[3.0, 1.0, 5.0, 1.0]);
        }
        assert!((codes[0] - 4.0).abs() < 1e-3 && (codes[1] - 1.0).abs() < 1e-3, "{codes:?}");
        assert!(codes.iter().all(|value| value.is_finite()));
        codes[2] = -1.0;
        average.restart(&codes, &[1]);
        let (counts, sums) = average.state();
        assert_eq!((counts[1], &sums[2..]), (1.0, &codes[2..]));
        let (counts, sums) = (counts.to_vec(), sums.to_vec());
        assert_eq!(CodeAverage::restore(counts.clone(), sums.clone(), [2, 2], 0.75), Some(average));
        assert_eq!(CodeAverage::restore(counts, sums, [4, 1], 0.75), None);
    }

    #[test]
    fn usage_counts_and_revives() {
        let mut usage = CodeUsage::new(4);
        usage.record(&[0, 0, 1, 1]);
        usage.record(&[0, 1]);
        assert!((usage.used() - 0.5).abs() < 1e-12);
        assert!((usage.perplexity() - 2.0).abs() < 1e-9);
        assert_eq!(usage.take_dead(2), vec![2, 3]);
        assert!(usage.take_dead(2).is_empty());
        let mut codes = vec![0.0; 8];
        revive(&mut codes, 2, &[2], &[5.0, 6.0], 1);
        assert_eq!(codes, vec![0.0, 0.0, 0.0, 0.0, 5.0, 6.0, 0.0, 0.0]);
    }
}
