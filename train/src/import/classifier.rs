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

use classifier::{
    ActivationKind, Architecture, ClassifierConfig, GateKind, Sharing,
    plan::{ActivationPlan, ConvPlan, Plan, SePlan},
};
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
    let plan = config.plan().map_err(|e| TrainError::Classifier(e.to_string()))?;
    let state = file.translate(&config, &plan).map_err(refuse)?;
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
    fn translate(mut self, config: &ClassifierConfig, plan: &Plan) -> Import<State> {
        let mut state = State::new();
        for stage in &plan.features {
            self.convolution(&stage.conv, &mut state)?;
            self.squeeze_excite(stage.se.as_ref(), &mut state)?;
        }
        for block in plan.layers.iter().flatten() {
            for conv in [&block.conv1, &block.conv2].into_iter().chain(&block.shortcut) {
                self.convolution(conv, &mut state)?;
            }
            self.squeeze_excite(block.se.as_ref(), &mut state)?;
        }
        if let Some(hidden) = &plan.hidden {
            self.linear("hidden.linear", [hidden.inputs, hidden.outputs], &mut state)?;
        }
        self.linear("head", [plan.head_inputs, plan.labels], &mut state)?;
        self.activations(config, plan, &mut state)?;
        self.finish()?;
        Ok(state)
    }

    fn convolution(&mut self, plan: &ConvPlan, state: &mut State) -> Import<()> {
        let (k, o) = (plan.kernel, plan.out_channels);
        let shape = vec![o, plan.in_channels / plan.groups, k, k];
        let from = names::published(self.architecture, &plan.name);
        let to = format!("{}.weight", plan.name);
        let weight = self.get(&format!("{from}.weight"), &shape, &to)?;
        state.insert(to, (shape, weight));
        let bias = self.find(&format!("{from}.bias"), &[o])?;
        let Some(norm) = &plan.batch_norm else {
            state.insert(format!("{}.bias", plan.name), (vec![o], bias.unwrap_or_else(|| vec![0.0; o])));
            return Ok(());
        };
        let from = names::published(self.architecture, norm);
        for part in ["weight", "bias", "running_mean", "running_var"] {
            let (source, target) = (format!("{from}.{part}"), format!("{norm}.{part}"));
            let mut values = self.get(&source, &[o], &target)?;
            if let ("running_mean", Some(bias)) = (part, &bias) {
                for (mean, bias) in values.iter_mut().zip(bias) {
                    *mean -= bias;
                }
            }
            if let ("running_var", Some(&value)) = (part, values.iter().find(|v| **v < 0.0)) {
                let name = self.name(&source);
                return Err(ImportError::Value { name, value, problem: "a variance is never below zero" });
            }
            state.insert(target, (vec![o], values));
        }
        Ok(())
    }

    fn linear(&mut self, ours: &str, [inputs, outputs]: [usize; 2], state: &mut State) -> Import<()> {
        let from = names::published(self.architecture, ours);
        let to = format!("{ours}.weight");
        let weight = self.get(&format!("{from}.weight"), &[outputs, inputs], &to)?;
        state.insert(to, (vec![outputs, inputs], weight));
        let bias = self.find(&format!("{from}.bias"), &[outputs])?.unwrap_or_else(|| vec![0.0; outputs]);
        state.insert(format!("{ours}.bias"), (vec![outputs], bias));
        Ok(())
    }

    fn squeeze_excite(&mut self, plan: Option<&SePlan>, state: &mut State) -> Import<()> {
        let Some(se) = plan else { return Ok(()) };
        self.linear(&format!("{}.squeeze", se.name), [se.channels, se.hidden], state)?;
        self.linear(&format!("{}.excite", se.name), [se.hidden, se.channels], state)
    }

    fn activations(&mut self, config: &ClassifierConfig, plan: &Plan, state: &mut State) -> Import<()> {
        let mut hidden: Vec<&ActivationPlan> = vec![];
        let mut gates = vec![];
        let blocks = plan.layers.iter().flatten();
        let in_se = plan.features.iter().map(|s| &s.se).chain(blocks.clone().map(|b| &b.se));
        for se in in_se.flatten() {
            hidden.push(&se.act);
            gates.push(&se.gate);
        }
        hidden.extend(plan.features.iter().map(|s| &s.act));
        hidden.extend(blocks.flat_map(|b| std::iter::once(&b.act1).chain(&b.act2)));
        hidden.extend(plan.hidden.iter().map(|h| &h.act));
        if config.activation.kind == ActivationKind::Polyact {
            self.trained(&hidden, "activation.coefficients", &["c", "beta", "alpha"], state)?;
        }
        if config.gate.kind == GateKind::ApproxSigmoid {
            self.trained(&gates, "gate.coefficients", &["c", "beta", "", "alpha"], state)?;
        }
        Ok(())
    }

    /// Coefficients of activations of one kind; `parts` are the tensors of the ascending powers, empty where there is none.
    fn trained(
        &mut self,
        plans: &[&ActivationPlan],
        shared: &str,
        parts: &[&str],
        state: &mut State,
    ) -> Import<()> {
        let mut of_network: Option<(String, Vec<f32>)> = None;
        for plan in plans {
            let published = names::published(self.architecture, &plan.name);
            let rows = if plan.sharing == Sharing::Channel { plan.channels } else { 1 };
            let found = self.coefficients(&published, rows, parts)?;
            if plan.sharing != Sharing::Network {
                let target = format!("{}.coefficients", plan.name);
                let Some(values) = found else {
                    return Err(self.missing(&format!("{published}.{}", parts[parts.len() - 1]), &target));
                };
                state.insert(target, (vec![rows, parts.len()], values));
                continue;
            }
            // A file may hold a shared object under one name only.
            let Some(values) = found else { continue };
            let name = self.name(&published);
            match &of_network {
                Some((one, first)) if *first != values => {
                    return Err(ImportError::NotShared { one: one.clone(), other: name });
                }
                Some(_) => {}
                None => of_network = Some((name, values)),
            }
        }
        let Some(first) = plans.iter().find(|plan| plan.sharing == Sharing::Network) else { return Ok(()) };
        let Some((_, values)) = of_network else {
            let published = names::published(self.architecture, &first.name);
            return Err(self.missing(&format!("{published}.{}", parts[parts.len() - 1]), shared));
        };
        state.insert(shared.to_owned(), (vec![1, parts.len()], values));
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
