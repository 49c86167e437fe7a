//! The stages of a cell, each in its folder of the cache: the code of the subcommands, fed with the files of the stage before.

use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::module::Module as _;
use burn::tensor::Device;
use datasets::{FilmDataset, LatentSet, Split};
use he_runtime::{Circuit, ServerKeys};
use pipeline::Context;
use pipeline::RunFolder;
use pipeline::batches::Batch;
use pipeline::error::{Explain as _, Result};
use pipeline::files::{load_model, make_folder, size_of};
use pipeline::infer::Service;
use pipeline::latents::{HeldOut, held_out_of};
use pipeline::require;
use pipeline::settings;
use pipeline::{encrypt, eval, export, keygen};
use report::Picture;
use serde::{Deserialize, Serialize};
use train::{
    Config, encode_latents, load_classifier, load_vqgan, logits, reconstruct_test_films, train_classifier,
    train_vqgan, with_intervals,
};

use super::cache::{Cache, Done, link};
use super::clock::processor_seconds;
use super::key::{Stage, StageKey};
use super::picture::{PICTURED_FILMS, picture_name};
use super::results::{ClassifierResult, EncryptedResult, ExportResult, LatentsResult, VqganResult};

/// One cell's way through the stages.
pub struct Stages<'a> {
    /// Whom to tell, when to stop.
    pub context: &'a Context,
    /// Where results are kept.
    pub cache: &'a Cache,
    /// The cell's configuration.
    pub config: &'a Config,
    /// Its films.
    pub dataset: &'a FilmDataset,
    /// Its keys, in the order of the stages.
    pub keys: &'a [StageKey],
}

