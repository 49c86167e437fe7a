//! How the plaintexts of an executable are held between runs: in full, transformed, or as what is
//! transformed on every run.
//!
//! A plaintext is multiplied by in transformed form. Weights repeat after a period and are
//! transformed in a time that grows with it, but there are many: kept transformed they save about a
//! twentieth of a ResNet20, for memory that grows with the level. What several maps share is kept
//! first; the rest as far as the budget reaches, in the order of the steps.

use std::collections::{BTreeMap, HashMap};

use crate::executable::{Executable, Operation, Plain};
use crate::parameters::Ring;
use crate::program::PlainId;

/// Most bytes of masks in full length that linear maps share.
const SHARED_BYTES: usize = 512 << 20;

/// Most bytes of weights that are kept transformed.
const TRANSFORMED_BYTES: usize = 512 << 20;

/// A plaintext outside of linear maps that would take more than this is transformed when it is
/// used.
const DENSE_BYTES: usize = 12 << 20;

/// From this scale on the coefficients of a constant may not fit the words of a periodic plaintext.
const LARGE_SCALE: f64 = (1u64 << 56) as f64;

/// Plaintexts that repeat less than so many times a ciphertext are masks, which repeat from film to
/// film; weights repeat row by row.
const LONG: usize = 8;

/// How one use of a plaintext finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Preparation {
    /// As its period, transformed on every run.
    EachRun,
    /// As its period, transformed for the level of its use with so many special primes.
    Transformed {
        /// The level.
        level: usize,
        /// Special primes of the keys there.
        special: usize,
    },
    /// Transformed in full length, for all uses at one scale: at the highest of their levels, with
    /// the most special primes of any.
    Full {
        /// The level.
        level: usize,
        /// Special primes; none outside of linear maps.
        special: usize,
    },
}

/// The preparations of all plaintexts: for each step, one for each of [`Operation::plains`].
#[derive(Debug, Clone)]
pub struct Preparations(Vec<Vec<Preparation>>);

/// A plaintext and the bits of a scale.
type Key = (PlainId, u64);

fn key(plain: Plain) -> Key {
    (plain.id, plain.scale.to_bits())
}

/// The uses of a plaintext at one scale.
#[derive(Debug, Clone, Copy, Default)]
struct Uses {
    count: usize,
    level: usize,
    special: usize,
}

impl Preparations {
    /// Those of an executable on a ring.
    #[must_use]
    pub fn new(executable: &Executable, ring: &Ring) -> Self {
        let shared = shared(executable, ring);
        let singles = singles(executable);
        let mut left = TRANSFORMED_BYTES;
        let steps = executable.steps().iter().map(|step| {
            let level = executable.level(step);
            let is_linear = matches!(step.operation(), Operation::Linear { .. });
            let special = ring.switch_shape(level).special;
            let prepare = |plain: Plain| {
                if !is_linear {
                    return single(executable, plain, singles[&key(plain)]);
                }
                if let Some(Uses { level, special, .. }) = shared.get(&key(plain)).copied() {
                    return Preparation::Full { level, special };
                }
                // Twice as many coefficients as values, of a word each.
                let bytes = 8 * executable.plaintext(plain.id).len() * (level + 1 + special);
                if bytes > left {
                    return Preparation::EachRun;
                }
                left -= bytes;
                Preparation::Transformed { level, special }
            };
            step.operation().plains().map(prepare).collect()
        });
        Self(steps.collect())
    }

    /// Step by step.
    pub fn into_steps(self) -> std::vec::IntoIter<Vec<Preparation>> {
        self.0.into_iter()
    }
}

/// Long plaintexts that several terms of linear maps share, most used first, as far as
/// [`SHARED_BYTES`] reach. At a lower level a map reads the first limbs of the same plaintext;
/// without this each map would transform it again on every run, which costs more than the rotation
/// before it.
fn shared(executable: &Executable, ring: &Ring) -> HashMap<Key, Uses> {
    let mut uses: BTreeMap<Key, Uses> = BTreeMap::new();
    for step in executable.steps().iter().filter(|s| matches!(s.operation(), Operation::Linear { .. })) {
        let level = executable.level(step);
        let is_long = |p: &Plain| executable.plaintext(p.id).len() >= executable.slots() / LONG;
        for plain in step.operation().plains().filter(is_long) {
            let entry = uses.entry(key(plain)).or_default();
            entry.count += 1;
            entry.level = entry.level.max(level);
            entry.special = entry.special.max(ring.switch_shape(level).special);
        }
    }
    let mut uses: Vec<(Key, Uses)> = uses.into_iter().filter(|(_, uses)| uses.count > 1).collect();
    uses.sort_by_key(|(_, uses)| std::cmp::Reverse(uses.count));
    let mut left = SHARED_BYTES;
    let fits = |(_, uses): &(Key, Uses)| {
        let bytes = (uses.level + 1 + uses.special) * ring.ring_degree() * 4;
        let fits = bytes <= left;
        left -= if fits { bytes } else { 0 };
        fits
    };
    uses.into_iter().filter(fits).collect()
}

/// The highest level at which each plaintext outside of linear maps is used at one scale; it serves
/// the lower ones too.
fn singles(executable: &Executable) -> HashMap<Key, usize> {
    let mut levels = HashMap::new();
    for step in executable.steps().iter().filter(|s| !matches!(s.operation(), Operation::Linear { .. })) {
        for plain in step.operation().plains() {
            let level: &mut usize = levels.entry(key(plain)).or_default();
            *level = executable.level(step).max(*level);
        }
    }
    levels
}

/// In full it saves a transform a limb on every run, for N words a limb.
fn single(executable: &Executable, plain: Plain, level: usize) -> Preparation {
    let bytes = (level + 1) * 8 * executable.slots();
    let is_short = executable.plaintext(plain.id).len() < executable.slots() || bytes > DENSE_BYTES;
    if is_short && plain.scale < LARGE_SCALE {
        Preparation::EachRun
    } else {
        Preparation::Full { level, special: 0 }
    }
}
