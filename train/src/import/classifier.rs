//! Classifiers that were trained elsewhere, in PyTorch, under the names of the code published with the paper.
//!
//! Names are translated (`names.rs` has the table), shapes decide what the file leaves open (labels, width, squeeze and
//! excitation), and what this workspace does not have is rewritten without changing the function:
//!
//! - an activation's `alpha`, `beta`, `c` (`alpha x^2 + beta x + c`; for a gate `alpha x^3 + beta x + c`) become one row of
//!   coefficients in ascending powers;
//! - a convolution's bias before a batch norm is subtracted from the running mean: `(x + b) - m = x - (m - b)`;
//! - a bias that the published network does not have is zero.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use networks::{Architecture, ClassifierConfig, Network, Node, Op};
use serde_json::json;
use toml::{Table, Value};

use super::{ImportError, Mapping, names, read_tensors};
use crate::{
    Config, Result, Session, TrainError,
    checkpoint::{Checkpoint, Kind, refusal},
    config::{merge, section},
    films::open_dataset,
    state::State,
};

const ADVICE: &str = "give the weights of a classifier as .pt, .pth or .safetensors, such as torch.save(model.state_dict()) writes";
/// The most bytes of a file that are read: the largest network has 4 MB, with its optimizer 12.
const MAX_FILE_BYTES: u64 = 1 << 30;
/// What wrappers of PyTorch put before every name.
const WRAPPERS: [&str; 4] = ["module.", "_orig_mod.", "model.", "net."];

type Import<T> = std::result::Result<T, ImportError>;

/// The shape and the weights, under the names of this workspace, of a classifier of latents `[channels, height, width]`.
///
/// # Errors
///
/// The file is missing, too large or damaged; it holds another network; a tensor is missing, superfluous, of another shape or
/// not finite; the mapping names what is not there.
pub fn read_classifier(
    path: &Path,
    architecture: Architecture,
    latent: [usize; 3],
    mapping: &Mapping,
) -> Result<(ClassifierConfig, State)> {
    let tensors = unwrapped(read_tensors(path, MAX_FILE_BYTES, ADVICE)?);
    let refuse = |source| TrainError::Import { file: path.into(), source };
    let mut file = Source { tensors, mapping, architecture, used: BTreeSet::new(), entries: BTreeSet::new() };
    let table = file.model(latent).map_err(refuse)?;
    let config: ClassifierConfig = section(&table, "model")?;
    let network = config.network()?;
    let state = file.translate(&network).map_err(refuse)?;
    Ok((config, state))
}

/// Reads a classifier from elsewhere and writes it as the classifier of a run, where `export` and `eval` look for it.
///
/// The run's VQGAN must be the encoder whose latents it was trained on, and its data set must have the same labels in the
/// same order.
///
/// # Errors
///
/// As [`read_classifier`]; the configuration cannot be used; the run has no VQGAN yet, or has a classifier already; the data
/// set has another number of labels.
pub fn import_classifier(
    config: &Config,
    session: &Session<'_>,
    weights: &Path,
    architecture: Architecture,
    mapping: &Mapping,
) -> Result<ClassifierConfig> {
    config.validate()?;
    let target = session.classifier_model();
    if target.exists() {
        let advice = "choose another run folder, or remove that file";
        return Err(refusal(&target, "the run has a classifier already".into(), advice));
    }
    let (model, tensors) =
        read_classifier(weights, architecture, config.vqgan.model.latent_shape(), mapping)?;
    let encoder = Checkpoint::load(&session.vqgan_model(), Kind::Vqgan)?;
    let dataset = open_dataset(&config.data, session)?;
    let labels = dataset.label_names();
    if labels.len() != model.labels {
        return Err(TrainError::Mismatch {
            what: "labels",
            expected: format!("{}, one for each output of the classifier", model.labels),
            found: format!("{} in the data set ({})", labels.len(), labels.join(", ")),
            advice: "name the labels in the order of the outputs in data.labels".into(),
        });
    }
    session.write_config(config)?;
    let name = weights.file_name().map(|name| name.to_string_lossy().into_owned());
    let checkpoint = Checkpoint {
        kind: Kind::Classifier,
        model: json!(model),
        run: json!(config),
        extra: json!({
            "imported_from": name,
            "label_names": labels,
            "encoder_digest": encoder.digest(),
            "data_digest": dataset.digest(),
        }),
        tensors,
    };
    checkpoint.save(&target)?;
    Ok(model)
}

