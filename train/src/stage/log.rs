//! Where the figures of a training go: TensorBoard events and the tables that travel in the checkpoint.

use std::path::Path;

use crate::{Result, history::History, picture::Picture, tensorboard::EventWriter};

/// The log of a stage after so many steps.
pub(crate) struct Log<'a> {
    events: &'a mut EventWriter,
    history: &'a mut History,
    folder: &'a Path,
    step: u64,
    /// Seconds since training began or was resumed.
    pub seconds: f64,
}

impl<'a> Log<'a> {
    pub fn new(
        events: &'a mut EventWriter,
        history: &'a mut History,
        folder: &'a Path,
        step: u64,
        seconds: f64,
    ) -> Self {
        Self { events, history, folder, step, seconds }
    }

    /// Steps done.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Adds a row of figures; what is no number is left out of the events.
    pub fn row<'n>(&mut self, figures: impl IntoIterator<Item = (&'n str, f64)>) -> Result<()> {
        let figures = figures.into_iter().collect::<Vec<_>>();
        let finite = figures.iter().copied().filter(|(_, value)| value.is_finite());
        self.events.scalars(self.step, finite)?;
        self.history.push(self.step, figures);
        Ok(())
    }

    /// Adds a picture, and writes it to a file of the stage's folder, which holds the latest one.
    pub fn picture(&mut self, tag: &str, file: &str, picture: &Picture) -> Result<()> {
        self.events.picture(self.step, tag, picture)?;
        picture.save(&self.folder.join(file))
    }
}
