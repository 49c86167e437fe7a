//! Hybrid key switching: decompose into digits raised to the special primes, inner product with a key, division by P.
//!
//! With digits c_j of c (centred, in evaluation form modulo Q_l P) and key halves (b_j, a_j), sum_j c_j (b_j, a_j) encrypts
//! P c s' under s; [`mod_down`] divides by P, rounding. Both steps are basis conversions between transforms.
//! Source: Han and Ki, Better bootstrapping for approximate homomorphic encryption (2019), section 3.

use rayon::prelude::*;

use crate::basis::Conversion;
use crate::buffer::Buffer;
use crate::evaluation_keys::SwitchingKey;
use crate::kernels::{self, Target};
use crate::parameters::{KeyShape, Parameters};
use crate::poly::{Evaluation, Poly};

/// Limbs that one task converts and transforms: they share the loads of the source limbs.
const GROUP: usize = 8;

/// The digits of a polynomial, each modulo q_0 .. q_l and the special primes of the shape.
pub(crate) struct Decomposition {
    pub(crate) shape: KeyShape,
    pub(crate) digits: Vec<Poly<Evaluation>>,
}

/// Converts into the limbs of `out`, the first of which is limb `first` of a polynomial with `limbs` chain limbs, and transforms them.
fn convert_limbs(
    p: &Parameters,
    (limbs, first): (usize, usize),
    out: &mut [u32],
    conversion: &Conversion,
    (y, v): (&[u32], &[u32]),
) {
    let n = p.ring_degree();
    out.par_chunks_mut(GROUP * n).enumerate().for_each(|(group, out)| {
        let first = first + group * GROUP;
        let count = out.len() / n;
        let targets: Vec<Target> =
            (first..first + count).map(|i| conversion.target(p.table(limbs, i).modulus)).collect();
        kernels::convert(out, y, v, n, &targets);
        for (i, limb) in out.chunks_exact_mut(n).enumerate() {
            p.table(limbs, first + i).transform(n).forward(limb);
        }
    });
}

/// Cuts `c` into digits and raises each to the special primes (ModUp).
pub(crate) fn decompose(p: &Parameters, c: &Poly<Evaluation>, shape: KeyShape) -> Decomposition {
    let (n, limbs) = (c.degree(), c.limbs());
    let ranges: Vec<_> = (0..limbs)
        .step_by(shape.digit_limbs)
        .map(|start| start..limbs.min(start + shape.digit_limbs))
        .collect();
    let conversions: Vec<Conversion> = ranges
        .iter()
        .map(|range| Conversion::new(range.clone().map(|i| p.table(limbs, i).modulus).collect()))
        .collect();
    let mut y = Buffer::copy_of(c.data());
    y.par_chunks_exact_mut(n).enumerate().for_each(|(i, limb)| {
        p.table(limbs, i).transform(n).inverse(limb);
        conversions[i / shape.digit_limbs].weigh(i % shape.digit_limbs, limb);
    });
    let digits = ranges.iter().zip(&conversions).map(|(range, conversion)| {
        let y = &y[range.start * n..range.end * n];
        let v = conversion.quotients(y, n);
        let mut digit = Poly::scratch(p, limbs, shape.special);
        let (head, rest) = digit.data_mut().split_at_mut(range.start * n);
        let (own, tail) = rest.split_at_mut(range.len() * n);
        own.copy_from_slice(&c.data()[range.start * n..range.end * n]);
        convert_limbs(p, (limbs, 0), head, conversion, (y, &v));
        convert_limbs(p, (limbs, range.end), tail, conversion, (y, &v));
        digit
    });
    Decomposition { shape, digits: digits.collect() }
}

impl Decomposition {
    /// Limbs of the chain.
    pub(crate) fn limbs(&self) -> usize {
        self.digits[0].limbs()
    }

    /// Limb i of the inner product with a key: both halves. The key must have the decomposition's shape.
    pub(crate) fn inner_product_limb(
        &self,
        p: &Parameters,
        key: &SwitchingKey,
        i: usize,
        out: [&mut [u32]; 2],
    ) {
        let limbs = self.limbs();
        let at = if i < limbs { i } else { key.limbs() + i - limbs };
        let m = p.table(limbs, i).modulus;
        let digits: Vec<&[u32]> = self.digits.iter().map(|d| d.limb(i)).collect();
        for (half, out) in out.into_iter().enumerate() {
            let key: Vec<&[u32]> = key.halves[half].iter().map(|k| k.limb(at)).collect();
            kernels::inner_product(out, &digits, &key, m);
        }
    }

    /// The inner product with a key, modulo Q_l P.
    pub(crate) fn inner_product(&self, p: &Parameters, key: &SwitchingKey) -> [Poly<Evaluation>; 2] {
        let limbs = self.limbs();
        let mut out = [(); 2].map(|()| Poly::scratch(p, limbs, self.shape.special));
        let n = p.ring_degree();
        let [u0, u1] = &mut out;
        u0.data_mut()
            .par_chunks_exact_mut(n)
            .zip(u1.data_mut().par_chunks_exact_mut(n))
            .enumerate()
            .for_each(|(i, (u0, u1))| self.inner_product_limb(p, key, i, [u0, u1]));
        out
    }

    /// The whole key switch of one polynomial, divided by P.
    pub(crate) fn switch(&self, p: &Parameters, key: &SwitchingKey) -> [Poly<Evaluation>; 2] {
        self.inner_product(p, key).map(|u| mod_down(p, u, 0))
    }
}

/// Divides by the special primes and the last `rescaled` primes of the chain, rounding to nearest (ModDown, rescale, or both at once).
pub(crate) fn mod_down(p: &Parameters, mut x: Poly<Evaluation>, rescaled: usize) -> Poly<Evaluation> {
    let (n, limbs) = (x.degree(), x.limbs());
    let kept = limbs - rescaled;
    if rescaled + x.special() == 0 {
        return x;
    }
    let modulus = |i: usize| p.table(limbs, i).modulus;
    let conversion = Conversion::new((kept..limbs + x.special()).map(modulus).collect());
    let (top, y) = x.data_mut().split_at_mut(kept * n);
    y.par_chunks_exact_mut(n).enumerate().for_each(|(i, limb)| {
        p.table(limbs, kept + i).transform(n).inverse(limb);
        conversion.weigh(i, limb);
    });
    let v = conversion.quotients(y, n);
    let mut out = Poly::scratch(p, kept, 0);
    convert_limbs(p, (kept, 0), out.data_mut(), &conversion, (y, &v));
    out.for_each_limb(p, |i, m, limb| {
        let inverse = m.to_montgomery(m.invert(conversion.product(m)));
        kernels::sub_from_and_scale(limb, &top[i * n..(i + 1) * n], inverse, m);
    });
    out
}
