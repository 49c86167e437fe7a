//! Encoded messages: dense ones, fixed to a level, and periodic ones, kept as their few coefficients.

use std::borrow::Cow;

use rayon::prelude::*;
use zeroize::Zeroize;

use crate::error::{Error, Result};
use crate::kernels;
use crate::parameters::Parameters;
use crate::poly::{Evaluation, Poly};

/// An encoded vector of slots at a scale and a level.
#[derive(Clone, Debug)]
pub struct Plaintext {
    pub(crate) poly: Poly<Evaluation>,
    pub(crate) scale: f64,
}

impl Drop for Plaintext {
    /// Wipes the message before its memory is recycled: it may be what the client encrypts or has decrypted.
    fn drop(&mut self) {
        self.poly.data_mut().zeroize();
    }
}

impl Plaintext {
    /// Level: the number of limbs less one.
    pub fn level(&self) -> usize {
        self.poly.limbs() - 1
    }

    /// Factor between a slot's value and what is encoded.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Special primes that the plaintext also covers, so that it can multiply inside a linear map.
    pub fn special(&self) -> usize {
        self.poly.special()
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        4 * self.poly.data().len()
    }
}

/// An encoded vector whose slots repeat with a power-of-two period: 2 x period integers, whatever the level.
///
/// As a polynomial it has nonzero coefficients only at multiples of N/(2 period). Modulo a prime its evaluation form is one
/// transform of size 2 period, each value of which stands for a run of N/(2 period) positions; it is made, limb by limb, where
/// it is used, or once and for all by [`Self::transform`]. So the weights of a network take kilobytes, and the rounding error of
/// encoding only has 2 x period terms.
#[derive(Clone, Debug, PartialEq)]
pub struct PeriodicPlaintext {
    /// Coefficients in Y = X^(N/(2 period)).
    coefficients: Coefficients,
    scale: f64,
    transformed: Option<Transformed>,
}

/// Values modulo the primes of a level and some special ones, prime after prime.
#[derive(Clone, Debug, PartialEq)]
struct Transformed {
    limbs: usize,
    special: usize,
    values: Vec<u32>,
}

/// Integers in the narrowest form that holds them: weights are read for every limb of every product.
#[derive(Clone, Debug, PartialEq)]
enum Coefficients {
    /// All below 2^[`NARROW_BITS`] in absolute value.
    Narrow(Vec<i32>),
    /// All below 2^62.
    Wide(Vec<i64>),
}

/// Fewer bits than the primes of rings of cryptographic size have.
const NARROW_BITS: u32 = 17;

impl PeriodicPlaintext {
    /// From coefficients below 2^62 in absolute value.
    pub(crate) fn new(coefficients: Vec<i64>, scale: f64) -> Self {
        let narrow = coefficients.iter().all(|c| c.unsigned_abs() < 1 << NARROW_BITS);
        let coefficients = if narrow {
            Coefficients::Narrow(coefficients.into_iter().map(|c| c as i32).collect())
        } else {
            Coefficients::Wide(coefficients)
        };
        Self { coefficients, scale, transformed: None }
    }

    /// i in every slot, at scale 1: X^(N/2), exactly.
    pub(crate) fn imaginary_unit() -> Self {
        Self::new(vec![0, 1], 1.0)
    }

    fn len(&self) -> usize {
        match &self.coefficients {
            Coefficients::Narrow(c) => c.len(),
            Coefficients::Wide(c) => c.len(),
        }
    }

    /// Slots after which the values repeat.
    pub fn period(&self) -> usize {
        self.len() / 2
    }

