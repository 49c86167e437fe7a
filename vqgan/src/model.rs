//! The autoencoder: encoder, quantiser and decoder together.

use burn::{
    module::{Module, Param},
    nn::conv::Conv2d,
    tensor::{Device, Int, Tensor, TensorData},
};

use crate::{
    VqganConfig,
    block::{convolve, same_conv},
    config::{LatentKind, VqganConfigError},
    decoder::Decoder,
    encoder::Encoder,
    quantizer::VectorQuantizer,
};

/// Encoder, quantiser and decoder.
#[derive(Module, Debug)]
pub struct Vqgan {
    encoder: Encoder,
    decoder: Decoder,
    quantize: VectorQuantizer,
    quant_conv: Conv2d,
    post_quant_conv: Conv2d,
}

impl VqganConfig {
    /// Builds the network with fresh weights.
    ///
    /// # Errors
    ///
    /// As [`VqganConfig::validate`].
    pub fn init(&self, device: &Device) -> Result<Vqgan, VqganConfigError> {
        self.validate()?;
        Ok(Vqgan::new(self, device))
    }
}

/// A batch after the encoder.
pub struct Encoded {
    /// The encoder's output, before quantisation. `[batch, channels, height, width]`
    pub continuous: Tensor<4>,
    /// The nearest codebook vectors, of the same shape.
    pub quantized: Tensor<4>,
    /// Index of the code of each cell, `[batch * height * width]`.
    pub indices: Tensor<1, Int>,
}

impl Encoded {
    /// The latent that leaves the encoder under the given choice.
    #[must_use]
    pub fn latent(self, kind: LatentKind) -> Tensor<4> {
        match kind {
            LatentKind::Quantized => self.quantized,
            LatentKind::Continuous => self.continuous,
        }
    }
}

/// A batch through the whole autoencoder, with what the losses need.
pub struct Reconstruction {
    /// `x̂`, `[batch, 1, height, width]`.
    pub film: Tensor<4>,
    /// What the decoder's last convolution was given, `[batch, width, height, width]`.
    pub features: Tensor<4>,
    /// The encoder's output, `[batch, channels, height / f, width / f]`.
    pub continuous: Tensor<4>,
    /// Index of the code of each cell; absent where quantisation was left out.
    pub indices: Option<Tensor<1, Int>>,
    /// Mean of `(sg[z] - e)^2`; zero where quantisation was left out.
    pub codebook_loss: Tensor<1>,
    /// Mean of `(z - sg[e])^2`; zero where quantisation was left out.
    pub commitment_loss: Tensor<1>,
}

impl Vqgan {
    /// A network of the given shape, which has been validated.
    pub(crate) fn new(config: &VqganConfig, device: &Device) -> Self {
        let channels = config.latent_channels;
        Self {
            encoder: Encoder::new(config, device),
            decoder: Decoder::new(config, device),
            quantize: VectorQuantizer::new(config.codes, channels, device),
            quant_conv: same_conv(channels, channels, 1, device),
            post_quant_conv: same_conv(channels, channels, 1, device),
        }
    }

    /// The encoder's output before quantisation.
    ///
    /// # Shapes
    ///
    /// `[batch, 1, height, width]`, in `[-1, 1]`, to `[batch, channels, height / f, width / f]`
    pub fn encode_continuous(&self, x: Tensor<4>) -> Tensor<4> {
        convolve(&self.quant_conv, self.encoder.forward(x))
    }

    /// Encodes and quantises.
    ///
    /// # Shapes
    ///
    /// `[batch, 1, height, width]`, in `[-1, 1]`
    pub fn encode(&self, x: Tensor<4>) -> Encoded {
        let continuous = self.encode_continuous(x);
        let [batch, _, height, width] = continuous.dims();
        let indices = self.quantize.nearest(continuous.clone());
        let quantized = self.quantize.lookup(indices.clone(), [batch, height, width]);
        Encoded { continuous, quantized, indices }
    }

    /// Decodes a latent to a film in about `[-1, 1]`.
    ///
    /// # Shapes
    ///
    /// `[batch, channels, height / f, width / f]` to `[batch, 1, height, width]`
    pub fn decode(&self, latent: Tensor<4>) -> Tensor<4> {
        self.decoder.forward(convolve(&self.post_quant_conv, latent))
    }

    /// The whole autoencoder with the straight-through gradient.
    ///
    /// With `quantise = false` the decoder sees the encoder's output itself: the warm-up that precedes
    /// the k-means start of the codebook.
    pub fn reconstruct(&self, x: Tensor<4>, quantise: bool) -> Reconstruction {
        let continuous = self.encode_continuous(x);
        let (latent, indices, codebook_loss, commitment_loss) = if quantise {
            let q = self.quantize.forward(continuous.clone());
            (q.straight_through, Some(q.indices), q.codebook_loss, q.commitment_loss)
        } else {
            let zero = Tensor::<1>::zeros([1], &continuous.device());
            (continuous.clone(), None, zero.clone(), zero)
        };
        let features = self.decoder.features(convolve(&self.post_quant_conv, latent));
        let film = self.decoder.film(features.clone());
        Reconstruction { film, features, continuous, indices, codebook_loss, commitment_loss }
    }