impl Stages<'_> {
    fn key(&self, stage: Stage) -> Result<&StageKey> {
        self.keys.iter().find(|key| key.stage == stage).explain(|| "the cell has no such stage")
    }

    /// The folder of a stage that is done.
    pub fn folder(&self, stage: Stage) -> Result<PathBuf> {
        Ok(self.cache.folder(stage, &self.key(stage)?.key))
    }

    /// The configuration for a run in a stage's folder.
    fn config_in(&self, folder: &Path) -> Config {
        let mut config = self.config.clone();
        folder.clone_into(&mut config.run.dir);
        config
    }

    fn vqgan_file(&self) -> Result<PathBuf> {
        Ok(self.context.session(&self.folder(Stage::Vqgan)?).vqgan_model())
    }

    fn classifier_file(&self) -> Result<PathBuf> {
        Ok(self.context.session(&self.folder(Stage::Classifier)?).classifier_model())
    }

    fn latents_of_stage(&self) -> Result<LatentSet> {
        Ok(LatentSet::load(&self.context.session(&self.folder(Stage::Latents)?).latents())?)
    }

    /// Trains the VQGAN.
    ///
    /// # Errors
    /// As [`train_vqgan`].
    pub fn vqgan(&self) -> Result<Done<VqganResult>> {
        self.cache.complete(self.context, self.key(Stage::Vqgan)?, |folder| {
            let report = train_vqgan(&self.config_in(folder), &self.context.session(folder))?;
            Ok(VqganResult { steps: report.steps, training_seconds: report.seconds, validation: report.best })
        })
    }

    /// Encodes all films, and reconstructs those of the test split.
    ///
    /// # Errors
    /// As [`encode_latents`].
    pub fn latents(&self) -> Result<Done<LatentsResult>> {
        self.cache.complete(self.context, self.key(Stage::Latents)?, |folder| {
            let (config, session) = (self.config_in(folder), self.context.session(folder));
            link(&self.vqgan_file()?, &session.vqgan_model())?;
            let latents = encode_latents(&config, &session)?;
            let (figures, pictures) = reconstruct_test_films(&config, &session, PICTURED_FILMS)?;
            for (index, (film, reconstruction)) in pictures.iter().enumerate() {
                save_picture(film, config.data.side, &folder.join(picture_name("film", index)))?;
                let file = folder.join(picture_name("reconstruction", index));
                save_picture(reconstruction, config.data.side, &file)?;
            }
            let (_, net) = load_vqgan(&session.vqgan_model(), &Device::flex())?;
            Ok(LatentsResult {
                films: self.dataset.describe(),
                all_films: self.dataset.len(),
                shape: [latents.channels, latents.height, latents.width],
                factor: config.vqgan.model.downsampling_factor(),
                test: figures,
                parameters: net.num_params(),
            })
        })
    }

    /// Trains the classifier, and measures it on the test films.
    ///
    /// # Errors
    /// As [`train_classifier`].
    pub fn classifier(&self) -> Result<Done<ClassifierResult>> {
        self.cache.complete(self.context, self.key(Stage::Classifier)?, |folder| {
            let (config, session) = (self.config_in(folder), self.context.session(folder));
            let latents = self.latents_of_stage()?;
            // Changed copies of training films are encoded where the configuration asks for them.
            link(&self.vqgan_file()?, &session.vqgan_model())?;
            let report = train_classifier(&config, &latents, &session)?;
            let trained = load_classifier(&session.classifier_model(), &config.run.device()?)?;
            let (test, intervals) = with_intervals(&trained, &latents, Split::Test, config.run.seed)?;
            Ok(ClassifierResult {
                architecture: trained.config.architecture.name().to_owned(),
                se: trained.config.se,
                parameters: trained.net.num_params(),
                epochs: [report.epochs, report.best_epoch],
                training_seconds: report.seconds,
                test_films: latents.indices(Split::Test).len(),
                test,
                intervals,
            })
        })
    }

    /// Exports the classifier.
    ///
    /// # Errors
    /// As [`export::export_run`].
    pub fn export(&self) -> Result<Done<ExportResult>> {
        self.cache.complete(self.context, self.key(Stage::Export)?, |folder| {
            let run = RunFolder::new(folder);
            let (config, latents) = (self.config_in(folder), self.latents_of_stage()?);
            export::export_run(self.context, &config, &latents, &self.classifier_file()?, &run)?;
            let file = run.export_report();
            let report = std::fs::read(&file).explain(|| format!("cannot read {}", file.display()))?;
            serde_json::from_slice(&report).explain(|| format!("cannot understand {}", file.display()))
        })
    }

    /// Classifies test films on ciphertexts and compares. Keys and ciphertexts are removed once the figures are written.
    ///
    /// # Errors
    /// The test split has fewer films than the configuration asks for, or whatever a step of it reports.
    pub fn encrypted(&self) -> Result<Done<EncryptedResult>> {
        let key = self.key(Stage::Encrypted)?;
        let done = self.cache.complete(self.context, key, |folder| self.classify_encrypted(folder))?;
        remove_secrets(&RunFolder::new(self.folder(Stage::Encrypted)?))?;
        Ok(done)
    }

    fn classify_encrypted(&self, folder: &Path) -> Result<EncryptedResult> {
        let (run, config) = (RunFolder::new(folder), self.config_in(folder));
        let latents = self.latents_of_stage()?;
        let asked = settings::encrypted(&config)?.films;
        let available = latents.indices(Split::Test).len();
        require!(
            available >= asked,
            "encrypted.films asks for {asked} films on ciphertexts, the test split has {available}: ask for fewer, or \
             raise data.test_fraction or data.limits.test"
        );
        let chosen = held_out_of(&config, &latents)?;
        let model_file = RunFolder::new(self.folder(Stage::Export)?).model();
        let model = load_model(&model_file)?;
        keygen::ensure(self.context, &model, &run)?;
        let films = HeldOut { dataset: self.dataset, latents: &latents, chosen: &chosen };
        encrypt::encrypt_run(self.context, films, &model, &self.vqgan_file()?, &run)?;
        let spec = Circuit::new(&model)?.spec;
        let batches =
            Batch::group(&spec, &ServerKeys::identity_in(&run.keys().evaluation())?, &films.names())?;
        let timings = self.classify(&batches, &model_file, &run)?;
        let classifier = self.classifier_file()?;
        let evaluation = eval::compare(&config, &latents, &model, &run, &classifier)?;
        require!(
            evaluation.films.len() == asked && timings.len() == asked,
            "{asked} films were to be classified on ciphertexts, {} were",
            evaluation.films.len()
        );
        eval::save(&evaluation, &run.evaluation())?;
        let clear_seconds = clear_times(&classifier, &latents, &chosen)?;
        let largest_difference = evaluation.largest_difference();
        require!(largest_difference.is_finite(), "a decrypted logit is not a number");
        let example = batches[0].ciphertext(&run.encrypted());
        Ok(EncryptedResult {
            asked,
            seconds: timings.iter().map(|timing| timing.seconds).collect(),
            processor_seconds: timings.iter().filter_map(|timing| timing.processor_seconds).collect(),
            clear_seconds,
            clear: evaluation.clear,
            encrypted: evaluation.encrypted,
            largest_difference,
            key_bytes: size_of(&run.keys().evaluation()),
            ciphertext_bytes: size_of(&example),
        })
    }

    /// Classifies films on ciphertexts; the time of each, those of a batch share its time. A batch is done when its result and its time
    /// are there.
    fn classify(&self, batches: &[Batch], model: &Path, run: &RunFolder) -> Result<Vec<Timing>> {
        make_folder(&run.results())?;
        let mut service = None;
        let mut timings = vec![];
        for batch in batches {
            let films = batch.films.len();
            let mut share = |time: Timing| timings.extend(vec![time.shared_by(films); films]);
            let timing = batch.ciphertext(&run.results()).with_extension("json");
            let is_there = batch.ciphertext(&run.results()).exists();
            if let (true, Some(time)) = (is_there, read_timing(&timing)) {
                share(time);
                continue;
            }
            if service.is_none() {
                service = Some(Service::start(self.context, model, &run.keys().evaluation())?);
            }
            let Some(service) = &service else { continue };
            let input = batch.ciphertext(&run.encrypted());
            let before = processor_seconds();
            let (_, time, _) = service.classify(self.context, &input, &run.results())?;
            let spent = before.zip(processor_seconds()).map(|(before, after)| after - before);
            let time = Timing { seconds: time.as_secs_f64(), processor_seconds: spent };
            durable::write(&timing, &serde_json::to_vec(&time)?)?;
            share(time);
        }
        Ok(timings)
    }
}

