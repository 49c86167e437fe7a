//! A perceptual distance between films: how far apart they are in the features of a network that learned to see.
//!
//! Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric" (2018), equation 1, with
//! VGG16, as the reference implementation of the VQGAN uses it: the features after relu1_2, relu2_2, relu3_3, relu4_3 and
//! relu5_3, brought to unit length in every cell; squared differences, weighted by channel (the five `lin` layers),
//! averaged over cells, summed over the five. The weights are not ours to give: the user supplies them.
//!
//! Tensors, by the names of torchvision (`features.0.weight`, ...) or of the package `lpips` (`net.slice1.0.weight`, ...):
//!
//! | names | shape |
//! |---|---|
//! | `features.{0, 2}`, `{5, 7}`, `{10, 12, 14}`, `{17, 19, 21}`, `{24, 26, 28}`, each `.weight` and `.bias` | `[out, in, 3, 3]`, `[out]` |
//! | `lin0.model.1.weight` to `lin4.model.1.weight` | `[1, out, 1, 1]` |
//!
//! VGG16 has 64, 128, 256, 512 and 512 channels; other numbers are taken as the tensors say them.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData, activation, module::max_pool2d, ops::MaxPoolOptions};
use kernels::{Window, conv2d};
use thiserror::Error;

/// Convolutions of each stage, by their place in torchvision's `features`.
const STAGES: [&[usize]; 5] = [&[0, 2], &[5, 7], &[10, 12, 14], &[17, 19, 21], &[24, 26, 28]];
/// Mean and deviation of each colour of the films that VGG16 was trained on, on the scale `[-1, 1]`.
const SHIFT: [f32; 3] = [-0.030, -0.088, -0.188];
const SCALE: [f32; 3] = [0.458, 0.448, 0.450];
/// Added to the length of a feature vector.
const EPSILON: f64 = 1e-10;
/// Four times half of it is the last stage's side.
pub const SMALLEST_SIDE: usize = 16;

/// Shape and values.
type Weight = (Vec<usize>, Vec<f32>);
/// Tensors by name: shape and values.
pub type Weights = BTreeMap<String, Weight>;

/// Why weights are not those of a perceptual distance.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PerceptualError {
    /// A tensor is missing under all of its names.
    #[error("it has no tensor {name:?} (nor {other:?})")]
    Missing {
        /// Its name in torchvision's layout.
        name: String,
        /// Its name in the other layout.
        other: String,
    },
    /// A tensor has another shape.
    #[error("tensor {name:?}: expected shape {expected}, found {found:?}")]
    Shape {
        /// Its name.
        name: String,
        /// What it should be.
        expected: String,
        /// What it is.
        found: Vec<usize>,
    },
    /// A weight is no number.
    #[error("tensor {name:?} holds a value that is not finite")]
    NotFinite {
        /// The tensor.
        name: String,
    },
}

/// The distance. Its weights are constants: no gradient reaches them.
#[derive(Clone, Debug)]
pub struct Perceptual {
    stages: Vec<Stage>,
}

#[derive(Clone, Debug)]
struct Stage {
    convolutions: Vec<(Tensor<4>, Tensor<1>)>,
    /// Weight of each channel, `[1, channels, 1, 1]`.
    channels: Tensor<4>,
}

