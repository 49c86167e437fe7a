//! Evaluation keys: what lets a server relinearise and rotate, and nothing else.
//!
//! Each key is made for one level and cut to it: a key of level l serves every ciphertext at level l or below, with as few limbs and special
//! primes as the ciphertext needs. The uniform half of a key is expanded from a seed.
//!
//! **Invariant**: residues of keys are in Montgomery form (times 2^32), in memory and on the wire.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::galois::{GaloisElement, Permutation};
use crate::parameters::Parameters;
use crate::plan::{KeyShape, RingPlan};
use crate::poly::{Evaluation, Poly};
use crate::sampling::{self, Seed};

/// A key that turns ciphertexts under one secret into ciphertexts under another.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SwitchingKey {
    pub(crate) level: usize,
    pub(crate) shape: KeyShape,
    pub(crate) seed: Seed,
    /// The bodies b_j and the uniform a_j, one polynomial modulo Q_l P a digit.
    pub(crate) halves: [Vec<Poly<Evaluation>>; 2],
}

impl SwitchingKey {
    /// Expands the uniform half.
    pub(crate) fn new(
        parameters: &Parameters,
        level: usize,
        shape: KeyShape,
        seed: Seed,
        bodies: Vec<Poly<Evaluation>>,
    ) -> Self {
        let uniform = (0..bodies.len() as u32)
            .map(|j| sampling::uniform(parameters, &seed, j, level + 1, shape.special))
            .collect();
        Self { level, shape, seed, halves: [bodies, uniform] }
    }

    pub(crate) fn limbs(&self) -> usize {
        self.level + 1
    }

    pub(crate) fn bytes(&self) -> usize {
        self.halves.iter().flatten().map(|k| 4 * k.data().len()).sum()
    }
}

/// Key from s^2 to s.
#[derive(Clone, Debug, PartialEq)]
pub struct RelinearizationKey {
    pub(crate) key: SwitchingKey,
}

/// Key for one automorphism. Stored for the inverse automorphism of s, so that digits are multiplied first and only the two sums
/// are permuted.
#[derive(Clone, Debug, PartialEq)]
pub struct GaloisKey {
    pub(crate) element: GaloisElement,
    pub(crate) key: SwitchingKey,
    pub(crate) permutation: Permutation,
}

macro_rules! key_accessors {
    ($($name:ident)*) => { $(
        impl $name {
            /// Highest level of ciphertext that the key serves.
            pub fn level(&self) -> usize {
                self.key.level
            }

            /// Digits and special primes of the key; at lower levels [`KeyShape::at`] of it is used.
            pub fn shape(&self) -> KeyShape {
                self.key.shape
            }

            /// Bytes in memory; on the wire it takes half.
            pub fn bytes(&self) -> usize {
                self.key.bytes()
            }
        }
    )* };
}
key_accessors!(RelinearizationKey GaloisKey);

impl GaloisKey {
    pub(crate) fn new(parameters: &Parameters, element: GaloisElement, key: SwitchingKey) -> Self {
        Self { element, key, permutation: element.permutation(parameters.ring_degree()) }
    }

    /// The automorphism.
    pub fn element(&self) -> GaloisElement {
        self.element
    }
}

/// The keys that a server holds. Of several keys for one automorphism, the lowest that reaches a ciphertext's level is used.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EvaluationKeys {
    /// Ascending by level.
    relinearization: Vec<RelinearizationKey>,
    /// For each automorphism, ascending by level.
    galois: BTreeMap<GaloisElement, Vec<GaloisKey>>,
}

impl EvaluationKeys {
    /// No keys.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a relinearisation key, replacing one of the same level.
    pub fn insert_relinearization(&mut self, key: RelinearizationKey) {
        self.relinearization.retain(|k| k.level() != key.level());
        let at = self.relinearization.partition_point(|k| k.level() < key.level());
        self.relinearization.insert(at, key);
    }

    /// Adds a Galois key, replacing one of the same automorphism and level.
    pub fn insert_galois(&mut self, key: GaloisKey) {
        let keys = self.galois.entry(key.element).or_default();
        keys.retain(|k| k.level() != key.level());
        let at = keys.partition_point(|k| k.level() < key.level());
        keys.insert(at, key);
    }

