//! What every stage is given: whom to tell, when to stop.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};
use train::{Config, Progress, Session, Terminal};

use crate::cli::RunArguments;

/// The user asked to stop; the stage has written what it had.
#[derive(Debug, thiserror::Error)]
#[error("stopped as asked, during {stage}; run the same command again to continue")]
pub struct Interrupted {
    /// What was going on.
    pub stage: String,
}

/// Progress and interruption of one invocation.
pub struct Context {
    progress: Box<dyn Progress>,
    interrupt: Arc<AtomicBool>,
    quiet: bool,
}

impl Context {
    /// A context that listens for Ctrl-C: the first asks the running stage to stop, the second ends the process.
    ///
    /// # Errors
    /// The signal handler cannot be installed.
    pub fn new(quiet: bool) -> Result<Self> {
        let interrupt = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&interrupt);
        ctrlc::set_handler(move || {
            if flag.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
            eprintln!("stopping after this step; once more to stop at once");
        })
        .context("cannot listen for Ctrl-C")?;
        let progress: Box<dyn Progress> = if quiet { Box::new(()) } else { Box::new(Terminal::new()) };
        Ok(Self { progress, interrupt, quiet })
    }

    /// A context that says nothing and that nobody interrupts, for tests.
    #[cfg(test)]
    pub fn quiet() -> Self {
        Self { progress: Box::new(()), interrupt: Arc::default(), quiet: true }
    }

    /// The listener.
    pub fn progress(&self) -> &dyn Progress {
        self.progress.as_ref()
    }

    /// The flag that Ctrl-C sets.
    pub fn interrupt(&self) -> &Arc<AtomicBool> {
        &self.interrupt
    }

    /// Fails if the user has asked to stop.
    ///
    /// # Errors
    /// [`Interrupted`].
    pub fn check(&self, stage: &str) -> Result<()> {
        if self.interrupt.load(Ordering::SeqCst) {
            return Err(Interrupted { stage: stage.into() }.into());
        }
        Ok(())
    }

    /// A line for the user, unless asked to be quiet.
    pub fn say(&self, text: &str) {
        if !self.quiet {
            self.progress.note(text);
        }
    }

    /// A training session in `dir`.
    pub fn session(&self, dir: &Path) -> Session<'_> {
        Session::new(dir, self.progress(), Arc::clone(&self.interrupt))
    }
}

/// Reads the configuration of a run, with its overrides.
///
/// # Errors
/// As [`train::config::read`].
pub fn configuration(arguments: &RunArguments) -> Result<Config> {
    let mut config = train::config::read(&arguments.config, &arguments.overrides)?;
    if let Some(out) = &arguments.out {
        config.run.dir.clone_from(out);
    }
    Ok(config)
}

/// Size of a file in bytes; 0 if it cannot be read.
pub fn size_of(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}
