//! Whether a JPEG stream is whole. Decoders fill in what is missing with grey, so that half a film would be read as one.
//!
//! Segments are walked by their lengths, so that the end of a thumbnail inside one is not taken for the film's (ITU-T T.81,
//! annex B.1.1).

const START: u8 = 0xd8;
const END: u8 = 0xd9;
const SCAN: u8 = 0xda;

/// Whether the stream's own end-of-image marker is there.
pub(crate) fn is_whole(stream: &[u8]) -> bool {
    if stream.get(..2) != Some(&[0xff, START]) {
        return false;
    }
    let mut at = 2;
    loop {
        // Any number of fill bytes may precede a marker.
        let Some(&[0xff, marker]) = stream.get(at..at + 2) else { return false };
        match marker {
            0xff => at += 1,
            END => return true,
            // Markers without a segment.
            0x01 | 0xd0..=0xd7 => at += 2,
            _ => {
                let Some(&[high, low]) = stream.get(at + 2..at + 4) else { return false };
                at += 2 + usize::from(u16::from_be_bytes([high, low])).max(2);
                if marker == SCAN {
                    match scan_end(stream, at) {
                        Some(end) => at = end,
                        None => return false,
                    }
                }
            }
        }
    }
}

/// Where the entropy-coded data from `at` on ends: at a marker that is no stuffed byte and no restart.
fn scan_end(stream: &[u8], at: usize) -> Option<usize> {
    let is_marker = |pair: &[u8]| pair[0] == 0xff && !matches!(pair[1], 0x00 | 0xd0..=0xd7 | 0xff);
    stream.get(at..)?.windows(2).position(is_marker).map(|end| at + end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_streams_own_end_counts() {
        let thumbnail = [0xff, 0xe1, 0, 6, 0xff, 0xd8, 0xff, 0xd9];
        let scan = [0xff, 0xda, 0, 3, 7, 1, 0xff, 0x00, 2, 0xff, 0xd3, 3];
        let whole = [&[0xff, 0xd8][..], &thumbnail, &[0xff], &scan, &scan, &[0xff, 0xd9]].concat();
        assert!(is_whole(&whole));
        assert!(is_whole(&[&whole[..], b"more"].concat()));
        assert!((0..whole.len()).all(|cut| !is_whole(&whole[..cut])));
    }
}
