//! What operations cost: a model of key switches on 32-bit limbs, from a few unit costs.

use crate::parameters::Ring;

/// Milliseconds of one thread for one limb of N = 2^16 coefficients.
#[derive(Debug, Clone, Copy)]
pub struct Costs {
    /// Inverse transform.
    pub inverse: f64,
    /// Forward transform.
    pub forward: f64,
    /// One product of a basis conversion.
    pub convert: f64,
    /// Product and sum with a value in memory.
    pub product: f64,
    /// Other work on a coefficient.
    pub pointwise: f64,
    /// A gather.
    pub gather: f64,
    /// Gigabytes of key a second.
    pub bandwidth: f64,
    /// Sum or product of two limbs in memory, as a new one.
    pub sum: f64,
}

impl Costs {
    /// How many times as long a run takes on a processor with AVX2 and without AVX-512: 1.5 to 1.8
    /// for ResNet20, with and without gates, 1.8 to 2.2 for LeNet (docs/encrypted-networks.md).
    pub const AVX2: f64 = 1.6;
}

impl Default for Costs {
    fn default() -> Self {
        Self {
            inverse: 0.162,
            forward: 0.128,
            convert: 0.0051,
            product: 0.0118,
            pointwise: 0.030,
            gather: 0.0148,
            bandwidth: 8.0,
            sum: 0.08,
        }
    }
}

/// Milliseconds of the parts of operations at one level.
pub(super) struct LevelCosts {
    /// Decomposition: one polynomial cut into digits, each raised.
    pub decomposition: f64,
    /// Product of digits with a key.
    pub key_product: f64,
    /// Product of a moved ciphertext with a plaintext inside a linear map.
    pub plaintext_product: f64,
    /// Transforms of one plaintext of full length.
    pub transforms: f64,
    /// One limb of a ciphertext's half through memory, times the limbs of the level.
    pub pass: f64,
    unit: Costs,
    /// Limbs, special primes.
    limbs: f64,
    special: f64,
    share: f64,
}

impl LevelCosts {
    /// Those at a level of a ring.
    pub fn new(unit: Costs, ring: &Ring, level: usize) -> Self {
        let shape = ring.switch_shape(level);
        let digits = shape.digits(level + 1);
        let n = f64::from(ring.literal().log_ring_degree);
        // Costs grow with N log N.
        let share = (n - 16.0).exp2() * n / 16.0;
        let (l, k, d) = ((level + 1) as f64, shape.special as f64, digits as f64);
        let part = (level + 1).div_ceil(digits);
        let convert: f64 = (0..digits)
            .map(|d| (level + 1).saturating_sub(d * part).min(part) as f64)
            .map(|x| x * (l + k - x) * unit.convert)
            .sum();
        let key = 2.0 * d * (l + k) * ring.ring_degree() as f64 * 4.0 / 1e6;
        let decomposition = l * unit.inverse + convert + (d * (l + k) - l) * unit.forward;
        let memory = key / unit.bandwidth / share;
        let key_product = memory.max(2.0 * d * (l + k) * unit.product) + 2.0 * (l + k) * unit.gather;
        Self {
            decomposition: decomposition * share,
            key_product: key_product * share,
            plaintext_product: 2.0 * (l + k) * unit.product * share,
            transforms: (l + k) * unit.forward * share,
            pass: l * unit.sum * share,
            unit,
            limbs: l,
            special: k,
            share,
        }
    }

    /// Division of one polynomial by the last `primes` primes, and by the special ones if it is one
    /// modulo Q P.
    pub fn division(&self, extended: bool, primes: usize) -> f64 {
        let divided = primes as f64 + if extended { self.special } else { 0.0 };
        let kept = self.limbs - primes as f64;
        let transforms = divided * self.unit.inverse + kept * (self.unit.forward + self.unit.pointwise);
        (transforms + divided * kept * self.unit.convert) * self.share
    }

    /// A term of a sum modulo Q P that is not moved: both halves pass through memory once more.
    pub fn extended_term(&self) -> f64 {
        2.0 * (self.limbs + self.special) * self.unit.pointwise * self.share
    }
}
