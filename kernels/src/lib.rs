//! CPU kernels with backward passes of their own, for what Burn's CPU backend is slow at in training.
//!
//! Burn 0.22 computes the weight gradient of a convolution as a convolution of the input with the gradient, which
//! leaves a matrix product of nine columns; and it runs normalisation and activation as a dozen passes over memory.
//! Here a convolution is columns and matrix products in all three directions (Chellapilla et al., "High
//! performance convolutional neural networks for document processing", 2006), strip by strip so that the columns
//! stay in the cache; group normalisation with swish is one operation, and so are batch normalisation, a square
//! polynomial, and the search for values outside an interval.
//!
//! | module | what it holds |
//! |---|---|
//! | [`conv`] | 2D convolution |
//! | [`norm`] | group normalisation followed by swish |
//! | [`batch_norm`] | batch normalisation in training |
//! | [`polynomial`] | `c + b x + a x^2` with trained coefficients |
//! | [`range`] | how far values lie outside an interval |
//! | [`precision`] | products in bf16, on devices that are faster at them |
//!
//! Invariants:
//!
//! - Each function computes what Burn's own operation computes, up to rounding (to bf16 where [`Products`] says so); tests compare
//!   both directions.
//! - On a device other than the CPU (`flex`), or for another type than f32, Burn's own operation runs instead.
//! - Sums are taken in an order that does not depend on threads, so results repeat bit for bit.

pub mod batch_norm;
pub mod conv;
pub mod norm;
pub mod polynomial;
pub mod precision;
pub mod range;
pub mod window;

mod columns;
mod exp;
mod matrix;
mod route;
#[cfg(test)]
mod testing;

pub use batch_norm::batch_norm_train;
pub use conv::conv2d;
pub use norm::group_norm_swish;
pub use polynomial::square_polynomial;
pub use precision::{Products, matmul};
pub use range::{Excess, outside};
pub use window::Window;
