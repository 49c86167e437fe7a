//! Encoded messages: dense ones, fixed to a level, and periodic ones, kept as their few coefficients.

use zeroize::Zeroize;

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
/// it is used. So the weights of a network take kilobytes, and the rounding error of encoding only has 2 x period terms.
#[derive(Clone, Debug, PartialEq)]
pub struct PeriodicPlaintext {
    /// Coefficients in Y = X^(N/(2 period)).
    coefficients: Coefficients,
    scale: f64,
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
        Self { coefficients, scale }
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
        match &self.coefficients {
            Coefficients::Narrow(c) => 4 * c.len(),
            Coefficients::Wide(c) => 8 * c.len(),
        }
    }

    /// Whether every slot is zero.
    pub fn is_zero(&self) -> bool {
        match &self.coefficients {
            Coefficients::Narrow(c) => c.iter().all(|&c| c == 0),
            Coefficients::Wide(c) => c.iter().all(|&c| c == 0),
        }
    }

    /// The values modulo prime `i` of a polynomial with `limbs` limbs: one for each run of positions.
    pub(crate) fn values(&self, parameters: &Parameters, limbs: usize, i: usize) -> Vec<u32> {
        let table = parameters.table(limbs, i);
        let mut values = vec![0; self.len()];
        match &self.coefficients {
            Coefficients::Narrow(c) if table.modulus.value() >> NARROW_BITS > 0 => {
                kernels::from_small(&mut values, c, table.modulus);
            }
            Coefficients::Narrow(c) => {
                values.iter_mut().zip(c).for_each(|(v, &c)| *v = table.modulus.reduce_i64(i64::from(c)));
            }
            Coefficients::Wide(c) => kernels::reduce_signed(&mut values, c, table.modulus),
        }
        table.transform(values.len()).forward(&mut values);
        values
    }

    /// The whole evaluation form at a level.
    pub(crate) fn expand(&self, parameters: &Parameters, level: usize) -> Poly<Evaluation> {
        let mut poly = Poly::scratch(parameters, level + 1, 0);
        poly.for_each_limb(parameters, |i, _, limb| {
            let values = self.values(parameters, level + 1, i);
            let run = limb.len() / values.len();
            for (run, value) in limb.chunks_exact_mut(run).zip(values) {
                run.fill(value);
            }
        });
        poly
    }
}