impl Perceptual {
    /// The distance with the given weights; tensors of other names are left out.
    ///
    /// # Errors
    ///
    /// Names the first tensor that is missing, has another shape, or holds what is no number.
    pub fn new(weights: &Weights, device: &Device) -> Result<Self, PerceptualError> {
        let mut channels = SHIFT.len();
        let mut stages = Vec::with_capacity(STAGES.len());
        for (number, places) in STAGES.iter().enumerate() {
            let mut convolutions = Vec::with_capacity(places.len());
            for place in *places {
                let find = |part: &str| {
                    let names = [
                        format!("features.{place}.{part}"),
                        format!("net.slice{}.{place}.{part}", number + 1),
                    ];
                    found(weights, names)
                };
                let (name, (shape, values)) = find("weight")?;
                let &[out, inputs, 3, 3] = shape.as_slice() else {
                    return Err(shaped(name, "[out, in, 3, 3]".into(), shape));
                };
                if inputs != channels || out == 0 {
                    return Err(shaped(name, format!("[out, {channels}, 3, 3]"), shape));
                }
                let weight = TensorData::new(values.clone(), [out, inputs, 3, 3]);
                let (name, (shape, values)) = find("bias")?;
                if *shape != [out] {
                    return Err(shaped(name, format!("[{out}]"), shape));
                }
                let bias = TensorData::new(values.clone(), [out]);
                convolutions.push((Tensor::from_data(weight, device), Tensor::from_data(bias, device)));
                channels = out;
            }
            let names = [format!("lin{number}.model.1.weight"), format!("lins.{number}.model.1.weight")];
            let (name, (shape, values)) = found(weights, names)?;
            if *shape != [1, channels, 1, 1] {
                return Err(shaped(name, format!("[1, {channels}, 1, 1]"), shape));
            }
            let data = TensorData::new(values.clone(), [1, channels, 1, 1]);
            stages.push(Stage { convolutions, channels: Tensor::from_data(data, device) });
        }
        Ok(Self { stages })
    }

    /// Mean distance of pairs of films. Gradients reach `film` alone where `x` is not tracked.
    ///
    /// # Shapes
    ///
    /// `x`, `film`: `[batch, 1, height, width]` in `[-1, 1]`, sides of at least [`SMALLEST_SIDE`]; the result `[1]`
    pub fn forward(&self, x: Tensor<4>, film: Tensor<4>) -> Tensor<1> {
        let (mut a, mut b) = (colours(x), colours(film));
        let mut sum: Option<Tensor<1>> = None;
        for (number, stage) in self.stages.iter().enumerate() {
            (a, b) = (stage.forward(a, number > 0), stage.forward(b, number > 0));
            let difference = (unit(a.clone()) - unit(b.clone())).square() * stage.channels.clone();
            // A sum over channels, a mean over cells and films.
            let [_, channels, ..] = difference.dims();
            let distance = difference.mean().mul_scalar(channels as f64);
            sum = Some(match sum {
                Some(sum) => sum + distance,
                None => distance,
            });
        }
        sum.unwrap_or_else(|| Tensor::zeros([1], &a.device()))
    }
}

impl Stage {
    fn forward(&self, mut h: Tensor<4>, pool: bool) -> Tensor<4> {
        if pool {
            h = max_pool2d(h, MaxPoolOptions::new([2, 2]).with_stride([2, 2]));
        }
        let window = Window { stride: [1, 1], padding: [1; 4], groups: 1 };
        for (weight, bias) in &self.convolutions {
            h = activation::relu(conv2d(h, weight.clone(), Some(bias.clone()), window));
        }
        h
    }
}

/// Three equal colours, normalised as VGG16 expects them.
fn colours(x: Tensor<4>) -> Tensor<4> {
    let device = x.device();
    let row = |values: [f32; 3]| Tensor::<1>::from_floats(values, &device).reshape([1, 3, 1, 1]);
    (x.repeat_dim(1, 3) - row(SHIFT)) / row(SCALE)
}

/// Vectors of all cells at unit length; zero stays zero, with a gradient of zero.
fn unit(h: Tensor<4>) -> Tensor<4> {
    let length = h.clone().square().sum_dim(1).add_scalar(EPSILON * EPSILON).sqrt();
    h / length
}

fn found(weights: &Weights, names: [String; 2]) -> Result<(String, &Weight), PerceptualError> {
    let Some((name, tensor)) = names.iter().find_map(|name| Some((name, weights.get(name)?))) else {
        let [name, other] = names;
        return Err(PerceptualError::Missing { name, other });
    };
    if tensor.1.iter().any(|value| !value.is_finite()) {
        return Err(PerceptualError::NotFinite { name: name.clone() });
    }
    Ok((name.clone(), tensor))
}

