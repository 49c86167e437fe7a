//! Classifiers from PyTorch: import = what PyTorch computed, and the exported graph computes the same; what does not fit
//! is refused by name. The vectors lie in `train/tests/pytorch`, made by `classifiers.py` there.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use burn::tensor::{Device, Tensor, TensorData};
use classifier::{Architecture, Classifier, ClassifierConfig, Sharing};
use he_export::{ExportInputs, Weights, build, export, fold};
use he_model::{HeModel, PlanOptions, interpret::clear::ClearInterpreter};
use safetensors::{Dtype, tensor::TensorView};
use train::{
    TrainError,
    import::{ImportError, Mapping, read_classifier},
    state::{State, apply},
};

const LABELS: usize = 14;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../train/tests/pytorch")
}

/// Logits of two films for each network, as PyTorch computed them.
fn outputs() -> BTreeMap<String, Vec<Vec<f64>>> {
    serde_json::from_str(&fs::read_to_string(folder().join("classifiers.json")).unwrap()).unwrap()
}

/// Value `i` in `[-1, 1)` of `uniform` in `classifiers.py`.
fn uniform(name: &str, count: usize) -> impl Iterator<Item = f64> {
    let seed = name.bytes().fold(0x811c_9dc5u32, |hash, b| (hash ^ u32::from(b)).wrapping_mul(0x0100_0193));
    (1..=count as u32).map(move |i| {
        let mut x = i.wrapping_mul(2_654_435_761).wrapping_add(seed);
        x ^= x >> 15;
        x = x.wrapping_mul(0x2c1b_3c6d);
        x ^= x >> 12;
        x = x.wrapping_mul(0x297a_2d39);
        x ^= x >> 15;
        f64::from(x) / 2f64.powi(31) - 1.0
    })
}

/// The tensor `name` of `formula` in `classifiers.py`.
fn formula(name: &str, shape: &[usize]) -> Vec<f32> {
    let count = shape.iter().product::<usize>();
    let (module, part) = name.rsplit_once('.').unwrap();
    let norm = module.contains("bn") || module.ends_with("shortcut.1");
    let gate = module.ends_with("sigmoid");
    let fan_in = count / shape[0];
    uniform(name, count)
        .map(|u| match part {
            "alpha" if gate => -0.002 + 0.0005 * u,
            "alpha" => 0.06 + 0.02 * u,
            "beta" if gate => 0.12 + 0.02 * u,
            "beta" => 0.6 + 0.1 * u,
            "c" if gate => 0.5 + 0.1 * u,
            "c" | "running_mean" => 0.2 * u,
            "running_var" => 1.0 + 0.5 * u,
            "weight" if norm => (if module.ends_with("bn2") { 0.3 } else { 1.0 }) + 0.2 * u,
            "weight" => u * (3.0 / fan_in as f64).sqrt(),
            _ => 0.1 * u,
        } as f32)
        .collect()
}

