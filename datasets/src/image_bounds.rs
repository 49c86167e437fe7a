//! What a film's file may make a decoder allocate, and how it is refused: shared by all formats.

use std::path::Path;

use crate::DataError;

/// The largest width or height of an image file, in pixels. Full-size digital radiographs have 3000 to 5000.
pub const MAX_IMAGE_SIDE: u32 = 16_384;

/// The most bytes that a decoded image may take.
pub const MAX_IMAGE_BYTES: u64 = 512 << 20;

pub(crate) const ADVICE: &str = "copy the file again from its source, or take it out of the data set";

/// A refusal of a film, with what to do.
pub(crate) fn image_error(path: &Path, problem: impl Into<String>, advice: &str) -> DataError {
    DataError::Image { path: path.into(), problem: problem.into(), advice: advice.into() }
}
