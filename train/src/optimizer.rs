//! Adam, with what training here needs of it: state by parameter name, one norm over all gradients.
//!
//! Kingma and Ba (2015), algorithm 1, with the maximum of Reddi et al. (2018) as an option and weight decay added
//! to the gradient, step for step as `torch.optim.Adam`, or decoupled from it (Loshchilov and Hutter 2019), as
//! `torch.optim.AdamW`: the bias corrections and the place of epsilon are PyTorch's. Burn's own optimizer keys its state by parameter ids that differ from one process to the next and
//! clips each parameter by itself; here the state carries the names of the weights, so that a
//! checkpoint resumes exactly.

mod norm;

use std::collections::BTreeMap;

use burn::{
    module::{Module, ModuleMapper, Param},
    optim::GradientsParams,
    tensor::{Device, Gradients, Tensor, TensorData},
};
use serde::{Deserialize, Serialize};

use crate::state::State;
pub use norm::NotFinite;
use norm::gradient_norm;

/// Constants of Adam.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdamConfig {
    /// Decay of the mean of gradients (0.9; the VQGAN uses 0.5).
    pub beta_1: f64,
    /// Decay of the mean of squared gradients (0.999; the VQGAN uses 0.9).
    pub beta_2: f64,
    /// Added to the denominator (1e-8, as in PyTorch).
    pub epsilon: f64,
    /// Added to the gradient, times the weight (0); see `decoupled`.
    pub weight_decay: f64,
    /// Whether the decay shrinks weights instead, by `learning rate * weight_decay` a step, past the moments (false). It then
    /// spares parameters of one dimension (biases, normalisation) and the coefficients of polynomials.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub decoupled: bool,
    /// Whether the denominator uses the largest mean of squares so far (false).
    pub amsgrad: bool,
    /// Gradients longer than this, over all parameters together, are shortened to it (none).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
}

impl Default for AdamConfig {
    fn default() -> Self {
        Self {
            beta_1: 0.9,
            beta_2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
            decoupled: false,
            amsgrad: false,
            clip_norm: None,
        }
    }
}

/// What polynomials call their coefficients, `[1 or channels, terms]`.
const COEFFICIENTS: &str = "coefficients";

#[derive(Clone)]
struct Moments {
    first: Tensor<1>,
    second: Tensor<1>,
    largest: Option<Tensor<1>>,
}

/// Adam over the parameters of one module.
#[derive(Clone)]
pub struct Adam {
    config: AdamConfig,
    steps: u64,
    moments: BTreeMap<String, Moments>,
}

impl Adam {
    /// Adam before its first step.
    #[must_use]
    pub fn new(config: AdamConfig) -> Self {
        Self { config, steps: 0, moments: BTreeMap::new() }
    }

    /// Takes one step and returns the module and the norm of its gradients before clipping.
    ///
    /// # Errors
    ///
    /// A gradient is not finite; nothing has been changed.
    pub fn step<M: Module>(
        &mut self,
        module: M,
        mut gradients: Gradients,
        learning_rate: f64,
    ) -> Result<(M, f64), NotFinite> {
        let gradients = GradientsParams::from_module(&mut gradients, &module);
        self.step_with(module, gradients, learning_rate)
    }

    /// As [`Adam::step`], from gradients that were added up over several backward passes.
    ///
    /// # Errors
    ///
    /// A gradient is not finite; nothing has been changed.
    pub fn step_with<M: Module>(
        &mut self,
        module: M,
        gradients: GradientsParams,
        learning_rate: f64,
    ) -> Result<(M, f64), NotFinite> {
        let norm = gradient_norm(&module, &gradients)?;
        self.steps += 1;
        let scale = match self.config.clip_norm {
            Some(limit) if norm > limit => limit / norm,
            _ => 1.0,
        };
        let correction_1 = 1.0 - self.config.beta_1.powf(self.steps as f64);
        let correction_2 = 1.0 - self.config.beta_2.powf(self.steps as f64);
        let mut update = Update {
            config: &self.config,
            moments: &mut self.moments,
            gradients,
            path: Vec::new(),
            scale,
            learning_rate,
            step_size: learning_rate / correction_1,
            correction: correction_2.sqrt(),
        };
        Ok((module.map(&mut update), norm))
    }

    /// The state as tensors, named after the parameters.
    #[must_use]
    pub fn state(&self) -> State {
        let mut state = State::new();
        let mut put = |name: String, tensor: &Tensor<1>| {
            let values = tensor.to_data().iter::<f32>().collect::<Vec<_>>();
            state.insert(name, (vec![values.len()], values));
        };
        for (name, moments) in &self.moments {
            put(format!("{name}.moment_1"), &moments.first);
            put(format!("{name}.moment_2"), &moments.second);
            if let Some(largest) = &moments.largest {
                put(format!("{name}.largest_moment_2"), largest);
            }
        }
        state
    }

