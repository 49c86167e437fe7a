//! Basis conversion: the residues of a number modulo some primes, from those modulo others.
//!
//! For x modulo D = q_1 .. q_a, with y_i = x (D/q_i)^-1 mod q_i, the number is sum_i y_i D/q_i - v D. Taking v as the rounded
//! sum of y_i/q_i makes the result the representative in about [-D/2, D/2): centred, which is worth eight bits of key-switch
//! noise against leaving v out. A float is enough for v: an error of one only occurs within 2^-18 D of the border.
//! Source: Halevi, Polyakov and Shoup, An improved RNS variant of the BFV scheme (2018), section 2.2.

use crate::arith::Modulus;
use crate::buffer::{Buffer, LINE};
use crate::kernels::{self, Target};

/// Coefficients whose source residues stay in the first or second cache while all targets are computed from them.
const BLOCK: usize = 128;
/// Blocks that one piece of work has at most.
const PIECE: usize = 8;

/// Source side of a conversion from the primes of one digit, or from the special primes.
pub(crate) struct Conversion {
    sources: Vec<Modulus>,
    /// (D/q_i)^-1 mod q_i over the factor that residues come with, in Montgomery form.
    weights: Vec<u32>,
    reciprocals: Vec<f32>,
}

/// Some coefficients of a conversion, into all targets. Sources of a large ring stream from memory, so each is read once, whatever the
/// number of targets.
pub(crate) struct Piece<'a> {
    conversion: &'a Conversion,
    /// Limb after limb, of `n` coefficients.
    residues: &'a [u32],
    n: usize,
    /// Where the piece begins.
    first: usize,
    size: usize,
    /// A part of one limb for each target.
    out: Vec<&'a mut [u32]>,
    targets: &'a [Target],
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

    /// Cuts the conversion of residues of `n` coefficients, given limb after limb, into pieces that can run side by side; `out` has a limb
    /// for each target.
    pub(crate) fn pieces<'a>(
        &'a self,
        (residues, n): (&'a [u32], usize),
        out: impl IntoIterator<Item = &'a mut [u32]>,
        targets: &'a [Target],
    ) -> impl Iterator<Item = Piece<'a>> {
        let size = BLOCK.min(n);
        let blocks = (n / size).div_ceil(8 * rayon::current_num_threads()).clamp(1, PIECE);
        let mut limbs: Vec<_> = out.into_iter().map(|limb| limb.chunks_mut(blocks * size)).collect();
        (0..n).step_by(blocks * size).map(move |first| {
            let out = limbs.iter_mut().filter_map(Iterator::next).collect();
            Piece { conversion: self, residues, n, first, size, out, targets }
        })
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

impl Piece<'_> {
    /// Weighs the residues of each block, finds its quotients, and converts both.
    pub(crate) fn convert(mut self) {
        let (n, size, sources) = (self.n, self.size, self.conversion.sources.len());
        // The limbs of a polynomial are a power of two apart and would fight for the same lines of the first cache, so rows have a gap.
        let stride = size + LINE;
        let mut block = Buffer::scratch((sources + 1) * stride);
        let length = self.out.first().map_or(0, |out| out.len());
        for at in (0..length).step_by(size) {
            let (y, v) = block.split_at_mut(sources * stride);
            for (i, row) in y.chunks_exact_mut(stride).enumerate() {
                let residues = &self.residues[i * n + self.first + at..][..size];
                let Conversion { weights, sources, .. } = self.conversion;
                kernels::scale_into(&mut row[..size], residues, weights[i], sources[i]);
            }
            kernels::conversion_quotient(&mut v[..size], y, stride, &self.conversion.reciprocals);
            if at + size < length {
                let next = self.first + at + size;
                (0..sources).for_each(|i| kernels::prefetch(&self.residues[i * n + next..][..size]));
            }
            kernels::convert_block(&mut self.out, at, &block, (size, stride), self.targets);
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
        conversion.pieces((&residues, n), out.chunks_mut(n), &tables).for_each(Piece::convert);
        for (limb, p) in out.chunks(n).zip(targets) {
            for (&got, &x) in limb.iter().zip(&values) {
                assert_eq!(got, p.reduce_i128(x));
            }
        }
    }
}
