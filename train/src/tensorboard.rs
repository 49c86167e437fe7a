//! TensorBoard event files: scalars and pictures.
//!
//! An event file is a sequence of records: the length as u64, its masked CRC-32C, the bytes of an `Event` message,
//! their masked CRC-32C, all little-endian (tensorflow/core/lib/io/record_writer.cc). The few messages that
//! are needed are declared here with the field numbers of event.proto and summary.proto.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use prost::Message;

use crate::{Result, TrainError, picture::Picture};

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
    #[prost(message, optional, tag = "4")]
    image: Option<Image>,
}

#[derive(Clone, PartialEq, Message)]
struct Image {
    #[prost(int32, tag = "1")]
    height: i32,
    #[prost(int32, tag = "2")]
    width: i32,
    /// Channels: 1 is grey.
    #[prost(int32, tag = "3")]
    colorspace: i32,
    #[prost(bytes = "vec", tag = "4")]
    encoded_image_string: Vec<u8>,
}

/// Writes events to one new file in a folder.
pub struct EventWriter {
    path: PathBuf,
    file: File,
}

impl EventWriter {
    /// Begins a file of its own in `folder`; a resumed run adds a second file, which TensorBoard joins to the first.
    ///
    /// # Errors
    ///
    /// The folder or the file cannot be made.
    pub fn create(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(TrainError::io(folder, "make the folder"))?;
        let seconds = now() as u64;
        let process = std::process::id();
        for number in 0..u32::MAX {
            let path = folder.join(format!("events.out.tfevents.{seconds:010}.veilray.{process}.{number}"));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => {
                    let mut writer = Self { path, file };
                    let version = Some("brain.Event:2".to_owned());
                    writer.write(&Event {
                        wall_time: now(),
                        step: 0,
                        file_version: version,
                        summary: None,
                    })?;
                    return Ok(writer);
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(TrainError::io(path, "make the event file")(error)),
            }
        }
        let exhausted = std::io::Error::other("every name is taken");
        Err(TrainError::io(folder, "make an event file")(exhausted))
    }

    /// Adds scalars of one step.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn scalars<'a>(
        &mut self,
        step: u64,
        scalars: impl IntoIterator<Item = (&'a str, f64)>,
    ) -> Result<()> {
        let value = scalars
            .into_iter()
            .map(|(tag, value)| Value { tag: tag.to_owned(), simple_value: Some(value as f32), image: None })
            .collect();
        self.summary(step, value)
    }

    /// Adds a grey picture.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn picture(&mut self, step: u64, tag: &str, picture: &Picture) -> Result<()> {
        let image = Image {
            height: picture.height as i32,
            width: picture.width as i32,
            colorspace: 1,
            encoded_image_string: picture.png(),
        };
        self.summary(step, vec![Value { tag: tag.to_owned(), simple_value: None, image: Some(image) }])
    }

    fn summary(&mut self, step: u64, value: Vec<Value>) -> Result<()> {
        let summary = Some(Summary { value });
        self.write(&Event { wall_time: now(), step: step as i64, file_version: None, summary })
    }

    fn write(&mut self, event: &Event) -> Result<()> {
        let record = frame(&event.encode_to_vec());
        self.file.write_all(&record).map_err(TrainError::io(&self.path, "write the event file"))
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

/// One record around the bytes of a message.
fn frame(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(data.len() + 16);
    record.extend_from_slice(&length);
    record.extend_from_slice(&masked_crc(&length).to_le_bytes());
    record.extend_from_slice(data);
    record.extend_from_slice(&masked_crc(data).to_le_bytes());
    record
}

/// CRC-32C, rotated and offset so that a CRC of data that contains CRCs stays useful.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), reflected polynomial 0x82f63b78.
fn crc32c(data: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut i = 0;
        while i < 256 {
            let mut value = i as u32;
            let mut bit = 0;
            while bit < 8 {
                value = if value & 1 == 1 { (value >> 1) ^ 0x82f6_3b78 } else { value >> 1 };
                bit += 1;
            }
            table[i] = value;
            i += 1;
        }
        table
    };
    !data.iter().fold(!0, |crc, byte| (crc >> 8) ^ TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3720, appendix B.4.
    #[test]
    fn crc32c_matches_its_vectors() {
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn records_can_be_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = EventWriter::create(folder.path()).unwrap();
        let _second = EventWriter::create(folder.path()).unwrap();
        first.scalars(3, [("loss", 0.25)]).unwrap();
        let picture = Picture { height: 2, width: 3, pixels: vec![0, 50, 100, 150, 200, 250] };
        first.picture(4, "grid", &picture).unwrap();

        let bytes = std::fs::read(&first.path).unwrap();
        let mut rest = bytes.as_slice();
        let mut events = Vec::new();
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            assert_eq!(rest[8..12], masked_crc(&rest[..8]).to_le_bytes());
            let data = &rest[12..12 + length];
            assert_eq!(rest[12 + length..16 + length], masked_crc(data).to_le_bytes());
            events.push(Event::decode(data).unwrap());
            rest = &rest[16 + length..];
        }
        assert_eq!(events.len(), 3);
        assert_eq!(events[0].file_version.as_deref(), Some("brain.Event:2"));
        let value = &events[1].summary.as_ref().unwrap().value[0];
        assert_eq!((value.tag.as_str(), value.simple_value), ("loss", Some(0.25)));
        let image = events[2].summary.as_ref().unwrap().value[0].image.clone().unwrap();
        assert_eq!((image.height, image.width, image.colorspace), (2, 3, 1));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
