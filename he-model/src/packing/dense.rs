//! Dense packing: images without guard columns on as many ciphertexts as their channels need.

use crate::graph::Shape;
use crate::packing::{Frame, Kind, Packing, Room};

/// Options of dense packing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dense {
    /// What all kinds have.
    pub frame: Frame,
    /// True: the weights and the mask of a convolution have a prime each. False: they share one.
    pub precise: bool,
    /// The rows that a stride leaves free hold channels too.
    pub row_phases: bool,
}

impl Kind for Dense {
    fn frame(&self) -> &Frame {
        &self.frame
    }

    fn frame_mut(&mut self) -> &mut Frame {
        &mut self.frame
    }

    fn pitch(&self, width: usize) -> usize {
        width.next_power_of_two()
    }

    fn row_phases(&self, dilation: usize) -> usize {
        if self.row_phases { dilation } else { 1 }
    }

    fn is_precise(&self) -> bool {
        self.precise
    }

    /// Only where no cell of the ciphertext is left empty.
    fn masks(&self, shape: Shape) -> bool {
        let row = shape.width.next_power_of_two() * self.frame.lanes;
        self.frame.slots / self.frame.films == shape.height * row
    }

    fn shares_scale(&self) -> bool {
        !self.precise
    }

    fn is_exact(&self) -> bool {
        self.precise
    }
}

/// With and without channels in free rows. Without a prime each for weights and masks it leaves fewer bits to the values between
/// layers, so then it is for tensors that fit one ciphertext in none of the packings found.
pub(super) fn candidates(room: &Room, found: &[Packing]) -> Vec<Packing> {
    let (shape, precise) = (room.shape(), room.precise);
    if !precise && found.iter().any(|p| p.ciphertexts(room.graph) == 1) {
        return vec![];
    }
    let most = room.film_slots() / (shape.width.next_power_of_two() * shape.height.next_power_of_two());
    let dense = |row_phases: bool, lanes: usize| {
        let mut frame = room.frame(lanes);
        // Masks are as long as the ciphertext and round more coefficients than weights do.
        frame.weight_bits += 1;
        Packing::Dense(Dense { frame, precise, row_phases })
    };
    [false, true]
        .into_iter()
        .flat_map(|phases| room.lanes(most).map(move |lanes| dense(phases, lanes)))
        .collect()
}
