//! Bootstrapping a ciphertext; see [`crate::bootstrap`] for the circuit.

use std::f64::consts::TAU;

use crate::bootstrap::circuit::Circuit;
use crate::bootstrap::function::BootstrapFunction;
use crate::bootstrap::keys::BootstrapKeys;
use crate::bootstrap::plan::{BootstrapPlan, FROM_SPARSE_SPECIAL, TO_SPARSE_SPECIAL};
use crate::bootstrap::raise::raise;
use crate::ciphertext::Ciphertext;
use crate::error::{Error, Result};
use crate::evaluator::Evaluator;
use crate::key_switch::{Addend, Decomposition};
use crate::plan::KeyShape;

/// Primes that a level of a function's polynomial takes: 60 bits of scale, so that noise stays below the error of a fit.
const FUNCTION_PRIMES: usize = 2;

impl Evaluator {
    /// A ciphertext of the same real values at the highest level that computation may use,
    /// [`crate::RingPlan::bootstrap_levels`]. Imaginary parts are dropped.
    ///
    /// Slots must not exceed the literal's bound; the sine that stands behind them bends a value v by
    /// v (2 pi v / (bound 2^ratio))^2 / 6, and one far outside wraps around. The ciphertext may be at
    /// any level from the lowest of those on; its scale must not exceed 2^45, after which the result's follows: about 2^42.
    ///
    /// # Errors
    /// [`Error::Bootstrap`] for parameters without a bootstrap or a scale that is too large, [`Error::Level`] below the lowest level,
    /// [`Error::MissingKey`] if a key is missing.
    pub fn bootstrap(&self, a: &Ciphertext, keys: &BootstrapKeys) -> Result<Ciphertext> {
        let plan = self.parameters.bootstrap_plan()?;
        keys.check(&self.parameters)?;
        let circuit = keys.circuit(&self.parameters)?;
        let input = plan.input_scale(a.scale)?;
        let (x, scale) = self.raised_slots(a, (input, 1.0), (plan, circuit), keys)?;
        let mut y = self.sine(&self.twice_real(&x, keys)?, (plan, circuit), keys)?;
        y.scale *= TAU * scale / circuit.scales.base;
        Ok(y)
    }

    /// As [`Self::bootstrap`], with functions in place of the identity, all at the cost of one raise. Each takes twice as many primes as
    /// its polynomial has levels, which the results lie lower; they come at `scale`.
    ///
    /// Slots must lie in the functions' interval, and the functions must share it and the margin. The ciphertext's scale must not
    /// exceed 2^35.
    ///
    /// # Errors
    /// As [`Self::bootstrap`]; [`Error::Bootstrap`] for functions of several intervals, or none.
    pub fn bootstrap_with(
        &self,
        a: &Ciphertext,
        functions: &[BootstrapFunction],
        scale: f64,
        keys: &BootstrapKeys,
    ) -> Result<Vec<Ciphertext>> {
        let plan = self.parameters.bootstrap_plan()?;
        let Some(first) = functions.first() else {
            return Err(Error::Bootstrap("no functions were given".into()));
        };
        let (middle, reach) = first.centre();
        if functions.iter().any(|f| f.centre() != (middle, reach)) {
            return Err(Error::Bootstrap(
                "its functions have several intervals or margins: fit them with one".into(),
            ));
        }
        keys.check(&self.parameters)?;
        let circuit = keys.circuit(&self.parameters)?;
        let a = if middle == 0.0 { a.clone() } else { self.add_scalar(a, -middle)? };
        let factors = circuit.scales.function(plan, a.scale, reach)?;
        let (x, _) = self.raised_slots(&a, factors, (plan, circuit), keys)?;
        let y = self.sine(&self.twice_real(&x, keys)?, (plan, circuit), keys)?;
        let value = |f: &BootstrapFunction| {
            self.evaluate_polynomial_by(&y, f.polynomial(), scale, FUNCTION_PRIMES, &keys.evaluation)
        };
        functions.iter().map(value).collect()
    }

