//! [`Layer`] and [`Op`]: one line of a network, the shape that it makes and the tensors that it is trained with.

use serde::{Deserialize, Serialize};

use crate::{
    NetworkError,
    activation::{Activation, Form},
    shape::{MAX_VALUES, Shape, Window},
};

/// What batch norms add to the variance, PyTorch's and Burn's default.
pub const EPSILON: f64 = 1e-5;

/// One layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// Unique name, such as `layer1.0.conv1`: its tensors begin with it.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// Names of the layers that it reads, or `input`; left out, the layer before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<String>,
}

/// A convolution, `y[o] = bias[o] + sum over the inputs i of o's group, and taps, of w[o, i, ky, kx] x[i]`, zero-padded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv2d {
    /// Channels that it makes.
    pub out_channels: usize,
    /// Rows and columns of the kernel.
    pub kernel: [usize; 2],
    /// Step of the window, both ways.
    pub stride: usize,
    /// Zeros around the image, both ways.
    pub padding: usize,
    /// Groups of channels that do not see each other.
    pub groups: usize,
    /// It adds one number a channel.
    pub bias: bool,
}

/// Mean over a square window, without padding; a rest at the border is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AvgPool {
    /// Side of the window.
    pub kernel: usize,
    /// Step of the window.
    pub stride: usize,
}

/// One operation. A vector of n features has the shape `[n, 1, 1]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// A convolution.
    Conv2d(Conv2d),
    /// `y[c] = weight[c] (x[c] - mean[c]) / sqrt(variance[c] + EPSILON) + bias[c]`, with the statistics of the batch in training.
    BatchNorm,
    /// `y = W x + b` on all values, flattened row-major; the result is a vector.
    Linear {
        /// Number of outputs.
        outputs: usize,
    },
    /// A mean over windows.
    AvgPool(AvgPool),
    /// The mean over all positions of a channel; the result is a vector.
    GlobalAvgPool,
    /// A function of each value.
    Activation(Activation),
    /// A factor that is not trained.
    Scale {
        /// The factor.
        factor: f64,
    },
    /// The sum of two tensors of one shape.
    Add,
    /// A gate: operand 0 is a tensor `[C, H, W]`, operand 1 a vector `[C, 1, 1]` that multiplies its channels.
    ChannelMul,
}

/// A tensor that a layer is trained with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Name in a checkpoint.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
}

impl Op {
    /// Name of the operation, for messages.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Conv2d(_) => "convolution",
            Self::BatchNorm => "batch norm",
            Self::Linear { .. } => "fully connected layer",
            Self::AvgPool(_) => "mean over windows",
            Self::GlobalAvgPool => "mean over positions",
            Self::Activation(_) => "activation",
            Self::Scale { .. } => "factor",
            Self::Add => "sum",
            Self::ChannelMul => "gate",
        }
    }

    /// Number of operands.
    #[must_use]
    pub fn operands(&self) -> usize {
        match self {
            Self::Add | Self::ChannelMul => 2,
            _ => 1,
        }
    }

    /// The trained coefficients that it reads.
    #[must_use]
    pub fn coefficients(&self) -> Option<&crate::Coefficients> {
        match self {
            Self::Activation(Activation { form: Form::Trained(coefficients), .. }) => Some(coefficients),
            _ => None,
        }
    }
}

impl Layer {
    /// The shape that it makes of its operands, as many as [`Op::operands`] says.
    pub(crate) fn output(&self, operands: &[Shape]) -> Result<Shape, NetworkError> {
        let input = operands[0];
        let shape = match &self.op {
            Op::Conv2d(conv) => self.convolved(conv, input)?,
            Op::AvgPool(pool) => {
                let window = Window { kernel: [pool.kernel; 2], stride: pool.stride, padding: 0 };
                let [height, width] = self.slide(window, input)?;
                Shape::new(input.channels, height, width)
            }
            Op::Linear { outputs } => Shape::vector(*outputs),
            Op::GlobalAvgPool => Shape::vector(input.channels),
            Op::BatchNorm | Op::Activation(_) | Op::Scale { .. } => input,
            Op::Add if operands[1] != input => {
                return Err(self.refuse(input, format!("the other operand has the shape {}", operands[1])));
            }
            Op::ChannelMul if operands[1] != Shape::vector(input.channels) => {
                return Err(self.refuse(input, format!("the gate has the shape {}", operands[1])));
            }
            Op::Add | Op::ChannelMul => input,
        };
        if !shape.is_bounded() {
            return Err(self.refuse(input, format!("its result would have the shape {shape}")));
        }
        for TensorSpec { name, shape } in self.tensors(input) {
            let values = shape.iter().try_fold(1usize, |product, side| product.checked_mul(*side));
            if !values.is_some_and(|values| values > 0 && values <= MAX_VALUES) {
                return Err(self.refuse(input, format!("its tensor {name:?} would have the shape {shape:?}")));
            }
        }
        Ok(shape)
    }

