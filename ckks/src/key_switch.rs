//! Hybrid key switching: decompose into digits raised to the special primes, inner product with a key, division by P.
//!
//! With digits c_j of c (centred, in evaluation form modulo Q_l P) and key halves (b_j, a_j), sum_j c_j (b_j, a_j) encrypts
//! P c s' under s; [`mod_down`] divides by P, rounding. Both steps are basis conversions between transforms.
//! Source: Han and Ki, Better bootstrapping for approximate homomorphic encryption (2019), section 3.
//!
//! A key for many limbs serves few with few special primes. Let R be the product of all special primes; key j holds R g_j s', g_j being 1
//! modulo the primes of digit j and 0 modulo the others. At level l, with P the product of only so many special primes as
//! the digits need there, the key is reduced modulo Q_l P, and the digits c_j are those of c / (R/P) modulo Q_l.
//! Then sum_j c_j g_j = c / (R/P) modulo Q_l, so that R sum_j c_j g_j s' = P c s' modulo Q_l P, as above: the
//! quotient R/P is made good by one factor a limb, and limbs and special primes that are not needed are not touched.
//!
//! Work goes limb by limb: what is done to a limb is done while it lies in the second cache,
//! because whole polynomials (tens of megabytes) stream from memory each time they are touched. Conversions, which need all limbs, go
//! block by block of coefficients for the same reason.

use rayon::prelude::*;

use crate::arith::Modulus;
use crate::basis::{Conversion, Piece};
use crate::buffer::Buffer;
use crate::evaluation_keys::{GaloisKey, SwitchingKey};
use crate::galois::{Moves, Permutation};
use crate::kernels::{self, Target};
use crate::parameters::Parameters;
use crate::plan::{KeyShape, MAX_DIGITS};
use crate::poly::{Evaluation, Poly};

/// Positions of both halves of an inner product that are made before the next: the digits are read from memory once.
pub(crate) const BLOCK: usize = 4096;

/// The digits of a polynomial, each modulo q_0 .. q_l and the special primes of the shape.
#[derive(Debug)]
pub(crate) struct Decomposition {
    pub(crate) shape: KeyShape,
    pub(crate) digits: Vec<Poly<Evaluation>>,
}

