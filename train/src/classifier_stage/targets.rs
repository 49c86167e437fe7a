//! What a classifier learns besides the labels of its films: attributes of the films, and what other classifiers say.
//!
//! Attributes (view, sex, age) shape the features of a network that sees few films. Each has a logit of its own behind
//! those of the findings, which exists in training alone: [`Auxiliary::trimmed`] gives the network that is judged and kept.
//! Teachers see the same changed latents as their student, so that it learns their function and not a list of answers.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, activation};
use classifier::{Classifier, ClassifierConfig, masked_bce};
use datasets::LatentSet;

use super::{
    examples::{Example, answers},
    measure::{LoadedClassifier, load_classifier},
};
use crate::{
    Result, TrainError,
    config::{AuxiliaryTraining, DistillTraining},
    state::{State, apply, seeded},
};

/// Attributes of the training films.
pub(crate) struct Auxiliary {
    weight: f64,
    count: usize,
    answers: BTreeMap<usize, Vec<Option<bool>>>,
}

impl Auxiliary {
    /// Reads the attributes of the training films `train`.
    ///
    /// # Errors
    ///
    /// As [`datasets::AttributesConfig::read`].
    pub fn read(settings: &AuxiliaryTraining, latents: &LatentSet, train: &[usize]) -> Result<Self> {
        let ids = train.iter().map(|&film| latents.ids[film].clone()).collect::<Vec<_>>();
        let answers = train.iter().copied().zip(settings.from.read(&ids)?).collect();
        Ok(Self { weight: settings.weight, count: settings.from.attributes.len(), answers })
    }

    /// The network of training: one logit more for each attribute.
    pub fn widened(&self, model: &ClassifierConfig) -> ClassifierConfig {
        ClassifierConfig { labels: model.labels + self.count, ..model.clone() }
    }

    /// The weights of a widened network without the logits of attributes.
    pub fn trimmed(mut state: State, labels: usize) -> State {
        for name in ["head.weight", "head.bias"] {
            if let Some((shape, values)) = state.get_mut(name) {
                values.truncate(values.len() / shape[0].max(1) * labels);
                shape[0] = labels;
            }
        }
        state
    }

    /// The weighted cross-entropy of the attributes of `examples`, whose logits are `[examples, attributes]`.
    pub fn loss(&self, logits: Tensor<2>, examples: &[Example]) -> Tensor<1> {
        let of = |film: usize| self.answers[&film].as_slice();
        let [targets, known] = answers(examples, self.count, of, &logits.device());
        masked_bce(logits, targets, known, None).mul_scalar(self.weight)
    }

    /// A digest of all answers: training with others is another run.
    pub fn digest(&self) -> String {
        blake3::hash(serde_json::json!(self.answers).to_string().as_bytes()).to_hex().to_string()
    }
}

/// Classifiers whose logits are part of the target.
pub(crate) struct Teachers {
    weight: f64,
    temperature: f64,
    nets: Vec<LoadedClassifier>,
}

impl Teachers {
    /// Loads the teachers of a student of `latents`.
    ///
    /// # Errors
    ///
    /// A file cannot be used, or its network reads other latents or names other labels.
    pub fn load(settings: &DistillTraining, latents: &LatentSet, device: &Device) -> Result<Self> {
        let mut nets = Vec::with_capacity(settings.teachers.len());
        for path in &settings.teachers {
            let teacher = load_classifier(path, device)?;
            let shape = [latents.channels, latents.height, latents.width];
            let same = teacher.config.latent == shape
                && teacher.encoder_digest == latents.encoder_digest
                && teacher.label_names == latents.label_names;
            if !same {
                return Err(TrainError::Mismatch {
                    what: "a teacher (classifier.train.distill.teachers)",
                    expected: format!(
                        "a classifier of this run's latents {shape:?} with the labels {:?}",
                        latents.label_names
                    ),
                    found: format!(
                        "{}, of latents {:?} of {} with the labels {:?}",
                        path.display(),
                        teacher.config.latent,
                        if teacher.encoder_digest == latents.encoder_digest {
                            "the same encoder"
                        } else {
                            "another encoder"
                        },
                        teacher.label_names
                    ),
                    advice: "train the teacher in a run that shares films and VQGAN with this one".into(),
                });
            }
            nets.push(teacher);
        }
        Ok(Self { weight: settings.weight, temperature: settings.temperature, nets })
    }

