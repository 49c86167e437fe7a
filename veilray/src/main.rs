//! Diagnose chest X-rays that you never see: the one binary of Veilray.
//!
//! `commands` holds one file a subcommand, `arguments` what several of them share, `context` who is told and how one
//! stops. Errors reach the user as one plain message with its causes, and a non-zero exit status: 1 for an error,
//! 130 after an interrupt.

mod arguments;
mod commands;
mod context;

use std::process::ExitCode;

use clap::Parser;

use self::commands::Command;

/// Diagnose chest X-rays that you never see.
///
/// Trains a VQGAN and a classifier with polynomial activations on chest films, exports the trained network, and
/// evaluates it on CKKS ciphertexts. The client keeps the films and the secret key; the server sees ciphertexts only.
#[derive(Debug, Parser)]
#[command(name = "veilray", version, max_term_width = 110)]
struct Cli {
    /// Say only what went wrong: no progress lines, no hints.
    #[arg(long, short, global = true)]
    quiet: bool,
    /// Number of threads; all cores unless given.
    #[arg(long, global = true, value_name = "N")]
    threads: Option<usize>,
    /// What to do.
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_error(&error);
            if context::was_interrupted(&error) {
                ExitCode::from(context::INTERRUPTED)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    if let Some(threads) = cli.threads {
        anyhow::ensure!(
            (1..=1024).contains(&threads),
            "--threads expects a number from 1 to 1024, got {threads}"
        );
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    }
    cli.command.run(&context::terminal(cli.quiet)?)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}
