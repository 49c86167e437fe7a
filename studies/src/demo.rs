//! The demo: the whole idea, from films to an encrypted diagnosis, and a report of it.
//!
//! Each step is the job of the subcommand of the same name, and the sides meet through files only: the server's step
//! reads the model, the evaluation keys and the ciphertexts. A demo that was interrupted continues where it was.

mod outcome;
pub mod page;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use datasets::FilmDataset;
use he_runtime::{Circuit, ClientSpec, EncryptedTensor, LayerTime, ServerKeys};
use pipeline::batches::Batch;
use pipeline::error::{Explain as _, Result};
use pipeline::files::{make_folder, size_of};
use pipeline::infer::Service;
use pipeline::latents::{HeldOut, held_out_of};
use pipeline::{Context, RunFolder, encrypt, eval, export, keygen};
use report::{readable_bytes, readable_time};
use train::{Config, Session, encode_latents, train_classifier, train_vqgan};

use self::outcome::median;

pub use self::outcome::Outcome;

/// Runs the demo in the run folder of `config` and writes its page there; `fresh` begins again, and is needed where the
/// configuration of the training changed.
///
/// # Errors
/// Whatever a step reports.
pub fn run(context: &Context, config: Config, fresh: bool) -> Result<Outcome> {
    let folder = RunFolder::new(&config.run.dir);
    if fresh {
        clear(&folder, &context.session(&config.run.dir))?;
    }
    make_folder(&config.run.dir)?;
    let outcome = stages(context, config)?;
    page::write(context, &outcome, &folder)?;
    Ok(outcome)
}

/// Removes what an earlier demo left, and nothing else.
fn clear(folder: &RunFolder, session: &Session<'_>) -> Result<()> {
    let keys = folder.keys();
    for folder in [
        session.vqgan_dir(),
        session.classifier_dir(),
        keys.dir().to_owned(),
        folder.encrypted(),
        folder.results(),
    ] {
        if folder.exists() {
            std::fs::remove_dir_all(&folder).explain(|| format!("cannot remove {}", folder.display()))?;
        }
    }
    for file in [
        session.latents(),
        folder.model(),
        folder.export_report(),
        folder.ranges(),
        folder.evaluation(),
        folder.report(),
        session.dir().join("config.toml"),
    ] {
        if file.exists() {
            std::fs::remove_file(&file).explain(|| format!("cannot remove {}", file.display()))?;
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
    let chosen = held_out_of(&config, &latents)?;
    let films = HeldOut { dataset: &dataset, latents: &latents, chosen: &chosen };
    clock.stage("client: encode and encrypt films", || {
        encrypt::encrypt_run(context, films, &model, &session.vqgan_model(), &folder)?;
        context.say(&format!("{} films encrypted -> {}", chosen.len(), folder.encrypted().display()));
        Ok(())
    })?;
    let spec = Circuit::new(&model)?.spec;
    let batches =
        Batch::group(&spec, &ServerKeys::identity_in(&folder.keys().evaluation())?, &films.names())?;
    let (encrypted_times, layers, memory) =
        clock.stage("server: classify ciphertexts", || classify(context, &batches, &spec, &folder))?;
    let evaluation = clock.stage("client: decrypt and compare", || {
        eval::compare(&config, &latents, &model, &folder, &session.classifier_model())
    })?;
    eval::save(&evaluation, &folder.evaluation())?;

    let sizes = sizes(&folder, &spec, &batches[0], memory);
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

/// Sizes of the files that travel or stay, and of the server's memory where it ran.
fn sizes(folder: &RunFolder, spec: &ClientSpec, first: &Batch, memory: Option<u64>) -> Vec<(String, u64)> {
    let keys = folder.keys();
    let (encrypted, result) = (first.ciphertext(&folder.encrypted()), first.ciphertext(&folder.results()));
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
    sizes
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
