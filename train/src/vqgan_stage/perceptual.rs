//! The perceptual distance of a run: the user's weights, read and checked.

use burn::tensor::{Device, Tensor};
use vqgan::perceptual::Perceptual;

use crate::{
    Result,
    checkpoint::refusal,
    config::PerceptualTraining,
    import::read_tensors,
    state::{State, not_finite},
};

const ADVICE: &str =
    "give VGG16 and the lin layers of LPIPS as one safetensors file (docs/training.md says how to make it)";
/// The most bytes that are read: VGG16 has 528 MB with its classifier.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// The distance, its weight in the loss, and which weights it has.
pub(super) struct Loaded {
    distance: Perceptual,
    weight: f64,
    /// blake3 of the tensors.
    pub digest: String,
}

impl Loaded {
    /// Reads the weights that the configuration names.
    pub fn read(settings: &PerceptualTraining, device: &Device) -> Result<Self> {
        let path = &settings.weights;
        let weights = read_tensors(path, MAX_FILE_BYTES, ADVICE)?;
        if let Some((name, value)) = not_finite(&weights) {
            return Err(refusal(path, format!("tensor {name:?} holds {value}"), ADVICE));
        }
        let distance =
            Perceptual::new(&weights, device).map_err(|error| refusal(path, error.to_string(), ADVICE))?;
        Ok(Self { distance, weight: settings.weight, digest: digest(&weights) })
    }

    /// The distance of reconstructions, before its weight.
    pub fn forward(&self, x: Tensor<4>, film: Tensor<4>) -> Tensor<1> {
        self.distance.forward(x, film)
    }

    /// Its weight in the loss.
    pub fn weight(&self) -> f64 {
        self.weight
    }
}

fn digest(weights: &State) -> String {
    let mut hasher = blake3::Hasher::new();
    for (name, (shape, values)) in weights {
        hasher.update(format!("\n{name} {shape:?}\n").as_bytes());
        for value in values {
            hasher.update(&value.to_le_bytes());
        }
    }
    hasher.finalize().to_hex().to_string()
}
