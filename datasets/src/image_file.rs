//! One PNG, JPEG or DICOM file to one film, with bounds on what a file may make the decoder allocate.

use std::io::{BufRead, BufReader, Cursor, Read, Seek};
use std::path::Path;

use image::{ColorType, DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use crate::image_bounds::{ADVICE, MAX_IMAGE_BYTES, MAX_IMAGE_SIDE, image_error};
use crate::{DataError, Film, Fit, Result, dicom, jpeg_end};

/// Reads one PNG, JPEG or DICOM film, keeps its central square, and resizes it to `side x side`.
///
/// # Errors
/// The file is missing, empty, none of these, damaged, or absurdly large.
pub fn load_film(path: &Path, side: usize) -> Result<Film> {
    load_film_with(path, side, Fit::default())
}

/// As [`load_film`], choosing how a film that is not square becomes square.
///
/// # Errors
/// As [`load_film`].
pub fn load_film_with(path: &Path, side: usize, fit: Fit) -> Result<Film> {
    Ok(read_film(path)?.resized(side, fit))
}

/// The file's film at its own size.
pub(crate) fn read_film(path: &Path) -> Result<Film> {
    let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            DataError::Missing { path: path.into(), expected: "a PNG, JPEG or DICOM film".into() }
        }
        _ => DataError::io(path, "look at the file")(error),
    })?;
    if metadata.is_dir() {
        return Err(image_error(
            path,
            "expected a PNG, JPEG or DICOM film, found a folder",
            "name one film in it",
        ));
    }
    if metadata.len() == 0 {
        return Err(image_error(
            path,
            "expected a PNG, JPEG or DICOM film, found a file of zero bytes",
            ADVICE,
        ));
    }
    let mut file = std::fs::File::open(path).map_err(DataError::io(path, "open the film"))?;
    let mut start = Vec::with_capacity(dicom::START);
    (&mut file)
        .take(dicom::START as u64)
        .read_to_end(&mut start)
        .and_then(|_| file.rewind())
        .map_err(DataError::io(path, "read the start of the film"))?;
    if dicom::is_dicom(&start) {
        return dicom::read(path, metadata.len());
    }
    decode(path, BufReader::new(file))
}

fn decode(path: &Path, reader: impl Seek + BufRead) -> Result<Film> {
    let reader = ImageReader::new(reader)
        .with_guessed_format()
        .map_err(DataError::io(path, "read the start of the film"))?;
    if reader.format() == Some(ImageFormat::Jpeg) {
        return decode_jpeg(path, reader.into_inner());
    }
    if reader.format() != Some(ImageFormat::Png) {
        return Err(image_error(
            path,
            "expected a PNG, JPEG or DICOM film, but the file begins like none of them",
            "convert it to PNG, or take it out of the data set",
        ));
    }
    decode_by(path, reader)
}

/// A JPEG film, if its stream is whole.
fn decode_jpeg(path: &Path, mut file: impl Seek + Read) -> Result<Film> {
    let mut stream = Vec::new();
    file.rewind()
        .and_then(|()| file.take(MAX_IMAGE_BYTES + 1).read_to_end(&mut stream))
        .map_err(DataError::io(path, "read the film"))?;
    if !jpeg_end::is_whole(&stream) {
        return Err(image_error(path, "expected a whole JPEG film, but the file ends in the middle", ADVICE));
    }
    decode_by(path, ImageReader::with_format(Cursor::new(stream), ImageFormat::Jpeg))
}

/// Decodes within the bounds, upright.
fn decode_by(path: &Path, reader: ImageReader<impl Seek + BufRead>) -> Result<Film> {
    let damaged = |error: image::ImageError| {
        image_error(path, format!("expected a PNG or JPEG film, but decoding failed ({error})"), ADVICE)
    };
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    let longest = u64::from(width.max(height));
    let too_large = |what: &str, found: u64, limit: u64| DataError::TooLarge {
        path: path.into(),
        what: what.into(),
        found,
        limit,
    };
    if longest > u64::from(MAX_IMAGE_SIDE) {
        return Err(too_large("its longer side in pixels", longest, u64::from(MAX_IMAGE_SIDE)));
    }
    if decoder.total_bytes() > MAX_IMAGE_BYTES {
        return Err(too_large("its size in bytes once decoded", decoder.total_bytes(), MAX_IMAGE_BYTES));
    }
    if width == 0 || height == 0 {
        return Err(image_error(path, "the image has no pixels", ADVICE));
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(2 * MAX_IMAGE_BYTES);
    decoder.set_limits(limits).map_err(damaged)?;
    let wide = matches!(
        decoder.color_type(),
        ColorType::L16 | ColorType::La16 | ColorType::Rgb16 | ColorType::Rgba16
    );
    // Cameras and phones store pictures as the sensor lies and say in the EXIF data how to turn them.
    let orientation = decoder.orientation().map_err(damaged)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    image.apply_orientation(orientation);
    let (height, width) = (image.height() as usize, image.width() as usize);
    if wide {
        let pixels = image.into_luma16().iter().map(|&p| f32::from(p) / 65535.0).collect();
        Ok(Film { height, width, pixels })
    } else {
        Ok(Film::from_bytes(height, width, image.into_luma8().as_raw()))
    }
}
