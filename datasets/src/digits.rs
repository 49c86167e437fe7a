//! MNIST (IDX files) and CIFAR-10 (its binary version): the classical sets, for sanity checks of networks.
//!
//! Both come as plain or gzip-compressed files. Their classes become one-of-ten labels; every picture is its own
//! patient; colour becomes grey. The sets' own test pictures are the test split, and validation is drawn.
//!
//! Sources: Y. LeCun, C. Cortes, *MNIST* (big-endian IDX, magic 2051 and 2049); A. Krizhevsky, *Learning Multiple
//! Layers of Features from Tiny Images*, 2009 (records of 3,073 bytes: label, then red, green and blue planes).

use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use crate::arrays::{Bytes, MAX_MEMORY, array_error, luma, resize};
use crate::config::{CifarConfig, MnistConfig};
use crate::dataset::Loaded;
use crate::split::{Assigned, Record};
use crate::{DataError, Film, Fit, Result, Split};

/// The most bytes of one file once decompressed: MNIST's training images have 47 MB.
const MAX_BYTES: u64 = 1 << 30;
const COPY_AGAIN: &str = "the file is damaged, cut short or another one: copy or download it again";
const CLASSES: usize = 10;
const CIFAR_SIDE: usize = 32;
const CIFAR_RECORD: usize = 1 + 3 * CIFAR_SIDE * CIFAR_SIDE;
const CIFAR_NAMES: [&str; CLASSES] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// `folder/name` or `folder/name.gz`, whichever is there.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    [folder.join(name), folder.join(format!("{name}.gz"))].into_iter().find(|path| path.is_file())
}

fn missing(folder: &Path, name: &str) -> DataError {
    DataError::Missing { path: folder.join(name), expected: format!("{name} or {name}.gz") }
}

/// The whole file, decompressed if its name ends in `.gz`.
fn read(path: &Path) -> Result<Vec<u8>> {
    let file = std::fs::File::open(path).map_err(DataError::io(path, "open the file"))?;
    let zipped = path.extension().is_some_and(|e| e == "gz");
    let reader: Box<dyn Read> = if zipped { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    let mut bytes = Vec::new();
    reader.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|e| {
        array_error(path, format!("expected a whole file, but reading failed ({e})"), COPY_AGAIN)
    })?;
    if bytes.len() as u64 > MAX_BYTES {
        let what = "its size in bytes".into();
        return Err(DataError::TooLarge {
            path: path.into(),
            what,
            found: bytes.len() as u64,
            limit: MAX_BYTES,
        });
    }
    Ok(bytes)
}

/// The dimensions and values of an IDX file of bytes.
fn parse_idx<'a>(path: &Path, bytes: &'a [u8], rank: usize) -> Result<(Vec<usize>, &'a [u8])> {
    let number = |place: usize| -> Option<u32> {
        Some(u32::from_be_bytes(bytes.get(4 * place..4 * place + 4)?.try_into().ok()?))
    };
    let magic = 0x0800 + rank as u32;
    if number(0) != Some(magic) {
        let found = number(0).map_or("fewer than 4 bytes".into(), |found| found.to_string());
        return Err(array_error(
            path,
            format!("expected an IDX file with magic number {magic}, found {found}"),
            COPY_AGAIN,
        ));
    }
    let cut = || array_error(path, "expected an IDX header, but the file ends".into(), COPY_AGAIN);
    let shape = (1..=rank)
        .map(|place| Some(number(place)? as usize))
        .collect::<Option<Vec<usize>>>()
        .ok_or_else(cut)?;
    let values = &bytes[4 * (rank + 1)..];
    let expected = shape.iter().try_fold(1usize, |product, &n| product.checked_mul(n));
    if expected != Some(values.len()) {
        let problem = format!("its header says {shape:?} bytes, but {} follow", values.len());
        return Err(array_error(path, problem, COPY_AGAIN));
    }
    Ok((shape, values))
}

/// What both loaders gather.
struct Gathered {
    side: usize,
    bytes: Vec<u8>,
    records: Vec<Record>,
    content: blake3::Hasher,
}

impl Gathered {
    fn new(side: usize) -> Self {
        Gathered { side, bytes: Vec::new(), records: Vec::new(), content: blake3::Hasher::new() }
    }

    /// Refuses `films` more films if they would not fit into memory.
    fn check_memory(&self, films: usize, path: &Path) -> Result<()> {
        let memory = self.bytes.len() as u64 + (films as u64).saturating_mul((self.side * self.side) as u64);
        if memory <= MAX_MEMORY {
            return Ok(());
        }
        let problem = format!(
            "{films} pictures at {0} x {0} pixels need {1} GiB of memory, above the limit of {2} GiB",
            self.side,
            memory >> 30,
            MAX_MEMORY >> 30
        );
        Err(array_error(path, problem, "choose a smaller data.side"))
    }

