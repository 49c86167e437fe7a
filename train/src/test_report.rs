//! Both networks on the test films, once they are trained: the figures that a paper would print.
//!
//! | figure | against |
//! |---|---|
//! | PSNR, SSIM, codes in use of the VQGAN | k-means: as many words of `f x f` pixels as the codebook has, at the same rate |
//! | AUROC and F1 of the classifier, with 95 % intervals over patients | |
//! | the largest pre-activation of each layer | the interval that its polynomial is meant for |
//!
//! Nothing here feeds back into training: weights and epochs were chosen on validation films.

use std::{path::Path, sync::Arc};

use burn::tensor::Device;
use classifier::{Intervals, Metrics, bootstrap::ROUNDS};
use datasets::{FilmDataset, LatentSet, Split};
use serde::{Deserialize, Serialize};
use vqgan::{codebook::Words, quality::psnr};

use crate::{
    Config, Result, Session, TrainError, VqganFigures,
    classifier_stage::{LayerRange, LoadedClassifier, evaluate, load_classifier, logits, ranges},
    films::{Films, to_pixels},
    sampler::derived_seed,
    vqgan_stage::{evaluate_vqgan, load_vqgan},
};

/// Patches that the k-means baseline learns from, and its iterations.
const PATCHES: usize = 65_536;
const ITERATIONS: usize = 12;

/// The columns of `test.csv`.
const HEAD: &str = "figure,value,low,high\n";

/// k-means on patches: what a codebook of words of `f x f` pixels reconstructs at the VQGAN's rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// Words.
    pub words: usize,
    /// Side of a word in pixels.
    pub side: usize,
    /// PSNR on the same films, in dB.
    pub psnr: f64,
}

/// What a VQGAN makes of the test films.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reconstruction {
    /// Its reconstructions.
    pub vqgan: VqganFigures,
    /// k-means on the same films.
    pub baseline: Baseline,
}

impl Reconstruction {
    fn rows(&self) -> [(&'static str, Option<f64>); 4] {
        [
            ("VQGAN PSNR", Some(self.vqgan.psnr)),
            ("VQGAN SSIM", self.vqgan.ssim),
            ("VQGAN codes used", Some(self.vqgan.codes_used)),
            ("k-means PSNR", Some(self.baseline.psnr)),
        ]
    }
}

/// All figures of a run on its test films.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TestReport {
    /// The VQGAN.
    #[serde(flatten)]
    pub reconstruction: Reconstruction,
    /// Films in the test split.
    pub films: usize,
    /// Metrics of the classifier.
    pub classifier: Metrics,
    /// Their 95 % intervals over patients.
    pub intervals: Intervals,
    /// The largest pre-activations.
    pub ranges: Vec<LayerRange>,
}

impl TestReport {
    /// The layers whose pre-activations left their interval.
    #[must_use]
    pub fn outside(&self) -> Vec<&LayerRange> {
        self.ranges.iter().filter(|layer| layer.largest.is_nan() || layer.largest > layer.interval).collect()
    }

    /// Figure, value, low and high end of its interval, as CSV.
    #[must_use]
    pub fn csv(&self) -> String {
        let mut text = String::from(HEAD);
        let mut row = |name: &str, value, interval| text.push_str(&line(name, value, interval));
        let (m, i) = (&self.classifier, &self.intervals);
        for (name, pair, interval) in
            [("macro", m.macro_, i.macro_), ("micro", m.micro, i.micro), ("weighted", m.weighted, i.weighted)]
        {
            row(&format!("{name} AUROC"), pair.auroc, interval.auroc);
            row(&format!("{name} F1"), pair.f1, interval.f1);
        }
        for class in &m.classes {
            let interval = i.classes.get(&class.label).copied().unwrap_or_default();
            let label = class.label.replace(',', " ");
            row(&format!("{label} AUROC"), class.pair.auroc, interval.auroc);
            row(&format!("{label} F1"), class.pair.f1, interval.f1);
        }
        for (name, value) in self.reconstruction.rows() {
            row(name, value, None);
        }
        for layer in &self.ranges {
            row(&format!("largest {}", layer.layer), Some(layer.largest), None);
        }
        text
    }
}

/// Measures both networks of a run on its test films, and writes `test.json` and `test.csv` into its folder.
///
/// # Errors
///
/// A network is missing or does not fit the data, a film cannot be read, or there are no test films.
pub fn test_report(config: &Config, latents: &LatentSet, session: &Session<'_>) -> Result<TestReport> {
    let device = config.run.device()?;
    let classifier = load_classifier(&session.classifier_model(), &device)?;
    let (classifier_metrics, intervals) = with_intervals(&classifier, latents, Split::Test, config.run.seed)?;
    let ranges = ranges(&classifier, latents, Split::Test)?;
    let reconstruction = reconstruction(config, &session.vqgan_model(), &device)?;
    let films = latents.indices(Split::Test).len();
    let report = TestReport { reconstruction, films, classifier: classifier_metrics, intervals, ranges };
    write(session.dir(), &report, &report.csv())?;
    Ok(report)
}

/// As [`test_report`], of a run that has no classifier yet: its VQGAN alone, in files of the same names in the VQGAN's folder.
///
/// # Errors
///
/// The VQGAN is missing or does not fit the data, a film cannot be read, or there are no test films.
pub fn test_reconstruction(config: &Config, session: &Session<'_>) -> Result<Reconstruction> {
    let report = reconstruction(config, &session.vqgan_model(), &config.run.device()?)?;
    let rows = report.rows().map(|(name, value)| line(name, value, None));
    write(&session.vqgan_dir(), &report, &(HEAD.to_owned() + &rows.concat()))?;
    Ok(report)
}

