//! The module of every architecture: shapes, names in the checkpoint, sharing of coefficients, ranges.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

use std::collections::BTreeMap;

use burn::{
    module::Module,
    store::{BurnToPyTorchAdapter, ModuleSnapshot, SafetensorsStore},
    tensor::{Device, Distribution, Tensor},
};
use classifier::{ActivationKind, Architecture, Classifier, ClassifierConfig, GateKind, Sharing, masked_bce};

fn small(architecture: Architecture) -> ClassifierConfig {
    let side =
        if architecture == Architecture::VggNet || architecture == Architecture::HefNet { 16 } else { 8 };
    let mut config = ClassifierConfig::new(architecture, [4, side, side], 5);
    config.width_divisor = 4;
    config.se_reduction = 4;
    config
}

fn latents(config: &ClassifierConfig, batch: usize, device: &Device) -> Tensor<4> {
    let [c, h, w] = config.latent;
    Tensor::random([batch, c, h, w], Distribution::Normal(0.0, 1.0), device)
}

fn tensors(model: &Classifier) -> BTreeMap<String, Vec<usize>> {
    let mut store = SafetensorsStore::from_bytes(None).with_to_adapter(BurnToPyTorchAdapter);
    model.save_into(&mut store).unwrap();
    let bytes = store.get_bytes().unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    file.tensors().into_iter().map(|(name, view)| (name, view.shape().to_vec())).collect()
}

#[test]
fn every_network_gives_one_logit_a_label() {
    let device = Device::flex();
    for architecture in Architecture::ALL {
        for (se, post) in [(false, false), (true, true)] {
            let mut config = small(architecture);
            (config.se, config.post_add_activation) = (se, post);
            let model = Classifier::from_config(&config, &device).unwrap();
            let x = latents(&config, 2, &device);
            let logits = model.forward(x.clone());
            assert_eq!(logits.dims(), [2, 5], "{architecture:?}");
            let (again, ranges) = model.forward_watched(x);
            assert_eq!(logits.to_data(), again.to_data());
            assert_eq!(ranges.names, config.network().unwrap().activations(), "{architecture:?} {se}");
            assert_eq!(ranges.largest.dims(), [ranges.names.len()]);
            if se && architecture.blocks().is_none() {
                config.se_after_activation = true;
                let (_, ranges) = Classifier::from_config(&config, &device)
                    .unwrap()
                    .forward_watched(latents(&config, 2, &device));
                assert_eq!(ranges.names, config.network().unwrap().activations(), "{architecture:?} after");
            }
        }
    }
}

#[test]
fn published_sizes_have_the_published_number_of_parameters() {
    // Stem 432; 6 x 2304; 4608 + 5 x 9216; 18432 + 5 x 36864.
    let device = Device::flex();
    let model =
        Classifier::from_config(&ClassifierConfig::new(Architecture::ResNet(20), [3, 32, 32], 10), &device)
            .unwrap();
    let convolutions: usize = tensors(&model)
        .iter()
        .filter(|(name, _)| name.contains("conv") && !name.contains("shortcut"))
        .map(|(_, shape)| shape.iter().product::<usize>())
        .sum();
    assert_eq!(convolutions, 432 + 267_264);
}

#[test]
fn checkpoint_names_are_the_documented_ones() {
    let device = Device::flex();
    let mut config = small(Architecture::ResNet(20));
    config.se = true;
    config.post_add_activation = true;
    let names = tensors(&Classifier::from_config(&config, &device).unwrap());
    for (name, shape) in [
        ("stem.conv.weight", vec![4, 4, 3, 3]),
        ("stem.bn.running_var", vec![4]),
        ("stem.act.coefficients", vec![1, 3]),
        ("layer2.0.conv1.weight", vec![8, 4, 3, 3]),
        ("layer2.0.bn2.weight", vec![8]),
        ("layer2.0.shortcut.conv.weight", vec![8, 4, 1, 1]),
        ("layer2.0.shortcut.bn.bias", vec![8]),
        ("layer2.0.se.squeeze.weight", vec![2, 8]),
        ("layer2.0.se.excite.weight", vec![8, 2]),
        ("layer2.0.se.gate.coefficients", vec![1, 4]),
        ("layer3.2.act2.coefficients", vec![1, 3]),
        ("head.weight", vec![5, 16]),
    ] {
        assert_eq!(names.get(name), Some(&shape), "{name}");
    }
    assert!(!names.keys().any(|n| n.ends_with("conv1.bias")));

    let names = tensors(&Classifier::from_config(&small(Architecture::LeNet), &device).unwrap());
    let expected = [
        "features.0.act.coefficients",
        "features.0.conv.bias",
        "features.0.conv.weight",
        "features.1.act.coefficients",
        "features.1.conv.bias",
        "features.1.conv.weight",
        "features.2.act.coefficients",
        "features.2.conv.bias",
        "features.2.conv.weight",
        "head.bias",
        "head.weight",
        "hidden.act.coefficients",
        "hidden.linear.bias",
        "hidden.linear.weight",
    ];
    assert_eq!(names.keys().map(String::as_str).collect::<Vec<_>>(), expected);
}

