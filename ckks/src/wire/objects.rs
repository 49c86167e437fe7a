//! The content of each kind of object.

use std::io::{Read, Write};

#[cfg(feature = "secret-key")]
use super::Wire;
use super::stream::{Reader, Writer};
use super::{Content, Kind, read_header, write_header};
use crate::bootstrap::keys::BootstrapKeys;
use crate::bootstrap::literal::BootstrapLiteral;
use crate::ciphertext::Ciphertext;
use crate::encryptor::PublicKey;
use crate::error::{Error, Result};
use crate::evaluation_keys::{EvaluationKeys, GaloisKey, RelinearizationKey, SwitchingKey};
use crate::galois::GaloisElement;
use crate::literal::ParametersLiteral;
use crate::parameters::Parameters;
use crate::plan::KeyShape;
use crate::poly::{Evaluation, Poly};
#[cfg(feature = "secret-key")]
use crate::secret::SecretKey;
use crate::security::{SecretDistribution, Security};

fn write_poly<W: Write>(p: &Parameters, poly: &Poly<Evaluation>, to: &mut Writer<W>) -> Result<()> {
    if poly.degree() != p.ring_degree() {
        return Err(Error::Parameters { what: "the polynomial" });
    }
    to.words(poly.data())
}

/// A polynomial whose size is already known to be one of the parameters'.
fn read_poly<R: Read>(
    p: &Parameters,
    limbs: usize,
    special: usize,
    from: &mut Reader<R>,
) -> Result<Poly<Evaluation>> {
    let mut poly = Poly::scratch(p, limbs, special);
    for (i, limb) in poly.data_mut().chunks_exact_mut(p.ring_degree()).enumerate() {
        from.residues(limb, p.table(limbs, i).modulus.value())?;
    }
    Ok(poly)
}

fn read_level<R: Read>(p: &Parameters, from: &mut Reader<R>) -> Result<usize> {
    let level = usize::from(from.u16()?);
    if level > p.max_level() {
        return Err(from.invalid(format!("level {level} of {}", p.max_level())));
    }
    Ok(level)
}

impl Content for Ciphertext {
    const KIND: Kind = Kind::Ciphertext;
    const NAME: &'static str = "ciphertext";

    fn write_content<W: Write>(&self, p: &Parameters, to: &mut Writer<W>) -> Result<()> {
        to.u16(self.level() as u16)?;
        to.f64(self.scale)?;
        self.c.iter().try_for_each(|c| write_poly(p, c, to))
    }

    fn read_content<R: Read>(p: &Parameters, from: &mut Reader<R>) -> Result<Self> {
        let level = read_level(p, from)?;
        let scale = from.f64()?;
        p.check_scale("reading a ciphertext", scale, level).map_err(|e| from.invalid(e.to_string()))?;
        let c = [read_poly(p, level + 1, 0, from)?, read_poly(p, level + 1, 0, from)?];
        Ok(Self { c, scale })
    }
}

impl Content for PublicKey {
    const KIND: Kind = Kind::PublicKey;
    const NAME: &'static str = "public key";

    fn write_content<W: Write>(&self, p: &Parameters, to: &mut Writer<W>) -> Result<()> {
        to.bytes(&self.seed)?;
        write_poly(p, &self.b, to)
    }

    fn read_content<R: Read>(p: &Parameters, from: &mut Reader<R>) -> Result<Self> {
        let seed = from.array()?;
        Ok(Self::new(p, seed, read_poly(p, p.max_level() + 1, 0, from)?))
    }
}

fn write_key<W: Write>(p: &Parameters, key: &SwitchingKey, to: &mut Writer<W>) -> Result<()> {
    to.u16(key.level as u16)?;
    to.u16(key.shape.digit_limbs as u16)?;
    to.u16(key.shape.special as u16)?;
    write_shaped_key(p, key, to)
}

fn read_key<R: Read>(p: &Parameters, from: &mut Reader<R>) -> Result<SwitchingKey> {
    let level = read_level(p, from)?;
    let shape = p.key_shape(level);
    let found = (usize::from(from.u16()?), usize::from(from.u16()?));
    if found != (shape.digit_limbs, shape.special) {
        return Err(from.invalid(format!("key shape {found:?} where {shape:?} belongs to level {level}")));
    }
    read_shaped_key(p, level, shape, from)
}

/// Seed and bodies of a key whose level and shape are known.
fn read_shaped_key<R: Read>(
    p: &Parameters,
    level: usize,
    shape: KeyShape,
    from: &mut Reader<R>,
) -> Result<SwitchingKey> {
    let seed = from.array()?;
    let bodies = (0..shape.digits(level + 1))
        .map(|_| read_poly(p, level + 1, shape.special, from))
        .collect::<Result<_>>()?;
    Ok(SwitchingKey::new(p, level, shape, seed, bodies))
}

