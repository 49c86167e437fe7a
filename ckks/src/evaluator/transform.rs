//! Linear maps of the slots, sorted for their evaluation by baby and giant steps.

use crate::error::{Error, Result};
use crate::evaluator::diagonal::Diagonal;

/// One term: rotate the input by `baby`, multiply by the plaintext, rotate by `giant`, all to the left.
#[derive(Clone, Debug)]
pub struct LinearTerm {
    /// Rotation after the product.
    pub giant: i64,
    /// Rotation before the product.
    pub baby: i64,
    /// Factor between the two.
    pub plaintext: Diagonal,
}

/// A linear map of the slots, ready to be applied.
///
/// Twice the slot itself less the one after it:
///
/// ```
/// use ckks::{Diagonal, Evaluator, LinearTerm, LinearTransform};
/// # use ckks::{Decryptor, Encoder, EvaluationKeyRequest, KeyGenerator, ParametersLiteral, SecretEncryptor, SecretKey};
/// # let parameters = ParametersLiteral::insecure_toy(10, 1, 3).build()?;
/// # let mut rng = rand::rng();
/// # let secret = SecretKey::generate(&parameters, &mut rng);
/// # let encryptor = SecretEncryptor::new(&parameters, &secret)?;
/// # let encoder = Encoder::new(&parameters);
/// # let x = encryptor.encrypt(&encoder.encode_real(&[1.0, 5.0], 2f64.powi(25), 1)?, &mut rng)?;
///
/// let scale = f64::from(parameters.modulus(1));
/// let term = |baby, factor| -> ckks::Result<LinearTerm> {
///     let plaintext = Diagonal::from(encoder.encode_periodic_real(&[factor], scale)?);
///     Ok(LinearTerm { giant: 0, baby, plaintext })
/// };
/// let map = LinearTransform::new(vec![term(0, 2.0)?, term(1, -1.0)?])?;
/// let request = EvaluationKeyRequest {
///     rotations: map.rotations().into_iter().map(|rotation| (rotation, 1)).collect(),
///     ..EvaluationKeyRequest::default()
/// };
/// let keys = KeyGenerator::new(&parameters, &secret)?.evaluation_keys(&request, &mut rng)?;
/// let y = Evaluator::new(&parameters).linear_transform_and_rescale(&x, &map, 1, &keys)?;
/// # let slots = encoder.decode(&Decryptor::new(&parameters, &secret)?.decrypt(&y)?);
/// assert!((slots[0].re + 3.0).abs() < 1e-2 && (slots[1].re - 10.0).abs() < 1e-2);
/// # Ok::<(), ckks::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LinearTransform {
    scale: f64,
    /// Ascending and distinct.
    pub(super) babies: Vec<i64>,
    /// Ascending by rotation; each with the index of the baby step and the plaintext of its terms.
    pub(super) giants: Vec<(i64, Vec<(usize, Diagonal)>)>,
    /// Giant steps are multiples of this one and are taken one after the other.
    pub(super) chain: Option<i64>,
}

impl LinearTransform {
    /// Sorts the terms by giant and baby step.
    ///
    /// # Errors
    /// [`Error::LinearMap`] if there are no terms, or their scales differ.
    pub fn new(terms: Vec<LinearTerm>) -> Result<Self> {
        let Some(first) = terms.first() else {
            return Err(Error::LinearMap("no terms were given".into()));
        };
        let scale = first.plaintext.scale();
        if let Some(other) = terms.iter().find(|t| t.plaintext.scale() != scale) {
            let (a, b) = (scale.log2(), other.plaintext.scale().log2());
            return Err(Error::LinearMap(format!(
                "terms at scales 2^{a:.6} and 2^{b:.6}; encode all at one"
            )));
        }
        let mut babies: Vec<i64> = terms.iter().map(|t| t.baby).collect();
        babies.sort_unstable();
        babies.dedup();
        let mut giants: Vec<(i64, Vec<(usize, Diagonal)>)> = Vec::new();
        for term in terms {
            let at = giants.partition_point(|(g, _)| *g < term.giant);
            if giants.get(at).is_none_or(|(g, _)| *g != term.giant) {
                giants.insert(at, (term.giant, Vec::new()));
            }
            let baby = babies.partition_point(|&b| b < term.baby);
            giants[at].1.push((baby, term.plaintext));
        }
        Ok(Self { scale, babies, giants, chain: None })
    }

    /// Takes the giant steps as a chain: with giants 0, g, 2 g .. the sum is u0 + rot_g(u1 + rot_g(u2 + ..)) (Horner). As many rotations,
    /// one key instead of one for each giant step, and their noise adds up.
    ///
    /// # Errors
    /// [`Error::LinearMap`] if `step` is not positive or a giant step is not a multiple of it.
    pub fn chained(mut self, step: i64) -> Result<Self> {
        if let Some((giant, _)) = self.giants.iter().find(|(g, _)| step <= 0 || *g < 0 || g % step != 0) {
            return Err(Error::LinearMap(format!(
                "giant step {giant} is not a multiple of the chain's {step}"
            )));
        }
        self.chain = Some(step);
        Ok(self)
    }

    /// Scale of the plaintexts.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Distinct rotations before the products.
    pub fn babies(&self) -> &[i64] {
        &self.babies
    }

    /// Distinct rotations after the products.
    pub fn giants(&self) -> Vec<i64> {
        self.giants.iter().map(|(g, _)| *g).collect()
    }

    /// All rotations that need a key.
    pub fn rotations(&self) -> Vec<i64> {
        let giants = match self.chain {
            Some(step) if self.giants.iter().any(|(g, _)| *g != 0) => vec![step],
            Some(_) => vec![],
            None => self.giants(),
        };
        let mut all: Vec<i64> = self.babies.iter().copied().chain(giants).filter(|&k| k != 0).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Plaintext products.
    pub fn terms(&self) -> usize {
        self.giants.iter().map(|(_, terms)| terms.len()).sum()
    }

    /// Bytes of the plaintexts in memory.
    pub fn bytes(&self) -> usize {
        self.giants.iter().flat_map(|(_, terms)| terms).map(|(_, p)| p.bytes()).sum()
    }
}