#[test]
fn sharing_decides_who_owns_coefficients() {
    let device = Device::flex();
    let mut config = small(Architecture::ResNet(20));
    config.se = true;
    let coefficients = |config: &ClassifierConfig| -> Vec<(String, Vec<usize>)> {
        tensors(&Classifier::from_config(config, &device).unwrap())
            .into_iter()
            .filter(|(name, _)| name.ends_with("coefficients"))
            .collect()
    };
    config.activation.sharing = Sharing::Network;
    let own = coefficients(&config);
    assert_eq!(
        own,
        vec![("activation.coefficients".into(), vec![1, 3]), ("gate.coefficients".into(), vec![1, 4])]
    );
    config.activation.sharing = Sharing::Layer;
    let own = coefficients(&config);
    assert_eq!(own.len(), 1 + 9 * 3);
    assert!(own.iter().all(|(_, shape)| shape[0] == 1));
    config.activation.sharing = Sharing::Channel;
    let own: BTreeMap<_, _> = coefficients(&config).into_iter().collect();
    assert_eq!(own["layer3.0.act1.coefficients"], vec![16, 3]);
    assert_eq!(own["layer3.0.se.act.coefficients"], vec![4, 3]);
    assert_eq!(own["layer3.0.se.gate.coefficients"], vec![16, 4]);
    config.activation.sharing = Sharing::Network;
    config.se_sharing = Some(Sharing::Layer);
    let own = coefficients(&config);
    assert_eq!(own.len(), 1 + 9 * 2);
    assert!(own.contains(&("activation.coefficients".into(), vec![1, 3])));
    assert!(own.contains(&("layer3.0.se.act.coefficients".into(), vec![1, 3])));
    config.activation.sharing = Sharing::Layer;
    config.se_sharing = Some(Sharing::Network);
    let own = coefficients(&config);
    assert_eq!(own.len(), 1 + 9 + 2);
    assert!(own.contains(&("gate.coefficients".into(), vec![1, 4])));
    for kind in [ActivationKind::Relu, ActivationKind::Square, ActivationKind::ChebyshevRelu] {
        config.activation.kind = kind;
        config.gate.kind = GateKind::Sigmoid;
        assert_eq!(coefficients(&config), vec![]);
    }
}

#[test]
fn gradients_reach_every_parameter_and_the_penalty_counts_what_is_outside() {
    let device = Device::flex().autodiff();
    for sharing in [Sharing::Network, Sharing::Layer, Sharing::Channel] {
        let mut config = small(Architecture::ResNet(20));
        config.se = true;
        config.activation.sharing = sharing;
        let model = Classifier::from_config(&config, &device).unwrap();
        let x = latents(&config, 4, &device);
        let (logits, ranges) = model.forward_watched(x.clone());
        for penalty in [&ranges.penalty, &ranges.peaks] {
            assert_eq!(penalty.clone().into_scalar::<f32>() > 0.0, ranges.largest_outside(6.0, 5.0));
        }
        let targets = Tensor::ones([4, 5], &device);
        let loss = masked_bce(logits, targets.clone(), targets, None) + ranges.penalty;
        let gradients = loss.backward();
        let mut missing = vec![];
        model.visit(&mut Missing { gradients: &gradients, count: &mut missing });
        assert!(missing.is_empty(), "{sharing:?}: {} parameters without a gradient", missing.len());
    }
    let mut config = small(Architecture::LeNet);
    config.activation.interval = 1e-3;
    let (_, ranges) =
        Classifier::from_config(&config, &device).unwrap().forward_watched(latents(&config, 4, &device));
    // Each film's largest value is at least its mean.
    let (penalty, peaks) = (ranges.penalty.into_scalar::<f32>(), ranges.peaks.into_scalar::<f32>());
    assert!(penalty > 0.0 && peaks > penalty, "{penalty}, {peaks}");
}

struct Missing<'a> {
    gradients: &'a burn::tensor::Gradients,
    count: &'a mut Vec<burn::module::ParamId>,
}

impl burn::module::ModuleVisitor for Missing<'_> {
    fn visit_float<const D: usize>(&mut self, param: &burn::module::Param<Tensor<D>>) {
        if param.is_require_grad() && param.val().grad(self.gradients).is_none() {
            self.count.push(param.id);
        }
    }
}

trait Outside {
    fn largest_outside(&self, act: f32, gate: f32) -> bool;
}

impl Outside for classifier::Ranges {
    fn largest_outside(&self, act: f32, gate: f32) -> bool {
        let largest = self.largest.to_data().try_to_vec::<f32>().unwrap();
        let limit = |n: &String| if n.ends_with("gate") { gate } else { act };
        self.names.iter().zip(largest).any(|(n, l)| l > limit(n))
    }
}

#[test]
fn loss_leaves_unknown_labels_out_and_weighs_positives() {
    let device = Device::flex();
    let t = |v: [[f32; 2]; 2]| Tensor::<2>::from_data(v, &device);
    let logits = t([[0.0, 100.0], [-100.0, 2.0]]);
    let targets = t([[1.0, 0.0], [1.0, 1.0]]);
    let known = t([[1.0, 0.0], [0.0, 1.0]]);
    let plain = masked_bce(logits.clone(), targets.clone(), known.clone(), None).into_scalar::<f32>();
    let expected = (2f32.ln() + (1.0 + (-2f32).exp()).ln()) / 2.0;
    assert!((plain - expected).abs() < 1e-6);
    let w = Tensor::<1>::from_data([3.0, 1.0], &device);
    let weighted = masked_bce(logits.clone(), targets.clone(), known, Some(w)).into_scalar::<f32>();
    assert!((weighted - (3.0 * 2f32.ln() + (1.0 + (-2f32).exp()).ln()) / 2.0).abs() < 1e-6);
    let all = masked_bce(logits.clone(), targets.clone(), Tensor::ones([2, 2], &device), None);
    assert!(all.into_scalar::<f32>().is_finite());
    let none = masked_bce(logits, targets, Tensor::zeros([2, 2], &device), None);
    assert_eq!(none.into_scalar::<f32>(), 0.0);
}
