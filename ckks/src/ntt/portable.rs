//! The transform in plain Rust: Cooley-Tukey forward, Gentleman-Sande inverse, twiddles in Shoup's form.
//!
//! Source: Longa and Naehrig, Speeding up the Number Theoretic Transform (2016), algorithms 1 and 2.

use super::Transform;
use crate::arith::Modulus;
use crate::primes;

/// A constant factor w with floor(w 2^32 / q).
#[derive(Clone, Copy, Debug)]
struct Factor {
    w: u32,
    quotient: u32,
}

impl Factor {
    fn new(w: u32, m: Modulus) -> Self {
        Self { w, quotient: ((u64::from(w) << 32) / u64::from(m.value())) as u32 }
    }

    /// w x mod q.
    #[inline(always)]
    fn mul(self, x: u32, m: Modulus) -> u32 {
        let t = ((u64::from(self.quotient) * u64::from(x)) >> 32) as u32;
        // The estimate of the quotient is at most one too small: r < 2q.
        let r = self.w.wrapping_mul(x).wrapping_sub(t.wrapping_mul(m.value()));
        r.min(r.wrapping_sub(m.value()))
    }
}

/// The portable transform of one prime and size.
#[derive(Debug)]
pub(crate) struct Portable {
    modulus: Modulus,
    /// psi^bitrev(i).
    forward: Vec<Factor>,
    /// psi^-bitrev(i).
    inverse: Vec<Factor>,
    /// 1/n.
    normalise: Factor,
}

impl Portable {
    /// Tables for a power-of-two size at least 1.
    pub(crate) fn new(modulus: Modulus, size: usize) -> Self {
        let psi = primes::root_of_unity(modulus, size);
        let table = |root: u32| {
            let bits = size.trailing_zeros();
            let mut out = vec![Factor::new(1, modulus); size];
            let mut power = 1;
            for i in 0..size {
                let at = if bits == 0 { 0 } else { i.reverse_bits() >> (usize::BITS - bits) };
                out[at] = Factor::new(power, modulus);
                power = modulus.mul(power, root);
            }
            out
        };
        let n_inverse = modulus.invert(size as u32);
        Self {
            modulus,
            forward: table(psi),
            inverse: table(modulus.invert(psi)),
            normalise: Factor::new(n_inverse, modulus),
        }
    }
}

impl Transform for Portable {
    fn forward(&self, values: &mut [u32]) {
        let m = self.modulus;
        let (mut blocks, mut half) = (1, values.len() / 2);
        while half > 0 {
            for (block, twiddle) in values.chunks_exact_mut(2 * half).zip(&self.forward[blocks..]) {
                let (low, high) = block.split_at_mut(half);
                for (x, y) in low.iter_mut().zip(high) {
                    let t = twiddle.mul(*y, m);
                    (*x, *y) = (m.add(*x, t), m.sub(*x, t));
                }
            }
            blocks *= 2;
            half /= 2;
        }
    }

    fn inverse(&self, values: &mut [u32]) {
        self.inverse_scaled(values);
        for x in values {
            *x = self.normalise.mul(*x, self.modulus);
        }
    }

    fn inverse_scaled(&self, values: &mut [u32]) {
        let m = self.modulus;
        let (mut blocks, mut half) = (values.len() / 2, 1);
        while blocks > 0 {
            for (block, twiddle) in values.chunks_exact_mut(2 * half).zip(&self.inverse[blocks..]) {
                let (low, high) = block.split_at_mut(half);
                for (x, y) in low.iter_mut().zip(high) {
                    (*x, *y) = (m.add(*x, *y), twiddle.mul(m.sub(*x, *y), m));
                }
            }
            blocks /= 2;
            half *= 2;
        }
    }
}
