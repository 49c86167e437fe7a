//! The instructions of a packed program.

use super::{PlainId, ValueId};

/// How a factor is scaled when it is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PlainScale {
    /// At 2^bits; another factor takes the rest.
    Bits(u32),
    /// At 2^bits, for a mask whose input waits for its rescaling.
    Waiting {
        /// Bits.
        bits: u32,
        /// Whether the input has half a prime more of scale, and the product is rescaled twice.
        wide: bool,
    },
    /// So that the result has the scale that its readers want.
    Fill,
}

/// One product of a linear map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Term {
    /// Which of the inputs.
    pub input: u32,
    /// Rotation of the input, left positive; 0 <= baby < slots.
    pub baby: u32,
    /// Rotation of the sum of the products that share it.
    pub giant: u32,
    /// The plaintext, multiplied between the two rotations.
    pub plain: PlainId,
}

/// One instruction. Rotations are to the left and lie in `0..slots`.
#[derive(Debug, Clone, PartialEq)]
pub enum Instruction {
    /// The n-th ciphertext of the input.
    Input(usize),
    /// `sum over giants g of rotate_g(sum of plain * rotate_baby(input))`.
    Linear {
        /// The inputs, of one level and scale.
        inputs: Vec<ValueId>,
        /// The products.
        terms: Vec<Term>,
        /// Scale of the plaintexts.
        scale: PlainScale,
    },
    /// Product with a plaintext.
    MulPlain {
        /// Factor.
        input: ValueId,
        /// Factor.
        plain: PlainId,
        /// Scale of the plaintext.
        scale: PlainScale,
    },
    /// Product with one real number; its scale fills up what is missing.
    MulScalar {
        /// Factor.
        input: ValueId,
        /// Factor.
        value: f64,
    },
    /// Sum with a plaintext.
    AddPlain {
        /// Summand.
        input: ValueId,
        /// Summand.
        plain: PlainId,
    },
    /// Sum.
    Add(ValueId, ValueId),
    /// Difference.
    Sub(ValueId, ValueId),
    /// Rotation to the left.
    Rotate {
        /// What is rotated.
        input: ValueId,
        /// By how many slots.
        by: u32,
    },
    /// Sum of the rotations by 0, `step`, 2 `step` .. (`count` - 1) `step`, in rounds that multiply
    /// the summands by `radix`.
    SumRotations {
        /// What is rotated.
        input: ValueId,
        /// The smallest rotation.
        step: u32,
        /// Number of summands, a power of two.
        count: usize,
        /// 2 or 4: four is faster and needs a third key a round.
        radix: usize,
    },
    /// Rotation to the left, by 0 for none, and complex conjugation of every slot.
    Conjugate {
        /// What is rotated.
        input: ValueId,
        /// By how many slots.
        by: u32,
    },
    /// Product, relinearized. The second operand is the one whose scale is adapted.
    Mul(ValueId, ValueId),
    /// Square, relinearized.
    Square(ValueId),
    /// Division by the last prime: one level down.
    Rescale(ValueId),
}

impl Instruction {
    /// The values it reads, to be renamed.
    pub(crate) fn operands_mut(&mut self) -> Vec<&mut ValueId> {
        match self {
            Self::Input(_) => vec![],
            Self::Linear { inputs, .. } => inputs.iter_mut().collect(),
            Self::MulPlain { input, .. }
            | Self::MulScalar { input, .. }
            | Self::AddPlain { input, .. }
            | Self::Rotate { input, .. }
            | Self::SumRotations { input, .. }
            | Self::Conjugate { input, .. } => vec![input],
            Self::Square(a) | Self::Rescale(a) => vec![a],
            Self::Add(a, b) | Self::Sub(a, b) | Self::Mul(a, b) => vec![a, b],
        }
    }

    /// The values it reads.
    #[must_use]
    pub fn operands(&self) -> Vec<ValueId> {
        match self {
            Self::Input(_) => vec![],
            Self::Linear { inputs, .. } => inputs.clone(),
            Self::MulPlain { input, .. }
            | Self::MulScalar { input, .. }
            | Self::AddPlain { input, .. }
            | Self::Rotate { input, .. }
            | Self::SumRotations { input, .. }
            | Self::Conjugate { input, .. } => vec![*input],
            Self::Square(a) | Self::Rescale(a) => vec![*a],
            Self::Add(a, b) | Self::Sub(a, b) | Self::Mul(a, b) => vec![*a, *b],
        }
    }

    /// The plaintexts it reads.
    #[must_use]
    pub fn plaintexts(&self) -> Vec<PlainId> {
        match self {
            Self::Linear { terms, .. } => terms.iter().map(|t| t.plain).collect(),
            Self::MulPlain { plain, .. } | Self::AddPlain { plain, .. } => vec![*plain],
            _ => vec![],
        }
    }

    /// The level at which it reads its operands, where its result is to have level `result`. An
    /// instruction that gives levels back would state here the level from which it does so,
    /// whatever its result's.
    #[must_use]
    pub fn operand_level(&self, result: usize) -> usize {
        match self {
            Self::Rescale(_) => result + 1,
            _ => result,
        }
    }
}

/// The rotations of each round of [`Instruction::SumRotations`].
#[must_use]
pub fn rounds(step: u32, count: usize, radix: usize) -> Vec<Vec<u32>> {
    let (mut rounds, mut covered) = (vec![], 1usize);
    while covered < count {
        let factor = radix.max(2).min(count / covered);
        rounds.push((1..factor).map(|i| step * (covered * i) as u32).collect());
        covered *= factor;
    }
    rounds
}
