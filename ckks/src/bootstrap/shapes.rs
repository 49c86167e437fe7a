//! The sizes of the matrices of a bootstrap, without making them: diagonals, steps, periods and rotations.

/// Matrices of each direction.
pub(crate) const MATRICES: usize = 3;

/// Baby steps of a map with 63 diagonals: 8 of them and 7 giant steps by one key.
pub(crate) const BABIES: usize = 8;

/// What a matrix costs in precision, without making it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct MatrixShape {
    /// Slots after which its diagonals repeat.
    pub(crate) period: usize,
    /// Diagonals.
    pub(crate) diagonals: usize,
    /// Nonzero entries in a row.
    pub(crate) entries: usize,
    /// What its rotations are multiples of.
    pub(crate) step: usize,
    /// The least multiple that occurs; all from there on do.
    first: usize,
}

impl MatrixShape {
    /// The matrices to coefficients, in the order of application; those to slots are the same backwards.
    pub(crate) fn of(slots: usize) -> [Self; MATRICES] {
        groups(slots.trailing_zeros() as usize).map(|stages| {
            let (entries, step) = (1 << stages.len(), 1 << stages.start);
            let period = 1 << stages.end;
            // Rotations to both sides are the same where the period is all there is.
            let diagonals = if period == slots { entries } else { 2 * entries - 1 };
            // The first has the shift that makes its rotations positive, the others also undo one.
            let first = usize::from(stages.start == 0 && period < slots);
            Self { period, diagonals, entries, step, first }
        })
    }

    /// The rotations that occur.
    pub(crate) fn rotations(self) -> impl Iterator<Item = usize> {
        (self.first..self.first + self.diagonals).map(move |k| k * self.step)
    }

    /// The rotations that need a key if the map is taken in so many baby steps and a chain of giant ones.
    pub(crate) fn steps(self, babies: usize) -> Vec<i64> {
        let round = babies * self.step;
        let mut steps: Vec<i64> = self.rotations().map(|r| (r % round) as i64).filter(|&r| r != 0).collect();
        steps.extend(self.rotations().any(|r| r >= round).then_some(round as i64));
        steps.sort_unstable();
        steps.dedup();
        steps
    }

    /// Root mean square of rounding an entry at scale 1: 2 p integers of variance 1/12 make a slot.
    pub(crate) fn rounding(self) -> f64 {
        (self.period as f64 / 6.0).sqrt()
    }

    /// Entries that are rounded over those that carry something.
    pub(crate) fn overhead(self) -> f64 {
        self.diagonals as f64 / self.entries as f64
    }
}

/// Stages of each matrix: nearly equal numbers, the later ones larger.
pub(crate) fn groups(stages: usize) -> [std::ops::Range<usize>; MATRICES] {
    std::array::from_fn(|k| stages * k / MATRICES..stages * (k + 1) / MATRICES)
}
