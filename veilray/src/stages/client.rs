//! `veilray client`: the clinic's side of a service. Films and the secret key stay here.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result, bail};
use he_client::clinic::{fetch_encoder, models};
use he_client::{Clinic, Connection, Options, Passphrase, Step, Vault};
use report::readable_bytes;
use train::progress::StepState;

use super::encrypt::Encoder;
use super::film_name;
use crate::cli::{DiagnoseArguments, EnrollArguments, ServiceArguments};
use crate::context::Context;

/// Steps of the progress bar for one film.
const TICKS: f64 = 100.0;

fn connect(arguments: &ServiceArguments, url: &str) -> Result<Connection> {
    let token = match &arguments.token_file {
        Some(file) => {
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?
        }
        None => std::env::var("VEILRAY_TOKEN")
            .context("give the token with --token-file FILE or in the variable VEILRAY_TOKEN")?,
    };
    let mut options = Options::new(url, &token);
    if let Some(file) = &arguments.authorities {
        options.authorities =
            Some(std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?);
    }
    Ok(Connection::new(options)?)
}

fn passphrase_in(file: &Path) -> Result<Passphrase> {
    let mut text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    Ok(text.into())
}

fn ask(prompt: &str) -> Result<Passphrase> {
    Ok(rpassword::prompt_password(prompt)
        .context("cannot ask for the passphrase: use --passphrase-file")?
        .into())
}

/// Makes keys for a model of a service and uploads the evaluation keys.
///
/// # Errors
/// The service refuses or cannot be reached, or the keys cannot be written.
pub fn enroll(context: &Context, arguments: &EnrollArguments) -> Result<()> {
    let connection = connect(&arguments.service, &arguments.url)?;
    let vault = Vault::new(&arguments.service.keys);
    let passphrase = match &arguments.service.passphrase_file {
        Some(file) => Some(passphrase_in(file)?),
        None if arguments.passphrase || vault.is_sealed() => {
            let first = ask("passphrase of the secret key: ")?;
            if !vault.is_sealed() && first != ask("again: ")? {
                bail!("the two passphrases differ");
            }
            Some(first)
        }
        None => None,
    };
    let model = match &arguments.model {
        Some(model) => model.clone(),
        None => {
            let mut offered = models(&connection)?;
            match (offered.pop(), offered.is_empty()) {
                (Some(only), true) => only.name,
                (last, _) => {
                    offered.extend(last);
                    let names: Vec<_> = offered.iter().map(|m| m.name.to_string()).collect();
                    bail!("the service offers several models: name one of {} with --model", names.join(", "));
                }
            }
        }
    };
    context.say(&format!("making keys for {model}, or finding them, in {}", vault.folder().display()));
    let progress = context.progress();
    let mut begun = false;
    let mut tell = |step| {
        if let Step::Upload(sent, all) = step {
            if !begun {
                progress.start("uploading evaluation keys", all, sent);
                begun = true;
            }
            progress.step(sent, &StepState::default());
        }
    };
    let clinic = Clinic::enrol(connection, &model, vault, passphrase.as_ref(), &mut tell)?;
    let enrolment = clinic.enrolment();
    let said = format!(
        "enrolled: {} of evaluation keys are at {}; the secret key stays in {}",
        readable_bytes(enrolment.key_bytes),
        enrolment.url,
        arguments.service.keys.display()
    );
    if begun {
        progress.finish(&said);
    } else {
        context.say(&said);
    }
    context
        .say(&format!("next: veilray client diagnose --keys {} FILM...", arguments.service.keys.display()));
    Ok(())
}

/// Encodes, encrypts and sends films, waits, decrypts, and prints the findings.
///
/// # Errors
/// A film cannot be read, or got no result; the others are classified and printed.
pub fn diagnose(context: &Context, arguments: &DiagnoseArguments) -> Result<()> {
    let vault = Vault::new(&arguments.service.keys);
    let enrolment = vault.enrolment()?.with_context(|| {
        format!("there are no keys in {}: `veilray client enroll` makes them", vault.folder().display())
    })?;
    let connection = connect(&arguments.service, &enrolment.url)?;
    let passphrase = match &arguments.service.passphrase_file {
        Some(file) => Some(passphrase_in(file)?),
        None if vault.is_sealed() => Some(ask("passphrase of the secret key: ")?),
        None => None,
    };
    let encoder_path = match &arguments.encoder {
        Some(path) => path.clone(),
        None => fetch_encoder(&connection, &enrolment.model, vault.folder())?
            .context("the service does not hand out the encoder: name it with --encoder FILE")?,
    };
    let encoder = Encoder::of(&encoder_path, &enrolment.model.spec.preprocessing)?;
    let clinic = Clinic::open(connection, vault, passphrase.as_ref())?;
    let (mut paths, mut latents, mut failed) = (vec![], vec![], vec![]);
    for path in &arguments.films {
        context.check("encoding")?;
        match encoder.film(path) {
            Ok(film) => {
                paths.push(path);
                latents.push(encoder.latent(&film).into_iter().map(f64::from).collect::<Vec<f64>>());
            }
            Err(error) => failed.push((path.display().to_string(), anyhow::Error::new(error))),
        }
    }
    let progress = context.progress();
    let all = latents.len() as u64 * TICKS as u64;
    progress.start("classifying on ciphertexts", all, 0);
    let ticks: Vec<AtomicU64> = latents.iter().map(|_| AtomicU64::new(0)).collect();
    let tell = |step| {
        if let Step::Job(index, _, done) = step {
            ticks[index].store((done * TICKS) as u64, Ordering::Relaxed);
            let sum = ticks.iter().map(|t| t.load(Ordering::Relaxed)).sum();
            progress.step(sum, &StepState::default());
        }
    };
    let results = clinic.diagnose_all(&latents, arguments.at_once, context.interrupt(), &tell);
    progress.finish(&format!("{} films came back", results.iter().filter(|r| r.is_ok()).count()));
    let mut films = vec![];
    for (path, result) in paths.into_iter().zip(results) {
        match result {
            Ok(logits) => films.push((film_name(path), logits)),
            Err(error) => failed.push((path.display().to_string(), anyhow::Error::new(error))),
        }
    }
    super::decrypt::print(
        &clinic.enrolment().model.spec.labels,
        &films,
        arguments.labels_only,
        arguments.json,
    );
    if !films.is_empty() {
        context.say("these numbers must not go back to the service: see SECURITY.md, IND-CPA-D");
    }
    for (film, error) in &failed {
        eprintln!("{film}: {error}");
    }
    match failed.into_iter().next() {
        Some((film, error)) => Err(error.context(format!("{film} got no result"))),
        None => Ok(()),
    }
}
