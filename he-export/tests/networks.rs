//! The upper rungs of the ladder: Burn = unfolded graph = folded graph, for every network; bad checkpoints by name.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use classifier::{ActivationKind, Architecture, ClassifierConfig, GateKind, Padding, Sharing};
use common::{burn_logits, bytes, close, latent, small, trained, weights};
use he_export::{ExportError, Weights, build, fold};
use he_model::Op;

fn ladder(config: &ClassifierConfig, what: &str) {
    let (model, state) = trained(config, 3);
    let graph = build(&config.network().unwrap(), &weights(&state)).unwrap();
    let (folded, _) = fold(&graph).unwrap();
    assert!(!folded.nodes().iter().any(|n| matches!(n.op(), Op::ChannelAffine(_))), "{what}");
    let x = latent(config, 5);
    let wide: Vec<f64> = x.iter().map(|v| f64::from(*v)).collect();
    let from_graph = graph.run(&wide).unwrap();
    close(&format!("{what}: Burn and graph"), &from_graph, &burn_logits(&model, config, &x), 1e-4);
    close(&format!("{what}: graph and folded graph"), &from_graph, &folded.run(&wide).unwrap(), 1e-9);
}

#[test]
fn every_network_with_every_sharing_and_block_form() {
    for architecture in Architecture::ALL {
        for se in [false, true] {
            for sharing in [Sharing::Network, Sharing::Layer, Sharing::Channel] {
                for post in [false, true] {
                    if post && architecture.blocks().is_none() {
                        continue;
                    }
                    let mut config = small(architecture);
                    config.se = se;
                    config.post_add_activation = post;
                    config.activation.sharing = sharing;
                    ladder(&config, &format!("{architecture:?} se {se} {sharing:?} post {post}"));
                }
            }
        }
    }
}

/// What is trained, what is exported and what benches draw are the same network: tensors, layers and shapes.
#[test]
fn an_architecture_is_one_network_wherever_it_is_built() {
    for architecture in Architecture::ALL {
        for se in [false, true] {
            let mut config = small(architecture);
            (config.se, config.batch_norm) = (se, Some(false));
            let network = config.network().unwrap();
            let (_, state) = trained(&config, 3);
            let shapes = |state: common::State| state.into_iter().map(|(name, (shape, _))| (name, shape));
            assert_eq!(network.tensors(), shapes(state.clone()).collect(), "{architecture} in Burn");
            config.batch_norm = Some(true);
            let (_, normalized) = trained(&config, 3);
            let tensors = config.network().unwrap().tensors();
            assert_eq!(tensors, shapes(normalized).collect(), "{architecture} in Burn, with batch norms");

            let layers = |graph: &he_model::Graph| -> Vec<(String, he_model::Shape)> {
                let nodes = graph.nodes().iter().map(|node| (node.name().to_owned(), node.shape()));
                // Factors are drawn into the weights before them.
                nodes.filter(|(name, _)| !name.ends_with(".gain")).collect()
            };
            let exported = build(&network, &weights(&state)).unwrap();
            let drawn = he_model::zoo::random_weights(&network, 1).unwrap();
            assert_eq!(layers(&exported), layers(&drawn), "{architecture} exported and drawn");
            let described = network.nodes().iter().map(|node| (node.name().to_owned(), node.output()));
            let described = described.filter(|(name, _)| !name.ends_with(".gain"));
            assert!(layers(&exported)[1..].iter().cloned().eq(described), "{architecture} described");
        }
    }
}

#[test]
fn squeeze_and_excitation_can_follow_the_activation_and_own_its_coefficients() {
    for architecture in [Architecture::LeNet, Architecture::VggNet, Architecture::HefNet] {
        for (sharing, in_se) in [
            (Sharing::Network, Sharing::Layer),
            (Sharing::Layer, Sharing::Network),
            (Sharing::Network, Sharing::Channel),
        ] {
            let mut config = small(architecture);
            (config.se, config.se_after_activation) = (true, true);
            config.activation.sharing = sharing;
            config.se_sharing = Some(in_se);
            ladder(&config, &format!("{architecture:?} {sharing:?}, within se {in_se:?}"));
        }
    }
    let mut before = small(Architecture::VggNet);
    before.se = true;
    let mut after = before.clone();
    after.se_after_activation = true;
    let (_, state) = trained(&before, 3);
    let x: Vec<f64> = latent(&before, 5).into_iter().map(f64::from).collect();
    let run = |config: &ClassifierConfig| {
        build(&config.network().unwrap(), &weights(&state)).unwrap().run(&x).unwrap()
    };
    assert_ne!(run(&before), run(&after), "the order makes a difference");
}

