//! A client's keys for one model. The secret key never leaves the key folder.

use std::path::Path;
use std::time::Instant;

use ckks::Parameters;
use he_model::HeModel;
use he_runtime::Circuit;
use he_runtime::client::KeyBundle;
use rand::SeedableRng as _;
use rand::rngs::SysRng;
use rand_chacha::ChaCha20Rng;
use report::{readable_bytes, readable_time};

use crate::context::Context;
use crate::error::{Error, Explain as _, Result};
use crate::files::{make_folder, size_of};
use crate::run_folder::{Keys, RunFolder};

/// A generator seeded from the operating system.
///
/// # Errors
/// The operating system gives no randomness.
pub fn random() -> Result<ChaCha20Rng> {
    ChaCha20Rng::try_from_rng(&mut SysRng)
        .map_err(|error| Error::Refused(format!("the operating system gives no random numbers: {error}")))
}

/// Makes fresh keys for `model` in the folder of `keys`.
///
/// # Errors
/// The model's parameters are refused, or a file cannot be written.
pub fn generate(context: &Context, model: &HeModel, keys: &Keys) -> Result<()> {
    let started = Instant::now();
    let circuit = Circuit::new(model)?;
    context.say(&format!("making keys at N = 2^{}", circuit.spec.ring.log_ring_degree));
    let bundle = KeyBundle::generate(&circuit.spec, &mut random()?)?;
    save(&bundle, &circuit.parameters, keys)?;
    context.say(&format!(
        "keys in {}: evaluation keys {} (for the server), public key {}, secret key {} (stays here)",
        readable_time(started.elapsed()),
        readable_bytes(size_of(&keys.evaluation())),
        readable_bytes(size_of(&keys.public())),
        keys.secret().display()
    ));
    Ok(())
}

/// Writes the three key files into a folder that only its owner can enter.
///
/// # Errors
/// A file cannot be written.
pub fn save(bundle: &KeyBundle, parameters: &Parameters, keys: &Keys) -> Result<()> {
    make_private_folder(keys.dir())?;
    bundle.server.save(parameters, &keys.evaluation())?;
    bundle.public.save(parameters, &keys.public())?;
    bundle.client.save(parameters, &keys.secret())?;
    Ok(())
}

/// Makes a folder that only its owner can enter.
fn make_private_folder(folder: &Path) -> Result<()> {
    make_folder(folder)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))
            .explain(|| format!("cannot make {} private", folder.display()))?;
    }
    Ok(())
}

/// Makes sure that the run has keys for `model`: keeps those made for it, replaces those made for another.
///
/// # Errors
/// As [`generate`].
pub fn ensure(context: &Context, model: &HeModel, folder: &RunFolder) -> Result<()> {
    let keys = folder.keys();
    let made_for = keys.dir().join("model.digest");
    let digest = model.digest();
    let is_current = std::fs::read_to_string(&made_for).is_ok_and(|text| text == digest);
    if is_current && keys.secret().exists() && keys.public().exists() && keys.evaluation().exists() {
        context.say(&format!("keys of an earlier run: {}", keys.dir().display()));
        return Ok(());
    }
    for stale in [keys.dir().to_owned(), folder.encrypted(), folder.results()] {
        if stale.exists() {
            std::fs::remove_dir_all(&stale).explain(|| format!("cannot remove {}", stale.display()))?;
        }
    }
    generate(context, model, &keys)?;
    Ok(durable::write(&made_for, digest.as_bytes())?)
}