/// Without what a wrapper put before every name.
fn unwrapped(mut state: State) -> State {
    while let Some(prefix) = WRAPPERS.iter().find(|p| state.keys().all(|name| name.starts_with(*p))) {
        state = state.into_iter().map(|(name, tensor)| (name[prefix.len()..].to_owned(), tensor)).collect();
    }
    state
}

/// Coefficients that several activations read.
struct Shared {
    /// Where the first of these activations would have them in the file.
    source: String,
    /// The name of the activation that has them, and the values.
    found: Option<(String, Vec<f32>)>,
}

/// Hands out the tensors of a file by published name, and remembers what was asked for.
struct Source<'a> {
    tensors: State,
    mapping: &'a Mapping,
    architecture: Architecture,
    /// Names in the file.
    used: BTreeSet<String>,
    /// Entries of the mapping's `names` and `coefficients`.
    entries: BTreeSet<&'a str>,
}

impl<'a> Source<'a> {
    /// The name in the file.
    fn name(&mut self, published: &str) -> String {
        let (name, entry) = self.mapping.resolve(published);
        self.entries.extend(entry);
        name
    }

    /// The shape of a tensor, if it is there.
    fn shape(&mut self, published: &str) -> Option<(String, Vec<usize>)> {
        let name = self.name(published);
        let shape = self.tensors.get(&name).map(|(shape, _)| shape.clone());
        shape.map(|shape| (name, shape))
    }

    /// A tensor, checked, if it is there.
    fn find(&mut self, published: &str, expected: &[usize]) -> Import<Option<Vec<f32>>> {
        let name = self.name(published);
        let Some((shape, values)) = self.tensors.get(&name) else { return Ok(None) };
        if shape != expected {
            let (found, expected) = (shape.clone(), format!("{expected:?} for {}", self.architecture.name()));
            return Err(ImportError::Shape { name, found, expected });
        }
        if let Some(&value) = values.iter().find(|v| !v.is_finite()) {
            return Err(ImportError::Value { name, value, problem: "the training that made it went wrong" });
        }
        let values = values.clone();
        self.used.insert(name);
        Ok(Some(values))
    }

    fn missing(&mut self, published: &str, target: &str) -> ImportError {
        let (name, target, architecture) = (self.name(published), target.to_owned(), self.architecture);
        ImportError::Missing { name, target, architecture }
    }

    fn get(&mut self, published: &str, expected: &[usize], target: &str) -> Import<Vec<f32>> {
        match self.find(published, expected)? {
            Some(values) => Ok(values),
            None => Err(self.missing(published, target)),
        }
    }

    /// `[model]`: the published network, as far as the shapes in the file tell, and what the mapping changes.
    fn model(&mut self, latent: [usize; 3]) -> Import<Table> {
        let architecture = self.architecture;
        if let Some(name) = self.tensors.keys().find(|name| name.contains("ChannelGate")) {
            return Err(ImportError::Unsupported { name: name.clone(), part: "a CBAM attention block" });
        }
        // With names of its own, the file says nothing about the architecture.
        if self.mapping.names.is_empty()
            && let Some(found) = names::guess(self.tensors.keys().map(String::as_str))
            && found != architecture
        {
            return Err(ImportError::Architecture { asked: architecture, found });
        }
        let resnet = architecture.blocks().is_some();
        let mut table = Table::new();
        let number = |n: usize| Value::Integer(i64::try_from(n).unwrap_or(i64::MAX));
        table.insert("architecture".into(), architecture.name().into());
        table.insert("latent".into(), Value::Array(latent.map(number).to_vec()));
        table.insert("residual_gain".into(), 1.0.into());
        table.insert("padding".into(), "valid".into());

        let (name, shape) = self.first("conv1.weight", "the first convolution")?;
        let published = architecture.widths()[0];
        match shape[..] {
            [out, channels, ..] if out > 0 && published.is_multiple_of(out) && channels == latent[0] => {
                table.insert("width_divisor".into(), number(published / out));
            }
            _ => {
                let expected = format!(
                    "[{published}, {}, ...]: {published} channels (or a half, a quarter, ...) from the {} of a latent",
                    latent[0], latent[0]
                );
                return Err(ImportError::Shape { name, found: shape, expected });
            }
        }
        let head = format!("{}.weight", names::published(architecture, "head"));
        let (_, shape) = self.first(&head, "head.weight")?;
        table.insert("labels".into(), number(shape.first().copied().unwrap_or(0)));

        let squeeze = if resnet { "layer3.0.attn.linear1.weight" } else { "attn.linear1.weight" };
        if let Some((name, shape)) = self.shape(squeeze) {
            let reduction = match shape[..] {
                [hidden, channels] => channels.checked_div(hidden),
                _ => None,
            };
            let Some(reduction) = reduction else {
                let expected = "[hidden, channels] of a squeeze-and-excitation block".to_owned();
                return Err(ImportError::Shape { name, found: shape, expected });
            };
            table.insert("se".into(), true.into());
            table.insert("se_reduction".into(), number(reduction.max(1)));
        }
        if architecture == Architecture::VggNet {
            table.insert("se_after_activation".into(), true.into());
        }
        let mut activation = Table::new();
        if matches!(architecture, Architecture::VggNet | Architecture::HefNet) {
            activation.insert("sharing".into(), "network".into());
            table.insert("se_sharing".into(), "layer".into());
        }
        table.insert("activation".into(), activation.into());
        merge(&mut table, &self.mapping.model);
        Ok(table)
    }

