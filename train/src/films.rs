//! Films on their way into a training step: decoded ahead of it, kept where they fit into memory.

use std::{
    cell::Cell,
    collections::VecDeque,
    sync::{Arc, OnceLock, mpsc},
    thread,
    time::{Duration, Instant},
};

use burn::tensor::{Device, Tensor, TensorData};
use datasets::{Augmentation, DataConfig, DataError, FilmDataset};

use crate::{Result, Session, progress::StepState};

/// Decoded films are kept if all of them take less than this many bytes.
const KEEP_BYTES: usize = 1 << 30;
/// Batches decoded ahead of the step that uses them.
const AHEAD: usize = 3;

/// Opens a data set; where the configuration asks for a cache of resized films and there is none yet, makes it.
///
/// # Errors
///
/// As [`FilmDataset::open`] and [`FilmDataset::make_cache`].
pub fn open_dataset(config: &DataConfig, session: &Session<'_>) -> Result<FilmDataset> {
    let mut dataset = FilmDataset::open(config)?;
    if config.cache.is_some() && !dataset.is_cached() {
        let listener = session.progress();
        listener.start("resizing films", dataset.len() as u64, 0);
        dataset.make_cache(&|done| listener.step(done as u64, &StepState::default()))?;
        listener.finish(&format!("{} films ready", dataset.len()));
    }
    Ok(dataset)
}

/// Films of a data set, shared between the loop and the thread that reads ahead.
#[derive(Clone)]
pub struct Films {
    dataset: Arc<FilmDataset>,
    kept: Option<Arc<Vec<OnceLock<Vec<f32>>>>>,
}

impl Films {
    /// The films of `dataset`, none of which is decoded yet.
    #[must_use]
    pub fn new(dataset: Arc<FilmDataset>) -> Self {
        let bytes = dataset.len() * dataset.side() * dataset.side() * size_of::<f32>();
        let kept =
            (bytes < KEEP_BYTES).then(|| Arc::new((0..dataset.len()).map(|_| OnceLock::new()).collect()));
        Self { dataset, kept }
    }

    /// The data set.
    #[must_use]
    pub fn dataset(&self) -> &FilmDataset {
        &self.dataset
    }

    /// Names of the given films.
    #[must_use]
    pub fn names(&self, indices: &[usize]) -> Vec<String> {
        let examples = self.dataset.examples();
        indices.iter().filter_map(|&film| examples.get(film)).map(|example| example.id.clone()).collect()
    }

    /// Pixels in `[0, 1]` of the given films, one after the other.
    ///
    /// # Errors
    ///
    /// As [`FilmDataset::films`].
    pub fn pixels(&self, indices: &[usize]) -> std::result::Result<Vec<f32>, DataError> {
        let Some(kept) = &self.kept else {
            return Ok(self.dataset.films(indices)?.into_iter().flat_map(|film| film.pixels).collect());
        };
        let missing = indices.iter().copied().filter(|&i| kept[i].get().is_none()).collect::<Vec<_>>();
        for (&i, film) in missing.iter().zip(self.dataset.films(&missing)?) {
            let _ = kept[i].set(film.pixels);
        }
        Ok(indices.iter().filter_map(|&i| kept[i].get()).flatten().copied().collect())
    }

    /// The given films as the VQGAN sees them, `[batch, 1, side, side]` in `[-1, 1]`.
    ///
    /// # Errors
    ///
    /// As [`FilmDataset::films`].
    pub fn tensor(&self, indices: &[usize], device: &Device) -> Result<Tensor<4>> {
        Ok(to_tensor(self.pixels(indices)?, self.dataset.side(), device))
    }

    /// Reads the given batches ahead of their use, in their order.
    #[must_use]
    pub fn read_ahead(&self, batches: impl Iterator<Item = Vec<usize>> + Send + 'static) -> Batches {
        self.read_ahead_changed(batches.map(|batch| (batch, 0)), None)
    }

