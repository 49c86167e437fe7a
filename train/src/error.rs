//! What can go wrong in training, each with what was expected, what came and what to do.

use std::path::PathBuf;

use thiserror::Error;

/// Why a stage stopped.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A configuration that cannot be understood.
    #[error("{file}: {path}: {problem}", file = file.display())]
    Config {
        /// The configuration file.
        file: PathBuf,
        /// Path of the field, for example `vqgan.train.batch`.
        path: String,
        /// What was expected and what came.
        problem: String,
    },
    /// An override that cannot be understood.
    #[error("--set {text}: {problem}; write it as --set section.field=value, for example --set run.seed=7")]
    Override {
        /// The override as given.
        text: String,
        /// What was expected.
        problem: String,
    },
    /// A value that parses but makes no sense.
    #[error("{field} is {found}; {expected}")]
    Value {
        /// Path of the field.
        field: &'static str,
        /// What came.
        found: String,
        /// What was expected and what to do.
        expected: String,
    },
    /// The data set.
    #[error(transparent)]
    Data(#[from] datasets::DataError),
    /// The shape of the VQGAN.
    #[error(transparent)]
    Vqgan(#[from] vqgan::VqganConfigError),
    /// The shape of the classifier.
    #[error("classifier.model: {0}")]
    Classifier(String),
    /// A split that a stage needs holds nothing.
    #[error("the data set has no {split} films; {advice}")]
    EmptySplit {
        /// The split.
        split: datasets::Split,
        /// What to do.
        advice: &'static str,
    },
    /// A checkpoint that cannot be used.
    #[error("{file}: not a usable checkpoint: {problem}; {advice}", file = file.display())]
    Checkpoint {
        /// The checkpoint.
        file: PathBuf,
        /// What was expected and what came.
        problem: String,
        /// What to do.
        advice: String,
    },
    /// A classifier from elsewhere that cannot be taken over.
    #[error("{file}: {source}", file = file.display())]
    Import {
        /// The file with its weights.
        file: PathBuf,
        /// What does not fit.
        source: crate::import::error::ImportError,
    },
    /// A checkpoint, or cached latents, that an earlier stage should have written.
    #[error("{file}: not found; {advice}", file = file.display())]
    Missing {
        /// The file.
        file: PathBuf,
        /// What to run first.
        advice: String,
    },
    /// The run folder holds a run of another configuration.
    #[error(
        "{file} belongs to a run with another configuration ({difference}); choose another run folder (--out), or remove that file to begin again",
        file = file.display()
    )]
    OtherRun {
        /// The checkpoint found there.
        file: PathBuf,
        /// The first section that differs.
        difference: String,
    },
    /// The films do not fit the network.
    #[error("{what}: expected {expected}, found {found}; {advice}")]
    Mismatch {
        /// What does not fit.
        what: &'static str,
        /// What the network expects.
        expected: String,
        /// What came.
        found: String,
        /// What to do.
        advice: String,
    },
    /// The loss or a gradient is no longer a number.
    #[error(
        "{stage}: the {quantity} became {value} at step {step}{place}, on {batch}; the last checkpoint is kept. Look at these films (`veilray data check`), lower the learning rate, clip gradients (clip_norm), or strengthen range_penalty",
        batch = few(films)
    )]
    NotFinite {
        /// The stage.
        stage: &'static str,
        /// `loss` or `gradient`.
        quantity: &'static str,
        /// The value.
        value: f64,
        /// The step, counted from 1.
        step: u64,
        /// The first parameter or layer concerned, if known.
        place: String,
        /// Names of the films of that batch.
        films: Vec<String>,
    },
    /// The user asked to stop; nothing is lost.
    #[error("{stage} was interrupted at step {step}; run the same command again to continue from {file}", file = file.display())]
    Interrupted {
        /// The stage.
        stage: &'static str,
        /// Steps done.
        step: u64,
        /// The checkpoint that holds them.
        file: PathBuf,
    },
    /// A device that this build does not have.
    #[error(
        "run.device is {found:?}, but this build knows: {known}; build with the feature of that device, or choose one of these"
    )]
    Device {
        /// What was asked for.
        found: String,
        /// What there is.
        known: String,
    },
    /// A device that this machine does not have.
    #[error(
        "run.device names {name:?}, but this machine has {found} devices of {kind}, counted from 0: name one that there is, or flex for the CPU"
    )]
    NoDevice {
        /// What was asked for.
        name: String,
        /// Its kind.
        kind: String,
        /// How many of them there are.
        found: usize,
    },
    /// The operating system refused something.
    #[error("{file}: could not {action}: {source}{advice}", file = file.display(), advice = datasets::advice_on_space(source))]
    Io {
        /// The file.
        file: PathBuf,
        /// What was being done.
        action: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
}

impl TrainError {
    /// Wraps an I/O error with the file and what was being done to it.
    pub(crate) fn io(file: impl Into<PathBuf>, action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let file = file.into();
        move |source| Self::Io { file, action, source }
    }
}

impl From<networks::NetworkError> for TrainError {
    fn from(error: networks::NetworkError) -> Self {
        Self::Classifier(error.to_string())
    }
}

impl From<classifier::ClassifierError> for TrainError {
    fn from(error: classifier::ClassifierError) -> Self {
        Self::Classifier(error.to_string())
    }
}

impl From<durable::Error> for TrainError {
    fn from(error: durable::Error) -> Self {
        Self::Io { file: error.path, action: error.step, source: error.source }
    }
}

/// Names of films as a message shows them.
fn few(films: &[String]) -> String {
    const SHOWN: usize = 8;
    let shown = films.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    let count = films.len();
    match count.checked_sub(SHOWN) {
        Some(rest @ 1..) => {
            format!("a batch of {count} films: {shown} and {rest} more (not-finite.json has all)")
        }
        _ => format!("a batch of {count} films: {shown}"),
    }
}

/// The result of everything in this crate.
pub type Result<T> = std::result::Result<T, TrainError>;
