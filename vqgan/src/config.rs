//! The shape of a VQGAN: an unchecked literal that is validated before a network is built from it.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Which vectors leave the encoder as the latent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LatentKind {
    /// The codebook vectors nearest to the encoder's output: `q(E(x))`, as in the paper's text.
    #[default]
    Quantized,
    /// The encoder's output before quantisation, `E(x)`, which is what the authors' code feeds its
    /// classifiers.
    Continuous,
}

/// The shape of a VQGAN.
///
/// The downsampling factor is `f = 2^(multipliers.len() - 1)`; see [`VqganConfig::downsampling_factor`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VqganConfig {
    /// Side of the training films in pixels. The network is convolutional; the side only decides where
    /// attention blocks are placed.
    pub side: usize,
    /// Channels of the first level (128 in the paper). Group norms have gcd(32, width) groups, four channels each at 128. With 16
    /// or 32 every channel is a group of its own and loses a film's brightness and contrast; 20 and 24 keep five and three together.
    pub width: usize,
    /// Channel multiplier of each level, from the film down to the latent.
    pub multipliers: Vec<usize>,
    /// Residual blocks in each level of the encoder; the decoder has one more (2 in the paper).
    pub residual_blocks: usize,
    /// Sides at which every residual block is followed by attention (`[16]` in the paper).
    #[serde(default)]
    pub attention_sides: Vec<usize>,
    /// Whether the middle of encoder and decoder has an attention block (true in the paper).
    #[serde(default = "yes")]
    pub middle_attention: bool,
    /// Channels of the latent, which is the length of a codebook vector.
    pub latent_channels: usize,
    /// Number of codebook vectors (1024 in the paper).
    pub codes: usize,
    /// Which vectors leave the encoder as the latent.
    #[serde(default)]
    pub latent: LatentKind,
}

fn yes() -> bool {
    true
}

/// Why a [`VqganConfig`] describes no network.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum VqganConfigError {
    /// A field that must be positive is zero.
    #[error("vqgan.{field} is 0; it must be at least 1")]
    Zero {
        /// The field.
        field: &'static str,
    },
    /// The list of multipliers has a length that gives no supported factor.
    #[error(
        "vqgan.multipliers has {found} entries; expected 2 to 6 positive ones (f = 2^(entries - 1), so 4 entries for f = 8)"
    )]
    Multipliers {
        /// Number of entries.
        found: usize,
    },
    /// The film's side does not divide by the downsampling factor.
    #[error("vqgan.side is {side}, which does not divide by f = {factor}; choose a multiple of {factor}")]
    Side {
        /// Side in pixels.
        side: usize,
        /// Downsampling factor.
        factor: usize,
    },
    /// A codebook of one vector carries nothing.
    #[error("vqgan.codes is {found}; a codebook needs at least 2 vectors (1024 in the paper)")]
    Codes {
        /// Number of codes.
        found: usize,
    },
}

impl VqganConfig {
    /// Downsampling factor `f`: one latent cell stands for `f x f` pixels.
    #[must_use]
    pub fn downsampling_factor(&self) -> usize {
        1 << self.multipliers.len().saturating_sub(1)
    }

    /// Shape `[channels, height, width]` of the latent of a film of [`VqganConfig::side`] pixels.
    #[must_use]
    pub fn latent_shape(&self) -> [usize; 3] {
        let side = self.side / self.downsampling_factor();
        [self.latent_channels, side, side]
    }

    /// Checks that the fields describe a network.
    ///
    /// # Errors
    ///
    /// Names the first field that does not fit, with what was expected of it.
    pub fn validate(&self) -> Result<(), VqganConfigError> {
        for (field, value) in [
            ("side", self.side),
            ("width", self.width),
            ("residual_blocks", self.residual_blocks),
            ("latent_channels", self.latent_channels),
        ] {
            if value == 0 {
                return Err(VqganConfigError::Zero { field });
            }
        }
        if !(2..=6).contains(&self.multipliers.len()) || self.multipliers.contains(&0) {
            return Err(VqganConfigError::Multipliers { found: self.multipliers.len() });
        }
        let factor = self.downsampling_factor();
        if !self.side.is_multiple_of(factor) {
            return Err(VqganConfigError::Side { side: self.side, factor });
        }
        if self.codes < 2 {
            return Err(VqganConfigError::Codes { found: self.codes });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> VqganConfig {
        VqganConfig {
            side: 32,
            width: 16,
            multipliers: vec![1, 2, 2],
            residual_blocks: 1,
            attention_sides: vec![],
            middle_attention: true,
            latent_channels: 3,
            codes: 64,
            latent: LatentKind::Quantized,
        }
    }

    #[test]
    fn shape_follows_the_multipliers() {
        assert_eq!(small().downsampling_factor(), 4);
        assert_eq!(small().latent_shape(), [3, 8, 8]);
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        let refused = |change: fn(&mut VqganConfig)| {
            let mut config = small();
            change(&mut config);
            config.validate().unwrap_err()
        };
        assert_eq!(refused(|c| c.width = 0), VqganConfigError::Zero { field: "width" });
        assert_eq!(refused(|c| c.multipliers = vec![1]), VqganConfigError::Multipliers { found: 1 });
        assert_eq!(refused(|c| c.side = 30), VqganConfigError::Side { side: 30, factor: 4 });
        assert_eq!(refused(|c| c.codes = 1), VqganConfigError::Codes { found: 1 });
    }
}
