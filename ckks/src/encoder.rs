//! Encoding: complex or real slots to plaintexts, and back.
//!
//! A message z at scale D becomes the integer polynomial round(D m), where m has the slots z. The rounding error of a slot has deviation
//! sqrt(n/12)/D for n nonzero coefficients: N for a dense plaintext, 2 x period for a periodic one.

use num_complex::Complex64;
use zeroize::{Zeroize, Zeroizing};

use crate::ciphertext::Ciphertext;
use crate::embedding::Embedding;
use crate::error::{Error, Result};
use crate::parameters::Parameters;
use crate::plaintext::{PeriodicPlaintext, Plaintext};
use crate::poly::{Coefficient, Poly};

/// log2 of the largest coefficient of a dense plaintext.
const DENSE_LIMIT: u32 = 120;
/// log2 of the largest coefficient of a periodic plaintext.
const PERIODIC_LIMIT: u32 = 62;
/// Bits by which a decoded value may exceed the scale.
const DECODE_HEADROOM: f64 = 64.0;

/// Encodes and decodes for one set of parameters.
///
/// ```
/// use ckks::{Complex64, Encoder, ParametersLiteral};
///
/// let encoder = Encoder::new(&ParametersLiteral::insecure_toy(10, 1, 2).build()?);
/// let values = [Complex64::new(0.5, -1.0), Complex64::new(3.25, 0.0)];
/// let plaintext = encoder.encode(&values, 2f64.powi(30), 1)?;
/// let slots = encoder.decode(&plaintext);
/// assert!((slots[0] - values[0]).norm() < 1e-6 && slots[2].norm() < 1e-6);
/// # Ok::<(), ckks::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Encoder {
    parameters: Parameters,
    embedding: Embedding,
}

/// A copy of a message: wiped when dropped, for it may be what a client is about to encrypt.
struct Slots(Vec<Complex64>);

impl Slots {
    fn real(values: &[f64]) -> Self {
        Self(values.iter().map(|&v| Complex64::new(v, 0.0)).collect())
    }

    /// These values, and zeros up to `len`. Nothing is moved afterwards, which would leave a copy behind.
    fn padded(values: &[Complex64], len: usize) -> Self {
        let mut slots = Vec::with_capacity(len.max(values.len()));
        slots.extend_from_slice(values);
        slots.resize(len.max(values.len()), Complex64::default());
        Self(slots)
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        for slot in &mut self.0 {
            slot.re.zeroize();
            slot.im.zeroize();
        }
    }
}

/// Rounds coefficients at a scale in place, refusing what is not finite or reaches 2^limit.
fn quantise(values: &mut [f64], scale: f64, limit_log2: u32) -> Result<()> {
    let limit = f64::from(limit_log2).exp2();
    for (index, v) in values.iter_mut().enumerate() {
        *v = (*v * scale).round();
        if v.is_nan() || v.abs() >= limit {
            return Err(Error::Value { index, limit_log2 });
        }
    }
    Ok(())
}

impl Encoder {
    /// Prepares the tables.
    pub fn new(parameters: &Parameters) -> Self {
        Self { parameters: parameters.clone(), embedding: Embedding::new(parameters.slots()) }
    }

    /// The parameters encoded for.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Coefficients of the polynomial with these slots, real parts first.
    fn coefficients(&self, mut slots: Slots) -> Zeroizing<Vec<f64>> {
        self.embedding.to_coefficients(&mut slots.0);
        Zeroizing::new(slots.0.iter().map(|v| v.re).chain(slots.0.iter().map(|v| v.im)).collect())
    }

    /// Encodes up to N/2 complex slots; missing ones are zero.
    ///
    /// # Errors
    /// Too many values, a level or scale the parameters do not have, or a value that is not finite or too large.
    pub fn encode(&self, values: &[Complex64], scale: f64, level: usize) -> Result<Plaintext> {
        self.encode_extended(values, scale, level, 0)
    }