/// The published network's tensors: the names and shapes of its `state_dict()`.
fn published(architecture: Architecture, se: bool) -> State {
    let shared = matches!(architecture, Architecture::VggNet | Architecture::HefNet);
    let mut state = State::new();
    let mut put = |name: &str, shape: Vec<usize>| {
        let origin = match name.strip_prefix("relu").filter(|_| shared) {
            Some(rest) => format!("relu1{}", &rest[1..]),
            None => name.to_owned(),
        };
        let values = formula(&origin, &shape);
        state.insert(name.to_owned(), (shape, values));
    };
    let act = |put: &mut dyn FnMut(&str, Vec<usize>), module: &str| {
        for part in ["alpha", "beta", "c"] {
            put(&format!("{module}.{part}"), vec![1]);
        }
    };
    let norm = |put: &mut dyn FnMut(&str, Vec<usize>), module: &str, channels: usize| {
        for part in ["weight", "bias", "running_mean", "running_var"] {
            put(&format!("{module}.{part}"), vec![channels]);
        }
    };
    let linear = |put: &mut dyn FnMut(&str, Vec<usize>), module: &str, [i, o]: [usize; 2], bias: bool| {
        put(&format!("{module}.weight"), vec![o, i]);
        if bias {
            put(&format!("{module}.bias"), vec![o]);
        }
    };
    let gates = |put: &mut dyn FnMut(&str, Vec<usize>), module: &str, channels: usize| {
        if se {
            linear(put, &format!("{module}.linear1"), [channels, channels / 16], true);
            act(put, &format!("{module}.lelu"));
            linear(put, &format!("{module}.linear2"), [channels / 16, channels], true);
            act(put, &format!("{module}.sigmoid"));
        }
    };
    let Some(blocks) = architecture.blocks() else {
        let kernel = if architecture == Architecture::LeNet { 5 } else { 3 };
        let groups = if architecture == Architecture::LeNet { [1, 4, 1, 1] } else { [1, 8, 8, 8] };
        let mut channels = 4;
        for (i, &out) in architecture.widths().iter().enumerate() {
            put(&format!("conv{}.weight", i + 1), vec![out, channels / groups[i], kernel, kernel]);
            if architecture != Architecture::VggNet {
                put(&format!("conv{}.bias", i + 1), vec![out]);
            }
            if architecture == Architecture::HefNet {
                norm(&mut put, &format!("bn{}", i + 1), out);
            }
            channels = out;
        }
        (1..=4).for_each(|i| act(&mut put, &format!("relu{i}")));
        gates(&mut put, "attn", channels);
        match architecture {
            Architecture::LeNet => {
                linear(&mut put, "linear1", [128, 64], true);
                linear(&mut put, "linear2", [64, LABELS], true);
            }
            _ => {
                linear(&mut put, "linear1", [channels * 4, LABELS], architecture == Architecture::HefNet);
            }
        }
        return state;
    };
    put("conv1.weight", vec![16, 4, 3, 3]);
    norm(&mut put, "bn1", 16);
    act(&mut put, "relu");
    let mut channels = 16;
    for (stage, &out) in architecture.widths().iter().enumerate() {
        for block in 0..blocks {
            let name = format!("layer{}.{block}", stage + 1);
            put(&format!("{name}.conv1.weight"), vec![out, channels, 3, 3]);
            put(&format!("{name}.conv2.weight"), vec![out, out, 3, 3]);
            norm(&mut put, &format!("{name}.bn1"), out);
            norm(&mut put, &format!("{name}.bn2"), out);
            act(&mut put, &format!("{name}.relu"));
            if channels != out {
                put(&format!("{name}.shortcut.0.weight"), vec![out, channels, 1, 1]);
                norm(&mut put, &format!("{name}.shortcut.1"), out);
            }
            gates(&mut put, &format!("{name}.attn"), out);
            channels = out;
        }
    }
    linear(&mut put, "linear", [64, LABELS], true);
    state
}

fn write(state: &State, path: &Path) {
    let data: Vec<(String, Vec<usize>, Vec<u8>)> = state
        .iter()
        .map(|(n, (s, v))| (n.clone(), s.clone(), v.iter().flat_map(|x| x.to_le_bytes()).collect()))
        .collect();
    let views = data.iter().map(|(n, s, d)| (n, TensorView::new(Dtype::F32, s.clone(), d).unwrap()));
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

fn films(channels: usize) -> Vec<Vec<f32>> {
    let size = channels * 32 * 32;
    let all: Vec<f32> = uniform("films", 2 * size).map(|v| v as f32).collect();
    all.chunks_exact(size).map(<[f32]>::to_vec).collect()
}

fn close(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let size = expected.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    assert!(size > 1e-3, "{what}: outputs that say nothing");
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() <= tolerance * size, "{what}: {a}, expected {b}");
    }
}

/// Import, Burn forward and exported graph against PyTorch's outputs.
fn check(what: &str, config: &ClassifierConfig, state: &State, expected: &[Vec<f64>]) {
    let device = Device::flex();
    let net = apply(Classifier::from_config(config, &device).unwrap(), state).unwrap();
    let graph = build(&config.network().unwrap(), &Weights::from(state.clone())).unwrap();
    let (folded, _) = fold(&graph).unwrap();
    let [c, h, w] = config.latent;
    assert_eq!(expected.len(), 2);
    for (film, expected) in films(c).into_iter().zip(expected) {
        let x = Tensor::<4>::from_data(TensorData::new(film.clone(), [1, c, h, w]), &device);
        let logits: Vec<f64> = net.forward(x).into_data().iter::<f32>().map(f64::from).collect();
        close(&format!("{what}: Burn"), &logits, expected, 1e-4);
        let wide: Vec<f64> = film.iter().map(|v| f64::from(*v)).collect();
        close(&format!("{what}: graph"), &folded.run(&wide).unwrap(), expected, 1e-4);
    }
}