/// How long one ciphertext took.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Timing {
    seconds: f64,
    processor_seconds: Option<f64>,
}

impl Timing {
    /// Each film's share.
    fn shared_by(self, films: usize) -> Self {
        let share = |seconds: f64| seconds / films as f64;
        Self { seconds: share(self.seconds), processor_seconds: self.processor_seconds.map(share) }
    }
}

fn read_timing(file: &Path) -> Option<Timing> {
    serde_json::from_slice(&std::fs::read(file).ok()?).ok()
}

/// Seconds of the trained network in the clear, one film at a time; a first film that is not counted touches the memory.
fn clear_times(classifier: &Path, latents: &LatentSet, chosen: &[usize]) -> Result<Vec<f64>> {
    let trained = load_classifier(classifier, &Device::flex())?;
    let run = |index: usize| -> Result<f64> {
        let started = Instant::now();
        logits(&trained.net, &trained.config, latents, &[index])?;
        Ok(started.elapsed().as_secs_f64())
    };
    run(chosen[0])?;
    chosen.iter().map(|&index| run(index)).collect()
}

/// Keys, ciphertexts and results: gigabytes that nobody needs once the figures are there.
fn remove_secrets(run: &RunFolder) -> Result<()> {
    for folder in [run.keys().dir().to_owned(), run.encrypted(), run.results()] {
        if folder.exists() {
            std::fs::remove_dir_all(&folder).explain(|| format!("cannot remove {}", folder.display()))?;
        }
    }
    Ok(())
}

/// Writes a film, values in [0, 1], as a grey PNG.
fn save_picture(film: &[f32], side: usize, file: &Path) -> Result<()> {
    let png = Picture::from_values(film, side, side, 0.0, 1.0).to_png()?;
    Ok(durable::write(file, &png)?)
}
