//! The Chebyshev interpolation of ReLU.

use std::f64::consts::PI;

/// Coefficients of the polynomial of `degree` that interpolates `max(x, 0)` in the Chebyshev nodes of
/// `[-interval, interval]`, ascending powers of `x / interval`.
///
/// With `n = degree + 1` nodes `u_j = cos(pi (j + 1/2) / n)` and `f(u) = interval max(u, 0)`, the
/// series is `sum_k c_k T_k(u)`, `c_k = (2 - [k = 0]) / n sum_j f(u_j) T_k(u_j)`.
#[must_use]
pub fn chebyshev_relu(degree: usize, interval: f64) -> Vec<f64> {
    let n = degree + 1;
    let angle = |j: usize| PI * (j as f64 + 0.5) / n as f64;
    let mut sum = vec![0.0; n];
    // T_0 and T_1 as powers; the recurrence is T_{k+1} = 2 u T_k - T_{k-1}.
    let (mut last, mut this) = (vec![0.0; n], vec![0.0; n]);
    this[0] = 1.0;
    for k in 0..n {
        let factor = if k == 0 { 1.0 } else { 2.0 };
        let value = |j: usize| interval * angle(j).cos().max(0.0) * (k as f64 * angle(j)).cos();
        let c = factor / n as f64 * (0..n).map(value).sum::<f64>();
        for (s, t) in sum.iter_mut().zip(&this) {
            *s += c * t;
        }
        let double = if k == 0 { 1.0 } else { 2.0 };
        let mut next: Vec<f64> = last.iter().map(|t| -t).collect();
        for (i, t) in this.iter().enumerate().take(n - 1) {
            next[i + 1] += double * t;
        }
        last = std::mem::replace(&mut this, next);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_interpolates_relu_in_the_nodes_and_is_close_between_them() {
        for degree in 2..=12 {
            let p = chebyshev_relu(degree, 3.0);
            let at = |u: f64| p.iter().rev().fold(0.0, |s, c| s * u + c);
            for j in 0..=degree {
                let u = (PI * (j as f64 + 0.5) / (degree + 1) as f64).cos();
                assert!((at(u) - 3.0 * u.max(0.0)).abs() < 1e-10, "degree {degree} node {j}");
            }
            let worst = (-100..=100).map(|i| f64::from(i) / 100.0).map(|u| (at(u) - 3.0 * u.max(0.0)).abs());
            let worst = worst.fold(0.0, f64::max);
            assert!(worst < 1.5 / degree as f64, "degree {degree}: {worst}");
        }
    }
}
