//! The operations of an executable.

use crate::program::{GiantSteps, PlainId, Term, ValueId};

/// What a value is on ciphertexts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// A ciphertext.
    Ciphertext,
    /// A product that is not relinearized yet: three polynomials.
    Product,
    /// P times a ciphertext, modulo Q P, that is not divided by P yet.
    Extended,
}

/// How slots are moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Move {
    /// By so many slots to the left; by none they stay.
    Rotation(u32),
    /// By so many slots to the left, and conjugated.
    Conjugation(u32),
}

impl Move {
    /// Whether nothing is moved.
    #[must_use]
    pub fn is_none(self) -> bool {
        self == Self::Rotation(0)
    }
}

/// A plaintext at the scale at which it is encoded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plain {
    /// Which one.
    pub id: PlainId,
    /// The scale.
    pub scale: f64,
}

/// One linear map: `sum over giants g of rotate_g(sum of plain * rotate_baby(input))`.
#[derive(Debug, Clone, PartialEq)]
pub struct Map {
    /// The products.
    pub terms: Vec<Term>,
    /// Scale at which its plaintexts are encoded.
    pub scale: f64,
}

/// What is done in one step. Levels and scales are those of [`super::Placement`].
#[derive(Debug, Clone, PartialEq)]
pub enum Operation {
    /// The n-th ciphertext of the input.
    Input(usize),
    /// Linear maps of the same ciphertexts, a value each: every input is decomposed and rotated
    /// once for all of them.
    Linear {
        /// The ciphertexts, of one level and scale.
        inputs: Vec<ValueId>,
        /// The maps.
        maps: Vec<Map>,
        /// How the giant steps of all maps are made.
        giants: GiantSteps,
    },
    /// P times a ciphertext, decomposed, to be rotated.
    Extend {
        /// The ciphertext.
        input: ValueId,
        /// The rotations that will read it.
        rotations: Vec<u32>,
    },
    /// A sum of moved values: each is decomposed once, and the sum is made in one pass.
    SumMoved(Vec<(ValueId, Move)>),
    /// Division by P and the last `primes` primes at once.
    Divide {
        /// What is divided.
        input: ValueId,
        /// Levels that it goes down.
        primes: usize,
    },
    /// Product, not relinearized.
    Mul(ValueId, ValueId),
    /// Square, not relinearized.
    Square(ValueId),
    /// Relinearization and division by the last `primes` primes at once.
    Relinearize {
        /// The product.
        input: ValueId,
        /// Levels that it goes down.
        primes: usize,
    },
    /// Division by the last `primes` primes.
    Rescale {
        /// What is divided.
        input: ValueId,
        /// Levels that it goes down.
        primes: usize,
    },
    /// The same value on fewer limbs.
    DropLevel {
        /// The value.
        input: ValueId,
        /// Its new level.
        level: usize,
    },
    /// A ciphertext moved.
    Move {
        /// The ciphertext.
        input: ValueId,
        /// How.
        by: Move,
    },
    /// Product with a plaintext.
    MulPlain {
        /// Factor.
        input: ValueId,
        /// Factor.
        plain: Plain,
    },
    /// Product with one real number, rounded to a multiple of one over `scale`.
    MulScalar {
        /// Factor.
        input: ValueId,
        /// Factor.
        value: f64,
        /// Its scale.
        scale: f64,
    },
    /// Sum with a plaintext.
    AddPlain {
        /// Summand.
        input: ValueId,
        /// Summand.
        plain: Plain,
    },
    /// Sum.
    Add(ValueId, ValueId),
    /// Difference.
    Sub(ValueId, ValueId),
}

impl Operation {
    /// The values it reads.
    #[must_use]
    pub fn operands(&self) -> Vec<ValueId> {
        match self {
            Self::Input(_) => vec![],
            Self::Linear { inputs, .. } => inputs.clone(),
            Self::SumMoved(terms) => terms.iter().map(|(of, _)| *of).collect(),
            Self::Extend { input, .. }
            | Self::Divide { input, .. }
            | Self::Relinearize { input, .. }
            | Self::Rescale { input, .. }
            | Self::DropLevel { input, .. }
            | Self::Move { input, .. }
            | Self::MulPlain { input, .. }
            | Self::MulScalar { input, .. }
            | Self::AddPlain { input, .. } => vec![*input],
            Self::Square(a) => vec![*a],
            Self::Mul(a, b) | Self::Add(a, b) | Self::Sub(a, b) => vec![*a, *b],
        }
    }

    /// The form of what it reads.
    #[must_use]
    pub fn reads(&self) -> Form {
        match self {
            Self::SumMoved(_) | Self::Divide { .. } => Form::Extended,
            Self::Relinearize { .. } => Form::Product,
            _ => Form::Ciphertext,
        }
    }

    /// The form of what it makes.
    #[must_use]
    pub fn makes(&self) -> Form {
        match self {
            Self::Linear { .. } | Self::Extend { .. } | Self::SumMoved(_) => Form::Extended,
            Self::Mul(..) | Self::Square(_) => Form::Product,
            _ => Form::Ciphertext,
        }
    }

    /// Primes of the chain that it divides by.
    #[must_use]
    pub fn primes(&self) -> usize {
        match self {
            Self::Divide { primes, .. } | Self::Relinearize { primes, .. } | Self::Rescale { primes, .. } => {
                *primes
            }
            _ => 0,
        }
    }

    /// Its plaintexts with the scales at which they are encoded.
    pub fn plains(&self) -> impl Iterator<Item = Plain> {
        let (maps, single) = match self {
            Self::Linear { maps, .. } => (maps.as_slice(), None),
            Self::MulPlain { plain, .. } | Self::AddPlain { plain, .. } => (&[][..], Some(*plain)),
            _ => (&[][..], None),
        };
        maps.iter()
            .flat_map(|map| map.terms.iter().map(|t| Plain { id: t.plain, scale: map.scale }))
            .chain(single)
    }

    /// Its plaintexts, to be replaced, with the scales at which they are encoded.
    pub(super) fn plains_mut(&mut self) -> Vec<(&mut PlainId, f64)> {
        match self {
            Self::Linear { maps, .. } => {
                let mut plains = vec![];
                for Map { terms, scale } in maps {
                    plains.extend(terms.iter_mut().map(|t| (&mut t.plain, *scale)));
                }
                plains
            }
            Self::MulPlain { plain, .. } | Self::AddPlain { plain, .. } => vec![(&mut plain.id, plain.scale)],
            _ => vec![],
        }
    }
}
