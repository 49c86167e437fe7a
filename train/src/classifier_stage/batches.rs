//! Latents and labels as tensors: as they are, or changed a little each time.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};
use datasets::{Augmentation, LatentSet};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::examples::{Example, answers};
use crate::{Config, Result, Session, encode::encode_copies, sampler::derived_seed};

/// Latents and labels as tensors.
pub(super) struct Batch {
    pub(super) latents: Tensor<4>,
    pub(super) targets: Tensor<2>,
    pub(super) known: Tensor<2>,
}

impl Batch {
    pub(super) fn new(set: &LatentSet, indices: &[usize], device: &Device) -> Self {
        let values = indices.iter().flat_map(|&i| set.latent(i)).copied().collect();
        let examples = indices.iter().map(|&film| Example::alone(film)).collect::<Vec<_>>();
        Self::of(set, &examples, values, device)
    }

    /// A batch of latents that were made from those of `set`.
    fn of(set: &LatentSet, examples: &[Example], values: Vec<f32>, device: &Device) -> Self {
        let shape = [examples.len(), set.channels, set.height, set.width];
        let [targets, known] =
            answers(examples, set.label_names.len(), |film| set.labels[film].as_slice(), device);
        Self { latents: Tensor::from_data(TensorData::new(values, shape), device), targets, known }
    }
}

/// Training latents changed a little, each time differently: drawn among encodings of changed films, shifted,
/// made larger or smaller, and mixed.
pub(super) struct Changes {
    shift: usize,
    /// See [`crate::config::LatentAugmentation::gain`].
    gain: f64,
    /// See [`crate::config::LatentAugmentation::mix`].
    mix: f64,
    seed: u64,
    mix_seed: u64,
    copies: Vec<LatentSet>,
    /// The training films, by their indices in the latents.
    train: Vec<usize>,
    /// Where each of them stands in the copies.
    rows: BTreeMap<usize, usize>,
}

impl Changes {
    pub(super) fn new(
        config: &Config,
        latents: &LatentSet,
        train: &[usize],
        session: &Session<'_>,
    ) -> Result<Option<Self>> {
        let Some(augment) = config.classifier.train.augment else { return Ok(None) };
        Ok(Some(Self {
            shift: augment.shift,
            gain: augment.gain,
            mix: augment.mix,
            seed: derived_seed(config.run.seed, "changed latents", 0),
            mix_seed: derived_seed(config.run.seed, "mixed latents", 0),
            copies: encode_copies(config, latents, augment.copies, augment.films, session)?,
            train: train.to_vec(),
            rows: train.iter().enumerate().map(|(row, &film)| (film, row)).collect(),
        }))
    }

    /// The films of a step, each with the other training film that is mixed into it.
    pub(super) fn examples(&self, films: &[usize], epoch: u64) -> Vec<Example> {
        let draw = |film: usize| {
            let mut rng = ChaCha8Rng::seed_from_u64(Augmentation::seed(self.mix_seed, epoch, film));
            let other = self.train[rng.random_range(0..self.train.len())];
            (other, rng.random_range(0.0..=self.mix) as f32)
        };
        films.iter().map(|&film| Example { film, other: (self.mix > 0.0).then(|| draw(film)) }).collect()
    }

    pub(super) fn batch(&self, set: &LatentSet, examples: &[Example], epoch: u64, device: &Device) -> Batch {
        let mut values = Vec::with_capacity(examples.len() * set.latent_len());
        let mut changed = Vec::with_capacity(set.latent_len());
        for example in examples {
            let from = values.len();
            values.resize(from + set.latent_len(), 0.0);
            for (film, share) in example.parts() {
                changed.clear();
                self.change(set, film, epoch, &mut changed);
                values[from..].iter_mut().zip(&changed).for_each(|(sum, value)| *sum += share * value);
            }
        }
        Batch::of(set, examples, values, device)
    }

    /// Appends the latent of a film, changed as in this epoch.
    fn change(&self, set: &LatentSet, film: usize, epoch: u64, out: &mut Vec<f32>) {
        let mut rng = ChaCha8Rng::seed_from_u64(Augmentation::seed(self.seed, epoch, film));
        let latent = match rng.random_range(0..=self.copies.len()).checked_sub(1) {
            Some(copy) => self.copies[copy].latent(self.rows[&film]),
            None => set.latent(film),
        };
        let mut step = || rng.random_range(0..=2 * self.shift) as isize - self.shift as isize;
        let (down, right) = (step(), step());
        shifted(latent, [set.height, set.width], [down, right], out);
        // Drawn last, and only if asked for: without it runs draw what they drew before there was a gain.
        if self.gain > 0.0 {
            let factor = rng.random_range(1.0 - self.gain..=1.0 + self.gain) as f32;
            out.iter_mut().for_each(|value| *value *= factor);
        }
    }
}

/// Appends a latent moved down and right; cells from outside repeat the edge.
fn shifted(latent: &[f32], [height, width]: [usize; 2], [down, right]: [isize; 2], out: &mut Vec<f32>) {
    let from = |to: usize, step: isize, end: usize| to.saturating_add_signed(-step).min(end - 1);
    for channel in latent.chunks_exact(height * width) {
        for y in 0..height {
            let row = &channel[from(y, down, height) * width..][..width];
            out.extend((0..width).map(|x| row[from(x, right, width)]));
        }
    }
}

