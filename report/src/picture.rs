//! Grey pictures of 8 bits: films, reconstructions, latents.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::{GrayImage, ImageFormat, Luma};

use crate::png::PngError;

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
            Luma([(((value - low) / range).clamp(0.0, 1.0) * 255.0).round() as u8])
        });
        Self { raster }
    }

    /// The picture stretched to its own darkest and brightest value, for latents whose range is not known.
    pub fn stretched(values: &[f32], height: usize, width: usize) -> Self {
        let low = values.iter().copied().fold(f32::INFINITY, f32::min);
        let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        Self::from_values(values, height, width, low, high)
    }

    /// A picture from a PNG; nothing where the bytes are none.
    pub fn from_png(bytes: &[u8]) -> Option<Self> {
        let raster = image::load_from_memory_with_format(bytes, ImageFormat::Png).ok()?.to_luma8();
        Some(Self { raster })
    }

    /// Width and height in pixels.
    pub fn size(&self) -> (u32, u32) {
        self.raster.dimensions()
    }

    /// The grey of a pixel.
    ///
    /// # Panics
    /// The pixel is outside of the picture.
    pub fn pixel(&self, x: u32, y: u32) -> u8 {
        self.raster.get_pixel(x, y)[0]
    }

    /// The part of `side x side` pixels whose corner is at `(x, y)`, as far as there is one.
    #[must_use]
    pub fn part(&self, x: u32, y: u32, side: u32) -> Self {
        Self { raster: image::imageops::crop_imm(&self.raster, x, y, side, side).to_image() }
    }

    /// The picture as PNG.
    ///
    /// # Errors
    /// The picture is empty.
    pub fn to_png(&self) -> Result<Vec<u8>, PngError> {
        let mut png = std::io::Cursor::new(Vec::new());
        let written = self.raster.write_to(&mut png, ImageFormat::Png);
        written.map_err(|error| PngError::Encoding(error.to_string()))?;
        Ok(png.into_inner())
    }

    /// `data:image/png;base64,...` for an `<img>`.
    pub fn data_uri(&self) -> String {
        match self.to_png() {
            Ok(png) => format!("data:image/png;base64,{}", STANDARD.encode(png)),
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
        let picture = Picture::from_values(&values, 3, 4, 0.0, 1.0);
        let uri = picture.data_uri();
        let png = STANDARD.decode(uri.trim_start_matches("data:image/png;base64,")).unwrap();
        assert_eq!(png, picture.to_png().unwrap());
        let back = Picture::from_png(&png).unwrap();
        assert_eq!(back.size(), (4, 3));
        assert_eq!((back.pixel(0, 0), back.pixel(3, 2)), (0, 255));
        assert_eq!(back.part(2, 1, 2).pixel(1, 1), 255);
        assert!(Picture::from_png(&png[..20]).is_none());
    }

    #[test]
    fn constant_values_do_not_divide_by_zero() {
        assert!(Picture::stretched(&[0.5; 4], 2, 2).data_uri().starts_with("data:image/png"));
    }
}
