//! `veilray client`: the clinic's side of a service. Films and the secret key stay here.

use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use he_client::clinic::{fetch_encoder, models};
use he_client::{Clinic, Connection, Options, Passphrase, Step, Vault};
use pipeline::Context;
use pipeline::encrypt::Encoder;
use pipeline::files::film_name;
use report::readable_bytes;
use train::progress::StepState;

use super::decrypt::print_findings;

/// Clinic: enroll at a service, and have films classified there without showing them.
#[derive(Debug, Args)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What a clinic does.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Make keys for a model of a service and upload the evaluation keys. Repeat it to continue an upload.
    Enroll(EnrollArguments),
    /// Encode, encrypt and send films; wait; decrypt and print the findings.
    Diagnose(DiagnoseArguments),
}

/// Which service, and who is asking.
#[derive(Debug, Args)]
pub struct ServiceArguments {
    /// File with the token that the service's operator gave you; the variable VEILRAY_TOKEN unless given.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Certificates (PEM) to trust instead of those of public authorities.
    #[arg(long, value_name = "FILE")]
    pub authorities: Option<PathBuf>,
    /// Folder of this enrolment: keys, and the model's description.
    #[arg(long, short, value_name = "DIR")]
    pub keys: PathBuf,
    /// File with the passphrase of the secret key.
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}

/// Arguments of `client enroll`.
#[derive(Debug, Args)]
pub struct EnrollArguments {
    /// Address of the service, for example `https://diagnosis.example:8750`.
    #[arg(value_name = "URL")]
    pub url: String,
    /// The model; may be left out if the service has only one.
    #[arg(long, short, value_name = "NAME")]
    pub model: Option<he_protocol::Name>,
    /// The service.
    #[command(flatten)]
    pub service: ServiceArguments,
    /// Put the secret key under a passphrase and ask for it.
    #[arg(long, conflicts_with = "passphrase_file")]
    pub passphrase: bool,
}

/// Arguments of `client diagnose`.
#[derive(Debug, Args)]
pub struct DiagnoseArguments {
    /// The service.
    #[command(flatten)]
    pub service: ServiceArguments,
    /// The encoder's checkpoint; fetched from the service unless given.
    #[arg(long, value_name = "FILE")]
    pub encoder: Option<PathBuf>,
    /// Ciphertexts at once, each with as many films as the model's hold.
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub at_once: usize,
    /// Print yes or no at probability 0.5 instead of numbers: the form that is safe to pass on (SECURITY.md).
    #[arg(long)]
    pub labels_only: bool,
    /// Print JSON instead of a table, with probabilities in full.
    #[arg(long)]
    pub json: bool,
    /// Films (PNG, JPEG, DICOM).
    #[arg(value_name = "FILM", required = true)]
    pub films: Vec<PathBuf>,
}

/// Steps of the progress bar for one film.
const TICKS: f64 = 100.0;

/// Enrolls at a service, or has films classified there.
///
/// # Errors
/// The service refuses or cannot be reached, keys cannot be read or written, or a film got no result; the others are
/// classified and printed.
pub fn run(context: &Context, arguments: &Arguments) -> Result<()> {
    match &arguments.action {
        Action::Enroll(arguments) => enroll(context, arguments),
        Action::Diagnose(arguments) => diagnose(context, arguments),
    }
}

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
fn enroll(context: &Context, arguments: &EnrollArguments) -> Result<()> {
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
fn diagnose(context: &Context, arguments: &DiagnoseArguments) -> Result<()> {
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
    print_findings(&clinic.enrolment().model.spec.labels, &films, arguments.labels_only, arguments.json);
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
