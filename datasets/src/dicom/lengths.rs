//! A walk over the elements of a DICOM file that believes no length.
//!
//! The parser that reads the file makes room for what an element claims before it looks for the bytes, so 12 bytes
//! could ask for 4 GiB. This walk follows the same structure (PS3.5, 7.1 and 7.5) and refuses a file in which an
//! element is longer than the rest of the file, or which has more elements than any film.

/// The most elements of a film, in all sequences together; real ones have a few hundred.
const MAX_ELEMENTS: usize = 100_000;
/// The deepest nesting of sequences; real ones have three or four.
const MAX_DEPTH: usize = 32;
const UNDEFINED: u32 = u32::MAX;
const PIXEL_DATA: (u16, u16) = (0x7fe0, 0x0010);

/// How what follows is written.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Explicit,
    Implicit,
    /// Items of raw bytes: compressed pixels.
    Fragments,
}

struct Walk<'a> {
    bytes: &'a [u8],
    place: usize,
}

impl Walk<'_> {
    fn u16(&mut self) -> Option<u16> {
        let value = self.bytes.get(self.place..self.place + 2)?;
        self.place += 2;
        Some(u16::from_le_bytes(value.try_into().ok()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from(self.u16()?) | u32::from(self.u16()?) << 16)
    }

    /// Whether the bytes here begin an item.
    fn at_item(&self) -> bool {
        self.bytes[self.place..].starts_with(&[0xfe, 0xff, 0x00, 0xe0])
    }

    /// The length of an element behind its tag, and whether it is a sequence or of unknown kind.
    fn length(&mut self, mode: Mode) -> Option<(u32, [u8; 2])> {
        if mode != Mode::Explicit {
            return Some((self.u32()?, *b"  "));
        }
        let kind = self.u16()?.to_le_bytes();
        // Every other kind, those of the future too, has a length of 32 bits (PS3.5, 7.1.2).
        let short = b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US ";
        if !short.as_chunks::<3>().0.iter().any(|known| known[..2] == kind) {
            self.u16()?;
            Some((self.u32()?, kind))
        } else {
            Some((u32::from(self.u16()?), kind))
        }
    }
}

