//! The canonical embedding: complex slots to real coefficients and back, by a special fast Fourier transform.
//!
//! Slot j of a polynomial m with real coefficients is m(zeta^(5^j)), zeta = exp(i pi / N). Only the powers of 5 are needed:
//! their conjugates give the other half. For n slots the transform runs over the ring of degree 2n, whose polynomials,
//! taken at X^(N/2n), have slots of period n.
//! Source: Cheon, Han, Kim, Kim and Song, Bootstrapping for approximate homomorphic encryption (2018), section 4.

use num_complex::Complex64;

/// Twiddle factors for every power-of-two number of slots up to a largest.
#[derive(Clone, Debug)]
pub(crate) struct Embedding {
    /// For each length 2, 4, 8 .. of a butterfly, its factors exp(2 pi i (5^j mod 4 len) / 4 len), j below half the length.
    twiddles: Vec<Vec<Complex64>>,
}

impl Embedding {
    pub(crate) fn new(slots: usize) -> Self {
        let stage = |log: u32| {
            let order = 4usize << log;
            let mut power = 1;
            (0..(1usize << log) / 2)
                .map(|_| {
                    let angle = 2.0 * std::f64::consts::PI * power as f64 / order as f64;
                    power = power * 5 % order;
                    Complex64::from_polar(1.0, angle)
                })
                .collect()
        };
        Self { twiddles: (1..=slots.trailing_zeros()).map(stage).collect() }
    }

    /// The factors of stage `stage` of butterflies, those of length 2^(stage + 1).
    pub(crate) fn twiddles(&self, stage: usize) -> &[Complex64] {
        &self.twiddles[stage]
    }

    /// Slots to coefficients, in place: entry i becomes (coefficient i) + i (coefficient n + i).
    pub(crate) fn to_coefficients(&self, values: &mut [Complex64]) {
        let n = values.len();
        for twiddles in self.twiddles[..n.trailing_zeros() as usize].iter().rev() {
            let half = twiddles.len();
            for block in values.chunks_exact_mut(2 * half) {
                let (low, high) = block.split_at_mut(half);
                for ((x, y), w) in low.iter_mut().zip(high).zip(twiddles) {
                    (*x, *y) = (*x + *y, (*x - *y) * w.conj());
                }
            }
        }
        bit_reverse(values);
        let scale = 1.0 / n as f64;
        values.iter_mut().for_each(|x| *x *= scale);
    }

    /// Coefficients to slots, in place.
    pub(crate) fn to_slots(&self, values: &mut [Complex64]) {
        bit_reverse(values);
        for twiddles in &self.twiddles[..values.len().trailing_zeros() as usize] {
            let half = twiddles.len();
            for block in values.chunks_exact_mut(2 * half) {
                let (low, high) = block.split_at_mut(half);
                for ((x, y), w) in low.iter_mut().zip(high).zip(twiddles) {
                    let t = *y * w;
                    (*x, *y) = (*x + t, *x - t);
                }
            }
        }
    }
}

fn bit_reverse(values: &mut [Complex64]) {
    let n = values.len();
    if n < 2 {
        return;
    }
    let shift = usize::BITS - n.trailing_zeros();
    for i in 0..n {
        let j = i.reverse_bits() >> shift;
        if i < j {
            values.swap(i, j);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_direct_evaluation() {
        for n in [1usize, 2, 8, 32] {
            let embedding = Embedding::new(n.max(2));
            let slots: Vec<Complex64> =
                (0..n).map(|i| Complex64::new((i as f64).sin(), 0.3 * i as f64 - 1.0)).collect();
            let mut values = slots.clone();
            embedding.to_coefficients(&mut values);
            let coefficients: Vec<f64> =
                values.iter().map(|v| v.re).chain(values.iter().map(|v| v.im)).collect();
            let mut power = 1;
            for slot in &slots {
                let direct: Complex64 = (0..2 * n)
                    .map(|k| {
                        let angle = std::f64::consts::PI * (k * power) as f64 / (2 * n) as f64;
                        coefficients[k] * Complex64::from_polar(1.0, angle)
                    })
                    .sum();
                assert!((direct - slot).norm() < 1e-12);
                power = power * 5 % (4 * n);
            }
            embedding.to_slots(&mut values);
            assert!(values.iter().zip(&slots).all(|(a, b)| (a - b).norm() < 1e-12));
        }
    }
}
