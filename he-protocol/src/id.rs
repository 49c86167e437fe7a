//! Identifiers that arrive from outside and become parts of paths: valid by construction.
//!
//! Every one is a single path component of harmless characters, so that no identifier can leave its folder.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An identifier that was refused. Its text is not repeated: it may be anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {what}: expected {expected}")]
pub struct IdError {
    what: &'static str,
    expected: &'static str,
}

macro_rules! identifier {
    ($(#[$doc:meta])* $type:ident, $what:literal, $expected:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// The identifier as text: one harmless path component.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                let valid: fn(&str) -> bool = $valid;
                if valid(&text) { Ok(Self(text)) } else { Err(IdError { what: $what, expected: $expected }) }
            }
        }

        impl FromStr for $type {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$type> for String {
            fn from(id: $type) -> Self {
                id.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

identifier!(
    /// Name of a client or of a model.
    Name,
    "name",
    "1 to 64 of a-z, 0-9, '-' and '_', beginning with a letter or digit",
    |text| {
        (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
            && text.as_bytes()[0].is_ascii_alphanumeric()
    }
);

identifier!(
    /// A BLAKE3 digest: 32 bytes, 64 hexadecimal digits.
    Digest,
    "digest",
    "64 lower-case hexadecimal digits",
    |text| is_hex(text, 64)
);

identifier!(
    /// Number of a job: 32 hexadecimal digits.
    JobId,
    "job number",
    "32 lower-case hexadecimal digits",
    |text| is_hex(text, 32)
);

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

impl Digest {
    /// The digest of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(blake3::hash(bytes).to_hex().to_string())
    }

    /// The digest that a hasher has come to.
    #[must_use]
    pub fn finish(hasher: &blake3::Hasher) -> Self {
        Self(hasher.finalize().to_hex().to_string())
    }

    /// Reads all of `from`.
    ///
    /// # Errors
    /// What the file system says.
    pub fn read(mut from: impl std::io::Read) -> std::io::Result<Self> {
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            match from.read(&mut buffer)? {
                0 => return Ok(Self::finish(&hasher)),
                n => hasher.update(&buffer[..n]),
            };
        }
    }
}

impl JobId {
    /// The number of the job that a client submits under an idempotency key: the same for every retry.
    #[must_use]
    pub fn of(client: &Name, key: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("veilray 2026 job number");
        hasher.update(client.as_str().as_bytes()).update(&[0]).update(key.as_bytes());
        Self(hasher.finalize().to_hex().as_str()[..32].to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_could_leave_a_folder_is_a_name() {
        for good in ["a", "clinic-7", "resnet20_nih", &"x".repeat(64)] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in
            ["", ".", "..", "a/b", "a\\b", "../x", "A", "-a", "_a", "a\0", "a.b", "ä", "a b", &"x".repeat(65)]
        {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
            assert!(bad.parse::<Digest>().is_err() && bad.parse::<JobId>().is_err(), "{bad:?}");
        }
        assert!("AB".repeat(32).parse::<Digest>().is_err());
        assert!(serde_json::from_str::<Name>("\"../x\"").is_err());
    }

    #[test]
    fn a_retry_has_the_number_of_its_first_try_and_no_other_clients() {
        let (a, b) = ("a".parse().unwrap(), "b".parse().unwrap());
        assert_eq!(JobId::of(&a, "k"), JobId::of(&a, "k"));
        assert_ne!(JobId::of(&a, "k"), JobId::of(&b, "k"));
        assert_ne!(JobId::of(&a, "k"), JobId::of(&a, "l"));
        assert!(JobId::of(&a, "k").as_str().parse::<JobId>().is_ok());
    }
}
