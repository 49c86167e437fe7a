//! What the checks of all sections share.

use std::fmt::Display;

use crate::{Result, TrainError};

/// Refuses a value that does not hold.
pub(super) fn ensure(
    holds: bool,
    field: &'static str,
    found: impl Display,
    expected: impl Into<String>,
) -> Result<()> {
    if holds {
        return Ok(());
    }
    Err(TrainError::Value { field, found: found.to_string(), expected: expected.into() })
}

/// Refuses the first field that is no positive number.
pub(super) fn positive<const N: usize>(fields: [(&'static str, f64); N]) -> Result<()> {
    fields.into_iter().try_for_each(|(field, value)| {
        ensure(value > 0.0 && value.is_finite(), field, value, "it must be a positive number")
    })
}
