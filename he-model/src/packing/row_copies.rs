//! Row copies: so many guard columns that copies of the rows fit into them, from which a convolution reads three rows at once.

use crate::graph::Shape;
use crate::packing::{Frame, Kind, Packing, Room};

/// Options of packing with row copies. Where a convolution has no use for copies it is made as in [`super::Guarded`], its weights and
/// mask sharing a prime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowCopies {
    /// What all kinds have.
    pub frame: Frame,
    /// Guard columns beside the image.
    pub guard: usize,
    /// Residual stages, from the first one on, whose values have half a prime more of scale.
    pub wide_stages: usize,
}

impl Kind for RowCopies {
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
        false
    }

    fn masks(&self, _: Shape) -> bool {
        true
    }

    fn shares_scale(&self) -> bool {
        true
    }

    /// Rescalings wait behind the masks.
    fn is_exact(&self) -> bool {
        true
    }
}

/// Rows twice or four times as long as the image's, which have room for copies: for 3x3 convolutions on images whose width is a
/// power of two.
pub(super) fn candidates(room: &Room) -> Vec<Packing> {
    let shape = room.shape();
    let reads_rows = room.convolutions().any(|c| c.kernel == [3, 3]);
    if room.precise || !shape.width.is_power_of_two() || !reads_rows {
        return vec![];
    }
    let mut found = vec![];
    for guard in [shape.width, 3 * shape.width] {
        let most = room.film_slots() / ((shape.width + guard) * shape.height.next_power_of_two());
        let copies = |lanes| {
            let mut frame = room.frame(lanes);
            // The weights have more roundings than the masks that share a prime with them.
            frame.weight_bits = frame.weight_bits.saturating_sub(1);
            Packing::RowCopies(RowCopies { frame, guard, wide_stages: 0 })
        };
        // Row copies need a tensor to be one ciphertext.
        let fits = |p: &Packing| guard == shape.width || p.ciphertexts(room.graph) == 1;
        found.extend(room.lanes(most).map(copies).filter(fits));
    }
    found
}
