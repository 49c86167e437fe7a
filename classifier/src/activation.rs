//! Activations whose coefficients belong to the network, to a layer or to a channel.
//!
//! With [`Sharing::Network`] the coefficients are parameters of the [`Classifier`](crate::Classifier) itself
//! and are handed down; no object is assigned to two places, and the checkpoint holds them once.

use burn::{
    module::{Module, Param},
    tensor::{Device, Tensor, activation},
};

use crate::{
    ActivationKind, ClassifierConfig, GateKind, Sharing, chebyshev_relu, plan::ActivationPlan, range::Watch,
};

/// What is computed.
#[derive(Debug, Clone, PartialEq)]
pub enum Form {
    /// `max(x, 0)`.
    Relu,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// The polynomial of the trained coefficients.
    Trained,
    /// `x^2`.
    Square,
    /// Fixed coefficients, ascending powers of `x / interval`.
    Fixed {
        /// Coefficients.
        coefficients: Vec<f64>,
        /// What `x` is divided by.
        interval: f64,
    },
}

/// An activation of tensors `[batch, channels, height, width]`.
#[derive(Module, Debug)]
pub struct Activation {
    /// `[1 or channels, terms]`, ascending powers; absent where nothing is trained or the network owns them.
    pub coefficients: Option<Param<Tensor<2>>>,
    #[module(skip)]
    form: Form,
    #[module(skip)]
    interval: f64,
    #[module(skip)]
    name: String,
}

impl Activation {
    /// The activation of a layer.
    pub(crate) fn hidden(config: &ClassifierConfig, plan: &ActivationPlan, device: &Device) -> Self {
        let a = &config.activation;
        let form = match a.kind {
            ActivationKind::Relu => Form::Relu,
            ActivationKind::Polyact => Form::Trained,
            ActivationKind::Square => Form::Square,
            ActivationKind::ChebyshevRelu => {
                Form::Fixed { coefficients: chebyshev_relu(a.degree, a.interval), interval: a.interval }
            }
        };
        Self::with(form, &a.initial, a.interval, plan, device)
    }

    /// The gate of a squeeze-and-excitation block.
    pub(crate) fn gate(config: &ClassifierConfig, plan: &ActivationPlan, device: &Device) -> Self {
        let form = match config.gate.kind {
            GateKind::Sigmoid => Form::Sigmoid,
            GateKind::ApproxSigmoid => Form::Trained,
        };
        Self::with(form, &config.gate.initial, config.gate.interval, plan, device)
    }

    fn with(form: Form, initial: &[f64], interval: f64, plan: &ActivationPlan, device: &Device) -> Self {
        let rows = match plan.sharing {
            Sharing::Network => None,
            Sharing::Layer => Some(1),
            Sharing::Channel => Some(plan.channels),
        };
        let rows = rows.filter(|_| form == Form::Trained);
        let coefficients = rows.map(|rows| starting(initial, rows, device));
        Self { coefficients, form, interval, name: plan.name.clone() }
    }

    /// `[batch, channels, height, width]` to the same shape; `shared` are the network's coefficients.
    pub(crate) fn forward(&self, x: Tensor<4>, shared: Option<&Shared>, watch: &mut Watch) -> Tensor<4> {
        watch.see(&self.name, &x, self.interval);
        match &self.form {
            Form::Relu => activation::relu(x),
            Form::Sigmoid => activation::sigmoid(x),
            Form::Square => x.clone() * x,
            Form::Fixed { coefficients, interval } => {
                let u = x.div_scalar(*interval);
                let mut powers = coefficients.iter().rev();
                let mut sum = u.zeros_like().add_scalar(*powers.next().unwrap_or(&0.0));
                for c in powers {
                    sum = sum * u.clone() + *c;
                }
                sum
            }
            Form::Trained => {
                let own = self.coefficients.as_ref().or(shared.map(|s| &s.coefficients));
                own.map_or_else(|| x.clone(), |c| polynomial(x.clone(), c.val()))
            }
        }
    }
}

/// Coefficients that the whole network shares: `[1, terms]`, ascending powers.
#[derive(Module, Debug)]
pub struct Shared {
    /// The coefficients.
    pub coefficients: Param<Tensor<2>>,
}

impl Shared {
    pub(crate) fn new(initial: &[f64], device: &Device) -> Self {
        Self { coefficients: starting(initial, 1, device) }
    }
}

fn starting(initial: &[f64], rows: usize, device: &Device) -> Param<Tensor<2>> {
    let row: Vec<f32> = initial.iter().map(|c| *c as f32).collect();
    let row = Tensor::<1>::from_data(row.as_slice(), device).reshape([1, initial.len()]);
    Param::from_tensor(row.repeat_dim(0, rows))
}

/// `sum_k coefficients[c, k] x[., c, ., .]^k` by Horner's rule; `coefficients` is `[1 or channels, terms]`.
fn polynomial(x: Tensor<4>, coefficients: Tensor<2>) -> Tensor<4> {
    let [rows, terms] = coefficients.dims();
    if terms == 3 {
        return kernels::square_polynomial(x, coefficients);
    }
    let term = |k: usize| coefficients.clone().slice([0..rows, k..k + 1]).reshape([1, rows, 1, 1]);
    let mut sum = x.clone() * term(terms - 1);
    for k in (1..terms - 1).rev() {
        sum = (sum + term(k)) * x.clone();
    }
    sum + term(0)
}
