//! Polynomials on ciphertexts, at the least depth.
//!
//! With s the greatest power of two up to the degree, p = q b_s + r, where b_s is x^s or T_s: q is worth one level less than p and b_s is
//! ready at that level, so degree d takes ceil(log2(d + 1)) levels. The remainder has levels to spare: its own product and
//! those of its remainders are added up before one relinearisation and one rescale, and where it is short enough it is a plain sum
//! of the powers below `baby` (baby-step giant-step), which multiplications by constants alone give.
//! Source: Paterson and Stockmeyer (1973) for the steps; Bossuat, Mouchet, Troncoso-Pastoriza and Hubaux (2021), section 5, for
//! keeping the depth least and the scales exact.
//!
//! **Scales.** The value's scale is the caller's. Going down, the scale that q must have follows from that of b_s, and a constant is
//! encoded at the scale that makes its term fit: every addition is between equal scales, without error. Basis elements keep
//! scales near the primes: left alone, a scale r q would become r^(2^k) q after k squarings, so products whose scale has
//! fallen are multiplied by the integer that brings it back, which costs nothing. A scale that is too large can only be divided: then x
//! takes one level more.
//!
//! One recursion runs over three algebras: ciphertexts, noise estimates, and counts that choose the baby steps.

use std::collections::BTreeMap;

use crate::ciphertext::{Ciphertext, Product};
use crate::error::{Error, Result};
use crate::evaluation_keys::EvaluationKeys;
use crate::evaluator::Evaluator;
use crate::evaluator::scalars::integer;
use crate::kernels;
use crate::noise::{Estimate, NoiseModel};
use crate::parameters::Parameters;
use crate::polynomial::{Basis, Polynomial, divide};

/// What the recursion computes with.
trait Algebra {
    type Value: Clone;
    fn level(&self, a: &Self::Value) -> usize;
    fn scale(&self, a: &Self::Value) -> f64;
    /// The sum of products, of multiples and of a constant at `level` and `scale`, then relinearised and rescaled by one prime.
    fn combine(&mut self, terms: Terms<Self::Value>, level: usize, scale: f64) -> Result<Self::Value>;
    /// Bounds the magnitude of a value that is known to be a basis element.
    fn bounded(&self, a: Self::Value) -> Self::Value {
        a
    }
}

/// A sum before its relinearisation and rescale.
struct Terms<V> {
    /// Pairs of factors, and integers that multiply their product.
    products: Vec<(V, V, f64)>,
    multiples: Vec<(V, f64)>,
    constant: f64,
}

/// A basis element's scale may exceed its prime by this factor.
const LARGEST_SCALE: f64 = 1.5;

/// The integer, at least 1, that brings a scale closest to the size of a prime.
fn upscaling(scale: f64, prime: f64) -> f64 {
    (prime / scale).round().max(1.0)
}

/// A chain of which every level takes `primes` primes: what is a prime elsewhere is their product here.
#[derive(Clone, Copy)]
struct Ladder<'a> {
    parameters: &'a Parameters,
    primes: usize,
}

impl Ladder<'_> {
    /// The product of the primes that a rescaling from a level divides by.
    fn rung(self, level: usize) -> f64 {
        self.parameters.rung(level, self.primes)
    }

    /// The level that a rescaling leads to.
    fn below(self, op: &'static str, level: usize) -> Result<usize> {
        level.checked_sub(self.primes).ok_or(Error::Level { op, required: self.primes, available: level })
    }
}

struct Recursion<'a, A: Algebra> {
    algebra: &'a mut A,
    ladder: Ladder<'a>,
    basis: Basis,
    /// Basis elements below this one are all at hand for plain sums.
    baby: usize,
    /// Basis elements by index.
    elements: BTreeMap<usize, A::Value>,
}

