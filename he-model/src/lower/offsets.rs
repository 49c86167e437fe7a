//! Baby and giant steps: how the rotations of a linear map are split.
//!
//! A map with rotations r needs each r = baby + giant. Baby steps rotate the input and share one
//! decomposition (hoisting); a giant step is a full rotation of a partial sum. The offsets of a convolution are runs
//! of integers, one run for each row of the kernel, and either the rows become baby steps, or giant steps.

use std::collections::BTreeSet;

use crate::program::GiantSteps;

/// A full rotation costs about this many hoisted ones (measured, N = 2^16, 10 to 40 limbs).
const GIANT_COST: f64 = 2.5;

/// How rotations are split.
#[derive(Debug, Clone, Copy)]
pub(super) struct Split {
    /// Baby steps a run.
    run: i64,
    /// Distance of the rows.
    row: i64,
    /// Rows are baby steps.
    rows_are_babies: bool,
}

impl Split {
    /// Giant steps by multiples of `run` for offsets of one row.
    pub(super) fn runs_of(run: i64) -> Self {
        Self { run, row: 0, rows_are_babies: true }
    }

    /// Splits rotation `offset = row * rows + rest`, given as (row number, rest): (baby, giant).
    pub(super) fn split(&self, (rows, rest): (i64, i64)) -> (i64, i64) {
        let giant = rest.div_euclid(self.run) * self.run;
        let baby = rest - giant;
        if self.rows_are_babies { (rows * self.row + baby, giant) } else { (baby, rows * self.row + giant) }
    }

    /// The cheapest split for these offsets, as (row number, rest). `inputs` ciphertexts share the giant steps;
    /// `new_key` is what a rotation costs for which there is no key yet, and zero for the others.
    pub(super) fn choose(
        offsets: &BTreeSet<(i64, i64)>,
        row: i64,
        inputs: usize,
        new_key: impl Fn(i64) -> f64,
    ) -> Self {
        let mut best: Option<(f64, Self)> = None;
        for rows_are_babies in [true, false] {
            for run in [1, 2, 4, 8, 16, 32, 64, 128] {
                let split = Self { run, row, rows_are_babies };
                let steps: Vec<(i64, i64)> = offsets.iter().map(|o| split.split(*o)).collect();
                let babies: BTreeSet<i64> = steps.iter().map(|s| s.0).collect();
                let giants: BTreeSet<i64> = steps.iter().map(|s| s.1).collect();
                let positive = giants.iter().all(|g| *g >= 0);
                let steps = GiantSteps::new(giants.iter().map(|g| *g as u32));
                let keyed: BTreeSet<i64> = if positive {
                    steps.rotations().into_iter().map(i64::from).chain(babies.iter().copied()).collect()
                } else {
                    babies.union(&giants).copied().collect()
                };
                let keys: f64 = keyed.iter().map(|r| new_key(*r)).sum();
                let cost = (babies.len() * inputs) as f64 + GIANT_COST * giants.len() as f64 + keys;
                if best.as_ref().is_none_or(|(c, _)| cost < *c) {
                    best = Some((cost, split));
                }
            }
        }
        best.map_or(Self { run: 1, row, rows_are_babies: true }, |(_, split)| split)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_adds_up_to_the_rotation_and_saves_rotations() {
        let offsets: BTreeSet<(i64, i64)> = (-1..=1).flat_map(|r| (-31..=31).map(move |o| (r, o))).collect();
        let split = Split::choose(&offsets, 528, 1, |_| 0.0);
        let steps: Vec<(i64, i64)> = offsets.iter().map(|o| split.split(*o)).collect();
        for ((rows, rest), (baby, giant)) in offsets.iter().zip(&steps) {
            assert_eq!(rows * 528 + rest, baby + giant);
        }
        let babies: BTreeSet<i64> = steps.iter().map(|s| s.0).collect();
        let giants: BTreeSet<i64> = steps.iter().map(|s| s.1).collect();
        assert!(babies.len() + giants.len() <= 36, "{} + {}", babies.len(), giants.len());
    }
}
