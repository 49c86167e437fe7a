//! One training step of the VQGAN, and the state it works on.

use burn::{
    module::Module,
    optim::{GradientsAccumulator, GradientsParams},
    tensor::{Device, Int, Tensor},
};
use vqgan::{
    Discriminator, Vqgan,
    codebook::{CodeAverage, CodeUsage, kmeans, revive},
    loss::{adaptive_weight, gradient_at, with_gradient},
};

use super::{fresh_net, perceptual::Loaded};
use crate::{
    Config, Result, TrainError,
    checkpoint::Checkpoint,
    config::{DiscriminatorTraining, VqganTraining},
    films::{Films, consecutive},
    not_finite::Broken,
    optimizer::Adam,
    sampler::derived_seed,
    state::{apply, seeded},
};

/// The discriminator and what trains it.
pub(super) struct Player {
    pub net: Discriminator,
    pub optimizer: Adam,
    config: DiscriminatorTraining,
}

/// Networks, optimizers and the use of the codebook.
pub(super) struct Trainer {
    pub net: Vqgan,
    pub optimizer: Adam,
    pub discriminator: Option<Player>,
    pub usage: CodeUsage,
    /// Codes as moving averages, once the codebook has started, where the configuration asks for them.
    pub code_average: Option<CodeAverage>,
    /// The perceptual distance, where the configuration asks for it.
    pub perceptual: Option<Loaded>,
    config: VqganTraining,
    channels: usize,
    codes: usize,
}

/// The losses of one step; what did not take part is `NaN`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Losses {
    pub reconstruction: f64,
    pub perceptual: f64,
    pub codebook: f64,
    pub commitment: f64,
    pub generator: f64,
    pub discriminator: f64,
    pub adaptive_weight: f64,
    pub gradient_norm: f64,
    pub perplexity: f64,
}

