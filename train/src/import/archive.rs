//! Files of `torch.save`: the views that a pickle describes, read from where their numbers lie.
//!
//! Since PyTorch 1.6 such a file is an uncompressed zip of `*/data.pkl` and one entry `*/data/KEY` a storage; before, it was a row
//! of pickles (a magic number, the protocol, the system, the object, the keys of storages), then each storage behind its
//! number of elements (`torch/serialization.py`, `_save` and `_legacy_save`).

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::Path,
};

use burn::tensor::{DType, TensorData};
use zip::{CompressionMethod, ZipArchive};

use super::pickle::{Objects, View};
use crate::state::State;

/// What the pickles at the begin of an old file take at most.
const MAX_HEAD: u64 = 32 << 20;
/// The number that old files begin with.
const MAGIC: &[u8] = &[0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
/// A file of so many bytes may hold at most [`MOST_COPIES`] times as many bytes of tensors: several tensors can
/// show the same numbers, and a tensor with a stride of zero shows one number as many.
const MOST_COPIES: u64 = 4;
/// What any file may hold, so that small files with small shared tensors pass.
const ALWAYS_ALLOWED: u64 = 1 << 20;

type Read<T> = Result<T, String>;

/// A file of `torch.save`.
pub(super) struct Archive {
    file: File,
    /// Bytes of the file.
    length: u64,
    objects: Objects,
    /// Where each storage lies: its first byte and its bytes.
    places: BTreeMap<String, (u64, u64)>,
}

impl Archive {
    /// Opens a file and reads what it says of itself.
    pub fn open(path: &Path) -> Read<Self> {
        let mut file = File::open(path).map_err(|e| e.to_string())?;
        let length = file.metadata().map_err(|e| e.to_string())?.len();
        let mut head = [0; 2];
        file.read_exact(&mut head).map_err(|e| e.to_string())?;
        file.rewind().map_err(|e| e.to_string())?;
        let (objects, places) = if &head == b"PK" { zipped(&file)? } else { in_a_row(&mut file, length)? };
        Ok(Self { file, length, objects, places })
    }

    /// The floating-point tensors by their paths; with `key` those below it alone, without it.
    pub fn tensors(&mut self, key: Option<&str>) -> Read<State> {
        let views = self.objects.tensors(key)?;
        self.check_claims(views.values().map(|view| &**view))?;
        let mut state = State::new();
        for (name, view) in views {
            if let Some((width, Some(kind))) = number(&view.storage.kind) {
                let values =
                    self.values(&view, width, kind).map_err(|problem| format!("{name}: {problem}"))?;
                state.insert(name, (view.shape.clone(), values));
            }
        }
        Ok(state)
    }

    /// Refuses tensors that show, or reach over, many times the numbers of the file.
    fn check_claims<'v>(&self, views: impl Iterator<Item = &'v View>) -> Read<()> {
        let most = self.length.saturating_mul(MOST_COPIES).max(ALWAYS_ALLOWED);
        let mut total = 0u64;
        for view in views {
            let count = view.shape.iter().try_fold(1u64, |product, &n| product.checked_mul(n as u64));
            let larger = count.unwrap_or(u64::MAX).max(span(view).unwrap_or(u64::MAX));
            total = total.saturating_add(larger.saturating_mul(4));
        }
        if total > most {
            return Err(format!("its tensors claim {total} bytes, but the file has {}", self.length));
        }
        Ok(())
    }

    fn values(&mut self, view: &View, width: u64, kind: DType) -> Read<Vec<f32>> {
        if view.shape.contains(&0) {
            return Ok(vec![]);
        }
        let span = span(view).ok_or("its strides cannot be")?;
        let (start, bytes) = *self.places.get(&view.storage.key).ok_or("its storage is not in the file")?;
        let first = (view.offset as u64).checked_mul(width);
        let end = first.and_then(|first| first.checked_add(span.checked_mul(width)?));
        let (Some(first), true) = (first, end.is_some_and(|end| end <= bytes)) else {
            return Err("it reaches beyond its storage".to_owned());
        };
        let mut raw = vec![0; (span * width) as usize];
        self.file.seek(SeekFrom::Start(start.saturating_add(first))).map_err(|e| e.to_string())?;
        self.file.read_exact(&mut raw).map_err(|e| format!("it is damaged or cut short ({e})"))?;
        let data = TensorData::from_bytes_vec(raw, vec![span as usize], kind);
        let memory = data.iter::<f32>().collect::<Vec<_>>();
        Ok(gather(&memory, &view.shape, &view.strides))
    }
}