    /// Name and shape of a tensor that must be there.
    fn first(&mut self, published: &str, target: &str) -> Import<(String, Vec<usize>)> {
        match self.shape(published) {
            Some(found) => Ok(found),
            None => Err(self.missing(published, target)),
        }
    }

    /// All tensors of the network under our names; refuses what is left over in file and mapping.
    fn translate(mut self, network: &Network) -> Import<State> {
        let mut state = State::new();
        // Of convolutions that a batch norm follows, by the number of their value.
        let mut biases = BTreeMap::new();
        for (index, node) in network.nodes().iter().enumerate() {
            match node.op() {
                Op::Conv2d(conv) => {
                    let bias = self.convolution(node, &mut state)?;
                    if conv.bias {
                        let channels = conv.out_channels;
                        let bias = bias.unwrap_or_else(|| vec![0.0; channels]);
                        state.insert(format!("{}.bias", node.name()), (vec![channels], bias));
                    } else {
                        biases.insert(index + 1, bias);
                    }
                }
                Op::BatchNorm => {
                    let bias = node.inputs().first().and_then(|id| biases.remove(&id.0)).flatten();
                    self.batch_norm(node, bias.as_deref(), &mut state)?;
                }
                Op::Linear { outputs } => self.linear(node, *outputs, &mut state)?,
                _ => {}
            }
        }
        self.activations(network, &mut state)?;
        self.finish()?;
        Ok(state)
    }

    /// Takes the weight over and hands out the bias, if the file has one.
    fn convolution(&mut self, node: &Node, state: &mut State) -> Import<Option<Vec<f32>>> {
        let from = names::published(self.architecture, node.name());
        if let Some(weight) = node.tensors().into_iter().next() {
            let values = self.get(&format!("{from}.weight"), &weight.shape, &weight.name)?;
            state.insert(weight.name, (weight.shape, values));
        }
        self.find(&format!("{from}.bias"), &[node.output().channels])
    }

    /// `bias` is that of the convolution before.
    fn batch_norm(&mut self, node: &Node, bias: Option<&[f32]>, state: &mut State) -> Import<()> {
        let from = names::published(self.architecture, node.name());
        for tensor in node.tensors() {
            let part = tensor.name.rsplit('.').next().unwrap_or_default();
            let source = format!("{from}.{part}");
            let mut values = self.get(&source, &tensor.shape, &tensor.name)?;
            if let ("running_mean", Some(bias)) = (part, bias) {
                for (mean, bias) in values.iter_mut().zip(bias) {
                    *mean -= bias;
                }
            }
            if let ("running_var", Some(&value)) = (part, values.iter().find(|v| **v < 0.0)) {
                let name = self.name(&source);
                return Err(ImportError::Value { name, value, problem: "a variance is never below zero" });
            }
            state.insert(tensor.name, (tensor.shape, values));
        }
        Ok(())
    }

    fn linear(&mut self, node: &Node, outputs: usize, state: &mut State) -> Import<()> {
        let (ours, inputs) = (node.name(), node.input().len());
        let from = names::published(self.architecture, ours);
        let to = format!("{ours}.weight");
        let weight = self.get(&format!("{from}.weight"), &[outputs, inputs], &to)?;
        state.insert(to, (vec![outputs, inputs], weight));
        let bias = self.find(&format!("{from}.bias"), &[outputs])?.unwrap_or_else(|| vec![0.0; outputs]);
        state.insert(format!("{ours}.bias"), (vec![outputs], bias));
        Ok(())
    }

