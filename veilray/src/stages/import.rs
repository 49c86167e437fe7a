//! `veilray import`: PyTorch weights become the classifier of a run.

use anyhow::Result;
use train::import::{Mapping, import_classifier};

use crate::cli::ImportClassifierArguments;
use crate::context::{Context, configuration};

/// Takes the classifier of a configuration from PyTorch weights.
///
/// # Errors
/// As [`Mapping::read`] and [`import_classifier`].
pub fn run(context: &Context, arguments: &ImportClassifierArguments) -> Result<()> {
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
