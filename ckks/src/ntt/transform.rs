//! What every implementation of the transform does.

/// Forward and inverse transform of one prime and one size, in place, on fully reduced residues.
pub(crate) trait Transform: Send + Sync + std::fmt::Debug {
    /// Coefficients to values.
    fn forward(&self, values: &mut [u32]);
    /// Values to coefficients, normalised.
    fn inverse(&self, values: &mut [u32]);
    /// Values to coefficients times the size, for callers that multiply by a constant next.
    fn inverse_scaled(&self, values: &mut [u32]);
    /// As [`Self::inverse_scaled`], with the result elsewhere.
    fn inverse_scaled_into(&self, values: &[u32], out: &mut [u32]) {
        out.copy_from_slice(values);
        self.inverse_scaled(out);
    }
}
