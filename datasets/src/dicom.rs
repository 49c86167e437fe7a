//! One DICOM file (DX, CR) to one film, as it would be displayed.
//!
//! The order of operations is that of DICOM PS3.3, C.11 and PS3.4, N.2: stored values, rescaling (C.11.1), the first
//! window (C.11.2.1.2, linear, linear exact or sigmoid) or, without one, the first VOI table (C.11.2.1.1), or,
//! without either, the range of the values present; then inversion for MONOCHROME1, so that 1 is always white
//! (bone). Padding (0028,0120) is black. All of it in f32 of up to 16 bits stored: nothing is rounded to 8 bits.
//!
//! Uncompressed, RLE, JPEG (baseline and lossless) and JPEG 2000 pixels are read, in pure Rust; JPEG-LS and others are
//! refused by name. What a header claims is compared with limits, with the rest of the file, and with the size inside
//! the JPEG stream, before a parser or decoder runs.

mod jpeg2000;
mod lengths;

use std::io::Cursor;
use std::path::Path;

use dicom_dictionary_std::tags;
use dicom_object::{DefaultDicomObject, OpenFileOptions};
use dicom_pixeldata::{
    DecodedPixelData, PhotometricInterpretation, PixelDecoder, PixelRepresentation, PlanarConfiguration,
};

use crate::image_bounds::{ADVICE, MAX_IMAGE_BYTES, MAX_IMAGE_SIDE, image_error};
use crate::{DataError, Film, Result};

/// How much of a file [`is_dicom`] looks at: the preamble and the four letters behind it.
pub(crate) const START: usize = 132;

const CONVERT: &str = "convert it to uncompressed DICOM or to PNG, or take it out of the data set";

/// Whether a file begins as DICOM files do.
pub(crate) fn is_dicom(start: &[u8]) -> bool {
    start.get(128..START) == Some(b"DICM")
}

/// Reads a DICOM file of `length` bytes.
///
/// # Errors
/// The file is cut short, damaged, no film, or in an encoding that is not read.
pub(crate) fn read(path: &Path, length: u64) -> Result<Film> {
    if length > MAX_IMAGE_BYTES {
        let what = "its size in bytes".into();
        return Err(DataError::TooLarge { path: path.into(), what, found: length, limit: MAX_IMAGE_BYTES });
    }
    let bytes = std::fs::read(path).map_err(DataError::io(path, "read the film"))?;
    // The decoders are not ours: a panic of theirs on a damaged file is the file's fault, not the program's end.
    std::panic::catch_unwind(|| decode(path, &bytes)).unwrap_or_else(|_| {
        Err(image_error(path, "expected a DICOM film, but it is damaged (the decoder gave up)", ADVICE))
    })
}

fn decode(path: &Path, bytes: &[u8]) -> Result<Film> {
    let refuse = |problem: String, advice: &str| image_error(path, problem, advice);
    let damaged = |what: &str, error: &dyn std::fmt::Display| {
        refuse(format!("expected a DICOM film, but {what} failed ({error})"), ADVICE)
    };
    let syntax = transfer_syntax(bytes)
        .ok_or_else(|| refuse("expected a DICOM film, but it names no transfer syntax".into(), ADVICE))?;
    if syntax == "1.2.840.10008.1.2.2" || syntax == "1.2.840.10008.1.2.1.99" {
        let problem = format!("its transfer syntax {syntax} (big-endian or deflated) is not read");
        return Err(refuse(problem, CONVERT));
    }
    lengths::check(bytes, syntax == "1.2.840.10008.1.2")
        .map_err(|problem| refuse(format!("expected a DICOM film, but {problem}"), ADVICE))?;
    let mut object = OpenFileOptions::new()
        .from_reader(Cursor::new(bytes))
        .map_err(|e| damaged("reading it", &chain(&e)))?;
    let header = Header::read(path, &object)?;
    if jpeg2000::reads(syntax) {
        jpeg2000::unpack(&mut object, &header)
            .map_err(|problem| refuse(format!("{problem} (transfer syntax {syntax})"), CONVERT))?;
    } else {
        check_stream(path, &object, &header, syntax)?;
    }
    let decoded = object.decode_pixel_data().map_err(|e| {
        refuse(format!("its pixels (transfer syntax {syntax}) cannot be decoded ({})", chain(&e)), CONVERT)
    })?;
    let values = stored_values(path, &decoded, &header)?;
    Ok(Film {
        height: header.rows,
        width: header.columns,
        pixels: displayed(path, &object, &decoded, values)?,
    })
}

