//! The keys that a trace finds.

use std::collections::{BTreeMap, BTreeSet};

use crate::parameters::Ring;

/// Which keys a program uses, and at which levels: smaller keys serve lower levels.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyNeeds {
    /// Rotations (left, 0 < r < slots), each with a level at which it happens.
    pub rotations: BTreeSet<(u32, usize)>,
    /// Rotations whose results are conjugated (left, 0 for a conjugation alone), each with a level
    /// at which it happens.
    pub conjugations: BTreeSet<(u32, usize)>,
    /// Levels of products of ciphertexts.
    pub relinearizations: BTreeSet<usize>,
}

impl KeyNeeds {
    /// Number of keys, and their bytes in memory: one key for each automorphism and tier of levels,
    /// cut to the highest level in the tier.
    #[must_use]
    pub fn keys(&self, ring: &Ring) -> (usize, usize) {
        let tiers = ring.tiers();
        let tier = |level: usize| tiers.partition_point(|t| t.top_level < level);
        let raised = |level: &usize| ring.key_level(*level);
        // Rotations by their number; conjugations and relinearization by numbers no rotation has.
        let rotations = self.rotations.iter().map(|(r, l)| (u64::from(*r), raised(l)));
        let conjugations = self.conjugations.iter().map(|(r, l)| ((1 << 40) + u64::from(*r), raised(l)));
        let relinearizations = self.relinearizations.iter().map(|l| (1 << 41, raised(l)));
        let mut keys: BTreeMap<(u64, usize), usize> = BTreeMap::new();
        for (what, level) in rotations.chain(conjugations).chain(relinearizations) {
            let top = keys.entry((what, tier(level))).or_default();
            *top = level.max(*top);
        }
        (keys.len(), keys.values().map(|l| ring.key_bytes(*l)).sum())
    }
}
