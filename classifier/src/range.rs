//! Watching pre-activations, so that polynomials can be trained for the range in which they will be used.
//!
//! `x^2` has no ceiling: a network that is fine on its training images can overflow on others once
//! it is encrypted. Training therefore adds multiples of [`Ranges::penalty`] and [`Ranges::peaks`] to its loss and logs
//! [`Ranges::largest`].

use burn::tensor::{Device, Tensor};
use kernels::{Excess, outside};

/// What the activations saw during one forward pass.
#[derive(Debug, Clone)]
pub struct Ranges {
    /// Sum over all activations of the mean of `max(|x| - interval, 0)^2`: zero while everything is inside.
    pub penalty: Tensor<1>,
    /// Sum over all activations of the mean over films of `max(max |x_film| - interval, 0)^2`: a rare film, which hardly moves
    /// the mean over all values, counts here by its worst one.
    pub peaks: Tensor<1>,
    /// Names of the activations, in the order in which they ran.
    pub names: Vec<String>,
    /// The largest `|x|` of each, `[names.len()]`, cut off from the graph of gradients.
    pub largest: Tensor<1>,
}

/// Collects while a forward pass runs; does nothing if it is off.
pub(crate) struct Watch {
    seen: Option<Vec<(String, Excess)>>,
}

impl Watch {
    pub(crate) fn off() -> Self {
        Self { seen: None }
    }

    pub(crate) fn on() -> Self {
        Self { seen: Some(vec![]) }
    }

    pub(crate) fn see(&mut self, name: &str, x: &Tensor<4>, interval: f64) {
        if let Some(seen) = &mut self.seen {
            seen.push((name.to_owned(), outside(x, interval)));
        }
    }

    pub(crate) fn finish(self, device: &Device) -> Ranges {
        let seen = self.seen.unwrap_or_default();
        let mut ranges = Ranges {
            penalty: Tensor::zeros([1], device),
            peaks: Tensor::zeros([1], device),
            names: vec![],
            largest: Tensor::zeros([0], device),
        };
        let mut largest = vec![];
        for (name, excess) in seen {
            ranges.penalty = ranges.penalty + excess.mean;
            ranges.peaks = ranges.peaks + excess.peaks;
            ranges.names.push(name);
            largest.push(excess.largest);
        }
        if !largest.is_empty() {
            ranges.largest = Tensor::cat(largest, 0);
        }
        ranges
    }
}