/// The transfer syntax that the file information names: explicit little-endian elements of group 2 (PS3.10, 7.1).
fn transfer_syntax(bytes: &[u8]) -> Option<&str> {
    let mut place = START;
    loop {
        let element = bytes.get(place..place + 8)?;
        let (group, kind) = (u16::from_le_bytes([element[0], element[1]]), &element[4..6]);
        if group != 0x0002 {
            return None;
        }
        let (header, length) = if matches!(kind, b"OB" | b"UN" | b"UT" | b"OW") {
            (12, u32::from_le_bytes(bytes.get(place + 8..place + 12)?.try_into().ok()?) as usize)
        } else {
            (8, usize::from(u16::from_le_bytes([element[6], element[7]])))
        };
        let value = bytes.get(place + header..)?.get(..length)?;
        if element[..4] == [0x02, 0, 0x10, 0] {
            return std::str::from_utf8(value).ok().map(|text| text.trim_end_matches(['\0', ' ']));
        }
        place += header + length;
    }
}

/// An error with its sources, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}

/// The attributes that decide how much memory pixels take.
struct Header {
    rows: usize,
    columns: usize,
    samples: usize,
    /// Bytes of one sample.
    bytes: usize,
}

impl Header {
    fn read(path: &Path, object: &DefaultDicomObject) -> Result<Self> {
        let number = |tag, name: &str| -> Result<Option<u32>> {
            let Some(element) = object.get(tag) else { return Ok(None) };
            element.to_int::<u32>().map(Some).map_err(|e| {
                image_error(path, format!("its DICOM attribute {name} is no number ({e})"), ADVICE)
            })
        };
        let required = |tag, name: &str| {
            number(tag, name)?.ok_or_else(|| {
                let problem = format!("expected a DICOM film, but it has no attribute {name}");
                image_error(path, problem, "take it out of the data set")
            })
        };
        let rows = required(tags::ROWS, "Rows")?;
        let columns = required(tags::COLUMNS, "Columns")?;
        let samples = number(tags::SAMPLES_PER_PIXEL, "SamplesPerPixel")?.unwrap_or(1);
        let allocated = required(tags::BITS_ALLOCATED, "BitsAllocated")?;
        let stored = number(tags::BITS_STORED, "BitsStored")?.unwrap_or(allocated);
        let frames = number(tags::NUMBER_OF_FRAMES, "NumberOfFrames")?.unwrap_or(1);
        let longest = rows.max(columns);
        if longest > MAX_IMAGE_SIDE {
            return Err(DataError::TooLarge {
                path: path.into(),
                what: "its longer side in pixels".into(),
                found: u64::from(longest),
                limit: u64::from(MAX_IMAGE_SIDE),
            });
        }
        let refuse = |problem: String| Err(image_error(path, problem, CONVERT));
        if rows == 0 || columns == 0 {
            return refuse("the image has no pixels".into());
        }
        if frames != 1 {
            return refuse(format!("expected one frame, found {frames}"));
        }
        if !matches!(samples, 1 | 3) {
            return refuse(format!("expected 1 or 3 samples a pixel, found {samples}"));
        }
        if !matches!((samples, allocated), (1, 8 | 16) | (3, 8)) {
            return refuse(format!("expected 8 or 16 bits (8 in colour), found {allocated}"));
        }
        if stored == 0 || stored > allocated {
            return refuse(format!("expected 1 to {allocated} bits stored, found {stored}"));
        }
        if object.get(tags::MODALITY_LUT_SEQUENCE).is_some() {
            return refuse("expected values on a linear scale, found a modality table".into());
        }
        let header = Header {
            rows: rows as usize,
            columns: columns as usize,
            samples: samples as usize,
            bytes: allocated as usize / 8,
        };
        let total = header.len() as u64;
        if total > MAX_IMAGE_BYTES {
            let what = "its size in bytes once decoded".into();
            return Err(DataError::TooLarge {
                path: path.into(),
                what,
                found: total,
                limit: MAX_IMAGE_BYTES,
            });
        }
        Ok(header)
    }

