//! How tensors are packed into the slots of ciphertexts: the kinds of packing there are.
//!
//! | kind | an image | a convolution |
//! |---|---|---|
//! | [`Guarded`] | with empty columns beside it | one map, and a mask that empties those columns again |
//! | [`RowCopies`] | with as many empty columns as it has, or more | one map that copies rows into them, and one that reads the copies |
//! | [`Dense`] | without them, on as many ciphertexts as its channels need | a matrix of maps between masked inputs |
//!
//! A new kind is a file with its options, what of them is worth trying, and where images lie ([`Kind`]), a variant of
//! [`Packing`] with its lines below, and its lowering in [`crate::lower`].

mod dense;
mod flat;
mod guarded;
mod row_copies;

pub use dense::Dense;
pub use guarded::Guarded;
pub use row_copies::RowCopies;

use serde::{Deserialize, Serialize};

use crate::graph::{Conv2d, Graph, Op, Shape};
use crate::layout::Grid;
use flat::Flat;

/// How to pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Flat", into = "Flat")]
pub enum Packing {
    /// Guard columns beside images.
    Guarded(Guarded),
    /// Convolutions on copies of the rows.
    RowCopies(RowCopies),
    /// Images without guard columns on several ciphertexts.
    Dense(Dense),
}

/// What every kind of packing has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Slots of a ciphertext, a power of two.
    pub slots: usize,
    /// Slots of a cell, a power of two.
    pub lanes: usize,
    /// Films that share the ciphertexts, a power of two.
    pub films: usize,
    /// Bits of the weights where they share a prime with a mask; on row copies those of the mask.
    pub weight_bits: u32,
    /// How many hoisted rotations one more key is worth: 0 for the fastest program, more for fewer keys.
    pub key_weight: u32,
}

/// What a kind of packing says of itself.
pub(crate) trait Kind {
    fn frame(&self) -> &Frame;

    fn frame_mut(&mut self) -> &mut Frame;

    /// Cells from one row of an image to the next, before any stride.
    fn pitch(&self, width: usize) -> usize;

    /// Rows of cells that hold channels of one pixel where strides have left so many cells from one pixel to the next.
    fn row_phases(&self, _dilation: usize) -> usize {
        1
    }

    /// Whether the weights and the mask of a convolution have a prime each; otherwise they share one.
    fn is_precise(&self) -> bool;

    /// Whether a convolution that reads beyond an image of this shape needs a mask.
    fn masks(&self, shape: Shape) -> bool;

    /// Whether the primes that weights and masks share leave the scale between layers low (`crate::planner`).
    fn shares_scale(&self) -> bool;

    /// True if more primes would not make the rounding of weights and masks better.
    fn is_exact(&self) -> bool;
}

/// What candidates of packings are made from.
pub(crate) struct Room<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) slots: usize,
    /// A power of two.
    pub(crate) films: usize,
    pub(crate) weight_bits: u32,
    /// Weights and masks with a prime each.
    pub(crate) precise: bool,
}

impl Room<'_> {
    fn frame(&self, lanes: usize) -> Frame {
        let Self { slots, films, weight_bits, .. } = *self;
        Frame { slots, lanes, films, weight_bits, key_weight: 0 }
    }

    fn film_slots(&self) -> usize {
        self.slots / self.films
    }

    fn shape(&self) -> Shape {
        self.graph.input_shape()
    }

    fn convolutions(&self) -> impl Iterator<Item = &Conv2d> {
        self.graph.nodes().iter().filter_map(|n| match n.op() {
            Op::Conv2d(c) => Some(c),
            _ => None,
        })
    }

    /// Lanes from what just fits down to a quarter of it, no more than there are channels.
    fn lanes(&self, most: usize) -> impl Iterator<Item = usize> {
        let nodes = self.graph.nodes().iter();
        let widest = nodes.map(|n| n.shape().channels).max().unwrap_or(1).next_power_of_two();
        let most = most.min(widest);
        [most, most / 2, most / 4].into_iter().filter(|l| *l > 0)
    }
}

impl Packing {
    /// The packings worth trying.
    pub(crate) fn candidates(room: &Room) -> Vec<Self> {
        let mut found = guarded::candidates(room);
        if !room.shape().is_vector() {
            found.extend(row_copies::candidates(room));
            found.extend(dense::candidates(room, &found));
        }
        found.dedup();
        found
    }

    pub(crate) fn kind(&self) -> &dyn Kind {
        match self {
            Self::Guarded(kind) => kind,
            Self::RowCopies(kind) => kind,
            Self::Dense(kind) => kind,
        }
    }

    fn kind_mut(&mut self) -> &mut dyn Kind {
        match self {
            Self::Guarded(kind) => kind,
            Self::RowCopies(kind) => kind,
            Self::Dense(kind) => kind,
        }
    }

    /// What it has in common with the other kinds.
    #[must_use]
    pub fn frame(&self) -> &Frame {
        self.kind().frame()
    }

    /// To change what it has in common with the other kinds.
    pub fn frame_mut(&mut self) -> &mut Frame {
        self.kind_mut().frame_mut()
    }

    /// The same with this weight of a key.
    pub(crate) fn with_key_weight(mut self, key_weight: u32) -> Self {
        self.frame_mut().key_weight = key_weight;
        self
    }

    /// Slots of a ciphertext.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.frame().slots
    }

    /// Films that share the ciphertexts.
    #[must_use]
    pub fn films(&self) -> usize {
        self.frame().films
    }

    /// Whether the weights and the mask of a convolution have a prime each.
    #[must_use]
    pub fn is_precise(&self) -> bool {
        self.kind().is_precise()
    }

    /// Where the input's image lies.
    pub(crate) fn grid(&self, shape: Shape) -> Grid {
        let Frame { slots, lanes, films, .. } = *self.frame();
        let pitch = self.kind().pitch(shape.width);
        Grid { shape, slots, lanes, pitch, dilation: 1, row_phases: 1, films }
    }

    /// Where a result of this shape lies, made by an operation of this stride.
    pub(crate) fn strided(&self, from: &Grid, shape: Shape, stride: usize) -> Grid {
        let dilation = from.dilation * stride;
        Grid { shape, dilation, row_phases: self.kind().row_phases(dilation), ..*from }
    }

    /// Where each node's image will lie.
    pub(crate) fn grids(&self, graph: &Graph) -> Vec<Option<Grid>> {
        let mut grids: Vec<Option<Grid>> = Vec::with_capacity(graph.nodes().len());
        for node in graph.nodes() {
            let shape = node.shape();
            let below = |by: usize| grids[node.inputs()[0].0].map(|g| self.strided(&g, shape, by));
            let grid = match node.op() {
                Op::Input { .. } => (!shape.is_vector()).then(|| self.grid(shape)),
                Op::Conv2d(c) => below(c.stride),
                Op::AvgPool(p) => below(p.stride),
                Op::Polynomial(_) | Op::ChannelAffine(_) | Op::Add | Op::ChannelMul => below(1),
                Op::GlobalAvgPool | Op::Linear(_) => None,
            };
            grids.push(grid);
        }
        grids
    }

    /// Ciphertexts of the largest image.
    fn ciphertexts(&self, graph: &Graph) -> usize {
        self.grids(graph).iter().flatten().map(Grid::ciphertexts).max().unwrap_or(1)
    }
}