/// Share of a part in the known labels of a step; its share in the films where none is known.
pub(super) fn share_of_labels(latents: &LatentSet, part: &[Example], step: &[Example]) -> f64 {
    let known = |examples: &[Example]| -> f64 {
        let films = examples.iter().flat_map(Example::parts);
        films
            .map(|(film, share)| f64::from(share) * latents.labels[film].iter().flatten().count() as f64)
            .sum()
    };
    match known(step) {
        0.0 => part.len() as f64 / step.len() as f64,
        all => known(part) / all,
    }
}

/// `negatives / positives` per label, between 1 and `largest`; `None` if all are 1.
pub(super) fn positive_weights(latents: &LatentSet, train: &[usize], largest: f64) -> Option<Vec<f32>> {
    if largest <= 1.0 {
        return None;
    }
    let count = |label: usize, value: bool| {
        train.iter().filter(|&&i| latents.labels[i][label] == Some(value)).count() as f64
    };
    let weight = |label| (count(label, false) / count(label, true).max(1.0)).clamp(1.0, largest) as f32;
    Some((0..latents.label_names.len()).map(weight).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use datasets::Split;

    /// Films of 3 x 3 values; those with even numbers have the only label.
    fn set(films: usize) -> LatentSet {
        LatentSet {
            label_names: vec!["a".into()],
            ids: (0..films).map(|film| film.to_string()).collect(),
            patients: (0..films).map(|film| film.to_string()).collect(),
            splits: vec![Split::Train; films],
            labels: (0..films).map(|film| vec![Some(film % 2 == 0)]).collect(),
            channels: 1,
            height: 3,
            width: 3,
            latents: (0..9 * films).map(|i| 1.0 + (i % 7) as f32).collect(),
            encoder_digest: String::new(),
            data_digest: String::new(),
        }
    }

    fn changes(films: usize) -> Changes {
        let (train, rows) = ((0..films).collect(), BTreeMap::new());
        Changes { shift: 2, gain: 0.0, mix: 0.0, seed: 5, mix_seed: 6, copies: vec![], train, rows }
    }

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().iter::<f32>().collect()
    }

    /// A mixed film is the mean of two that the epoch changed, weighted by their shares, and so is its label. Parts of a
    /// step are mixed as the whole step is.
    #[test]
    fn mixed_films_are_means_of_two_changed_ones() {
        let films = 40;
        let (set, device) = (set(films), Device::flex());
        let changes = Changes { mix: 1.0, ..changes(films) };
        let examples = changes.examples(&changes.train, 3);
        assert_eq!(examples[30..], changes.examples(&changes.train[30..], 3));
        assert_ne!(examples, changes.examples(&changes.train, 4), "another epoch, another mixture");
        let alone = changes.train.iter().map(|&film| Example::alone(film)).collect::<Vec<_>>();
        let plain = values(changes.batch(&set, &alone, 3, &device).latents);
        let mixed = changes.batch(&set, &examples, 3, &device);
        let (latents, targets) = (values(mixed.latents), values(mixed.targets));
        for (example, (latent, target)) in examples.iter().zip(latents.chunks(9).zip(targets)) {
            let (other, share) = example.other.unwrap();
            let mean = |a: f32, b: f32| (1.0 - share) * a + share * b;
            for (cell, value) in latent.iter().enumerate() {
                let expected = mean(plain[9 * example.film + cell], plain[9 * other + cell]);
                assert!((value - expected).abs() < 1e-5, "{value}, not {expected}");
            }
            let of = |film: usize| f32::from(u8::from(film.is_multiple_of(2)));
            assert!((target - mean(of(example.film), of(other))).abs() < 1e-6);
        }
        let shares = examples.iter().filter_map(|e| e.other).map(|(_, share)| share).collect::<Vec<_>>();
        assert!(shares.iter().any(|&s| s < 0.2) && shares.iter().any(|&s| s > 0.8), "{shares:?}");
    }

    /// A gain multiplies each film by a factor of its own, and changes nothing else: shifts are those of a run without.
    #[test]
    fn gains_leave_the_other_changes_as_they_were() {
        let films = 40;
        let set = set(films);
        let batch = |gain| {
            let changes = Changes { gain, ..changes(films) };
            let examples = changes.examples(&changes.train, 3);
            values(changes.batch(&set, &examples, 3, &Device::flex()).latents)
        };
        let (plain, gained) = (batch(0.0), batch(0.25));
        assert_ne!(plain, set.latents, "films are shifted");
        let factors = plain.chunks(9).zip(gained.chunks(9)).map(|(plain, gained)| {
            let factor = gained[0] / plain[0];
            assert!(plain.iter().zip(gained).all(|(a, b)| (a * factor - b).abs() < 1e-5));
            factor
        });
        let factors = factors.collect::<Vec<_>>();
        assert!(factors.iter().all(|factor| (0.75..=1.25).contains(factor)), "{factors:?}");
        let [small, large] = [f32::min, f32::max].map(|f| factors.iter().copied().reduce(f).unwrap());
        assert!(small < 0.85 && large > 1.15, "{small} to {large}");
    }

    #[test]
    fn shifts_repeat_the_edge() {
        let latent = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0];
        let moved = |by| {
            let mut out = Vec::new();
            shifted(&latent, [2, 3], by, &mut out);
            out
        };
        assert_eq!(moved([0, 0]), latent);
        assert_eq!(moved([0, 1])[..6], [1.0, 1.0, 2.0, 4.0, 4.0, 5.0]);
        assert_eq!(moved([-1, 0])[6..], [40.0, 50.0, 60.0, 40.0, 50.0, 60.0]);
        assert_eq!(moved([9, -9])[..6], [3.0; 6]);
    }
}
