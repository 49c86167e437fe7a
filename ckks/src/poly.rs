//! Polynomials of Z_Q[X]/(X^N + 1) in residue form, one limb of `u32` per prime, limb after limb in one block of memory.
//!
//! The form is in the type: [`Coefficient`] polynomials can be rounded, decomposed and decoded, [`Evaluation`] ones
//! multiplied and permuted, and only the transforms turn one into the other.
//!
//! **Invariant**: every residue is fully reduced. **Invariant**: limbs are q_0 .. q_(limbs-1), then p_0 .. p_(special-1).

use std::marker::PhantomData;

use rayon::prelude::*;

use crate::arith::Modulus;
use crate::buffer::Buffer;
#[cfg(feature = "secret-key")]
use crate::galois::Permutation;
use crate::kernels;
use crate::parameters::Parameters;

/// Coefficient form: entry i of a limb is the coefficient of X^i.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coefficient {}
/// Evaluation form: entry i of a limb is the value at psi^(2 bitrev(i) + 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evaluation {}

/// A polynomial in form `F`.
#[derive(PartialEq, Eq)]
pub struct Poly<F> {
    degree: usize,
    limbs: usize,
    special: usize,
    data: Buffer,
    form: PhantomData<fn() -> F>,
}

impl<F> Clone for Poly<F> {
    fn clone(&self) -> Self {
        Self { data: self.data.clone(), form: PhantomData, ..*self }
    }
}

impl<F> std::fmt::Debug for Poly<F> {
    /// Sizes only: the coefficients may be secret, and are many.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Poly(degree {}, {} + {} limbs)", self.degree, self.limbs, self.special)
    }
}

impl<F> Poly<F> {
    pub(crate) fn zero(parameters: &Parameters, limbs: usize, special: usize) -> Self {
        let degree = parameters.ring_degree();
        Self::from_data(degree, limbs, special, Buffer::zeroed(degree * (limbs + special)))
    }

    /// With unspecified residues, for results that overwrite all of them.
    pub(crate) fn scratch(parameters: &Parameters, limbs: usize, special: usize) -> Self {
        let degree = parameters.ring_degree();
        Self::from_data(degree, limbs, special, Buffer::scratch(degree * (limbs + special)))
    }

    pub(crate) fn from_data(degree: usize, limbs: usize, special: usize, data: Buffer) -> Self {
        debug_assert_eq!(data.len(), degree * (limbs + special));
        Self { degree, limbs, special, data, form: PhantomData }
    }

    /// N.
    pub fn degree(&self) -> usize {
        self.degree
    }

    /// Limbs of the ciphertext modulus.
    pub fn limbs(&self) -> usize {
        self.limbs
    }

    /// Limbs of special primes.
    pub fn special(&self) -> usize {
        self.special
    }

    /// The residues, limb after limb.
    pub fn data(&self) -> &[u32] {
        &self.data
    }

    pub(crate) fn data_mut(&mut self) -> &mut [u32] {
        &mut self.data
    }

    /// Residues modulo prime `i`.
    #[inline]
    pub(crate) fn limb(&self, i: usize) -> &[u32] {
        &self.data[i * self.degree..(i + 1) * self.degree]
    }

    /// The first `limbs` limbs, copied.
    pub(crate) fn prefix(&self, limbs: usize) -> Self {
        debug_assert!(limbs <= self.limbs);
        Self::from_data(self.degree, limbs, 0, Buffer::copy_of(&self.data[..limbs * self.degree]))
    }

    /// Runs `f(i, modulus, limb)` over all limbs in parallel.
    pub(crate) fn for_each_limb(
        &mut self,
        parameters: &Parameters,
        f: impl Fn(usize, Modulus, &mut [u32]) + Sync,
    ) {
        let limbs = self.limbs;
        self.data
            .par_chunks_exact_mut(self.degree)
            .enumerate()
            .for_each(|(i, limb)| f(i, parameters.table(limbs, i).modulus, limb));
    }

    /// self += other, over the limbs of `self`.
    pub(crate) fn add_assign(&mut self, other: &Self, parameters: &Parameters) {
        self.for_each_limb(parameters, |i, m, limb| kernels::add_assign(limb, other.limb(i), m));
    }

    /// self -= other, over the limbs of `self`.
    pub(crate) fn sub_assign(&mut self, other: &Self, parameters: &Parameters) {
        self.for_each_limb(parameters, |i, m, limb| kernels::sub_assign(limb, other.limb(i), m));
    }

    /// self = -self.
    pub(crate) fn negate(&mut self, parameters: &Parameters) {
        self.for_each_limb(parameters, |_, m, limb| kernels::negate(limb, m));
    }

    /// Multiplies limb i by the residue `factor(i, modulus)`.
    pub(crate) fn scale_limbs(
        &mut self,
        parameters: &Parameters,
        factor: impl Fn(usize, Modulus) -> u32 + Sync,
    ) {
        self.for_each_limb(parameters, |i, m, limb| {
            kernels::scale(limb, m.to_montgomery(factor(i, m)), m);
        });
    }
}

impl Poly<Coefficient> {
    /// To evaluation form.
    pub(crate) fn into_evaluation(mut self, parameters: &Parameters) -> Poly<Evaluation> {
        let limbs = self.limbs;
        self.data.par_chunks_exact_mut(self.degree).enumerate().for_each(|(i, limb)| {
            parameters.table(limbs, i).transform(limb.len()).forward(limb);
        });
        Poly::from_data(self.degree, self.limbs, self.special, self.data)
    }

    /// Reduces signed coefficients below 2^62 modulo every prime.
    pub(crate) fn from_signed(parameters: &Parameters, limbs: usize, special: usize, values: &[i64]) -> Self {
        let mut poly = Self::scratch(parameters, limbs, special);
        poly.for_each_limb(parameters, |_, m, limb| {
            kernels::reduce_signed(limb, values, m);
        });
        poly
    }

    /// Reduces small signed coefficients, |v| < q for every prime, without a division or a branch.
    #[cfg(feature = "secret-key")]
    pub(crate) fn from_small(parameters: &Parameters, limbs: usize, special: usize, values: &[i32]) -> Self {
        let mut poly = Self::scratch(parameters, limbs, special);
        poly.for_each_limb(parameters, |_, m, limb| kernels::from_small(limb, values, m));
        poly
    }
}

impl Poly<Evaluation> {
    /// To coefficient form.
    pub(crate) fn into_coefficients(mut self, parameters: &Parameters) -> Poly<Coefficient> {
        let limbs = self.limbs;
        self.data.par_chunks_exact_mut(self.degree).enumerate().for_each(|(i, limb)| {
            parameters.table(limbs, i).transform(limb.len()).inverse(limb);
        });
        Poly::from_data(self.degree, self.limbs, self.special, self.data)
    }

    /// self *= other, position by position, over the limbs of `self`.
    pub(crate) fn mul_assign(&mut self, other: &Self, parameters: &Parameters) {
        self.for_each_limb(parameters, |i, m, limb| kernels::mul_assign(limb, other.limb(i), m));
    }

    /// Applies an automorphism, given as its permutation.
    #[cfg(feature = "secret-key")]
    pub(crate) fn permuted(&self, permutation: &Permutation) -> Self {
        let mut data = Buffer::scratch(self.data.len());
        data.par_chunks_exact_mut(self.degree).zip(self.data.par_chunks_exact(self.degree)).for_each(
            |(out, limb)| {
                kernels::permute(out, limb, permutation);
            },
        );
        Self::from_data(self.degree, self.limbs, self.special, data)
    }
}
