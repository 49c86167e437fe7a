//! DICOM films: windows, inversion, signs and depths against values worked out by hand; damaged files.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::path::Path;

use common::{fails_naming, open, write};
use datasets::{FolderConfig, Source, load_film};
use dicom_core::{DataElement, PrimitiveValue, VR, header::Tag};
use dicom_dictionary_std::tags;
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};

const SIDE: u16 = 8;
const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const JPEG: &str = "1.2.840.10008.1.2.4.50";

/// A film of 8 x 8 pixels of 16 bits; `change` alters its attributes.
fn object(values: &[u16], change: impl FnOnce(&mut InMemDicomObject)) -> InMemDicomObject {
    let mut object = InMemDicomObject::new_empty();
    let mut put = |tag: Tag, vr: VR, value: PrimitiveValue| {
        object.put(DataElement::new(tag, vr, value));
    };
    put(tags::SOP_CLASS_UID, VR::UI, "1.2.840.10008.5.1.4.1.1.1.1".into());
    put(tags::SOP_INSTANCE_UID, VR::UI, "1.2.3.4".into());
    put(tags::ROWS, VR::US, SIDE.into());
    put(tags::COLUMNS, VR::US, SIDE.into());
    put(tags::SAMPLES_PER_PIXEL, VR::US, 1u16.into());
    put(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2".into());
    put(tags::BITS_ALLOCATED, VR::US, 16u16.into());
    put(tags::BITS_STORED, VR::US, 12u16.into());
    put(tags::HIGH_BIT, VR::US, 11u16.into());
    put(tags::PIXEL_REPRESENTATION, VR::US, 0u16.into());
    put(tags::PIXEL_DATA, VR::OW, PrimitiveValue::U16(values.into()));
    change(&mut object);
    object
}

fn save(path: &Path, object: InMemDicomObject, syntax: &str) {
    let meta = FileMetaTableBuilder::new().transfer_syntax(syntax);
    object.with_meta(meta).unwrap().write_to_file(path).unwrap();
}

fn pixels(values: &[u16], change: impl FnOnce(&mut InMemDicomObject)) -> datasets::Result<Vec<f32>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("film.dcm");
    save(&path, object(values, change), EXPLICIT);
    load_film(&path, usize::from(SIDE)).map(|film| film.pixels)
}

fn set(tag: Tag, vr: VR, value: impl Into<PrimitiveValue>) -> impl FnOnce(&mut InMemDicomObject) {
    let value = value.into();
    move |object| {
        object.put(DataElement::new(tag, vr, value));
    }
}

/// Values 0, 60, 120, ... 3780: 12 bits.
fn ramp() -> Vec<u16> {
    (0..64).map(|i| i * 60).collect()
}

#[test]
fn windows_follow_the_standard() {
    let ramp = ramp();
    let window = |function: &'static str| {
        move |object: &mut InMemDicomObject| {
            set(tags::WINDOW_CENTER, VR::DS, "1800")(object);
            set(tags::WINDOW_WIDTH, VR::DS, "1200")(object);
            set(tags::VOILUT_FUNCTION, VR::CS, function)(object);
        }
    };
    type Formula = fn(f32) -> f32;
    // PS3.3, C.11.2.1.2.1, C.11.2.1.3.2 and C.11.2.1.3.1.
    let formulas: [(&str, Formula); 3] = [
        ("LINEAR", |x| (x - 1799.5) / 1199.0 + 0.5),
        ("LINEAR_EXACT", |x| (x - 1800.0) / 1200.0 + 0.5),
        ("SIGMOID", |x| 1.0 / (1.0 + (-4.0 * (x - 1800.0) / 1200.0).exp())),
    ];
    for (function, formula) in formulas {
        let found = pixels(&ramp, window(function)).unwrap();
        for (value, &stored) in found.iter().zip(&ramp) {
            let wanted = formula(f32::from(stored)).clamp(0.0, 1.0);
            assert!((value - wanted).abs() < 1e-6, "{function} of {stored}: {value}, expected {wanted}");
        }
    }
    // Sixteen grey levels apart in 12 bits stay apart: nothing is rounded to 8 bits.
    let found = pixels(&(0..64).collect::<Vec<u16>>(), |object| {
        window("LINEAR_EXACT")(object);
        set(tags::WINDOW_CENTER, VR::DS, "2048")(object);
        set(tags::WINDOW_WIDTH, VR::DS, "4096")(object);
    });
    assert!(found.unwrap().windows(2).all(|pair| pair[1] > pair[0]));
}