    /// Encodes up to N/2 real slots; missing ones are zero.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_real(&self, values: &[f64], scale: f64, level: usize) -> Result<Plaintext> {
        self.encode(&Slots::real(values).0, scale, level)
    }

    /// Encodes up to N/2 real slots at the level and the scale of a ciphertext, to be added to it.
    ///
    /// A factor is encoded at the scale of the prime that the next rescale divides by, `parameters().modulus(level)`, so that the
    /// ciphertext's scale comes back.
    ///
    /// # Errors
    /// As [`Self::encode`].
    ///
    /// ```
    /// # use ckks::{Encoder, Evaluator, ParametersLiteral, SecretEncryptor, SecretKey};
    /// # let parameters = ParametersLiteral::insecure_toy(10, 2, 3).build()?;
    /// # let mut rng = rand::rng();
    /// # let encryptor = SecretEncryptor::new(&parameters, &SecretKey::generate(&parameters, &mut rng))?;
    /// # let (encoder, evaluator) = (Encoder::new(&parameters), Evaluator::new(&parameters));
    /// let x = encryptor.encrypt(&encoder.encode_real(&[0.5; 3], 2f64.powi(28), 1)?, &mut rng)?;
    /// let sum = evaluator.add_plain(&x, &encoder.encode_like(&[1.0, 2.0, 3.0], &x)?)?;
    /// # assert_eq!((sum.level(), sum.scale()), (1, 2f64.powi(28)));
    /// # Ok::<(), ckks::Error>(())
    /// ```
    pub fn encode_like(&self, values: &[f64], ciphertext: &Ciphertext) -> Result<Plaintext> {
        self.encode_real(values, ciphertext.scale(), ciphertext.level())
    }

    /// Encodes for use in a linear map, over `special` special primes as well (those of the keys' [`crate::KeyShape`]).
    ///
    /// # Errors
    /// As [`Self::encode`], or more special primes than there are.
    pub fn encode_extended(
        &self,
        values: &[Complex64],
        scale: f64,
        level: usize,
        special: usize,
    ) -> Result<Plaintext> {
        let p = &self.parameters;
        p.check_level("encode", level)?;
        p.check_scale("encode", scale, level)?;
        if special > p.special_primes() {
            let (least, most) = (0, p.special_primes());
            return Err(Error::Count { what: "special primes", given: special, least, most });
        }
        if values.len() > p.slots() {
            let expected = format!("at most {} slots", p.slots());
            return Err(Error::Length { given: values.len(), expected });
        }
        let mut quantised = self.coefficients(Slots::padded(values, p.slots()));
        quantise(&mut quantised, scale, DENSE_LIMIT)?;
        let poly = if quantised.iter().all(|v| v.abs() < f64::from(PERIODIC_LIMIT).exp2()) {
            let integers: Zeroizing<Vec<i64>> = Zeroizing::new(quantised.iter().map(|&v| v as i64).collect());
            Poly::from_signed(p, level + 1, special, &integers)
        } else {
            let mut poly = Poly::<Coefficient>::scratch(p, level + 1, special);
            poly.for_each_limb(p, |_, m, limb| {
                for (x, &v) in limb.iter_mut().zip(quantised.iter()) {
                    *x = m.reduce_i128(v as i128);
                }
            });
            poly
        };
        Ok(Plaintext { poly: poly.into_evaluation(p), scale })
    }

    /// Encodes complex slots that repeat with the length of `values`, a power of two up to N/2, at the cost of that period.
    ///
    /// # Errors
    /// A length that is not such a period, or a value that is not finite or reaches 2^62 at this scale.
    pub fn encode_periodic(&self, values: &[Complex64], scale: f64) -> Result<PeriodicPlaintext> {
        let quantised = self.periodic_coefficients(values, scale)?;
        Ok(PeriodicPlaintext::new(quantised.iter().map(|&v| v as i64).collect(), scale))
    }

    /// The coefficients of slots that repeat, rounded at a scale.
    fn periodic_coefficients(&self, values: &[Complex64], scale: f64) -> Result<Zeroizing<Vec<f64>>> {
        let (given, slots) = (values.len(), self.parameters.slots());
        if !given.is_power_of_two() || given > slots {
            let expected = format!("a power-of-two period up to {slots}");
            return Err(Error::Length { given, expected });
        }
        self.parameters.check_scale("encode_periodic", scale, self.parameters.max_level())?;
        let mut quantised = self.coefficients(Slots::padded(values, given));
        quantise(&mut quantised, scale, PERIODIC_LIMIT)?;
        Ok(quantised)
    }

    /// The slots that [`Self::encode_periodic`] holds in place of `values`: off by what rounding at this scale takes.
    ///
    /// # Errors
    /// As [`Self::encode_periodic`].
    pub fn rounded(&self, values: &[Complex64], scale: f64) -> Result<Vec<Complex64>> {
        let quantised = self.periodic_coefficients(values, scale)?;
        let (re, im) = quantised.split_at(values.len());
        let mut slots: Vec<Complex64> =
            re.iter().zip(im).map(|(&re, &im)| Complex64::new(re, im) / scale).collect();
        self.embedding.to_slots(&mut slots);
        Ok(slots)
    }

    /// Encodes real slots that repeat with the length of `values`.
    ///
    /// # Errors
    /// As [`Self::encode_periodic`].
    pub fn encode_periodic_real(&self, values: &[f64], scale: f64) -> Result<PeriodicPlaintext> {
        self.encode_periodic(&Slots::real(values).0, scale)
    }

    /// The slots of a plaintext. Values up to 2^64 are recovered, as far as the modulus of its level holds them.
    pub fn decode(&self, plaintext: &Plaintext) -> Vec<Complex64> {
        let p = &self.parameters;
        let wanted = plaintext.scale.log2().max(0.0) + DECODE_HEADROOM;
        let limbs = (1..=plaintext.poly.limbs())
            .find(|&l| p.modulus_log2(l - 1) > wanted)
            .unwrap_or(plaintext.poly.limbs());
        let mut poly = plaintext.poly.prefix(limbs).into_coefficients(p);
        let coefficients = Zeroizing::new(centred_values(p, &poly));
        poly.data_mut().zeroize();
        let (re, im) = coefficients.split_at(p.slots());
        let scale = 1.0 / plaintext.scale;
        let mut slots: Vec<Complex64> =
            re.iter().zip(im).map(|(&re, &im)| Complex64::new(re * scale, im * scale)).collect();
        self.embedding.to_slots(&mut slots);
        slots
    }
}

