//! Diagnose chest X-rays that you never see: the one binary of Veilray.
//!
//! `cli` holds what a user can type, `stages` one module a subcommand, `run_folder` where everything of a run
//! lies, `report` the page at the end. Errors reach the user as one plain message with its causes, and a non-zero
//! exit status: 1 for an error, 130 after an interrupt.

mod ablate;
mod batches;
mod cli;
mod context;
mod film_fit;
mod run_folder;
mod settings;
mod stages;

use std::process::ExitCode;

use clap::Parser as _;

use cli::{AblateCommand, BenchCommand, Cli, ClientCommand, Command, DataCommand, TrainCommand};
use context::{Context, Interrupted};

/// Exit status after Ctrl-C, as shells expect it.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_error(&error);
            if was_interrupted(&error) { ExitCode::from(INTERRUPTED) } else { ExitCode::FAILURE }
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    if let Some(threads) = cli.threads {
        anyhow::ensure!(
            (1..=1024).contains(&threads),
            "--threads expects a number from 1 to 1024, got {threads}"
        );
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    }
    let context = Context::new(cli.quiet)?;
    match cli.command {
        Command::Demo(arguments) => stages::demo::run(&context, &arguments),
        Command::Train { network: TrainCommand::Vqgan(arguments) } => {
            stages::train::vqgan(&context, &arguments)
        }
        Command::Train { network: TrainCommand::ImportVqgan(arguments) } => {
            stages::train::import(&context, &arguments)
        }
        Command::Train { network: TrainCommand::Classifier(arguments) } => {
            stages::train::classifier(&context, &arguments)
        }
        Command::Sweep(arguments) => stages::sweep::run(&context, &arguments),
        Command::Import(arguments) => stages::import::run(&context, &arguments),
        Command::Encode(arguments) => stages::encode::run(&context, &arguments),
        Command::Export(arguments) => stages::export::run(&context, &arguments),
        Command::Keygen(arguments) => stages::keygen::run(&context, &arguments),
        Command::Encrypt(arguments) => stages::encrypt::run(&context, &arguments),
        Command::Infer(arguments) => stages::infer::run(&context, &arguments),
        Command::Decrypt(arguments) => stages::decrypt::run(&context, &arguments),
        Command::Test(arguments) => stages::test::run(&context, &arguments),
        Command::Eval(arguments) => stages::eval::run(&context, &arguments),
        Command::Simulate(arguments) => stages::simulate::run(&context, &arguments),
        Command::Bench { what: BenchCommand::He(arguments) } => {
            stages::bench::he(&context, &arguments, cli.threads)
        }
        Command::Bench { what: BenchCommand::Part(arguments) } => stages::bench::part(&context, &arguments),
        Command::Ablate(arguments) => match &arguments.action {
            Some(AblateCommand::Report(arguments)) => ablate::report(arguments),
            None => ablate::run(&context, &arguments),
        },
        Command::Package(arguments) => stages::package::package(&context, &arguments),
        Command::Inspect(arguments) => stages::package::inspect(&arguments),
        Command::Serve { arguments } => stages::serve::run(&context, &arguments),
        Command::Client { action: ClientCommand::Enroll(arguments) } => {
            stages::client::enroll(&context, &arguments)
        }
        Command::Client { action: ClientCommand::Diagnose(arguments) } => {
            stages::client::diagnose(&context, &arguments)
        }
        Command::Data { action: DataCommand::Check(arguments) } => stages::data::check(&context, &arguments),
    }
}

/// Whether the user asked to stop, wherever that was noticed.
fn was_interrupted(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.is::<Interrupted>()
            || matches!(cause.downcast_ref(), Some(train::TrainError::Interrupted { .. }))
            || matches!(cause.downcast_ref(), Some(he_runtime::RuntimeError::Interrupted))
            || matches!(cause.downcast_ref(), Some(he_client::ClientError::Interrupted))
            || cause
                .downcast_ref::<std::sync::Arc<he_client::ClientError>>()
                .is_some_and(|error| matches!(**error, he_client::ClientError::Interrupted))
    })
}

/// The message, then its causes, each said once.
fn print_error(error: &anyhow::Error) {
    let mut said = error.to_string();
    eprintln!("error: {said}");
    for cause in error.chain().skip(1) {
        let text = cause.to_string();
        if !said.contains(&text) {
            eprintln!("  because: {text}");
        }
        said = text;
    }
}