    /// Adam as it was when [`Adam::state`] was taken, after `steps` steps.
    #[must_use]
    pub fn restore(config: AdamConfig, steps: u64, state: &State, device: &Device) -> Self {
        let tensor = |name: &str, kind: &str| {
            let (shape, values) = state.get(&format!("{name}.{kind}"))?;
            let data = TensorData::new(values.clone(), shape.clone());
            Some(Tensor::<1>::from_data(data, device).inner())
        };
        let moments = state
            .keys()
            .filter_map(|key| key.strip_suffix(".moment_1"))
            .filter_map(|name| {
                let moments = Moments {
                    first: tensor(name, "moment_1")?,
                    second: tensor(name, "moment_2")?,
                    largest: tensor(name, "largest_moment_2"),
                };
                Some((name.to_owned(), moments))
            })
            .collect();
        Self { config, steps, moments }
    }

    /// Steps taken so far.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }
}

struct Update<'a> {
    config: &'a AdamConfig,
    moments: &'a mut BTreeMap<String, Moments>,
    gradients: GradientsParams,
    path: Vec<String>,
    scale: f64,
    learning_rate: f64,
    step_size: f64,
    correction: f64,
}

impl ModuleMapper for Update<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(gradient) = self.gradients.remove::<D>(param.id) else { return param };
        let config = self.config;
        let shape = gradient.shape();
        let count = shape.num_elements();
        let name = self.path.join(".");
        let old = self.moments.remove(&name);
        let mut kept = None;
        let step_size = self.step_size;
        let (scale, correction) = (self.scale, self.correction);
        let shrinks = D > 1 && self.path.last().is_none_or(|last| last != COEFFICIENTS);
        let kept_share = if shrinks { 1.0 - self.learning_rate * config.weight_decay } else { 1.0 };
        let param = param.map(|weight| {
            let tracked = weight.is_require_grad();
            let mut weight = weight.inner();
            let mut gradient = gradient.inner().reshape([count]);
            if scale != 1.0 {
                gradient = gradient.mul_scalar(scale);
            }
            if config.decoupled {
                weight = weight.mul_scalar(kept_share);
            } else if config.weight_decay != 0.0 {
                gradient = gradient + weight.clone().reshape([count]).mul_scalar(config.weight_decay);
            }
            let fresh = gradient.clone().mul_scalar(1.0 - config.beta_1);
            let fresh_square = gradient.square().mul_scalar(1.0 - config.beta_2);
            let (first, second, largest) = match old {
                Some(old) => (
                    old.first.mul_scalar(config.beta_1) + fresh,
                    old.second.mul_scalar(config.beta_2) + fresh_square,
                    old.largest,
                ),
                None => (fresh, fresh_square, None),
            };
            let largest = config.amsgrad.then(|| match largest {
                Some(largest) => largest.max_pair(second.clone()),
                None => second.clone(),
            });
            let square = largest.as_ref().unwrap_or(&second).clone();
            let denominator = square.sqrt().div_scalar(correction).add_scalar(config.epsilon);
            let delta = (first.clone() / denominator).mul_scalar(step_size).reshape(shape);
            kept = Some(Moments { first, second, largest });
            let weight = (weight - delta).autodiff();
            if tracked { weight.require_grad() } else { weight }
        });
        if let Some(moments) = kept {
            self.moments.insert(name, moments);
        }
        param
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::{Linear, LinearConfig};

    /// The same sequence as `torch.optim.Adam([w], lr=0.1, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.5, amsgrad=True)`
    /// with w = 1 and gradients 2, -1, 0.5, worked out by hand from PyTorch's formula.
    #[test]
    fn follows_the_formula_of_pytorch() {
        let (lr, b1, b2, eps, decay) = (0.1, 0.9, 0.999, 1e-8, 0.5);
        let (mut w, mut m, mut v, mut largest) = (1f64, 0f64, 0f64, 0f64);
        let device = Device::flex().autodiff();
        let mut linear: Linear = LinearConfig::new(1, 1).with_bias(false).init(&device);
        linear.weight = linear.weight.map(|_| Tensor::<2>::full([1, 1], 1.0, &device).require_grad());
        let config = AdamConfig { weight_decay: decay, amsgrad: true, ..AdamConfig::default() };
        let mut adam = Adam::new(config);
        for (t, g) in [(1, 2.0), (2, -1.0), (3, 0.5)] {
            let x = Tensor::<2>::full([1, 1], g, &device);
            let loss = linear.forward(x).sum();
            (linear, _) = adam.step(linear, loss.backward(), lr).unwrap();
            let grad = g + decay * w;
            m = b1 * m + (1.0 - b1) * grad;
            v = b2 * v + (1.0 - b2) * grad * grad;
            largest = largest.max(v);
            let denominator = largest.sqrt() / (1.0 - b2.powi(t)).sqrt() + eps;
            w -= lr / (1.0 - b1.powi(t)) * m / denominator;
            let found = f64::from(linear.weight.val().into_scalar::<f32>());
            assert!((found - w).abs() < 1e-6, "step {t}: {found} against {w}");
        }
    }

    /// The same sequence as `torch.optim.AdamW([{"params": [w], "weight_decay": 0.5}, {"params": [b], "weight_decay": 0}], lr=0.1)`
    /// with w = b = 1 and gradients 2, -1, 0.5 of w and 1 of b, worked out by hand from PyTorch's formula; the values are
    /// those that PyTorch 2.6 prints.
    #[test]
    fn decoupled_decay_follows_pytorch_and_spares_biases() {
        let (lr, b1, b2, eps, decay) = (0.1, 0.9, 0.999, 1e-8, 0.5);
        let (mut w, mut m, mut v) = (1f64, 0f64, 0f64);
        let device = Device::flex().autodiff();
        let mut linear: Linear = LinearConfig::new(1, 1).init(&device);
        linear.weight = linear.weight.map(|_| Tensor::<2>::full([1, 1], 1.0, &device).require_grad());
        linear.bias = linear.bias.map(|b| b.map(|_| Tensor::<1>::full([1], 1.0, &device).require_grad()));
        let config = AdamConfig { weight_decay: decay, decoupled: true, ..AdamConfig::default() };
        let mut adam = Adam::new(config);
        for (t, g, printed) in [(1, 2.0, 0.850_000_024), (2, -1.0, 0.780_866_325), (3, 0.5, 0.707_780_123)] {
            let x = Tensor::<2>::full([1, 1], g, &device);
            let loss = linear.forward(x).sum();
            (linear, _) = adam.step(linear, loss.backward(), lr).unwrap();
            w *= 1.0 - lr * decay;
            m = b1 * m + (1.0 - b1) * g;
            v = b2 * v + (1.0 - b2) * g * g;
            w -= lr / (1.0 - b1.powi(t)) * m / (v.sqrt() / (1.0 - b2.powi(t)).sqrt() + eps);
            let found = f64::from(linear.weight.val().into_scalar::<f32>());
            let bias = f64::from(linear.bias.as_ref().unwrap().val().into_scalar::<f32>());
            assert!((w - printed).abs() < 1e-6, "step {t}: {w} against {printed}");
            assert!((found - w).abs() < 1e-6, "step {t}: {found} against {w}");
            assert!((bias - (1.0 - lr * f64::from(t))).abs() < 1e-6, "step {t}: {bias}");
        }
    }

    /// Whatever weight a parameter has, without a gradient that reaches it the decoupled decay alone moves it.
    #[test]
    fn decoupled_decay_spares_the_coefficients_of_polynomials() {
        #[derive(Module, Debug)]
        struct Small {
            coefficients: Param<Tensor<2>>,
            fc: Linear,
        }
        let device = Device::flex().autodiff();
        let ones = || Param::from_tensor(Tensor::<2>::full([1, 1], 1.0, &device));
        let mut fc: Linear = LinearConfig::new(1, 1).with_bias(false).init(&device);
        fc.weight = ones();
        let small = Small { coefficients: ones(), fc };
        let config = AdamConfig { weight_decay: 0.5, decoupled: true, ..AdamConfig::default() };
        let nothing = (small.coefficients.val() + small.fc.weight.val()).sum().mul_scalar(0.0);
        let (small, _) = Adam::new(config).step(small, nothing.backward(), 0.1).unwrap();
        assert_eq!(small.coefficients.val().into_scalar::<f32>(), 1.0);
        assert_eq!(small.fc.weight.val().into_scalar::<f32>(), 0.95);
    }

    #[test]
    fn clips_the_norm_of_all_gradients_and_names_what_is_not_finite() {
        let device = Device::flex().autodiff();
        let linear: Linear = LinearConfig::new(2, 1).init(&device);
        let x = Tensor::<2>::from_floats([[3.0, 4.0]], &device);
        let config = AdamConfig { clip_norm: Some(0.1), ..AdamConfig::default() };
        let mut adam = Adam::new(config);
        let loss = linear.forward(x.clone()).sum();
        let (linear, norm) = adam.step(linear, loss.backward(), 0.1).unwrap();
        assert!((norm - 26f64.sqrt()).abs() < 1e-5, "{norm}");
        let first = adam.state()["weight.moment_1"].1.clone();
        assert!((f64::from(first[0]) - 0.1 * 3.0 * 0.1 / norm).abs() < 1e-6, "{first:?}");

        let loss = linear.forward(x.mul_scalar(f32::NAN)).sum();
        let refused = adam.step(linear, loss.backward(), 0.1).err().unwrap();
        assert_eq!(refused.parameter, "weight");
    }
}
