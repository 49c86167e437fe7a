//! Arithmetic modulo one odd prime below 2^30, in Montgomery's manner.
//!
//! A product of two residues is below q^2 < q 2^30, so four of them can be summed in a `u64` before one
//! reduction: that is what the inner products of key switching and of linear maps are made of.
//! Source: Montgomery, Modular multiplication without trial division (1985), in the signed form
//! `t = hi(s) - hi(lo(s) q^-1 q)`, which needs no addition of 64-bit words.

/// An odd prime q < 2^30 with the constants of its reductions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modulus {
    q: u32,
    /// q^-1 modulo 2^32.
    inverse: u32,
    /// 2^64 modulo q.
    radix_squared: u32,
}

impl Modulus {
    /// Prepares the constants of `q`, which must be odd and below 2^30.
    pub(crate) fn new(q: u32) -> Self {
        debug_assert!(q % 2 == 1 && q < 1 << 30);
        // Newton: each step doubles the number of correct low bits, from 3 to 48.
        let mut inverse = q;
        for _ in 0..4 {
            inverse = inverse.wrapping_mul(2u32.wrapping_sub(q.wrapping_mul(inverse)));
        }
        let radix = (1u64 << 32) % u64::from(q);
        let radix_squared = (radix * radix % u64::from(q)) as u32;
        Self { q, inverse, radix_squared }
    }

    /// The prime itself.
    #[inline(always)]
    pub const fn value(self) -> u32 {
        self.q
    }

    /// s 2^-32 mod q, in [0, q), for s < q 2^32.
    #[inline(always)]
    pub(crate) fn reduce(self, s: u64) -> u32 {
        let m = (s as u32).wrapping_mul(self.inverse);
        let high = ((u64::from(m) * u64::from(self.q)) >> 32) as u32;
        // hi(s) < q and high < q: the difference lies in (-q, q), and adding q wraps the negative half only.
        let t = ((s >> 32) as u32).wrapping_sub(high);
        t.min(t.wrapping_add(self.q))
    }

    /// a + b mod q, for residues.
    #[inline(always)]
    pub(crate) fn add(self, a: u32, b: u32) -> u32 {
        let s = a + b;
        s.min(s.wrapping_sub(self.q))
    }

    /// a - b mod q, for residues.
    #[inline(always)]
    pub(crate) fn sub(self, a: u32, b: u32) -> u32 {
        let d = a.wrapping_sub(b);
        d.min(d.wrapping_add(self.q))
    }

    /// a 2^32 mod q: the Montgomery form of a constant factor. Any `a` below 2^32 will do.
    #[inline(always)]
    pub(crate) fn to_montgomery(self, a: u32) -> u32 {
        self.reduce(u64::from(a) * u64::from(self.radix_squared))
    }

    /// a b 2^-32 mod q: the product, where one factor is in Montgomery form.
    #[inline(always)]
    pub(crate) fn mul_montgomery(self, a: u32, b: u32) -> u32 {
        self.reduce(u64::from(a) * u64::from(b))
    }

    /// q^-1 modulo 2^32.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) const fn inverse(self) -> u32 {
        self.inverse
    }

    /// 2^64 mod q, the factor that undoes two reductions.
    #[inline(always)]
    pub(crate) const fn radix_squared(self) -> u32 {
        self.radix_squared
    }

    /// a b mod q.
    #[inline(always)]
    pub(crate) fn mul(self, a: u32, b: u32) -> u32 {
        self.to_montgomery(self.mul_montgomery(a, b))
    }

    /// a^e mod q.
    pub(crate) fn pow(self, a: u32, mut e: u64) -> u32 {
        let (mut result, mut base) = (1, a);
        while e > 0 {
            if e & 1 == 1 {
                result = self.mul(result, base);
            }
            base = self.mul(base, base);
            e >>= 1;
        }
        result
    }

    /// a^-1 mod q, for a not divisible by q.
    pub(crate) fn invert(self, a: u32) -> u32 {
        self.pow(a, u64::from(self.q) - 2)
    }

    /// x mod q for a signed word.
    #[inline(always)]
    pub(crate) fn reduce_i64(self, x: i64) -> u32 {
        x.rem_euclid(i64::from(self.q)) as u32
    }

    /// x mod q for a signed double word.
    #[inline]
    pub(crate) fn reduce_i128(self, x: i128) -> u32 {
        x.rem_euclid(i128::from(self.q)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PRIMES: [u32; 4] = [1_073_479_681, 786_433, 65_537, 12_289];

    proptest! {
        #[test]
        fn agrees_with_wide_arithmetic(a: u32, b: u32, which in 0..4usize, x: i64) {
            let m = Modulus::new(PRIMES[which]);
            let q = u64::from(m.value());
            let (a, b) = (a % m.value(), b % m.value());
            prop_assert_eq!(u64::from(m.mul(a, b)), u64::from(a) * u64::from(b) % q);
            prop_assert_eq!(u64::from(m.add(a, b)), (u64::from(a) + u64::from(b)) % q);
            prop_assert_eq!(m.add(m.sub(a, b), b), a);
            prop_assert_eq!(i128::from(m.reduce_i64(x)), i128::from(x).rem_euclid(i128::from(q)));
            prop_assert_eq!(m.mul_montgomery(m.to_montgomery(a), b), m.mul(a, b));
            if a != 0 {
                prop_assert_eq!(m.mul(a, m.invert(a)), 1);
            }
        }
    }
}
