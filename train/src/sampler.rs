//! The order of films: a permutation for each epoch that depends on the seed and the epoch alone.
//!
//! Nothing is carried from one epoch to the next, so a resumed run sees the batches that an
//! uninterrupted one would have seen.

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

/// A seed for one purpose, from the run's seed, a name for the purpose and a counter.
#[must_use]
pub fn derived_seed(seed: u64, purpose: &str, counter: u64) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes()).update(&counter.to_le_bytes()).update(purpose.as_bytes());
    let mut bytes = [0; 8];
    hasher.finalize_xof().fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// Steps in an epoch: a last batch that would be smaller is left out, unless it is the only one.
#[must_use]
pub fn steps_per_epoch(films: usize, batch: usize) -> u64 {
    (films / batch.max(1)).max(1) as u64
}

/// The films of the given step, counted from 0 over all epochs.
#[must_use]
pub fn batch_of_step(films: &[usize], batch: usize, seed: u64, step: u64) -> Vec<usize> {
    let per_epoch = steps_per_epoch(films.len(), batch);
    let (epoch, position) = (step / per_epoch, (step % per_epoch) as usize);
    let mut order = films.to_vec();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(derived_seed(seed, "epoch", epoch)));
    order.into_iter().skip(position * batch).take(batch).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_visits_films_once_and_epochs_differ() {
        let films = (10..22).collect::<Vec<_>>();
        let epoch = |e: u64| (0..3).flat_map(|i| batch_of_step(&films, 4, 7, 3 * e + i)).collect::<Vec<_>>();
        let (first, second) = (epoch(0), epoch(1));
        let mut sorted = first.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, films);
        assert_ne!(first, second);
        assert_eq!(first, epoch(0));
        assert_eq!(steps_per_epoch(3, 8), 1);
        assert_eq!(batch_of_step(&films[..3], 8, 7, 5).len(), 3);
    }
}
