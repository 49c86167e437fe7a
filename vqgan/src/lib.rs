//! VQGAN for chest films: encoder, vector quantiser, decoder, discriminator and losses, on Burn.
//!
//! The networks follow Esser, Rombach and Ommer, "Taming Transformers for High-Resolution Image
//! Synthesis" (CVPR 2021, section 3.1), for one grey channel. A film `x` in `[-1, 1]` becomes
//! a latent of `latent_channels` values per cell, each cell standing for `f x f` pixels; the latent
//! is what a client encrypts and what the classifiers of this workspace are trained on.
//!
//! Invariants:
//!
//! - Parameter names are those of the reference implementation (`encoder.down.0.block.0.norm1`,
//!   `quantize.embedding`, `post_quant_conv`, `discriminator.main.0`, ...), so that checkpoints of that
//!   layout load by name.
//! - Nothing here reads a file, owns a loop or knows a data set; `train` does that.
//! - The commitment weight `beta` multiplies the commitment term `||E(x) - sg[e]||^2`, as in the paper.
//!
//! | module | what it holds |
//! |---|---|
//! | [`config`] | [`VqganConfig`], checked before anything is built |
//! | [`block`] | residual and attention blocks, resampling, normalisation |
//! | [`encoder`], [`decoder`] | the two halves of the autoencoder |
//! | [`quantizer`] | nearest code, straight-through gradient, the two terms of its loss |
//! | [`codebook`] | k-means start, usage, perplexity, revival of dead codes |
//! | [`model`] | [`Vqgan`], the four together |
//! | [`discriminator`] | the PatchGAN |
//! | [`loss`] | reconstruction and adversarial losses, the adaptive weight |
//! | [`perceptual`] | distance of films in the features of VGG16, from weights that the user supplies |
//! | [`quality`] | PSNR and SSIM of reconstructions |

pub mod block;
pub mod codebook;
pub mod config;
pub mod decoder;
pub mod discriminator;
pub mod encoder;
pub mod loss;
pub mod model;
pub mod perceptual;
pub mod quality;
pub mod quantizer;

pub use config::{LatentKind, VqganConfig, VqganConfigError};
pub use discriminator::{Discriminator, DiscriminatorConfig};
pub use model::{Encoded, Vqgan};
