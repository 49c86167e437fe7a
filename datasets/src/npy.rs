//! The header of a NumPy array file (format versions 1 to 3), and integers in it.
//!
//! Source: the `numpy.lib.format` documentation. Only what array data sets use: C order, integers and booleans.

use std::io::Read;

/// The most bytes of a header; real ones have 118.
const MAX_HEADER: usize = 1 << 16;

/// A parsed header.
#[derive(Debug, PartialEq)]
pub(crate) struct Header {
    /// The NumPy type, as `|u1` or `<i8`.
    pub dtype: String,
    pub shape: Vec<usize>,
}

impl Header {
    /// Reads the magic, the version and the dictionary. Errors say what was expected and found.
    pub fn read(reader: &mut impl Read) -> Result<Self, String> {
        let cut = |error: std::io::Error| {
            format!("expected a NumPy header, but the data ends or is damaged ({error})")
        };
        let mut start = [0u8; 8];
        reader.read_exact(&mut start).map_err(cut)?;
        if &start[..6] != b"\x93NUMPY" {
            return Err("expected a NumPy array, but it does not begin like one".into());
        }
        let length = match start[6] {
            1 => {
                let mut bytes = [0u8; 2];
                reader.read_exact(&mut bytes).map_err(cut)?;
                usize::from(u16::from_le_bytes(bytes))
            }
            2 | 3 => {
                let mut bytes = [0u8; 4];
                reader.read_exact(&mut bytes).map_err(cut)?;
                u32::from_le_bytes(bytes) as usize
            }
            other => return Err(format!("expected NumPy format version 1 to 3, found {other}")),
        };
        if length > MAX_HEADER {
            return Err(format!("its header claims {length} bytes, above the limit of {MAX_HEADER}"));
        }
        let mut bytes = vec![0u8; length];
        reader.read_exact(&mut bytes).map_err(cut)?;
        Self::parse(&String::from_utf8_lossy(&bytes))
    }

    /// Parses `{'descr': '|u1', 'fortran_order': False, 'shape': (2, 28, 28), }`.
    fn parse(text: &str) -> Result<Self, String> {
        let after = |key: &str| {
            text.split_once(&format!("'{key}'"))
                .and_then(|(_, rest)| rest.trim_start().strip_prefix(':'))
                .map(str::trim_start)
                .ok_or_else(|| format!("its NumPy header has no {key:?}: {:?}", text.trim()))
        };
        let bad =
            |what: &str| format!("its NumPy header has a {what} that cannot be read: {:?}", text.trim());
        let dtype = after("descr")?
            .strip_prefix('\'')
            .and_then(|rest| rest.split_once('\''))
            .ok_or_else(|| bad("type"))?
            .0
            .to_owned();
        if !after("fortran_order")?.starts_with("False") {
            return Err(
                "expected an array in C order, found Fortran order; save it with numpy.ascontiguousarray"
                    .into(),
            );
        }
        let inner = after("shape")?
            .strip_prefix('(')
            .and_then(|rest| rest.split_once(')'))
            .ok_or_else(|| bad("shape"))?
            .0;
        let shape = inner
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(|part| part.parse().map_err(|_| bad("shape")))
            .collect::<Result<Vec<usize>, String>>()?;
        Ok(Header { dtype, shape })
    }

    /// Bytes per value, if the type is an integer or a boolean.
    pub fn integer_size(&self) -> Option<usize> {
        match self.dtype.as_str() {
            "|u1" | "|i1" | "|b1" => Some(1),
            "<u2" | "<i2" | ">u2" | ">i2" => Some(2),
            "<u4" | "<i4" | ">u4" | ">i4" => Some(4),
            "<u8" | "<i8" | ">u8" | ">i8" => Some(8),
            _ => None,
        }
    }

    /// The value in `bytes`, which has [`Header::integer_size`] of them. An unsigned value above the largest
    /// signed one comes out negative.
    pub fn integer(&self, bytes: &[u8]) -> i64 {
        let mut all: Vec<u8> = bytes.to_vec();
        if self.dtype.starts_with('>') {
            all.reverse();
        }
        let signed = self.dtype.contains('i');
        let negative = signed && all.last().is_some_and(|&top| top >= 0x80);
        let mut wide = if negative { [0xff; 8] } else { [0; 8] };
        wide[..all.len()].copy_from_slice(&all);
        i64::from_le_bytes(wide)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_parsed() {
        let header =
            Header::parse("{'descr': '|u1', 'fortran_order': False, 'shape': (7, 28, 28), }  \n").unwrap();
        assert_eq!(header, Header { dtype: "|u1".into(), shape: vec![7, 28, 28] });
        assert_eq!(
            Header::parse("{'descr': '<i8', 'fortran_order': False, 'shape': (3,), }").unwrap().shape,
            [3]
        );
        for bad in [
            "{'descr': '|u1', 'fortran_order': True, 'shape': (7,)}",
            "{'descr': '|u1', 'shape': (7,)}",
            "{'descr': '|u1', 'fortran_order': False, 'shape': (-7,)}",
            "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (7,)}",
        ] {
            assert!(Header::parse(bad).is_err(), "{bad}");
        }
        assert!(Header::read(&mut &b"\x93NUMPY\x01\x00\xff\xff"[..]).is_err());
        assert!(Header::read(&mut &b"\x93NUMPY\x02\x00\xff\xff\xff\xff"[..]).is_err());
        assert!(Header::read(&mut &b"PK"[..]).is_err());
    }

    #[test]
    fn integers_of_all_widths() {
        let of = |dtype: &str, bytes: &[u8]| Header { dtype: dtype.into(), shape: vec![] }.integer(bytes);
        assert_eq!(of("|u1", &[200]), 200);
        assert_eq!(of("|i1", &[0xff]), -1);
        assert_eq!(of("<i2", &[0xfe, 0xff]), -2);
        assert_eq!(of(">i4", &[0, 0, 1, 0]), 256);
        assert_eq!(of("<i8", &[5, 0, 0, 0, 0, 0, 0, 0]), 5);
    }
}
