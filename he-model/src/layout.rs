//! Where the values of a tensor lie in the slots of its ciphertexts.
//!
//! Two forms:
//! - [`Grid`]: pixel-major, channel-minor. A ciphertext is a row of *cells* of `lanes` slots; pixel (y, x) of an
//!   image with dilation d is cell `y * d * pitch + x * d`. Its d neighbours to the right are its *phases* and hold
//!   further channels, so one ciphertext takes `lanes * d` channels, and a stride (which multiplies d) makes
//!   room for the channels that usually come with it. `pitch` exceeds the width by the guard columns, and
//!   the cells after the last row are the guard rows: they are zero, and zero padding reads them.
//! - [`Layout::Vector`]: feature f in every slot s with `s mod period = f mod period`, so that a vector multiplies every
//!   pixel of a grid with the same `lanes * dilation` without being moved.
//!
//! Whatever does not fit into one ciphertext goes on in the next one.

use num_complex::Complex64;
use serde::{Deserialize, Serialize};

use crate::Shape;

/// A tensor in cells; see the module's documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grid {
    /// Shape of the tensor.
    pub shape: Shape,
    /// Slots of a ciphertext, a power of two.
    pub slots: usize,
    /// Slots of a cell, a power of two.
    pub lanes: usize,
    /// Cells from one row to the next at dilation 1.
    pub pitch: usize,
    /// Cells from one pixel to the next, a power of two.
    pub dilation: usize,
}

impl Grid {
    /// Channels that one ciphertext holds.
    #[must_use]
    pub fn period(&self) -> usize {
        self.lanes * self.dilation
    }

    /// Number of ciphertexts.
    #[must_use]
    pub fn ciphertexts(&self) -> usize {
        self.shape.channels.div_ceil(self.period())
    }

    /// Number of cells of a ciphertext.
    #[must_use]
    pub fn cells(&self) -> usize {
        self.slots / self.lanes
    }

    /// The first cell of pixel (y, x), which may lie outside of the image: negative, or beyond the last cell.
    #[must_use]
    pub fn cell(&self, y: isize, x: isize) -> isize {
        (y * self.pitch as isize + x) * self.dilation as isize
    }

    /// Ciphertext and offset inside the period of channel `c`.
    #[must_use]
    pub fn channel(&self, c: usize) -> (usize, usize) {
        (c / self.period(), c % self.period())
    }

    /// Ciphertext and slot of the value of channel `c` at (y, x).
    #[must_use]
    pub fn slot(&self, c: usize, y: usize, x: usize) -> (usize, usize) {
        let (ciphertext, offset) = self.channel(c);
        (ciphertext, self.cell(y as isize, x as isize) as usize * self.lanes + offset)
    }

    /// Last slot in use, plus one.
    #[must_use]
    pub fn extent(&self) -> usize {
        let last = self.cell(self.shape.height as isize - 1, self.shape.width as isize - 1) as usize;
        (last + self.dilation) * self.lanes
    }
}

/// Where a tensor lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Layout {
    /// An image in cells.
    Grid(Grid),
    /// A vector repeated with a period.
    Vector {
        /// Number of features.
        features: usize,
        /// Slots of a ciphertext, a power of two.
        slots: usize,
        /// Features a ciphertext, a power of two.
        period: usize,
    },
}

impl Layout {
    /// Shape of the tensor.
    #[must_use]
    pub fn shape(&self) -> Shape {
        match self {
            Self::Grid(g) => g.shape,
            Self::Vector { features, .. } => Shape::vector(*features),
        }
    }

    /// Slots of a ciphertext.
    #[must_use]
    pub fn slots(&self) -> usize {
        match self {
            Self::Grid(g) => g.slots,
            Self::Vector { slots, .. } => *slots,
        }
    }

    /// Number of ciphertexts.
    #[must_use]
    pub fn ciphertexts(&self) -> usize {
        match self {
            Self::Grid(g) => g.ciphertexts(),
            Self::Vector { features, period, .. } => features.div_ceil(*period),
        }
    }

    /// Spreads a value for each channel and position over the slots: one vector a ciphertext, zero where no value
    /// lies. `value(c, p)` gives the value of channel c at position p, row-major.
    #[must_use]
    pub fn fill(&self, value: impl Fn(usize, usize) -> f64) -> Vec<Vec<Complex64>> {
        let mut slots = vec![vec![Complex64::ZERO; self.period()]; self.ciphertexts()];
        match self {
            Self::Grid(g) => {
                for c in 0..g.shape.channels {
                    for y in 0..g.shape.height {
                        for x in 0..g.shape.width {
                            let (ciphertext, slot) = g.slot(c, y, x);
                            slots[ciphertext][slot] = value(c, y * g.shape.width + x).into();
                        }
                    }
                }
            }
            Self::Vector { features, period, .. } => {
                for f in 0..*features {
                    slots[f / period][f % period] = value(f, 0).into();
                }
            }
        }
        slots
    }

    /// Slots after which the content repeats: all of them for a grid.
    #[must_use]
    pub fn period(&self) -> usize {
        match self {
            Self::Grid(g) => g.slots,
            Self::Vector { period, .. } => *period,
        }
    }

    /// Puts a tensor (row-major) into slots, one vector of full length a ciphertext.
    ///
    /// # Panics
    /// If `tensor` does not have the length of the shape; callers check it.
    #[must_use]
    pub fn pack(&self, tensor: &[f64]) -> Vec<Vec<Complex64>> {
        let shape = self.shape();
        assert_eq!(tensor.len(), shape.len(), "a tensor of shape {shape}");
        let positions = shape.height * shape.width;
        let mut packed = self.fill(|c, p| tensor[c * positions + p]);
        for values in &mut packed {
            *values = values.repeat(self.slots() / values.len());
        }
        packed
    }

    /// Reads a tensor back from the slots.
    ///
    /// # Panics
    /// If there are fewer ciphertexts or slots than the layout says; callers check it.
    #[must_use]
    pub fn unpack(&self, packed: &[Vec<Complex64>]) -> Vec<f64> {
        let shape = self.shape();
        let mut tensor = Vec::with_capacity(shape.len());
        for c in 0..shape.channels {
            for y in 0..shape.height {
                for x in 0..shape.width {
                    let (ciphertext, slot) = match self {
                        Self::Grid(g) => g.slot(c, y, x),
                        Self::Vector { period, .. } => (c / period, c % period),
                    };
                    tensor.push(packed[ciphertext][slot].re);
                }
            }
        }
        tensor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_puts_every_value_in_its_own_slot() {
        let shape = Shape::new(20, 3, 5);
        let tensor: Vec<f64> = (1..=shape.len()).map(|v| v as f64).collect();
        let grid = Grid { shape, slots: 1024, lanes: 4, pitch: 11, dilation: 2 };
        let layout = Layout::Grid(grid);
        assert_eq!(layout.ciphertexts(), 3);
        let packed = layout.pack(&tensor);
        let used: usize = packed.iter().flatten().filter(|v| v.re != 0.0).count();
        assert_eq!(used, shape.len());
        assert_eq!(layout.unpack(&packed), tensor);
        let vector = Layout::Vector { features: 20, slots: 64, period: 16 };
        assert_eq!(vector.unpack(&vector.pack(&tensor[..20])), tensor[..20]);
    }
}
