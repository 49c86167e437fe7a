//! `veilray serve`: executes `veilray-server`. This binary holds the client, so it never serves itself.

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use pipeline::Context;

/// Service: classify ciphertexts of many clients. Executes `veilray-server`, which cannot decrypt.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct Arguments {
    /// What `veilray-server` is given; `veilray serve --help` shows it.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    pub arguments: Vec<OsString>,
}

const SERVER: &str = "veilray-server";

/// Runs the service with `arguments` until it ends.
///
/// # Errors
/// The service's binary is not beside this one, or it failed.
pub fn run(context: &Context, arguments: &Arguments) -> Result<()> {
    let own = std::env::current_exe().context("cannot tell where this program lies")?;
    let server = own.with_file_name(format!("{SERVER}{}", std::env::consts::EXE_SUFFIX));
    if !server.exists() {
        bail!(
            "there is no {}: the service is a binary of its own that cannot decrypt; build it with \
             `cargo build --release -p he-server`",
            server.display()
        );
    }
    let mut command = Command::new(&server);
    command.args(&arguments.arguments);
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt as _;
        // The service takes this process's place, and with it every signal.
        let _ = context;
        Err(command.exec()).with_context(|| format!("cannot run {}", server.display()))
    }
    #[cfg(not(unix))]
    {
        let status = command.status().with_context(|| format!("cannot run {}", server.display()))?;
        context.check("serving")?;
        anyhow::ensure!(status.success(), "{} ended with {status}", server.display());
        Ok(())
    }
}
