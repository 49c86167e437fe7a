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
//! Where `row_phases` is more than 1, the rows below a pixel that a stride left free hold channels too.
//! Whatever does not fit into one ciphertext goes on in the next one. A batch of several films lies side by side: film b has the slots
//! from `b * slots / films` on.

use num_complex::Complex64;
use serde::{Deserialize, Serialize};

use crate::Shape;

/// More ciphertexts than any tensor needs.
const MAX_CIPHERTEXTS: usize = 1 << 12;

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
    /// Rows of cells that hold channels of one pixel, a power of two, at most the dilation.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub row_phases: usize,
    /// Films that share the ciphertexts, a power of two.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub films: usize,
}

fn one() -> usize {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_one(n: &usize) -> bool {
    *n == 1
}

impl Grid {
    /// Channels side by side in one row of cells.
    #[must_use]
    pub fn period(&self) -> usize {
        self.lanes * self.dilation
    }

    /// Channels that one ciphertext holds.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.period() * self.row_phases
    }

    /// Number of ciphertexts.
    #[must_use]
    pub fn ciphertexts(&self) -> usize {
        self.shape.channels.div_ceil(self.capacity())
    }

    /// Slots of a row of cells.
    #[must_use]
    pub fn row(&self) -> usize {
        self.pitch * self.lanes
    }

    /// Slots of one film.
    #[must_use]
    pub fn film_slots(&self) -> usize {
        self.slots / self.films
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

    /// Ciphertext of channel `c` and its offset from the pixel's first slot.
    #[must_use]
    pub fn channel(&self, c: usize) -> (usize, usize) {
        let inside = c % self.capacity();
        (c / self.capacity(), inside / self.period() * self.row() + inside % self.period())
    }

    /// Ciphertext and slot of the value of channel `c` at (y, x).
    #[must_use]
    pub fn slot(&self, c: usize, y: usize, x: usize) -> (usize, usize) {
        let (ciphertext, offset) = self.channel(c);
        (ciphertext, self.cell(y as isize, x as isize) as usize * self.lanes + offset)
    }

    /// Last slot in use by the first film, plus one.
    #[must_use]
    pub fn extent(&self) -> usize {
        let last = self.cell(self.shape.height as isize - 1, self.shape.width as isize - 1) as usize;
        (last + self.dilation + (self.row_phases - 1) * self.pitch) * self.lanes
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
        /// Films that share the ciphertexts, a power of two.
        #[serde(default = "one", skip_serializing_if = "is_one")]
        films: usize,
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

    /// Films that share the ciphertexts.
    #[must_use]
    pub fn films(&self) -> usize {
        match self {
            Self::Grid(g) => g.films,
            Self::Vector { films, .. } => *films,
        }
    }

    /// Checks a layout that came from elsewhere: every value has a slot of its own in ciphertexts of `slots` slots, and films do not
    /// reach into each other. Until this was asked, no other method may be.
    ///
    /// # Errors
    /// What does not fit, in words.
    pub fn check(&self, slots: usize) -> Result<(), String> {
        let films = self.films();
        let powers = |names: &[(&str, usize)]| {
            let wrong = names.iter().find(|(_, n)| !n.is_power_of_two() || *n > slots);
            wrong.map_or(Ok(()), |(name, n)| {
                Err(format!("{name} is {n} and has to be a power of two of at most {slots}"))
            })
        };
        if self.slots() != slots || !slots.is_power_of_two() {
            return Err(format!("it has {} slots, the ring {slots}", self.slots()));
        }
        powers(&[("the number of films", films)])?;
        let film_slots = (slots / films) as u128;
        let (channels, period) = match self {
            Self::Vector { features, period, .. } => {
                powers(&[("the period", *period)])?;
                if *period as u128 > film_slots {
                    return Err(format!("its period {period} is longer than a film, {film_slots} slots"));
                }
                (*features, *period)
            }
            Self::Grid(g) => {
                powers(&[("lanes", g.lanes), ("the dilation", g.dilation), ("row phases", g.row_phases)])?;
                let Shape { channels, height, width } = g.shape;
                if height == 0 || width == 0 || g.row_phases > g.dilation {
                    return Err(format!("an image of {height} x {width} with {} row phases", g.row_phases));
                }
                let [width, pitch, dilation, lanes] =
                    [width, g.pitch, g.dilation, g.lanes].map(|n| n as u128);
                // Rows must not overlap, and the last one has to end inside the film.
                let rows = (height as u128).saturating_sub(1).saturating_mul(dilation) + g.row_phases as u128;
                let row = pitch.saturating_mul(lanes);
                let last = width.saturating_mul(dilation).saturating_mul(lanes);
                if last > row || (rows - 1).saturating_mul(row).saturating_add(last) > film_slots {
                    return Err(format!("an image of {} does not fit into {film_slots} slots", g.shape));
                }
                (channels, g.lanes.saturating_mul(g.dilation).saturating_mul(g.row_phases))
            }
        };
        if channels == 0 || channels.div_ceil(period) > MAX_CIPHERTEXTS {
            return Err(format!("{channels} channels on up to {MAX_CIPHERTEXTS} ciphertexts"));
        }
        Ok(())
    }

    /// Number of ciphertexts.
    #[must_use]
    pub fn ciphertexts(&self) -> usize {
        match self {
            Self::Grid(g) => g.ciphertexts(),
            Self::Vector { features, period, .. } => features.div_ceil(*period),
        }
    }

    /// The ciphertext that holds channel `c`, all of it.
    #[must_use]
    pub fn ciphertext_of(&self, c: usize) -> usize {
        self.slot(c, 0, 0).0
    }

    /// Ciphertext and slot of the value of channel c at row y and column x of the first film.
    fn slot(&self, c: usize, y: usize, x: usize) -> (usize, usize) {
        match self {
            Self::Grid(g) => g.slot(c, y, x),
            Self::Vector { period, .. } => (c / period, c % period),
        }
    }

    /// Spreads a value for each channel and position over the slots, the same for every film: one vector a ciphertext, zero where
    /// no value lies. `value(c, p)` gives the value of channel c at position p, row-major.
    #[must_use]
    pub fn fill(&self, value: impl Fn(usize, usize) -> f64) -> Vec<Vec<Complex64>> {
        let (shape, period) = (self.shape(), self.period());
        let mut slots = vec![vec![Complex64::ZERO; period]; self.ciphertexts()];
        // A vector repeats within the film.
        let (films, stride) =
            if period == self.slots() { (self.films(), period / self.films()) } else { (1, 0) };
        for c in 0..shape.channels {
            for y in 0..shape.height {
                for x in 0..shape.width {
                    let (ciphertext, slot) = self.slot(c, y, x);
                    let v = value(c, y * shape.width + x);
                    (0..films).for_each(|film| slots[ciphertext][film * stride + slot] = v.into());
                }
            }
        }
        slots
    }

    /// Slots after which [`Layout::fill`] repeats: all of them for a grid.
    #[must_use]
    pub fn period(&self) -> usize {
        match self {
            Self::Grid(g) => g.slots,
            Self::Vector { period, .. } => *period,
        }
    }

    /// Puts the tensors of one film or several (row-major, one after the other) into slots, one vector of full length a ciphertext.
    /// The slots of films that are missing are zero.
    ///
    /// # Panics
    /// If the length of `tensors` is not that of one to [`Layout::films`] tensors; callers check it.
    #[must_use]
    pub fn pack(&self, tensors: &[f64]) -> Vec<Vec<Complex64>> {
        let (shape, films) = (self.shape(), self.films());
        let given = tensors.len() / shape.len();
        let fits = (1..=films).contains(&given) && tensors.len() == given * shape.len();
        assert!(fits, "1 to {films} tensors of shape {shape}, and not {} values", tensors.len());
        let positions = shape.height * shape.width;
        let film_slots = self.slots() / films;
        let mut packed = vec![vec![Complex64::ZERO; self.slots()]; self.ciphertexts()];
        let one = self.of_one_film();
        for (film, tensor) in tensors.chunks_exact(shape.len()).enumerate() {
            for (all, values) in packed.iter_mut().zip(one.fill(|c, p| tensor[c * positions + p])) {
                let part = &mut all[film * film_slots..(film + 1) * film_slots];
                let period = values.len().min(film_slots);
                part.chunks_mut(period).for_each(|to| to.copy_from_slice(&values[..to.len()]));
            }
        }
        packed
    }

    /// The same layout for a batch of one.
    fn of_one_film(&self) -> Self {
        let mut one = *self;
        match &mut one {
            Self::Grid(g) => g.films = 1,
            Self::Vector { films, .. } => *films = 1,
        }
        one
    }

    /// Reads the first film's tensor back from the slots.
    ///
    /// # Panics
    /// If there are fewer ciphertexts or slots than the layout says; callers check it.
    #[must_use]
    pub fn unpack(&self, packed: &[Vec<Complex64>]) -> Vec<f64> {
        self.unpack_film(packed, 0)
    }

    /// Reads the tensor of film `film` back from the slots.
    ///
    /// # Panics
    /// If there are fewer films, ciphertexts or slots than that; callers check it.
    #[must_use]
    pub fn unpack_film(&self, packed: &[Vec<Complex64>], film: usize) -> Vec<f64> {
        let shape = self.shape();
        let first = film * (self.slots() / self.films());
        let mut tensor = Vec::with_capacity(shape.len());
        for c in 0..shape.channels {
            for y in 0..shape.height {
                for x in 0..shape.width {
                    let (ciphertext, slot) = self.slot(c, y, x);
                    tensor.push(packed[ciphertext][first + slot].re);
                }
            }
        }
        tensor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packs a batch and reads it back; the number of slots in use.
    fn round_trip(layout: &Layout) -> usize {
        let (len, films) = (layout.shape().len(), layout.films());
        let tensors: Vec<f64> = (1..=len * films).map(|v| v as f64).collect();
        let packed = layout.pack(&tensors);
        for (film, tensor) in tensors.chunks(len).enumerate() {
            assert_eq!(layout.unpack_film(&packed, film), tensor);
        }
        let alone = layout.pack(&tensors[..len]);
        assert_eq!(layout.unpack(&alone), tensors[..len]);
        assert!((1..films).all(|film| layout.unpack_film(&alone, film).iter().all(|v| *v == 0.0)));
        packed.iter().flatten().filter(|v| v.re != 0.0).count()
    }

    #[test]
    fn packing_puts_every_value_in_its_own_slot() {
        let shape = Shape::new(20, 3, 5);
        let grid = Grid { shape, slots: 1024, lanes: 4, pitch: 11, dilation: 2, row_phases: 1, films: 1 };
        let layout = Layout::Grid(grid);
        assert_eq!(layout.ciphertexts(), 3);
        assert_eq!(round_trip(&layout), shape.len());
        let phases = Layout::Grid(Grid { pitch: 16, row_phases: 2, films: 2, ..grid });
        assert_eq!(phases.ciphertexts(), 2);
        assert_eq!(round_trip(&phases), 2 * shape.len());
        for films in [1, 2] {
            round_trip(&Layout::Vector { features: 20, slots: 64, period: 16, films });
        }
    }

    #[test]
    fn layouts_that_hold_no_tensor_are_refused() {
        let grid = Grid {
            shape: Shape::new(20, 3, 5),
            slots: 1024,
            lanes: 4,
            pitch: 11,
            dilation: 2,
            row_phases: 1,
            films: 1,
        };
        let vector = |period, films| Layout::Vector { features: 20, slots: 1024, period, films };
        for good in
            [Layout::Grid(grid), Layout::Grid(Grid { films: 4, ..grid }), vector(16, 64), vector(1024, 1)]
        {
            assert_eq!(good.check(1024), Ok(()), "{good:?}");
            round_trip(&good);
        }
        let huge = Shape::new(usize::MAX, usize::MAX, usize::MAX);
        for bad in [
            Layout::Grid(Grid { films: 0, ..grid }),
            Layout::Grid(Grid { films: 3, ..grid }),
            Layout::Grid(Grid { films: 8, ..grid }),
            Layout::Grid(Grid { films: 2048, ..grid }),
            Layout::Grid(Grid { films: usize::MAX, ..grid }),
            Layout::Grid(Grid { slots: 2048, ..grid }),
            Layout::Grid(Grid { lanes: 0, ..grid }),
            Layout::Grid(Grid { pitch: 0, ..grid }),
            Layout::Grid(Grid { pitch: 9, ..grid }),
            Layout::Grid(Grid { pitch: usize::MAX, ..grid }),
            Layout::Grid(Grid { dilation: 0, ..grid }),
            Layout::Grid(Grid { row_phases: 4, ..grid }),
            Layout::Grid(Grid { row_phases: 0, ..grid }),
            Layout::Grid(Grid { shape: huge, ..grid }),
            Layout::Grid(Grid { shape: Shape::new(0, 3, 5), ..grid }),
            Layout::Grid(Grid { shape: Shape::new(1 << 40, 3, 5), ..grid }),
            Layout::Grid(Grid { shape: Shape::new(3, 0, 5), ..grid }),
            vector(0, 1),
            vector(3, 1),
            vector(512, 4),
            vector(16, 0),
        ] {
            assert!(bad.check(1024).is_err(), "{bad:?}");
        }
    }
}