impl Losses {
    /// Adds the losses of a part of a step.
    fn add(&mut self, part: &Self, share: f64) {
        for (sum, value) in [
            (&mut self.reconstruction, part.reconstruction),
            (&mut self.perceptual, part.perceptual),
            (&mut self.codebook, part.codebook),
            (&mut self.commitment, part.commitment),
            (&mut self.generator, part.generator),
            (&mut self.discriminator, part.discriminator),
            (&mut self.adaptive_weight, part.adaptive_weight),
            (&mut self.gradient_norm, part.gradient_norm),
            (&mut self.perplexity, part.perplexity),
        ] {
            *sum += share * value;
        }
    }
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
            perceptual: None,
            channels: config.vqgan.model.latent_channels,
            codes: config.vqgan.model.codes,
            config: settings,
        })
    }

    /// Puts back optimizers and discriminator.
    pub fn restore_optimizers(
        &mut self,
        checkpoint: &Checkpoint,
        steps: u64,
        discriminator_steps: u64,
        device: &Device,
    ) -> std::result::Result<(), String> {
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

    /// One step on a batch, or on several whose gradients are added up.
    pub fn step(&mut self, parts: &[Tensor<4>], step: u64, seed: u64) -> std::result::Result<Losses, Broken> {
        let rate = self.config.learning_rate * self.config.schedule.factor(step, self.config.steps);
        let films = parts.iter().map(|x| x.dims()[0]).sum::<usize>() as f64;
        let mut losses = Losses::default();
        let mut gradients = GradientsAccumulator::new();
        let mut seen = Vec::with_capacity(parts.len());
        for (part, x) in parts.iter().enumerate() {
            let share = x.dims()[0] as f64 / films;
            let (loss, of_part, outcome) = self.part(x, step, part)?;
            let loss = if parts.len() > 1 { loss.mul_scalar(share) } else { loss };
            gradients.accumulate(&self.net, GradientsParams::from_grads(loss.backward(), &self.net));
            losses.add(&of_part, share);
            seen.push(outcome);
        }
        let (net, norm) = self
            .optimizer
            .step_with(self.net.clone(), gradients.grads(), rate)
            .map_err(|error| Broken::gradient(error, ""))?;
        self.net = net;
        losses.gradient_norm = norm;

        if let Some(player) = self.discriminator.as_mut().filter(|player| step >= player.config.start) {
            let rate = player.config.learning_rate.map_or(rate, |own| own * rate / self.config.learning_rate);
            losses.discriminator = player.step(parts, &seen, rate)?;
        }
        self.tend_codebook(&seen, step, seed);
        if seen.iter().all(|outcome| outcome.indices.is_some()) {
            losses.perplexity = self.usage.perplexity();
        }
        Ok(losses)
    }

    /// The loss of one part of a step, before its backward pass.
    fn part(
        &self,
        x: &Tensor<4>,
        step: u64,
        part: usize,
    ) -> std::result::Result<(Tensor<1>, Losses, Outcome), Broken> {
        let out = self.net.reconstruct(x.clone(), self.quantises(step));
        let mut losses = Losses {
            reconstruction: f64::NAN,
            perceptual: f64::NAN,
            codebook: scalar(&out.codebook_loss),
            commitment: scalar(&out.commitment_loss),
            generator: f64::NAN,
            discriminator: f64::NAN,
            adaptive_weight: f64::NAN,
            gradient_norm: f64::NAN,
            perplexity: f64::NAN,
        };
        // The distance of a film and its reconstruction, and its two terms.
        let distance = |film: Tensor<4>| {
            let pixels = self.config.reconstruction.forward(x.clone(), film.clone());
            let Some(perceptual) = &self.perceptual else { return (pixels.clone(), pixels, None) };
            let features = perceptual.forward(x.clone(), film);
            let sum = pixels.clone() + features.clone().mul_scalar(perceptual.weight());
            (sum, pixels, Some(features))
        };
        let mut take = |pixels: &Tensor<1>, features: &Option<Tensor<1>>| {
            losses.reconstruction = scalar(pixels);
            losses.perceptual = features.as_ref().map_or(f64::NAN, scalar);
        };
        let playing = self.discriminator.as_ref().filter(|player| step >= player.config.start);
        let film = out.film.clone();
        let loss = match playing {
            None => {
                let (loss, pixels, features) = distance(film);
                take(&pixels, &features);
                loss
            }
            Some(player) => {
                let (_, towards_film) = gradient_at(&film, |film| {
                    let (loss, pixels, features) = distance(film);
                    take(&pixels, &features);
                    loss
                });
                let (generator, towards_real) =
                    gradient_at(&film, |film| player.config.loss.generator(player.net.forward(film)));
                let weight =
                    adaptive_weight(&out.features, &self.net.last_layer(), &towards_film, &towards_real);
                (losses.generator, losses.adaptive_weight) = (generator, weight);
                let gradient = towards_film + towards_real.mul_scalar(weight * player.config.weight);
                with_gradient(film, gradient)
            }
        };
        let game = if playing.is_some() { losses.generator } else { 0.0 };
        let features = if self.perceptual.is_some() { losses.perceptual } else { 0.0 };
        let all = [losses.reconstruction, losses.codebook, losses.commitment, features, game];
        if let Some(value) = all.into_iter().find(|value| !value.is_finite()) {
            let layer = self.net_for_inference().first_not_finite(x.clone().inner(), self.quantises(step));
            let other = if features.is_finite() { "discriminator" } else { "the perceptual distance" };
            return Err(Broken::loss(value, layer.or_else(|| Some(other.to_owned())), part));
        }
        let commitment = out.commitment_loss.mul_scalar(self.config.commitment);
        let quantisation = match self.config.codebook.average_decay {
            // The codes follow averages: their own term would move them a second time.
            Some(_) => commitment,
            None => out.codebook_loss + commitment,
        };
        let loss = loss + quantisation.mul_scalar(self.config.codebook_weight);
        let outcome =
            Outcome { film: out.film.inner(), continuous: out.continuous.inner(), indices: out.indices };
        Ok((loss, losses, outcome))
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

/// What a part of a step leaves behind once its graph of gradients is gone.
struct Outcome {
    film: Tensor<4>,
    continuous: Tensor<4>,
    indices: Option<Tensor<1, Int>>,
}

impl Player {
    /// One step on films and their reconstructions; gives the loss.
    fn step(&mut self, parts: &[Tensor<4>], seen: &[Outcome], rate: f64) -> std::result::Result<f64, Broken> {
        let films = parts.iter().map(|x| x.dims()[0]).sum::<usize>() as f64;
        let mut gradients = GradientsAccumulator::new();
        let mut value = 0.0;
        for (x, outcome) in parts.iter().zip(seen) {
            let share = x.dims()[0] as f64 / films;
            let fake = outcome.film.clone().autodiff();
            let real = self.net.forward(x.clone());
            let loss = self.config.loss.discriminator(real, self.net.forward(fake));
            value += share * scalar(&loss);
            let loss = if parts.len() > 1 { loss.mul_scalar(share) } else { loss };
            gradients.accumulate(&self.net, GradientsParams::from_grads(loss.backward(), &self.net));
        }
        let (net, _) = self
            .optimizer
            .step_with(self.net.clone(), gradients.grads(), rate)
            .map_err(|error| Broken::gradient(error, "discriminator."))?;
        self.net = net;
        Ok(value)
    }
}

/// Vectors of all cells, row-major.
fn cells(z: Tensor<4>) -> Vec<f32> {
    z.permute([0, 2, 3, 1]).into_data().iter::<f32>().collect()
}

fn scalar(loss: &Tensor<1>) -> f64 {
    f64::from(loss.clone().into_scalar::<f32>())
}

fn films_device(net: &Vqgan) -> Device {
    net.devices().into_iter().next().unwrap_or_default()
}

/// Means of losses over some steps.
#[derive(Default)]
pub(super) struct Averages {
    sums: Vec<(&'static str, f64, u64)>,
}

impl Averages {
    pub fn add(&mut self, losses: &Losses) {
        for (name, value) in [
            ("train/reconstruction_loss", losses.reconstruction),
            ("train/perceptual_loss", losses.perceptual),
            ("train/codebook_loss", losses.codebook),
            ("train/commitment_loss", losses.commitment),
            ("train/generator_loss", losses.generator),
            ("train/discriminator_loss", losses.discriminator),
            ("train/adaptive_weight", losses.adaptive_weight),
            ("train/gradient_norm", losses.gradient_norm),
            ("train/batch_perplexity", losses.perplexity),
        ] {
            if value.is_nan() {
                continue;
            }
            match self.sums.iter_mut().find(|(known, _, _)| *known == name) {
                Some((_, sum, count)) => {
                    *sum += value;
                    *count += 1;
                }
                None => self.sums.push((name, value, 1)),
            }
        }
    }

    /// The means, and begins again.
    pub fn take(&mut self) -> Vec<(String, f64)> {
        let sums = std::mem::take(&mut self.sums);
        sums.into_iter().map(|(name, sum, count)| (name.to_owned(), sum / count as f64)).collect()
    }
}
