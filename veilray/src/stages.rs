//! One module a subcommand. Each says what it wrote, where, and what to run next.

pub mod bench;
pub mod client;
pub mod data;
pub mod decrypt;
pub mod demo;
pub mod encode;
pub mod encrypt;
pub mod eval;
pub mod export;
pub mod import;
pub mod infer;
pub mod keygen;
pub mod package;
pub mod ranges;
pub mod serve;
pub mod simulate;
pub mod sweep;
pub mod test;
pub mod train;

use std::path::{Path, PathBuf};

use ::train::Config;
use anyhow::{Context as _, Result, bail};
use he_model::HeModel;

use crate::cli::PathArguments;
use crate::run_folder::RunFolder;

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
        Some(file) => Some(::train::config::read(file, &arguments.overrides)?),
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

/// Reads an HE-ready model.
///
/// # Errors
/// The file is not there (says which command makes it) or is refused.
pub fn load_model(path: &Path) -> Result<HeModel> {
    if !path.exists() {
        bail!("there is no HE-ready model at {}: `veilray export` makes it", path.display());
    }
    Ok(HeModel::load(path)?)
}

/// The files in `folder` that end in `.ct`, sorted by name.
///
/// # Errors
/// The folder is missing or holds none; `made_by` is the command that fills it.
pub fn ciphertexts_in(folder: &Path, made_by: &str) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("cannot read {}: `veilray {made_by}` makes it", folder.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read {}", folder.display()))?.path();
        if path.extension().is_some_and(|extension| extension == CIPHERTEXT) {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        bail!("no .{CIPHERTEXT} file in {}: `veilray {made_by}` makes them", folder.display());
    }
    Ok(files)
}

/// Extension of ciphertext files.
pub const CIPHERTEXT: &str = "ct";

/// The file for a film's ciphertext: its name with everything unusual replaced, so that no name leaves the folder.
pub fn ciphertext_file(folder: &Path, film: &str) -> PathBuf {
    let safe: String = film
        .chars()
        .map(
            |character| {
                if character.is_ascii_alphanumeric() || "-_".contains(character) { character } else { '_' }
            },
        )
        .collect();
    folder.join(format!("{safe}.{CIPHERTEXT}"))
}

/// The film's name that a ciphertext file carries.
pub fn film_name(file: &Path) -> String {
    file.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
}

/// Makes a folder and its parents.
///
/// # Errors
/// It cannot be made.
pub fn make_folder(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))
}

/// 1 / (1 + exp(-x)).
pub fn sigmoid(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn film_names_cannot_leave_the_folder() {
        let file = ciphertext_file(Path::new("out"), "../../etc/passwd");
        assert_eq!(file, Path::new("out/______etc_passwd.ct"));
        assert_eq!(film_name(&file), "______etc_passwd");
    }

    #[test]
    fn without_config_and_model_the_user_is_told_both_ways() {
        let error = choose(None, None, "--model FILE").unwrap_err().to_string();
        assert!(error.contains("--config") && error.contains("--model"), "{error}");
    }
}
