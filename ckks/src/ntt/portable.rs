//! The transform in plain Rust: Cooley-Tukey forward, Gentleman-Sande inverse, twiddles in Shoup's form.
//!
//! Source: Longa and Naehrig, Speeding up the Number Theoretic Transform (2016), algorithms 1 and 2.

use super::factor::{Factor, reversed};
use super::transform::Transform;
use crate::arith::Modulus;
use crate::primes;

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
                out[reversed(i, bits)] = Factor::new(power, modulus);
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