/// Checks every length in a file that begins with the preamble; `implicit` is the data set's transfer syntax.
///
/// # Errors
/// What is wrong, and where.
pub(super) fn check(bytes: &[u8], implicit: bool) -> Result<(), String> {
    let mut walk = Walk { bytes, place: super::START };
    let body = if implicit { Mode::Implicit } else { Mode::Explicit };
    let mut modes: Vec<Mode> = Vec::new();
    let mut mode = Mode::Explicit;
    let mut elements = 0;
    // Where the file information says that it ends: the parser believes that too.
    let mut information_end = None;
    let mut in_information = true;
    while walk.place < bytes.len() {
        let start = walk.place;
        let cut = || format!("the element at byte {start} is cut short");
        let tag = (walk.u16().ok_or_else(cut)?, walk.u16().ok_or_else(cut)?);
        // File information is explicit whatever follows it.
        if in_information && tag.0 != 0x0002 {
            in_information = false;
            if information_end != Some(start as u64) {
                return Err(format!("its file information ends at byte {start}, but says otherwise"));
            }
        }
        if modes.is_empty() {
            mode = if tag.0 == 0x0002 { Mode::Explicit } else { body };
        }
        elements += 1;
        if elements > MAX_ELEMENTS {
            return Err(format!("it has more than {MAX_ELEMENTS} elements"));
        }
        let delimiter = tag.0 == 0xfffe;
        let (length, kind) = walk.length(if delimiter { Mode::Implicit } else { mode }).ok_or_else(cut)?;
        let rest = bytes.len() - walk.place;
        if length != UNDEFINED && length as usize > rest {
            return Err(format!("the element at byte {start} claims {length} bytes, {rest} are left"));
        }
        if tag == (0x0002, 0x0000) && length == 4 {
            let value = bytes[walk.place..][..4].try_into().map_err(|_| cut())?;
            information_end = Some(walk.place as u64 + 4 + u64::from(u32::from_le_bytes(value)));
        }
        match (tag, length) {
            ((0xfffe, 0xe0dd), _) => mode = modes.pop().unwrap_or(body),
            ((0xfffe, 0xe000), UNDEFINED) if mode != Mode::Fragments => {}
            ((0xfffe, 0xe000), UNDEFINED) => {
                return Err(format!("the fragment at byte {start} has no length"));
            }
            ((0xfffe, 0xe000), _) if mode == Mode::Fragments => walk.place += length as usize,
            ((0xfffe, _), _) => {}
            (_, UNDEFINED) => {
                if modes.len() == MAX_DEPTH {
                    return Err(format!("its sequences are nested more than {MAX_DEPTH} deep"));
                }
                modes.push(mode);
                mode = match &kind {
                    _ if tag == PIXEL_DATA => Mode::Fragments,
                    b"UN" => Mode::Implicit,
                    _ => mode,
                };
            }
            // What a sequence of known length holds is walked as what follows it.
            _ if &kind == b"SQ" || (mode == Mode::Implicit && walk.at_item()) => {}
            _ => walk.place += length as usize,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(elements: &[u8]) -> Vec<u8> {
        let information = [2, 0, 0, 0, b'U', b'L', 4, 0, 0, 0, 0, 0];
        [&[0; 128], b"DICM".as_slice(), &information, elements].concat()
    }

    #[test]
    fn file_information_of_another_length_is_refused() {
        let mut altered = file(&[0x28, 0, 0x10, 0, b'U', b'S', 2, 0, 8, 0]);
        assert_eq!(check(&altered, false), Ok(()));
        altered[140] = 1;
        assert!(check(&altered, false).unwrap_err().contains("ends at byte 144"));
    }

    #[test]
    fn lengths_beyond_the_file_are_refused_at_every_depth() {
        let plain = [0x28, 0, 0x10, 0, b'U', b'S', 2, 0, 8, 0];
        assert_eq!(check(&file(&plain), false), Ok(()));
        let long = [0x28, 0, 0x10, 0, b'O', b'B', 0, 0, 0xf0, 0xff, 0xff, 0xff, 8, 0];
        assert!(check(&file(&long), false).unwrap_err().contains("claims 4294967280 bytes, 2 are left"));
        let implicit = [0x28, 0, 0x10, 0, 9, 0, 0, 0, 8, 0];
        assert!(check(&file(&implicit), true).is_err());
        // In an item of a sequence, of undefined and of known length.
        let item = [0xfe, 0xff, 0, 0xe0, 0xff, 0xff, 0xff, 0xff];
        let sequence = [0x28, 0, 0x10, 0x30, b'S', b'Q', 0, 0];
        for length in [[0xff; 4], [22, 0, 0, 0]] {
            let nested = [sequence.as_slice(), &length, &item, &long].concat();
            assert!(check(&file(&nested), false).unwrap_err().contains("claims 4294967280"), "{length:?}");
        }
        let nested = [[0x28, 0, 0x10, 0x30, 18, 0, 0, 0].as_slice(), &item, &implicit].concat();
        assert!(check(&file(&nested), true).unwrap_err().contains("claims 9 bytes"));
        // A fragment of pixels.
        let pixels = [0xe0, 0x7f, 0x10, 0, b'O', b'B', 0, 0, 0xff, 0xff, 0xff, 0xff];
        let fragment = [0xfe, 0xff, 0, 0xe0, 4, 0, 0, 0, 1, 2, 3, 4];
        let end = [0xfe, 0xff, 0xdd, 0xe0, 0, 0, 0, 0];
        assert_eq!(check(&file(&[pixels.as_slice(), &fragment, &end, &plain].concat()), false), Ok(()));
        assert!(check(&file(&[pixels.as_slice(), &fragment[..11]].concat()), false).is_err());
        assert!(check(&file(&sequence.repeat(100)), false).is_err());
    }

    #[test]
    fn countless_elements_are_refused() {
        let many = [0x28, 0, 0x10, 0, b'U', b'S', 0, 0].repeat(MAX_ELEMENTS + 1);
        assert!(check(&file(&many), false).unwrap_err().contains("elements"));
    }
}
