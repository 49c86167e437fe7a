//! Configs and the networks that they stand for.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

use networks::{Architecture, ClassifierConfig, NetworkError, Padding};

fn lenet() -> ClassifierConfig {
    let mut config = ClassifierConfig::new(Architecture::LeNet, [4, 8, 8], 5);
    config.width_divisor = 4;
    config
}

#[test]
fn bad_configs_are_refused_by_field() {
    let good = lenet();
    let field = |change: fn(&mut ClassifierConfig)| {
        let mut config = good.clone();
        change(&mut config);
        match config.validate().unwrap_err() {
            NetworkError::Field { field, .. } => field,
            e => panic!("{e}"),
        }
    };
    assert_eq!(field(|c| c.latent[0] = 0), "latent");
    assert_eq!(field(|c| c.latent[1] = 100_000), "latent");
    assert_eq!(field(|c| c.labels = 0), "labels");
    assert_eq!(field(|c| c.width_divisor = 3), "width_divisor");
    assert_eq!(field(|c| c.residual_gain = f64::NAN), "residual_gain");
    assert_eq!(field(|c| c.activation.degree = 40), "activation.degree");
    assert_eq!(field(|c| c.activation.interval = 0.0), "activation.interval");
    assert_eq!(field(|c| c.se_reduction = 0), "se_reduction");
    assert_eq!(
        field(|c| (c.architecture, c.se_after_activation) = (Architecture::ResNet(20), true)),
        "se_after_activation"
    );
    let mut config = good.clone();
    config.padding = Padding::Valid;
    assert!(matches!(config.validate().unwrap_err(), NetworkError::TooSmall { .. }));

    let text = "architecture = \"lenet\"\nlatent = [4, 8, 8]\nlabels = 5\n";
    assert_eq!(toml::from_str::<ClassifierConfig>(text).unwrap().activation, good.activation);
    let unknown = toml::from_str::<ClassifierConfig>(&format!("{text}[activation]\nkid = \"relu\"\n"));
    assert!(unknown.unwrap_err().to_string().contains("kid"));
    let round = toml::from_str(&toml::to_string(&good).unwrap()).unwrap();
    assert_eq!(good, round);
}

#[test]
fn architectures_are_read_by_name() {
    for known in Architecture::ALL {
        assert_eq!(known.name().parse(), Ok(known));
        assert_eq!(serde_json::to_string(&known).unwrap(), format!("\"{known}\""));
        assert!(ClassifierConfig::new(known, [4, 32, 32], 5).network().is_ok(), "{known}");
    }
    assert_eq!("resnet8".parse(), Ok(Architecture::ResNet(8)));
    for unknown in ["resnet7", "resnet020", "ResNet20", "resnet116", "resnet", "alexnet"] {
        assert!(unknown.parse::<Architecture>().unwrap_err().contains("lenet, vggnet"), "{unknown}");
    }
    let mut config = ClassifierConfig::new(Architecture::ResNet(9), [4, 32, 32], 5);
    assert!(matches!(config.validate(), Err(NetworkError::Field { field: "architecture", .. })));
    config.architecture = Architecture::ResNet(usize::MAX);
    assert!(config.validate().is_err(), "refused before anything is built");
}

/// Widths, pools and blocks as they are published: He et al. 2016, section 4.2, and the paper's supplement.
#[test]
fn networks_have_the_published_shapes() {
    let network = |architecture| ClassifierConfig::new(architecture, [4, 32, 32], 14).network().unwrap();
    for (architecture, layer, shape) in [
        (Architecture::LeNet, "features.1.pool", [64, 8, 8]),
        (Architecture::LeNet, "hidden.linear", [64, 1, 1]),
        (Architecture::VggNet, "features.3.pool", [256, 2, 2]),
        (Architecture::HefNet, "features.3.pool", [256, 4, 4]),
        (Architecture::ResNet(20), "layer1.2.add", [16, 32, 32]),
        (Architecture::ResNet(56), "layer3.8.add", [64, 8, 8]),
    ] {
        let network = network(architecture);
        let found = network.node(layer).unwrap().output();
        assert_eq!([found.channels, found.height, found.width], shape, "{architecture} {layer}");
        assert_eq!(network.output().len(), 14);
    }
    assert_eq!(network(Architecture::VggNet).tensors()["head.weight"], [14, 256 * 4]);
    assert_eq!(network(Architecture::HefNet).tensors()["head.weight"], [14, 256 * 16]);
}
