//! The wire format: what keys and ciphertexts look like in a file or on a connection.
//!
//! Every object is `magic "VRCK" | version u16 | kind u8 | parameter digest, 32 bytes | content | BLAKE3 of all before, 32 bytes`, little
//! endian. Lengths follow from the parameters, so nothing is allocated on the word of the input; every residue is checked against its
//! prime; uniform halves are 32-byte seeds. A truncated, altered or foreign object is a typed error. The digest finds accidents, not
//! forgers: whoever can write the file can write its digest.

mod objects;
mod stream;

use std::io::{Read, Write};

use crate::error::{Error, Result};
use crate::parameters::Parameters;
use stream::{Reader, Writer};

/// First bytes of every object.
const MAGIC: [u8; 4] = *b"VRCK";
/// Version of the format.
const VERSION: u16 = 2;

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    Parameters = 1,
    PublicKey = 2,
    EvaluationKeys = 3,
    Ciphertext = 4,
    #[cfg(feature = "secret-key")]
    SecretKey = 5,
    GaloisKey = 6,
    RelinearizationKey = 7,
    BootstrapKeys = 8,
}

mod sealed {
    use super::{Kind, Parameters, Reader, Result, Writer};
    use std::io::{Read, Write};

    /// Content of an object, between the header and the digest.
    pub trait Content: Sized {
        #[doc(hidden)]
        const KIND: Kind;
        #[doc(hidden)]
        const NAME: &'static str;
        #[doc(hidden)]
        fn write_content<W: Write>(&self, parameters: &Parameters, to: &mut Writer<W>) -> Result<()>;
        #[doc(hidden)]
        fn read_content<R: Read>(parameters: &Parameters, from: &mut Reader<R>) -> Result<Self>;
    }
}
pub(crate) use sealed::Content;

/// Objects with a wire format. Sealed: keys and ciphertexts of this crate.
///
/// ```
/// use ckks::{Error, ParametersLiteral, PublicKey, Wire};
/// # use ckks::{KeyGenerator, SecretKey};
/// # let mut rng = rand::rng();
/// # let parameters = ParametersLiteral::insecure_toy(8, 1, 2).build()?;
/// # let secret = SecretKey::generate(&parameters, &mut rng);
/// # let key = KeyGenerator::new(&parameters, &secret)?.public_key(&mut rng);
///
/// let mut bytes = key.to_bytes(&parameters)?;
/// assert!(PublicKey::from_bytes(&parameters, &bytes).is_ok());
/// bytes[100] ^= 1;
/// assert!(matches!(PublicKey::from_bytes(&parameters, &bytes), Err(Error::Wire { .. })));
/// # Ok::<(), ckks::Error>(())
/// ```
pub trait Wire: Content {
    /// Writes the object.
    ///
    /// # Errors
    /// [`Error::Io`] if writing fails, [`Error::Parameters`] if the object does not belong to the parameters.
    fn write_to(&self, parameters: &Parameters, to: impl Write) -> Result<()> {
        let mut writer = Writer::new(to, Self::NAME);
        write_header(&mut writer, Self::KIND, parameters.digest())?;
        self.write_content(parameters, &mut writer)?;
        writer.finish()
    }

    /// Reads an object, and nothing beyond it.
    ///
    /// # Errors
    /// [`Error::Io`] if reading fails, [`Error::Parameters`] if the object was made for other parameters, [`Error::Wire`] if
    /// anything about it is not as it should be.
    fn read_from(parameters: &Parameters, from: impl Read) -> Result<Self> {
        let mut reader = Reader::new(from, Self::NAME);
        if read_header(&mut reader, Self::KIND)? != parameters.digest() {
            return Err(Error::Parameters { what: Self::NAME });
        }
        let object = Self::read_content(parameters, &mut reader)?;
        reader.finish()?;
        Ok(object)
    }

    /// The object as bytes.
    ///
    /// # Errors
    /// [`Error::Parameters`] if the object does not belong to the parameters.
    fn to_bytes(&self, parameters: &Parameters) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.write_to(parameters, &mut bytes)?;
        Ok(bytes)
    }

    /// An object from exactly these bytes.
    ///
    /// # Errors
    /// As [`Self::read_from`], and [`Error::Wire`] if bytes are left over.
    fn from_bytes(parameters: &Parameters, bytes: &[u8]) -> Result<Self> {
        let mut rest = bytes;
        let object = Self::read_from(parameters, &mut rest)?;
        match rest.len() {
            0 => Ok(object),
            n => Err(Error::Wire { what: Self::NAME, why: format!("{n} bytes too many") }),
        }
    }
}

impl<T: Content> Wire for T {}

fn write_header<W: Write>(to: &mut Writer<W>, kind: Kind, digest: [u8; 32]) -> Result<()> {
    to.bytes(&MAGIC)?;
    to.u16(VERSION)?;
    to.bytes(&[kind as u8])?;
    to.bytes(&digest)
}

fn read_header<R: Read>(from: &mut Reader<R>, kind: Kind) -> Result<[u8; 32]> {
    if from.array::<4>()? != MAGIC {
        return Err(from.invalid("it does not start with VRCK"));
    }
    let version = from.u16()?;
    if version != VERSION {
        return Err(from.invalid(format!("format version {version}, this library reads {VERSION}")));
    }
    let [found] = from.array::<1>()?;
    if found != kind as u8 {
        return Err(from.invalid(format!("it is an object of kind {found}, not {}", kind as u8)));
    }
    from.array()
}
