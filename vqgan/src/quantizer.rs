//! Vector quantisation: the nearest codebook vector forward, the identity backward.
//!
//! van den Oord et al., "Neural Discrete Representation Learning" (2017), section 3.2:
//! `L_vq = ||sg[z] - e||^2 + beta ||z - sg[e]||^2`. The first term (`codebook_loss`) moves the codes towards
//! the encoder, the second (`commitment_loss`) the encoder towards its codes; `beta` belongs to the second.

use burn::{
    module::{Module, Param},
    tensor::{Device, Int, Tensor, TensorData},
};

/// The codebook; named as an embedding in the reference layout (`quantize.embedding.weight`).
#[derive(Module, Debug)]
pub struct Codebook {
    /// `[codes, latent_channels]`
    pub weight: Param<Tensor<2>>,
}

/// The quantiser.
#[derive(Module, Debug)]
pub struct VectorQuantizer {
    /// The codebook.
    pub embedding: Codebook,
}

/// What quantisation of a batch gives.
pub struct Quantized {
    /// Codebook vectors in place of `z`; its gradient passes straight to `z`. `[batch, channels, height, width]`
    pub straight_through: Tensor<4>,
    /// Index of the code of each cell, `[batch * height * width]`, row-major over batch, height, width.
    pub indices: Tensor<1, Int>,
    /// Mean of `(sg[z] - e)^2`.
    pub codebook_loss: Tensor<1>,
    /// Mean of `(z - sg[e])^2`, not yet multiplied by `beta`.
    pub commitment_loss: Tensor<1>,
}

impl VectorQuantizer {
    /// A codebook spread evenly over a small cube around zero, to be replaced by the k-means start
    /// ([`crate::codebook::kmeans`]) or a checkpoint.
    pub fn new(codes: usize, channels: usize, device: &Device) -> Self {
        // Uniform in [-1/codes, 1/codes] in the reference; here a fixed low-discrepancy spread of the same
        // range, so that no random state is drawn for values that training replaces.
        let golden = 0.618_033_988_749_895_f64;
        let values = (0..codes * channels)
            .map(|i| (((i as f64 * golden).fract() * 2.0 - 1.0) / codes as f64) as f32)
            .collect::<Vec<_>>();
        let data = TensorData::new(values, [codes, channels]);
        Self { embedding: Codebook { weight: Param::from_tensor(Tensor::from_data(data, device)) } }
    }

    /// Index of the nearest code of every cell.
    ///
    /// # Shapes
    ///
    /// `[batch, channels, height, width]` to `[batch * height * width]`
    pub fn nearest(&self, z: Tensor<4>) -> Tensor<1, Int> {
        let [_, channels, _, _] = z.dims();
        let flat = z.inner().permute([0, 2, 3, 1]).reshape([-1, channels as i32]);
        let codes = self.embedding.weight.val().inner();
        // ||z - e||^2 = ||z||^2 - 2 z.e + ||e||^2; the first term is the same for every code.
        let norms = codes.clone().square().sum_dim(1).transpose();
        let scores = norms - flat.matmul(codes.transpose()).mul_scalar(2.0);
        let cells = scores.dims()[0];
        scores.argmin(1).reshape([cells])
    }

    /// Codebook vectors of the given indices.
    ///
    /// # Shapes
    ///
    /// `[batch * height * width]` to `[batch, channels, height, width]`
    pub fn lookup(&self, indices: Tensor<1, Int>, [batch, height, width]: [usize; 3]) -> Tensor<4> {
        let codes = self.embedding.weight.val();
        let [_, channels] = codes.dims();
        codes.select(0, indices).reshape([batch, height, width, channels]).permute([0, 3, 1, 2])
    }

    /// Quantises a batch.
    ///
    /// # Shapes
    ///
    /// `z`: `[batch, channels, height, width]`
    pub fn forward(&self, z: Tensor<4>) -> Quantized {
        let [batch, _, height, width] = z.dims();
        let indices = self.nearest(z.clone());
        let e = self.lookup(indices.clone(), [batch, height, width]);
        let codebook_loss = (z.clone().detach() - e.clone()).square().mean();
        let commitment_loss = (z.clone() - e.clone().detach()).square().mean();
        let straight_through = z.clone() + (e - z).detach();
        Quantized { straight_through, indices, codebook_loss, commitment_loss }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantizer(device: &Device) -> VectorQuantizer {
        let codes = Tensor::from_floats([[0.0, 0.0], [1.0, 1.0], [-1.0, 1.0]], device);
        VectorQuantizer { embedding: Codebook { weight: Param::from_tensor(codes) } }
    }

    #[test]
    fn the_nearest_code_is_chosen_and_the_gradient_passes_straight_through() {
        let device = Device::flex().autodiff();
        let z = Tensor::<4>::from_floats([[[[0.9, -0.1]], [[0.8, 0.2]]]], &device).require_grad();
        let out = quantizer(&device).forward(z.clone());
        assert_eq!(out.indices.to_data().iter::<i64>().collect::<Vec<_>>(), vec![1, 0]);
        let expected = vec![1.0, 0.0, 1.0, 0.0];
        assert_eq!(out.straight_through.to_data().try_to_vec::<f32>().unwrap(), expected);

        let weights = Tensor::<4>::from_floats([[[[2.0, 3.0]], [[5.0, 7.0]]]], &device);
        let grads = (out.straight_through * weights).sum().backward();
        assert_eq!(z.grad(&grads).unwrap().to_data().try_to_vec::<f32>().unwrap(), vec![2.0, 3.0, 5.0, 7.0]);
    }

    #[test]
    fn each_loss_term_moves_its_own_side_only() {
        let device = Device::flex().autodiff();
        let quantizer = quantizer(&device);
        let z = Tensor::<4>::from_floats([[[[0.9]], [[0.8]]]], &device).require_grad();

        let grads = quantizer.forward(z.clone()).codebook_loss.backward();
        assert!(z.grad(&grads).is_none_or(|g| g.abs().sum().into_scalar::<f32>() == 0.0));
        assert!(quantizer.embedding.weight.val().grad(&grads).is_some());

        let grads = quantizer.forward(z.clone()).commitment_loss.backward();
        let moved = z.grad(&grads).unwrap().to_data().try_to_vec::<f32>().unwrap();
        // d/dz mean((z - e)^2) = 2 (z - e) / 2 elements
        assert!((moved[0] + 0.1).abs() < 1e-6 && (moved[1] + 0.2).abs() < 1e-6, "{moved:?}");
        let codes = quantizer.embedding.weight.val().grad(&grads);
        assert!(codes.is_none_or(|g| g.abs().sum().into_scalar::<f32>() == 0.0));
    }
}
