//! [`Part`]: the layers that are trained, each with its own forward pass.

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    nn::{
        BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d,
        conv::{Conv2d, Conv2dConfig},
    },
    tensor::{Device, Tensor},
};
use kernels::{Window, batch_norm_train, conv2d, square_polynomial};
use networks::{EPSILON, Shape};

/// A layer with parameters; maps `[batch, channels, height, width]`, of which vectors have one row and one column.
#[derive(Module, Debug)]
pub enum Part {
    /// A convolution.
    Convolution(Conv2d),
    /// A batch norm.
    BatchNorm(BatchNorm),
    /// A fully connected layer on all values.
    Linear(Linear),
    /// A polynomial of each value.
    Polynomial(Polynomial),
}

/// Trained coefficients: `sum_k coefficients[c, k] x[., c, ., .]^k`.
#[derive(Module, Debug)]
pub struct Polynomial {
    /// `[1 or channels, terms]`, ascending powers.
    pub coefficients: Param<Tensor<2>>,
}

impl Part {
    pub(crate) fn convolution(conv: &networks::Conv2d, input: Shape, device: &Device) -> Self {
        let p = conv.padding;
        let config = Conv2dConfig::new([input.channels, conv.out_channels], conv.kernel)
            .with_stride([conv.stride; 2])
            .with_padding(PaddingConfig2d::Explicit(p, p, p, p))
            .with_groups(conv.groups)
            .with_bias(conv.bias);
        Self::Convolution(config.init(device))
    }

    pub(crate) fn batch_norm(channels: usize, device: &Device) -> Self {
        Self::BatchNorm(BatchNormConfig::new(channels).with_epsilon(EPSILON).init(device))
    }

    pub(crate) fn linear(inputs: usize, outputs: usize, device: &Device) -> Self {
        Self::Linear(LinearConfig::new(inputs, outputs).init(device))
    }

    /// `rows` polynomials that start from the same coefficients.
    pub(crate) fn polynomial(initial: &[f64], rows: usize, device: &Device) -> Self {
        let row: Vec<f32> = initial.iter().map(|c| *c as f32).collect();
        let row = Tensor::<1>::from_data(row.as_slice(), device).reshape([1, initial.len()]);
        Self::Polynomial(Polynomial { coefficients: Param::from_tensor(row.repeat_dim(0, rows)) })
    }

    pub(crate) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Convolution(conv) => convolved(conv, x),
            Self::BatchNorm(bn) if x.device().is_autodiff() && bn.training.is_enabled() => {
                normalized_by_batch(bn, x)
            }
            Self::BatchNorm(bn) => bn.forward(x),
            Self::Linear(linear) => {
                let y = linear.forward(x.flatten::<2>(1, 3));
                let [batch, outputs] = y.dims();
                y.reshape([batch, outputs, 1, 1])
            }
            Self::Polynomial(p) => polynomial(x, p.coefficients.val()),
        }
    }

    /// Visits the parameters; what kind of part they belong to leaves no trace in their paths.
    pub(crate) fn visit_inside<V: ModuleVisitor>(&self, visitor: &mut V) {
        match self {
            Self::Convolution(conv) => conv.visit(visitor),
            Self::BatchNorm(bn) => bn.visit(visitor),
            Self::Linear(linear) => linear.visit(visitor),
            Self::Polynomial(p) => p.visit(visitor),
        }
    }

    /// As [`Part::visit_inside`], for mappers.
    pub(crate) fn map_inside<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        match self {
            Self::Convolution(conv) => Self::Convolution(conv.map(mapper)),
            Self::BatchNorm(bn) => Self::BatchNorm(bn.map(mapper)),
            Self::Linear(linear) => Self::Linear(linear.map(mapper)),
            Self::Polynomial(p) => Self::Polynomial(p.map(mapper)),
        }
    }
}

fn convolved(conv: &Conv2d, x: Tensor<4>) -> Tensor<4> {
    let PaddingConfig2d::Explicit(top, left, bottom, right) = conv.padding else { return conv.forward(x) };
    let window = Window { stride: conv.stride, padding: [top, left, bottom, right], groups: conv.groups };
    conv2d(x, conv.weight.val(), conv.bias.as_ref().map(Param::val), window)
}

/// What [`BatchNorm::forward`] does in training, with the kernel of this workspace.
fn normalized_by_batch(bn: &BatchNorm, x: Tensor<4>) -> Tensor<4> {
    let (y, mean, variance) = batch_norm_train(x, bn.gamma.val(), bn.beta.val(), bn.epsilon);
    for (running, batch) in [(&bn.running_mean, mean), (&bn.running_var, variance)] {
        let kept = running.value_sync().to_device(&y.device()).mul_scalar(1.0 - bn.momentum);
        running.update((kept + batch.detach().mul_scalar(bn.momentum)).detach());
    }
    y
}

/// `sum_k coefficients[c, k] x[., c, ., .]^k` by Horner's rule; `coefficients` is `[1 or channels, terms]`.
fn polynomial(x: Tensor<4>, coefficients: Tensor<2>) -> Tensor<4> {
    let [rows, terms] = coefficients.dims();
    if terms == 3 {
        return square_polynomial(x, coefficients);
    }
    let term = |k: usize| coefficients.clone().slice([0..rows, k..k + 1]).reshape([1, rows, 1, 1]);
    let highest = term(terms - 1);
    if terms == 1 {
        return x.zeros_like() + highest;
    }
    let mut sum = x.clone() * highest;
    for k in (1..terms - 1).rev() {
        sum = (sum + term(k)) * x.clone();
    }
    sum + term(0)
}
