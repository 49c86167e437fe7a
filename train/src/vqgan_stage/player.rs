//! The discriminator's side of a step.

use burn::{
    optim::{GradientsAccumulator, GradientsParams},
    tensor::Tensor,
};
use vqgan::Discriminator;

use super::{losses::scalar, pass::Outcome};
use crate::{
    config::DiscriminatorTraining,
    not_finite::Broken,
    optimizer::Adam,
    workers::{Workers, remember, replica, statistics},
};

/// The discriminator and what trains it.
pub(super) struct Player {
    pub net: Discriminator,
    pub optimizer: Adam,
    pub config: DiscriminatorTraining,
}

impl Player {
    /// One step on films and their reconstructions; gives the loss.
    pub fn step(
        &mut self,
        parts: &[Tensor<4>],
        seen: &[Outcome],
        rate: f64,
        workers: &Workers,
    ) -> std::result::Result<f64, Broken> {
        let films = parts.iter().map(|x| x.dims()[0]).sum::<usize>() as f64;
        let share = |part: usize| parts[part].dims()[0] as f64 / films;
        let mut gradients = GradientsAccumulator::new();
        let mut remembered = Vec::with_capacity(parts.len());
        let mut value = 0.0;
        workers.each(
            parts.len(),
            |_, device| replica(&self.net, device),
            |part, net| {
                let fake = seen[part].film.clone().autodiff();
                let real = net.forward(parts[part].clone());
                let loss = self.config.loss.discriminator(real, net.forward(fake));
                let value = scalar(&loss);
                let loss = if parts.len() > 1 { loss.mul_scalar(share(part)) } else { loss };
                (value, GradientsParams::from_grads(loss.backward(), &net), statistics(&net))
            },
            |part, (of_part, gradients_of_part, statistics)| {
                value += share(part) * of_part;
                gradients.accumulate(&self.net, gradients_of_part.to_device(workers.main(), &self.net));
                remembered.push((share(part), statistics));
                Ok::<_, Broken>(())
            },
        )?;
        let net = remember(self.net.clone(), remembered, workers.main());
        let (net, _) = self
            .optimizer
            .step_with(net, gradients.grads(), rate)
            .map_err(|error| Broken::gradient(error, "discriminator."))?;
        self.net = net;
        Ok(value)
    }
}
