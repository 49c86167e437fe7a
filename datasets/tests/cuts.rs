//! No film is half read: every cut of a file is refused, or gives the identical film.
#![allow(clippy::unwrap_used)]

use std::io::Cursor;

use datasets::load_film;
use image::{DynamicImage, ImageFormat};

const SIDE: usize = 40;

/// Some picture, so that every row is seen if it is grey.
fn picture() -> DynamicImage {
    let pixel = |x: u32, y: u32| image::Luma([(x * 7 + y * 5 + (x * y) % 11) as u8]);
    DynamicImage::ImageLuma8(image::ImageBuffer::from_fn(SIDE as u32, SIDE as u32, pixel))
}

fn encoded(format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

#[test]
fn cut_pictures_are_refused_or_whole() {
    let folder = tempfile::tempdir().unwrap();
    for (name, format) in [("film.png", ImageFormat::Png), ("film.jpg", ImageFormat::Jpeg)] {
        let path = folder.path().join(name);
        let bytes = encoded(format);
        std::fs::write(&path, &bytes).unwrap();
        let whole = load_film(&path, SIDE).unwrap();
        let mut read = 0;
        for cut in 0..bytes.len() {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            if let Ok(film) = load_film(&path, SIDE) {
                assert_eq!(film, whole, "{name} cut to {cut} of {} bytes", bytes.len());
                read += 1;
            }
        }
        // Only what follows the last pixel may be missing.
        assert!(read < 20, "{name}: {read} cuts were read");
        // What stands behind the end changes nothing.
        std::fs::write(&path, [&bytes[..], b"trailing bytes"].concat()).unwrap();
        assert_eq!(load_film(&path, SIDE).unwrap(), whole, "{name}");
    }
}

/// A JPEG file that says in its EXIF data to be turned by 90 degrees to the right (orientation 6) is.
#[test]
fn pictures_stand_upright() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("film.jpg");
    let bytes = encoded(ImageFormat::Jpeg);
    let plain = {
        std::fs::write(&path, &bytes).unwrap();
        load_film(&path, SIDE).unwrap()
    };
    // TIFF header, one entry: tag 0x0112, SHORT, one value, 6.
    let tiff = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let length = (tiff.len() as u16 + 2).to_be_bytes();
    let turned = [&bytes[..2], &[0xff, 0xe1], &length, tiff, &bytes[2..]].concat();
    std::fs::write(&path, turned).unwrap();
    let film = load_film(&path, SIDE).unwrap();
    for y in 0..SIDE {
        for x in 0..SIDE {
            assert_eq!(film.pixels[y * SIDE + x], plain.pixels[(SIDE - 1 - x) * SIDE + y], "{x} {y}");
        }
    }
}