impl<A: Algebra> Recursion<'_, A> {
    /// Basis element k, at the level of x less ceil(log2 k).
    fn element(&mut self, k: usize) -> Result<A::Value> {
        if let Some(value) = self.elements.get(&k) {
            return Ok(value.clone());
        }
        let large = if k.is_power_of_two() { k / 2 } else { 1 << k.ilog2() };
        let (a, b) = (self.element(large)?, self.element(k - large)?);
        let level = self.algebra.level(&a).min(self.algebra.level(&b));
        let mut scale = self.algebra.scale(&a) * self.algebra.scale(&b);
        let mut terms = Terms { products: Vec::new(), multiples: Vec::new(), constant: 0.0 };
        if self.basis == Basis::Chebyshev {
            // T_k = 2 T_a T_b - T_(a-b): at half its scale the product counts twice.
            scale /= 2.0;
            match large - (k - large) {
                0 => terms.constant = -1.0,
                difference => terms.multiples.push((self.element(difference)?, -1.0)),
            }
        }
        let rung = self.ladder.rung(level);
        let factor = upscaling(scale / rung, rung);
        terms.products.push((a, b, factor));
        let scale = scale * factor;
        let value = self.algebra.combine(terms, level, scale)?;
        let value = self.algebra.bounded(value);
        self.elements.insert(k, value.clone());
        Ok(value)
    }

    /// The polynomial's value at exactly this level and scale.
    fn value(&mut self, p: &[f64], level: usize, scale: f64) -> Result<A::Value> {
        let above = level + self.ladder.primes;
        let scale = scale * self.ladder.rung(above);
        let mut terms = Terms { products: Vec::new(), multiples: Vec::new(), constant: 0.0 };
        self.collect(p, above, scale, &mut terms)?;
        self.algebra.combine(terms, above, scale)
    }

    /// Adds the terms of a polynomial at this level and scale.
    fn collect(&mut self, p: &[f64], level: usize, scale: f64, terms: &mut Terms<A::Value>) -> Result<()> {
        let degree = p.iter().rposition(|&c| c != 0.0).unwrap_or(0);
        let p = &p[..=degree];
        // The deepest element of a plain sum must be ready at this level.
        let depth = self.ladder.primes * degree.next_power_of_two().trailing_zeros() as usize;
        if degree == 0 || degree < self.baby && self.algebra.level(&self.elements[&1]) >= level + depth {
            terms.constant += p[0];
            for (k, &c) in p.iter().enumerate().skip(1).filter(|(_, c)| **c != 0.0) {
                terms.multiples.push((self.element(k)?, c));
            }
            return Ok(());
        }
        let split = 1 << degree.ilog2();
        let (q, r) = divide(self.basis, p, split);
        let giant = self.element(split)?;
        if degree == split {
            terms.multiples.push((giant, q[0]));
        } else {
            let quotient = self.value(&q, level, scale / self.algebra.scale(&giant))?;
            terms.products.push((quotient, giant, 1.0));
        }
        self.collect(&r, level, scale, terms)
    }
}

/// Counts: relinearised sums weigh most.
struct Counts<'a> {
    ladder: Ladder<'a>,
    relinearizations: usize,
    products: usize,
}

impl Algebra for Counts<'_> {
    type Value = (usize, f64);

    fn level(&self, a: &Self::Value) -> usize {
        a.0
    }

    fn scale(&self, a: &Self::Value) -> f64 {
        a.1
    }

    fn combine(&mut self, terms: Terms<Self::Value>, level: usize, scale: f64) -> Result<Self::Value> {
        self.relinearizations += usize::from(!terms.products.is_empty());
        self.products += terms.products.len();
        Ok((self.ladder.below("polynomial", level)?, scale / self.ladder.rung(level)))
    }
}

struct Estimates<'a> {
    model: &'a NoiseModel,
    basis: Basis,
    key_level: usize,
    primes: usize,
}

