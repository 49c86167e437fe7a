//! The negacyclic number-theoretic transform behind a narrow trait.
//!
//! Order, which the wire format relies on: position i of the evaluation form holds the value at
//! psi^(2 bitrev(i) + 1), with psi from [`crate::primes::root_of_unity`]. Three implementations keep it: [`Portable`], a page of
//! plain Rust for any size; [`Vectorised`], over `tfhe-ntt`, which chooses AVX-512, AVX2 or scalar code at run time; and [`Blocked`], ours for
//! large rings where AVX2 is the most there is.
//!
//! Sub-rings: the transform of size n < N with psi^(N/n) is the transform of a polynomial in X^(N/n), and in this order its
//! values are constant on runs of N/n positions of the large one. Periodic plaintexts live on that.

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "vectors by hand, over rows that lie apart in one block of memory")]
mod blocked;
mod factor;
mod portable;
mod transform;
mod vectorised;

use std::sync::OnceLock;

use crate::arith::Modulus;
use crate::kernels::isa;
#[cfg(target_arch = "x86_64")]
use blocked::Blocked;
use portable::Portable;
use transform::Transform;
use vectorised::Vectorised;

/// One prime of the chain: its arithmetic and its transforms, of size N and (made when first used) of every smaller size.
#[derive(Debug)]
pub(crate) struct PrimeTable {
    pub(crate) modulus: Modulus,
    transforms: Vec<OnceLock<Box<dyn Transform>>>,
}

impl PrimeTable {
    pub(crate) fn new(q: u32, ring_degree: usize) -> Self {
        let transforms = (0..=ring_degree.trailing_zeros()).map(|_| OnceLock::new()).collect();
        let table = Self { modulus: Modulus::new(q), transforms };
        table.transform(ring_degree);
        table
    }

    /// The transform of a power-of-two size up to N.
    pub(crate) fn transform(&self, size: usize) -> &dyn Transform {
        self.transforms[size.trailing_zeros() as usize]
            .get_or_init(|| {
                #[cfg(target_arch = "x86_64")]
                if let Some(blocked) = Blocked::new(self.modulus, size) {
                    return Box::new(blocked);
                }
                match Vectorised::new(self.modulus, size) {
                    Some(fast) if !isa::portable_only() => Box::new(fast),
                    _ => Box::new(Portable::new(self.modulus, size)),
                }
            })
            .as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primes;

    fn schoolbook(m: Modulus, a: &[u32], b: &[u32]) -> Vec<u32> {
        let n = a.len();
        let mut c = vec![0; n];
        for i in 0..n {
            for j in 0..n {
                let p = m.mul(a[i], b[j]);
                if i + j < n {
                    c[i + j] = m.add(c[i + j], p);
                } else {
                    c[i + j - n] = m.sub(c[i + j - n], p);
                }
            }
        }
        c
    }

    fn noise(m: Modulus, n: usize, seed: u64) -> Vec<u32> {
        let mut x = seed | 1;
        (0..n)
            .map(|_| {
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                (x % u64::from(m.value())) as u32
            })
            .collect()
    }

    fn multiplies(t: &dyn Transform, m: Modulus, n: usize) {
        let (a, b) = (noise(m, n, 3), noise(m, n, 5));
        let (mut fa, mut fb) = (a.clone(), b.clone());
        t.forward(&mut fa);
        t.forward(&mut fb);
        let mut product: Vec<u32> = fa.iter().zip(&fb).map(|(&x, &y)| m.mul(x, y)).collect();
        let mut scaled = product.clone();
        t.inverse(&mut product);
        assert_eq!(product, schoolbook(m, &a, &b));
        t.inverse_scaled(&mut scaled);
        product.iter_mut().for_each(|x| *x = m.mul(*x, n as u32));
        assert_eq!(scaled, product);
    }

    #[test]
    fn both_multiply_like_the_schoolbook() {
        for log_degree in [5u32, 7, 9] {
            for bits in [20, 30] {
                let m = Modulus::new(primes::generate(log_degree, &[bits]).unwrap()[0]);
                let n = 1 << log_degree;
                multiplies(&Portable::new(m, n), m, n);
                multiplies(&Vectorised::new(m, n).unwrap(), m, n);
            }
        }
    }

    #[test]
    fn both_keep_one_order() {
        for log_degree in [5u32, 12, 16] {
            let n = 1 << log_degree;
            let m = Modulus::new(primes::generate(log_degree, &[30]).unwrap()[0]);
            let psi = primes::root_of_unity(m, n);
            let (mut a, mut b) = (noise(m, n, 9), noise(m, n, 9));
            Portable::new(m, n).forward(&mut a);
            Vectorised::new(m, n).unwrap().forward(&mut b);
            assert_eq!(a, b);
            let mut x = vec![0; n];
            x[1] = 1;
            Portable::new(m, n).forward(&mut x);
            for i in [0, 1, 2, n / 2, n - 1] {
                let e = 2 * (i.reverse_bits() >> (usize::BITS - log_degree)) + 1;
                assert_eq!(x[i], m.pow(psi, e as u64));
            }
        }
    }

    /// Every number of rows that the blocked transform has stages for; with the largest residues lazy ones would
    /// overflow.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_blocked_transform_is_the_portable_one() {
        if isa::isa() != isa::Isa::Avx2 {
            eprintln!("skipped: kernels do not use AVX2");
            return;
        }
        for log_degree in 14u32..=17 {
            let n = 1 << log_degree;
            let m = Modulus::new(primes::generate(log_degree, &[30]).unwrap()[0]);
            let (portable, blocked) = (Portable::new(m, n), Blocked::new(m, n).unwrap());
            for values in [noise(m, n, 9), vec![m.value() - 1; n], vec![0; n]] {
                let (mut slow, mut fast) = (values.clone(), values.clone());
                portable.forward(&mut slow);
                blocked.forward(&mut fast);
                assert!(slow == fast, "2^{log_degree}");
                // Values in any order are values of something.
                for there in [&values, &slow] {
                    let (mut slow, mut fast, mut out) = (there.clone(), there.clone(), vec![1; n]);
                    portable.inverse_scaled(&mut slow);
                    blocked.inverse_scaled(&mut fast);
                    blocked.inverse_scaled_into(there, &mut out);
                    assert!(slow == fast && slow == out, "2^{log_degree}");
                }
                blocked.inverse(&mut fast);
                assert!(fast == values, "2^{log_degree}");
            }
        }
        let m = Modulus::new(primes::generate(18, &[30]).unwrap()[0]);
        assert!(Blocked::new(m, 1 << 13).is_none() && Blocked::new(m, 1 << 18).is_none());
    }

    #[test]
    fn sub_ring_values_are_runs() {
        let n = 1usize << 10;
        let table = PrimeTable::new(primes::generate(10, &[30]).unwrap()[0], n);
        for size in [2usize, 8, 64] {
            let mut small = noise(table.modulus, size, 11);
            let mut large = vec![0; n];
            for (i, &c) in small.iter().enumerate() {
                large[i * (n / size)] = c;
            }
            table.transform(size).forward(&mut small);
            table.transform(n).forward(&mut large);
            for (i, &v) in large.iter().enumerate() {
                assert_eq!(v, small[i / (n / size)]);
            }
        }
    }
}
