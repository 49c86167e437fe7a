//! What a stage tells the person who waits for it.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

/// A listener to long work. Every method has an empty default, so `()` is the quiet listener.
pub trait Progress: Send + Sync {
    /// A stage of `total` steps begins, `done` of which are already behind it.
    fn start(&self, stage: &str, total: u64, done: u64) {
        let _ = (stage, total, done);
    }
    /// `done` steps are behind the stage.
    fn step(&self, done: u64, state: &StepState) {
        let _ = (done, state);
    }
    /// Something worth a line of its own.
    fn note(&self, text: &str) {
        let _ = text;
    }
    /// The stage is over.
    fn finish(&self, summary: &str) {
        let _ = summary;
    }
}

impl Progress for () {}

/// Where a stage stands.
#[derive(Clone, Copy, Debug, Default)]
pub struct StepState {
    /// A running mean of the loss, where there is one.
    pub loss: Option<f64>,
    /// Films per second since the stage began.
    pub films_per_second: f64,
}

/// Progress as a line in the terminal: loss, films per second, time left.
#[derive(Default)]
pub struct Terminal {
    bar: Mutex<Option<ProgressBar>>,
}

impl Terminal {
    /// A listener that writes to standard error.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn with_bar(&self, act: impl FnOnce(&ProgressBar)) {
        let bar = self.bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(bar) = bar.as_ref() {
            act(bar);
        }
    }
}

impl Progress for Terminal {
    fn start(&self, stage: &str, total: u64, done: u64) {
        let template = "{prefix:<18} {bar:24} {pos:>5}/{len} {msg} {elapsed} (left {eta})";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(total).with_style(style).with_prefix(stage.to_owned());
        bar.set_position(done);
        bar.reset_eta();
        bar.enable_steady_tick(Duration::from_millis(500));
        *self.bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(bar);
    }

    fn step(&self, done: u64, state: &StepState) {
        self.with_bar(|bar| {
            let loss = state.loss.map(|loss| format!("loss {loss:.4} ")).unwrap_or_default();
            bar.set_message(format!("{loss}{:.0} films/s", state.films_per_second));
            bar.set_position(done);
        });
    }

    fn note(&self, text: &str) {
        let bar = self.bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match bar.as_ref() {
            // A bar that is not drawn (no terminal) swallows lines, so they go past it.
            Some(bar) if !bar.is_hidden() => bar.println(text),
            _ => eprintln!("{text}"),
        }
    }

    fn finish(&self, summary: &str) {
        let bar = self.bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
        eprintln!("{summary}");
    }
}

/// Counts films and keeps the mean of the last losses, for [`StepState`].
pub(crate) struct Meter {
    started: Instant,
    films: u64,
    loss: Option<f64>,
}

impl Meter {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), films: 0, loss: None }
    }

    /// Adds a step; the loss shown is an exponential mean over about twenty steps.
    pub(crate) fn add(&mut self, films: usize, loss: f64) -> StepState {
        self.loss = Some(self.loss.map_or(loss, |mean| 0.95 * mean + 0.05 * loss));
        self.add_films(films)
    }

    /// Adds films without a loss.
    pub(crate) fn add_films(&mut self, films: usize) -> StepState {
        self.films += films as u64;
        let films_per_second = self.films as f64 / self.started.elapsed().as_secs_f64().max(1e-3);
        StepState { loss: self.loss, films_per_second }
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }
}
