//! Ciphertexts: pairs (c0, c1) with c0 + c1 s = message + noise, and unrelinearised products of degree two.

use crate::parameters::Parameters;
use crate::poly::{Evaluation, Poly};

/// An encrypted vector of slots, with its scale tracked exactly and its level given by its limbs.
#[derive(Clone, Debug)]
pub struct Ciphertext {
    pub(crate) c: [Poly<Evaluation>; 2],
    pub(crate) scale: f64,
}

impl Ciphertext {
    /// The ciphertext (0, 0), which hides nothing: a sum to add to.
    pub(crate) fn transparent_zero(parameters: &Parameters, level: usize, scale: f64) -> Self {
        Self { c: [(); 2].map(|()| Poly::zero(parameters, level + 1, 0)), scale }
    }

    /// Rescalings left: the number of limbs less one.
    pub fn level(&self) -> usize {
        self.c[0].limbs() - 1
    }

    /// Factor between a slot's value and what is encrypted.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Bytes in memory, and nearly so on the wire.
    pub fn bytes(&self) -> usize {
        self.c.iter().map(|c| 4 * c.data().len()).sum()
    }
}

/// A product before relinearisation: d0 + d1 s + d2 s^2. Products can be added up and relinearised once.
#[derive(Clone, Debug)]
pub struct Product {
    pub(crate) d: [Poly<Evaluation>; 3],
    pub(crate) scale: f64,
}

impl Product {
    /// Rescalings left: the number of limbs less one.
    pub fn level(&self) -> usize {
        self.d[0].limbs() - 1
    }

    /// Factor between a slot's value and what is encrypted: the product of the factors' scales.
    pub fn scale(&self) -> f64 {
        self.scale
    }
}
