//! Values of fields that are left out, and which values are left out again when a configuration is written.

pub(super) fn one() -> f64 {
    1.0
}

pub(super) fn one_batch() -> usize {
    1
}

/// Left out of what is written, so that runs from before there was a choice can be continued.
pub(super) fn is_one_batch(batches: &usize) -> bool {
    *batches == 1
}

/// As [`is_one_batch`].
pub(super) fn is_zero(value: &f64) -> bool {
    *value == 0.0
}
