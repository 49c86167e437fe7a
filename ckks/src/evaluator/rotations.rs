//! Rotations and conjugation: automorphisms followed by a key switch.
//!
//! A key holds the encryption of s under the inverse automorphism of s, so the digits of c1 are multiplied as they are, and
//! only the two results are permuted: many rotations share one decomposition (hoisting).

use crate::ciphertext::Ciphertext;
use crate::error::{Error, Result};
use crate::evaluation_keys::{EvaluationKeys, GaloisKey};
use crate::evaluator::Evaluator;
use crate::galois::GaloisElement;
use crate::key_switch::{Addend, Decomposition};
use crate::plan::KeyShape;

impl Evaluator {
    /// Moves every slot `rotation` places to the left (to the right where negative). Level and scale stay.
    ///
    /// # Errors
    /// [`Error::MissingKey`] if no key for it reaches the level.
    pub fn rotate(&self, a: &Ciphertext, rotation: i64, keys: &EvaluationKeys) -> Result<Ciphertext> {
        self.automorphism(a, self.parameters.galois_element(rotation), keys)
    }

    /// Conjugates every slot. Level and scale stay.
    ///
    /// # Errors
    /// [`Error::MissingKey`] if no key for it reaches the level.
    pub fn conjugate(&self, a: &Ciphertext, keys: &EvaluationKeys) -> Result<Ciphertext> {
        self.rotate_and_conjugate(a, 0, keys)
    }

    /// Moves every slot `rotation` places to the left and conjugates it, by one key. Level and scale stay.
    ///
    /// # Errors
    /// [`Error::MissingKey`] if no key for both reaches the level.
    pub fn rotate_and_conjugate(
        &self,
        a: &Ciphertext,
        rotation: i64,
        keys: &EvaluationKeys,
    ) -> Result<Ciphertext> {
        self.automorphism(a, self.parameters.conjugating_element(rotation), keys)
    }

    fn automorphism(
        &self,
        a: &Ciphertext,
        element: GaloisElement,
        keys: &EvaluationKeys,
    ) -> Result<Ciphertext> {
        self.check("the ciphertext", &a.c[0])?;
        if element.is_identity() {
            return Ok(a.clone());
        }
        let key = keys.galois(element, a.level())?;
        let digits = self.decompose(&a.c[1], key.shape().at(a.level() + 1));
        Ok(self.apply(a, &digits, key))
    }

    /// One rotation of `a`, whose second half is already decomposed.
    fn apply(&self, a: &Ciphertext, digits: &Decomposition, key: &GaloisKey) -> Ciphertext {
        let addends = [Addend::Raised(&a.c[0]), Addend::Nothing];
        let c = self.switch(digits, &key.key, addends, 0, Some(&key.permutation));
        Ciphertext { c, scale: a.scale }
    }

    /// Several rotations of one ciphertext, which is decomposed only once. Level and scale stay.
    ///
    /// # Errors
    /// [`Error::MissingKey`] if a key is missing, [`Error::KeyShapes`] if the keys share no shape.
    pub fn rotate_hoisted(
        &self,
        a: &Ciphertext,
        rotations: &[i64],
        keys: &EvaluationKeys,
    ) -> Result<Vec<Ciphertext>> {
        self.check("the ciphertext", &a.c[0])?;
        let Some(shape) = self.common_shape(rotations, a.level(), keys)? else {
            return Ok(vec![a.clone(); rotations.len()]);
        };
        let digits = self.decompose(&a.c[1], shape);
        let one = |&rotation: &i64| match self.shaped_key(rotation, a.level(), shape, keys)? {
            Some(key) => Ok(self.apply(a, &digits, key)),
            None => Ok(a.clone()),
        };
        rotations.iter().map(one).collect()
    }