fn shaped(name: String, expected: String, found: &[usize]) -> PerceptualError {
    PerceptualError::Shape { name, expected, found: found.to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two channels in every stage.
    fn weights() -> Weights {
        let mut weights = Weights::new();
        let mut inputs = 3;
        for (number, places) in STAGES.iter().enumerate() {
            for place in *places {
                let values =
                    (0..2 * inputs * 9).map(|i| ((i * 37 + place) % 11) as f32 / 11.0 - 0.4).collect();
                weights.insert(format!("features.{place}.weight"), (vec![2, inputs, 3, 3], values));
                weights.insert(format!("features.{place}.bias"), (vec![2], vec![0.1, 0.2]));
                inputs = 2;
            }
            weights.insert(format!("lin{number}.model.1.weight"), (vec![1, 2, 1, 1], vec![0.5, 1.0]));
        }
        weights
    }

    fn films(device: &Device) -> [Tensor<4>; 2] {
        [0.0, 1.0].map(|shift| {
            let values = (0..2 * 16 * 16).map(|i| ((i * 7) as f32 * 0.1 + shift).sin()).collect::<Vec<_>>();
            Tensor::from_data(TensorData::new(values, [2, 1, 16, 16]), device)
        })
    }

    #[test]
    fn equal_films_are_at_no_distance_and_gradients_are_finite() {
        let device = Device::flex().autodiff();
        let distance = Perceptual::new(&weights(), &device).unwrap();
        let [x, y] = films(&device);
        assert_eq!(distance.forward(x.clone(), x.clone()).into_scalar::<f32>(), 0.0);
        let y = y.require_grad();
        let value = distance.forward(x.clone(), y.clone());
        let grads = value.backward();
        assert!(value.into_scalar::<f32>() > 0.0);
        let gradient = y.grad(&grads).unwrap();
        assert!(gradient.clone().is_finite().all().into_scalar::<bool>());
        assert!(gradient.abs().max().into_scalar::<f32>() > 0.0);
        // Where every feature is zero the length has no gradient of its own.
        let mut dark = weights();
        for (name, (_, values)) in &mut dark {
            if name.ends_with("bias") {
                values.fill(-100.0);
            }
        }
        let y = films(&device)[1].clone().require_grad();
        let grads = Perceptual::new(&dark, &device).unwrap().forward(x, y.clone()).backward();
        assert!(y.grad(&grads).unwrap().is_finite().all().into_scalar::<bool>());
    }

    #[test]
    fn both_layouts_are_read_and_what_does_not_fit_is_named() {
        let device = Device::flex();
        let theirs: Weights = weights()
            .into_iter()
            .map(|(name, tensor)| {
                let place =
                    name.strip_prefix("features.").and_then(|rest| rest.split('.').next()?.parse().ok());
                let slice = place.and_then(|place| STAGES.iter().position(|stage| stage.contains(&place)));
                match slice {
                    Some(slice) => (name.replace("features", &format!("net.slice{}", slice + 1)), tensor),
                    None => (name, tensor),
                }
            })
            .collect();
        assert!(theirs.contains_key("net.slice3.14.bias"));
        let value = |weights: &Weights| {
            let [x, y] = films(&device);
            Perceptual::new(weights, &device).unwrap().forward(x, y).into_scalar::<f32>()
        };
        assert_eq!(value(&theirs), value(&weights()));

        let refused = |change: &dyn Fn(&mut Weights)| {
            let mut weights = weights();
            change(&mut weights);
            Perceptual::new(&weights, &device).unwrap_err()
        };
        let missing = refused(&|w| drop(w.remove("features.12.bias")));
        assert_eq!(
            missing,
            PerceptualError::Missing { name: "features.12.bias".into(), other: "net.slice3.12.bias".into() }
        );
        let shape =
            refused(&|w| drop(w.insert("features.2.weight".into(), (vec![2, 5, 3, 3], vec![0.0; 90]))));
        assert!(
            shape.to_string().contains("\"features.2.weight\": expected shape [out, 2, 3, 3], found [2, 5")
        );
        let lin = refused(&|w| drop(w.insert("lin4.model.1.weight".into(), (vec![2], vec![0.0; 2]))));
        assert!(lin.to_string().contains("expected shape [1, 2, 1, 1], found [2]"));
        let number = refused(&|w| w.get_mut("lin0.model.1.weight").unwrap().1[0] = f32::NAN);
        assert_eq!(number, PerceptualError::NotFinite { name: "lin0.model.1.weight".into() });
    }
}
