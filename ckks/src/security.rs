//! How large the key modulus may be.
//!
//! 128 bits, ternary secrets, error of standard deviation 3.2. Classical column: Bossuat et al., Security Guidelines for
//! Implementing Homomorphic Encryption (eprint 2024/463), table for uniform ternary secrets. Quantum column: the
//! table of the Homomorphic Encryption Standard (2018), lowered by the ratio at which the 2024 classical column lies
//! below the 2018 one; above 2^15, where the standard stops, by the ratio at 2^15.

use crate::error::{Error, Result};

/// The security that parameters are checked against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Security {
    /// 128 bits against classical attacks.
    Classical128,
    /// 128 bits against quantum attacks.
    Quantum128,
    /// No check at all: for tests and toy examples, never for data.
    InsecureForTests,
}

/// log2(N), classical bound, quantum bound, in bits of the key modulus QP.
const BOUNDS: [(u32, u32, u32); 6] =
    [(12, 106, 98), (13, 214, 198), (14, 430, 403), (15, 868, 814), (16, 1747, 1639), (17, 3523, 3306)];

impl Security {
    /// The greatest log2(QP), or `None` where nothing is checked.
    ///
    /// # Errors
    /// [`Error::RingDegree`] where the table has no row.
    pub fn bound(self, log_ring_degree: u32) -> Result<Option<u32>> {
        if self == Self::InsecureForTests {
            return Ok(None);
        }
        let row = BOUNDS.iter().find(|row| row.0 == log_ring_degree).ok_or(Error::RingDegree {
            given: log_ring_degree,
            least: BOUNDS[0].0,
            most: BOUNDS[BOUNDS.len() - 1].0,
        })?;
        Ok(Some(if self == Self::Classical128 { row.1 } else { row.2 }))
    }

    /// What is promised, in words.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Classical128 => "128 bits of classical security",
            Self::Quantum128 => "128 bits of quantum security",
            Self::InsecureForTests => "no security (tests only)",
        }
    }
}

/// How the coefficients of the secret key are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SecretDistribution {
    /// Each coefficient -1, 0 or 1 with equal probability: what the bounds above are for.
    UniformTernary,
}
