//! JPEG 2000 pixels (transfer syntaxes 1.2.840.10008.1.2.4.90 and .91), decoded in safe Rust.
//!
//! What a stream claims (ISO/IEC 15444-1, annex A) is compared with the header and with limits before the decoder sees it: size,
//! components, depth, and how many tiles, precincts and code blocks it would have to keep book of.

use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::tags;
use dicom_object::DefaultDicomObject;
use hayro_jpeg2000::{DecodeSettings, DecoderContext, Image};

use super::Header;

/// Reversible only, and either.
const SYNTAXES: [&str; 2] = ["1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"];
const EXPLICIT_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2.1";
/// A film of 20,000 x 20,000 pixels has 6,241 tiles of 256 x 256.
const MOST_TILES: u64 = 8192;
/// The same film has 97,657 code blocks of 64 x 64, which encoders choose.
const MOST_BLOCKS: u64 = 1 << 20;

/// Whether this module reads the transfer syntax.
pub(super) fn reads(syntax: &str) -> bool {
    SYNTAXES.contains(&syntax)
}

/// Puts plain pixels in the place of the object's JPEG 2000 stream.
///
/// # Errors
/// Says what is wrong with the stream, or what of it is not read.
pub(super) fn unpack(object: &mut DefaultDicomObject, header: &Header) -> Result<(), String> {
    let fragments = object.get(tags::PIXEL_DATA).and_then(|pixels| pixels.fragments());
    let stream: Vec<u8> = fragments.ok_or("it has no pixels")?.concat();
    let depth = check(&stream, header)?;
    let damaged = |error: hayro_jpeg2000::DecodeError| format!("its JPEG 2000 stream is damaged ({error})");
    let settings = DecodeSettings { strict: true, ..DecodeSettings::default() };
    let image = Image::new(&stream, &settings).map_err(damaged)?;
    let mut context = DecoderContext::default();
    let decoded = image.decode(&mut context).map_err(damaged)?;
    let samples = decoded.components().first().map(|component| component.samples()).unwrap_or_default();
    let count = header.rows * header.columns;
    if samples.len() != count {
        return Err(format!("its JPEG 2000 stream holds {} pixels, expected {count}", samples.len()));
    }
    let white = ((1u32 << depth) - 1) as f32;
    let values = samples.iter().map(|value| value.round().clamp(0.0, white) as u16);
    let (vr, value) = match header.bytes {
        1 => (VR::OB, PrimitiveValue::U8(values.map(|value| value as u8).collect())),
        _ => (VR::OW, PrimitiveValue::U16(values.collect())),
    };
    object.put(DataElement::new(tags::PIXEL_DATA, vr, value));
    object.meta_mut().transfer_syntax = EXPLICIT_LITTLE_ENDIAN.to_owned();
    Ok(())
}

/// Compares what a stream claims with the header and with limits; gives its bits a sample.
fn check(stream: &[u8], header: &Header) -> Result<u32, String> {
    let (depth, area) = check_size(stream, header)?;
    check_codings(stream, area)?;
    Ok(depth)
}

fn cut() -> String {
    "its JPEG 2000 stream is cut short or damaged".to_owned()
}

fn word(stream: &[u8], at: usize) -> Result<u64, String> {
    let bytes = stream.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).ok_or_else(cut)?;
    Ok(u64::from(u32::from_be_bytes(bytes)))
}

fn half(stream: &[u8], at: usize) -> Result<usize, String> {
    let bytes = stream.get(at..at + 2).and_then(|bytes| bytes.try_into().ok()).ok_or_else(cut)?;
    Ok(usize::from(u16::from_be_bytes(bytes)))
}

