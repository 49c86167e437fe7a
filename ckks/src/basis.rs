//! Basis conversion: the residues of a number modulo some primes, from those modulo others.
//!
//! For x modulo D = q_1 .. q_a, with y_i = x (D/q_i)^-1 mod q_i, the number is sum_i y_i D/q_i - v D. Taking v as the rounded
//! sum of y_i/q_i makes the result the representative in about [-D/2, D/2): centred, which is worth eight bits of key-switch
//! noise against leaving v out. A float is enough for v: an error of one only occurs within 2^-18 D of the border.
//! Source: Halevi, Polyakov and Shoup, An improved RNS variant of the BFV scheme (2018), section 2.2.

use rayon::prelude::*;

use crate::arith::Modulus;
use crate::buffer::Buffer;
use crate::kernels::{self, Target};

/// Coefficients that one task takes.
const BLOCK: usize = 4096;

/// Source side of a conversion from the primes of one digit, or from the special primes.
pub(crate) struct Conversion {
    sources: Vec<Modulus>,
    /// (D/q_i)^-1 mod q_i, in Montgomery form.
    weights: Vec<u32>,
    reciprocals: Vec<f32>,
}

impl Conversion {
    pub(crate) fn new(sources: Vec<Modulus>) -> Self {
        let weights = sources
            .iter()
            .map(|&m| {
                let others = sources.iter().filter(|&&o| o != m);
                m.to_montgomery(m.invert(others.fold(1, |product, o| m.mul(product, o.value() % m.value()))))
            })
            .collect();
        let reciprocals = sources.iter().map(|m| 1.0 / m.value() as f32).collect();
        Self { sources, weights, reciprocals }
    }

    /// Turns the residues of source prime i into y_i.
    pub(crate) fn weigh(&self, i: usize, limb: &mut [u32]) {
        kernels::scale(limb, self.weights[i], self.sources[i]);
    }

    /// The quotients v of the scaled residues.
    pub(crate) fn quotients(&self, y: &[u32], n: usize) -> Buffer {
        let mut v = Buffer::scratch(n);
        v.par_chunks_mut(BLOCK).enumerate().for_each(|(i, v)| {
            kernels::conversion_quotient(v, i * BLOCK, y, n, &self.reciprocals);
        });
        v
    }

    /// The constants of a conversion into prime p.
    pub(crate) fn target(&self, p: Modulus) -> Target {
        let residue = |m: &Modulus| m.value() % p.value();
        // Products before i (from the front) times products after i (from the back).
        let mut factors = Vec::with_capacity(self.sources.len() + 1);
        let mut product = 1;
        for m in &self.sources {
            factors.push(product);
            product = p.mul(product, residue(m));
        }
        let whole = product;
        product = 1;
        for (factor, m) in factors.iter_mut().zip(&self.sources).rev() {
            *factor = p.mul(*factor, product);
            product = p.mul(product, residue(m));
        }
        factors.push(p.sub(0, whole));
        for factor in &mut factors {
            *factor = p.to_montgomery(*factor);
        }
        Target { modulus: p, factors }
    }

    /// D mod p.
    pub(crate) fn product(&self, p: Modulus) -> u32 {
        self.sources.iter().fold(1, |product, m| p.mul(product, m.value() % p.value()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primes;

    #[test]
    fn converts_the_centred_representative() {
        let primes: Vec<Modulus> =
            primes::generate(6, &[30, 30, 28, 29, 30]).unwrap().into_iter().map(Modulus::new).collect();
        let (sources, targets) = primes.split_at(3);
        let n = 64;
        let conversion = Conversion::new(sources.to_vec());
        let values: Vec<i128> =
            (0..n as i128).map(|i| (i - 32) * 1_234_567_890_123_456_789_012_345 / 64 + i).collect();
        let mut y: Vec<u32> = Vec::new();
        for (i, m) in sources.iter().enumerate() {
            let mut limb: Vec<u32> = values.iter().map(|&x| m.reduce_i128(x)).collect();
            conversion.weigh(i, &mut limb);
            y.extend(limb);
        }
        let v = conversion.quotients(&y, n);
        let tables: Vec<Target> = targets.iter().map(|&p| conversion.target(p)).collect();
        let mut out = vec![0; 2 * n];
        kernels::convert(&mut out, &y, &v, n, &tables);
        for (limb, p) in out.chunks(n).zip(targets) {
            for (&got, &x) in limb.iter().zip(&values) {
                assert_eq!(got, p.reduce_i128(x));
            }
        }
    }
}
