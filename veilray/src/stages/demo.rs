//! `veilray demo`: the whole idea, from films to an encrypted diagnosis, and a report of it.
//!
//! Each step is the code of the subcommand of the same name, and the sides meet through files only: the server's step
//! reads the model, the evaluation keys and the ciphertexts. A demo that was interrupted continues where it was;
//! `--fresh` begins again, and is needed where the configuration of the training changed.

mod page;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use datasets::{FilmDataset, LatentSet};
use he_model::HeModel;
use he_runtime::{Circuit, ClientSpec, EncryptedTensor, LayerTime, ServerKeys};
use report::{readable_bytes, readable_time};
use train::{ClassifierReport, Config, VqganReport, encode_latents, train_classifier, train_vqgan};

use super::encrypt::{self, Encoder};
use super::eval::{self, Evaluation};
use super::infer::Service;
use super::{export, keygen, make_folder};
use crate::batches::Batch;
use crate::cli::DemoArguments;
use crate::context::{Context, size_of};
use crate::run_folder::RunFolder;

/// The configuration that `demo` runs unless told otherwise.
const BUILT_IN: &str = include_str!("../../../configs/demo.toml");

/// Everything that the page at the end shows.
pub struct Outcome {
    /// What was run.
    pub config: Config,
    /// One line on the films.
    pub data: String,
    /// What training the VQGAN gave.
    pub vqgan: VqganReport,
    /// What training the classifier gave.
    pub classifier: ClassifierReport,
    /// The exported model.
    pub model: HeModel,
    /// The report of the export, as text.
    pub export: String,
    /// Clear against encrypted.
    pub evaluation: Evaluation,
    /// Time of each stage in this invocation.
    pub stages: Vec<(String, Duration)>,
    /// Time of the encrypted evaluation of each ciphertext that was classified in this invocation.
    pub encrypted_times: Vec<Duration>,
    /// Time of each layer for the last ciphertext classified in this invocation.
    pub layers: Vec<LayerTime>,
    /// Sizes of the files that travel or stay, and of the server's memory.
    pub sizes: Vec<(String, u64)>,
}

/// Runs the demo.
///
/// # Errors
/// Whatever a stage reports.
pub fn run(context: &Context, arguments: &DemoArguments) -> Result<()> {
    let config = configuration(arguments)?;
    let dir = &config.run.dir;
    if arguments.fresh && dir.exists() {
        clear(dir)?;
    }
    make_folder(dir)?;
    let outcome = stages(context, config)?;
    let folder = RunFolder::new(&outcome.config.run.dir);
    eval::print(&outcome.evaluation);
    print!("{}{}", page::time_table(&outcome).to_text(), page::size_table(&outcome).to_text());
    print!("{}", page::parameter_table(&outcome).to_text());
    page::write(context, &outcome, &folder)?;
    println!("report: {}", folder.report().display());
    println!("TensorBoard logs: {}", folder_of_logs(&outcome.config).display());
    Ok(())
}

fn folder_of_logs(config: &Config) -> PathBuf {
    config.run.dir.clone()
}

/// The built-in configuration or the user's, with the overrides of the command line.
fn configuration(arguments: &DemoArguments) -> Result<Config> {
    let mut overrides = arguments.overrides.clone();
    if let Some(films) = arguments.films {
        overrides.push(format!("encrypted.films={films}"));
    }
    let mut config = match &arguments.config {
        Some(file) => train::config::read(file, &overrides)?,
        None => train::config::parse(BUILT_IN, Path::new("the built-in demo configuration"), &overrides)?,
    };
    if let Some(data) = &arguments.data {
        config.data.source = datasets::detect(data)?;
        if arguments.out.is_none() && arguments.config.is_none() {
            config.run.dir = PathBuf::from("runs").join(format!("demo-{}", run_name(data)));
        }
    }
    if let Some(out) = &arguments.out {
        config.run.dir.clone_from(out);
    }
    Ok(config)
}

/// A folder name for the demo on other films: the last part of their path.
fn run_name(data: &Path) -> String {
    data.file_stem().map_or_else(|| "films".to_owned(), |stem| stem.to_string_lossy().into_owned())
}

/// Removes what an earlier demo left, and nothing else.
fn clear(dir: &Path) -> Result<()> {
    for name in ["vqgan", "classifier", "keys", "encrypted", "results"] {
        let folder = dir.join(name);
        if folder.exists() {
            std::fs::remove_dir_all(&folder)
                .with_context(|| format!("cannot remove {}", folder.display()))?;
        }
    }
    for name in
        ["latents.safetensors", "model.safetensors", "export.json", "eval.json", "report.html", "config.toml"]
    {
        let file = dir.join(name);
        if file.exists() {
            std::fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
        }
    }
    Ok(())
}

/// Names and times stages.
struct Clock<'a> {
    context: &'a Context,
    stages: Vec<(String, Duration)>,
}

impl Clock<'_> {
    fn stage<T>(&mut self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.context.check(name)?;
        self.context.say(&format!("== {name}"));
        let started = Instant::now();
        let result = work()?;
        self.stages.push((name.to_owned(), started.elapsed()));
        Ok(result)
    }
}

