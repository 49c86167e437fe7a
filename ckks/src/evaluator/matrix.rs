//! Linear maps from several ciphertexts to several: a matrix of sums of rotated plaintext products.
//!
//! Output o is sum over terms of rot_giant(plaintext x rot_baby(input i)). Each input is decomposed once and each baby step of it is made
//! once, whatever the number of outputs that read it; giant steps and the final division are paid once an output, whatever the
//! number of inputs. Tensors that are cut into ciphertexts by channels meet in such maps.
//!
//! Inputs are taken a few at a time, so that decompositions and rotated limbs do not grow with their number.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::blocks::{Blocks, block_size};
use super::diagonal::{Diagonal, LimbValues};
use super::linear::Sums;
use crate::ciphertext::Ciphertext;
use crate::error::{Error, Result};
use crate::evaluation_keys::{EvaluationKeys, GaloisKey};
use crate::evaluator::{Evaluator, ExtendedCiphertext, same_level, same_scale};
use crate::kernels::{self, Term};
use crate::key_switch::Decomposition;
use crate::plan::KeyShape;
use crate::poly::Poly;

/// Most inputs that are decomposed at a time.
const CHUNK: usize = 4;

/// Most bytes of rotated limbs of a chunk and thread, if more than one input is in it: 64 pairs of N = 2^16 coefficients.
const CHUNK_BYTES: usize = 32 << 20;

/// One term: rotate an input by `baby`, multiply by the plaintext, rotate by `giant`, both to the left, and add it to an output.
#[derive(Clone, Debug)]
pub struct MatrixTerm {
    /// Which output.
    pub output: usize,
    /// Which input.
    pub input: usize,
    /// Rotation after the product.
    pub giant: i64,
    /// Rotation before the product.
    pub baby: i64,
    /// Factor between the two.
    pub plaintext: Diagonal,
}

/// The terms that share output and giant step.
#[derive(Clone, Debug)]
struct Row {
    output: usize,
    giant: i64,
    /// By the index of the rotated input.
    terms: Vec<(usize, Diagonal)>,
}

/// A linear map between tuples of ciphertexts, ready to be applied.
#[derive(Clone, Debug)]
pub struct LinearMatrix {
    /// Of the plaintexts of each output.
    scales: Vec<f64>,
    inputs: usize,
    /// Rotated inputs (input, rotation), ascending and distinct.
    babies: Vec<(usize, i64)>,
    /// Ascending by output and giant step; every output has one at least.
    rows: Vec<Row>,
    chain: Option<i64>,
}

impl LinearMatrix {
    /// Sorts the terms.
    ///
    /// # Errors
    /// [`Error::LinearMap`] if an output has no terms, or those of one output differ in scale.
    pub fn new(terms: Vec<MatrixTerm>) -> Result<Self> {
        if terms.is_empty() {
            return Err(Error::LinearMap("no terms were given".into()));
        }
        let count = |of: fn(&MatrixTerm) -> usize| terms.iter().map(of).max().map_or(0, |most| most + 1);
        let inputs = count(|t| t.input);
        let mut scales: Vec<Option<f64>> = vec![None; count(|t| t.output)];
        for term in &terms {
            let scale = term.plaintext.scale();
            let known = *scales[term.output].get_or_insert(scale);
            if scale != known {
                let (a, b) = (known.log2(), scale.log2());
                return Err(Error::LinearMap(format!(
                    "terms of output {} at scales 2^{a:.6} and 2^{b:.6}; encode all at one",
                    term.output
                )));
            }
        }
        let outputs = scales.len();
        let empty = |output| Error::LinearMap(format!("output {output} of {outputs} has no terms"));
        let scales = scales.into_iter().enumerate();
        let scales = scales.map(|(output, scale)| scale.ok_or_else(|| empty(output)));
        let scales = scales.collect::<Result<Vec<f64>>>()?;
        let mut babies: Vec<(usize, i64)> = terms.iter().map(|t| (t.input, t.baby)).collect();
        babies.sort_unstable();
        babies.dedup();
        let mut rows: BTreeMap<(usize, i64), Vec<(usize, Diagonal)>> = BTreeMap::new();
        for term in terms {
            let baby = babies.partition_point(|b| *b < (term.input, term.baby));
            rows.entry((term.output, term.giant)).or_default().push((baby, term.plaintext));
        }
        let rows = rows.into_iter().map(|((output, giant), mut terms)| {
            terms.sort_by_key(|(baby, _)| *baby);
            Row { output, giant, terms }
        });
        Ok(Self { scales, inputs, babies, rows: rows.collect(), chain: None })
    }

