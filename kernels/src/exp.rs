//! The exponential function as straight-line code, so that loops over it become vector instructions.

/// `e^x` with a relative error below 2e-7 on `[-87, 88]`; saturates outside.
///
/// Cephes' expf: `x = n ln 2 + r` with `|r| <= ln 2 / 2`, a polynomial of degree 5 in `r`, then the exponent bits.
#[inline(always)]
#[allow(clippy::excessive_precision)]
pub(crate) fn exp(x: f32) -> f32 {
    // Adding and taking away 1.5 * 2^23 rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let n = (x * std::f32::consts::LOG2_E + ROUND) - ROUND;
    let r = x - n * 0.693_359_375 + n * 2.121_944_4e-4;
    let p = 1.987_569_15e-4;
    let p = p * r + 1.398_199_950_7e-3;
    let p = p * r + 8.333_451_907_3e-3;
    let p = p * r + 4.166_579_589_4e-2;
    let p = p * r + 1.666_666_545_9e-1;
    let p = p * r + 5.000_000_120_1e-1;
    let p = p * r * r + r + 1.0;
    p * f32::from_bits(((n as i32 + 127) << 23) as u32)
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_close_to_the_true_exponential() {
        let worst = (-8600..8700)
            .map(|i| {
                let x = i as f32 / 100.0;
                ((f64::from(exp(x)) / f64::from(x).exp()) - 1.0).abs()
            })
            .fold(0.0, f64::max);
        assert!(worst < 2e-7, "{worst}");
        assert!(exp(-1000.0) < 1e-37 && exp(1000.0) > 1e38);
    }
}
