//! Splits by patient, and limits on their size.
//!
//! Patients are ordered by a keyed digest of their name and cut at the wanted fractions. The order depends on
//! the seed and on the names alone, never on the order of the files.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{Example, Split};

/// The largest number of films kept in each split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Training films.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train: Option<usize>,
    /// Validation films.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<usize>,
    /// Test films.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<usize>,
}

impl Limits {
    pub(crate) fn is_none(&self) -> bool {
        *self == Limits::default()
    }
}

/// A film as a source describes it, before splits are settled.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub id: String,
    pub patient: String,
    pub labels: Vec<Option<bool>>,
    /// The split that the source prescribes.
    pub split: Assigned,
}

/// What a source says about a film's split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Assigned {
    /// The source names the split.
    Fixed(Split),
    /// Training or validation: the source reserves the test films but does not name validation films.
    NotTest,
    /// The source says nothing.
    Open,
}

/// A number in `[0, 2^64)` that orders patients and films without depending on their order of arrival.
fn rank(seed: u64, purpose: &str, name: &str) -> u64 {
    let mut hasher = blake3::Hasher::new_derive_key("veilray 2026 data split");
    hasher.update(&seed.to_le_bytes());
    hasher.update(purpose.as_bytes());
    hasher.update(&[0]);
    hasher.update(name.as_bytes());
    let mut bytes = [0u8; 8];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(bytes)
}

/// Settles every film's split. Where the source leaves it open, whole patients are drawn.
pub(crate) fn assign(
    records: Vec<Record>,
    seed: u64,
    validation_fraction: f64,
    test_fraction: f64,
) -> Vec<Example> {
    let draw = |from: &BTreeSet<&str>, purpose: &str, fraction: f64, of: usize| -> BTreeSet<String> {
        let mut patients: Vec<&str> = from.iter().copied().collect();
        patients.sort_by_key(|name| (rank(seed, purpose, name), *name));
        // At least one patient when any are wanted, and never the last one: training needs it.
        let wanted = (of as f64 * fraction).round() as usize;
        let wanted = if fraction > 0.0 { wanted.max(1) } else { 0 }.min(patients.len().saturating_sub(1));
        patients.into_iter().take(wanted).map(str::to_owned).collect()
    };
    let open: BTreeSet<&str> =
        records.iter().filter(|r| r.split == Assigned::Open).map(|r| r.patient.as_str()).collect();
    let test = draw(&open, "test", test_fraction, open.len());
    let names_validation = records.iter().any(|r| r.split == Assigned::Fixed(Split::Validation));
    let candidates: BTreeSet<&str> = records
        .iter()
        .filter(|r| matches!(r.split, Assigned::Open | Assigned::NotTest) && !test.contains(&r.patient))
        .map(|r| r.patient.as_str())
        .collect();
    let validation = if names_validation {
        BTreeSet::new()
    } else {
        draw(&candidates, "validation", validation_fraction, candidates.len() + test.len())
    };
    records
        .into_iter()
        .map(|record| {
            let split = match record.split {
                Assigned::Fixed(split) => split,
                Assigned::Open if test.contains(&record.patient) => Split::Test,
                _ if validation.contains(&record.patient) => Split::Validation,
                _ => Split::Train,
            };
            Example { id: record.id, patient: record.patient, labels: record.labels, split }
        })
        .collect()
}

/// The indices of the films that the limits keep, in their original order.
pub(crate) fn limit(examples: &[Example], seed: u64, limits: Limits) -> Vec<usize> {
    let mut kept: Vec<usize> = Vec::with_capacity(examples.len());
    for (split, most) in
        [(Split::Train, limits.train), (Split::Validation, limits.validation), (Split::Test, limits.test)]
    {
        let mut chosen: Vec<usize> = (0..examples.len()).filter(|&i| examples[i].split == split).collect();
        if let Some(most) = most.filter(|&most| most < chosen.len()) {
            chosen.sort_by_cached_key(|&i| (rank(seed, "limit", &examples[i].id), i));
            chosen.truncate(most);
        }
        kept.extend(chosen);
    }
    kept.sort_unstable();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(patients: usize, split: Assigned) -> Vec<Record> {
        (0..patients * 3)
            .map(|i| Record {
                id: format!("film {i}"),
                patient: format!("patient {}", i / 3),
                labels: vec![Some(i % 2 == 0)],
                split,
            })
            .collect()
    }

    fn count(examples: &[Example], split: Split) -> usize {
        examples.iter().filter(|e| e.split == split).count()
    }

    #[test]
    fn patients_stay_together_and_fractions_hold() {
        let examples = assign(records(100, Assigned::Open), 7, 0.1, 0.2);
        assert_eq!(count(&examples, Split::Validation), 30);
        assert_eq!(count(&examples, Split::Test), 60);
        for films in examples.chunks(3) {
            assert!(films.iter().all(|f| f.split == films[0].split));
        }
        let other = assign(records(100, Assigned::Open), 8, 0.1, 0.2);
        assert_ne!(examples, other, "the seed decides");
        let mut reversed = records(100, Assigned::Open);
        reversed.reverse();
        let mut reversed = assign(reversed, 7, 0.1, 0.2);
        reversed.reverse();
        assert_eq!(examples, reversed, "the order of arrival does not");
    }

    #[test]
    fn a_prescribed_test_split_is_kept() {
        let mut all = records(40, Assigned::NotTest);
        all.extend(records(10, Assigned::Fixed(Split::Test)).into_iter().map(|mut r| {
            r.patient.push_str(" of the test list");
            r
        }));
        let examples = assign(all, 7, 0.1, 0.2);
        assert_eq!(count(&examples, Split::Test), 30);
        assert_eq!(count(&examples, Split::Validation), 12);
    }

    #[test]
    fn tiny_sets_keep_a_training_patient() {
        assert_eq!(count(&assign(records(1, Assigned::Open), 0, 0.1, 0.2), Split::Train), 3);
        let three = assign(records(3, Assigned::Open), 0, 0.1, 0.2);
        assert!(Split::ALL.iter().all(|&s| count(&three, s) == 3));
    }

    #[test]
    fn limits_keep_a_fixed_choice() {
        let examples = assign(records(100, Assigned::Open), 7, 0.1, 0.2);
        let limits = Limits { train: Some(20), validation: None, test: Some(0) };
        let kept = limit(&examples, 7, limits);
        assert_eq!(kept.len(), 20 + 30);
        assert_eq!(kept, limit(&examples, 7, limits));
        assert!(kept.windows(2).all(|w| w[0] < w[1]));
    }
}