#[test]
fn every_published_network_gives_pytorchs_outputs_here() {
    let table = outputs();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    for architecture in Architecture::ALL {
        for se in [false, true] {
            let what = format!("{}{}", architecture.name(), if se { "-se" } else { "" });
            write(&published(architecture, se), &path);
            let (config, state) =
                read_classifier(&path, architecture, [4, 32, 32], &Mapping::default()).unwrap();
            assert_eq!((config.se, config.labels, config.width_divisor), (se, LABELS, 1), "{what}");
            check(&what, &config, &state, &table[&what]);
        }
    }
}

#[test]
fn checkpoints_as_pytorch_writes_them_are_read_and_exported() {
    let table = outputs();
    for (file, architecture, key, divisor) in [
        ("classifier_resnet20_se.pt", Architecture::ResNet(20), "small resnet20-se", 8),
        ("classifier_vggnet_se.pt", Architecture::VggNet, "small vggnet-se", 4),
        ("classifier_hefnet.pt", Architecture::HefNet, "small hefnet", 8),
    ] {
        let path = self::folder().join(file);
        let (config, state) = read_classifier(&path, architecture, [3, 32, 32], &Mapping::default()).unwrap();
        assert_eq!(config.width_divisor, divisor, "{file}");
        check(file, &config, &state, &table[key]);
    }
    // The model file that a server loads, of those that need no large ring.
    for (file, architecture, key) in [
        ("classifier_hefnet.pt", Architecture::HefNet, "small hefnet"),
        ("classifier_vggnet_se.pt", Architecture::VggNet, "small vggnet-se"),
    ] {
        let path = self::folder().join(file);
        let (config, state) = read_classifier(&path, architecture, [3, 32, 32], &Mapping::default()).unwrap();
        assert_eq!(config.activation.sharing, Sharing::Network);
        let labels: Vec<String> = (0..LABELS).map(|i| format!("finding {i}")).collect();
        let inputs = ExportInputs {
            network: &config.network().unwrap(),
            weights: &Weights::from(state),
            labels: &labels,
            film_side: 256,
            film_fit: he_model::FilmFit::default(),
            encoder_digest: "",
            headroom: 1.5,
            plan: PlanOptions::default(),
            notes: BTreeMap::new(),
        };
        let films = films(3);
        let model = export(&inputs, films.iter().map(Vec::as_slice)).unwrap().model;
        let saved = tempfile::tempdir().unwrap();
        let path = saved.path().join("model.safetensors");
        model.save(&path).unwrap();
        let model = HeModel::load(&path).unwrap();
        let program = model.plan.program(&model.graph).unwrap();
        for (film, expected) in films.iter().zip(&table[key]) {
            let wide: Vec<f64> = film.iter().map(|v| f64::from(*v)).collect();
            close("HE-ready model", &model.graph.run(&wide).unwrap(), expected, 1e-4);
            close("packed in slots", &ClearInterpreter::run(&program, &wide).unwrap(), expected, 1e-4);
        }
    }
}

fn refused(state: &State, architecture: Architecture, mapping: &Mapping) -> ImportError {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    write(state, &path);
    match read_classifier(&path, architecture, [4, 32, 32], mapping).unwrap_err() {
        TrainError::Import { source, .. } => source,
        other => panic!("{other}"),
    }
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let good = published(Architecture::ResNet(20), true);
    let none = Mapping::default();
    let change = |edit: &dyn Fn(&mut State)| {
        let mut state = good.clone();
        edit(&mut state);
        refused(&state, Architecture::ResNet(20), &none)
    };
    let e = change(&|s| drop(s.remove("layer2.0.shortcut.1.running_var")));
    assert!(
        matches!(&e, ImportError::Missing { name, target, .. }
            if name == "layer2.0.shortcut.1.running_var" && target == "layer2.0.shortcut.bn.running_var"),
        "{e}"
    );
    let e = change(&|s| drop(s.remove("layer3.2.relu.beta")));
    assert!(matches!(&e, ImportError::Missing { name, .. } if name == "layer3.2.relu.beta"), "{e}");
    let e = change(&|s| drop(s.insert("fc.weight".into(), (vec![1], vec![0.0]))));
    assert!(matches!(&e, ImportError::Extra { name, .. } if name == "fc.weight"), "{e}");
    let e = change(&|s| s.get_mut("layer1.1.conv2.weight").unwrap().0 = vec![16, 16, 9, 1]);
    assert!(matches!(&e, ImportError::Shape { name, .. } if name == "layer1.1.conv2.weight"), "{e}");
    let e = change(&|s| s.get_mut("conv1.weight").unwrap().0 = vec![12, 4, 3, 4]);
    assert!(matches!(&e, ImportError::Shape { name, .. } if name == "conv1.weight"), "{e}");
    let e = change(&|s| s.get_mut("linear.bias").unwrap().1[3] = f32::NAN);
    assert!(
        matches!(&e, ImportError::Value { name, value, .. } if name == "linear.bias" && value.is_nan()),
        "{e}"
    );
    let e = change(&|s| s.get_mut("bn1.running_var").unwrap().1[0] = -1.0);
    assert!(matches!(&e, ImportError::Value { name, .. } if name == "bn1.running_var"), "{e}");
    let e =
        change(&|s| drop(s.insert("layer1.0.attn.ChannelGate.mlp.1.weight".into(), (vec![1], vec![0.0]))));
    assert!(matches!(e, ImportError::Unsupported { .. }), "{e}");

    for (asked, found) in [
        (Architecture::ResNet(32), Architecture::ResNet(20)),
        (Architecture::LeNet, Architecture::VggNet),
        (Architecture::VggNet, Architecture::HefNet),
        (Architecture::HefNet, Architecture::LeNet),
        (Architecture::LeNet, Architecture::ResNet(56)),
    ] {
        let e = refused(&published(found, false), asked, &none);
        assert_eq!(e, ImportError::Architecture { asked, found });
    }
    // Layers that share an activation in the published code, but not in this file.
    let mut apart = published(Architecture::VggNet, false);
    apart.get_mut("relu3.beta").unwrap().1[0] = 0.5;
    let e = refused(&apart, Architecture::VggNet, &none);
    assert!(matches!(&e, ImportError::NotShared { other, .. } if other == "relu3"), "{e}");
}

