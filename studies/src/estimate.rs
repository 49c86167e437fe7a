//! What a stage will take, from its configuration alone: multiplications over the rate at which they were measured, the planner's
//! prediction for ciphertexts, and the sizes of what is kept.
//!
//! The rates are those of two cores of one x86-64 server (docs/training.md has the step times): expect a factor of two either way,
//! and on narrow networks more.

use datasets::{FilmDataset, Split};
use networks::{ClassifierConfig, NetworkError, Op};
use pipeline::settings;
use train::Config;
use vqgan::VqganConfig;

use super::forecast::Forecast;
use super::key::Stage;

/// Multiplications a second in training a VQGAN, forward and backward. Width 32, f = 8 reaches 47e9 (8 films of 64 pixels in
/// 0.671 s); the quick studies have width 16, which is slower.
const VQGAN_RATE: f64 = 35e9;
/// The same for a classifier: ResNet20 on 4x32x32, batches of 128 in 0.480 s.
const CLASSIFIER_RATE: f64 = 32e9;
/// Seconds that a convolution takes in a training step besides its multiplications: allocations, norms, activations, threads that meet.
/// The half-width ResNets of the quick architecture study take 5 to 8 ms a layer and step.
const LAYER_SECONDS: f64 = 5e-3;
/// Bytes of evaluation keys made a second.
const KEY_RATE: f64 = 250e6;
/// Bytes of evaluation keys read and checked by the server a second, weights encoded meanwhile.
const LOAD_RATE: f64 = 500e6;
/// A backward pass multiplies twice as often as the forward pass before it.
const TRAINING_PASSES: f64 = 3.0;
/// Seconds that every stage takes to begin and end.
const OVERHEAD: f64 = 2.0;

/// Time, what stays on disk, and what is there while it runs.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cost {
    /// Seconds on the machine that the rates come from.
    pub seconds: f64,
    /// Bytes that stay.
    pub bytes: f64,
    /// Bytes on disk while the stage runs, beyond those that stay.
    pub temporary: f64,
}

/// Films of each split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilmCounts {
    /// Training films.
    pub train: usize,
    /// Validation films.
    pub validation: usize,
    /// Test films.
    pub test: usize,
    /// Labels.
    pub labels: usize,
}

/// Labels of a data set that is not there and names none: those of NIH ChestX-ray14.
const USUAL_LABELS: usize = 14;

impl FilmCounts {
    /// The films of a data set that is there.
    pub fn of(dataset: &FilmDataset) -> Self {
        let count = |split| dataset.indices(split).len();
        Self {
            train: count(Split::Train),
            validation: count(Split::Validation),
            test: count(Split::Test),
            labels: dataset.label_names().len(),
        }
    }

    /// The films to expect where the study says how many there are.
    pub fn expected(config: &Config, films: usize) -> Self {
        let (validation, test) = (config.data.validation_fraction, config.data.test_fraction);
        let limits = config.data.limits;
        let part = |share: f64, limit: Option<usize>| {
            let films = (films as f64 * share).round() as usize;
            limit.map_or(films, |limit| films.min(limit))
        };
        Self {
            train: part(1.0 - validation - test, limits.train),
            validation: part(validation, limits.validation),
            test: part(test, limits.test),
            labels: if config.data.labels.is_empty() { USUAL_LABELS } else { config.data.labels.len() },
        }
    }

    fn all(self) -> usize {
        self.train + self.validation + self.test
    }
}

/// Parameters, multiplications and layers of one forward pass.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Work {
    /// Parameters.
    pub parameters: f64,
    /// Multiplications for one film.
    pub products: f64,
    /// Convolutions and linear layers.
    pub layers: f64,
}

impl Work {
    /// Seconds of training that do not depend on the number of films.
    fn overhead(self, steps: f64) -> f64 {
        steps * self.layers * LAYER_SECONDS
    }

    fn conv(&mut self, inputs: usize, outputs: usize, kernel: usize, side: usize) {
        self.layers += 1.0;
        let weights = (inputs * outputs * kernel * kernel) as f64;
        self.parameters += weights + outputs as f64;
        self.products += weights * (side * side) as f64;
    }

    fn residual(&mut self, inputs: usize, outputs: usize, side: usize) {
        self.conv(inputs, outputs, 3, side);
        self.conv(outputs, outputs, 3, side);
        if inputs != outputs {
            self.conv(inputs, outputs, 1, side);
        }
    }

    fn middle(&mut self, channels: usize, side: usize, attention: bool) {
        self.residual(channels, channels, side);
        self.residual(channels, channels, side);
        if attention {
            for _ in 0..4 {
                self.conv(channels, channels, 1, side);
            }
            self.products += 2.0 * ((side * side) as f64).powi(2) * channels as f64;
        }
    }
}

