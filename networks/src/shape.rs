//! [`Shape`] of a tensor, and [`Window`]: what a convolution or a pool makes of its rows and columns.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Most values a tensor may have: far above any latent, far below what would exhaust memory.
pub const MAX_VALUES: usize = 1 << 28;

/// Shape of one tensor: channels, rows, columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Shape {
    /// Channels.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl Shape {
    /// A shape of `channels` x `height` x `width`.
    #[must_use]
    pub const fn new(channels: usize, height: usize, width: usize) -> Self {
        Self { channels, height, width }
    }

    /// A vector of `n` features, `[n, 1, 1]`.
    #[must_use]
    pub const fn vector(n: usize) -> Self {
        Self::new(n, 1, 1)
    }

    /// Number of values.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// True if there is no value at all.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True for `[n, 1, 1]`.
    #[must_use]
    pub const fn is_vector(&self) -> bool {
        self.height == 1 && self.width == 1
    }

    /// True if there is a value, and there are at most [`MAX_VALUES`]; never overflows, whatever was read from a file.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        let values = self.channels.checked_mul(self.height).and_then(|v| v.checked_mul(self.width));
        values.is_some_and(|values| values > 0 && values <= MAX_VALUES)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {}, {}]", self.channels, self.height, self.width)
    }
}

/// A window that slides over the rows and columns of a zero-padded image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Rows and columns of the window.
    pub kernel: [usize; 2],
    /// Step, both ways.
    pub stride: usize,
    /// Zeros around the image, both ways.
    pub padding: usize,
}

impl Window {
    /// Rows and columns of the result, `(n + 2 padding - kernel) / stride + 1` each, a rest at the border left out.
    ///
    /// `None` where the window is larger than the padded image, or has no rows, no columns or no step.
    #[must_use]
    pub fn over(&self, image: Shape) -> Option<[usize; 2]> {
        let side = |n: usize, kernel: usize| {
            let padded = n.checked_add(self.padding.checked_mul(2)?)?;
            padded.checked_sub(kernel)?.checked_div(self.stride)?.checked_add(1)
        };
        let [rows, columns] = self.kernel;
        if rows == 0 || columns == 0 {
            return None;
        }
        Some([side(image.height, rows)?, side(image.width, columns)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_follows_its_formula_and_never_overflows() {
        let over = |kernel, stride, padding, side| {
            Window { kernel: [kernel; 2], stride, padding }.over(Shape::new(1, side, side)).map(|[h, _]| h)
        };
        assert_eq!(over(3, 1, 1, 8), Some(8));
        assert_eq!(over(3, 2, 1, 8), Some(4));
        assert_eq!(over(2, 2, 0, 7), Some(3));
        assert_eq!(over(5, 1, 0, 4), None);
        assert_eq!(over(0, 1, 0, 4), None);
        assert_eq!(over(3, 0, 1, 4), None);
        assert_eq!(over(3, 1, usize::MAX, 4), None);
        assert!(!Shape::new(usize::MAX, usize::MAX, 2).is_bounded());
        assert!(!Shape::new(0, 4, 4).is_bounded());
    }
}
