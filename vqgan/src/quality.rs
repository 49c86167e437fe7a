//! How good a reconstruction is: PSNR and SSIM.
//!
//! Both compare grey pixels in `[0, 1]`, so the peak is 1. SSIM is that of Wang et al., "Image quality
//! assessment: from error visibility to structural similarity" (2004), with its 11-pixel Gaussian
//! window (sigma 1.5), K1 = 0.01 and K2 = 0.03, over the windows that lie inside the film.

/// Side of the SSIM window.
const WINDOW: usize = 11;
/// Standard deviation of the SSIM window in pixels.
const SIGMA: f64 = 1.5;

/// Mean squared difference.
///
/// # Panics
///
/// Panics if the lengths differ.
#[must_use]
pub fn mean_squared_error(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len(), "films of the same size");
    let sum = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
    sum / a.len().max(1) as f64
}

/// Peak signal-to-noise ratio in dB for pixels in `[0, 1]`: `-10 log10(mse)`, at most 100; `NaN` for an error that is no number.
#[must_use]
pub fn psnr(mean_squared_error: f64) -> f64 {
    // `f64::max` would pass over a NaN.
    if mean_squared_error.is_nan() {
        return f64::NAN;
    }
    (-10.0 * mean_squared_error.max(1e-10).log10()).min(100.0)
}

/// Mean structural similarity of two films of `height x width` pixels; films smaller than the window give `NaN`.
///
/// # Panics
///
/// Panics if a film does not have `height * width` pixels.
#[must_use]
pub fn ssim(a: &[f32], b: &[f32], height: usize, width: usize) -> f64 {
    assert!(a.len() == height * width && b.len() == height * width, "films of {height} x {width}");
    if height < WINDOW || width < WINDOW {
        return f64::NAN;
    }
    let a = a.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
    let b = b.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
    let product = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).collect::<Vec<_>>();
    let blur = |x: &[f64]| blur(x, height, width);
    let (mean_a, mean_b) = (blur(&a), blur(&b));
    let (aa, bb, ab) = (blur(&product(&a, &a)), blur(&product(&b, &b)), blur(&product(&a, &b)));
    let (c1, c2) = (0.01f64.powi(2), 0.03f64.powi(2));
    let total = (0..mean_a.len())
        .map(|i| {
            let (ma, mb) = (mean_a[i], mean_b[i]);
            let (va, vb, cov) = (aa[i] - ma * ma, bb[i] - mb * mb, ab[i] - ma * mb);
            (2.0 * ma * mb + c1) * (2.0 * cov + c2) / ((ma * ma + mb * mb + c1) * (va + vb + c2))
        })
        .sum::<f64>();
    total / mean_a.len() as f64
}

/// Gaussian window over all positions that lie inside, separably.
fn blur(x: &[f64], height: usize, width: usize) -> Vec<f64> {
    let mut kernel = [0.0; WINDOW];
    for (i, k) in kernel.iter_mut().enumerate() {
        let distance = i as f64 - (WINDOW / 2) as f64;
        *k = (-distance * distance / (2.0 * SIGMA * SIGMA)).exp();
    }
    let sum = kernel.iter().sum::<f64>();
    kernel.iter_mut().for_each(|k| *k /= sum);
    let (out_h, out_w) = (height - WINDOW + 1, width - WINDOW + 1);
    let mut rows = vec![0.0; height * out_w];
    for y in 0..height {
        for ox in 0..out_w {
            rows[y * out_w + ox] = kernel.iter().zip(&x[y * width + ox..]).map(|(k, v)| k * v).sum::<f64>();
        }
    }
    let mut out = vec![0.0; out_h * out_w];
    for oy in 0..out_h {
        for (i, k) in kernel.iter().enumerate() {
            for ox in 0..out_w {
                out[oy * out_w + ox] += k * rows[(oy + i) * out_w + ox];
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        let a = (0..256).map(|i| (i % 16) as f32 / 16.0).collect::<Vec<_>>();
        let b = a.iter().map(|v| v + 0.1).collect::<Vec<_>>();
        assert!((psnr(mean_squared_error(&a, &b)) - 20.0).abs() < 1e-4);
        assert!(psnr(f64::NAN).is_nan(), "what is no number is not perfect");
        assert_eq!((psnr(0.0), psnr(f64::INFINITY)), (100.0, f64::NEG_INFINITY));
        assert!((ssim(&a, &a, 16, 16) - 1.0).abs() < 1e-12);
        let shifted = ssim(&a, &b, 16, 16);
        assert!(shifted < 1.0 && shifted > 0.5, "{shifted}");
        assert!(ssim(&a[..64], &a[..64], 8, 8).is_nan());
    }
}