/// Encoder and decoder of a VQGAN.
pub fn vqgan_work(c: &VqganConfig) -> (Work, Work) {
    let (mut encoder, mut decoder) = (Work::default(), Work::default());
    let last = c.multipliers.len() - 1;
    encoder.conv(1, c.width, 3, c.side);
    let mut channels = c.width;
    for (level, multiplier) in c.multipliers.iter().enumerate() {
        let side = c.side >> level;
        for _ in 0..c.residual_blocks {
            encoder.residual(channels, c.width * multiplier, side);
            channels = c.width * multiplier;
        }
        if level < last {
            encoder.conv(channels, channels, 3, side / 2);
        }
    }
    let bottom = c.side >> last;
    encoder.middle(channels, bottom, c.middle_attention);
    encoder.conv(channels, c.latent_channels, 3, bottom);
    decoder.conv(c.latent_channels, channels, 3, bottom);
    decoder.middle(channels, bottom, c.middle_attention);
    for (level, multiplier) in c.multipliers.iter().enumerate().rev() {
        let side = c.side >> level;
        for _ in 0..=c.residual_blocks {
            decoder.residual(channels, c.width * multiplier, side);
            channels = c.width * multiplier;
        }
        if level > 0 {
            decoder.conv(channels, channels, 3, 2 * side);
        }
    }
    decoder.conv(channels, 1, 3, c.side);
    (encoder, decoder)
}

/// A classifier, from its layers.
///
/// # Errors
/// The configuration is refused.
pub fn classifier_work(config: &ClassifierConfig) -> Result<Work, NetworkError> {
    let mut work = Work::default();
    for node in config.network()?.nodes() {
        let (input, output) = (node.input(), node.output());
        match node.op() {
            Op::Conv2d(conv) => {
                work.conv(input.channels / conv.groups, output.channels, conv.kernel[0], output.height);
            }
            Op::Linear { outputs } => work.conv(input.len(), *outputs, 1, 1),
            _ => {}
        }
    }
    Ok(work)
}

/// The classifier of a configuration for films with these labels.
///
/// # Errors
/// The configuration is refused.
pub fn model(config: &Config, films: FilmCounts) -> Result<ClassifierConfig, String> {
    let shape = config.vqgan.model.latent_shape();
    config.classifier_model(shape, films.labels.max(1)).map_err(|error| error.to_string())
}

