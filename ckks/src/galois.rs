//! Automorphisms X -> X^g of the ring: rotations and conjugation of the slots.
//!
//! Slot j of a plaintext is its value at zeta^(5^j), so g = 5^k moves every slot k places to the left and g = -1
//! conjugates. In evaluation form an automorphism only permutes: position i, at psi^(2 bitrev(i) + 1), takes its value from the
//! position whose exponent is g (2 bitrev(i) + 1).

/// The exponent g of an automorphism, odd and below 2N.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GaloisElement(u32);

impl GaloisElement {
    /// Rotation of the slots by `rotation` to the left.
    pub(crate) fn rotation(rotation: i64, degree: usize) -> Self {
        let mask = 2 * degree as u64 - 1;
        let mut exponent = rotation.rem_euclid(degree as i64 / 2);
        let (mut result, mut base) = (1u64, 5u64);
        while exponent > 0 {
            if exponent & 1 == 1 {
                result = (result * base) & mask;
            }
            base = (base * base) & mask;
            exponent >>= 1;
        }
        Self(result as u32)
    }

    /// Complex conjugation.
    pub(crate) fn conjugation(degree: usize) -> Self {
        Self(2 * degree as u32 - 1)
    }

    /// From its exponent, if that is odd and below 2N.
    pub(crate) fn from_exponent(exponent: u32, degree: usize) -> Option<Self> {
        (exponent % 2 == 1 && (exponent as usize) < 2 * degree).then_some(Self(exponent))
    }

    /// The exponent g.
    pub fn exponent(self) -> u32 {
        self.0
    }

    /// Whether nothing moves.
    pub fn is_identity(self) -> bool {
        self.0 == 1
    }

    /// The automorphism that undoes this one.
    #[cfg(any(test, feature = "secret-key"))]
    pub(crate) fn inverse(self, degree: usize) -> Self {
        // The group of odd residues mod 2N has exponent N/2: g^(N/2 - 1) = g^-1.
        let mask = 2 * degree as u64 - 1;
        let (mut result, mut base, mut e) = (1u64, u64::from(self.0), degree / 2 - 1);
        while e > 0 {
            if e & 1 == 1 {
                result = (result * base) & mask;
            }
            base = (base * base) & mask;
            e >>= 1;
        }
        Self(result as u32)
    }

    /// What the automorphism does to the evaluation form, of 2^4 positions at least.
    pub(crate) fn permutation(self, degree: usize) -> Permutation {
        let shift = u32::BITS - degree.trailing_zeros();
        let mask = 2 * degree as u64 - 1;
        let sources: Vec<u32> = (0..degree as u32)
            .map(|i| {
                let exponent = (u64::from(2 * (i.reverse_bits() >> shift) + 1) * u64::from(self.0)) & mask;
                ((exponent as u32) >> 1).reverse_bits() >> shift
            })
            .collect();
        let mut targets = vec![0; degree / Permutation::RUN];
        for (target, run) in sources.chunks_exact(Permutation::RUN).enumerate() {
            targets[run[0] as usize / Permutation::RUN] = target as u32;
        }
        Permutation { sources, targets }
    }
}

/// The permutation of an automorphism in evaluation form.
///
/// It sends aligned runs of sixteen positions to such runs: i and i + t, t < 16, differ in the top four bits of the exponent
/// only, and multiplying by g leaves the lower bits of both equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Permutation {
    sources: Vec<u32>,
    targets: Vec<u32>,
}

impl Permutation {
    /// Positions that stay together.
    pub(crate) const RUN: usize = 16;

    /// For each position, the position it takes its value from.
    pub(crate) fn sources(&self) -> &[u32] {
        &self.sources
    }

    /// The moves of all positions.
    pub(crate) fn whole(&self) -> Moves<'_> {
        Moves { sources: &self.sources, targets: &self.targets, first_target: 0, from: 0 }
    }

    /// The moves into positions `at .. at + size`, for a power of two from [`Self::RUN`] on and a multiple of it.
    pub(crate) fn block(&self, at: usize, size: usize) -> Moves<'_> {
        let sources = &self.sources[at..at + size];
        // What holds for runs of sixteen holds for every power of two.
        let from = sources[0] as usize / size * size;
        let targets = &self.targets[from / Self::RUN..(from + size) / Self::RUN];
        Moves { sources, targets, first_target: at / Self::RUN, from }
    }
}

/// What a permutation does to one aligned block of positions, or to all: their values come from one such block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moves<'a> {
    /// For each position of the block, where its value comes from.
    sources: &'a [u32],
    /// For each run of the block that the values come from, the run it goes to.
    targets: &'a [u32],
    first_target: usize,
    from: usize,
}

impl<'a> Moves<'a> {
    /// The positions that the values come from.
    pub(crate) fn from(&self) -> std::ops::Range<usize> {
        self.from..self.from + self.sources.len()
    }

    /// For each position, where its value comes from; only its place in a run is used.
    pub(crate) fn sources(&self) -> &'a [u32] {
        self.sources
    }

    /// The run of the block that the values of its source's run `source` go to.
    pub(crate) fn target(&self, source: usize) -> usize {
        self.targets[source] as usize - self.first_target
    }
}

impl std::fmt::Display for GaloisElement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "automorphism X -> X^{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inverses_undo() {
        let n = 64;
        for k in [-5i64, 0, 1, 7, 31] {
            let g = GaloisElement::rotation(k, n);
            assert_eq!(g.inverse(n), GaloisElement::rotation(-k, n));
            let (forth, back) = (g.permutation(n), g.inverse(n).permutation(n));
            assert!((0..n).all(|i| forth.sources()[back.sources()[i] as usize] as usize == i));
            assert!((0..n / Permutation::RUN).all(|i| back.whole().target(forth.whole().target(i)) == i));
            for size in [16, 32, 64] {
                for at in (0..n).step_by(size) {
                    let moves = forth.block(at, size);
                    assert!(moves.sources().iter().all(|s| moves.from().contains(&(*s as usize))));
                    for run in 0..size / Permutation::RUN {
                        let whole = forth.whole().target(moves.from().start / Permutation::RUN + run);
                        assert_eq!(moves.target(run) + at / Permutation::RUN, whole);
                    }
                }
            }
        }
        assert_eq!(GaloisElement::conjugation(n).inverse(n), GaloisElement::conjugation(n));
    }
}
