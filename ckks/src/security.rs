//! How large the key modulus may be.
//!
//! 128 bits, uniform ternary secrets, error of standard deviation 3.2. Both columns are those that the script published with Bossuat et
//! al., Security Guidelines for Implementing Homomorphic Encryption (eprint 2024/463; gong-cr/FHE-Security-Guidelines) prints for a
//! threshold of 128 bits and no margin, as tabulated in HomomorphicEncryption/SparseLWEkit, `Security/README.md`. They are read
//! there, not recomputed here.

use crate::error::{Error, Result};

/// The security that parameters are checked against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
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
    [(12, 106, 80), (13, 214, 161), (14, 430, 322), (15, 868, 644), (16, 1747, 1289), (17, 3523, 2578)];

/// log2(N), weight of the secret, bound in bits of the modulus of a key under it.
///
/// malb/lattice-estimator 27a581b gives the secret of weight 64 a dual hybrid attack of 2^285 operations at 100 bits. Each bit of
/// modulus costs a third of a bit (weight 32: 2^177, 2^170 and 2^162 at 80, 100 and 126 bits). Hybrids of meet-LWE (eprint
/// 2022/1330, 2022/1473), which that estimator lacks, are at best a square root of the search space of a secret,
/// binomial(2^16, 64) 2^64 = 2^792, over what they guess; the margin of 150 bits is for them, and why weight 32 has no row.
const SPARSE_BOUNDS: [(u32, usize, u32); 1] = [(16, 64, 104)];

impl Security {
    /// log2 of the largest ring degree that a bound is known for.
    pub const LARGEST_DEGREE: u32 = BOUNDS[BOUNDS.len() - 1].0;

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
            most: Self::LARGEST_DEGREE,
        })?;
        Ok(Some(if self == Self::Classical128 { row.1 } else { row.2 }))
    }

    /// Checks a key under a sparse ternary secret, of which one sample modulo 2^`modulus_log2` is given away.
    ///
    /// # Errors
    /// [`Error::SparseSecret`] for a weight without a row in the table, or a modulus above its bound.
    pub fn check_sparse(self, log_ring_degree: u32, weight: usize, modulus_log2: f64) -> Result<()> {
        let refuse =
            |expected: String| Error::SparseSecret { weight, log_ring_degree, modulus_log2, expected };
        if self == Self::InsecureForTests {
            return Ok(());
        }
        let row = SPARSE_BOUNDS.iter().find(|row| row.0 == log_ring_degree && row.1 == weight);
        match row {
            None => {
                Err(refuse(format!("rings and weights {:?} are possible", SPARSE_BOUNDS.map(|r| (r.0, r.1)))))
            }
            Some(row) if modulus_log2 > f64::from(row.2) => {
                Err(refuse(format!("at most {} bits are possible", row.2)))
            }
            Some(_) => Ok(()),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantum_bounds_are_the_stricter_ones() {
        for (log_n, ..) in BOUNDS {
            let classical = Security::Classical128.bound(log_n).unwrap().unwrap();
            let quantum = Security::Quantum128.bound(log_n).unwrap().unwrap();
            // Quantum sieving has an exponent of 0.257 to 0.265 against 0.292: about three quarters of the modulus remain.
            assert!((0.72..0.77).contains(&(f64::from(quantum) / f64::from(classical))), "2^{log_n}");
        }
        assert_eq!(Security::InsecureForTests.bound(3).unwrap(), None);
    }
}
