//! Polynomials modulo few primes taken for polynomials modulo more.

use rayon::prelude::*;

use crate::basis::{Conversion, Piece};
use crate::buffer::Buffer;
use crate::kernels::Target;
use crate::parameters::Parameters;
use crate::poly::{Evaluation, Poly};

/// The centred representative of a polynomial, modulo the first `limbs` primes of the chain and `special` special ones.
pub(crate) fn raise(p: &Parameters, c: &Poly<Evaluation>, limbs: usize, special: usize) -> Poly<Evaluation> {
    let (n, own) = (c.degree(), c.limbs());
    let mut out = Poly::scratch(p, limbs, special);
    let mut coefficients = Buffer::scratch(own * n);
    let (same, others) = out.data_mut().split_at_mut(own * n);
    let rows: Vec<_> = same.chunks_exact_mut(n).zip(coefficients.chunks_exact_mut(n)).collect();
    rows.into_par_iter().enumerate().for_each(|(i, (same, y))| {
        same.copy_from_slice(c.limb(i));
        p.table(own, i).transform(n).inverse_scaled_into(c.limb(i), y);
    });
    let moduli = (0..own).map(|i| p.table(own, i).modulus).collect();
    let conversion = Conversion::new(moduli, n as u32);
    let targets: Vec<Target> =
        (own..limbs + special).map(|i| conversion.target(p.table(limbs, i).modulus)).collect();
    let pieces = conversion.pieces((&coefficients, n), others.chunks_exact_mut(n), &targets);
    pieces.collect::<Vec<_>>().into_par_iter().with_max_len(1).for_each(Piece::convert);
    others.par_chunks_exact_mut(n).enumerate().for_each(|(at, limb)| {
        p.table(limbs, own + at).transform(n).forward(limb);
    });
    out
}
