//! Convolutions and matrix products in bf16, while everything else stays f32.
//!
//! Mixed precision as Micikevicius et al. ("Mixed precision training", 2018) describe it and as PyTorch's `autocast` does it:
//! weights, their gradients and the optimizer are f32; the operands of a product are rounded to bf16 just before it, and its
//! result is f32 again. Norms, activations, sums and losses never see bf16. With the eight exponent bits of f32 no gradient is
//! lost below its range, so that losses need no scaling as they do with f16.

use std::cell::Cell;

use burn::tensor::{DType, FloatDType, Tensor};

thread_local! {
    static PRODUCTS: Cell<Products> = const { Cell::new(Products::F32) };
}

/// The type of the operands of convolutions and matrix products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Products {
    /// As the tensors are.
    #[default]
    F32,
    /// Rounded to bf16, for devices with units for it.
    Bf16,
}

impl Products {
    /// What `act` computes on this thread with such products, the ones of its later backward pass included.
    pub fn within<T>(self, act: impl FnOnce() -> T) -> T {
        struct Restore(Products);
        impl Drop for Restore {
            fn drop(&mut self) {
                PRODUCTS.set(self.0);
            }
        }
        let _restore = Restore(PRODUCTS.replace(self));
        act()
    }
}

/// Whether the operands of a product are to be rounded.
pub(crate) fn rounds<const D: usize>(x: &Tensor<D>) -> bool {
    PRODUCTS.get() == Products::Bf16 && x.dtype() == DType::F32
}

/// Rounds a tensor to bf16; its gradient is f32 again.
pub(crate) fn rounded<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    x.cast(FloatDType::BF16)
}

/// Back to f32; the gradient that comes the other way is rounded to bf16.
pub(crate) fn widened<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    x.cast(FloatDType::F32)
}

/// Matrix product of the last two dimensions.
///
/// # Panics
///
/// Panics if the shapes do not fit together.
pub fn matmul<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    if rounds(&a) { widened(rounded(a).matmul(rounded(b))) } else { a.matmul(b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Window, conv2d};
    use burn::tensor::{Device, Distribution};

    /// Largest difference beside the largest value, where both types differ.
    fn difference<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> f32 {
        assert_eq!((a.dtype(), b.dtype()), (DType::F32, DType::F32));
        let largest = b.clone().inner().abs().max().into_scalar::<f32>();
        (a.inner() - b.inner()).abs().max().into_scalar::<f32>() / largest
    }

    /// bf16 keeps 8 bits: an operand is off by at most 2^-9 of itself, and so is a result; sums of products of random signs are off
    /// by a few of these of their largest.
    const ROUNDING: std::ops::Range<f32> = 1e-4..0.02;

    #[test]
    fn products_are_rounded_in_both_directions_and_all_else_stays_f32() {
        let device = Device::flex().autodiff();
        let random = |shape: [usize; 4]| {
            Tensor::<4>::random(shape, Distribution::Normal(0.0, 1.0), &device).require_grad()
        };
        let (x, w) = (random([2, 8, 9, 9]), random([6, 8, 3, 3]));
        let b = Tensor::<1>::random([6], Distribution::Normal(0.0, 1.0), &device).require_grad();
        let window = Window { stride: [1, 1], padding: [1; 4], groups: 1 };
        let conv = || conv2d(x.clone(), w.clone(), Some(b.clone()), window);
        let (exact, half) = (conv(), Products::Bf16.within(conv));
        assert!(ROUNDING.contains(&difference(half.clone(), exact.clone())));
        let probe = random(exact.dims()).detach();
        // The backward pass runs outside of the scope.
        let (exact, half) = ((exact * probe.clone()).sum().backward(), (half * probe).sum().backward());
        assert!(ROUNDING.contains(&difference(x.grad(&half).unwrap(), x.grad(&exact).unwrap())));
        assert!(ROUNDING.contains(&difference(w.grad(&half).unwrap(), w.grad(&exact).unwrap())));
        // The bias is added in f32.
        assert!(difference(b.grad(&half).unwrap(), b.grad(&exact).unwrap()) < 1e-6);

        let (a, b) = (random([1, 2, 5, 64]), random([1, 2, 64, 7]));
        let product = || matmul(a.clone(), b.clone());
        let (exact, half) = (product(), Products::Bf16.within(product));
        assert!(ROUNDING.contains(&difference(half.clone(), exact.clone())));
        let (exact, half) = (exact.square().sum().backward(), half.square().sum().backward());
        assert!(ROUNDING.contains(&difference(a.grad(&half).unwrap(), a.grad(&exact).unwrap())));
    }

    #[test]
    fn a_scope_ends_even_where_it_panics() {
        let x = Tensor::<4>::ones([1, 1, 1, 1], &Device::flex());
        Products::Bf16.within(|| {
            assert!(rounds(&x));
            Products::F32.within(|| assert!(!rounds(&x)));
            assert!(rounds(&x));
        });
        let panics = std::panic::catch_unwind(|| Products::Bf16.within(|| panic!("on purpose")));
        assert!(panics.is_err() && !rounds(&x));
    }
}
