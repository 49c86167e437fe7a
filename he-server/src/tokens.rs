//! Bearer tokens. On disk there are only digests: `tokens/CLIENT.json`.
//!
//! A token is `CLIENT.SECRET` with 256 random bits of secret, so a plain digest does not help to guess it, and no slow hash is needed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use he_protocol::{Name, files};
use serde::{Deserialize, Serialize};

/// The tokens of a state folder.
#[derive(Debug, Clone)]
pub struct Tokens {
    folder: PathBuf,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    digest: String,
}

fn digest(token: &str) -> blake3::Hash {
    blake3::Hasher::new_derive_key("veilray 2026 bearer token").update(token.as_bytes()).finalize()
}

impl Tokens {
    /// The tokens under `state`.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn open(state: &Path) -> io::Result<Self> {
        let folder = state.join("tokens");
        files::private_folder(&folder)?;
        Ok(Self { folder })
    }

    fn file(&self, client: &Name) -> PathBuf {
        self.folder.join(format!("{client}.json"))
    }

    /// Makes a token for a client and replaces the one it had. The token is not kept: show it once.
    ///
    /// # Errors
    /// The file cannot be written, or the system has no randomness.
    pub fn add(&self, client: &Name) -> io::Result<String> {
        let mut secret = [0u8; 32];
        getrandom::fill(&mut secret).map_err(|e| io::Error::other(e.to_string()))?;
        let token = format!("{client}.{}", blake3::Hash::from_bytes(secret).to_hex());
        let stored = Stored { digest: digest(&token).to_hex().to_string() };
        files::write_private(&self.file(client), &serde_json::to_vec(&stored)?)?;
        Ok(token)
    }

    /// Takes a client's token back; its next request is refused.
    ///
    /// # Errors
    /// There is none.
    pub fn revoke(&self, client: &Name) -> io::Result<()> {
        fs::remove_file(self.file(client))
    }

    /// The clients that have a token.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn list(&self) -> io::Result<Vec<Name>> {
        let mut names = vec![];
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            names.extend(name.strip_suffix(".json").and_then(|n| n.parse().ok()));
        }
        names.sort();
        Ok(names)
    }

    /// The client that a token belongs to.
    #[must_use]
    pub fn client(&self, token: &str) -> Option<Name> {
        if token.len() > 256 {
            return None;
        }
        let client: Name = token.split_once('.')?.0.parse().ok()?;
        let stored: Stored = serde_json::from_slice(&files::read(&self.file(&client), 4096).ok()?).ok()?;
        // Hashes compare in constant time.
        (blake3::Hash::from_hex(stored.digest).ok()? == digest(token)).then_some(client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_token_of_a_client_counts_and_the_disk_does_not_hold_it() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(folder.path()).unwrap();
        let (a, b) = ("a".parse().unwrap(), "b".parse().unwrap());
        let old = tokens.add(&a).unwrap();
        let new = tokens.add(&a).unwrap();
        let other = tokens.add(&b).unwrap();
        assert_eq!(tokens.client(&new), Some(a.clone()));
        assert_eq!(tokens.client(&other), Some(b.clone()));
        let swapped = format!("a.{}", other.split_once('.').unwrap().1);
        for bad in [old.as_str(), &swapped, "", "a", "a.", "../b.x", &"a".repeat(1000), &new[..new.len() - 1]]
        {
            assert_eq!(tokens.client(bad), None, "{bad}");
        }
        let stored = fs::read_to_string(folder.path().join("tokens/a.json")).unwrap();
        assert!(!stored.contains(new.split_once('.').unwrap().1));
        assert_eq!(tokens.list().unwrap(), [a.clone(), b]);
        tokens.revoke(&a).unwrap();
        assert_eq!(tokens.client(&new), None);
    }
}