    /// Takes the giant steps as a chain, as [`crate::LinearTransform::chained`] does.
    ///
    /// # Errors
    /// [`Error::LinearMap`] if `step` is not positive or a giant step is not a multiple of it.
    pub fn chained(mut self, step: i64) -> Result<Self> {
        if let Some(row) = self.rows.iter().find(|r| step <= 0 || r.giant < 0 || r.giant % step != 0) {
            return Err(Error::LinearMap(format!(
                "giant step {} is not a multiple of the chain's {step}",
                row.giant
            )));
        }
        self.chain = Some(step);
        Ok(self)
    }

    /// Number of ciphertexts that it makes.
    pub fn outputs(&self) -> usize {
        self.scales.len()
    }

    /// All rotations that need a key.
    pub fn rotations(&self) -> Vec<i64> {
        let giants: Vec<i64> = match self.chain {
            Some(step) if self.rows.iter().any(|r| r.giant != 0) => vec![step],
            Some(_) => vec![],
            None => self.rows.iter().map(|r| r.giant).collect(),
        };
        let mut all: Vec<i64> = self.babies.iter().map(|b| b.1).chain(giants).filter(|&k| k != 0).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Where the chunk that begins at baby step `start` ends, and its inputs: one at least, and more while their baby steps
    /// are at most `most`.
    fn chunk(&self, start: usize, most: usize) -> (usize, Vec<usize>) {
        let (mut end, mut inputs) = (start, vec![]);
        for input in self.babies[start..].chunk_by(|a, b| a.0 == b.0) {
            if !inputs.is_empty() && (inputs.len() == CHUNK || end - start + input.len() > most) {
                break;
            }
            inputs.push(input[0].0);
            end += input.len();
        }
        (end, inputs)
    }

    /// Bytes of the plaintexts in memory.
    pub fn bytes(&self) -> usize {
        self.rows.iter().flat_map(|r| &r.terms).map(|(_, p)| p.bytes()).sum()
    }
}

/// Inputs that are worked on together: their baby steps, as a range of all, and what rotates them.
struct Chunk<'a> {
    babies: std::ops::Range<usize>,
    /// By baby step: the input and its key.
    rotated: Vec<(&'a Ciphertext, Option<&'a Decomposition>, Option<&'a GaloisKey>)>,
}

impl Evaluator {
    /// Applies a linear map to several ciphertexts and rescales by the last `primes` primes in the same division.
    ///
    /// # Errors
    /// Inputs that are too few or of different levels or scales; otherwise as [`Self::linear_transform_and_rescale`].
    pub fn linear_matrix_and_rescale(
        &self,
        inputs: &[&Ciphertext],
        map: &LinearMatrix,
        primes: usize,
        keys: &EvaluationKeys,
    ) -> Result<Vec<Ciphertext>> {
        // Too few primes are refused before the work.
        inputs.iter().try_for_each(|a| self.rescaled_scale(a.scale, a.level(), primes).map(drop))?;
        let sums = self.linear_matrix_extended(inputs, map, keys)?;
        sums.into_iter().map(|sum| self.divide_and_rescale_in_place(sum, primes)).collect()
    }

    /// Applies a linear map to several ciphertexts without the divisions at its end, for rotations and sums of its results.
    ///
    /// # Errors
    /// Inputs that are too few or of different levels or scales; otherwise as [`Self::linear_transform`].
    pub fn linear_matrix_extended(
        &self,
        inputs: &[&Ciphertext],
        map: &LinearMatrix,
        keys: &EvaluationKeys,
    ) -> Result<Vec<ExtendedCiphertext>> {
        let (Some(first), true) = (inputs.first(), inputs.len() >= map.inputs) else {
            let (needed, given) = (map.inputs, inputs.len());
            return Err(Error::LinearMap(format!("the map reads {needed} ciphertexts, {given} were given")));
        };
        let (p, level) = (&self.parameters, first.level());
        for a in inputs {
            self.check("an input of a linear map", &a.c[0])?;
            same_level("linear_matrix", level, a.level())?;
            same_scale("linear_matrix", first.scale, a.scale)?;
        }
        let scales = map.scales.iter().map(|s| self.product_scale("linear_matrix", first.scale, *s, level));
        let scales = scales.collect::<Result<Vec<f64>>>()?;
        let shape = self.common_shape(&map.rotations(), level, keys)?.unwrap_or_else(|| p.key_shape(level));
        let diagonals = || map.rows.iter().flat_map(|r| &r.terms).map(|(_, diagonal)| diagonal);
        diagonals().try_for_each(|diagonal| self.check_diagonal(diagonal, level, shape))?;
        self.count_products(diagonals(), level, shape);
        let mut sums = self.matrix_products(inputs, map, (level, shape), keys)?.into_iter();
        let outputs = scales.into_iter().enumerate();
        outputs
            .map(|(output, scale)| {
                let rows = map.rows.iter().filter(|r| r.output == output);
                let giants: Vec<i64> = rows.map(|r| r.giant).collect();
                let sums = sums.by_ref().take(giants.len()).collect();
                let total = self.giant_steps(sums, &giants, map.chain, (level, shape), keys)?;
                Ok(ExtendedCiphertext::new(total, scale, shape))
            })
            .collect()
    }