/// Elements from the first to the last that a view shows; `None` where that is no number.
fn span(view: &View) -> Option<u64> {
    let mut last = 0u64;
    for (&n, &stride) in view.shape.iter().zip(&view.strides) {
        last = last.checked_add((n as u64).saturating_sub(1).checked_mul(stride as u64)?)?;
    }
    last.checked_add(1)
}

/// The elements of a view in the order of its indices.
fn gather(memory: &[f32], shape: &[usize], strides: &[usize]) -> Vec<f32> {
    let mut places = vec![0usize];
    for (&n, &stride) in shape.iter().zip(strides) {
        places = places.iter().flat_map(|place| (0..n).map(move |i| place + i * stride)).collect();
    }
    places.into_iter().map(|place| memory[place]).collect()
}

/// Bytes of a number of a storage, and its type if that is a real one.
fn number(storage: &str) -> Option<(u64, Option<DType>)> {
    Some(match storage {
        "FloatStorage" => (4, Some(DType::F32)),
        "DoubleStorage" => (8, Some(DType::F64)),
        "HalfStorage" => (2, Some(DType::F16)),
        "BFloat16Storage" => (2, Some(DType::BF16)),
        "LongStorage" | "ComplexFloatStorage" => (8, None),
        "IntStorage" => (4, None),
        "ShortStorage" => (2, None),
        "CharStorage" | "ByteStorage" | "BoolStorage" => (1, None),
        "ComplexDoubleStorage" => (16, None),
        _ => return None,
    })
}

type Contents = (Objects, BTreeMap<String, (u64, u64)>);

fn zipped(file: &File) -> Read<Contents> {
    let damaged = |e: zip::result::ZipError| format!("it is damaged or cut short ({e})");
    let mut archive = ZipArchive::new(file).map_err(damaged)?;
    let (mut objects, mut places, mut order) = (None, BTreeMap::new(), Vec::new());
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(damaged)?;
        let name = entry.name().to_owned();
        let Some((_, inner)) = name.split_once('/') else { continue };
        if inner == "data.pkl" {
            let mut bytes = Vec::new();
            entry.by_ref().take(MAX_HEAD).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
            objects = Some(Objects::read(&bytes)?);
        } else if inner == "byteorder" {
            entry.by_ref().take(16).read_to_end(&mut order).map_err(|e| e.to_string())?;
        } else if let Some(key) = inner.strip_prefix("data/") {
            if entry.compression() != CompressionMethod::Stored {
                return Err(format!("{name} is compressed, which torch.save never does"));
            }
            let start = entry.data_start().ok_or_else(|| format!("{name} lies nowhere"))?;
            places.insert(key.to_owned(), (start, entry.size()));
        }
    }
    if order.starts_with(b"big") {
        return Err("its numbers are big-endian; save it again on a usual computer".to_owned());
    }
    Ok((objects.ok_or("it is a zip without data.pkl, so no file of torch.save")?, places))
}