#[test]
fn inversion_signs_rescaling_and_padding() {
    let ramp = ramp();
    // Without a window, the range present.
    let plain = pixels(&ramp, |_| {}).unwrap();
    assert_eq!((plain[0], plain[63]), (0.0, 1.0));
    let inverted = pixels(&ramp, set(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME1")).unwrap();
    assert!(plain.iter().zip(&inverted).all(|(a, b)| (a + b - 1.0).abs() < 1e-6));
    // -1000 + 2 x, seen through a window of [-1000, 3000].
    let rescaled = pixels(&ramp, |object| {
        set(tags::RESCALE_SLOPE, VR::DS, "2")(object);
        set(tags::RESCALE_INTERCEPT, VR::DS, "-1000")(object);
        set(tags::WINDOW_CENTER, VR::DS, "1000\\40")(object);
        set(tags::WINDOW_WIDTH, VR::DS, "4000\\400")(object);
        set(tags::VOILUT_FUNCTION, VR::CS, "LINEAR_EXACT")(object);
    });
    let wanted = |stored: u16| (f32::from(stored) * 2.0 / 4000.0).min(1.0);
    assert!(rescaled.unwrap().iter().zip(&ramp).all(|(v, &s)| (v - wanted(s)).abs() < 1e-6));
    // Twelve-bit two's complement: 0xfff is -1; the bits above do not count.
    let mut signed = vec![0u16; 64];
    (signed[0], signed[1], signed[2]) = (0xf800, 0xffff, 0x07ff);
    let found = pixels(&signed, set(tags::PIXEL_REPRESENTATION, VR::US, 1u16)).unwrap();
    assert_eq!((found[0], found[2]), (0.0, 1.0));
    assert!((found[1] - 2047.0 / 4095.0).abs() < 1e-6);
    // Padding neither stretches the range nor shines when inverted.
    let mut padded = vec![100u16; 64];
    (padded[0], padded[1]) = (4095, 200);
    let found = pixels(&padded, |object| {
        set(tags::PIXEL_PADDING_VALUE, VR::US, 4095u16)(object);
        set(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME1")(object);
    });
    assert_eq!(found.unwrap()[..3], [0.0, 0.0, 1.0]);
}

/// A JPEG stream in DICOM, with a header that says `rows`.
fn jpeg(path: &Path, rows: u16, stream: Vec<u8>) {
    let mut object = object(&[], |object| {
        set(tags::ROWS, VR::US, rows)(object);
        set(tags::BITS_ALLOCATED, VR::US, 8u16)(object);
        set(tags::BITS_STORED, VR::US, 8u16)(object);
        set(tags::HIGH_BIT, VR::US, 7u16)(object);
    });
    let fragments = dicom_core::value::PixelFragmentSequence::new(vec![], vec![stream]);
    object.put(DataElement::new(tags::PIXEL_DATA, VR::OB, fragments));
    save(path, object, JPEG);
}

fn jpeg_stream() -> Vec<u8> {
    let image = image::GrayImage::from_fn(8, 8, |x, _| image::Luma([if x < 4 { 40 } else { 200 }]));
    let mut stream = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut stream, 100).encode_image(&image).unwrap();
    if !stream.len().is_multiple_of(2) {
        stream.push(0);
    }
    stream
}

#[test]
fn compressed_films() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("film.dcm");
    jpeg(&path, 8, jpeg_stream());
    let film = load_film(&path, 8).unwrap();
    assert!(film.pixels[0] < 0.03 && film.pixels[7] > 0.97, "{:?}", &film.pixels[..8]);
    // A stream that claims another size than the header is refused before it is decoded.
    jpeg(&path, 16, jpeg_stream());
    fails_naming(load_film(&path, 8), &["film.dcm", "16 x 8", "JPEG stream 8 x 8"]);
    let mut bomb = jpeg_stream();
    let place = bomb.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    bomb[place + 5..place + 9].copy_from_slice(&[0xff, 0xff, 0xff, 0xff]);
    jpeg(&path, 8, bomb);
    fails_naming(load_film(&path, 8), &["film.dcm", "65535 x 65535"]);
    jpeg(&path, 8, vec![0xff, 0x4f, 0xff, 0x51, 0, 0]);
    fails_naming(load_film(&path, 8), &["film.dcm", JPEG, "convert"]);
}

const JPEG_2000: &str = "1.2.840.10008.1.2.4.91";

/// A JPEG 2000 stream of 32 x 32 pixels in DICOM, made by OpenJPEG (`jpeg2000/make.py`).
fn jpeg_2000(path: &Path, stream: Vec<u8>, bits: u16, syntax: &str) {
    let mut object = object(&[], |object| {
        set(tags::ROWS, VR::US, 32u16)(object);
        set(tags::COLUMNS, VR::US, 32u16)(object);
        set(tags::BITS_ALLOCATED, VR::US, bits)(object);
        set(tags::BITS_STORED, VR::US, bits)(object);
        set(tags::HIGH_BIT, VR::US, bits - 1)(object);
        // The stored value over 65536, or over 256.
        set(tags::WINDOW_CENTER, VR::DS, if bits == 16 { "32768" } else { "128" })(object);
        set(tags::WINDOW_WIDTH, VR::DS, if bits == 16 { "65536" } else { "256" })(object);
        set(tags::VOILUT_FUNCTION, VR::CS, "LINEAR_EXACT")(object);
    });
    // In two fragments, as a sender may.
    let mut first = stream;
    if !first.len().is_multiple_of(2) {
        first.push(0);
    }
    let second = first.split_off(first.len() / 4 * 2);
    let fragments = dicom_core::value::PixelFragmentSequence::new(vec![], vec![first, second]);
    object.put(DataElement::new(tags::PIXEL_DATA, VR::OB, fragments));
    save(path, object, syntax);
}

fn stream(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/jpeg2000");
    std::fs::read(folder.join(name)).unwrap()
}

/// The film of `make.py`.
fn stored(i: usize) -> u32 {
    let (x, y) = (i % 32, i / 32);
    (200 + 71 * x + 37 * y + 11 * (x * y % 7)) as u32
}

#[test]
fn jpeg_2000_films() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("film.dcm");
    let largest = |name: &str, bits: u16, expected: &dyn Fn(usize) -> u32, syntax: &str| {
        jpeg_2000(&path, stream(name), bits, syntax);
        let scale = f32::from(bits).exp2();
        let pixels = load_film(&path, 32).unwrap().pixels;
        pixels.iter().enumerate().map(|(i, v)| (v * scale - expected(i) as f32).abs()).fold(0.0, f32::max)
    };
    assert!(largest("reversible.j2k", 16, &stored, "1.2.840.10008.1.2.4.90") < 0.01);
    for name in ["bytes.j2k", "tiles.j2k"] {
        assert!(largest(name, 8, &|i| stored(i) % 256, JPEG_2000) < 0.01, "{name} is exact");
    }
    // 60 dB of 65535: 65 rms.
    let error = largest("irreversible.j2k", 16, &stored, JPEG_2000);
    assert!(error > 0.0 && error < 400.0, "{error}");

    let refused = |change: &dyn Fn(&mut Vec<u8>), parts: &[&str]| {
        let mut altered = stream("reversible.j2k");
        change(&mut altered);
        jpeg_2000(&path, altered, 16, JPEG_2000);
        fails_naming(load_film(&path, 8), &[&["film.dcm", JPEG_2000], parts].concat());
    };
    refused(&|s| s[8..12].copy_from_slice(&[0, 0, 0, 41]), &["32 x 32 pixels", "32 x 41"]);
    refused(&|s| s[24..32].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 1]), &["damaged"]);
    refused(&|s| s[16..20].copy_from_slice(&[0, 0, 0, 1]), &["corner"]);
    refused(&|s| s[42] |= 0x80, &["signed"]);
    refused(&|s| s[42] = 16, &["17 bits"]);
    refused(&|s| s[41] = 3, &["one JPEG 2000 component", "found 3"]);
    refused(&|s| s[0] = 0, &["no JPEG 2000 codestream"]);
    for length in (4..120).step_by(7) {
        refused(&|s| s.truncate(length), &["film.dcm"]);
    }
    // No altered byte ends the program or makes a pixel that is not in [0, 1].
    jpeg_2000(&path, stream("tiles.j2k"), 8, JPEG_2000);
    let whole = std::fs::read(&path).unwrap();
    let start = whole.windows(4).position(|bytes| bytes == [0xff, 0x4f, 0xff, 0x51]).unwrap();
    let mut good = 0;
    for place in start..whole.len() {
        for mask in [0x01, 0x40, 0xff] {
            let mut altered = whole.clone();
            altered[place] ^= mask;
            write(&path, altered);
            if let Ok(film) = load_film(&path, 8) {
                good += 1;
                assert!(film.pixels.iter().all(|p| (0.0..=1.0).contains(p)), "byte {place}");
            }
        }
    }
    assert!(good > 0, "altered pixels are still pixels");
    // What is not read is named.
    for syntax in ["1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.92", "1.2.840.10008.1.2.4.110"] {
        jpeg_2000(&path, stream("reversible.j2k"), 16, syntax);
        fails_naming(load_film(&path, 8), &["film.dcm", syntax, "convert"]);
    }
}

