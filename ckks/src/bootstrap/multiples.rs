//! The multiples of q_0 that raising adds to a coefficient: how large they are, and how likely.

/// The probabilities of I = 0, 1 .. for one coefficient: the integer nearest to a sum of `weight` + 1 uniform numbers
/// in (-1/2, 1/2), one for the body and one for each nonzero coefficient of the secret (the law of Irwin and Hall).
///
/// Both signs are equally likely; the sum of the first plus twice the others is 1. Computed by convolution on a grid,
/// all of whose terms are positive, so that tails keep their relative accuracy.
pub(crate) fn probabilities(weight: usize) -> Vec<f64> {
    const GRID: usize = 32;
    let mut density = vec![1.0f64];
    for _ in 0..=weight {
        let mut sum = vec![0.0; density.len() + GRID - 1];
        for (i, d) in density.iter().enumerate() {
            sum[i..i + GRID].iter_mut().for_each(|s| *s += d / GRID as f64);
        }
        density = sum;
    }
    // Entry i lies at (i - (len - 1)/2) / GRID; borders between integers are shared by both.
    let middle = (density.len() - 1) as f64 / 2.0;
    let mut out = vec![0.0; weight / 2 + 2];
    for (i, d) in density.iter().enumerate() {
        let at = (i as f64 - middle) / GRID as f64;
        if at > -0.5 {
            let whole = at.round() as usize;
            let share = if (at.fract() - 0.5).abs() < 1e-9 { 0.5 } else { 1.0 };
            out[whole] += share * d;
            if share < 1.0 && whole > 0 {
                out[whole - 1] += share * d;
            }
        } else if (at + 0.5).abs() < 1e-9 {
            out[0] += 0.5 * d;
        }
    }
    out
}

/// The probability that |I| exceeds `range` in one coefficient.
pub(crate) fn overflow(weight: usize, range: usize) -> f64 {
    2.0 * probabilities(weight).iter().skip(range + 1).rev().sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_follow_the_law_of_irwin_and_hall() {
        for weight in [2, 31, 64] {
            let p = probabilities(weight);
            let total = p[0] + 2.0 * p[1..].iter().sum::<f64>();
            let variance: f64 = 2.0 * p.iter().enumerate().map(|(i, p)| (i * i) as f64 * p).sum::<f64>();
            assert!((total - 1.0).abs() < 1e-12, "{weight}: {total}");
            // Rounding to integers adds a twelfth to the (weight + 1)/12 of the sum.
            let expected = (weight + 2) as f64 / 12.0;
            assert!((variance / expected - 1.0).abs() < 0.01, "{weight}: {variance} for {expected}");
        }
        // The sum of 33 numbers reaches beyond 13.5 with a probability that the exact alternating sum gives as 2^-69.5.
        assert!((overflow(32, 13).log2() + 69.5).abs() < 1.5, "{}", overflow(32, 13).log2());
        assert!((overflow(64, 20).log2() + 68.4).abs() < 1.5, "{}", overflow(64, 20).log2());
    }
}