fn in_a_row(file: &mut File, length: u64) -> Read<Contents> {
    let mut head = Vec::new();
    file.take(MAX_HEAD).read_to_end(&mut head).map_err(|e| e.to_string())?;
    if !head.windows(MAGIC.len()).take(8).any(|window| window == MAGIC) {
        return Err("it is no file of torch.save".to_owned());
    }
    let mut at = 0;
    let mut next = || {
        let objects = Objects::read(&head[at..])?;
        at += objects.len;
        Ok::<_, String>(objects)
    };
    let (_, _, _, objects, keys) = (next()?, next()?, next()?, next()?, next()?);
    let (mut start, mut places) = (at as u64, BTreeMap::new());
    for key in keys.texts() {
        let storage =
            objects.storages.get(key).ok_or_else(|| format!("nothing says what its storage {key} holds"))?;
        let (width, _) = number(&storage.kind).ok_or_else(|| format!("it holds a {}", storage.kind))?;
        // The number of elements stands before them; the pickle has it too.
        let bytes = (storage.len as u64).checked_mul(width).filter(|&bytes| bytes <= length);
        let bytes = bytes.ok_or("it is damaged or cut short")?;
        places.insert(key.to_owned(), (start + 8, bytes));
        start = start.saturating_add(8 + bytes);
    }
    Ok((objects, places))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_are_gathered_by_their_strides() {
        let memory = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
        assert_eq!(gather(&memory, &[2, 3], &[3, 1]), memory);
        assert_eq!(gather(&memory, &[3, 2], &[1, 3]), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        assert_eq!(gather(&memory, &[2, 2], &[0, 2]), [0.0, 2.0, 0.0, 2.0]);
        assert_eq!(gather(&memory, &[], &[]), [0.0]);
    }

    /// A view of the storage `0` of six numbers, `[2, 2]` from the second on, in a dictionary with a class as key.
    const PICKLE: &[u8] = b"\x80\x02}(cmine\nClass\nNX\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage\
        ctorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x06tQK\x01K\x02K\x02\x86K\x02K\x01\x86NNtRu.";

    fn numbers() -> Vec<u8> {
        (0..6u8).flat_map(|i| f32::from(i).to_le_bytes()).collect()
    }

    /// As PyTorch 1.6 and later write it.
    fn new_format() -> Vec<u8> {
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let stored = zip::write::SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        for (name, bytes) in [("a/data.pkl", PICKLE), ("a/byteorder", b"little"), ("a/data/0", &numbers())] {
            zip.start_file(name, stored).unwrap();
            std::io::Write::write_all(&mut zip, bytes).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    /// As PyTorch before 1.6 wrote it.
    fn old_format() -> Vec<u8> {
        let magic = [b"\x80\x02\x8a\x0a", MAGIC, b"."].concat();
        let keys: &[u8] = b"\x80\x02]X\x01\x00\x00\x000a.";
        let parts: [&[u8]; 7] =
            [&magic, b"\x80\x02M\xe9\x03.", b"\x80\x02}.", PICKLE, keys, &6u64.to_le_bytes(), &numbers()];
        parts.concat()
    }

    fn read(path: &Path, bytes: &[u8]) -> Read<State> {
        std::fs::write(path, bytes).unwrap();
        Archive::open(path)?.tensors(None)
    }

    /// Every cut is refused, and every altered byte is refused or gives tensors: nothing panics.
    #[test]
    fn both_formats_are_read_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.pt");
        for whole in [new_format(), old_format()] {
            let state = read(&path, &whole).unwrap();
            assert_eq!(state, State::from([("w".to_owned(), (vec![2, 2], vec![1.0, 2.0, 3.0, 4.0]))]));
            // The last number of the storage is not part of the view.
            for cut in 0..whole.len() - 4 {
                assert!(read(&path, &whole[..cut]).is_err(), "cut at {cut} of {}", whole.len());
            }
            for at in 0..whole.len() {
                for byte in [0, 0xff, whole[at] ^ 1] {
                    let mut altered = whole.clone();
                    altered[at] = byte;
                    let _ = read(&path, &altered);
                }
            }
        }
    }

    #[test]
    fn tensors_larger_than_the_file_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.pt");
        let whole = old_format();
        let shape = whole.windows(4).position(|window| window == b"K\x02K\x02").unwrap();
        // 65535 x 65535 numbers, all of which are one.
        let large: &[u8] = b"M\xff\xffM\xff\xff\x86K\x00K\x00\x86";
        let bytes = [&whole[..shape], large, &whole[shape + 10..]].concat();
        assert!(read(&path, &bytes).unwrap_err().contains("claim"));
    }
}