    /// For each row, the sum of plaintext x rotated input, modulo Q_l P.
    fn matrix_products(
        &self,
        inputs: &[&Ciphertext],
        map: &LinearMatrix,
        (level, shape): (usize, KeyShape),
        keys: &EvaluationKeys,
    ) -> Result<Vec<Sums>> {
        let p = &self.parameters;
        let (n, limbs) = (p.ring_degree(), level + 1);
        let mut sums: Vec<Sums> =
            map.rows.iter().map(|_| [(); 2].map(|()| Poly::scratch(p, limbs, shape.special))).collect();
        let mut start = 0;
        while start < map.babies.len() {
            let (end, used) = map.chunk(start, CHUNK_BYTES / (8 * n));
            let rotates = |input: usize| map.babies[start..end].iter().any(|b| b.0 == input && b.1 != 0);
            let digits: Vec<Option<Decomposition>> =
                used.iter().map(|&i| rotates(i).then(|| self.decompose(&inputs[i].c[1], shape))).collect();
            let rotated = map.babies[start..end].iter().map(|&(input, k)| {
                let at = used.partition_point(|u| *u < input);
                Ok((inputs[input], digits[at].as_ref(), self.shaped_key(k, level, shape, keys)?))
            });
            let chunk = Chunk { babies: start..end, rotated: rotated.collect::<Result<_>>()? };
            let rotations = chunk.rotated.iter().filter(|(.., key)| key.is_some()).count();
            self.counter.add(|counts| counts.key_products += rotations);
            let mut rows: Vec<Vec<[&mut [u32]; 2]>> =
                (0..limbs + shape.special).map(|_| Vec::with_capacity(sums.len())).collect();
            for [u0, u1] in &mut sums {
                let halves = u0.data_mut().chunks_exact_mut(n).zip(u1.data_mut().chunks_exact_mut(n));
                for (row, (u0, u1)) in rows.iter_mut().zip(halves) {
                    row.push([u0, u1]);
                }
            }
            rows.into_par_iter().enumerate().for_each(|(i, sums)| {
                self.add_chunk(sums, map, &chunk, (limbs, i, shape));
            });
            start = end;
        }
        Ok(sums)
    }

    /// Adds the products of a chunk of inputs at limb i to the sums, block by block; the first chunk finds nothing there yet.
    fn add_chunk(
        &self,
        mut sums: Vec<[&mut [u32]; 2]>,
        map: &LinearMatrix,
        chunk: &Chunk<'_>,
        (limbs, i, shape): (usize, usize, KeyShape),
    ) {
        let p = &self.parameters;
        let (n, m) = (p.ring_degree(), p.table(limbs, i).modulus);
        let raise = self.raise((limbs, i, shape));
        let first = chunk.babies.start == 0;
        let values: Vec<Vec<(usize, LimbValues)>> = map
            .rows
            .iter()
            .map(|row| {
                let from = row.terms.partition_point(|(b, _)| *b < chunk.babies.start);
                let to = row.terms.partition_point(|(b, _)| *b < chunk.babies.end);
                let terms = row.terms[from..to].iter();
                terms.map(|(b, diagonal)| (b - chunk.babies.start, diagonal.limb(p, limbs, i))).collect()
            })
            .collect();
        let block = block_size(chunk.rotated.len(), n);
        let mut rotated = Blocks::new(chunk.rotated.len(), block);
        let mut parts = [vec![0u32; block], vec![0u32; block]];
        // A block of every rotated input stays in cache for all outputs.
        for at in (0..n).step_by(block) {
            for ((a, digits, key), rows) in chunk.rotated.iter().zip(rotated.pairs_mut()) {
                self.baby_block(a, *digits, *key, (limbs, i, raise), at, rows);
            }
            for (sum, values) in sums.iter_mut().zip(&values) {
                let outs = sum.each_mut().map(|out| &mut out[at..at + block]);
                let terms: Vec<Term<'_>> = values
                    .iter()
                    .map(|(baby, values)| Term {
                        rows: [0, 1].map(|half| rotated.row(*baby, half)),
                        factors: values.factors(n, at, block),
                    })
                    .collect();
                if first {
                    kernels::weighted_sums(outs, &terms, m);
                } else if !terms.is_empty() {
                    let [u, v] = &mut parts;
                    kernels::weighted_sums([u, v], &terms, m);
                    for (out, part) in outs.into_iter().zip(&parts) {
                        kernels::add_assign(out, part, m);
                    }
                }
            }
        }
    }
}