    /// Factor between a slot's value and what is encoded.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        let coefficients = match &self.coefficients {
            Coefficients::Narrow(c) => 4 * c.len(),
            Coefficients::Wide(c) => 8 * c.len(),
        };
        coefficients + self.transformed.as_ref().map_or(0, |t| 4 * t.values.len())
    }

    /// Bytes that [`Self::transform`] takes.
    pub fn transformed_bytes(&self, level: usize, special: usize) -> usize {
        4 * self.len() * (level + 1 + special)
    }

    /// Keeps the values at one level and modulo so many special primes, for a plaintext that is used there again and again; any other
    /// level makes them as before.
    ///
    /// # Errors
    /// [`Error::Level`] or [`Error::Parameters`] if there are fewer primes.
    pub fn transform(&mut self, parameters: &Parameters, level: usize, special: usize) -> Result<()> {
        if level > parameters.max_level() {
            return Err(Error::Level { op: "transform", required: level, available: parameters.max_level() });
        }
        if special > parameters.special_primes() {
            return Err(Error::Parameters { what: "a periodic plaintext's special primes" });
        }
        let limbs = level + 1;
        let mut values = vec![0; self.len() * (limbs + special)];
        values
            .par_chunks_exact_mut(self.len())
            .enumerate()
            .for_each(|(i, row)| self.transform_into(row, parameters, limbs, i));
        self.transformed = Some(Transformed { limbs, special, values });
        Ok(())
    }

    /// Whether the values at a level and modulo so many special primes are kept.
    pub fn is_kept(&self, level: usize, special: usize) -> bool {
        self.transformed.as_ref().is_some_and(|t| t.limbs == level + 1 && special <= t.special)
    }

    /// Whether every slot is zero.
    pub fn is_zero(&self) -> bool {
        match &self.coefficients {
            Coefficients::Narrow(c) => c.iter().all(|&c| c == 0),
            Coefficients::Wide(c) => c.iter().all(|&c| c == 0),
        }
    }

    /// The values modulo prime `i` of a polynomial with `limbs` limbs: one for each run of positions.
    pub(crate) fn values(&self, parameters: &Parameters, limbs: usize, i: usize) -> Cow<'_, [u32]> {
        let kept = self.transformed.as_ref().filter(|t| t.limbs == limbs && i < limbs + t.special);
        if let Some(kept) = kept {
            return Cow::Borrowed(&kept.values[i * self.len()..(i + 1) * self.len()]);
        }
        let mut values = vec![0; self.len()];
        self.transform_into(&mut values, parameters, limbs, i);
        Cow::Owned(values)
    }

    fn transform_into(&self, values: &mut [u32], parameters: &Parameters, limbs: usize, i: usize) {
        let table = parameters.table(limbs, i);
        match &self.coefficients {
            Coefficients::Narrow(c) if table.modulus.value() >> NARROW_BITS > 0 => {
                kernels::from_small(values, c, table.modulus);
            }
            Coefficients::Narrow(c) => {
                values.iter_mut().zip(c).for_each(|(v, &c)| *v = table.modulus.reduce_i64(i64::from(c)));
            }
            Coefficients::Wide(c) => kernels::reduce_signed(values, c, table.modulus),
        }
        table.transform(values.len()).forward(values);
    }

    /// The whole evaluation form at a level.
    pub(crate) fn expand(&self, parameters: &Parameters, level: usize) -> Poly<Evaluation> {
        let mut poly = Poly::scratch(parameters, level + 1, 0);
        poly.for_each_limb(parameters, |i, _, limb| {
            let values = self.values(parameters, level + 1, i);
            let run = limb.len() / values.len();
            for (run, &value) in limb.chunks_exact_mut(run).zip(values.iter()) {
                run.fill(value);
            }
        });
        poly
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Encoder, ParametersLiteral};

    /// Kept values are those that are made at every use, at their level and at others, and modulo special primes that are not kept.
    #[test]
    fn kept_values_are_those_of_every_use() {
        let parameters = ParametersLiteral::insecure_toy(10, 4, 3).build().unwrap();
        let encoder = Encoder::new(&parameters);
        // Narrow coefficients, and wide ones.
        for scale in [2f64.powi(10), 2f64.powi(40)] {
            let plain = encoder.encode_periodic_real(&[0.5, -1.0, 0.25, 1.0], scale).unwrap();
            let mut kept = plain.clone();
            kept.transform(&parameters, 2, 2).unwrap();
            assert_eq!(kept.bytes(), plain.bytes() + kept.transformed_bytes(2, 2));
            for limbs in 1..=parameters.max_level() + 1 {
                for i in 0..limbs + parameters.special_primes() {
                    let (kept, made) =
                        (kept.values(&parameters, limbs, i), plain.values(&parameters, limbs, i));
                    assert_eq!(kept, made);
                    assert_eq!(matches!(kept, Cow::Borrowed(_)), limbs == 3 && i < 5);
                }
            }
            assert!(kept.transform(&parameters, parameters.max_level() + 1, 0).is_err());
            assert!(kept.transform(&parameters, 0, parameters.special_primes() + 1).is_err());
        }
    }
}
