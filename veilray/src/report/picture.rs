//! Grey pictures for the report: an 8-bit raster, its PNG and its data URI.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::{GrayImage, ImageFormat};

/// An 8-bit grey picture.
#[derive(Debug, Clone)]
pub struct Picture {
    raster: GrayImage,
}

impl Picture {
    /// A picture from row-major values, `low` drawn black and `high` drawn white; values outside are clipped.
    ///
    /// # Shapes
    /// `values` holds `height * width` numbers; a shorter slice leaves the rest black.
    pub fn from_values(values: &[f32], height: usize, width: usize, low: f32, high: f32) -> Self {
        let range = if high > low { high - low } else { 1.0 };
        let raster = GrayImage::from_fn(width as u32, height as u32, |x, y| {
            let value = values.get(y as usize * width + x as usize).copied().unwrap_or(low);
            image::Luma([(((value - low) / range).clamp(0.0, 1.0) * 255.0).round() as u8])
        });
        Self { raster }
    }

    /// The picture stretched to its own darkest and brightest value, for latents whose range is not known.
    pub fn stretched(values: &[f32], height: usize, width: usize) -> Self {
        let low = values.iter().copied().fold(f32::INFINITY, f32::min);
        let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        Self::from_values(values, height, width, low, high)
    }

    /// `data:image/png;base64,...` for an `<img>`.
    pub fn data_uri(&self) -> String {
        let mut png = std::io::Cursor::new(Vec::new());
        match self.raster.write_to(&mut png, ImageFormat::Png) {
            Ok(()) => format!("data:image/png;base64,{}", STANDARD.encode(png.into_inner())),
            Err(_) => String::from("data:,"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_survives_its_png() {
        let values: Vec<f32> = (0..12).map(|index| index as f32 / 11.0).collect();
        let uri = Picture::from_values(&values, 3, 4, 0.0, 1.0).data_uri();
        let png = STANDARD.decode(uri.trim_start_matches("data:image/png;base64,")).unwrap();
        let back = image::load_from_memory(&png).unwrap().to_luma8();
        assert_eq!(back.dimensions(), (4, 3));
        assert_eq!((back.get_pixel(0, 0)[0], back.get_pixel(3, 2)[0]), (0, 255));
    }

    #[test]
    fn constant_values_do_not_divide_by_zero() {
        assert!(Picture::stretched(&[0.5; 4], 2, 2).data_uri().starts_with("data:image/png"));
    }
}
