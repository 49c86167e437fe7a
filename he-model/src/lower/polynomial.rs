//! Polynomials on slots: one square where that is accurate, general evaluation otherwise.
//!
//! With x = f v (slot value v, missing factor f):
//! - degree 2: a x^2 + b x + c = a f^2 ((v + h)^2 + k), h = b / (2 a f), and the factor a f^2 stays missing. One level.
//! - degree 3: a x^3 + b x^2 + c x + d = a f^3 (u^3 + p u + q) with u = v + h, h = b / (3 a f). Two levels.
//! - otherwise, and where a is so small against b that h or p would swamp the values: powers by
//!   products, then one plaintext factor a power. ceil(log2 degree) + 1 levels.

use super::{Lowering, Tensor};
use crate::Polynomial;
use crate::program::{Instruction, PlainScale, ValueId};

/// Largest shift h and largest p: beyond it more than six (ten) bits would cancel.
const MAX_SHIFT: f64 = 64.0;
const MAX_LINEAR: f64 = 1024.0;

/// True if completing the square (cube) cancels few bits in every channel.
pub(super) fn is_well_conditioned(p: &Polynomial, channels: usize) -> bool {
    (0..channels).all(|c| match *p.channel(c).get(..=p.degree()).unwrap_or(&[]) {
        [_, b, a] => a != 0.0 && (b / (2.0 * a)).abs() <= MAX_SHIFT,
        [_, c, b, a] => {
            a != 0.0
                && (b / (3.0 * a)).abs() <= MAX_SHIFT
                && ((c - b * b / (3.0 * a)) / a).abs() <= MAX_LINEAR
        }
        _ => false,
    })
}