fn write_shaped_key<W: Write>(p: &Parameters, key: &SwitchingKey, to: &mut Writer<W>) -> Result<()> {
    to.bytes(&key.seed)?;
    key.halves[0].iter().try_for_each(|b| write_poly(p, b, to))
}

impl Content for BootstrapKeys {
    const KIND: Kind = Kind::BootstrapKeys;
    const NAME: &'static str = "set of bootstrap keys";

    /// Levels and shapes of the keys to and from the sparse secret follow from the parameters and are not written.
    fn write_content<W: Write>(&self, p: &Parameters, to: &mut Writer<W>) -> Result<()> {
        self.check(p)?;
        write_shaped_key(p, &self.to_sparse, to)?;
        self.from_sparse.iter().try_for_each(|key| write_shaped_key(p, &key.key, to))?;
        self.evaluation.write_content(p, to)
    }

    fn read_content<R: Read>(p: &Parameters, from: &mut Reader<R>) -> Result<Self> {
        let plan = p.bootstrap_key_plan()?;
        let (level, shape) = plan.to_sparse;
        let to_sparse = read_shaped_key(p, level, shape, from)?;
        let (level, shape) = plan.from_sparse;
        let from_sparse = plan
            .rotations
            .iter()
            .map(|&element| Ok(GaloisKey::new(p, element, read_shaped_key(p, level, shape, from)?)))
            .collect::<Result<_>>()?;
        let keys = Self::new(to_sparse, from_sparse, EvaluationKeys::read_content(p, from)?);
        keys.check(p)?;
        Ok(keys)
    }
}

impl Content for RelinearizationKey {
    const KIND: Kind = Kind::RelinearizationKey;
    const NAME: &'static str = "relinearisation key";

    fn write_content<W: Write>(&self, p: &Parameters, to: &mut Writer<W>) -> Result<()> {
        write_key(p, &self.key, to)
    }

    fn read_content<R: Read>(p: &Parameters, from: &mut Reader<R>) -> Result<Self> {
        Ok(Self { key: read_key(p, from)? })
    }
}

impl Content for GaloisKey {
    const KIND: Kind = Kind::GaloisKey;
    const NAME: &'static str = "Galois key";

    fn write_content<W: Write>(&self, p: &Parameters, to: &mut Writer<W>) -> Result<()> {
        to.u32(self.element().exponent())?;
        write_key(p, &self.key, to)
    }

    fn read_content<R: Read>(p: &Parameters, from: &mut Reader<R>) -> Result<Self> {
        let exponent = from.u32()?;
        let Some(element) = GaloisElement::from_exponent(exponent, p.ring_degree()) else {
            return Err(from.invalid(format!("X -> X^{exponent} is not an automorphism of the ring")));
        };
        Ok(Self::new(p, element, read_key(p, from)?))
    }
}

impl Content for EvaluationKeys {
    const KIND: Kind = Kind::EvaluationKeys;
    const NAME: &'static str = "set of evaluation keys";

    fn write_content<W: Write>(&self, p: &Parameters, to: &mut Writer<W>) -> Result<()> {
        to.u32(self.relinearization_keys().len() as u32)?;
        to.u32(self.galois_keys().count() as u32)?;
        self.relinearization_keys().iter().try_for_each(|key| key.write_content(p, to))?;
        self.galois_keys().try_for_each(|key| key.write_content(p, to))
    }

    fn read_content<R: Read>(p: &Parameters, from: &mut Reader<R>) -> Result<Self> {
        let (relinearization, galois) = (from.u32()?, from.u32()?);
        // Keys are kept as they arrive, so a false count runs into the end of the input, not into memory.
        // Keys lie in ascending order, so that a set of keys has one encoding only and none comes twice.
        let mut keys = Self::new();
        let mut last = None;
        for _ in 0..relinearization {
            let key = RelinearizationKey::read_content(p, from)?;
            if last.replace(key.level()) >= Some(key.level()) {
                return Err(from.invalid("its keys are not in ascending order"));
            }
            keys.insert_relinearization(key);
        }
        let mut last = None;
        for _ in 0..galois {
            let key = GaloisKey::read_content(p, from)?;
            let place = (key.element(), key.level());
            if last.replace(place) >= Some(place) {
                return Err(from.invalid("its keys are not in ascending order"));
            }
            keys.insert_galois(key);
        }
        Ok(keys)
    }
}

#[cfg(feature = "secret-key")]
impl Content for SecretKey {
    const KIND: Kind = Kind::SecretKey;
    const NAME: &'static str = "secret key";

    fn write_content<W: Write>(&self, _: &Parameters, to: &mut Writer<W>) -> Result<()> {
        let bytes: zeroize::Zeroizing<Vec<u8>> =
            zeroize::Zeroizing::new(self.coefficients.iter().map(|&c| (c + 1) as u8).collect());
        to.bytes(&bytes)
    }

