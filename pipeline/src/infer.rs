//! The server classifies encrypted latents. It reads a model, evaluation keys and ciphertexts, and
//! nothing in it can decrypt.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use he_runtime::{Circuit, EncryptedTensor, LayerTime, Server, ServerKeys};
use report::{readable_bytes, readable_time};
use train::progress::StepState;

use crate::context::Context;
use crate::error::{Explain as _, Result};
use crate::files::{ciphertext_file, film_name, load_model};

/// Steps of the progress bar for one film.
const TICKS: f64 = 100.0;

/// A model with the keys of one client.
pub struct Service {
    server: Server,
}

impl Service {
    /// Reads model and evaluation keys and prepares them.
    ///
    /// # Errors
    /// A file is missing or refused, or the keys lack what the model needs.
    pub fn start(context: &Context, model: &Path, keys: &Path) -> Result<Self> {
        let started = Instant::now();
        let model = load_model(model)?;
        let parameters = Circuit::new(&model)?.parameters;
        let keys = ServerKeys::load(&parameters, keys)?;
        let server = Server::new(&model, keys)?;
        context.say(&format!(
            "server ready in {}: keys and encoded weights take {}",
            readable_time(started.elapsed()),
            readable_bytes(server.bytes() as u64)
        ));
        Ok(Self { server })
    }

    /// Bytes of keys and encoded weights in memory.
    pub fn bytes(&self) -> u64 {
        self.server.bytes() as u64
    }

    /// Classifies one ciphertext into the folder `out`: the result's file, the time of the evaluation alone, and the
    /// time of each layer.
    ///
    /// # Errors
    /// The ciphertext is refused, the user interrupted, or the result cannot be written.
    pub fn classify(
        &self,
        context: &Context,
        input: &Path,
        out: &Path,
    ) -> Result<(PathBuf, Duration, Vec<LayerTime>)> {
        context.check("classifying")?;
        let parameters = &self.server.circuit().parameters;
        let latent = EncryptedTensor::load_latent(parameters, input)?;
        let progress = context.progress();
        progress.start("classifying", TICKS as u64, 0);
        let mut tell = |state: he_runtime::Progress<'_>| {
            progress.step((state.done * TICKS) as u64, &StepState::default());
        };
        let started = Instant::now();
        let outcome = self.server.run(&latent, &mut tell, context.interrupt());
        let time = started.elapsed();
        let name = film_name(input);
        let (result, layers) = match outcome {
            Ok(outcome) => {
                progress.finish(&format!("{name}: classified on ciphertexts in {}", readable_time(time)));
                outcome
            }
            Err(error) => {
                progress.finish(&format!("{name}: not classified"));
                return Err(error).explain(|| format!("cannot classify {}", input.display()));
            }
        };
        let file = ciphertext_file(out, &name);
        result.save(parameters, &file)?;
        Ok((file, time, layers))
    }
}
