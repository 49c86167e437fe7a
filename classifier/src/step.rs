//! [`Step`]: one layer of a forward pass, and what is computed where nothing is trained.

use burn::tensor::{Tensor, activation, module::avg_pool2d, ops::AvgPoolOptions};
use networks::AvgPool;

use crate::{part::Part, range::Watch};

/// A layer in its place.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) name: String,
    pub(crate) action: Action,
    pub(crate) inputs: Vec<Operand>,
    /// The values that it reads are meant for `[-interval, interval]`.
    pub(crate) interval: Option<f64>,
}

/// A value that a step reads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operand {
    /// Its number: 0 is the latent, `i + 1` what step `i` makes.
    pub(crate) value: usize,
    /// No later step reads it.
    pub(crate) is_last: bool,
}

/// What a step computes.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    /// The part of this number.
    Part(usize),
    Relu,
    Sigmoid,
    /// `sum_k coefficients[k] (x / divisor)^k`.
    Polynomial {
        coefficients: Vec<f64>,
        divisor: f64,
    },
    AvgPool(AvgPool),
    GlobalAvgPool,
    Scale(f64),
    Add,
    ChannelMul,
}

/// Runs all steps on a latent; every value is `[batch, channels, height, width]`.
pub(crate) fn run(steps: &[Step], parts: &[&Part], latent: Tensor<4>, watch: &mut Watch) -> Tensor<4> {
    let mut values = vec![Some(latent)];
    for step in steps {
        let operands = step.inputs.iter().filter_map(|operand| {
            let value = &mut values[operand.value];
            if operand.is_last { value.take() } else { value.clone() }
        });
        let y = step.forward(operands.collect(), parts, watch);
        values.push(Some(y));
    }
    // The last step's value, which no step takes; a network has at least one.
    values.pop().flatten().unwrap_or_else(|| unreachable!("the last value is read by no step"))
}

impl Step {
    fn forward(&self, operands: Vec<Tensor<4>>, parts: &[&Part], watch: &mut Watch) -> Tensor<4> {
        let mut operands = operands.into_iter();
        let mut next = || operands.next().unwrap_or_else(|| unreachable!("{} has its operands", self.name));
        let x = next();
        if let Some(interval) = self.interval {
            watch.see(&self.name, &x, interval);
        }
        match &self.action {
            Action::Part(part) => parts[*part].forward(x),
            Action::Relu => activation::relu(x),
            Action::Sigmoid => activation::sigmoid(x),
            Action::Polynomial { coefficients, divisor } => polynomial(x, coefficients, *divisor),
            Action::AvgPool(pool) => {
                let options = AvgPoolOptions::new([pool.kernel; 2]).with_stride([pool.stride; 2]);
                avg_pool2d(x, options)
            }
            Action::GlobalAvgPool => {
                let [batch, channels, height, width] = x.dims();
                let mean = x.reshape([batch, channels, height * width]).mean_dim(2);
                mean.reshape([batch, channels, 1, 1])
            }
            Action::Scale(factor) => x.mul_scalar(*factor),
            Action::Add => next() + x,
            Action::ChannelMul => x * next(),
        }
    }
}

fn polynomial(x: Tensor<4>, coefficients: &[f64], divisor: f64) -> Tensor<4> {
    if coefficients == [0.0, 0.0, 1.0] && divisor == 1.0 {
        return x.clone() * x;
    }
    let u = x.div_scalar(divisor);
    let mut powers = coefficients.iter().rev();
    let mut sum = u.zeros_like().add_scalar(*powers.next().unwrap_or(&0.0));
    for c in powers {
        sum = sum * u.clone() + *c;
    }
    sum
}
