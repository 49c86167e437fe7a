//! From Burn's tensors to slices on the CPU, and back.

use burn::{
    backend::{Autodiff, BackendTypes, Flex, TensorMetadata, tensor::FloatTensor},
    tensor::{DType, Shape, Tensor, TensorData},
};

/// Burn's CPU backend.
pub(crate) type Cpu = Flex;
/// The same with gradients.
pub(crate) type CpuTraining = Autodiff<Flex>;
/// A tensor on the CPU.
pub(crate) type CpuTensor = FloatTensor<Cpu>;
/// A tensor on the CPU with its place in the graph of gradients.
pub(crate) type CpuTracked = <CpuTraining as BackendTypes>::FloatTensorPrimitive;

/// Where a tensor lives.
pub(crate) enum Place {
    /// On the CPU, f32, without gradients.
    Plain(CpuTensor),
    /// On the CPU, f32, with gradients.
    Tracked,
    /// Elsewhere.
    Other,
}

/// Finds out where a tensor lives; costs a reference count.
pub(crate) fn place<const D: usize>(tensor: &Tensor<D>) -> Place {
    if tensor.dtype() != DType::F32 {
        return Place::Other;
    }
    if tensor.clone().try_into_primitive::<CpuTraining>().is_ok() {
        return Place::Tracked;
    }
    match tensor.clone().try_into_primitive::<Cpu>() {
        Ok(tensor) => Place::Plain(tensor),
        Err(_) => Place::Other,
    }
}

/// The tensor as one of the graph of gradients, if it lives on the CPU.
pub(crate) fn tracked<const D: usize>(tensor: Tensor<D>) -> Option<CpuTracked> {
    tensor.autodiff().try_into_primitive::<CpuTraining>().ok()
}

/// A tensor from its values, row-major.
pub(crate) fn from_values(values: Vec<f32>, shape: impl Into<Shape>) -> CpuTensor {
    CpuTensor::from_data(TensorData::new(values, shape.into()))
}

/// Dimensions of a tensor.
pub(crate) fn dims<const D: usize>(tensor: &CpuTensor) -> [usize; D] {
    tensor.shape().dims()
}