    /// Its tensors, for an operand of shape `input`: always the same parts in the same order.
    pub(crate) fn tensors(&self, input: Shape) -> Vec<TensorSpec> {
        let own = |part: &str, shape: Vec<usize>| TensorSpec { name: format!("{}.{part}", self.name), shape };
        match &self.op {
            Op::Conv2d(c) => {
                let [rows, columns] = c.kernel;
                let inputs = input.channels / c.groups.max(1);
                let weight = own("weight", vec![c.out_channels, inputs, rows, columns]);
                std::iter::once(weight).chain(c.bias.then(|| own("bias", vec![c.out_channels]))).collect()
            }
            Op::BatchNorm => ["weight", "bias", "running_mean", "running_var"]
                .map(|part| own(part, vec![input.channels]))
                .to_vec(),
            Op::Linear { outputs } => {
                let inputs = input.len();
                vec![own("weight", vec![*outputs, inputs]), own("bias", vec![*outputs])]
            }
            op => {
                let coefficients = op.coefficients().into_iter();
                let tensor = coefficients.map(|c| {
                    let rows = if c.per_channel { input.channels } else { 1 };
                    TensorSpec { name: c.tensor(), shape: vec![rows, c.initial.len()] }
                });
                tensor.collect()
            }
        }
    }

    /// Refuses numbers that no layer can have, whatever it reads.
    pub(crate) fn check_numbers(&self) -> Result<(), NetworkError> {
        let positive = |what, number: f64| {
            if number.is_finite() && number > 0.0 {
                Ok(())
            } else {
                Err(self.number(what, "finite and above 0", number))
            }
        };
        let finite = |what, number: f64| {
            if number.is_finite() { Ok(()) } else { Err(self.number(what, "finite", number)) }
        };
        match &self.op {
            Op::Scale { factor } => finite("the factor", *factor),
            Op::Activation(activation) => {
                positive("the interval", activation.interval)?;
                let coefficients = match &activation.form {
                    Form::Relu | Form::Sigmoid => return Ok(()),
                    Form::Polynomial { coefficients, divisor } => {
                        positive("the divisor", *divisor)?;
                        coefficients
                    }
                    Form::Trained(trained) => &trained.initial,
                };
                coefficients.iter().try_for_each(|c| finite("a coefficient", *c))
            }
            _ => Ok(()),
        }
    }

    fn convolved(&self, conv: &Conv2d, input: Shape) -> Result<Shape, NetworkError> {
        let Conv2d { out_channels, kernel, stride, padding, groups, .. } = *conv;
        if groups == 0 || !input.channels.is_multiple_of(groups) || !out_channels.is_multiple_of(groups) {
            let reason = format!("{groups} groups do not divide its channels into {out_channels}");
            return Err(self.refuse(input, reason));
        }
        let [height, width] = self.slide(Window { kernel, stride, padding }, input)?;
        Ok(Shape::new(out_channels, height, width))
    }

    fn slide(&self, window: Window, input: Shape) -> Result<[usize; 2], NetworkError> {
        let larger = || NetworkError::TooSmall {
            layer: self.name.clone(),
            height: input.height,
            width: input.width,
            window: window.kernel[0].max(window.kernel[1]),
        };
        if window.kernel.contains(&0) || window.stride == 0 {
            return Err(self.refuse(input, "window and stride must not be zero".into()));
        }
        window.over(input).ok_or_else(larger)
    }

    fn refuse(&self, input: Shape, reason: String) -> NetworkError {
        NetworkError::Shape { layer: self.name.clone(), kind: self.op.kind(), input, reason }
    }

    fn number(&self, what: &'static str, expected: &'static str, got: f64) -> NetworkError {
        NetworkError::Number { layer: self.name.clone(), what, expected, got: got.to_string() }
    }
}