    fn read_content<R: Read>(p: &Parameters, from: &mut Reader<R>) -> Result<Self> {
        let mut bytes = zeroize::Zeroizing::new(vec![0; p.ring_degree()]);
        from.bytes(&mut bytes)?;
        if bytes.iter().any(|&b| b > 2) {
            return Err(from.invalid("a coefficient is not -1, 0 or 1"));
        }
        Ok(Self { coefficients: bytes.iter().map(|&b| i32::from(b) - 1).collect() })
    }
}

#[cfg(feature = "secret-key")]
impl SecretKey {
    /// The secret key as bytes that are wiped when dropped. Memory is taken once, so that no copy is left behind by growing.
    ///
    /// # Errors
    /// [`Error::Parameters`] if the key does not belong to the parameters.
    pub fn to_bytes(&self, parameters: &Parameters) -> Result<zeroize::Zeroizing<Vec<u8>>> {
        if self.coefficients.len() != parameters.ring_degree() {
            return Err(Error::Parameters { what: Self::NAME });
        }
        let mut bytes = zeroize::Zeroizing::new(Vec::with_capacity(parameters.ring_degree() + 128));
        self.write_to(parameters, &mut *bytes)?;
        Ok(bytes)
    }
}

const PARAMETERS: &str = "set of parameters";

/// A uniform ternary secret.
const TERNARY: u8 = 0;
/// The same, and the numbers of a bootstrap after the sizes of the primes.
const TERNARY_AND_BOOTSTRAP: u8 = 1;

impl Parameters {
    /// The parameters as bytes: the numbers of their literal.
    ///
    /// # Errors
    /// None in practice: writing to memory does not fail.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut to = Writer::new(&mut bytes, PARAMETERS);
        write_header(&mut to, Kind::Parameters, self.digest())?;
        let literal = self.literal();
        let SecretDistribution::UniformTernary = literal.secret;
        let security = match literal.security {
            Security::Classical128 => 0,
            Security::Quantum128 => 1,
            Security::InsecureForTests => 2,
        };
        let form = if literal.bootstrap.is_some() { TERNARY_AND_BOOTSTRAP } else { TERNARY };
        to.bytes(&[literal.log_ring_degree as u8, form, security])?;
        for sizes in [&literal.modulus_bits, &literal.special_bits] {
            let sizes: Vec<u8> = sizes.iter().map(|&b| b as u8).collect();
            to.bytes(&[sizes.len() as u8])?;
            to.bytes(&sizes)?;
        }
        let numbers = literal.bootstrap.as_ref().map(BootstrapLiteral::numbers);
        numbers.iter().flatten().try_for_each(|&n| to.u32(n))?;
        to.finish()?;
        Ok(bytes)
    }

    /// Reads and checks parameters that promise security.
    ///
    /// # Errors
    /// [`Error::Wire`] for bytes that are not a literal, and for a literal without security: who sends parameters must not be able to
    /// take it away from who reads them. Any error of [`ParametersLiteral::build`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Self::read(bytes, false)
    }

    /// As [`Self::from_bytes`], but also reads sets without any security: for tests only.
    ///
    /// # Errors
    /// As [`Self::from_bytes`].
    pub fn insecure_from_bytes(bytes: &[u8]) -> Result<Self> {
        Self::read(bytes, true)
    }

    fn read(bytes: &[u8], insecure: bool) -> Result<Self> {
        let mut rest = bytes;
        let mut from = Reader::new(&mut rest, PARAMETERS);
        let digest = read_header(&mut from, Kind::Parameters)?;
        let log_ring_degree = u32::from(from.u8()?);
        let (secret, bootstraps) = match from.u8()? {
            TERNARY => (SecretDistribution::UniformTernary, false),
            TERNARY_AND_BOOTSTRAP => (SecretDistribution::UniformTernary, true),
            n => return Err(from.invalid(format!("secret distribution {n}"))),
        };
        let security = match from.u8()? {
            0 => Security::Classical128,
            1 => Security::Quantum128,
            2 if insecure => Security::InsecureForTests,
            2 => return Err(from.invalid("it promises no security: such sets are for tests only")),
            n => return Err(from.invalid(format!("security mode {n}"))),
        };
        let mut sizes = || -> Result<Vec<u32>> {
            let count = from.u8()?;
            (0..count).map(|_| Ok(u32::from(from.u8()?))).collect()
        };
        let (modulus_bits, special_bits) = (sizes()?, sizes()?);
        let mut bootstrap = None;
        if bootstraps {
            let mut numbers = [0; 10];
            for number in &mut numbers {
                *number = from.u32()?;
            }
            bootstrap = Some(BootstrapLiteral::from_numbers(numbers));
        }
        let literal =
            ParametersLiteral { log_ring_degree, modulus_bits, special_bits, secret, security, bootstrap };
        from.finish()?;
        if !rest.is_empty() {
            return Err(Error::Wire { what: PARAMETERS, why: format!("{} bytes too many", rest.len()) });
        }
        let parameters = literal.build()?;
        if parameters.digest() != digest {
            return Err(Error::Parameters { what: PARAMETERS });
        }
        Ok(parameters)
    }
}
