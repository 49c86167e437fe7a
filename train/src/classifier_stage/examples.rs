//! What a step of training learns from: films, each with a share of another one if mix-up is asked for.

use burn::tensor::{Device, Tensor, TensorData};

/// A film, and the one that is mixed into it with its share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Example {
    pub film: usize,
    pub other: Option<(usize, f32)>,
}

impl Example {
    pub fn alone(film: usize) -> Self {
        Self { film, other: None }
    }

    /// Its films and their shares, whose sum is 1.
    pub fn parts(&self) -> impl Iterator<Item = (usize, f32)> {
        let share = self.other.map_or(0.0, |(_, share)| share);
        std::iter::once((self.film, 1.0 - share)).chain(self.other)
    }
}

/// The answers of `examples` to `count` yes-or-no questions: `[examples, count]` of how far they are yes, among the films
/// where they are known, and of the share of these films.
///
/// A cross-entropy is linear in its target, so that with all answers known `BCE(x, (1 - s) t + s t')` is
/// `(1 - s) BCE(x, t) + s BCE(x, t')`, the loss of mix-up (Zhang et al. 2018, section 2).
pub(crate) fn answers<'a>(
    examples: &[Example],
    count: usize,
    of: impl Fn(usize) -> &'a [Option<bool>],
    device: &Device,
) -> [Tensor<2>; 2] {
    let (mut yes, mut known) = (vec![0.0; examples.len() * count], vec![0.0; examples.len() * count]);
    for (row, example) in examples.iter().enumerate() {
        for (film, share) in example.parts() {
            for (at, answer) in (row * count..).zip(of(film)) {
                known[at] += if answer.is_some() { share } else { 0.0 };
                yes[at] += if *answer == Some(true) { share } else { 0.0 };
            }
        }
    }
    for (yes, &known) in yes.iter_mut().zip(&known) {
        *yes = if known > 0.0 { *yes / known } else { 0.0 };
    }
    [yes, known].map(|values| Tensor::from_data(TensorData::new(values, [examples.len(), count]), device))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_means_over_the_films_that_know_them() {
        let (yes, no) = (Some(true), Some(false));
        let films = [[yes, no, yes, None], [no, no, None, None]];
        let examples = [Example::alone(0), Example { film: 0, other: Some((1, 0.25)) }];
        let [targets, known] = answers(&examples, 4, |film| &films[film][..], &Device::flex());
        let values = |t: Tensor<2>| t.into_data().iter::<f32>().collect::<Vec<_>>();
        assert_eq!(values(targets), [1.0, 0.0, 1.0, 0.0, 0.75, 0.0, 1.0, 0.0]);
        assert_eq!(values(known), [1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.75, 0.0]);
    }
}
