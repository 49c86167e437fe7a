//! Loops that do the same to every position: compiled from plain bodies for each instruction set.

use super::isa::compiled;
use crate::arith::Modulus;

compiled! {
    /// a += b.
    fn add_assign(a: &mut [u32], b: &[u32], m: Modulus) {
        for (x, &y) in a.iter_mut().zip(b) {
            *x = m.add(*x, y);
        }
    }

    /// a -= b.
    fn sub_assign(a: &mut [u32], b: &[u32], m: Modulus) {
        for (x, &y) in a.iter_mut().zip(b) {
            *x = m.sub(*x, y);
        }
    }

    /// a = -a.
    fn negate(a: &mut [u32], m: Modulus) {
        for x in a {
            *x = m.sub(0, *x);
        }
    }

    /// a *= b.
    fn mul_assign(a: &mut [u32], b: &[u32], m: Modulus) {
        for (x, &y) in a.iter_mut().zip(b) {
            *x = m.mul(*x, y);
        }
    }

    /// out += a b.
    fn add_product(out: &mut [u32], a: &[u32], b: &[u32], m: Modulus) {
        for ((x, &y), &z) in out.iter_mut().zip(a).zip(b) {
            *x = m.add(*x, m.mul(y, z));
        }
    }

    /// out -= a b.
    #[cfg(feature = "secret-key")]
    fn sub_product(out: &mut [u32], a: &[u32], b: &[u32], m: Modulus) {
        for ((x, &y), &z) in out.iter_mut().zip(a).zip(b) {
            *x = m.sub(*x, m.mul(y, z));
        }
    }

    /// a *= f, with f in Montgomery form.
    fn scale(a: &mut [u32], f: u32, m: Modulus) {
        for x in a {
            *x = m.mul_montgomery(*x, f);
        }
    }

    /// out = a f, with f in Montgomery form.
    fn scale_into(out: &mut [u32], a: &[u32], f: u32, m: Modulus) {
        for (x, &y) in out.iter_mut().zip(a) {
            *x = m.mul_montgomery(y, f);
        }
    }

    /// out = (a - out) f, with f in Montgomery form.
    fn sub_from_and_scale(out: &mut [u32], a: &[u32], f: u32, m: Modulus) {
        for (x, &y) in out.iter_mut().zip(a) {
            *x = m.mul_montgomery(m.sub(y, *x), f);
        }
    }

    /// a = (a - b) f, with f in Montgomery form.
    fn sub_and_scale(a: &mut [u32], b: &[u32], f: u32, m: Modulus) {
        for (x, &y) in a.iter_mut().zip(b) {
            *x = m.mul_montgomery(m.sub(*x, y), f);
        }
    }

    /// out += a f, with f in Montgomery form.
    fn add_scaled(out: &mut [u32], a: &[u32], f: u32, m: Modulus) {
        for (x, &y) in out.iter_mut().zip(a) {
            *x = m.add(*x, m.mul_montgomery(y, f));
        }
    }

    /// out = v mod q for |v| < q, without a branch.
    fn from_small(out: &mut [u32], values: &[i32], m: Modulus) {
        for (x, &v) in out.iter_mut().zip(values) {
            *x = v.wrapping_add((v >> 31) & m.value() as i32) as u32;
        }
    }

    /// (d0, d1, d2) = (a0 b0, a0 b1 + a1 b0, a1 b1), given as d = [d0, d1, d2] and f = [a0, a1, b0, b1].
    fn tensor(d: [&mut [u32]; 3], f: [&[u32]; 4], m: Modulus) {
        let [d0, d1, d2] = d;
        let [a0, a1, b0, b1] = f;
        let n = d0.len();
        let (d1, d2) = (&mut d1[..n], &mut d2[..n]);
        let (a0, a1, b0, b1) = (&a0[..n], &a1[..n], &b0[..n], &b1[..n]);
        for i in 0..n {
            let (x0, x1) = (u64::from(a0[i]), u64::from(a1[i]));
            let (y0, y1) = (u64::from(b0[i]), u64::from(b1[i]));
            d0[i] = m.to_montgomery(m.reduce(x0 * y0));
            // Two products of residues stay below 2 q^2 < q 2^31.
            d1[i] = m.to_montgomery(m.reduce(x0 * y1 + x1 * y0));
            d2[i] = m.to_montgomery(m.reduce(x1 * y1));
        }
    }

    /// out = x mod q for |x| < 2^62, without a division or a branch.
    fn reduce_signed(out: &mut [u32], values: &[i64], m: Modulus) {
        let offset = m.reduce_i64(1 << 62);
        for (o, &x) in out.iter_mut().zip(values) {
            let u = x.wrapping_add(1 << 62) as u64;
            // hi 2^32 + lo, each brought below q through Montgomery form, which takes any word.
            let high = m.to_montgomery((u >> 32) as u32);
            let low = m.to_montgomery(m.reduce(u & 0xffff_ffff));
            *o = m.sub(m.add(high, low), offset);
        }
    }
}
