//! The numbers of a bootstrap as a file or a program states them, unchecked.

/// Plain numbers of a bootstrap, part of a [`crate::ParametersLiteral`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootstrapLiteral {
    /// Nonzero coefficients of the ephemeral secret under which a ciphertext is raised.
    pub sparse_weight: usize,
    /// Multiples of q_0 up to this one are removed. A coefficient beyond it ruins its slot.
    pub range: usize,
    /// Doublings of the angle after the series.
    pub doublings: u32,
    /// Degree of the series.
    pub degree: usize,
    /// log2 of the greatest magnitude of a slot.
    pub bound_log2: u32,
    /// log2 of q_0 over what a slot of that magnitude becomes: the sine bends values by a sixth of (2 pi 2^-ratio)^2.
    pub ratio_log2: u32,
    /// Primes of q_0.
    pub base: usize,
    /// Primes that moving slots to coefficients takes, beside one of those that are left.
    pub slots_to_coefficients: usize,
    /// Primes that one level of the sine takes.
    pub primes_per_level: usize,
    /// Primes that moving coefficients back to slots takes.
    pub coefficients_to_slots: usize,
}

impl BootstrapLiteral {
    /// The numbers behind [`crate::ParametersLiteral::bootstrapping`], each with its reason.
    pub fn standard() -> Self {
        Self {
            // Twice the weight of most libraries: attacks on sparse secrets are younger than those on dense ones (`security`).
            sparse_weight: 64,
            // |I| > 20 has a probability of 2^-68 a coefficient, 2^-53 a bootstrap of 2^15 real slots.
            range: 20,
            // Three doublings let 31 do as the degree: eight levels. The sine is off by 2^-33.
            doublings: 3,
            degree: 31,
            bound_log2: 3,
            // The sine bends a value of 8 by 1.3e-5.
            ratio_log2: 11,
            base: 2,
            slots_to_coefficients: 2,
            // Two primes of 27 bits: noise of 2^-54 of the sine's amplitude, amplified by 2^11 of the ratio.
            primes_per_level: 2,
            coefficients_to_slots: 4,
        }
    }

    /// All numbers, in the order of the fields: for digests and files.
    pub(crate) fn numbers(&self) -> [u32; 10] {
        [
            self.sparse_weight as u32,
            self.range as u32,
            self.doublings,
            self.degree as u32,
            self.bound_log2,
            self.ratio_log2,
            self.base as u32,
            self.slots_to_coefficients as u32,
            self.primes_per_level as u32,
            self.coefficients_to_slots as u32,
        ]
    }

    /// From [`Self::numbers`].
    pub(crate) fn from_numbers(numbers: [u32; 10]) -> Self {
        let [weight, range, doublings, degree, bound_log2, ratio_log2, base, forth, primes, back] = numbers;
        Self {
            sparse_weight: weight as usize,
            range: range as usize,
            doublings,
            degree: degree as usize,
            bound_log2,
            ratio_log2,
            base: base as usize,
            slots_to_coefficients: forth as usize,
            primes_per_level: primes as usize,
            coefficients_to_slots: back as usize,
        }
    }
}