    /// A shape in which every rotation has a key that reaches the level; `None` if no rotation needs a key.
    pub(crate) fn common_shape(
        &self,
        rotations: &[i64],
        level: usize,
        keys: &EvaluationKeys,
    ) -> Result<Option<KeyShape>> {
        let elements: Vec<GaloisElement> = rotations
            .iter()
            .map(|&k| self.parameters.galois_element(k))
            .filter(|g| !g.is_identity())
            .collect();
        let Some(&first) = elements.first() else { return Ok(None) };
        for &element in &elements {
            keys.galois(element, level)?;
        }
        let fits =
            |shape: &KeyShape| elements.iter().all(|&g| keys.galois_shaped(g, level, *shape).is_some());
        let shape = keys.candidates(first, level).map(|key| key.shape().at(level + 1)).find(fits);
        shape.map(Some).ok_or_else(|| Error::KeyShapes { rotations: rotations.to_vec(), level })
    }

    /// The key of a rotation in a shape; `None` for no rotation at all.
    pub(crate) fn shaped_key<'k>(
        &self,
        rotation: i64,
        level: usize,
        shape: KeyShape,
        keys: &'k EvaluationKeys,
    ) -> Result<Option<&'k GaloisKey>> {
        let element = self.parameters.galois_element(rotation);
        if element.is_identity() {
            return Ok(None);
        }
        let key = keys.galois_shaped(element, level, shape);
        key.map(Some).ok_or_else(|| Error::KeyShapes { rotations: vec![rotation], level })
    }

    /// The sum of the rotations by 0, `step`, 2 `step` .. (`count` - 1) `step`, by doubling. Level and scale stay.
    ///
    /// Needs the keys of the rotations `step` x 1, 2, 4 .. `count`/2.
    ///
    /// # Errors
    /// A count that is not a power of two, or a missing key.
    pub fn rotate_and_sum(
        &self,
        a: &Ciphertext,
        step: i64,
        count: usize,
        keys: &EvaluationKeys,
    ) -> Result<Ciphertext> {
        self.rotate_and_sum_by_radix(a, step, count, 2, keys)
    }

    /// [`Self::rotate_and_sum`] in rounds that multiply the number of summands by `radix`, 2 or 4; where it does not divide
    /// the rest, the last round doubles. A round of four costs little more than one of two, because its rotations share a
    /// decomposition, but needs a third key: round k needs the rotations `step` x `radix`^k x 1 .. `radix` - 1.
    ///
    /// Between rounds the sum stays modulo Q P; only the half that is decomposed next is divided.
    ///
    /// # Errors
    /// A count that is not a power of two, another radix, a missing key, or keys that share no shape.
    pub fn rotate_and_sum_by_radix(
        &self,
        a: &Ciphertext,
        step: i64,
        count: usize,
        radix: usize,
        keys: &EvaluationKeys,
    ) -> Result<Ciphertext> {
        self.check("the ciphertext", &a.c[0])?;
        // A rotation by a multiple of the slots moves nothing; the round then only multiplies.
        let rotations = self.rounds(step, count, radix)?.concat();
        let Some(shape) = self.common_shape(&rotations, a.level(), keys)? else {
            let mut sum = a.clone();
            (1..count).try_for_each(|_| self.add_assign(&mut sum, a))?;
            return Ok(sum);
        };
        let extended = self.extended(a, shape);
        let sum = self.rotate_and_sum_extended(&extended, step, count, radix, keys)?;
        self.divide_and_rescale_in_place(sum, 0)
    }

    /// The rotations of each round of such a sum.
    pub(super) fn rounds(&self, step: i64, count: usize, radix: usize) -> Result<Vec<Vec<i64>>> {
        if !count.is_power_of_two() || count > self.parameters.slots() {
            let expected = format!("a power-of-two count up to {}", self.parameters.slots());
            return Err(Error::Length { given: count, expected });
        }
        if radix != 2 && radix != 4 {
            return Err(Error::Length { given: radix, expected: "a radix of 2 or 4".into() });
        }
        let mut rounds = vec![];
        let mut covered = 1;
        while covered < count {
            let factor = radix.min(count / covered);
            rounds.push((1..factor).map(|i| step * (covered * i) as i64).collect());
            covered *= factor;
        }
        Ok(rounds)
    }
}
