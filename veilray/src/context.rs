//! Whom the jobs of this program tell, and how a user stops them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};
use he_client::ClientError;
use pipeline::Context;
use train::{Progress, Terminal, TrainError};

/// Exit status after Ctrl-C, as shells expect it.
pub const INTERRUPTED: u8 = 130;

/// Tells the terminal, unless it is to be quiet, and listens for Ctrl-C: the first asks the running job to stop, the
/// second ends the process.
///
/// # Errors
/// The signal handler cannot be installed.
pub fn terminal(quiet: bool) -> Result<Context> {
    let interrupt = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&interrupt);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::SeqCst) {
            std::process::exit(i32::from(INTERRUPTED));
        }
        eprintln!("stopping after this step; once more to stop at once");
    })
    .context("cannot listen for Ctrl-C")?;
    let progress: Option<Box<dyn Progress>> = if quiet { None } else { Some(Box::new(Terminal::new())) };
    Ok(Context::new(progress, interrupt))
}

/// Whether an error is that the user asked to stop, in training, in a job or while the service worked.
pub fn was_interrupted(error: &anyhow::Error) -> bool {
    let of_client = |error: &ClientError| matches!(error, ClientError::Interrupted);
    error.chain().any(|cause| {
        cause.downcast_ref::<pipeline::Error>().is_some_and(pipeline::Error::is_interrupted)
            || matches!(cause.downcast_ref(), Some(TrainError::Interrupted { .. }))
            || cause.downcast_ref::<ClientError>().is_some_and(of_client)
            || cause.downcast_ref::<Arc<ClientError>>().is_some_and(|error| of_client(error))
    })
}
