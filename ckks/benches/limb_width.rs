//! Thirty-bit limbs in `u32` against fifty-bit limbs in `u64`, by the kernel work of a whole convolution rather than by one transform.
//!
//! `cargo bench -p ckks --bench limb_width` runs, for both widths, the transforms, basis conversions and products of the linear map of a
//! ResNet20 convolution (16 baby and 4 giant steps, 64 products, rescale) at about 930 bits, N = 2^16. Both widths use the
//! kernels of `tfhe-ntt`, which has AVX-512 code for either (IFMA for fifty bits); the crate's own fused kernels, which exist for thirty bits only, are
//! left out, so that the comparison is of widths. Keys and products stream from memory; digits and sums are reused.
#![allow(clippy::unwrap_used)]

use std::time::Instant;

use tfhe_ntt::{prime32, prime64};

const N: usize = 1 << 16;
/// Limbs of streamed operands: beyond every cache but the last.
const STREAM: usize = 256;

/// The kernels of one width.
trait Width {
    type Word: Copy + Default;
    const NAME: &'static str;
    fn word(x: u64) -> Self::Word;
    fn forward(&self, x: &mut [Self::Word]);
    fn inverse(&self, x: &mut [Self::Word]);
    fn multiply_add(&self, sum: &mut [Self::Word], a: &[Self::Word], b: &[Self::Word]);
}

struct Narrow(prime32::Plan);
struct Wide(prime64::Plan);

impl Width for Narrow {
    type Word = u32;
    const NAME: &'static str = "30-bit limbs in u32";

    fn word(x: u64) -> u32 {
        (x % (1 << 29)) as u32
    }

    fn forward(&self, x: &mut [u32]) {
        self.0.fwd(x);
    }

    fn inverse(&self, x: &mut [u32]) {
        self.0.inv(x);
    }

    fn multiply_add(&self, sum: &mut [u32], a: &[u32], b: &[u32]) {
        self.0.mul_accumulate(sum, a, b);
    }
}

impl Width for Wide {
    type Word = u64;
    const NAME: &'static str = "50-bit limbs in u64";

    fn word(x: u64) -> u64 {
        x % (1 << 49)
    }

    fn forward(&self, x: &mut [u64]) {
        self.0.fwd(x);
    }

    fn inverse(&self, x: &mut [u64]) {
        self.0.inv(x);
    }

    fn multiply_add(&self, sum: &mut [u64], a: &[u64], b: &[u64]) {
        self.0.mul_accumulate(sum, a, b);
    }
}

/// How often each kernel runs on one limb.
#[derive(Default)]
struct Work {
    forward: usize,
    inverse: usize,
    /// Products with operands that lie in cache: conversions.
    cached: usize,
    /// Products with an operand from memory: keys.
    streamed: usize,
}

/// The linear map at `limbs` limbs with `special` special primes and two digits.
fn work(limbs: usize, special: usize) -> Work {
    let (babies, giants, products, digits) = (15, 3, 64, 2);
    let all = limbs + special;
    let digit = limbs.div_ceil(digits);
    let mut w = Work::default();
    // A decomposition for the baby steps and for each giant step.
    let decompositions = 1 + giants;
    w.inverse += decompositions * limbs;
    w.forward += decompositions * (digits * all - limbs);
    w.cached += decompositions * digits * digit * (all - digit);
    // Keys: both halves of every digit.
    w.streamed += (babies + giants) * 2 * digits * all;
    // Weights, whose periodic values lie in cache, on both halves.
    w.cached += products * 2 * all;
    // Divisions: one half a giant step, both halves and a prime more at the end.
    w.inverse += giants * special + 2 * (special + 1);
    w.forward += giants * limbs + 2 * (limbs - 1);
    w.cached += giants * special * limbs + 2 * (special + 1) * (limbs - 1);
    w
}

fn run<W: Width>(width: &W, work: &Work) -> [f64; 4] {
    let filled = |seed: u64, len: usize| -> Vec<W::Word> {
        (0..len as u64).map(|i| W::word((i + seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 7)).collect()
    };
    let stream = filled(1, STREAM * N);
    let (mut limb, mut sum, factor) = (filled(2, N), filled(3, N), filled(4, N));
    let time = |count: usize, f: &mut dyn FnMut(usize)| {
        let start = Instant::now();
        (0..count).for_each(f);
        start.elapsed().as_secs_f64() * 1e3
    };
    [
        time(work.forward, &mut |_| width.forward(&mut limb)),
        time(work.inverse, &mut |_| width.inverse(&mut limb)),
        time(work.cached, &mut |_| width.multiply_add(&mut sum, &limb, &factor)),
        time(work.streamed, &mut |i| {
            width.multiply_add(&mut sum, &factor, &stream[i % STREAM * N..][..N]);
        }),
    ]
}

fn report<W: Width>(width: &W, limbs: usize, special: usize) {
    let work = work(limbs, special);
    run(width, &work);
    let mut runs: Vec<[f64; 4]> = (0..5).map(|_| run(width, &work)).collect();
    runs.sort_by(|a, b| a.iter().sum::<f64>().total_cmp(&b.iter().sum()));
    let [forward, inverse, cached, streamed] = runs[2];
    println!(
        "{:20} {limbs} + {special} limbs: {:6.1} ms = transforms {:6.1}, conversions and weights {cached:6.1}, keys {streamed:6.1}",
        W::NAME,
        runs[2].iter().sum::<f64>(),
        forward + inverse
    );
}

fn main() {
    let narrow = (1u32 << 29..1 << 30).rev().find_map(|p| prime32::Plan::try_new(N, p)).unwrap();
    let wide = (1u64 << 49..1 << 50).rev().find_map(|p| prime64::Plan::try_new(N, p)).unwrap();
    report(&Narrow(narrow), 31, 18);
    report(&Wide(wide), 19, 11);
}
