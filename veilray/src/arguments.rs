//! Arguments that several subcommands share, and what they stand for.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use pipeline::RunFolder;
use train::Config;

/// A configuration and what overrides it.
#[derive(Debug, Clone, Args)]
pub struct RunArguments {
    /// Configuration file (TOML). `configs/` holds one for each run that a user would start.
    #[arg(long, short, value_name = "FILE")]
    pub config: PathBuf,
    /// Override one value, for example `--set classifier.train.epochs=3`. Can be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Run folder; overrides `run.dir` of the configuration.
    #[arg(long, short, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Reads the configuration of a run, with its overrides.
///
/// # Errors
/// As [`train::config::read`].
pub fn configuration(arguments: &RunArguments) -> Result<Config> {
    let mut config = train::config::read(&arguments.config, &arguments.overrides)?;
    if let Some(out) = &arguments.out {
        config.run.dir.clone_from(out);
    }
    Ok(config)
}

/// Where the encrypted side of a run lies. Each path can be given alone; `--config` gives those left out.
#[derive(Debug, Clone, Args)]
pub struct PathArguments {
    /// Configuration whose run folder holds model, keys and ciphertexts.
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Override one value of the configuration. Can be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE", requires = "config")]
    pub overrides: Vec<String>,
    /// HE-ready model (`export` writes it).
    #[arg(long, short, value_name = "FILE")]
    pub model: Option<PathBuf>,
}

/// A run's configuration and folder, where the user named one, and the model.
pub struct Located {
    /// The configuration, if one was named.
    pub config: Option<Config>,
    /// Its run folder.
    pub folder: Option<RunFolder>,
    /// The HE-ready model.
    pub model: PathBuf,
}

/// Resolves what the user gave to a configuration, a run folder and a model file.
///
/// # Errors
/// Neither a model nor a configuration was named, or the configuration cannot be read.
pub fn locate(arguments: &PathArguments) -> Result<Located> {
    let config = match &arguments.config {
        Some(file) => Some(train::config::read(file, &arguments.overrides)?),
        None => None,
    };
    let folder = config.as_ref().map(|config| RunFolder::new(&config.run.dir));
    let model = choose(arguments.model.as_ref(), folder.as_ref().map(RunFolder::model), "--model FILE")?;
    Ok(Located { config, folder, model })
}

/// The path that was given, or that of the run.
///
/// # Errors
/// There is neither.
pub fn choose(given: Option<&PathBuf>, of_run: Option<PathBuf>, option: &str) -> Result<PathBuf> {
    match given.cloned().or(of_run) {
        Some(path) => Ok(path),
        None => bail!("give either --config FILE, whose run folder is used, or {option}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_config_and_model_the_user_is_told_both_ways() {
        let error = choose(None, None, "--model FILE").unwrap_err().to_string();
        assert!(error.contains("--config") && error.contains("--model"), "{error}");
    }
}
