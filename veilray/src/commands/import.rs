//! `veilray import`: PyTorch weights become the classifier of a run.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use classifier::Architecture;
use pipeline::Context;
use train::import::{Mapping, import_classifier};

use crate::arguments::{RunArguments, configuration};

/// Take the classifier from PyTorch weights instead of training one.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The run: its VQGAN makes the latents that the classifier was trained on, its data set names the labels.
    #[command(flatten)]
    pub run: RunArguments,
    /// The network: lenet, vggnet, hefnet, resnet20, resnet32, resnet44 or resnet56. Labels, width, and squeeze and excitation
    /// are read from the weights.
    #[arg(long, short, value_name = "NAME")]
    pub architecture: Architecture,
    /// The weights: `.pt`, `.pth` or `.safetensors`.
    #[arg(long, short, value_name = "FILE")]
    pub weights: PathBuf,
    /// TOML file that says how names and shape differ from the published code (docs/importing.md).
    #[arg(long, short, value_name = "FILE")]
    pub mapping: Option<PathBuf>,
}

/// Takes the classifier of a configuration from PyTorch weights.
///
/// # Errors
/// As [`Mapping::read`] and [`import_classifier`].
pub fn run(context: &Context, arguments: &Arguments) -> Result<()> {
    let config = configuration(&arguments.run)?;
    let session = context.session(&config.run.dir);
    let mapping = match &arguments.mapping {
        Some(file) => Mapping::read(file)?,
        None => Mapping::default(),
    };
    let model = import_classifier(&config, &session, &arguments.weights, arguments.architecture, &mapping)?;
    context.say(&format!(
        "{}{} with {} labels of {} -> {}",
        model.architecture.name(),
        if model.se { " with squeeze and excitation" } else { "" },
        model.labels,
        arguments.weights.display(),
        session.classifier_model().display()
    ));
    context.say(&format!("next: veilray export --config {}", arguments.run.config.display()));
    Ok(())
}
