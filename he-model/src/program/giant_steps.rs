//! How the giant steps of linear maps are made.

use std::collections::BTreeSet;

use super::Term;

/// How the giant steps of a linear map, or of several that share their inputs, are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GiantSteps {
    /// Each by a rotation of its own.
    Fan(BTreeSet<u32>),
    /// By `count` rotations by `step`, one after the other (Horner): one key.
    Chain {
        /// The rotation.
        step: u32,
        /// How often at most.
        count: usize,
    },
}

impl GiantSteps {
    /// A chain where the steps are multiples of the smallest one and most of the multiples occur.
    #[must_use]
    pub fn new(steps: impl IntoIterator<Item = u32>) -> Self {
        let steps: BTreeSet<u32> = steps.into_iter().filter(|g| *g != 0).collect();
        if let (Some(&step), Some(&last)) = (steps.first(), steps.last()) {
            let count = (last / step) as usize;
            if steps.len() > 1 && steps.iter().all(|g| g % step == 0) && 4 * steps.len() >= 3 * count {
                return Self::Chain { step, count };
            }
        }
        Self::Fan(steps)
    }

    /// Those of some terms.
    #[must_use]
    pub fn of<'a>(terms: impl IntoIterator<Item = &'a Term>) -> Self {
        Self::new(terms.into_iter().map(|t| t.giant))
    }

    /// The rotations that need a key.
    #[must_use]
    pub fn rotations(&self) -> Vec<u32> {
        match self {
            Self::Fan(steps) => steps.iter().copied().collect(),
            Self::Chain { step, .. } => vec![*step],
        }
    }

    /// Number of rotations for the sum of these terms, which are some of those that the steps were
    /// made from.
    #[must_use]
    pub fn count(&self, terms: &[Term]) -> usize {
        let giants: BTreeSet<u32> = terms.iter().map(|t| t.giant).filter(|g| *g != 0).collect();
        match self {
            Self::Fan(_) => giants.len(),
            Self::Chain { step, .. } => giants.last().map_or(0, |last| (last / step) as usize),
        }
    }
}
