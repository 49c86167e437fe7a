//! Basis conversion: the residues of a number modulo some primes, from those modulo others.
//!
//! For x modulo D = q_1 .. q_a, with y_i = x (D/q_i)^-1 mod q_i, the number is sum_i y_i D/q_i - v D. Taking v as the rounded
//! sum of y_i/q_i makes the result the representative in about [-D/2, D/2): centred, which is worth eight bits of key-switch
//! noise against leaving v out. A float is enough for v: an error of one only occurs within 2^-18 D of the border.
//! Source: Halevi, Polyakov and Shoup, An improved RNS variant of the BFV scheme (2018), section 2.2.

use rayon::prelude::*;

use crate::arith::Modulus;
use crate::buffer::{Buffer, LINE};
use crate::kernels::{self, Target};

/// Coefficients whose source residues stay in the first cache while the targets are computed.
const BLOCK: usize = 256;
/// Blocks that one task takes at least.
const TASK: usize = 8;

/// Source side of a conversion from the primes of one digit, or from the special primes.
pub(crate) struct Conversion {
    sources: Vec<Modulus>,
    /// (D/q_i)^-1 mod q_i over the factor that residues come with, in Montgomery form.
    weights: Vec<u32>,
    reciprocals: Vec<f32>,
}

/// The y_i and v of a polynomial, block by block of coefficients: the sources of a block, one after the other, then its quotients.
///
/// The limbs of a polynomial are a power of two apart and would fight for the same lines of the first cache, so rows have a gap.
pub(crate) struct Prepared {
    blocks: Buffer,
    degree: usize,
    rows: usize,
}

impl Conversion {
    /// A conversion of residues that come multiplied by `factor`, as they do from [`crate::ntt::Transform::inverse_scaled`].
    pub(crate) fn new(sources: Vec<Modulus>, factor: u32) -> Self {
        let weights = sources
            .iter()
            .map(|&m| {
                let others = sources.iter().filter(|&&o| o != m);
                let product =
                    others.fold(factor % m.value(), |product, o| m.mul(product, o.value() % m.value()));
                m.to_montgomery(m.invert(product))
            })
            .collect();
        let reciprocals = sources.iter().map(|m| 1.0 / m.value() as f32).collect();
        Self { sources, weights, reciprocals }
    }

    /// Weighs the residues, given limb after limb, and finds the quotients.
    pub(crate) fn prepare(&self, residues: &[u32], n: usize) -> Prepared {
        let (size, sources) = (BLOCK.min(n), self.sources.len());
        let rows = sources + 1;
        let stride = size + LINE;
        let mut blocks = Buffer::scratch(rows * stride * (n / size));
        blocks.par_chunks_exact_mut(rows * stride).with_min_len(TASK).enumerate().for_each(|(b, block)| {
            let (y, v) = block.split_at_mut(sources * stride);
            for (i, row) in y.chunks_exact_mut(stride).enumerate() {
                let residues = &residues[i * n + b * size..][..size];
                kernels::scale_into(&mut row[..size], residues, self.weights[i], self.sources[i]);
            }
            kernels::conversion_quotient(&mut v[..size], y, stride, &self.reciprocals);
        });
        Prepared { blocks, degree: n, rows }
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

impl Prepared {
    /// The residues modulo several primes, one limb of `out` each.
    pub(crate) fn convert(&self, out: &mut [u32], targets: &[Target]) {
        let size = BLOCK.min(self.degree);
        let stride = size + LINE;
        for (b, block) in self.blocks.chunks_exact(self.rows * stride).enumerate() {
            kernels::convert_block(out, (self.degree, b * size), block, (size, stride), targets);
        }
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
        let factor = 5;
        let conversion = Conversion::new(sources.to_vec(), factor);
        let values: Vec<i128> =
            (0..n as i128).map(|i| (i - 32) * 1_234_567_890_123_456_789_012_345 / 64 + i).collect();
        let residues: Vec<u32> = sources
            .iter()
            .flat_map(|&m| values.iter().map(move |&x| m.mul(m.reduce_i128(x), factor)))
            .collect();
        let tables: Vec<Target> = targets.iter().map(|&p| conversion.target(p)).collect();
        let mut out = vec![0; 2 * n];
        conversion.prepare(&residues, n).convert(&mut out, &tables);
        for (limb, p) in out.chunks(n).zip(targets) {
            for (&got, &x) in limb.iter().zip(&values) {
                assert_eq!(got, p.reduce_i128(x));
            }
        }
    }
}