fn stages(context: &Context, config: Config) -> Result<Outcome> {
    let folder = RunFolder::new(&config.run.dir);
    let session = context.session(&config.run.dir);
    let mut clock = Clock { context, stages: Vec::new() };

    let dataset = clock.stage("films", || Ok(FilmDataset::open(&config.data)?))?;
    context.say(&dataset.describe());
    let vqgan = clock.stage("train the VQGAN", || Ok(train_vqgan(&config, &session)?))?;
    let latents = clock.stage("encode films into latents", || Ok(encode_latents(&config, &session)?))?;
    let classifier =
        clock.stage("train the classifier", || Ok(train_classifier(&config, &latents, &session)?))?;
    let (model, report) = clock.stage("export", || {
        export::export_run(context, &config, &latents, &session.classifier_model(), &folder)
    })?;
    clock.stage("client: make keys", || keygen::ensure(context, &model, &folder))?;
    let chosen = encrypt::held_out_of(&config, &latents)?;
    clock.stage("client: encode and encrypt films", || {
        encrypt_films(context, &dataset, &latents, &chosen, &model, &session.vqgan_model(), &folder)
    })?;
    let spec = Circuit::new(&model)?.spec;
    let ids: Vec<String> = chosen.iter().map(|&index| latents.ids[index].clone()).collect();
    let batches = Batch::group(&spec, &ServerKeys::identity_in(&folder.keys().evaluation())?, &ids)?;
    let (encrypted_times, layers, memory) =
        clock.stage("server: classify ciphertexts", || classify(context, &batches, &spec, &folder))?;
    let evaluation = clock.stage("client: decrypt and compare", || {
        eval::compare(&config, &latents, &model, &folder, &session.classifier_model())
    })?;
    eval::save(&evaluation, &folder.evaluation())?;

    let keys = folder.keys();
    let (encrypted, result) =
        (batches[0].ciphertext(&folder.encrypted()), batches[0].ciphertext(&folder.results()));
    let one = match spec.films() {
        1 => "film".to_owned(),
        films => format!("batch of up to {films} films"),
    };
    let mut sizes = vec![
        ("HE-ready model file".to_owned(), size_of(&folder.model())),
        ("evaluation keys (to the server, once)".to_owned(), size_of(&keys.evaluation())),
        ("public key".to_owned(), size_of(&keys.public())),
        ("secret key (stays with the client)".to_owned(), size_of(&keys.secret())),
        (format!("one encrypted {one}"), size_of(&encrypted)),
        (format!("one encrypted result of a {one}"), size_of(&result)),
    ];
    if let Some(memory) = memory {
        sizes.push(("server memory: keys and encoded weights".to_owned(), memory));
    }
    Ok(Outcome {
        data: dataset.describe(),
        stages: clock.stages,
        export: report,
        vqgan,
        classifier,
        model,
        evaluation,
        encrypted_times,
        layers,
        sizes,
        config,
    })
}

/// Encrypts the chosen films, except those that are encrypted already.
fn encrypt_films(
    context: &Context,
    dataset: &FilmDataset,
    latents: &LatentSet,
    chosen: &[usize],
    model: &HeModel,
    encoder: &Path,
    folder: &RunFolder,
) -> Result<()> {
    let spec = Circuit::new(model)?.spec;
    let keys = encrypt::EncryptionKeys::load(&spec.parameters()?, &folder.keys())?;
    let encoder = Encoder::load(encoder, model)?;
    let client = (&spec, &keys, &encoder);
    encrypt::encrypt_held_out(context, client, dataset, latents, chosen, &folder.encrypted())?;
    context.say(&format!("{} films encrypted -> {}", chosen.len(), folder.encrypted().display()));
    Ok(())
}

/// Times of the ciphertexts, times of the layers of the last one, bytes in the server's memory.
type Classified = (Vec<Duration>, Vec<LayerTime>, Option<u64>);

/// Classifies ciphertexts, except those whose results are there already.
fn classify(
    context: &Context,
    batches: &[Batch],
    spec: &ClientSpec,
    folder: &RunFolder,
) -> Result<Classified> {
    make_folder(&folder.results())?;
    let parameters = spec.parameters()?;
    let is_done = |file: &Path| file.exists() && EncryptedTensor::load_logits(&parameters, file).is_ok();
    let waiting: Vec<PathBuf> = batches
        .iter()
        .filter(|batch| !is_done(&batch.ciphertext(&folder.results())))
        .map(|batch| batch.ciphertext(&folder.encrypted()))
        .collect();
    if waiting.is_empty() {
        context.say("all results are there from an earlier run");
        return Ok((Vec::new(), Vec::new(), None));
    }
    let service = Service::start(context, &folder.model(), &folder.keys().evaluation())?;
    let (mut times, mut layers) = (Vec::new(), Vec::new());
    for input in &waiting {
        let (_, time, of_layers) = service.classify(context, input, &folder.results())?;
        times.push(time);
        layers = of_layers;
    }
    context.say(&format!(
        "{} ciphertexts classified; median {}; {} in the server's memory",
        times.len(),
        median(&times).map_or_else(String::new, readable_time),
        readable_bytes(service.bytes())
    ));
    Ok((times, layers, Some(service.bytes())))
}

/// The middle of the times.
pub fn median(times: &[Duration]) -> Option<Duration> {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied()
}