    /// The loss of the labels mixed with `T^2 BCE(logits / T, sigmoid(teachers / T))`, over the known labels.
    ///
    /// `latents` are those of the batch, cut off from the graph of gradients.
    pub fn mix(
        &self,
        labels: Tensor<1>,
        logits: Tensor<2>,
        known: Tensor<2>,
        latents: &Tensor<4>,
    ) -> Tensor<1> {
        let said = self.nets.iter().map(|teacher| teacher.net.forward(latents.clone()));
        let Some(sum) = said.reduce(|sum, logits| sum + logits) else { return labels };
        let said = sum.div_scalar(self.nets.len() as f64 * self.temperature);
        let targets = Tensor::from_inner(activation::sigmoid(said));
        let theirs = masked_bce(logits.div_scalar(self.temperature), targets, known, None);
        labels.mul_scalar(1.0 - self.weight)
            + theirs.mul_scalar(self.weight * self.temperature * self.temperature)
    }

    /// Digests of their weights, in order.
    pub fn digests(&self) -> Vec<&str> {
        self.nets.iter().map(|teacher| teacher.digest.as_str()).collect()
    }
}

/// The network of `model` with the weights of one that may be wider by the logits of attributes.
///
/// # Errors
///
/// What does not fit.
pub(crate) fn judged(
    model: &ClassifierConfig,
    state: State,
    device: &Device,
) -> std::result::Result<Classifier, String> {
    let device = device.clone().without_autodiff();
    // All weights are replaced; builders take turns all the same, or another one's would not follow from its seed.
    let net = seeded(&device, 0, || Classifier::from_config(model, &device)).map_err(|e| e.to_string())?;
    apply(net, &Auxiliary::trimmed(state, model.labels))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::TensorData;
    use classifier::Architecture;

    use crate::state::collect;

    /// What is kept of a widened network gives the first logits of the widened one.
    #[test]
    fn a_trimmed_network_says_of_findings_what_the_widened_one_did() {
        let device = Device::flex();
        let mut model = ClassifierConfig::new(Architecture::LeNet, [2, 8, 8], 3);
        model.width_divisor = 8;
        let auxiliary = Auxiliary { weight: 1.0, count: 2, answers: BTreeMap::new() };
        let wide =
            seeded(&device, 1, || Classifier::from_config(&auxiliary.widened(&model), &device)).unwrap();
        let net = judged(&model, collect(&wide), &device).unwrap();
        let x = Tensor::<4>::from_data(
            TensorData::new((0..128).map(|i| (i as f32).sin()).collect(), [1, 2, 8, 8]),
            &device,
        );
        let (wide, trimmed) = (wide.forward(x.clone()), net.forward(x));
        assert_eq!((wide.dims(), trimmed.dims()), ([1, 5], [1, 3]));
        assert_eq!(wide.narrow(1, 0, 3).into_data(), trimmed.into_data());
    }

    /// `ln 2` for each known answer at a logit of 0, and nothing for an unknown one.
    #[test]
    fn unknown_attributes_are_left_out_of_the_loss() {
        let answers = BTreeMap::from([(4, vec![Some(true), None]), (7, vec![None, None])]);
        let auxiliary = Auxiliary { weight: 0.5, count: 2, answers };
        let loss = |films: &[usize], logits: Vec<f32>| {
            let logits = Tensor::<2>::from_data(TensorData::new(logits, [films.len(), 2]), &Device::flex());
            let examples = films.iter().map(|&film| Example::alone(film)).collect::<Vec<_>>();
            auxiliary.loss(logits, &examples).into_scalar::<f32>()
        };
        assert!((loss(&[4, 7], vec![0.0, 9.0, 9.0, 9.0]) - 0.5 * std::f32::consts::LN_2).abs() < 1e-6);
        assert_eq!(loss(&[7], vec![3.0, -3.0]), 0.0);
    }
}
