//! The pieces that the networks are made of: stages, residual blocks, squeeze and excitation.

use burn::{
    module::{Module, Param},
    nn::{
        BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d,
        conv::{Conv2d, Conv2dConfig},
    },
    tensor::{Device, Tensor, module::avg_pool2d, ops::AvgPoolOptions},
};

use kernels::{Window, batch_norm_train, conv2d};

use crate::{
    Activation, ClassifierConfig,
    activation::Shared,
    plan::{BlockPlan, ConvPlan, HiddenPlan, SePlan, StagePlan},
    range::Watch,
};

/// What is handed down to every layer: the coefficients that the network owns, and the watch.
pub(crate) struct Pass<'a> {
    pub(crate) act: Option<&'a Shared>,
    pub(crate) gate: Option<&'a Shared>,
    pub(crate) watch: Watch,
}

fn convolution(plan: &ConvPlan, device: &Device) -> (Conv2d, Option<BatchNorm>) {
    let p = plan.padding;
    let conv = Conv2dConfig::new([plan.in_channels, plan.out_channels], [plan.kernel; 2])
        .with_stride([plan.stride; 2])
        .with_padding(PaddingConfig2d::Explicit(p, p, p, p))
        .with_groups(plan.groups)
        .with_bias(plan.batch_norm.is_none())
        .init(device);
    let bn = plan.batch_norm.as_ref().map(|_| BatchNormConfig::new(plan.out_channels).init(device));
    (conv, bn)
}