impl Lowering<'_> {
    pub(super) fn polynomial(&mut self, p: &Polynomial, x: Tensor) -> Tensor {
        let channels = x.shape().channels;
        let usable = x.factor.iter().all(|f| *f != 0.0);
        match p.degree() {
            0 | 1 if (0..channels).all(|c| coefficient(p, c, 1) != 0.0) => self.affine(p, x),
            2 if usable && is_well_conditioned(p, channels) => self.quadratic(p, x),
            3 if usable && is_well_conditioned(p, channels) => self.cubic(p, x),
            _ => self.powers(p, x),
        }
    }

    /// b x + a: the factor takes b.
    fn affine(&mut self, p: &Polynomial, mut x: Tensor) -> Tensor {
        let factor: Vec<f64> = x.factor.iter().enumerate().map(|(c, f)| f * coefficient(p, c, 1)).collect();
        self.add_constant(&mut x, |c, _| coefficient(p, c, 0) / factor[c]);
        Tensor { factor, ..x }
    }

    /// By one square.
    fn quadratic(&mut self, p: &Polynomial, mut x: Tensor) -> Tensor {
        let f = x.factor.clone();
        let [c0, c1, c2] = [0, 1, 2].map(|k| move |c: usize| coefficient(p, c, k));
        self.add_constant(&mut x, |c, _| c1(c) / (2.0 * c2(c) * f[c]));
        let values = x.values.iter().map(|v| self.squared(*v)).collect();
        let factor: Vec<f64> = f.iter().enumerate().map(|(c, f)| snap(c2(c) * f * f)).collect();
        let mut y = Tensor { values, factor: factor.clone(), ..x };
        self.add_constant(&mut y, |c, _| (c0(c) - c1(c) * c1(c) / (4.0 * c2(c))) / factor[c]);
        y
    }

    fn cubic(&mut self, p: &Polynomial, mut x: Tensor) -> Tensor {
        let f = x.factor.clone();
        let [c0, c1, c2, c3] = [0, 1, 2, 3].map(|k| move |c: usize| coefficient(p, c, k));
        self.add_constant(&mut x, |c, _| c2(c) / (3.0 * c3(c) * f[c]));
        let squares = x.values.iter().map(|v| self.squared(*v)).collect();
        let mut squares = Tensor { values: squares, ..x.clone() };
        // c3 (X^3 + P X) + Q with X = x + c2 / 3 c3, in units of f^3 c3.
        let linear = |c: usize| (c1(c) - c2(c) * c2(c) / (3.0 * c3(c))) / c3(c);
        self.add_constant(&mut squares, |c, _| linear(c) / (f[c] * f[c]));
        let mut values = Vec::with_capacity(x.values.len());
        for (v, s) in x.values.iter().zip(&squares.values) {
            // The lower power has a level to spare, which brings it to the scale that the product needs.
            let same = self.builder.push(Instruction::MulScalar { input: *v, value: 1.0 });
            let same = self.builder.push(Instruction::Rescale(same));
            let product = self.builder.push(Instruction::Mul(same, *s));
            values.push(self.builder.push(Instruction::Rescale(product)));
        }
        let factor: Vec<f64> = f.iter().enumerate().map(|(c, f)| snap(c3(c) * f * f * f)).collect();
        let mut y = Tensor { values, factor: factor.clone(), ..x };
        let constant = |c: usize| {
            let h = c2(c) / (3.0 * c3(c));
            c0(c) - h * (c1(c) - 2.0 * c3(c) * h * h)
        };
        self.add_constant(&mut y, |c, _| constant(c) / factor[c]);
        y
    }

    /// General evaluation: x^k = x^(k/2 rounded up) x^(k/2 rounded down), each times its coefficients.
    fn powers(&mut self, p: &Polynomial, x: Tensor) -> Tensor {
        let degree = p.degree();
        let mut y: Option<Tensor> = None;
        let mut powers: Vec<Vec<ValueId>> = vec![vec![], x.values.clone()];
        for k in 2..=degree {
            let (high, low) = (powers[k.div_ceil(2)].clone(), powers[k / 2].clone());
            let pairs = high.iter().zip(&low);
            powers.push(
                pairs.map(|(a, b)| if a == b { self.squared(*a) } else { self.product(*a, *b) }).collect(),
            );
        }
        for (k, power) in powers.iter().enumerate().skip(1) {
            let factor = |c: usize| coefficient(p, c, k) * x.factor[c].powi(k as i32);
            if k > 1 && (0..x.shape().channels).all(|c| factor(c) == 0.0) {
                continue;
            }
            let masks = x.layout.fill(|c, _| factor(c));
            let pairs: Vec<_> = power.iter().copied().zip(masks).collect();
            let term: Vec<ValueId> = pairs.into_iter().map(|(v, mask)| self.masked(v, mask)).collect();
            y = Some(match y {
                None => Tensor::unit(term, x.layout),
                Some(sum) => {
                    let pairs = sum.values.iter().zip(&term);
                    let values = pairs.map(|(a, b)| self.builder.push(Instruction::Add(*a, *b))).collect();
                    Tensor { values, ..sum }
                }
            });
        }
        let mut y = y.unwrap_or(x);
        self.add_constant(&mut y, |c, _| coefficient(p, c, 0));
        y
    }

    pub(super) fn squared(&mut self, v: ValueId) -> ValueId {
        let square = self.builder.push(Instruction::Square(v));
        self.builder.push(Instruction::Rescale(square))
    }

    /// A product of two powers; the second one passes through a plaintext that gives it the scale it needs.
    fn product(&mut self, a: ValueId, b: ValueId) -> ValueId {
        let plain = self.builder.plain(vec![1.0.into()]);
        let b = self.builder.push(Instruction::MulPlain { input: b, plain, scale: PlainScale::Fill });
        let b = self.builder.push(Instruction::Rescale(b));
        let product = self.builder.push(Instruction::Mul(a, b));
        self.builder.push(Instruction::Rescale(product))
    }
}

fn coefficient(p: &Polynomial, c: usize, k: usize) -> f64 {
    p.channel(c).get(k).copied().unwrap_or(0.0)
}

/// Factors that are 1 or -1 up to rounding are exactly that.
pub(super) fn snap(f: f64) -> f64 {
    if (f.abs() - 1.0).abs() < 1e-12 { f.signum() } else { f }
}
