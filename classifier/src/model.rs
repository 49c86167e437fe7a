//! [`Classifier`]: one module for all architectures, built from the [`Plan`](crate::plan::Plan) of its config.

use burn::{
    module::Module,
    nn::{Linear, LinearConfig},
    tensor::{Device, Tensor},
};

use crate::{
    ActivationKind, ClassifierConfig, ClassifierError, GateKind, Ranges, Sharing,
    activation::Shared,
    layers::{Block, Hidden, Pass, Stage, mean_of_positions},
    range::Watch,
};

/// A classifier of latents.
#[derive(Module, Debug)]
pub struct Classifier {
    activation: Option<Shared>,
    gate: Option<Shared>,
    stem: Option<Stage>,
    features: Vec<Stage>,
    layer1: Vec<Block>,
    layer2: Vec<Block>,
    layer3: Vec<Block>,
    hidden: Option<Hidden>,
    head: Linear,
    #[module(skip)]
    global_pool: bool,
}

impl ClassifierConfig {
    /// Builds the network with fresh weights (seed the device first for a repeatable start).
    ///
    /// # Errors
    /// A config that [`ClassifierConfig::validate`] refuses.
    pub fn init(&self, device: &Device) -> Result<Classifier, ClassifierError> {
        let plan = self.plan()?;
        let in_se = self.se && self.sharing_in_se() == Sharing::Network;
        let own_act = (in_se || self.activation.sharing == Sharing::Network)
            && self.activation.kind == ActivationKind::Polyact;
        let own_gate = in_se && self.gate.kind == GateKind::ApproxSigmoid;
        let mut stages: Vec<Stage> = plan.features.iter().map(|s| Stage::new(self, s, device)).collect();
        let stem = if plan.layers.is_empty() { None } else { stages.pop() };
        let layer = |i: usize| -> Vec<Block> {
            plan.layers.get(i).into_iter().flatten().map(|b| Block::new(self, b, device)).collect()
        };
        Ok(Classifier {
            activation: own_act.then(|| Shared::new(&self.activation.initial, device)),
            gate: own_gate.then(|| Shared::new(&self.gate.initial, device)),
            stem,
            features: stages,
            layer1: layer(0),
            layer2: layer(1),
            layer3: layer(2),
            hidden: plan.hidden.as_ref().map(|h| Hidden::new(self, h, device)),
            head: LinearConfig::new(plan.head_inputs, plan.labels).init(device),
            global_pool: plan.global_pool,
        })
    }
}

impl Classifier {
    /// Logits of a batch of latents.
    ///
    /// # Shapes
    /// - `latent`: `[batch, channels, height, width]`
    /// - result: `[batch, labels]`
    #[must_use]
    pub fn forward(&self, latent: Tensor<4>) -> Tensor<2> {
        self.run(latent, Watch::off()).0
    }

    /// As [`Classifier::forward`], and what the activations saw on the way.
    #[must_use]
    pub fn forward_watched(&self, latent: Tensor<4>) -> (Tensor<2>, Ranges) {
        let device = latent.device();
        let (logits, watch) = self.run(latent, Watch::on());
        (logits, watch.finish(&device))
    }

    fn run(&self, latent: Tensor<4>, watch: Watch) -> (Tensor<2>, Watch) {
        let mut pass = Pass { act: self.activation.as_ref(), gate: self.gate.as_ref(), watch };
        let mut x = latent;
        for stage in self.stem.iter().chain(&self.features) {
            x = stage.forward(x, &mut pass);
        }
        for block in self.layer1.iter().chain(&self.layer2).chain(&self.layer3) {
            x = block.forward(x, &mut pass);
        }
        let mut x = if self.global_pool { mean_of_positions(x) } else { x.flatten(1, 3) };
        if let Some(hidden) = &self.hidden {
            x = hidden.forward(x, &mut pass);
        }
        (self.head.forward(x), pass.watch)
    }
}
