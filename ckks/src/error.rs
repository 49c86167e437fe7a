//! Every way in which this library refuses: what was expected, what came, what to do about it.

/// The result of every fallible operation of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The ring degree lies outside what the security mode allows.
    #[error("ring degree 2^{given} is not offered: choose between 2^{least} and 2^{most}")]
    RingDegree {
        /// Base-two logarithm of the ring degree asked for.
        given: u32,
        /// Least logarithm offered.
        least: u32,
        /// Greatest logarithm offered.
        most: u32,
    },
    /// A list of moduli is empty or too long.
    #[error("{what}: {given} given, between {least} and {most} are possible")]
    Count {
        /// What was counted.
        what: &'static str,
        /// How many there were.
        given: usize,
        /// The least number possible.
        least: usize,
        /// The greatest number possible.
        most: usize,
    },
    /// A prime size does not fit one 32-bit limb or the ring degree.
    #[error(
        "a modulus of {bits} bits is not possible at this ring degree: choose between {least} and 30 bits"
    )]
    ModulusBits {
        /// Size asked for.
        bits: u32,
        /// Least size at this ring degree.
        least: u32,
    },
    /// The primes of one size have run out.
    #[error("no further prime near 2^{bits} is 1 modulo {step}: spread the moduli over more sizes")]
    PrimesExhausted {
        /// Size asked for.
        bits: u32,
        /// Twice the ring degree.
        step: u64,
    },
    /// The total modulus exceeds the security bound.
    #[error(
        "log2(QP) = {given:.1} bits of key modulus exceed the {bound} bits that keep {mode} at ring degree \
         2^{log_ring_degree}, by {excess:.1} bits: drop moduli or special primes, or double the ring degree"
    )]
    Insecure {
        /// Bits of the key modulus.
        given: f64,
        /// The bound.
        bound: u32,
        /// By how much the bound is exceeded.
        excess: f64,
        /// The security asked for.
        mode: &'static str,
        /// Base-two logarithm of the ring degree.
        log_ring_degree: u32,
    },
    /// The special primes are too few to switch keys at the top level.
    #[error(
        "{given} special primes are too few: at least {needed} are needed to switch keys over {limbs} limbs \
         in at most {max_digits} digits"
    )]
    SpecialPrimes {
        /// Special primes usable at the top level.
        given: usize,
        /// The least number.
        needed: usize,
        /// Limbs of the top level.
        limbs: usize,
        /// The greatest number of digits.
        max_digits: usize,
    },
    /// No parameters for so many levels at that precision.
    #[error(
        "no set of parameters with 128 bits of security has {depth} products one after the other and {precision_bits} bits after the \
         point: ask for fewer of either, or bootstrap"
    )]
    NoPreset {
        /// Products one after the other.
        depth: usize,
        /// Bits after the point.
        precision_bits: u32,
    },
    /// A level above what the object or the parameters have.
    #[error("{op} needs level {required}, but only level {available} is available")]
    Level {
        /// The operation.
        op: &'static str,
        /// Level needed.
        required: usize,
        /// Level there is.
        available: usize,
    },
    /// Two operands are at different levels.
    #[error("{op}: operands at levels {left} and {right}; drop the higher one to the lower level first")]
    LevelMismatch {
        /// The operation.
        op: &'static str,
        /// Level of the left operand.
        left: usize,
        /// Level of the right operand.
        right: usize,
    },
    /// Two operands carry different scales.
    #[error("{op}: operands at scales 2^{left_log2:.6} and 2^{right_log2:.6}; bring them to one scale first")]
    ScaleMismatch {
        /// The operation.
        op: &'static str,
        /// Scale of the left operand, as a power of two.
        left_log2: f64,
        /// Scale of the right operand, as a power of two.
        right_log2: f64,
    },
    /// A scale that is not a positive finite number, or does not fit the modulus.
    #[error("{op}: a scale of 2^{scale_log2:.2} does not fit a modulus of {modulus_log2:.1} bits")]
    Scale {
        /// The operation.
        op: &'static str,
        /// The scale, as a power of two.
        scale_log2: f64,
        /// The modulus at this level, in bits.
        modulus_log2: f64,
    },
    /// More values than slots, or a length that is not allowed.
    #[error("{given} values do not fit: {expected}")]
    Length {
        /// How many were given.
        given: usize,
        /// What is allowed.
        expected: String,
    },
    /// A value that cannot be encoded.
    #[error(
        "value {index} is not finite or too large for its scale: the encoded coefficient must stay below 2^{limit_log2}"
    )]
    Value {
        /// Index of the offending coefficient or slot.
        index: usize,
        /// Limit on encoded coefficients.
        limit_log2: u32,
    },
    /// A key that was not made.
    #[error("no {key} reaches level {level}: make it with the key generator for at least that level")]
    MissingKey {
        /// Which key.
        key: String,
        /// Level needed.
        level: usize,
    },
    /// Keys used together have different shapes.
    #[error(
        "the keys for rotations {rotations:?} share no key shape at level {level}: make them for levels of one tier"
    )]
    KeyShapes {
        /// The rotations used together.
        rotations: Vec<i64>,
        /// The ciphertext's level.
        level: usize,
    },
    /// An object belongs to other parameters.
    #[error("{what} was made for other parameters")]
    Parameters {
        /// Which object.
        what: &'static str,
    },
    /// A linear map without terms, or with terms of unequal scale or missing limbs.
    #[error("linear map: {0}")]
    LinearMap(String),
    /// Coefficients or an interval that make no polynomial.
    #[error("polynomial: {0}")]
    Polynomial(String),
    /// Bytes that are not a valid encoding.
    #[error("not a valid {what}: {why}")]
    Wire {
        /// What was being read.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A bootstrap that the parameters do not have, or whose numbers do not fit.
    #[error("bootstrap: {0}")]
    Bootstrap(String),
    /// A sparse secret that nothing says is secure.
    #[error(
        "a secret of weight {weight} at ring degree 2^{log_ring_degree} with a modulus of {modulus_log2:.1} bits: {expected}"
    )]
    SparseSecret {
        /// Nonzero coefficients.
        weight: usize,
        /// Base-two logarithm of the ring degree.
        log_ring_degree: u32,
        /// Bits of the modulus of the key under it.
        modulus_log2: f64,
        /// What is possible instead.
        expected: String,
    },
    /// Flooding that cannot be done.
    #[error(
        "no flooding hides noise of norm {noise_norm:e} in {queries} queries to {statistical_bits} bits: all three must be \
         positive and the deviation at most 2^56; ask for fewer queries or bits"
    )]
    Flooding {
        /// Euclidean norm of the noise to hide.
        noise_norm: f64,
        /// Decryptions under one key.
        queries: u64,
        /// Statistical security asked for.
        statistical_bits: u32,
    },
    /// Reading or writing failed.
    #[error("{what} could not be read or written: {why}")]
    Io {
        /// What was being read or written.
        what: &'static str,
        /// The message of the operating system.
        why: String,
    },
}
