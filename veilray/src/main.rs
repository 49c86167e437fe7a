//! Diagnose chest X-rays that you never see: the one binary of Veilray.
//!
//! `cli` holds what a user can type, `stages` one module a subcommand, `run_folder` where everything of a run
//! lies, `report` the page at the end. Errors reach the user as one plain message with its causes, and a non-zero
//! exit status: 1 for an error, 130 after an interrupt.

mod cli;
mod report;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let _cli = cli::Cli::parse();
    ExitCode::SUCCESS
}