#[test]
fn a_mapping_translates_names_and_says_what_a_file_leaves_out() {
    let table = outputs();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let read = |mapping: &Mapping| read_classifier(&path, Architecture::ResNet(20), [4, 32, 32], mapping);
    let mut state = State::new();
    let mut gates = vec![];
    for (name, tensor) in published(Architecture::ResNet(20), true) {
        let name = name.replace("layer2.", "body.1.").replace("linear.bias", "fc_b");
        match name.strip_suffix(".alpha").filter(|module| module.ends_with("sigmoid")) {
            Some(module) => gates.push(module.to_owned()),
            None => drop(state.insert(format!("module.{name}"), tensor)),
        }
    }
    state.insert("module.aux.weight".into(), (vec![1], vec![0.0]));
    write(&state, &path);
    let mut mapping = Mapping { ignore: vec!["aux.".into()], ..Mapping::default() };
    mapping.names.insert("layer2".into(), "body.1".into());
    mapping.names.insert("linear.bias".into(), "fc_b".into());
    let e = read(&mapping).unwrap_err().to_string();
    assert!(e.contains("layer1.0.attn.sigmoid.alpha"), "{e}");
    // The gates' cubic terms come from the file with other names.
    for (i, module) in gates.iter().enumerate() {
        let name = format!("module.gates.{i}");
        let origin = format!("{}.alpha", module.replace("body.1.", "layer2."));
        state.insert(name.clone(), (vec![1], formula(&origin, &[1])));
        mapping.names.insert(origin, format!("gates.{i}"));
    }
    write(&state, &path);
    let (config, translated) = read(&mapping).unwrap();
    check("mapped", &config, &translated, &table["resnet20-se"]);

    // An activation that the file has no tensors for.
    let fixed = [0.0f32, 1.0, 0.1];
    for part in ["alpha", "beta", "c"] {
        state.remove(&format!("module.relu.{part}"));
    }
    write(&state, &path);
    mapping.coefficients.insert("relu".into(), fixed.iter().map(|v| f64::from(*v)).collect());
    // "relu" stands for every activation: those that the file has are then superfluous.
    assert!(matches!(read(&mapping), Err(TrainError::Import { source: ImportError::Extra { .. }, .. })));
    mapping.coefficients.clear();
    mapping.names.insert("nothing".into(), "none".into());
    let e = read(&mapping).unwrap_err();
    assert!(matches!(e, TrainError::Import { source: ImportError::Missing { .. }, .. }), "{e}");
    let mut useless = Mapping::default();
    useless.names.insert("layer9".into(), "body".into());
    let e = refused(&published(Architecture::ResNet(20), false), Architecture::ResNet(20), &useless);
    assert!(matches!(&e, ImportError::Mapping { section: "[names]", entry, .. } if entry == "layer9"), "{e}");
}

/// A file of torch.save's oldest plain form: one pickle.
fn refused_pickle(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.pt");
    fs::write(&path, bytes).unwrap();
    let e = read_classifier(&path, Architecture::HefNet, [3, 32, 32], &Mapping::default()).unwrap_err();
    assert!(matches!(e, TrainError::Checkpoint { .. }), "{e}");
    e.to_string()
}