#[test]
fn films_that_are_damaged_or_no_films() {
    let refused = |change: &dyn Fn(&mut InMemDicomObject), parts: &[&str]| {
        fails_naming(pixels(&ramp(), change), parts);
    };
    refused(&|o| set(tags::ROWS, VR::US, 9u16)(o), &["film.dcm", "144 bytes of pixels", "128"]);
    refused(&|o| set(tags::ROWS, VR::US, 0u16)(o), &["no pixels"]);
    refused(&|o| set(tags::ROWS, VR::US, 20_000u16)(o), &["longer side", "20000"]);
    refused(&|o| set(tags::NUMBER_OF_FRAMES, VR::IS, "3")(o), &["one frame", "3"]);
    refused(&|o| set(tags::BITS_ALLOCATED, VR::US, 32u16)(o), &["8 or 16 bits", "32"]);
    refused(&|o| set(tags::BITS_STORED, VR::US, 17u16)(o), &["bits stored", "17"]);
    refused(
        &|o| set(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "PALETTE COLOR")(o),
        &["MONOCHROME1", "PALETTE"],
    );
    refused(
        &|o| {
            o.remove_element(tags::COLUMNS);
        },
        &["no attribute Columns"],
    );
    refused(
        &|o| {
            o.remove_element(tags::PIXEL_DATA);
        },
        &["film.dcm", "decoded"],
    );

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("film.dcm");
    save(&path, object(&ramp(), |_| {}), EXPLICIT);
    let whole = std::fs::read(&path).unwrap();
    for length in (132..whole.len()).step_by(3) {
        write(&path, &whole[..length]);
        fails_naming(load_film(&path, 8), &["film.dcm"]);
    }
    // No altered byte ends the program or makes a pixel that is not in [0, 1].
    let mut good = 0;
    for place in 132..whole.len() {
        for mask in [0x01, 0x80, 0xff] {
            let mut altered = whole.clone();
            altered[place] ^= mask;
            write(&path, altered);
            if let Ok(film) = load_film(&path, 8) {
                good += 1;
                assert!(film.pixels.iter().all(|p| (0.0..=1.0).contains(p)), "byte {place}");
            }
        }
    }
    assert!(good > 0, "altered pixels are still pixels");
}

#[test]
fn a_folder_of_dicom_films() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    save(&root.join("a.dcm"), object(&ramp(), |_| {}), EXPLICIT);
    save(&root.join("b.dcm"), object(&ramp(), |_| {}), EXPLICIT);
    write(&root.join("labels.csv"), "image,Mass\na.dcm,1\nb,0\n");
    let films = open(Source::Folder(FolderConfig::new(root))).unwrap();
    assert_eq!(films.len(), 2);
    assert_eq!(films.film(1).unwrap().pixels.len(), 256);
}
