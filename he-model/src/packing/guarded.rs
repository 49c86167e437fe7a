//! Guard columns: empty cells beside an image, which windows that reach beyond it read as zeros.

use crate::graph::Shape;
use crate::packing::{Frame, Kind, Packing, Room};

/// Options of guarded packing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guarded {
    /// What all kinds have.
    pub frame: Frame,
    /// Guard columns beside the image.
    pub guard: usize,
    /// True: the weights and the mask of a convolution have a prime each. False: they share one.
    pub precise: bool,
}

impl Kind for Guarded {
    fn frame(&self) -> &Frame {
        &self.frame
    }

    fn frame_mut(&mut self) -> &mut Frame {
        &mut self.frame
    }

    fn pitch(&self, width: usize) -> usize {
        width + self.guard
    }

    fn is_precise(&self) -> bool {
        self.precise
    }

    fn masks(&self, _: Shape) -> bool {
        true
    }

    fn shares_scale(&self) -> bool {
        false
    }

    fn is_exact(&self) -> bool {
        self.precise
    }
}

/// Guard columns for one and for two of the widest paddings there are.
pub(super) fn candidates(room: &Room) -> Vec<Packing> {
    let (shape, precise) = (room.shape(), room.precise);
    let padding = room.convolutions().map(|c| c.padding).max().unwrap_or(0);
    let mut found = vec![];
    for guard in [padding, 2 * padding] {
        let cells = (shape.width + guard) * (shape.height + guard);
        let most = (room.film_slots() / cells.max(1) + 1).next_power_of_two() / 2;
        let guarded = |lanes| Packing::Guarded(Guarded { frame: room.frame(lanes), guard, precise });
        found.extend(room.lanes(most.max(1)).map(guarded));
    }
    found
}