#[test]
fn damaged_and_hostile_archives_are_refused() {
    for file in ["classifier_resnet20_se.pt", "classifier_hefnet.pt"] {
        let whole = fs::read(self::folder().join(file)).unwrap();
        for length in [0, 1, 10, 100, whole.len() / 2, whole.len() - 20] {
            let text = refused_pickle(&whole[..length]);
            assert!(text.contains("weights.pt: not a usable checkpoint"), "{length}: {text}");
        }
    }
    // os.system("true"), which a careless reader would run; an unknown opcode; a string of 2 GB that is not there; a pickle
    // nested ten thousand times.
    for pickle in [
        &b"\x80\x02cos\nsystem\n(S'true'\ntR."[..],
        b"\x80\x02\xff.",
        b"\x80\x02X\xff\xff\xff\x7fabc",
        &[&b"\x80\x02"[..], &b"]".repeat(10_000), &b"a".repeat(9_999), b"."].concat(),
    ] {
        refused_pickle(pickle);
    }
    // A kilobyte with a tensor of 1 GB: a stride of zero over one number.
    let text = refused_pickle(&fs::read(self::folder().join("classifier_expanded.pt")).unwrap());
    assert!(text.contains("its tensors claim 1073741824 bytes"), "{text}");
}

const RUN: &str = r#"
[run]
dir = "run"
seed = 7

[data]
side = 64
[data.source.phantom]
films = 40

[vqgan.model]
side = 64
width = 4
multipliers = [1, 2]
residual_blocks = 1
middle_attention = false
latent_channels = 3
codes = 16

[vqgan.train]
steps = 2
batch = 2
learning_rate = 1e-3
validate_every = 2
validation_films = 4

[classifier.model]
architecture = "hefnet"

[classifier.train]
epochs = 1
batch = 8
learning_rate = 1e-3
"#;

/// Runs `veilray` in `root`; whether it succeeded, and what it said.
fn veilray(root: &Path, arguments: &[&str]) -> (bool, String) {
    let mut command = assert_cmd::Command::cargo_bin("veilray").unwrap();
    let output = command.current_dir(root).args(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn the_command_makes_a_run_that_export_accepts() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::write(root.join("run.toml"), RUN).unwrap();
    let theirs = self::folder().join("classifier_hefnet.pt");
    let theirs = theirs.display().to_string();
    let import = |weights: &str, more: &[&str]| {
        let fixed = ["import", "--config", "run.toml", "--architecture", "hefnet", "--weights", weights];
        veilray(root, &[&fixed[..], more].concat())
    };
    let (ok, text) = import(&theirs, &[]);
    assert!(!ok && text.contains("run `veilray train vqgan` first"), "{text}");
    let (ok, text) = veilray(root, &["train", "vqgan", "--config", "run.toml"]);
    assert!(ok, "{text}");
    // The phantom has fewer labels than the network has outputs.
    let (ok, text) = import(&theirs, &[]);
    assert!(!ok && text.contains("expected 14") && text.contains("data.labels"), "{text}");

    let labels = datasets::phantom::LABELS.len();
    let mut state = train::import::read_pytorch(Path::new(&theirs)).unwrap();
    for (name, inputs) in [("linear1.weight", 32 * 4), ("linear1.bias", 1)] {
        let (shape, values) = state.get_mut(name).unwrap();
        shape[0] = labels;
        values.truncate(labels * inputs);
    }
    write(&state, &root.join("fits.safetensors"));
    let (ok, text) = import("fits.safetensors", &["--mapping", "gone.toml"]);
    assert!(!ok && text.contains("gone.toml"), "{text}");
    let (ok, text) = import("fits.safetensors", &[]);
    assert!(ok && text.contains("veilray export"), "{text}");
    let (ok, text) = import("fits.safetensors", &[]);
    assert!(!ok && text.contains("the run has a classifier already"), "{text}");
    let (ok, text) = veilray(root, &["export", "--config", "run.toml"]);
    assert!(ok && root.join("run/model.safetensors").exists(), "{text}");
    let (ok, text) = veilray(root, &["simulate", "--config", "run.toml", "--films", "1"]);
    assert!(ok, "{text}");
    let (ok, text) = veilray(root, &["import", "--config", "run.toml", "-a", "resnet18", "-w", "x.pt"]);
    assert!(!ok && text.contains("resnet20") && text.contains("resnet56"), "{text}");
}
