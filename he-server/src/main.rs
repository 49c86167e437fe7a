//! The service's binary: everything it can do is classify ciphertexts and keep a list of tokens.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use he_protocol::Name;
use he_server::config::Tls;
use he_server::tokens::Tokens;
use he_server::{Config, Service};

/// Classifies encrypted latents. Holds no key that decrypts, and no code that could use one.
#[derive(Debug, Parser)]
#[command(name = "veilray-server", version, max_term_width = 110, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArguments,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Tokens of clients.
    Token {
        /// What to do.
        #[command(subcommand)]
        action: TokenCommand,
    },
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Make a token for a client, replacing the one it had, and print it: it is not kept.
    Add(TokenArguments),
    /// Take a client's token back.
    Revoke(TokenArguments),
    /// List the clients that have a token.
    List {
        /// State folder of the service.
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
    },
}

#[derive(Debug, Args)]
struct TokenArguments {
    /// Name of the client: a-z, 0-9, '-' and '_'.
    client: Name,
    /// State folder of the service.
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
}

#[derive(Debug, Args)]
struct ServeArguments {
    /// Configuration file (TOML); what is given here overrides it.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Model package (`veilray package` makes it). Can be given several times.
    #[arg(long, value_name = "DIR")]
    package: Vec<PathBuf>,
    /// Folder for tokens, keys and jobs.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Address to listen on [default: 127.0.0.1:8750].
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Address for operators: /metrics, /healthz, /readyz.
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
    /// Certificate chain (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Private key of the certificate (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Serve without TLS on a public address: behind a proxy that does TLS.
    #[arg(long)]
    allow_plain_http: bool,
    /// Number of threads for the evaluation; all cores unless given.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Some(Command::Token { action }) => token(action),
        None => serve(cli.serve),
    }
}

fn token(action: TokenCommand) -> Result<()> {
    match action {
        TokenCommand::Add(TokenArguments { client, state }) => {
            let token = Tokens::open(&state)?.add(&client)?;
            eprintln!("token of {client} (shown once, not kept):");
            println!("{token}");
        }
        TokenCommand::Revoke(TokenArguments { client, state }) => {
            let revoked = Tokens::open(&state)?.revoke(&client);
            revoked.with_context(|| format!("{client} has no token"))?;
        }
        TokenCommand::List { state } => {
            for client in Tokens::open(&state)?.list()? {
                println!("{client}");
            }
        }
    }
    Ok(())
}

fn serve(arguments: ServeArguments) -> Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_env("VEILRAY_LOG").unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().json().with_env_filter(filter).with_writer(std::io::stderr).init();
    let mut config: Config = match &arguments.config {
        None => Config::default(),
        Some(file) => {
            let shown = file.display();
            let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {shown}"))?;
            toml::from_str(&text).with_context(|| format!("{shown} is refused"))?
        }
    };
    if !arguments.package.is_empty() {
        config.packages = arguments.package;
    }
    config.state = arguments.state.unwrap_or(config.state);
    config.listen = arguments.listen.unwrap_or(config.listen);
    config.admin = arguments.admin.or(config.admin);
    if let (Some(certificate), Some(key)) = (arguments.tls_cert, arguments.tls_key) {
        config.tls = Some(Tls { certificate, key });
    }
    config.allow_plain_http |= arguments.allow_plain_http;
    if let Some(threads) = arguments.threads {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    }
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let service = Service::new(config)?;
    // For people and scripts: the address that was really bound.
    println!("listening on {scheme}://{}", service.address()?);
    if let Some(admin) = service.admin_address() {
        println!("metrics on http://{admin}/metrics");
    }
    std::io::stdout().flush()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(32)
        .enable_all()
        .build()?;
    runtime.block_on(service.run(stopped()))?;
    Ok(())
}

/// Resolves on SIGTERM or Ctrl-C.
async fn stopped() {
    let interrupt = tokio::signal::ctrl_c();
    #[cfg(unix)]
    if let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        tokio::select! {
            _ = interrupt => {}
            _ = terminate.recv() => {}
        }
        return;
    }
    let _ = interrupt.await;
}
