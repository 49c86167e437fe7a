//! How well a VQGAN reconstructs films it was not trained on.

use serde::{Deserialize, Serialize};
use vqgan::{
    Vqgan,
    codebook::CodeUsage,
    quality::{mean_squared_error, psnr, ssim},
};

use crate::{
    Result,
    films::{Films, consecutive, to_pixels},
    picture::Picture,
};

use burn::module::Module;

/// Films in the picture.
const SHOWN: usize = 8;
/// Films reconstructed at a time.
const BATCH: usize = 16;

/// Figures of reconstructions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VqganFigures {
    /// Films that were reconstructed.
    pub films: usize,
    /// PSNR of the mean squared error over all pixels of all films, in dB.
    pub psnr: f64,
    /// Mean SSIM; absent for films smaller than its window.
    pub ssim: Option<f64>,
    /// Share of the codes that the films use, 0 to 1.
    pub codes_used: f64,
    /// `exp` of the entropy of the codes.
    pub perplexity: f64,
}

impl VqganFigures {
    /// The figures with their names in tables and TensorBoard.
    pub(crate) fn named(&self) -> [(&'static str, f64); 4] {
        [
            ("validation/psnr", self.psnr),
            ("validation/ssim", self.ssim.unwrap_or(f64::NAN)),
            ("validation/codes_used", self.codes_used),
            ("validation/perplexity", self.perplexity),
        ]
    }
}

/// Reconstructs the given films; the picture has films above their reconstructions.
pub(crate) fn evaluate(
    net: &Vqgan,
    quantise: bool,
    films: &Films,
    indices: &[usize],
    codes: usize,
) -> Result<(VqganFigures, Picture)> {
    let device = net.devices().into_iter().next().unwrap_or_default();
    let side = films.dataset().side();
    let mut usage = CodeUsage::new(codes);
    let (mut error, mut similarity, mut count) = (0.0, 0.0, 0usize);
    let mut shown = (Vec::new(), Vec::new());
    for batch in consecutive(indices.to_vec(), BATCH) {
        let x = films.tensor(&batch, &device)?;
        let out = net.reconstruct(x, quantise);
        if let Some(indices) = &out.indices {
            usage.record(&indices.to_data().iter::<i64>().map(|i| i as usize).collect::<Vec<_>>());
        }
        let originals = films.pixels(&batch)?;
        for (film, original) in to_pixels(out.film).into_iter().zip(originals.chunks_exact(side * side)) {
            error += mean_squared_error(original, &film);
            similarity += ssim(original, &film, side, side);
            count += 1;
            if shown.0.len() < SHOWN {
                shown.0.push(original.to_vec());
                shown.1.push(film);
            }
        }
    }
    let count_f = count.max(1) as f64;
    let similarity = similarity / count_f;
    let figures = VqganFigures {
        films: count,
        psnr: psnr(error / count_f),
        ssim: similarity.is_finite().then_some(similarity),
        codes_used: usage.used(),
        perplexity: usage.perplexity(),
    };
    let rows = [&shown.0, &shown.1].map(|row| row.iter().map(Vec::as_slice).collect::<Vec<_>>());
    Ok((figures, Picture::grid(&rows, side, side)))
}