    /// Adds a picture at the wanted side.
    fn push(&mut self, id: String, class: u8, split: Assigned, film: Vec<u8>, path: &Path) -> Result<()> {
        if usize::from(class) >= CLASSES {
            let problem = format!("expected a class from 0 to 9 for {id}, found {class}");
            return Err(array_error(path, problem, COPY_AGAIN));
        }
        self.bytes.extend(film);
        let labels = (0..CLASSES).map(|label| Some(label == usize::from(class))).collect();
        self.records.push(Record { patient: id.clone(), id, labels, split });
        Ok(())
    }

    fn finish(self, label_names: Vec<String>, source: String) -> Loaded {
        let notes = vec![format!("{source}: {} pictures in ten classes.", self.records.len())];
        Loaded {
            label_names,
            records: self.records,
            pixels: Box::new(Bytes { side: self.side, bytes: self.bytes }),
            content: self.content.finalize().to_hex().to_string(),
            notes,
        }
    }
}

/// Whether a folder holds MNIST.
pub(crate) fn is_mnist(folder: &Path) -> bool {
    find(folder, "train-images-idx3-ubyte").is_some()
}

/// Whether a folder holds CIFAR-10.
pub(crate) fn is_cifar(folder: &Path) -> bool {
    find(folder, "data_batch_1.bin").is_some()
}

pub(crate) fn load_mnist(config: &MnistConfig, side: usize, fit: Fit) -> Result<Loaded> {
    let root = &config.root;
    let mut all = Gathered::new(side);
    for (prefix, split) in [("train", Assigned::NotTest), ("t10k", Assigned::Fixed(Split::Test))] {
        let file = |kind: &str| {
            let name = format!("{prefix}-{kind}-ubyte");
            find(root, &name).ok_or_else(|| missing(root, &name))
        };
        let (images_path, labels_path) = (file("images-idx3")?, file("labels-idx1")?);
        let (images, labels) = (read(&images_path)?, read(&labels_path)?);
        all.content.update(&images).update(&labels);
        let (shape, pixels) = parse_idx(&images_path, &images, 3)?;
        let (count, classes) = parse_idx(&labels_path, &labels, 1)?;
        let (height, width) = (shape[1], shape[2]);
        if count[0] != shape[0] {
            let problem = format!("expected {} labels as there are images, found {}", shape[0], count[0]);
            return Err(array_error(&labels_path, problem, COPY_AGAIN));
        }
        if !(1..=1024).contains(&height) || !(1..=1024).contains(&width) {
            let problem = format!("expected pictures of 1 to 1024 pixels a side, found {height} x {width}");
            return Err(array_error(&images_path, problem, COPY_AGAIN));
        }
        all.check_memory(shape[0], &images_path)?;
        for (number, (pixels, &class)) in pixels.chunks_exact(height * width).zip(classes).enumerate() {
            let film = resize(pixels, height, width, side, fit);
            all.push(format!("{prefix}-{number:05}"), class, split, film, &labels_path)?;
        }
    }
    let names = (0..CLASSES).map(|digit| digit.to_string()).collect();
    Ok(all.finish(names, format!("MNIST in {}", root.display())))
}

pub(crate) fn load_cifar(config: &CifarConfig, side: usize, fit: Fit) -> Result<Loaded> {
    let root = &config.root;
    let mut all = Gathered::new(side);
    let names = (1..=5).map(|n| (format!("data_batch_{n}"), Assigned::NotTest));
    for (name, split) in names.chain([("test_batch".to_owned(), Assigned::Fixed(Split::Test))]) {
        let file = format!("{name}.bin");
        let Some(path) = find(root, &file) else {
            // Parts of the set are common: only the first batch and the test batch must be there.
            if name == "data_batch_1" || name == "test_batch" {
                return Err(missing(root, &file));
            }
            continue;
        };
        let bytes = read(&path)?;
        all.content.update(&bytes);
        let (records, rest) = bytes.as_chunks::<CIFAR_RECORD>();
        if records.is_empty() || !rest.is_empty() {
            let problem = format!("expected records of {CIFAR_RECORD} bytes, found {} bytes", bytes.len());
            return Err(array_error(&path, problem, COPY_AGAIN));
        }
        all.check_memory(records.len(), &path)?;
        for (number, record) in records.iter().enumerate() {
            let (red, rest) = record[1..].split_at(CIFAR_SIDE * CIFAR_SIDE);
            let (green, blue) = rest.split_at(CIFAR_SIDE * CIFAR_SIDE);
            let pixels = red.iter().zip(green).zip(blue).map(|((&r, &g), &b)| luma(r, g, b)).collect();
            let film = Film { height: CIFAR_SIDE, width: CIFAR_SIDE, pixels };
            let film = film.resized(side, fit).to_bytes();
            all.push(format!("{name}-{number:05}"), record[0], split, film, &path)?;
        }
    }
    let names = CIFAR_NAMES.iter().map(|&name| name.to_owned()).collect();
    Ok(all.finish(names, format!("CIFAR-10 in {}", root.display())))
}
