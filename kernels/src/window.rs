//! How the window of a convolution moves over an image.

/// How a window moves over an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Steps in y and x.
    pub stride: [usize; 2],
    /// Zeros above, on the left, below, on the right.
    pub padding: [usize; 4],
    /// Groups of channels that do not see each other.
    pub groups: usize,
}

impl Window {
    /// Stride 1, no padding, one group.
    #[must_use]
    pub fn plain() -> Self {
        Self { stride: [1, 1], padding: [0; 4], groups: 1 }
    }
}
