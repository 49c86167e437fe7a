//! What the tests of stages share.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use train::{
    Config, Progress,
    checkpoint::{Checkpoint, Kind},
    config,
    progress::StepState,
};

/// A run of seconds.
pub const TINY: &str = r#"
[run]
dir = "unused"
seed = 3

[data]
side = 16
[data.source.phantom]
films = 60

[vqgan.model]
side = 16
width = 4
multipliers = [1, 2]
residual_blocks = 1
middle_attention = false
latent_channels = 2
codes = 16

[vqgan.train]
steps = 12
batch = 4
learning_rate = 2e-3
validate_every = 6
checkpoint_every = 5
codebook = { warmup_steps = 4, points = 200, iterations = 2, revive_after = 3 }
discriminator = { model = { width = 4, layers = 1 }, start = 6 }

[classifier.model]
architecture = "lenet"
width_divisor = 8
batch_norm = true

[classifier.train]
epochs = 3
batch = 8
learning_rate = 5e-3
range_penalty = 0.1
"#;

/// [`TINY`] with overrides.
pub fn tiny(overrides: &[&str]) -> Config {
    let overrides = overrides.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
    config::parse(TINY, Path::new("tiny.toml"), &overrides).expect("the tiny configuration holds")
}

/// Sets the interrupt flag once so many steps are done.
pub struct StopAfter(pub u64, pub Arc<AtomicBool>);

impl Progress for StopAfter {
    fn step(&self, done: u64, _state: &StepState) {
        if done == self.0 {
            self.1.store(true, Ordering::Relaxed);
        }
    }
}

/// All tensors of a checkpoint.
pub fn tensors(path: PathBuf, kind: Kind) -> train::state::State {
    Checkpoint::load(&path, kind).expect("the stage wrote a checkpoint").tensors
}
