//! Latents and labels as tensors: as they are, or changed a little each time.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};
use datasets::{Augmentation, LatentSet};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{Config, Result, Session, encode::encode_copies, sampler::derived_seed};

/// Latents and labels as tensors.
pub(super) struct Batch {
    pub(super) latents: Tensor<4>,
    pub(super) targets: Tensor<2>,
    pub(super) known: Tensor<2>,
}

impl Batch {
    pub(super) fn new(set: &LatentSet, indices: &[usize], device: &Device) -> Self {
        let values = indices.iter().flat_map(|&i| set.latent(i)).copied().collect::<Vec<_>>();
        let shape = [indices.len(), set.channels, set.height, set.width];
        let labels = |value: fn(Option<bool>) -> f32| {
            let values = indices.iter().flat_map(|&i| &set.labels[i]).map(|&label| value(label));
            let data = TensorData::new(values.collect::<Vec<_>>(), [indices.len(), set.label_names.len()]);
            Tensor::<2>::from_data(data, device)
        };
        Self {
            latents: Tensor::from_data(TensorData::new(values, shape), device),
            targets: labels(|label| f32::from(u8::from(label == Some(true)))),
            known: labels(|label| f32::from(u8::from(label.is_some()))),
        }
    }
}

/// Training latents changed a little, each time differently: drawn among encodings of changed films, shifted, and
/// made larger or smaller.
pub(super) struct Changes {
    shift: usize,
    /// See [`crate::config::LatentAugmentation::gain`].
    gain: f64,
    seed: u64,
    copies: Vec<LatentSet>,
    /// Where each film stands in the copies, by its index in the latents.
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
            seed: derived_seed(config.run.seed, "changed latents", 0),
            copies: encode_copies(config, latents, augment.copies, augment.films, session)?,
            rows: train.iter().enumerate().map(|(row, &film)| (film, row)).collect(),
        }))
    }

    pub(super) fn batch(&self, set: &LatentSet, indices: &[usize], epoch: u64, device: &Device) -> Batch {
        let mut batch = Batch::new(set, indices, device);
        let mut values = Vec::with_capacity(indices.len() * set.latent_len());
        for &film in indices {
            let mut rng = ChaCha8Rng::seed_from_u64(Augmentation::seed(self.seed, epoch, film));
            let latent = match rng.random_range(0..=self.copies.len()).checked_sub(1) {
                Some(copy) => self.copies[copy].latent(self.rows[&film]),
                None => set.latent(film),
            };
            let mut step = || rng.random_range(0..=2 * self.shift) as isize - self.shift as isize;
            let (down, right) = (step(), step());
            let from = values.len();
            shifted(latent, [set.height, set.width], [down, right], &mut values);
            // Drawn last, and only if asked for: without it runs draw what they drew before there was a gain.
            if self.gain > 0.0 {
                let factor = rng.random_range(1.0 - self.gain..=1.0 + self.gain) as f32;
                values[from..].iter_mut().for_each(|value| *value *= factor);
            }
        }
        let shape = [indices.len(), set.channels, set.height, set.width];
        batch.latents = Tensor::from_data(TensorData::new(values, shape), device);
        batch
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
pub(super) fn share_of_labels(latents: &LatentSet, part: &[usize], step: &[usize]) -> f64 {
    let known = |films: &[usize]| -> usize {
        films.iter().map(|&film| latents.labels[film].iter().flatten().count()).sum()
    };
    match known(step) {
        0 => part.len() as f64 / step.len() as f64,
        all => known(part) as f64 / all as f64,
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

    /// A gain multiplies each film by a factor of its own, and changes nothing else: shifts are those of a run without.
    #[test]
    fn gains_leave_the_other_changes_as_they_were() {
        let films = 40;
        let set = LatentSet {
            label_names: vec!["a".into()],
            ids: (0..films).map(|film| film.to_string()).collect(),
            patients: (0..films).map(|film| film.to_string()).collect(),
            splits: vec![Split::Train; films],
            labels: vec![vec![Some(true)]; films],
            channels: 1,
            height: 3,
            width: 3,
            latents: (0..9 * films).map(|i| 1.0 + (i % 7) as f32).collect(),
            encoder_digest: String::new(),
            data_digest: String::new(),
        };
        let indices = (0..films).collect::<Vec<_>>();
        let batch = |gain| {
            let changes = Changes { shift: 2, gain, seed: 5, copies: vec![], rows: BTreeMap::new() };
            let batch = changes.batch(&set, &indices, 3, &Device::flex());
            batch.latents.into_data().iter::<f32>().collect::<Vec<_>>()
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
