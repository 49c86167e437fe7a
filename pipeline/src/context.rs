//! What every job is given: whom to tell, when to stop.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use train::{Progress, Session};

use crate::error::{Error, Result};

/// Progress and interruption of one invocation.
pub struct Context {
    progress: Box<dyn Progress>,
    interrupt: Arc<AtomicBool>,
    quiet: bool,
}

impl Context {
    /// A context that tells a listener, or nobody, and stops once the flag is set.
    pub fn new(progress: Option<Box<dyn Progress>>, interrupt: Arc<AtomicBool>) -> Self {
        let quiet = progress.is_none();
        Self { progress: progress.unwrap_or_else(|| Box::new(())), interrupt, quiet }
    }

    /// A context that says nothing and that nobody interrupts.
    pub fn quiet() -> Self {
        Self::new(None, Arc::default())
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
    /// [`Error::Interrupted`], during `job`.
    pub fn check(&self, job: &str) -> Result<()> {
        if self.interrupt.load(Ordering::SeqCst) {
            return Err(Error::Interrupted { job: job.into() });
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