impl Algebra for Estimates<'_> {
    type Value = Estimate;

    fn level(&self, a: &Estimate) -> usize {
        a.level
    }

    fn scale(&self, a: &Estimate) -> f64 {
        a.scale
    }

    fn combine(&mut self, terms: Terms<Estimate>, level: usize, scale: f64) -> Result<Estimate> {
        let mut sum = Estimate { level, scale, message: terms.constant.abs(), variance: 0.0 };
        for (a, b, factor) in &terms.products {
            let product = self.model.mul(*a, *b);
            // The scale may say that the product counts twice.
            sum.message += product.message * factor * product.scale / scale;
            sum.variance += product.variance * factor * factor;
        }
        for (a, c) in &terms.multiples {
            let factor = c * scale / a.scale;
            sum.message += a.message * c.abs();
            sum.variance += a.variance * factor * factor;
        }
        if !terms.products.is_empty() {
            sum.variance += self.model.key_switch(level, self.key_level.max(level));
        }
        (0..self.primes).try_fold(sum, |sum, _| self.model.rescale(sum))
    }

    fn bounded(&self, a: Estimate) -> Estimate {
        match self.basis {
            Basis::Monomial => a,
            Basis::Chebyshev => Estimate { message: a.message.min(1.0), ..a },
        }
    }
}

struct Encrypted<'a> {
    evaluator: &'a Evaluator,
    keys: &'a EvaluationKeys,
    primes: usize,
}

impl Algebra for Encrypted<'_> {
    type Value = Ciphertext;

    fn level(&self, a: &Ciphertext) -> usize {
        a.level()
    }

    fn scale(&self, a: &Ciphertext) -> f64 {
        a.scale
    }

    fn combine(&mut self, terms: Terms<Ciphertext>, level: usize, scale: f64) -> Result<Ciphertext> {
        let evaluator = self.evaluator;
        evaluator.parameters.check_scale("polynomial", scale, level)?;
        let mut sum: Option<Product> = None;
        for (a, b, factor) in &terms.products {
            let (mut a, b) = (evaluator.drop_level(a, level)?, evaluator.drop_level(b, level)?);
            if *factor != 1.0 {
                a = evaluator.mul_scalar(&a, *factor, 1.0)?;
            }
            a.scale = scale / b.scale;
            let mut product = evaluator.mul(&a, &b)?;
            product.scale = scale;
            match &mut sum {
                Some(sum) => evaluator.add_product_assign(sum, &product)?,
                None => sum = Some(product),
            }
        }
        let mut linear = Ciphertext::transparent_zero(&evaluator.parameters, level, scale);
        for (a, c) in &terms.multiples {
            evaluator.add_multiple(&mut linear, a, *c)?;
        }
        let linear = evaluator.add_scalar(&linear, terms.constant)?;
        let Some(mut product) = sum else { return evaluator.rescale_by(&linear, self.primes) };
        let [d0, d1, _] = &mut product.d;
        d0.add_assign(&linear.c[0], &evaluator.parameters);
        d1.add_assign(&linear.c[1], &evaluator.parameters);
        evaluator.relinearize_and_rescale(&product, self.primes, self.keys)
    }
}

/// The variable of the recursion: x as it is, mapped to [-1, 1] by its scale alone, or at the cost of a level.
struct Variable {
    /// Level and scale that x comes with.
    level: usize,
    /// Scale of the mapped x before anything is done to it.
    scale: f64,
    /// Scale that it gets, by an integer factor, or by a constant and a rescale if `divided`.
    target: f64,
    divided: bool,
}

impl Evaluator {
    /// The value of a polynomial in every slot, [`Self::polynomial_levels`] levels below x, at the scale asked for.
    ///
    /// Slots of x must lie in the interval (a, b) of a Chebyshev polynomial: outside it the value grows like x^degree. Scales near the size of
    /// the primes keep the precision.
    ///
    /// # Errors
    /// [`Error::Level`] if x has too few levels, a missing relinearisation key, or a scale that does not fit.
    pub fn evaluate_polynomial(
        &self,
        x: &Ciphertext,
        polynomial: &Polynomial,
        scale: f64,
        keys: &EvaluationKeys,
    ) -> Result<Ciphertext> {
        self.evaluate_polynomial_by(x, polynomial, scale, 1, keys)
    }

