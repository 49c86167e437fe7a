//! One training step of the VQGAN, and the state it works on.

use burn::{
    module::Module,
    optim::{GradientsAccumulator, GradientsParams},
    tensor::{Device, Tensor},
};
use vqgan::{
    Vqgan,
    codebook::{CodeAverage, CodeUsage, kmeans, revive},
};

use super::{
    losses::Losses,
    pass::{Outcome, Pass},
    perceptual::Loaded,
    player::Player,
};
use crate::{
    Config, Result, TrainError,
    checkpoint::Checkpoint,
    config::VqganTraining,
    films::{Films, consecutive},
    not_finite::Broken,
    optimizer::Adam,
    sampler::derived_seed,
    state::{State, apply, collect, prefixed, seeded},
    workers::{Workers, remember, replica, statistics},
};

/// Networks, optimizers and the use of the codebook.
pub(super) struct Trainer {
    pub net: Vqgan,
    pub optimizer: Adam,
    pub discriminator: Option<Player>,
    pub usage: CodeUsage,
    /// Codes as moving averages, once the codebook has started, where the configuration asks for them.
    pub code_average: Option<CodeAverage>,
    /// The perceptual distance on each device, where the configuration asks for it.
    pub perceptual: Vec<Loaded>,
    config: VqganTraining,
    channels: usize,
    codes: usize,
}

impl Trainer {
    /// Fresh networks.
    pub fn new(config: &Config, device: &Device) -> Result<Self> {
        let settings = config.vqgan.train.clone();
        let seed = derived_seed(config.run.seed, "discriminator weights", 0);
        let discriminator = settings
            .discriminator
            .clone()
            .map(|config| {
                let net = seeded(device, seed, || Ok::<_, TrainError>(config.model.init(device)))?;
                Ok::<_, TrainError>(Player { net, optimizer: Adam::new(settings.adam.clone()), config })
            })
            .transpose()?;
        Ok(Self {
            net: fresh_net(config, device)?,
            optimizer: Adam::new(settings.adam.clone()),
            discriminator,
            usage: CodeUsage::new(config.vqgan.model.codes),
            code_average: None,
            perceptual: Vec::new(),
            channels: config.vqgan.model.latent_channels,
            codes: config.vqgan.model.codes,
            config: settings,
        })
    }

    /// Puts back networks, optimizers and averages of codes, after `steps` steps.
    pub fn resume(
        &mut self,
        checkpoint: &Checkpoint,
        steps: u64,
        discriminator_steps: u64,
        device: &Device,
    ) -> std::result::Result<(), String> {
        self.net = apply(self.net.clone(), &checkpoint.tensors)?;
        if let Some(decay) = self.config.codebook.average_decay {
            let mut state = checkpoint.part("codebook_average.");
            let mut take = |name: &str| state.remove(name).map(|(_, values)| values);
            self.code_average = match (take("counts"), take("sums")) {
                (Some(counts), Some(sums)) => {
                    let average = CodeAverage::restore(counts, sums, [self.codes, self.channels], decay);
                    Some(average.ok_or("the averages of its codes have another shape than its codebook")?)
                }
                _ if self.quantises(steps.saturating_sub(1)) && steps > 0 => {
                    return Err(
                        "it has no averages of its codes, which the configuration asks for".to_owned()
                    );
                }
                _ => None,
            };
        }
        let adam = self.config.adam.clone();
        self.optimizer = Adam::restore(adam.clone(), steps, &checkpoint.part("optimizer."), device);
        if let Some(player) = self.discriminator.take() {
            let state = checkpoint.part("optimizer_discriminator.");
            let optimizer = Adam::restore(adam, discriminator_steps, &state, device);
            let net = apply(player.net, &checkpoint.part("discriminator."))?;
            self.discriminator = Some(Player { net, optimizer, config: player.config });
        }
        Ok(())
    }

    /// The tensors that [`Trainer::resume`] needs beside the weights.
    pub fn beside(&self) -> State {
        let mut all: State = prefixed("optimizer.", self.optimizer.state()).collect();
        if let Some(codes) = &self.code_average {
            let (counts, sums) = codes.state();
            let shape = vec![counts.len(), sums.len() / counts.len().max(1)];
            all.insert("codebook_average.counts".into(), (vec![counts.len()], counts.to_vec()));
            all.insert("codebook_average.sums".into(), (shape, sums.to_vec()));
        }
        if let Some(player) = &self.discriminator {
            all.extend(prefixed("optimizer_discriminator.", player.optimizer.state()));
            all.extend(prefixed("discriminator.", collect(&player.net)));
        }
        all
    }

    /// Words of the codebook.
    pub fn codes(&self) -> usize {
        self.codes
    }

    /// Whether the given step, counted from 0, quantises.
    pub fn quantises(&self, step: u64) -> bool {
        step >= self.config.codebook.warmup_steps
    }

    /// Whether the codebook is to be started before the given step.
    pub fn codebook_is_due(&self, step: u64) -> bool {
        step == self.config.codebook.warmup_steps
    }