fn normalized(conv: &Conv2d, bn: Option<&BatchNorm>, x: Tensor<4>) -> Tensor<4> {
    let x = match conv.padding {
        PaddingConfig2d::Explicit(top, left, bottom, right) => {
            let padding = [top, left, bottom, right];
            let window = Window { stride: conv.stride, padding, groups: conv.groups };
            conv2d(x, conv.weight.val(), conv.bias.as_ref().map(Param::val), window)
        }
        _ => conv.forward(x),
    };
    match bn {
        Some(bn) if x.device().is_autodiff() && bn.training.is_enabled() => normalized_by_batch(bn, x),
        Some(bn) => bn.forward(x),
        None => x,
    }
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

/// Mean over all positions, `[batch, channels, height, width]` to `[batch, channels]`.
pub(crate) fn mean_of_positions(x: Tensor<4>) -> Tensor<2> {
    let [batch, channels, height, width] = x.dims();
    x.reshape([batch, channels, height * width]).mean_dim(2).reshape([batch, channels])
}

/// Activation of a tensor `[batch, features]`.
fn activate(act: &Activation, x: Tensor<2>, shared: Option<&Shared>, watch: &mut Watch) -> Tensor<2> {
    let [batch, features] = x.dims();
    act.forward(x.reshape([batch, features, 1, 1]), shared, watch).reshape([batch, features])
}

/// Squeeze and excitation (Hu et al. 2018): each channel is multiplied by a gate that sees the means of all.
#[derive(Module, Debug)]
pub struct SqueezeExcite {
    squeeze: Linear,
    act: Activation,
    excite: Linear,
    gate: Activation,
}

impl SqueezeExcite {
    pub(crate) fn new(config: &ClassifierConfig, plan: &SePlan, device: &Device) -> Self {
        Self {
            squeeze: LinearConfig::new(plan.channels, plan.hidden).init(device),
            act: Activation::hidden(config, &plan.act, device),
            excite: LinearConfig::new(plan.hidden, plan.channels).init(device),
            gate: Activation::gate(config, &plan.gate, device),
        }
    }

    pub(crate) fn forward(&self, x: Tensor<4>, pass: &mut Pass<'_>) -> Tensor<4> {
        let [batch, channels, ..] = x.dims();
        let hidden = self.squeeze.forward(mean_of_positions(x.clone()));
        let hidden = activate(&self.act, hidden, pass.act, &mut pass.watch);
        let gate = activate(&self.gate, self.excite.forward(hidden), pass.gate, &mut pass.watch);
        x * gate.reshape([batch, channels, 1, 1])
    }
}

/// Convolution, batch norm, squeeze and excitation, activation (or these two the other way round), pool.
#[derive(Module, Debug)]
pub struct Stage {
    conv: Conv2d,
    bn: Option<BatchNorm>,
    se: Option<SqueezeExcite>,
    act: Activation,
    #[module(skip)]
    se_after_activation: bool,
    #[module(skip)]
    pool: Option<usize>,
}

impl Stage {
    pub(crate) fn new(config: &ClassifierConfig, plan: &StagePlan, device: &Device) -> Self {
        let (conv, bn) = convolution(&plan.conv, device);
        Self {
            conv,
            bn,
            se: plan.se.as_ref().map(|se| SqueezeExcite::new(config, se, device)),
            act: Activation::hidden(config, &plan.act, device),
            se_after_activation: plan.se_after_activation,
            pool: plan.pool,
        }
    }

    pub(crate) fn forward(&self, x: Tensor<4>, pass: &mut Pass<'_>) -> Tensor<4> {
        let mut x = normalized(&self.conv, self.bn.as_ref(), x);
        let (before, after) =
            if self.se_after_activation { (None, self.se.as_ref()) } else { (self.se.as_ref(), None) };
        if let Some(se) = before {
            x = se.forward(x, pass);
        }
        x = self.act.forward(x, pass.act, &mut pass.watch);
        if let Some(se) = after {
            x = se.forward(x, pass);
        }
        match self.pool {
            Some(p) => avg_pool2d(x, AvgPoolOptions::new([p; 2])),
            None => x,
        }
    }
}

/// The 1x1 convolution on the shortcut of a block that changes the shape.
#[derive(Module, Debug)]
pub struct Shortcut {
    conv: Conv2d,
    bn: Option<BatchNorm>,
}

/// Residual block, `act2(shortcut(x) + gain se(conv2(act1(conv1(x)))))`.
#[derive(Module, Debug)]
pub struct Block {
    conv1: Conv2d,
    bn1: Option<BatchNorm>,
    act1: Activation,
    conv2: Conv2d,
    bn2: Option<BatchNorm>,
    se: Option<SqueezeExcite>,
    shortcut: Option<Shortcut>,
    act2: Option<Activation>,
    #[module(skip)]
    gain: f64,
}

impl Block {
    pub(crate) fn new(config: &ClassifierConfig, plan: &BlockPlan, device: &Device) -> Self {
        let (conv1, bn1) = convolution(&plan.conv1, device);
        let (conv2, bn2) = convolution(&plan.conv2, device);
        Self {
            conv1,
            bn1,
            act1: Activation::hidden(config, &plan.act1, device),
            conv2,
            bn2,
            se: plan.se.as_ref().map(|se| SqueezeExcite::new(config, se, device)),
            shortcut: plan.shortcut.as_ref().map(|c| {
                let (conv, bn) = convolution(c, device);
                Shortcut { conv, bn }
            }),
            act2: plan.act2.as_ref().map(|a| Activation::hidden(config, a, device)),
            gain: config.residual_gain,
        }
    }

    pub(crate) fn forward(&self, x: Tensor<4>, pass: &mut Pass<'_>) -> Tensor<4> {
        let mut arm = normalized(&self.conv1, self.bn1.as_ref(), x.clone());
        arm = self.act1.forward(arm, pass.act, &mut pass.watch);
        arm = normalized(&self.conv2, self.bn2.as_ref(), arm);
        if let Some(se) = &self.se {
            arm = se.forward(arm, pass);
        }
        let straight = match &self.shortcut {
            Some(s) => normalized(&s.conv, s.bn.as_ref(), x),
            None => x,
        };
        let sum = straight + arm.mul_scalar(self.gain);
        match &self.act2 {
            Some(act) => act.forward(sum, pass.act, &mut pass.watch),
            None => sum,
        }
    }
}

/// A fully connected layer with an activation.
#[derive(Module, Debug)]
pub struct Hidden {
    linear: Linear,
    act: Activation,
}

impl Hidden {
    pub(crate) fn new(config: &ClassifierConfig, plan: &HiddenPlan, device: &Device) -> Self {
        Self {
            linear: LinearConfig::new(plan.inputs, plan.outputs).init(device),
            act: Activation::hidden(config, &plan.act, device),
        }
    }

    pub(crate) fn forward(&self, x: Tensor<2>, pass: &mut Pass<'_>) -> Tensor<2> {
        activate(&self.act, self.linear.forward(x), pass.act, &mut pass.watch)
    }
}
