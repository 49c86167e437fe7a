//! What the tests of kernels share.

use burn::tensor::Tensor;

/// The largest difference of two tensors of one shape, relative to the largest value of the second one if that is above 1.
pub(crate) fn difference<const D: usize>(a: &Tensor<D>, b: &Tensor<D>) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let largest = b.clone().inner().abs().max().into_scalar::<f32>().max(1.0);
    (a.clone().inner() - b.clone().inner()).abs().max().into_scalar::<f32>() / largest
}