/// The marker segment SIZ, which comes first: bits a sample, and pixels.
fn check_size(stream: &[u8], header: &Header) -> Result<(u32, u64), String> {
    let word = |at: usize| word(stream, at);
    if stream.get(..4) != Some(&[0xff, 0x4f, 0xff, 0x51]) {
        return Err("its pixels are no JPEG 2000 codestream".into());
    }
    let (columns, rows) = (word(8)?, word(12)?);
    if (rows, columns) != (header.rows as u64, header.columns as u64) {
        return Err(format!(
            "its header says {} x {} pixels, but its JPEG 2000 stream {rows} x {columns}",
            header.rows, header.columns
        ));
    }
    if [16, 20, 32, 36].iter().any(|&at| word(at).ok() != Some(0)) {
        return Err("its JPEG 2000 image does not begin in a corner, which is not read".into());
    }
    let (tile_width, tile_height) = (word(24)?, word(28)?);
    if tile_width == 0 || tile_height == 0 {
        return Err(cut());
    }
    let tiles = columns.div_ceil(tile_width) * rows.div_ceil(tile_height);
    if tiles > MOST_TILES {
        return Err(format!("its JPEG 2000 stream has {tiles} tiles, above the limit of {MOST_TILES}"));
    }
    let &[components_high, components_low, depth, across, down, ..] = stream.get(40..).ok_or_else(cut)?
    else {
        return Err(cut());
    };
    let components = u16::from_be_bytes([components_high, components_low]);
    if header.samples != 1 || components != 1 || (across, down) != (1, 1) {
        return Err(format!("expected one JPEG 2000 component (a grey film), found {components}"));
    }
    if depth & 0x80 != 0 {
        return Err("its JPEG 2000 samples are signed, which is not read".into());
    }
    let depth = u32::from(depth) + 1;
    if depth > 8 * header.bytes as u32 {
        return Err(format!(
            "its JPEG 2000 samples have {depth} bits, but its header allocates {}",
            8 * header.bytes
        ));
    }
    Ok((depth, rows * columns))
}

/// The coding styles (COD and COC) in the main header and in those of tile-parts.
fn check_codings(stream: &[u8], area: u64) -> Result<(), String> {
    let mut place = 2;
    // End of the tile-part whose header is being read.
    let mut end = None;
    loop {
        let marker = half(stream, place)?;
        match marker {
            // Start of a tile-part: its length counts from the marker.
            0xff90 => {
                let length = word(stream, place + 6)? as usize;
                end = Some(if length == 0 { stream.len() } else { place.saturating_add(length) });
                place += 2 + half(stream, place + 2)?;
            }
            // Start of its data.
            0xff93 => match end.take() {
                Some(end) if end > place && end < stream.len() => place = end,
                _ => return Ok(()),
            },
            // End of the stream.
            0xffd9 => return Ok(()),
            0xff52 | 0xff53 => {
                let length = half(stream, place + 2)?;
                let style = stream.get(place + 4..(place + 2).saturating_add(length)).ok_or_else(cut)?;
                blocks(style, marker == 0xff52, area).ok_or_else(cut)??;
                place += 2 + length;
            }
            0xff01..=0xffff => place += 2 + half(stream, place + 2)?.max(2),
            _ => return Err(cut()),
        }
    }
}

/// Bounds the code blocks and precincts of a coding style, COD or COC behind its length; `None` where it is cut short.
fn blocks(style: &[u8], is_default: bool, area: u64) -> Option<Result<(), String>> {
    // COD: style, progression, layers, transform of components. COC: component, style.
    let (has_precincts, rest) = if is_default {
        (style.first()? & 1 != 0, style.get(5..)?)
    } else {
        (style.get(1)? & 1 != 0, style.get(2..)?)
    };
    let &[_levels, width, height, _style, _transform, ref precincts @ ..] = rest else { return None };
    let block = u32::from(width & 15) + u32::from(height & 15) + 4;
    let smallest = precincts.iter().map(|sizes| u32::from(sizes & 15) + u32::from(sizes >> 4)).min();
    let smallest = smallest.filter(|_| has_precincts).unwrap_or(30);
    let most = (area >> block.min(63)).max(area >> smallest);
    Some(if most > MOST_BLOCKS {
        Err(format!("its JPEG 2000 stream is cut into {most} blocks, above the limit of {MOST_BLOCKS}"))
    } else {
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a hostile stream could make a decoder keep book of is bounded, and what encoders write is not refused.
    #[test]
    fn blocks_and_precincts_are_bounded() {
        let film = 20_000 * 20_000;
        let cod = |has_precincts: u8, block: u8, precincts: &[u8]| {
            let style = [&[has_precincts, 0, 0, 1, 0, 5, block, block, 0, 1][..], precincts].concat();
            blocks(&style, true, film)
        };
        assert_eq!(cod(0, 4, &[]), Some(Ok(())), "64 x 64, the common default");
        assert_eq!(cod(1, 4, &[0x77, 0x88, 0x88]), Some(Ok(())), "precincts of 128 and 256");
        assert!(cod(0, 0, &[]).unwrap().unwrap_err().contains("25000000 blocks"));
        assert!(cod(1, 4, &[0x88, 0x11]).unwrap().unwrap_err().contains("100000000 blocks"));
        assert_eq!(blocks(&[0, 0, 0, 1], true, film), None, "cut short");
        assert_eq!(blocks(&[0, 0, 5, 4, 4, 0, 1], false, film), Some(Ok(())), "of one component");
    }
}
