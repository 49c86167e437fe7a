//! What a model computes in the clear: what everything else is compared with.

use he_model::{HeModel, ModelError};

use crate::RuntimeError;

/// The tensors of all nodes, by film.
pub(crate) fn clear_layers(
    model: &HeModel,
    latents: &[impl AsRef<[f64]>],
) -> Result<Vec<Vec<Vec<f64>>>, RuntimeError> {
    let clear = |latent: &[f64]| model.graph.run_all(latent).map_err(|e| ModelError::from(e).into());
    latents.iter().map(|latent| clear(latent.as_ref())).collect()
}
