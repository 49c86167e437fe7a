//! Where the encrypted side of a run lies inside the run folder. The training side's paths are [`train::Session`]'s.
//!
//! ```text
//! config.toml  vqgan/  latents.safetensors  classifier/     the training side
//! model.safetensors  export.json  ranges.json               the HE-ready model, the report of its export, its ranges on test films
//! keys/{secret.key, public.key, evaluation.keys}             the client's keys (mode 0600)
//! encrypted/FILM.ct  results/FILM.ct                         ciphertexts to and from the server; where a ciphertext holds several films,
//!                                                            batch-*.ct, and beside the encrypted one its list of films, batch-*.json
//! eval.json  report.html                                    what the demo shows at its end
//! ```

use std::path::{Path, PathBuf};

/// Paths of the encrypted side of a run.
#[derive(Debug, Clone)]
pub struct RunFolder {
    dir: PathBuf,
}

impl RunFolder {
    /// The run kept in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The HE-ready model.
    pub fn model(&self) -> PathBuf {
        self.dir.join("model.safetensors")
    }

    /// The report of the export.
    pub fn export_report(&self) -> PathBuf {
        self.dir.join("export.json")
    }

    /// What the exported activations were given on the test films.
    pub fn ranges(&self) -> PathBuf {
        self.dir.join("ranges.json")
    }

    /// The client's keys.
    pub fn keys(&self) -> Keys {
        Keys::new(self.dir.join("keys"))
    }

    /// Encrypted latents.
    pub fn encrypted(&self) -> PathBuf {
        self.dir.join("encrypted")
    }

    /// Encrypted results.
    pub fn results(&self) -> PathBuf {
        self.dir.join("results")
    }

    /// Clear and encrypted results side by side.
    pub fn evaluation(&self) -> PathBuf {
        self.dir.join("eval.json")
    }

    /// The page at the end.
    pub fn report(&self) -> PathBuf {
        self.dir.join("report.html")
    }
}

/// The three files of a client's key folder.
#[derive(Debug, Clone)]
pub struct Keys {
    dir: PathBuf,
}

impl Keys {
    /// The keys in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The secret key: stays with the client.
    pub fn secret(&self) -> PathBuf {
        self.dir.join("secret.key")
    }

    /// The public key: encrypts.
    pub fn public(&self) -> PathBuf {
        self.dir.join("public.key")
    }

    /// The evaluation keys: go to the server.
    pub fn evaluation(&self) -> PathBuf {
        self.dir.join("evaluation.keys")
    }
}