    /// Bytes of the decoded image.
    fn len(&self) -> usize {
        self.rows * self.columns * self.samples * self.bytes
    }
}

/// Compares the size that a JPEG stream claims with the header, before its decoder allocates.
fn check_stream(path: &Path, object: &DefaultDicomObject, header: &Header, syntax: &str) -> Result<()> {
    let Some(fragments) = object.get(tags::PIXEL_DATA).and_then(|pixels| pixels.fragments()) else {
        return Ok(());
    };
    // 1.2.840.10008.1.2.4.*: the JPEG family; RLE allocates by the header alone.
    if !syntax.starts_with("1.2.840.10008.1.2.4.") {
        return Ok(());
    }
    let start: Vec<u8> =
        fragments.iter().flat_map(|fragment| fragment.iter().copied()).take(1 << 20).collect();
    match frame_size(&start) {
        Some((rows, columns)) if (rows, columns) == (header.rows, header.columns) => Ok(()),
        Some((rows, columns)) => Err(image_error(
            path,
            format!(
                "its header says {} x {} pixels, but its JPEG stream {rows} x {columns}",
                header.rows, header.columns
            ),
            ADVICE,
        )),
        None => Err(image_error(
            path,
            format!("its pixels (transfer syntax {syntax}) are no JPEG stream that can be read"),
            CONVERT,
        )),
    }
}

/// Rows and columns in the start-of-frame segment of a JPEG stream (ITU-T T.81, B.2.2).
fn frame_size(stream: &[u8]) -> Option<(usize, usize)> {
    let mut place = 2;
    if stream.get(..2)? != [0xff, 0xd8] {
        return None;
    }
    loop {
        let [0xff, marker] = *stream.get(place..place + 2)? else { return None };
        let length = usize::from(u16::from_be_bytes(stream.get(place + 2..place + 4)?.try_into().ok()?));
        match marker {
            // Fill bytes before a marker.
            0xff => place += 1,
            0xc4 | 0xc8 | 0xcc => place += 2 + length,
            0xc0..=0xcf => {
                let number = |at: usize| -> Option<usize> {
                    Some(usize::from(u16::from_be_bytes(stream.get(at..at + 2)?.try_into().ok()?)))
                };
                return Some((number(place + 5)?, number(place + 7)?));
            }
            0xda | 0xd9 => return None,
            _ => place += 2 + length,
        }
    }
}

/// The stored values, one per pixel, colour as luma.
fn stored_values(path: &Path, decoded: &DecodedPixelData<'_>, header: &Header) -> Result<Vec<f32>> {
    let data = decoded.data();
    // A padding byte may follow an odd number of them.
    let missing = header.len().saturating_sub(data.len());
    if missing > 0 || data.len() > header.len() + 1 {
        let problem = format!("expected {} bytes of pixels, found {}", header.len(), data.len());
        return Err(image_error(path, problem, ADVICE));
    }
    let data = &data[..header.len()];
    if header.samples == 3 {
        if *decoded.photometric_interpretation() != PhotometricInterpretation::Rgb {
            let problem =
                format!("expected grey or RGB, found {}", decoded.photometric_interpretation().as_str());
            return Err(image_error(path, problem, CONVERT));
        }
        let luma = |r: u8, g: u8, b: u8| 255.0 * crate::arrays::luma(r, g, b);
        return Ok(match decoded.planar_configuration() {
            PlanarConfiguration::Standard => {
                data.as_chunks::<3>().0.iter().map(|&[r, g, b]| luma(r, g, b)).collect()
            }
            PlanarConfiguration::PixelFirst => {
                let (red, rest) = data.split_at(data.len() / 3);
                let (green, blue) = rest.split_at(data.len() / 3);
                red.iter().zip(green).zip(blue).map(|((&r, &g), &b)| luma(r, g, b)).collect()
            }
        });
    }
    let stored = u32::from(decoded.bits_stored()).clamp(1, 16);
    let signed = decoded.pixel_representation() == PixelRepresentation::Signed;
    // Bits above those stored are overlays or nothing; the sign is the highest stored bit.
    let value = |raw: u16| -> f32 {
        let shift = 16 - stored;
        if signed {
            f32::from((raw << shift).cast_signed() >> shift)
        } else {
            f32::from((raw << shift) >> shift)
        }
    };
    Ok(match header.bytes {
        1 => data.iter().map(|&byte| value(u16::from(byte))).collect(),
        _ => data.as_chunks::<2>().0.iter().map(|&pair| value(u16::from_le_bytes(pair))).collect(),
    })
}

