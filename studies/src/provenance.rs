//! Which program, of which commit, on what machine: what every result carries.

use serde::{Deserialize, Serialize};

/// Where a result comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Version of the program.
    pub version: String,
    /// Commit that it was built from, `-changed` where the sources differed from it; `unknown` outside of a repository.
    pub commit: String,
    /// Operating system and processor family.
    pub platform: String,
    /// The instructions that the encrypted side used.
    pub instructions: String,
    /// Threads.
    pub threads: usize,
}

impl Provenance {
    /// This program on this machine.
    pub fn here() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: env!("VEILRAY_COMMIT").to_owned(),
            platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            instructions: ckks::instruction_set().to_string(),
            threads: rayon::current_num_threads(),
        }
    }

    /// One line.
    pub fn describe(&self) -> String {
        format!(
            "veilray {} ({}), {}, {}, {} thread{}",
            self.version,
            self.commit,
            self.platform,
            self.instructions,
            self.threads,
            if self.threads == 1 { "" } else { "s" }
        )
    }
}