#[test]
fn every_polynomial_activation() {
    for kind in [ActivationKind::Square, ActivationKind::ChebyshevRelu] {
        for degree in [3, 4, 7] {
            for architecture in [Architecture::LeNet, Architecture::ResNet(20)] {
                let mut config = small(architecture);
                config.activation.kind = kind;
                config.activation.degree = degree;
                ladder(&config, &format!("{architecture:?} {kind:?} {degree}"));
            }
        }
    }
}

#[test]
fn batch_norm_and_padding_can_be_chosen() {
    for batch_norm in [false, true] {
        for architecture in [Architecture::LeNet, Architecture::VggNet, Architecture::ResNet(20)] {
            let mut config = small(architecture);
            config.batch_norm = Some(batch_norm);
            ladder(&config, &format!("{architecture:?} batch norm {batch_norm}"));
        }
    }
    for (architecture, side) in
        [(Architecture::LeNet, 32), (Architecture::HefNet, 32), (Architecture::HefNet, 16)]
    {
        let mut config = small(architecture);
        config.padding = Padding::Valid;
        config.latent = [3, side, side];
        ladder(&config, &format!("{architecture:?} {side} valid"));
    }
}

#[test]
fn what_is_no_polynomial_is_refused() {
    let mut config = small(Architecture::LeNet);
    let (_, state) = trained(&config, 1);
    config.activation.kind = ActivationKind::Relu;
    let e = build(&config.network().unwrap(), &weights(&state)).unwrap_err();
    assert!(
        matches!(&e, ExportError::NotPolynomial { kind: "relu", layer, .. } if layer == "features.0.act"),
        "{e}"
    );
    config.activation.kind = ActivationKind::Polyact;
    config.se = true;
    config.gate.kind = GateKind::Sigmoid;
    let e = build(&config.network().unwrap(), &weights(&state)).unwrap_err();
    assert!(e.to_string().contains("approx-sigmoid"), "{e}");
}

#[test]
fn bad_checkpoints_are_refused_by_name() {
    let config = small(Architecture::ResNet(20));
    let (_, state) = trained(&config, 1);

    let mut changed = state.clone();
    changed.remove("layer2.0.shortcut.bn.running_var");
    let e = build(&config.network().unwrap(), &weights(&changed)).unwrap_err();
    assert!(matches!(&e, ExportError::MissingTensor { name, .. } if name.contains("shortcut")), "{e}");

    let mut changed = state.clone();
    changed.remove("layer1.0.act1.coefficients");
    let e = build(&config.network().unwrap(), &weights(&changed)).unwrap_err();
    assert!(
        matches!(&e, ExportError::MissingTensor { name, .. } if name == "layer1.0.act1.coefficients"),
        "{e}"
    );

    let mut changed = state.clone();
    changed.get_mut("head.weight").unwrap().0 = vec![8, 4];
    let e = build(&config.network().unwrap(), &weights(&changed)).unwrap_err();
    assert!(matches!(&e, ExportError::WrongShape { name, .. } if name == "head.weight"), "{e}");

    let mut changed = state.clone();
    changed.get_mut("stem.bn.bias").unwrap().1[0] = f32::NAN;
    let e = build(&config.network().unwrap(), &weights(&changed)).unwrap_err();
    assert!(matches!(&e, ExportError::BadValue { name, .. } if name == "stem.bn.bias"), "{e}");

    let mut changed = state.clone();
    changed.get_mut("stem.bn.running_var").unwrap().1[0] = -1.0;
    let e = build(&config.network().unwrap(), &weights(&changed)).unwrap_err();
    assert!(matches!(&e, ExportError::BadValue { name, .. } if name == "stem.bn.running_var"), "{e}");

    // A deeper network has tensors that ResNet20 has no place for; another one lacks the first.
    let (_, deeper) = trained(&small(Architecture::ResNet(32)), 1);
    let e = build(&config.network().unwrap(), &weights(&deeper)).unwrap_err();
    assert!(matches!(&e, ExportError::UnknownTensor { name, .. } if name.starts_with("layer1.3")), "{e}");
    let (_, other) = trained(&small(Architecture::HefNet), 1);
    let e = build(&config.network().unwrap(), &weights(&other)).unwrap_err();
    assert!(matches!(&e, ExportError::MissingTensor { name, .. } if name == "stem.conv.weight"), "{e}");
}

#[test]
fn weights_come_from_a_file_too() {
    let config = small(Architecture::LeNet);
    let (_, state) = trained(&config, 1);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let whole = bytes(&state);
    std::fs::write(&path, &whole).unwrap();
    let graph = build(&config.network().unwrap(), &Weights::read(&path).unwrap()).unwrap();
    assert_eq!(graph, build(&config.network().unwrap(), &weights(&state)).unwrap());
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert!(matches!(Weights::read(&path), Err(ExportError::Malformed { .. })));
}
