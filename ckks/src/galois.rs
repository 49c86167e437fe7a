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

    /// This automorphism, then complex conjugation: -g.
    pub(crate) fn conjugated(self, degree: usize) -> Self {
        Self(2 * degree as u32 - self.0)
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
    ///
    /// With r the bits of i above the lowest four, reversed, and t those four, reversed, bitrev(i) = t N/16 + r. Its position takes its
    /// value from the one with the exponent g (2 bitrev(i) + 1) = 2 (N/16) g t + g (2 r + 1) mod 2N, so g (2 r + 1) = 2 ((N/16) c + s) + 1
    /// gives the run, from s, and t becomes c + g t mod 16.
    pub(crate) fn permutation(self, degree: usize) -> Permutation {
        let nibble = |x: u32| (x & 15).reverse_bits() >> 28;
        let patterns = std::array::from_fn(|c| {
            std::array::from_fn(|t| nibble(c as u32 + (self.0 & 15) * nibble(t as u32)))
        });
        let runs = (degree / Permutation::RUN) as u32;
        let bits = runs.trailing_zeros();
        // A shift by all 32 bits is none of a word: one run alone is its own reverse.
        let reverse = |r: u32| if bits == 0 { 0 } else { r.reverse_bits() >> (u32::BITS - bits) };
        let sources: Vec<Run> = (0..runs)
            .map(|run| {
                let exponent =
                    (u64::from(2 * reverse(run) + 1) * u64::from(self.0)) & (2 * degree as u64 - 1);
                let half = (exponent >> 1) as u32;
                Run { at: reverse(half % runs), pattern: half / runs }
            })
            .collect();
        let mut targets = sources.clone();
        for (target, source) in (0..).zip(&sources) {
            targets[source.at as usize] = Run { at: target, ..*source };
        }
        Permutation { patterns, sources, targets }
    }
}

/// Where a run of sixteen positions comes from or goes to, and which pattern moves them within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    at: u32,
    pattern: u32,
}

/// For each position of a run, the position of the source run that its value comes from.
pub(crate) type Pattern = [u32; Permutation::RUN];

/// The permutation of an automorphism in evaluation form.
///
/// It sends aligned runs of sixteen positions to such runs: i and i + t, t < 16, differ in the top four bits of the exponent
/// only, and multiplying by g leaves the lower bits of both equal. Within a run it does one of sixteen things. Tables of runs
/// stay in the second cache beside what is moved, which tables of positions would not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Permutation {
    patterns: [Pattern; Self::RUN],
    /// For each run, the one that its values come from.
    sources: Vec<Run>,
    /// For each run, the one that its values go to.
    targets: Vec<Run>,
}

impl Permutation {
    /// Positions that stay together.
    pub(crate) const RUN: usize = 16;

    /// For each run, the run that its values come from, and from where in it.
    pub(crate) fn sources(&self) -> impl Iterator<Item = (usize, &Pattern)> {
        self.sources.iter().map(|run| (run.at as usize, &self.patterns[run.pattern as usize % Self::RUN]))
    }

    /// The moves into positions `at .. at + size`, for a power of two from [`Self::RUN`] on and a multiple of it.
    pub(crate) fn block(&self, at: usize, size: usize) -> Moves<'_> {
        let (first_target, runs) = (at / Self::RUN, size / Self::RUN);
        // What holds for runs of sixteen holds for every power of two.
        let from = self.sources[first_target].at as usize / runs * runs;
        let targets = &self.targets[from..from + runs];
        Moves { patterns: &self.patterns, targets, first_target, from: from * Self::RUN }
    }
}

/// What a permutation does to one aligned block of positions, or to all: their values come from one such block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moves<'a> {
    patterns: &'a [Pattern; Permutation::RUN],
    /// For each run of the block that the values come from, the one that they go to.
    targets: &'a [Run],
    first_target: usize,
    from: usize,
}

impl<'a> Moves<'a> {
    /// The positions that the values come from.
    pub(crate) fn from(&self) -> std::ops::Range<usize> {
        self.from..self.from + self.targets.len() * Permutation::RUN
    }

    /// The run of the block that the values of its source's run `source` go to, and how they lie in it.
    #[inline(always)]
    pub(crate) fn target(&self, source: usize) -> (usize, &'a Pattern) {
        let run = self.targets[source];
        (run.at as usize - self.first_target, &self.patterns[run.pattern as usize % Permutation::RUN])
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

    /// Position by position, from the exponents.
    fn sources(g: GaloisElement, n: usize) -> Vec<usize> {
        let shift = usize::BITS - n.trailing_zeros();
        let bitrev = |i: usize| i.reverse_bits() >> shift;
        (0..n).map(|i| bitrev((2 * bitrev(i) + 1) * g.exponent() as usize % (2 * n) / 2)).collect()
    }

    #[test]
    fn permutations_follow_the_exponents() {
        for n in [16, 32, 64, 1 << 10] {
            for exponent in (1..2 * n as u32).step_by(if n > 64 { 62 } else { 2 }) {
                let g = GaloisElement::from_exponent(exponent, n).unwrap();
                let permutation = g.permutation(n);
                let found: Vec<usize> = permutation
                    .sources()
                    .flat_map(|(run, pattern)| pattern.map(|p| run * Permutation::RUN + p as usize))
                    .collect();
                assert_eq!(found, sources(g, n), "{g} of degree {n}");
            }
        }
    }

    #[test]
    fn moves_of_blocks_are_those_of_the_whole() {
        let n = 64;
        for k in [-5i64, 0, 1, 7, 31] {
            let g = GaloisElement::rotation(k, n);
            let (permutation, sources) = (g.permutation(n), sources(g, n));
            for size in [16, 32, 64] {
                for at in (0..n).step_by(size) {
                    let moves = permutation.block(at, size);
                    let mut filled = vec![false; size];
                    for run in 0..size / Permutation::RUN {
                        let (target, pattern) = moves.target(run);
                        for (t, &p) in pattern.iter().enumerate() {
                            let position = target * Permutation::RUN + t;
                            let source = moves.from().start + run * Permutation::RUN + p as usize;
                            assert_eq!(sources[at + position], source);
                            filled[position] = true;
                        }
                    }
                    assert!(filled.into_iter().all(|f| f));
                }
            }
        }
    }

    #[test]
    fn inverses_undo() {
        let n = 64;
        for k in [-5i64, 0, 1, 7, 31] {
            let g = GaloisElement::rotation(k, n);
            assert_eq!(g.inverse(n), GaloisElement::rotation(-k, n));
            let (forth, back) = (sources(g, n), sources(g.inverse(n), n));
            assert!((0..n).all(|i| forth[back[i]] == i));
        }
        let conjugation = GaloisElement::rotation(0, n).conjugated(n);
        assert_eq!(conjugation.exponent() as usize, 2 * n - 1);
        assert_eq!(conjugation.inverse(n), conjugation);
        let moved = GaloisElement::rotation(5, n).conjugated(n);
        assert_eq!(moved.inverse(n), GaloisElement::rotation(-5, n).conjugated(n));
    }
}