/// A line of `test.csv`.
fn line(name: &str, value: Option<f64>, interval: Option<[f64; 2]>) -> String {
    let cell = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
    let [low, high] = [0, 1].map(|end| cell(interval.map(|i| i[end])));
    format!("{name},{},{low},{high}\n", cell(value))
}

fn write(folder: &Path, report: &impl Serialize, csv: &str) -> Result<()> {
    let json = serde_json::to_string_pretty(report).unwrap_or_default();
    durable::write(&folder.join("test.json"), json.as_bytes())?;
    durable::write(&folder.join("test.csv"), csv.as_bytes())?;
    Ok(())
}

/// Metrics of a classifier on a split, and their 95 % intervals over patients; the draws derive from `seed`.
///
/// # Errors
///
/// As [`evaluate`].
pub fn with_intervals(
    classifier: &LoadedClassifier,
    latents: &LatentSet,
    split: Split,
    seed: u64,
) -> Result<(Metrics, Intervals)> {
    let metrics = evaluate(classifier, latents, split)?;
    let indices = latents.indices(split);
    let scores = logits(&classifier.net, &classifier.config, latents, &indices)?;
    let labels = indices.iter().map(|&i| latents.labels[i].clone()).collect::<Vec<_>>();
    let patients = indices.iter().map(|&i| latents.patients[i].clone()).collect::<Vec<_>>();
    let seed = derived_seed(seed, "bootstrap", 0);
    let intervals = Intervals::measure(&latents.label_names, &scores, &labels, &patients, 0.0, ROUNDS, seed)
        .map_err(|e| TrainError::Classifier(e.to_string()))?;
    Ok((metrics, intervals))
}

/// A film and its reconstruction, each row-major with values in `[0, 1]`.
pub type FilmPair = (Vec<f32>, Vec<f32>);

/// Reconstructs the test films with the VQGAN of a run: the figures over all of them, and `pictured` of the films with their
/// reconstructions, evenly spread over the split.
///
/// # Errors
///
/// The VQGAN is missing or does not fit the data, a film cannot be read, or there are no test films.
pub fn reconstruct_test_films(
    config: &Config,
    session: &Session<'_>,
    pictured: usize,
) -> Result<(VqganFigures, Vec<FilmPair>)> {
    let device = config.run.device()?;
    let dataset = Arc::new(FilmDataset::open(&config.data)?);
    let test = films_of(&dataset, Split::Test)?;
    let films = Films::new(Arc::clone(&dataset));
    let (shape, net) = load_vqgan(&session.vqgan_model(), &device)?;
    let (figures, _) = evaluate_vqgan(&net, true, &films, &test, shape.codes)?;
    let mut pairs = Vec::new();
    for film in spread(&test, pictured.min(test.len())) {
        let reconstruction = to_pixels(net.reconstruct(films.tensor(&[film], &device)?, true).film);
        pairs.push((films.pixels(&[film])?, reconstruction.into_iter().next().unwrap_or_default()));
    }
    Ok((figures, pairs))
}

/// The films of a split, at least one.
fn films_of(dataset: &FilmDataset, split: Split) -> Result<Vec<usize>> {
    match dataset.indices(split) {
        films if films.is_empty() => {
            Err(TrainError::EmptySplit { split, advice: "check data.limits and the data set's own lists" })
        }
        films => Ok(films),
    }
}

fn reconstruction(config: &Config, model: &Path, device: &Device) -> Result<Reconstruction> {
    let dataset = Arc::new(FilmDataset::open(&config.data)?);
    let (train, test) = (films_of(&dataset, Split::Train)?, films_of(&dataset, Split::Test)?);
    let films = Films::new(Arc::clone(&dataset));
    let (shape, net) = load_vqgan(model, device)?;
    let (vqgan, _) = evaluate_vqgan(&net, true, &films, &test, shape.codes)?;
    let words = learn_words(config, &films, &train, shape.downsampling_factor(), shape.codes)?;
    let side = dataset.side();
    let mut error = 0.0;
    for batch in test.chunks(256) {
        error += films
            .pixels(batch)?
            .chunks_exact(side * side)
            .map(|film| words.mean_squared_error(film, side))
            .sum::<f64>();
    }
    let baseline = Baseline {
        words: shape.codes,
        side: shape.downsampling_factor(),
        psnr: psnr(error / test.len() as f64),
    };
    Ok(Reconstruction { vqgan, baseline })
}

/// k-means of patches of training films, about evenly drawn from all of them.
fn learn_words(config: &Config, films: &Films, train: &[usize], side: usize, words: usize) -> Result<Words> {
    let film_side = films.dataset().side();
    let per_film = (film_side / side).pow(2);
    let seed = derived_seed(config.run.seed, "k-means words", 0);
    // Enough films for the patches, evenly spread; of each, every stride-th patch.
    let wanted = train.len().min(4096);
    let stride = (wanted * per_film / PATCHES).max(1);
    let mut patches = Vec::new();
    for (number, batch) in spread(train, wanted).chunks(256).enumerate() {
        for (i, film) in films.pixels(batch)?.chunks_exact(film_side * film_side).enumerate() {
            let first = (number * 256 + i) % stride;
            Words::patches(film, film_side, side)
                .skip(first)
                .step_by(stride)
                .for_each(|patch| patches.extend(patch));
        }
    }
    Ok(Words::learn(&patches, side, words, ITERATIONS, seed))
}

/// At most `wanted` of the films, evenly spread over them.
fn spread(films: &[usize], wanted: usize) -> Vec<usize> {
    (0..wanted).map(|i| films[i * films.len() / wanted]).collect()
}