/// Stored values to brightness in `[0, 1]`.
fn displayed(
    path: &Path,
    object: &DefaultDicomObject,
    decoded: &DecodedPixelData<'_>,
    values: Vec<f32>,
) -> Result<Vec<f32>> {
    let number =
        |tag| object.get(tag).and_then(|element| element.to_float32().ok()).filter(|v| v.is_finite());
    let slope = number(tags::RESCALE_SLOPE).filter(|slope| *slope != 0.0).unwrap_or(1.0);
    let intercept = number(tags::RESCALE_INTERCEPT).unwrap_or(0.0);
    let padding = number(tags::PIXEL_PADDING_VALUE);
    let is_padding = |value: f32| padding == Some(value);
    let invert = match decoded.photometric_interpretation() {
        PhotometricInterpretation::Monochrome1 => true,
        PhotometricInterpretation::Monochrome2 | PhotometricInterpretation::Rgb => false,
        other => {
            let problem = format!("expected MONOCHROME1, MONOCHROME2 or RGB, found {}", other.as_str());
            return Err(image_error(path, problem, CONVERT));
        }
    };
    let window = match (number(tags::WINDOW_CENTER), number(tags::WINDOW_WIDTH)) {
        (Some(centre), Some(width)) if width > 0.0 => Some((centre, width)),
        _ => None,
    };
    let function = object
        .get(tags::VOILUT_FUNCTION)
        .and_then(|element| element.to_str().ok())
        .map(|text| text.trim().to_ascii_uppercase())
        .unwrap_or_default();
    let brightness: Box<dyn Fn(f32) -> f32> = if let Some((centre, width)) = window {
        match function.as_str() {
            "SIGMOID" => Box::new(move |v| 1.0 / (1.0 + (-4.0 * (v - centre) / width).exp())),
            "LINEAR_EXACT" => Box::new(move |v| (v - centre) / width + 0.5),
            // Width 1 is a threshold.
            _ => Box::new(move |v| (v - (centre - 0.5)) / (width - 1.0).max(f32::MIN_POSITIVE) + 0.5),
        }
    } else if let Some(table) = decoded
        .voi_lut_sequence()
        .map_err(|e| image_error(path, format!("its VOI table cannot be read ({})", chain(&e)), ADVICE))?
        .and_then(|tables| tables.first())
        .filter(|table| !table.data.is_empty())
    {
        let white = ((1u32 << u32::from(table.bits_stored).clamp(1, 16)) - 1) as f32;
        let (first, entries) = (table.min_pixel_value as f32, table.data.clone());
        Box::new(move |v| {
            let place = ((v - first).max(0.0) as usize).min(entries.len() - 1);
            f32::from(entries[place]) / white
        })
    } else if decoded.samples_per_pixel() == 3 {
        Box::new(|v| v / 255.0)
    } else {
        let present = || values.iter().filter(|v| !is_padding(**v)).map(|v| v * slope + intercept);
        let low = present().fold(f32::INFINITY, f32::min);
        let high = present().fold(f32::NEG_INFINITY, f32::max);
        Box::new(move |v| if high > low { (v - low) / (high - low) } else { 0.0 })
    };
    Ok(values
        .iter()
        .map(|&value| {
            if is_padding(value) {
                return 0.0;
            }
            let shade = brightness(value * slope + intercept).clamp(0.0, 1.0);
            if invert { 1.0 - shade } else { shade }
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_in_a_jpeg_stream() {
        let mut stream = vec![0xff, 0xd8, 0xff, 0xe0, 0, 4, 1, 2, 0xff, 0xc4, 0, 3, 9];
        stream.extend([0xff, 0xc3, 0, 11, 12, 0x0b, 0xb8, 0x09, 0xc4, 1, 1, 0x11, 0]);
        assert_eq!(frame_size(&stream), Some((3000, 2500)));
        for length in 0..stream.len() - 4 {
            assert_eq!(frame_size(&stream[..length]), None, "cut at {length}");
        }
        assert_eq!(frame_size(&[0xff, 0xd8, 0xff, 0xe0, 0, 0, 0xff, 0xda, 0, 0]), None);
    }
}