/// The coefficients in (-Q/2, Q/2), as floats: balanced mixed-radix digits (Garner), summed from the top, so that small
/// numbers are exact.
pub(crate) fn centred_values(parameters: &Parameters, poly: &Poly<Coefficient>) -> Vec<f64> {
    let limbs = poly.limbs();
    let moduli: Vec<_> = (0..limbs).map(|i| parameters.table(limbs, i).modulus).collect();
    // inverses[i][j] = q_j^-1 mod q_i for j < i.
    let inverses: Vec<Vec<u32>> = (0..limbs)
        .map(|i| (0..i).map(|j| moduli[i].invert(moduli[j].value() % moduli[i].value())).collect())
        .collect();
    let mut digits = vec![0i64; limbs];
    (0..poly.degree())
        .map(|at| {
            for i in 0..limbs {
                let m = moduli[i];
                let mut rest = poly.limb(i)[at];
                for j in 0..i {
                    rest = m.mul(m.sub(rest, m.reduce_i64(digits[j])), inverses[i][j]);
                }
                let q = i64::from(m.value());
                digits[i] = i64::from(rest) - if i64::from(rest) > q / 2 { q } else { 0 };
            }
            digits.iter().zip(&moduli).rev().fold(0.0, |sum, (&d, m)| sum * f64::from(m.value()) + d as f64)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::literal::ParametersLiteral;

    fn wave(n: usize) -> Vec<Complex64> {
        (0..n).map(|i| Complex64::new((i as f64 * 0.37).sin(), (i as f64 * 0.11).cos() * 0.5)).collect()
    }

    #[test]
    fn decodes_what_it_encodes() {
        let parameters = ParametersLiteral::insecure_toy(9, 4, 2).build().unwrap();
        let encoder = Encoder::new(&parameters);
        for (scale_log2, level) in [(25, 0), (30, 1), (40, 4), (90, 4)] {
            let scale = f64::from(scale_log2).exp2();
            let values = wave(256);
            let decoded = encoder.decode(&encoder.encode(&values, scale, level).unwrap());
            let worst = decoded.iter().zip(&values).map(|(a, b)| (a - b).norm()).fold(0.0, f64::max);
            assert!(worst < 40.0 / scale + 1e-13, "{worst} at 2^{scale_log2}");
        }
    }

    #[test]
    fn periodic_plaintexts_are_the_repeated_dense_ones() {
        let parameters = ParametersLiteral::insecure_toy(9, 2, 2).build().unwrap();
        let encoder = Encoder::new(&parameters);
        for period in [1usize, 2, 16, 64, 256] {
            let values = wave(period);
            let scale = f64::from(20).exp2();
            let periodic = encoder.encode_periodic(&values, scale).unwrap();
            assert_eq!(periodic.period(), period);
            let repeated: Vec<Complex64> = values.iter().cycle().take(256).copied().collect();
            let dense = encoder.encode(&repeated, scale, 2).unwrap();
            assert_eq!(periodic.expand(&parameters, 2), dense.poly);
        }
    }

    #[test]
    fn rounded_slots_are_those_of_the_plaintext() {
        let parameters = ParametersLiteral::insecure_toy(9, 2, 2).build().unwrap();
        let encoder = Encoder::new(&parameters);
        for period in [4usize, 64, 256] {
            let (values, scale) = (wave(period), f64::from(9).exp2());
            let rounded = encoder.rounded(&values, scale).unwrap();
            let dense: Vec<Complex64> = values.iter().cycle().take(256).copied().collect();
            let decoded = encoder.decode(&encoder.encode(&dense, scale, 2).unwrap());
            assert!(rounded.iter().cycle().zip(&decoded).all(|(a, b)| (a - b).norm() < 1e-12));
            assert!(rounded.iter().zip(&values).any(|(a, b)| (a - b).norm() > 1e-4), "nothing was rounded");
        }
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let parameters = ParametersLiteral::insecure_toy(6, 1, 2).build().unwrap();
        let encoder = Encoder::new(&parameters);
        assert!(matches!(encoder.encode_real(&[0.0; 33], 2.0, 0), Err(Error::Length { .. })));
        assert!(matches!(encoder.encode_real(&[f64::NAN], 2.0, 0), Err(Error::Value { .. })));
        assert!(matches!(encoder.encode_real(&[1.0], f64::INFINITY, 0), Err(Error::Scale { .. })));
        assert!(matches!(encoder.encode_real(&[1.0], 2.0, 2), Err(Error::Level { .. })));
        assert!(matches!(encoder.encode_periodic_real(&[1.0; 3], 2.0), Err(Error::Length { .. })));
    }
}