    /// The relinearisation key to use at a level.
    ///
    /// # Errors
    /// [`Error::MissingKey`] if none reaches the level.
    pub fn relinearization(&self, level: usize) -> Result<&RelinearizationKey> {
        let missing = || Error::MissingKey { key: "relinearisation key".into(), level };
        self.relinearization.iter().find(|k| k.level() >= level).ok_or_else(missing)
    }

    /// The key of an automorphism to use at a level.
    ///
    /// # Errors
    /// [`Error::MissingKey`] if none reaches the level.
    pub fn galois(&self, element: GaloisElement, level: usize) -> Result<&GaloisKey> {
        let missing = || Error::MissingKey { key: format!("Galois key for the {element}"), level };
        self.candidates(element, level).next().ok_or_else(missing)
    }

    /// The key of an automorphism that reaches a level and has the given shape there.
    pub(crate) fn galois_shaped(
        &self,
        element: GaloisElement,
        level: usize,
        shape: KeyShape,
    ) -> Option<&GaloisKey> {
        self.candidates(element, level).find(|k| k.shape().at(level + 1) == shape)
    }

    /// All keys of an automorphism that reach a level, lowest first.
    pub(crate) fn candidates(
        &self,
        element: GaloisElement,
        level: usize,
    ) -> impl Iterator<Item = &GaloisKey> {
        self.galois.get(&element).into_iter().flatten().filter(move |k| k.level() >= level)
    }

    /// The relinearisation keys, ascending by level.
    pub fn relinearization_keys(&self) -> &[RelinearizationKey] {
        &self.relinearization
    }

    /// All Galois keys.
    pub fn galois_keys(&self) -> impl Iterator<Item = &GaloisKey> {
        self.galois.values().flatten()
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.relinearization.iter().map(RelinearizationKey::bytes).sum::<usize>()
            + self.galois_keys().map(GaloisKey::bytes).sum::<usize>()
    }
}

/// Which evaluation keys to make, each at the highest level where it is used.
///
/// ```
/// use ckks::{EvaluationKeyRequest, ParametersLiteral};
///
/// let parameters = ParametersLiteral::insecure_toy(8, 3, 5).build()?;
/// let request = EvaluationKeyRequest {
///     relinearization: vec![3, 2],
///     rotations: vec![(1, 3), (-1, 1), (0, 3)],
///     conjugations: vec![],
/// };
/// // One key serves both levels of the products, and a rotation by nothing needs none.
/// assert_eq!(request.plan(&parameters)?.len(), 3);
/// # Ok::<(), ckks::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EvaluationKeyRequest {
    /// Levels at which products are relinearised.
    pub relinearization: Vec<usize>,
    /// Rotations (left positive), each with a level at which it is used.
    pub rotations: Vec<(i64, usize)>,
    /// Rotations (left positive) whose results are conjugated, 0 for a conjugation alone, each with a level at which it is used.
    pub conjugations: Vec<(i64, usize)>,
}

impl EvaluationKeyRequest {
    /// The keys to make: `None` for relinearisation, or an automorphism, with a level. Within one tier of levels only the highest
    /// is kept, since it serves the others as well; rotations by nothing need no key.
    ///
    /// # Errors
    /// [`Error::Level`] for a level that the parameters do not have.
    pub fn plan(&self, parameters: &RingPlan) -> Result<Vec<(Option<GaloisElement>, usize)>> {
        let rotations = self.rotations.iter().map(|&(k, l)| (Some(parameters.galois_element(k)), l));
        let conjugations =
            self.conjugations.iter().map(|&(k, l)| (Some(parameters.conjugating_element(k)), l));
        let relinearization = self.relinearization.iter().map(|&l| (None, l));
        let mut best: BTreeMap<(Option<GaloisElement>, usize), usize> = BTreeMap::new();
        for (element, level) in relinearization.chain(rotations).chain(conjugations) {
            parameters.check_level("making a key", level)?;
            if element.is_some_and(GaloisElement::is_identity) {
                continue;
            }
            let tier = parameters.key_tiers().partition_point(|tier| tier.top_level < level);
            let entry = best.entry((element, tier)).or_default();
            *entry = level.max(*entry);
        }
        Ok(best.into_iter().map(|((element, _), level)| (element, level)).collect())
    }
}