/// The cost of a stage.
///
/// # Errors
/// Why the stage cannot run: the same network could not be planned when its turn comes.
pub fn cost(
    stage: Stage,
    config: &Config,
    films: FilmCounts,
    plan: impl FnOnce(&ClassifierConfig) -> Forecast,
) -> Result<Cost, String> {
    let shape = config.vqgan.model.latent_shape();
    let (encoder, decoder) = vqgan_work(&config.vqgan.model);
    let vqgan = &config.vqgan.train;
    let latent_bytes = 4.0 * shape.iter().product::<usize>() as f64;
    let model = model(config, films)?;
    let classifier = classifier_work(&model).map_err(|error| error.to_string())?;
    let training = &config.classifier.train;
    let copies = training.augment.map_or(0, |augment| augment.copies) as f64;
    let all = films.all() as f64;
    let cost = match stage {
        Stage::Vqgan => {
            let parameters = encoder.parameters + decoder.parameters;
            // A discriminator adds about half of the work.
            let both = if vqgan.discriminator.is_some() { 1.5 } else { 1.0 };
            let products = both * TRAINING_PASSES * (encoder.products + decoder.products);
            let validations = (vqgan.steps / vqgan.validate_every.max(1) + 1) as f64;
            let validated = validations * films.validation.min(vqgan.validation_films) as f64;
            let seen = (vqgan.steps as f64) * vqgan.batch as f64 * products
                + validated * (encoder.products + decoder.products);
            // Kept weights, and the last ones with two moments of Adam.
            let overhead =
                both * (encoder.overhead(vqgan.steps as f64) + decoder.overhead(vqgan.steps as f64));
            Cost { seconds: seen / VQGAN_RATE + overhead, bytes: 16.0 * parameters, temporary: 0.0 }
        }
        Stage::Latents => {
            let test = films.test as f64 * (encoder.products + decoder.products);
            let seconds = (all * encoder.products + test) / VQGAN_RATE;
            Cost { seconds, bytes: all * latent_bytes, temporary: 0.0 }
        }
        Stage::Classifier => {
            let epoch = films.train as f64 * TRAINING_PASSES + films.validation as f64;
            let steps = training.epochs as f64 * (films.train as f64 / training.batch.max(1) as f64).ceil();
            let seconds = training.epochs as f64 * epoch * classifier.products / CLASSIFIER_RATE
                + classifier.overhead(steps)
                + copies * films.train as f64 * encoder.products / VQGAN_RATE;
            let bytes = 20.0 * classifier.parameters + copies * films.train as f64 * latent_bytes;
            Cost { seconds, bytes, temporary: 0.0 }
        }
        Stage::Export => {
            let films = settings::export(config).map_err(|error| error.to_string())?.calibration_films;
            // The graph is evaluated in f64 by straightforward loops. A network that cannot be planned fails here.
            let seconds = 2.0 * films as f64 * classifier.products / 1e9 + plan(&model)?.planning_seconds;
            Cost { seconds, bytes: 8.0 * classifier.parameters, temporary: 0.0 }
        }
        Stage::Encrypted => {
            let count = settings::encrypted(config).map_err(|error| error.to_string())?.films as f64;
            let shared = settings::export(config).map_err(|error| error.to_string())?.films.get();
            // A batch costs about what one film does.
            let runs = (count / shared.next_power_of_two() as f64).ceil();
            let encrypted = plan(&model)?;
            let threads = rayon::current_num_threads() as f64;
            Cost {
                seconds: runs * encrypted.seconds / threads
                    + encrypted.key_bytes * (1.0 / KEY_RATE + 1.0 / LOAD_RATE),
                bytes: 2000.0 * count,
                temporary: 0.5 * encrypted.key_bytes + runs * encrypted.ciphertext_bytes,
            }
        }
    };
    Ok(Cost { seconds: cost.seconds + OVERHEAD, ..cost })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use burn::module::Module as _;
    use burn::tensor::Device;

    use super::super::forecast::Encrypted;
    use super::*;

    fn demo(overrides: &[&str]) -> Config {
        let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
        let text = include_str!("../../configs/demo.toml");
        train::config::parse(text, Path::new("demo"), &overrides).expect("the demo")
    }

    #[test]
    fn parameters_are_those_of_the_networks() {
        let config = demo(&["vqgan.model.middle_attention=true"]);
        let (encoder, decoder) = vqgan_work(&config.vqgan.model);
        let net = config.vqgan.model.init(&Device::flex()).expect("a VQGAN");
        let ratio = (encoder.parameters + decoder.parameters) / net.num_params() as f64;
        assert!((0.9..1.1).contains(&ratio), "VQGAN: {ratio}");
        for architecture in ["lenet", "vggnet", "hefnet", "resnet20"] {
            for se in ["false", "true"] {
                let config = demo(&[
                    &format!("classifier.model.architecture={architecture}"),
                    &format!("classifier.model.se={se}"),
                ]);
                let model = config.classifier_model([3, 16, 16], 8).expect("a classifier");
                let net = classifier::Classifier::from_config(&model, &Device::flex()).expect("a classifier");
                let ratio = classifier_work(&model).expect("a plan").parameters / net.num_params() as f64;
                assert!((0.9..1.1).contains(&ratio), "{architecture}, SE {se}: {ratio}");
            }
        }
    }

    #[test]
    fn more_work_costs_more() {
        let films = FilmCounts { train: 700, validation: 100, test: 200, labels: 8 };
        let none = |_: &ClassifierConfig| Err("not planned".to_owned());
        let seconds =
            |overrides: &[&str], stage| cost(stage, &demo(overrides), films, none).expect("a cost").seconds;
        assert!(
            seconds(&["vqgan.train.steps=520"], Stage::Vqgan) > 1.5 * (seconds(&[], Stage::Vqgan) - OVERHEAD)
        );
        assert!(
            seconds(&["classifier.train.epochs=120"], Stage::Classifier) > seconds(&[], Stage::Classifier)
        );
        let answer =
            Encrypted { seconds: 3.0, planning_seconds: 50.0, key_bytes: 1e9, ciphertext_bytes: 4e6 };
        let planned = |_: &ClassifierConfig| Ok(answer);
        let encrypted = cost(Stage::Encrypted, &demo(&[]), films, planned).expect("a cost");
        assert!(encrypted.temporary > 0.5e9 && encrypted.bytes < 1e6, "keys do not stay");
        let shared = cost(Stage::Encrypted, &demo(&["export.films=4"]), films, planned).expect("a cost");
        assert!(shared.seconds < encrypted.seconds, "films share a ciphertext and its time");
        let export = cost(Stage::Export, &demo(&[]), films, planned).expect("a cost");
        assert!(export.seconds > answer.planning_seconds, "an export plans");
        for stage in [Stage::Export, Stage::Encrypted] {
            assert!(cost(stage, &demo(&[]), films, none).is_err(), "what cannot be planned fails");
        }
    }
}