    /// As [`Self::evaluate_polynomial`], on a chain of which every level takes `primes` primes: scales near the size of their
    /// product keep twice or three times the bits. Takes `primes` times as many levels.
    ///
    /// # Errors
    /// As there, and [`Error::Level`] for no primes a level.
    pub fn evaluate_polynomial_by(
        &self,
        x: &Ciphertext,
        polynomial: &Polynomial,
        scale: f64,
        primes: usize,
        keys: &EvaluationKeys,
    ) -> Result<Ciphertext> {
        self.check("the ciphertext", &x.c[0])?;
        let ladder = self.ladder(primes, x.level())?;
        let (variable, level) = self.variable(ladder, polynomial, x.level(), x.scale, scale)?;
        let baby = self.baby_steps(ladder, polynomial, &variable, scale)?;
        let mut y = x.clone();
        y.scale = variable.scale;
        if variable.divided {
            let rung = ladder.rung(x.level());
            y = self.mul_scalar(&y, 1.0, variable.target * rung / variable.scale)?;
            y = self.rescale_by(&y, primes)?;
        } else {
            y = self.mul_scalar(&y, (variable.target / variable.scale).round(), 1.0)?;
        }
        y.scale = variable.target;
        let (a, b) = polynomial.interval();
        if polynomial.basis() == Basis::Chebyshev && a != -b {
            y = self.add_scalar(&y, -(a + b) / (b - a))?;
        }
        let mut algebra = Encrypted { evaluator: self, keys, primes };
        self.recurse(&mut algebra, ladder, polynomial, y, baby, (level, scale))
    }

    /// Levels that [`Self::evaluate_polynomial`] takes for x at a level and scale: the polynomial's depth, and one more if the
    /// scale, times (b - a)/2 for a Chebyshev polynomial on (a, b), exceeds one and a half times the prime at that level.
    ///
    /// # Errors
    /// [`Error::Level`] if there are fewer.
    pub fn polynomial_levels(&self, polynomial: &Polynomial, level: usize, scale: f64) -> Result<usize> {
        self.variable(self.ladder(1, level)?, polynomial, level, scale, 1.0).map(|(_, below)| level - below)
    }

    /// What [`Self::evaluate_polynomial`] does to the noise, with relinearisation keys made for `key_level`.
    ///
    /// Errors of x reach the value over several terms and are added as if those were independent: expect a factor of four in the
    /// mean over the slots, and more where the polynomial is steep.
    ///
    /// # Errors
    /// As [`Self::evaluate_polynomial`].
    pub fn estimate_polynomial(
        &self,
        x: Estimate,
        polynomial: &Polynomial,
        scale: f64,
        key_level: usize,
    ) -> Result<Estimate> {
        self.estimate_polynomial_by(x, polynomial, scale, 1, key_level)
    }

    /// What [`Self::evaluate_polynomial_by`] does to the noise, with relinearisation keys made for `key_level`.
    ///
    /// # Errors
    /// As there.
    pub fn estimate_polynomial_by(
        &self,
        x: Estimate,
        polynomial: &Polynomial,
        scale: f64,
        primes: usize,
        key_level: usize,
    ) -> Result<Estimate> {
        let ladder = self.ladder(primes, x.level)?;
        let (variable, level) = self.variable(ladder, polynomial, x.level, x.scale, scale)?;
        let baby = self.baby_steps(ladder, polynomial, &variable, scale)?;
        let model = NoiseModel::new(&self.parameters);
        let mut y = Estimate { scale: variable.scale, message: x.message * x.scale / variable.scale, ..x };
        let rung = ladder.rung(x.level);
        let factor = variable.target / variable.scale * if variable.divided { rung } else { 1.0 };
        y = Estimate { scale: y.scale * factor, variance: y.variance * factor * factor, ..y };
        if variable.divided {
            y = (0..primes).try_fold(y, |y, _| model.rescale(y))?;
        }
        let basis = polynomial.basis();
        let mut algebra = Estimates { model: &model, basis, key_level, primes };
        let y = algebra.bounded(y);
        self.recurse(&mut algebra, ladder, polynomial, y, baby, (level, scale))
    }

    /// Relinearisations and products of ciphertexts that an evaluation takes at a level with enough below it.
    ///
    /// # Errors
    /// [`Error::Level`] if there are fewer levels than the depth.
    pub fn polynomial_cost(&self, polynomial: &Polynomial, level: usize) -> Result<(usize, usize)> {
        let ladder = self.ladder(1, level)?;
        let target = ladder.rung(level);
        let variable = Variable { level, scale: target, target, divided: false };
        self.value_level(ladder, &variable, polynomial)?;
        let baby = self.baby_steps(ladder, polynomial, &variable, target)?;
        self.count(ladder, polynomial, &variable, target, baby)
    }