    /// x and its conjugate: twice the real part, at twice the scale.
    fn twice_real(&self, x: &Ciphertext, keys: &BootstrapKeys) -> Result<Ciphertext> {
        let mut real = self.add(x, &self.conjugate(x, &keys.evaluation)?)?;
        real.scale *= 2.0;
        Ok(real)
    }

    /// As [`Self::bootstrap`], for complex slots, at the cost of a second sine.
    ///
    /// # Errors
    /// As there.
    pub fn bootstrap_complex(&self, a: &Ciphertext, keys: &BootstrapKeys) -> Result<Ciphertext> {
        let plan = self.parameters.bootstrap_plan()?;
        keys.check(&self.parameters)?;
        let circuit = keys.circuit(&self.parameters)?;
        let input = plan.input_scale(a.scale)?;
        let (x, scale) = self.raised_slots(a, (input, 1.0), (plan, circuit), keys)?;
        let conjugate = self.conjugate(&x, &keys.evaluation)?;
        let mut real = self.add(&x, &conjugate)?;
        let mut imaginary = self.times_i(&self.sub(&conjugate, &x)?)?;
        (real.scale, imaginary.scale) = (real.scale * 2.0, imaginary.scale * 2.0);
        let real = self.sine(&real, (plan, circuit), keys)?;
        let imaginary = self.sine(&imaginary, (plan, circuit), keys)?;
        let mut y = self.add(&real, &self.times_i(&imaginary)?)?;
        y.scale *= TAU * scale / circuit.scales.base;
        Ok(y)
    }

    /// Steps 1 to 4 but for the conjugate: slots hold coefficients over q_0, with multiples of one. Also the scale that values
    /// had as coefficients. Whole factors multiply the ciphertext at first, to the input scale, and its coefficients.
    fn raised_slots(
        &self,
        a: &Ciphertext,
        ((input, factor), gain): ((f64, f64), f64),
        (plan, circuit): (&BootstrapPlan, &Circuit),
        keys: &BootstrapKeys,
    ) -> Result<(Ciphertext, f64)> {
        let mut x = self.mul_scalar(&self.drop_level(a, plan.input)?, factor, 1.0)?;
        x.scale = input;
        for (map, primes) in circuit.to_coefficients.iter().zip(plan.input_primes()) {
            x = self.linear_transform_and_rescale(&x, map, primes, &keys.evaluation)?;
        }
        // With a gain values fill more of q_0, up to half a period.
        x = self.mul_scalar(&x, gain, 1.0)?;
        let scale = x.scale * gain;
        let mut x = self.raise_and_map(&x, circuit, plan, keys)?;
        for (map, primes) in circuit.to_slots.iter().zip(plan.output_primes()).skip(1) {
            x = self.linear_transform_and_rescale(&x, map, primes, &keys.evaluation)?;
        }
        // The maps multiply by the number of slots.
        x.scale *= self.parameters.slots() as f64;
        Ok((x, scale))
    }

    /// Steps 2 and 3 and the first map of step 4.
    fn raise_and_map(
        &self,
        x: &Ciphertext,
        circuit: &Circuit,
        plan: &BootstrapPlan,
        keys: &BootstrapKeys,
    ) -> Result<Ciphertext> {
        let (p, base, limbs) = (&self.parameters, plan.literal.base, plan.top + 1);
        debug_assert_eq!(x.level() + 1, base);
        let shape = KeyShape { digit_limbs: base, special: TO_SPARSE_SPECIAL };
        let digits = vec![raise(p, &x.c[1], base, shape.special)];
        let sparse = Decomposition { shape, digits };
        let addends = [Addend::Raised(&x.c[0]), Addend::Nothing];
        let [c0, c1] = self.switch(&sparse, &keys.to_sparse, addends, 0, None);
        let shape = KeyShape { digit_limbs: limbs, special: FROM_SPARSE_SPECIAL };
        let c1 = raise(p, &c1, limbs, shape.special);
        let c0 = raise(p, &c0, limbs, 0);
        let raised = Ciphertext { c: [c0, c1.prefix(limbs)], scale: circuit.scales.base };
        let digits = Decomposition { shape, digits: vec![c1] };
        let map = &circuit.to_slots[0];
        let babies = map
            .babies()
            .iter()
            .map(|&by| keys.from_sparse.iter().find(|key| key.element == p.galois_element(by)))
            .collect::<Vec<_>>();
        self.linear_transform_by(&raised, &digits, &babies, map, plan.output_primes()[0])
    }