    /// Coefficients of the activations that are trained.
    fn activations(&mut self, network: &Network, state: &mut State) -> Import<()> {
        // By the tensor that several activations read.
        let mut shared: BTreeMap<String, Shared> = BTreeMap::new();
        for node in network.nodes() {
            let Some(trained) = node.op().coefficients() else { continue };
            let published = names::published(self.architecture, node.name());
            let parts = names::parts(trained.initial.len());
            let rows = if trained.per_channel { node.input().channels } else { 1 };
            let found = self.coefficients(&published, rows, parts)?;
            let source = format!("{published}.{}", parts[parts.len() - 1]);
            if trained.owner == node.name() {
                let Some(values) = found else { return Err(self.missing(&source, &trained.tensor())) };
                state.insert(trained.tensor(), (vec![rows, parts.len()], values));
                continue;
            }
            let name = self.name(&published);
            let first = &mut shared.entry(trained.tensor()).or_insert(Shared { source, found: None }).found;
            // A file may hold a shared object under one name only.
            match (&first, found) {
                (Some((one, values)), Some(other)) if *values != other => {
                    return Err(ImportError::NotShared { one: one.clone(), other: name });
                }
                (None, Some(values)) => *first = Some((name, values)),
                _ => {}
            }
        }
        for (tensor, Shared { source, found }) in shared {
            let Some((_, values)) = found else { return Err(self.missing(&source, &tensor)) };
            state.insert(tensor, (vec![1, values.len()], values));
        }
        Ok(())
    }

    /// Coefficients `[rows, powers]` of an activation: from the file, from the mapping, or `None`.
    fn coefficients(&mut self, published: &str, rows: usize, parts: &[&str]) -> Import<Option<Vec<f32>>> {
        let powers = parts.len();
        if let Some((entry, given)) = self.mapping.coefficients(published) {
            self.entries.insert(entry);
            if given.len() != powers {
                let (name, found) = (published.to_owned(), vec![given.len()]);
                let expected = format!("{powers} coefficients in ascending powers (in the mapping file)");
                return Err(ImportError::Shape { name, found, expected });
            }
            return Ok(Some((0..rows).flat_map(|_| given.iter().map(|v| *v as f32)).collect()));
        }
        let mut columns = BTreeMap::new();
        for (power, part) in parts.iter().enumerate().filter(|(_, part)| !part.is_empty()) {
            let name = format!("{published}.{part}");
            let Some((_, shape)) = self.shape(&name) else { continue };
            // One number stands for all channels.
            let one = shape.iter().product::<usize>() == 1;
            let expected = if one { shape } else { vec![rows] };
            columns.insert(power, self.get(&name, &expected, published)?);
        }
        if columns.is_empty() {
            return Ok(None);
        }
        for (power, part) in parts.iter().enumerate() {
            if !part.is_empty() && !columns.contains_key(&power) {
                return Err(self.missing(&format!("{published}.{part}"), published));
            }
        }
        let value = |row: usize, power: usize| match columns.get(&power).map(Vec::as_slice) {
            Some([one]) => *one,
            Some(column) => column.get(row).copied().unwrap_or(0.0),
            None => 0.0,
        };
        Ok(Some(
            (0..rows)
                .flat_map(|row| (0..powers).map(move |power| (row, power)))
                .map(|(r, p)| value(r, p))
                .collect(),
        ))
    }

    /// Refuses tensors and entries of the mapping that nobody asked for.
    fn finish(self) -> Import<()> {
        let Self { tensors, mapping, architecture, used, entries } = self;
        let left_out =
            |name: &str| mapping.ignore.iter().any(|beginning| name.starts_with(beginning.as_str()));
        let besides = |name: &str| name.ends_with(".num_batches_tracked");
        if let Some(name) = tensors.keys().find(|n| !used.contains(*n) && !left_out(n) && !besides(n)) {
            return Err(ImportError::Extra { name: name.clone(), architecture });
        }
        let useless = |section: &'static str, entry: &str| ImportError::Mapping {
            section,
            entry: entry.to_owned(),
            architecture,
        };
        if let Some(entry) = mapping.names.keys().find(|entry| !entries.contains(entry.as_str())) {
            return Err(useless("[names]", entry));
        }
        if let Some(entry) = mapping.coefficients.keys().find(|entry| !entries.contains(entry.as_str())) {
            return Err(useless("[coefficients]", entry));
        }
        match mapping.ignore.iter().find(|b| !tensors.keys().any(|name| name.starts_with(b.as_str()))) {
            Some(beginning) => Err(useless("ignore", beginning)),
            None => Ok(()),
        }
    }
}