    /// Starts the codebook from the encoder's outputs on training films.
    pub fn start_codebook(&mut self, films: &Films, train: &[usize], seed: u64) -> Result<()> {
        let net = self.net_for_inference();
        let device = films_device(&net);
        let mut points = Vec::new();
        for batch in consecutive(train.to_vec(), self.config.batch) {
            let z = net.encode_continuous(films.tensor(&batch, &device)?);
            points.extend(cells(z));
            if points.len() >= self.config.codebook.points * self.channels {
                break;
            }
        }
        points.truncate(self.config.codebook.points * self.channels);
        let iterations = self.config.codebook.iterations;
        let seed = derived_seed(seed, "codebook", 0);
        let centres = kmeans(&points, self.channels, self.codes, iterations, seed);
        let decay = self.config.codebook.average_decay;
        self.code_average = decay.map(|decay| CodeAverage::new(&centres, self.channels, decay));
        self.net = self.net.clone().with_codebook(centres);
        Ok(())
    }

    /// The network without autodiff.
    pub fn net_for_inference(&self) -> Vqgan {
        self.net.valid()
    }

    /// Steps of the discriminator.
    pub fn discriminator_steps(&self) -> u64 {
        self.discriminator.as_ref().map_or(0, |player| player.optimizer.steps())
    }

    /// One step on a batch, or on several whose gradients are added up; each lies on the device of its worker.
    pub fn step(
        &mut self,
        parts: &[Tensor<4>],
        step: u64,
        seed: u64,
        workers: &Workers,
    ) -> std::result::Result<Losses, Broken> {
        let rate = self.config.learning_rate * self.config.schedule.factor(step, self.config.steps);
        let films = parts.iter().map(|x| x.dims()[0]).sum::<usize>() as f64;
        let share = |part: usize| parts[part].dims()[0] as f64 / films;
        let playing = self.discriminator.as_ref().filter(|player| step >= player.config.start);
        let mut losses = Losses::default();
        let mut gradients = GradientsAccumulator::new();
        let mut seen = Vec::with_capacity(parts.len());
        let mut remembered = Vec::with_capacity(parts.len());
        workers.each(
            parts.len(),
            |_, device| (replica(&self.net, device), playing.map(|player| replica(&player.net, device))),
            |part, (net, player)| {
                let game = playing.zip(player.as_ref()).map(|(player, net)| (&player.config, net));
                let pass = Pass {
                    config: &self.config,
                    net: &net,
                    game,
                    perceptual: self.perceptual.get(workers.of(part)),
                    quantise: self.quantises(step),
                };
                let (loss, losses, outcome) = pass.run(&parts[part], part)?;
                let loss = if parts.len() > 1 { loss.mul_scalar(share(part)) } else { loss };
                let gradients = GradientsParams::from_grads(loss.backward(), &net);
                Ok((gradients, losses, outcome, player.as_ref().map(statistics)))
            },
            |part, result: std::result::Result<_, Broken>| {
                let (of_part, figures, outcome, statistics) = result?;
                gradients.accumulate(&self.net, of_part.to_device(workers.main(), &self.net));
                losses.add(&figures, share(part));
                remembered.extend(statistics.map(|statistics| (share(part), statistics)));
                seen.push(outcome);
                Ok(())
            },
        )?;
        let (net, norm) = self
            .optimizer
            .step_with(self.net.clone(), gradients.grads(), rate)
            .map_err(|error| Broken::gradient(error, ""))?;
        self.net = net;
        losses.gradient_norm = norm;

        if let Some(player) = self.discriminator.as_mut().filter(|player| step >= player.config.start) {
            player.net = remember(player.net.clone(), remembered, workers.main());
            let rate = player.config.learning_rate.map_or(rate, |own| own * rate / self.config.learning_rate);
            losses.discriminator = player.step(parts, &seen, rate, workers)?;
        }
        self.tend_codebook(&seen, step, seed);
        if seen.iter().all(|outcome| outcome.indices.is_some()) {
            losses.perplexity = self.usage.perplexity();
        }
        Ok(losses)
    }

    /// Counts the codes that a step chose, moves averaged ones, and revives those that no step has chosen for long.
    fn tend_codebook(&mut self, seen: &[Outcome], step: u64, seed: u64) {
        let chosen = seen.iter().filter_map(|outcome| outcome.indices.as_ref());
        let chosen = chosen.flat_map(|i| i.to_data().iter::<i64>().map(|i| i as usize).collect::<Vec<_>>());
        let chosen = chosen.collect::<Vec<_>>();
        if chosen.is_empty() {
            return;
        }
        self.usage.reset_counts();
        self.usage.record(&chosen);
        let after = self.config.codebook.revive_after;
        let dead = if after > 0 { self.usage.take_dead(after) } else { Vec::new() };
        if dead.is_empty() && self.code_average.is_none() {
            return;
        }
        let vectors = seen.iter().flat_map(|outcome| cells(outcome.continuous.clone())).collect::<Vec<_>>();
        let mut codebook = self.net.codebook();
        if let Some(average) = &mut self.code_average {
            average.update(&mut codebook, &chosen, &vectors);
        }
        revive(&mut codebook, self.channels, &dead, &vectors, derived_seed(seed, "revival", step));
        if let Some(average) = &mut self.code_average {
            average.restart(&codebook, &dead);
        }
        self.net = self.net.clone().with_codebook(codebook);
    }
}

/// The network with weights that depend on the run's seed alone.
fn fresh_net(config: &Config, device: &Device) -> Result<Vqgan> {
    let seed = derived_seed(config.run.seed, "vqgan weights", 0);
    Ok(seeded(device, seed, || config.vqgan.model.init(device))?)
}

/// Vectors of all cells, row-major.
fn cells(z: Tensor<4>) -> Vec<f32> {
    z.permute([0, 2, 3, 1]).into_data().iter::<f32>().collect()
}

fn films_device(net: &Vqgan) -> Device {
    net.devices().into_iter().next().unwrap_or_default()
}
