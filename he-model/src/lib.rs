//! The HE-ready model: what is computed on ciphertexts, described without keys and without ciphertexts.
//!
//! A trained network reaches this crate as a [`Graph`]: tensors of channels, rows and columns, and
//! the few operations that additions and multiplications can express. The graph is the mathematics; its
//! interpreter in `f64` ([`Graph::run`]) is the oracle that every other interpreter is tested against.
//!
//! Invariants:
//! - This crate knows neither Burn nor keys: of the scheme it asks only how a ring is planned.
//! - A [`Graph`] is always valid: it comes from a [`GraphLiteral`] through [`Graph::new`], which checks
//!   names, order, shapes and array lengths.
//! - Nothing read from a file panics or allocates before its size was checked.

mod error;
pub mod executable;
mod file;
pub mod graph;
pub mod interpret;
pub mod layout;
pub mod lower;
mod packing;
pub mod parameters;
pub mod planner;
pub mod preparation;
pub mod program;
mod ranges;
pub mod schedule;
pub mod zoo;

pub use error::{GraphError, ModelError};
pub use executable::Executable;
pub use file::{FileError, FilmFit, HeModel, Preprocessing};
pub use graph::{
    AvgPool, Bias, ChannelAffine, Conv2d, Graph, GraphLiteral, Linear, Node, NodeId, NodeLiteral, Offsets,
    Op, Polynomial, Shape,
};
pub use layout::{Grid, Layout};
pub use lower::lower;
pub use packing::{Dense, Frame, Guarded, Packing, RowCopies};
pub use parameters::{Ring, RingParameters, SecurityLevel};
pub use planner::{Plan, PlanOptions, plan};
pub use program::{Program, ValueId};
pub use ranges::{Range, Ranges};