    /// Step 5: sin(2 pi x) for real slots x.
    fn sine(
        &self,
        x: &Ciphertext,
        (plan, circuit): (&BootstrapPlan, &Circuit),
        keys: &BootstrapKeys,
    ) -> Result<Ciphertext> {
        debug_assert!(
            (x.scale / circuit.scales.sine - 1.0).abs() < 1e-6,
            "{} {}",
            x.scale,
            circuit.scales.sine
        );
        let (p, stride) = (&self.parameters, plan.literal.primes_per_level);
        let level = x.level() - stride * circuit.series.cosine.depth();
        let mut y = self.evaluate_polynomial_by(
            x,
            &circuit.series.cosine,
            p.rung(level, stride),
            stride,
            &keys.evaluation,
        )?;
        for _ in 0..plan.literal.doublings {
            // 2 y^2 - 1.
            let product = self.mul(&self.mul_scalar(&y, 2.0, 1.0)?, &y)?;
            y = self.add_scalar(&self.relinearize_and_rescale(&product, stride, &keys.evaluation)?, -1.0)?;
        }
        Ok(y)
    }

    /// i a, exactly: a product with a power of X.
    fn times_i(&self, a: &Ciphertext) -> Result<Ciphertext> {
        let i = crate::PeriodicPlaintext::imaginary_unit();
        self.mul_periodic(a, &i)
    }
}

#[cfg(all(test, feature = "secret-key"))]
mod tests {
    use super::*;
    use crate::bootstrap::multiples::probabilities;
    use crate::encoder::centred_values;
    use crate::secret::{SecretEncryptor, SecretKey};
    use crate::{Encoder, ParametersLiteral, Security};
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    /// Raising adds multiples of q_0 to the message, exactly, and they are distributed as the failure is computed from.
    #[test]
    fn raising_adds_multiples_of_the_base() {
        let literal = ParametersLiteral {
            log_ring_degree: 14,
            security: Security::InsecureForTests,
            ..ParametersLiteral::bootstrapping()
        };
        let p = literal.build().unwrap();
        let (weight, base) = (64, 2);
        let mut rng = ChaCha20Rng::seed_from_u64(5);
        let sparse = SecretKey::sparse(&p, weight, &mut rng);
        let plain = Encoder::new(&p).encode_real(&[1.0, -2.0], 25f64.exp2(), base - 1).unwrap();
        let low = SecretEncryptor::new(&p, &sparse).unwrap().encrypt(&plain, &mut rng).unwrap();
        // Three limbs hold what is raised, and floats hold it exactly.
        let high = Ciphertext { c: low.c.each_ref().map(|c| raise(&p, c, 3, 0)), scale: low.scale };
        let decryptor = crate::Decryptor::new(&p, &sparse).unwrap();
        let coefficients = |a: &Ciphertext| {
            centred_values(&p, &decryptor.decrypt(a).unwrap().poly.clone().into_coefficients(&p))
        };
        let q: f64 = (0..base).map(|i| f64::from(p.modulus(i))).product();
        let expected = probabilities(weight);
        let mut counts = vec![0usize; expected.len()];
        for (t, m) in coefficients(&high).into_iter().zip(coefficients(&low)) {
            let multiple = (t - m) / q;
            assert_eq!(multiple, multiple.round(), "{t} - {m} is no multiple of {q}");
            counts[multiple.abs() as usize] += 1;
        }
        let n = p.ring_degree() as f64;
        for (i, (&count, probability)) in counts.iter().zip(expected).enumerate() {
            let mean = n * probability * if i == 0 { 1.0 } else { 2.0 };
            assert!((count as f64 - mean).abs() <= 5.0 * mean.sqrt() + 1.0, "{i}: {count} for {mean}");
        }
    }
}