    /// As [`Films::read_ahead`], each film changed as its epoch and the seed say.
    #[must_use]
    pub fn read_ahead_changed(
        &self,
        batches: impl Iterator<Item = (Vec<usize>, u64)> + Send + 'static,
        change: Option<(Augmentation, u64)>,
    ) -> Batches {
        let (send, receive) = mpsc::sync_channel(AHEAD);
        let films = self.clone();
        let side = self.dataset.side();
        thread::spawn(move || {
            for (indices, epoch) in batches {
                let mut pixels = films.pixels(&indices);
                if let (Some((change, seed)), Ok(pixels)) = (&change, &mut pixels) {
                    let seeds = indices.iter().map(|&film| Augmentation::seed(*seed, epoch, film));
                    change.apply_all(pixels, side, &seeds.collect::<Vec<_>>());
                }
                let failed = pixels.is_err();
                if send.send((indices, pixels)).is_err() || failed {
                    break;
                }
            }
        });
        Batches { receive, side, waited: Cell::new(Duration::ZERO) }
    }
}

/// Films and their pixels, or why they cannot be read.
type Decoded = (Vec<usize>, std::result::Result<Vec<f32>, DataError>);

/// Films and pixels of the batches of one step.
pub type Parts = (Vec<Vec<usize>>, Vec<Tensor<4>>);

/// Batches that a thread reads ahead.
pub struct Batches {
    receive: mpsc::Receiver<Decoded>,
    side: usize,
    waited: Cell<Duration>,
}

impl Batches {
    /// The next batch: its films and their pixels as `[batch, 1, side, side]` in `[-1, 1]`; `None` after the last.
    ///
    /// # Errors
    ///
    /// A film cannot be read.
    pub fn next(&self, device: &Device) -> Result<Option<(Vec<usize>, Tensor<4>)>> {
        let started = Instant::now();
        let received = self.receive.recv();
        self.waited.set(self.waited.get() + started.elapsed());
        let Ok((indices, pixels)) = received else { return Ok(None) };
        let tensor = to_tensor(pixels?, self.side, device);
        Ok(Some((indices, tensor)))
    }

    /// The next so many batches together, each on its device; `None` after the last.
    ///
    /// # Errors
    ///
    /// A film cannot be read.
    pub fn next_parts<'a>(
        &self,
        parts: usize,
        device: impl Fn(usize) -> &'a Device,
    ) -> Result<Option<Parts>> {
        let mut together = Parts::default();
        for part in 0..parts {
            let Some((indices, tensor)) = self.next(device(part))? else { return Ok(None) };
            together.0.push(indices);
            together.1.push(tensor);
        }
        Ok(Some(together))
    }

    /// How long [`Batches::next`] has waited for films so far, the first batch included.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.waited.get()
    }
}

/// Pixels in `[0, 1]` as `[batch, 1, side, side]` in `[-1, 1]`.
pub fn to_tensor(pixels: Vec<f32>, side: usize, device: &Device) -> Tensor<4> {
    let batch = pixels.len() / (side * side).max(1);
    let pixels = pixels.into_iter().map(|p| 2.0 * p - 1.0).collect::<Vec<_>>();
    Tensor::from_data(TensorData::new(pixels, [batch, 1, side, side]), device)
}

/// Values in `[-1, 1]` back to pixels in `[0, 1]`, one list per film.
pub fn to_pixels(tensor: Tensor<4>) -> Vec<Vec<f32>> {
    let [_, channels, height, width] = tensor.dims();
    let values =
        tensor.into_data().iter::<f32>().map(|v| ((v + 1.0) * 0.5).clamp(0.0, 1.0)).collect::<Vec<_>>();
    values.chunks_exact((channels * height * width).max(1)).map(<[f32]>::to_vec).collect()
}

/// The given indices in consecutive batches.
pub fn consecutive(indices: Vec<usize>, batch: usize) -> impl Iterator<Item = Vec<usize>> + Send {
    let mut rest = VecDeque::from(indices);
    std::iter::from_fn(move || {
        let take = batch.min(rest.len());
        (take > 0).then(|| rest.drain(..take).collect())
    })
}