    /// The chain at so many primes a level, of which there must be one at least below `level`.
    fn ladder(&self, primes: usize, level: usize) -> Result<Ladder<'_>> {
        if primes == 0 || primes > level {
            return Err(Error::Level { op: "polynomial", required: primes.max(1), available: level });
        }
        Ok(Ladder { parameters: &self.parameters, primes })
    }

    /// How x enters, and the level of the value.
    fn variable(
        &self,
        ladder: Ladder<'_>,
        polynomial: &Polynomial,
        level: usize,
        scale: f64,
        value_scale: f64,
    ) -> Result<(Variable, usize)> {
        let (a, b) = polynomial.interval();
        let half = if polynomial.basis() == Basis::Chebyshev { (b - a) / 2.0 } else { 1.0 };
        let scale = scale * half;
        self.parameters.check_scale("polynomial", scale, level)?;
        self.parameters.check_scale("polynomial", value_scale, self.parameters.max_level())?;
        let rung = ladder.rung(level);
        let divided = scale > LARGEST_SCALE * rung;
        let target = if divided { rung } else { scale * upscaling(scale, rung) };
        let variable = Variable { level, scale, target, divided };
        let below = self.value_level(ladder, &variable, polynomial)?;
        Ok((variable, below))
    }

    fn value_level(&self, ladder: Ladder<'_>, variable: &Variable, polynomial: &Polynomial) -> Result<usize> {
        let required = ladder.primes * (polynomial.depth() + usize::from(variable.divided));
        let available = variable.level;
        available.checked_sub(required).ok_or(Error::Level { op: "polynomial", required, available })
    }

    fn recurse<A: Algebra>(
        &self,
        algebra: &mut A,
        ladder: Ladder<'_>,
        polynomial: &Polynomial,
        x: A::Value,
        baby: usize,
        (level, scale): (usize, f64),
    ) -> Result<A::Value> {
        let basis = polynomial.basis();
        let elements = BTreeMap::from([(1, x)]);
        let mut recursion = Recursion { algebra, ladder, basis, baby, elements };
        recursion.value(polynomial.coefficients(), level, scale)
    }

    /// The power of two below which plain sums are used that needs the fewest relinearisations, then products.
    fn baby_steps(
        &self,
        ladder: Ladder<'_>,
        polynomial: &Polynomial,
        variable: &Variable,
        scale: f64,
    ) -> Result<usize> {
        let mut best: Option<((usize, usize), usize)> = None;
        for log in 1..=polynomial.depth() {
            let cost = self.count(ladder, polynomial, variable, scale, 1 << log)?;
            if best.is_none_or(|(least, _)| cost < least) {
                best = Some((cost, 1 << log));
            }
        }
        Ok(best.map_or(2, |(_, baby)| baby))
    }

    fn count(
        &self,
        ladder: Ladder<'_>,
        polynomial: &Polynomial,
        variable: &Variable,
        scale: f64,
        baby: usize,
    ) -> Result<(usize, usize)> {
        let level = self.value_level(ladder, variable, polynomial)?;
        let mut counts = Counts { ladder, relinearizations: 0, products: 0 };
        let x = (variable.level - ladder.primes * usize::from(variable.divided), variable.target);
        self.recurse(&mut counts, ladder, polynomial, x, baby, (level, scale))?;
        Ok((counts.relinearizations, counts.products))
    }

    /// sum += c a, where `a` lies at the sum's level or above: c is rounded at the scale that makes the term fit.
    fn add_multiple(&self, sum: &mut Ciphertext, a: &Ciphertext, c: f64) -> Result<()> {
        let integer = integer(c, sum.scale / a.scale)?;
        for (sum, a) in sum.c.iter_mut().zip(&a.c) {
            sum.for_each_limb(&self.parameters, |i, m, limb| {
                kernels::add_scaled(limb, a.limb(i), m.to_montgomery(m.reduce_i128(integer)), m);
            });
        }
        Ok(())
    }
}
