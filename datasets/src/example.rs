//! One film's entry in a data set: its identity, its patient, its labels and its split.

use serde::{Deserialize, Serialize};

/// What a film is used for. No patient has films in two splits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Films that weights are fitted to.
    Train,
    /// Films that choices (best epoch, thresholds, ranges) are made on.
    Validation,
    /// Films that are only looked at to report figures.
    Test,
}

impl Split {
    /// The three splits in their order.
    pub const ALL: [Split; 3] = [Split::Train, Split::Validation, Split::Test];

    /// The name used in files and messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Validation => "validation",
            Split::Test => "test",
        }
    }
}

impl std::fmt::Display for Split {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// One film of a data set, without its pixels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// A name that is unique within the data set: the file name, or the place in an array.
    pub id: String,
    /// The patient, as the data set names them.
    pub patient: String,
    /// One entry per label of the data set; `None` is unknown and is masked in losses and metrics.
    pub labels: Vec<Option<bool>>,
    /// What the film is used for.
    pub split: Split,
}