    /// The name of the first layer whose output on `x` is not finite, in the names of the weights; `None` if all are.
    ///
    /// # Shapes
    ///
    /// `[batch, 1, height, width]`, in `[-1, 1]`
    pub fn first_not_finite(&self, x: Tensor<4>, quantise: bool) -> Option<String> {
        let mut first = None;
        let mut see = |part: &str, name: &dyn std::fmt::Display, h: &Tensor<4>| {
            if first.is_none() && !h.clone().is_finite().all().into_scalar::<bool>() {
                first = Some(format!("{part}{name}"));
            }
        };
        see("", &"the films", &x);
        let h = self.encoder.forward_seen(x, &mut |name, h| see("encoder.", name, h));
        let z = convolve(&self.quant_conv, h);
        see("", &"quant_conv", &z);
        let latent = if quantise { self.quantize.forward(z).straight_through } else { z };
        see("", &"quantize.embedding", &latent);
        let h = convolve(&self.post_quant_conv, latent);
        see("", &"post_quant_conv", &h);
        let h = self.decoder.features_seen(h, &mut |name, h| see("decoder.", name, h));
        see("", &"decoder.conv_out", &self.decoder.film(h));
        first
    }

    /// The decoder's last convolution weight, `[1, width, 3, 3]`.
    pub fn last_layer(&self) -> Tensor<4> {
        self.decoder.last_layer()
    }

    /// The codebook, row-major `[codes, channels]`.
    pub fn codebook(&self) -> Vec<f32> {
        self.quantize.embedding.weight.val().inner().into_data().iter::<f32>().collect()
    }

    /// The same network with another codebook, given row-major `[codes, channels]`.
    ///
    /// # Panics
    ///
    /// Panics if the length is not that of the present codebook.
    #[must_use]
    pub fn with_codebook(mut self, values: Vec<f32>) -> Self {
        let old = self.quantize.embedding.weight.val();
        let (shape, device) = (old.dims(), old.device());
        assert_eq!(values.len(), shape[0] * shape[1], "a codebook keeps its shape {shape:?}");
        let tensor = Tensor::<2>::from_data(TensorData::new(values, shape), &device).detach();
        let id = self.quantize.embedding.weight.id;
        let tensor = if device.is_autodiff() { tensor.require_grad() } else { tensor };
        self.quantize.embedding.weight = Param::initialized(id, tensor);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(f: usize) -> VqganConfig {
        VqganConfig {
            side: 16,
            width: 8,
            multipliers: vec![1; f.ilog2() as usize + 1],
            residual_blocks: 1,
            attention_sides: vec![8],
            middle_attention: true,
            latent_channels: 3,
            codes: 16,
            latent: LatentKind::Quantized,
        }
    }

    #[test]
    fn shapes_follow_the_factor() {
        let device = Device::flex();
        for f in [2, 4, 8, 16] {
            let net = config(f).init(&device).unwrap();
            let x = Tensor::<4>::zeros([2, 1, 16, 16], &device);
            let encoded = net.encode(x);
            assert_eq!(encoded.continuous.dims(), [2, 3, 16 / f, 16 / f]);
            assert_eq!(encoded.indices.dims(), [2 * (16 / f) * (16 / f)]);
            let latent = encoded.latent(LatentKind::Quantized);
            assert_eq!(net.decode(latent).dims(), [2, 1, 16, 16]);
        }
    }

    #[test]
    fn every_parameter_receives_a_gradient() {
        let device = Device::flex().autodiff();
        let config = config(4);
        let net = config.init(&device).unwrap();
        let x = Tensor::<4>::random([2, 1, 16, 16], burn::tensor::Distribution::Normal(0.0, 1.0), &device);
        let out = net.reconstruct(x.clone(), true);
        let loss = (out.film - x).square().mean() + out.codebook_loss + out.commitment_loss;
        let grads = burn::optim::GradientsParams::from_grads(loss.backward(), &net);
        assert_eq!(grads.len(), burn::module::list_param_ids(&net).len());
    }

    /// Whatever layer is spoiled, it is the one that is named.
    #[test]
    fn the_first_layer_that_is_not_finite_is_named() {
        use burn::module::{ModuleMapper, list_param_ids};

        struct Spoil(burn::module::ParamId, Vec<String>, String);
        impl ModuleMapper for Spoil {
            fn enter_module(&mut self, name: &str, _container: &str) {
                self.1.push(name.to_owned());
            }
            fn exit_module(&mut self, _name: &str, _container: &str) {
                self.1.pop();
            }
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                if param.id != self.0 {
                    return param;
                }
                self.2 = self.1.join(".");
                param.map(|weight| weight.mul_scalar(f32::NAN))
            }
        }
        let device = Device::flex();
        let net = config(4).init(&device).unwrap();
        let x = Tensor::<4>::random([1, 1, 16, 16], burn::tensor::Distribution::Normal(0.0, 1.0), &device);
        assert_eq!(net.first_not_finite(x.clone(), true), None);
        let spoiled = x.clone().mul_scalar(f32::INFINITY);
        assert_eq!(net.first_not_finite(spoiled, true).as_deref(), Some("the films"));
        let mut seen = std::collections::BTreeSet::new();
        for id in list_param_ids(&net) {
            let mut spoil = Spoil(id, Vec::new(), String::new());
            let spoiled = net.clone().map(&mut spoil);
            let found = spoiled.first_not_finite(x.clone(), true).unwrap();
            assert!(spoil.2.starts_with(&found), "{} was spoiled, but {found} named", spoil.2);
            seen.insert(found);
        }
        assert!(seen.contains("decoder.conv_out") && seen.contains("encoder.down.1.block.0"), "{seen:?}");
    }

    #[test]
    fn a_new_codebook_is_used_and_trained() {
        let device = Device::flex().autodiff();
        let net = config(2).init(&device).unwrap();
        let values = (0..48).map(|i| i as f32).collect::<Vec<_>>();
        let net = net.with_codebook(values.clone());
        assert_eq!(net.codebook(), values);
        let out = net.reconstruct(Tensor::zeros([1, 1, 16, 16], &device), true);
        let grads = out.codebook_loss.backward();
        assert!(net.quantize.embedding.weight.val().grad(&grads).is_some());
    }
}