/// What is added to one half of an inner product.
#[derive(Clone, Copy)]
pub(crate) enum Addend<'a> {
    Nothing,
    /// P times a polynomial modulo Q_l.
    Raised(&'a Poly<Evaluation>),
    /// A polynomial modulo Q_l P.
    Extended(&'a Poly<Evaluation>),
}

impl<'a> Addend<'a> {
    /// Its limb i, of `limbs` of the chain, and the factor in Montgomery form that goes with it.
    pub(crate) fn limb(
        self,
        p: &Parameters,
        (limbs, i): (usize, usize),
        shape: KeyShape,
    ) -> Option<(&'a [u32], u32)> {
        let m = p.table(limbs, i).modulus;
        match self {
            Self::Raised(c) if i < limbs => {
                Some((c.limb(i), m.to_montgomery(special_product(p, shape.special, i))))
            }
            Self::Extended(u) => Some((u.limb(i), m.to_montgomery(1))),
            _ => None,
        }
    }
}

/// p_0 .. p_(special-1) modulo q_i.
pub(crate) fn special_product(p: &Parameters, special: usize, i: usize) -> u32 {
    let m = p.table(i + 1, i).modulus;
    (0..special).fold(1, |x, t| m.mul(x, p.special_table(t).modulus.value() % m.value()))
}

/// P times a polynomial modulo Q_l, modulo Q_l P.
pub(crate) fn raise(p: &Parameters, c: &Poly<Evaluation>, special: usize) -> Poly<Evaluation> {
    let (n, limbs) = (c.degree(), c.limbs());
    let mut out = Poly::scratch(p, limbs, special);
    out.data_mut().par_chunks_exact_mut(n).enumerate().for_each(|(i, row)| {
        if i < limbs {
            let m = p.table(limbs, i).modulus;
            kernels::scale_into(row, c.limb(i), m.to_montgomery(special_product(p, special, i)), m);
        } else {
            row.fill(0);
        }
    });
    out
}

/// The constants of a conversion into some primes: those of the chain, then the special ones.
fn targets(
    p: &Parameters,
    limbs: usize,
    primes: impl Iterator<Item = usize>,
    conversion: &Conversion,
) -> Vec<Target> {
    primes.map(|i| conversion.target(p.table(limbs, i).modulus)).collect()
}

/// The special primes from `special` on modulo q_i: what a digit is divided by, because keys hold all of them.
fn left_out(p: &Parameters, special: usize, i: usize) -> u32 {
    let m = p.table(i + 1, i).modulus;
    (special..p.special_primes()).fold(1, |x, t| m.mul(x, p.special_table(t).modulus.value() % m.value()))
}

/// Cuts `c` over the special primes that are left out into digits and raises each to the others (ModUp).
pub(crate) fn decompose(p: &Parameters, c: &Poly<Evaluation>, shape: KeyShape) -> Decomposition {
    let (n, limbs) = (c.degree(), c.limbs());
    let range = |digit: usize| digit * shape.digit_limbs..limbs.min((digit + 1) * shape.digit_limbs);
    let mut digits: Vec<Poly<Evaluation>> =
        (0..limbs.div_ceil(shape.digit_limbs)).map(|_| Poly::scratch(p, limbs, shape.special)).collect();
    // Each digit's own limbs are those of c over the primes that are left out, and what it raises comes from their coefficients.
    let mut coefficients = Buffer::scratch(limbs * n);
    let own = digits.iter_mut().enumerate().flat_map(|(digit, d)| {
        let range = range(digit);
        d.data_mut()[range.start * n..range.end * n].chunks_exact_mut(n)
    });
    let rows: Vec<_> = own.zip(coefficients.chunks_exact_mut(n)).collect();
    rows.into_par_iter().enumerate().for_each(|(i, (own, y))| {
        let table = p.table(limbs, i);
        if shape.special < p.special_primes() {
            let m = table.modulus;
            let inverse = m.invert(left_out(p, shape.special, i));
            kernels::scale_into(own, c.limb(i), m.to_montgomery(inverse), m);
        } else {
            own.copy_from_slice(c.limb(i));
        }
        table.transform(n).inverse_scaled_into(own, y);
    });
    let others = |digit: usize| (0..range(digit).start).chain(range(digit).end..limbs + shape.special);
    let conversions: Vec<(Conversion, Vec<Target>)> = (0..digits.len())
        .map(|digit| {
            let moduli = range(digit).map(|i| p.table(limbs, i).modulus).collect();
            let conversion = Conversion::new(moduli, n as u32);
            let targets = targets(p, limbs, others(digit), &conversion);
            (conversion, targets)
        })
        .collect();
    let mut pieces = Vec::new();
    for ((digit, d), (conversion, targets)) in digits.iter_mut().enumerate().zip(&conversions) {
        let range = range(digit);
        let residues = &coefficients[range.start * n..range.end * n];
        let (head, rest) = d.data_mut().split_at_mut(range.start * n);
        let raised = head.chunks_exact_mut(n).chain(rest[range.len() * n..].chunks_exact_mut(n));
        pieces.extend(conversion.pieces((residues, n), raised, targets));
    }
    pieces.into_par_iter().with_max_len(1).for_each(Piece::convert);
    let raised = digits.iter_mut().enumerate().flat_map(|(digit, d)| {
        let rows = d.data_mut().chunks_exact_mut(n).enumerate();
        rows.filter(move |(i, _)| !range(digit).contains(i))
    });
    raised.collect::<Vec<_>>().into_par_iter().with_max_len(1).for_each(|(i, limb)| {
        p.table(limbs, i).transform(n).forward(limb);
    });
    Decomposition { shape, digits }
}

impl Decomposition {
    /// Limbs of the chain.
    pub(crate) fn limbs(&self) -> usize {
        self.digits[0].limbs()
    }

    /// Limb i of the inner product with a key, plus the addends, moved by a permutation: both halves. The key must have the
    /// decomposition's shape.
    pub(crate) fn limb(
        &self,
        p: &Parameters,
        key: &SwitchingKey,
        i: usize,
        addends: [Addend; 2],
        permutation: Option<&Permutation>,
        out: [&mut [u32]; 2],
    ) {
        let rows = addends.map(|a| a.limb(p, (self.limbs(), i), self.shape));
        let block = BLOCK.min(p.ring_degree());
        let [u0, u1] = out;
        let blocks = u0.chunks_exact_mut(block).zip(u1.chunks_exact_mut(block));
        for (at, (u0, u1)) in blocks.enumerate() {
            let at = at * block;
            let moves = permutation.map(|to| to.block(at, block));
            self.positions(p, key, i, rows, (at, moves), [u0, u1]);
        }
    }

    /// As [`Self::limb`], for the positions from `at` on, to which `moves` brings values if there is a permutation; addends are
    /// limbs with their factors.
    pub(crate) fn positions(
        &self,
        p: &Parameters,
        key: &SwitchingKey,
        i: usize,
        addends: [Option<(&[u32], u32)>; 2],
        (at, moves): (usize, Option<Moves<'_>>),
        out: [&mut [u32]; 2],
    ) {
        let limbs = self.limbs();
        let key_limb = if i < limbs { i } else { key.limbs() + i - limbs };
        let m = p.table(limbs, i).modulus;
        let from = moves.map_or(at..at + out[0].len(), |m| m.from());
        let (mut digits, mut keys) = ([&[][..]; MAX_DIGITS], [[&[][..]; MAX_DIGITS]; 2]);
        let count = self.digits.len();
        for (row, digit) in digits.iter_mut().zip(&self.digits) {
            *row = &digit.limb(i)[from.clone()];
        }
        let addends = addends.map(|a| a.map(|(row, factor)| (&row[from.clone()], factor)));
        for (rows, half) in keys.iter_mut().zip(&key.halves) {
            for (row, key) in rows.iter_mut().zip(half) {
                *row = &key.limb(key_limb)[from.clone()];
            }
        }
        let (digits, keys) = (&digits[..count], keys.each_ref().map(|k| &k[..count]));
        match moves {
            None => {
                for ((out, keys), addend) in out.into_iter().zip(keys).zip(addends) {
                    kernels::inner_product(out, digits, keys, addend, m);
                }
            }
            Some(moves) => kernels::rotated_inner_products(out, digits, keys, addends, moves, m),
        }
    }

    /// The whole key switch: the inner product plus the addends, divided by P and the last `rescaled` primes of the chain, its
    /// positions permuted at the end.
    pub(crate) fn switch(
        &self,
        p: &Parameters,
        key: &SwitchingKey,
        addends: [Addend; 2],
        rescaled: usize,
        permutation: Option<&Permutation>,
    ) -> [Poly<Evaluation>; 2] {
        let (n, limbs, special) = (p.ring_degree(), self.limbs(), self.shape.special);
        let kept = limbs - rescaled;
        let mut divided = [(); 2].map(|()| Buffer::scratch((rescaled + special) * n));
        let [u0, u1] = &mut divided;
        u0.par_chunks_exact_mut(n).zip(u1.par_chunks_exact_mut(n)).enumerate().for_each(|(t, (u0, u1))| {
            self.limb(p, key, kept + t, addends, None, [&mut *u0, &mut *u1]);
            let table = p.table(limbs, kept + t);
            [u0, u1].into_iter().for_each(|u| table.transform(n).inverse_scaled(u));
        });
        divide(p, (limbs, kept), divided.each_ref().map(|d| &**d), |i, m, inverse, rows| {
            let mut sums = Buffer::scratch(2 * n);
            let (s0, s1) = sums.split_at_mut(n);
            self.limb(p, key, i, addends, None, [&mut *s0, &mut *s1]);
            for (row, sum) in rows.into_iter().zip([s0, s1]) {
                match permutation {
                    None => kernels::sub_from_and_scale(row, sum, inverse, m),
                    Some(permutation) => {
                        kernels::sub_and_scale(sum, row, inverse, m);
                        kernels::permute(row, sum, permutation);
                    }
                }
            }
        })
    }

    /// `total` plus the permuted inner product and addend: one giant step of a linear map, modulo Q_l P.
    pub(crate) fn add_rotated(
        &self,
        p: &Parameters,
        key: &GaloisKey,
        addend: Addend,
        total: Option<[Poly<Evaluation>; 2]>,
    ) -> [Poly<Evaluation>; 2] {
        let (n, limbs) = (p.ring_degree(), self.limbs());
        let first = total.is_none();
        let mut total =
            total.unwrap_or_else(|| [(); 2].map(|()| Poly::scratch(p, limbs, self.shape.special)));
        let [t0, t1] = &mut total;
        t0.data_mut()
            .par_chunks_exact_mut(n)
            .zip(t1.data_mut().par_chunks_exact_mut(n))
            .enumerate()
            .for_each(|(i, (t0, t1))| {
                let (addends, to) = ([addend, Addend::Nothing], Some(&key.permutation));
                if first {
                    self.limb(p, &key.key, i, addends, to, [t0, t1]);
                    return;
                }
                let mut moved = Buffer::scratch(2 * n);
                let (m0, m1) = moved.split_at_mut(n);
                self.limb(p, &key.key, i, addends, to, [&mut *m0, &mut *m1]);
                let m = p.table(limbs, i).modulus;
                kernels::add_assign(t0, m0, m);
                kernels::add_assign(t1, m1, m);
            });
        total
    }
}

/// Divides polynomials modulo Q_l P by D, the product of the primes from `kept` on, rounding to nearest.
///
/// `divided` holds the coefficients of the limbs of those primes, as [`crate::ntt::Transform::inverse_scaled`] leaves them. For each kept
/// limb i, `finish(i, q_i, 1/D, rows)` finds in its rows the limbs of the centred remainder r modulo D and leaves (x - r)/D there.
fn divide<const H: usize>(
    p: &Parameters,
    (limbs, kept): (usize, usize),
    divided: [&[u32]; H],
    finish: impl Fn(usize, Modulus, u32, [&mut [u32]; H]) + Sync,
) -> [Poly<Evaluation>; H] {
    let n = p.ring_degree();
    let count = divided.first().map_or(0, |d| d.len() / n);
    let moduli = (kept..kept + count).map(|i| p.table(limbs, i).modulus).collect();
    let conversion = Conversion::new(moduli, n as u32);
    let targets = targets(p, limbs, 0..kept, &conversion);
    let mut out = [(); H].map(|()| Poly::scratch(p, kept, 0));
    let pieces = out.iter_mut().zip(divided).flat_map(|(out, residues)| {
        conversion.pieces((residues, n), out.data_mut().chunks_exact_mut(n), &targets)
    });
    pieces.collect::<Vec<_>>().into_par_iter().with_max_len(1).for_each(Piece::convert);
    let mut limb_rows = out.each_mut().map(|o| o.data_mut().chunks_exact_mut(n));
    let rows: Vec<[&mut [u32]; H]> =
        (0..kept).map(|_| limb_rows.each_mut().map(|rows| rows.next().unwrap_or_default())).collect();
    rows.into_par_iter().with_max_len(1).enumerate().for_each(|(i, mut rows)| {
        let table = p.table(limbs, i);
        rows.iter_mut().for_each(|row| table.transform(n).forward(row));
        let m = table.modulus;
        finish(i, m, m.to_montgomery(m.invert(conversion.product(m))), rows);
    });
    out
}

/// Divides by the special primes and the last `rescaled` primes of the chain, rounding to nearest (ModDown, rescale, or both at once).
pub(crate) fn mod_down<const H: usize>(
    p: &Parameters,
    x: [&Poly<Evaluation>; H],
    rescaled: usize,
) -> [Poly<Evaluation>; H] {
    let (n, limbs, special) = x.first().map_or((0, 0, 0), |x| (x.degree(), x.limbs(), x.special()));
    let kept = limbs - rescaled;
    if rescaled + special == 0 {
        return x.map(Poly::clone);
    }
    let mut divided = [(); H].map(|()| Buffer::scratch((rescaled + special) * n));
    let rows = divided
        .iter_mut()
        .zip(x)
        .flat_map(|(rows, x)| rows.chunks_exact_mut(n).zip(x.data()[kept * n..].chunks_exact(n)).enumerate());
    rows.collect::<Vec<_>>().into_par_iter().with_max_len(1).for_each(|(t, (row, x))| {
        p.table(limbs, kept + t).transform(n).inverse_scaled_into(x, row);
    });
    divided_tops(p, (limbs, kept), x.map(Poly::data), divided.each_ref().map(|d| &**d))
}

/// (x - r)/D for each kept limb of x, the limbs of which begin `tops`, with `divided` as [`divide`] wants it.
fn divided_tops<const H: usize>(
    p: &Parameters,
    (limbs, kept): (usize, usize),
    tops: [&[u32]; H],
    divided: [&[u32]; H],
) -> [Poly<Evaluation>; H] {
    let n = p.ring_degree();
    divide(p, (limbs, kept), divided, |i, m, inverse, rows| {
        for (row, top) in rows.into_iter().zip(tops) {
            kernels::sub_from_and_scale(row, &top[i * n..(i + 1) * n], inverse, m);
        }
    })
}

/// As [`mod_down`], without a copy of the limbs that are divided by.
pub(crate) fn mod_down_in_place<const H: usize>(
    p: &Parameters,
    mut x: [Poly<Evaluation>; H],
    rescaled: usize,
) -> [Poly<Evaluation>; H] {
    let (n, limbs, special) = x.first().map_or((0, 0, 0), |x| (x.degree(), x.limbs(), x.special()));
    let kept = limbs - rescaled;
    if rescaled + special == 0 {
        return x;
    }
    let mut parts = x.each_mut().map(|x| x.data_mut().split_at_mut(kept * n));
    let rows = parts.iter_mut().flat_map(|(_, rest)| rest.chunks_exact_mut(n).enumerate());
    rows.collect::<Vec<_>>().into_par_iter().with_max_len(1).for_each(|(t, row)| {
        p.table(limbs, kept + t).transform(n).inverse_scaled(row);
    });
    let (tops, rests) = (parts.each_ref().map(|(top, _)| &**top), parts.each_ref().map(|(_, rest)| &**rest));
    divided_tops(p, (limbs, kept), tops, rests)
}
