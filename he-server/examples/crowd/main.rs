//! Puts a running service under a crowd: clients with keys of their own, all at once, with cancelled jobs, altered ciphertexts and
//! wrong keys among their requests. Every answer is compared with the model in the clear.
//!
//! ```text
//! cargo run --release -p he-protocol --example random_package -- package resnet20 32 4
//! veilray-server --package package --state state --config limits.toml &
//! cargo run --release -p he-server --example crowd -- --server http://127.0.0.1:8750 --state state --package package --server-pid $!
//! ```
//!
//! It makes the clients' tokens in the service's state folder, so it runs on the service's machine. Clients' keys lie in a temporary folder,
//! which is removed; the evaluation keys are, too, as soon as they are uploaded.

mod crowd;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use he_client::{Clinic, Connection, Options, Vault};
use he_protocol::{Name, Package};
use he_server::tokens::Tokens;

/// Puts a service under a crowd of clients and checks every answer.
#[derive(Debug, Parser)]
struct Arguments {
    /// Address of the service.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8750")]
    server: String,
    /// State folder of the service: the clients' tokens are made there, and taken back at the end.
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// The package that the service offers.
    #[arg(long, value_name = "DIR")]
    package: PathBuf,
    /// Folder for the temporary folder of the clients' keys; the system's unless given.
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// Clients, each with fresh keys.
    #[arg(long, default_value_t = 8)]
    clients: usize,
    /// Requests of all clients.
    #[arg(long, default_value_t = 200)]
    requests: usize,
    /// Most films of a request; as many as a ciphertext holds unless given.
    #[arg(long)]
    films: Option<usize>,
    /// Requests of a client at once.
    #[arg(long, default_value_t = 2)]
    at_once: usize,
    /// Share of requests that are cancelled.
    #[arg(long, default_value_t = 0.15)]
    cancelled: f64,
    /// Share of requests with an altered ciphertext.
    #[arg(long, default_value_t = 0.15)]
    altered: f64,
    /// Share of requests with a ciphertext under another client's key.
    #[arg(long, default_value_t = 0.1)]
    wrong_keys: f64,
    /// Largest difference of a logit from the clear.
    #[arg(long, default_value_t = 0.01)]
    tolerance: f64,
    /// Draws films and the order of the requests.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Process of the service, whose peak memory is reported.
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether nothing happened that should not have.
fn run(arguments: &Arguments) -> Result<bool> {
    let bad = arguments.cancelled + arguments.altered + arguments.wrong_keys;
    ensure!((0.0..=1.0).contains(&bad), "the shares of cancelled and bad requests add up to {bad}");
    ensure!(arguments.clients >= 2, "wrong keys are those of another client: expected at least two clients");
    let package = Package::open(&arguments.package)?;
    let model = package.load_model()?;
    let folder = match &arguments.keys {
        Some(parent) => tempfile::tempdir_in(parent),
        None => tempfile::tempdir(),
    };
    let folder = folder.context("cannot make a folder for keys")?;
    let tokens = Tokens::open(&arguments.state)?;
    let names: Vec<Name> =
        (1..=arguments.clients).map(|i| Ok(format!("crowd-{i}").parse()?)).collect::<Result<_>>()?;
    let mut clinics = vec![];
    for name in &names {
        let started = Instant::now();
        let connection = Connection::new(Options::new(&arguments.server, &tokens.add(name)?))?;
        let vault = Vault::new(&folder.path().join(name.as_str()));
        let clinic = Clinic::enrol(connection, &package.manifest.name, vault.clone(), None, &mut |_| {})?;
        std::fs::remove_file(vault.evaluation_keys())?;
        println!(
            "{name}: enrolled in {:.1} s, {} MiB of evaluation keys",
            started.elapsed().as_secs_f64(),
            clinic.enrolment().key_bytes >> 20
        );
        clinics.push(clinic);
    }
    let script = crowd::Script {
        requests: arguments.requests,
        cancelled: arguments.cancelled,
        altered: arguments.altered,
        wrong_keys: arguments.wrong_keys,
        films: arguments.films.unwrap_or(usize::MAX).min(clinics[0].films()),
        at_once: arguments.at_once,
        tolerance: arguments.tolerance,
        seed: arguments.seed,
    };
    let summary = crowd::run(&clinics, &model, &script)?;
    for (name, clinic) in names.iter().zip(&clinics) {
        clinic.delete_keys()?;
        tokens.revoke(name)?;
    }
    print(arguments, &script, &summary);
    Ok(summary.is_clean())
}

fn print(arguments: &Arguments, script: &crowd::Script, summary: &crowd::Summary) {
    let seconds = summary.wall.as_secs_f64();
    println!("{} requests of {} clients in {seconds:.1} s", arguments.requests, arguments.clients);
    println!(
        "answered   {} requests, {} films (up to {} in a ciphertext); {:.2} films a second; median latency {:.1} s",
        summary.answered,
        summary.films,
        script.films,
        summary.films as f64 / seconds,
        summary.median_latency().as_secs_f64()
    );
    println!("cancelled  {}, of which {} were done before", summary.cancelled[0], summary.cancelled[1]);
    for (code, count) in &summary.refused {
        println!("refused    {count} as {code}");
    }
    println!("wrong      {}", summary.wrong);
    println!("mixed up   {}", summary.mixed_up);
    println!(
        "largest difference of a logit {:.2e}; the logits of the two most similar films differ by {:.2e}",
        summary.largest_difference, summary.closest
    );
    if let Some(peak) = arguments.server_pid.and_then(peak_mebibytes) {
        println!("peak memory of the service {peak} MiB");
    }
    for failure in &summary.failures {
        println!("FAILED     {failure}");
    }
}

/// Largest resident size of a process so far, where the system says it.
fn peak_mebibytes(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? >> 10)
}
