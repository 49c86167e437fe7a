//! Constant factors and the order of bit reversal, which the tables of every implementation are made of.

use crate::arith::Modulus;

/// A constant factor w with floor(w 2^32 / q).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Factor {
    pub(crate) w: u32,
    pub(crate) quotient: u32,
}

impl Factor {
    pub(super) fn new(w: u32, m: Modulus) -> Self {
        Self { w, quotient: ((u64::from(w) << 32) / u64::from(m.value())) as u32 }
    }

    /// w x mod q.
    #[inline(always)]
    pub(super) fn mul(self, x: u32, m: Modulus) -> u32 {
        let t = ((u64::from(self.quotient) * u64::from(x)) >> 32) as u32;
        // The estimate of the quotient is at most one too small: r < 2q.
        let r = self.w.wrapping_mul(x).wrapping_sub(t.wrapping_mul(m.value()));
        r.min(r.wrapping_sub(m.value()))
    }
}

/// The lowest `bits` bits of i in reverse order.
pub(super) fn reversed(i: usize, bits: u32) -> usize {
    if bits == 0 { 0 } else { i.reverse_bits() >> (usize::BITS - bits) }
}
