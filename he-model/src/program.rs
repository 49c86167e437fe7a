//! The packed program: single-assignment instructions over vectors of slots.
//!
//! A program says what happens to slots; it knows no levels, scales or primes. [`crate::schedule`] assigns those,
//! and the interpreters of [`crate::interpret`] carry it out: in the clear, as a cost trace, or on ciphertexts.

use std::collections::{BTreeSet, HashMap};

use num_complex::Complex64;

use crate::layout::Layout;

/// Number of a value; value v is the result of instruction v.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId(pub u32);

impl ValueId {
    /// As an index.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Number of a plaintext in [`Program::plaintexts`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlainId(pub u32);

/// Slot values of a plaintext. They repeat with the period `values.len()`, a power of two: a plaintext of period p has
/// at most 2p nonzero coefficients, so a short period makes it small, quick to encode and precise.
#[derive(Debug, Clone, PartialEq)]
pub struct Plaintext {
    /// One period.
    pub values: Vec<Complex64>,
}

/// How a factor is scaled when it is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PlainScale {
    /// At 2^bits; another factor takes the rest.
    Bits(u32),
    /// At 2^bits, for a mask whose input waits for its rescaling.
    Waiting {
        /// Bits.
        bits: u32,
        /// Whether the input has half a prime more of scale, and the product is rescaled twice.
        wide: bool,
    },
    /// So that the result has the scale that its readers want.
    Fill,
}

/// One product of a linear map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Term {
    /// Which of the inputs.
    pub input: u32,
    /// Rotation of the input, left positive; 0 <= baby < slots.
    pub baby: u32,
    /// Rotation of the sum of the products that share it.
    pub giant: u32,
    /// The plaintext, multiplied between the two rotations.
    pub plain: PlainId,
}

/// How the giant steps of a linear map, or of several that share their inputs, are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GiantSteps {
    /// Each by a rotation of its own.
    Fan(BTreeSet<u32>),
    /// By `count` rotations by `step`, one after the other (Horner): one key.
    Chain {
        /// The rotation.
        step: u32,
        /// How often at most.
        count: usize,
    },
}

impl GiantSteps {
    /// A chain where the steps are multiples of the smallest one and most of the multiples occur.
    #[must_use]
    pub fn new(steps: impl IntoIterator<Item = u32>) -> Self {
        let steps: BTreeSet<u32> = steps.into_iter().filter(|g| *g != 0).collect();
        if let (Some(&step), Some(&last)) = (steps.first(), steps.last()) {
            let count = (last / step) as usize;
            if steps.len() > 1 && steps.iter().all(|g| g % step == 0) && 4 * steps.len() >= 3 * count {
                return Self::Chain { step, count };
            }
        }
        Self::Fan(steps)
    }

    /// Those of some terms.
    #[must_use]
    pub fn of<'a>(terms: impl IntoIterator<Item = &'a Term>) -> Self {
        Self::new(terms.into_iter().map(|t| t.giant))
    }

    /// The rotations that need a key.
    #[must_use]
    pub fn rotations(&self) -> Vec<u32> {
        match self {
            Self::Fan(steps) => steps.iter().copied().collect(),
            Self::Chain { step, .. } => vec![*step],
        }
    }

    /// Number of rotations for the sum of these terms, which are some of those that the steps were made from.
    #[must_use]
    pub fn count(&self, terms: &[Term]) -> usize {
        let giants: BTreeSet<u32> = terms.iter().map(|t| t.giant).filter(|g| *g != 0).collect();
        match self {
            Self::Fan(_) => giants.len(),
            Self::Chain { step, .. } => giants.last().map_or(0, |last| (last / step) as usize),
        }
    }
}

/// One instruction. Rotations are to the left and lie in `0..slots`.
#[derive(Debug, Clone, PartialEq)]
pub enum Instruction {
    /// The n-th ciphertext of the input.
    Input(usize),
    /// `sum over giants g of rotate_g(sum of plain * rotate_baby(input))`.
    Linear {
        /// The inputs, of one level and scale.
        inputs: Vec<ValueId>,
        /// The products.
        terms: Vec<Term>,
        /// Scale of the plaintexts.
        scale: PlainScale,
    },
    /// Product with a plaintext.
    MulPlain {
        /// Factor.
        input: ValueId,
        /// Factor.
        plain: PlainId,
        /// Scale of the plaintext.
        scale: PlainScale,
    },
    /// Product with one real number; its scale fills up what is missing.
    MulScalar {
        /// Factor.
        input: ValueId,
        /// Factor.
        value: f64,
    },
    /// Sum with a plaintext.
    AddPlain {
        /// Summand.
        input: ValueId,
        /// Summand.
        plain: PlainId,
    },
    /// Sum.
    Add(ValueId, ValueId),
    /// Difference.
    Sub(ValueId, ValueId),
    /// Rotation to the left.
    Rotate {
        /// What is rotated.
        input: ValueId,
        /// By how many slots.
        by: u32,
    },
    /// Sum of the rotations by 0, `step`, 2 `step` .. (`count` - 1) `step`, in rounds that multiply the summands by `radix`.
    SumRotations {
        /// What is rotated.
        input: ValueId,
        /// The smallest rotation.
        step: u32,
        /// Number of summands, a power of two.
        count: usize,
        /// 2 or 4: four is faster and needs a third key a round.
        radix: usize,
    },
    /// Rotation to the left, by 0 for none, and complex conjugation of every slot.
    Conjugate {
        /// What is rotated.
        input: ValueId,
        /// By how many slots.
        by: u32,
    },
    /// Product, relinearized. The second operand is the one whose scale is adapted.
    Mul(ValueId, ValueId),
    /// Square, relinearized.
    Square(ValueId),
    /// Division by the last prime: one level down.
    Rescale(ValueId),
}

/// The rotations of each round of [`Instruction::SumRotations`].
#[must_use]
pub fn rounds(step: u32, count: usize, radix: usize) -> Vec<Vec<u32>> {
    let (mut rounds, mut covered) = (vec![], 1usize);
    while covered < count {
        let factor = radix.max(2).min(count / covered);
        rounds.push((1..factor).map(|i| step * (covered * i) as u32).collect());
        covered *= factor;
    }
    rounds
}

impl Instruction {
    /// The values it reads, to be renamed.
    pub(crate) fn operands_mut(&mut self) -> Vec<&mut ValueId> {
        match self {
            Self::Input(_) => vec![],
            Self::Linear { inputs, .. } => inputs.iter_mut().collect(),
            Self::MulPlain { input, .. }
            | Self::MulScalar { input, .. }
            | Self::AddPlain { input, .. }
            | Self::Rotate { input, .. }
            | Self::SumRotations { input, .. }
            | Self::Conjugate { input, .. } => vec![input],
            Self::Square(a) | Self::Rescale(a) => vec![a],
            Self::Add(a, b) | Self::Sub(a, b) | Self::Mul(a, b) => vec![a, b],
        }
    }

    /// The values it reads.
    #[must_use]
    pub fn operands(&self) -> Vec<ValueId> {
        match self {
            Self::Input(_) => vec![],
            Self::Linear { inputs, .. } => inputs.clone(),
            Self::MulPlain { input, .. }
            | Self::MulScalar { input, .. }
            | Self::AddPlain { input, .. }
            | Self::Rotate { input, .. }
            | Self::SumRotations { input, .. }
            | Self::Conjugate { input, .. } => vec![*input],
            Self::Square(a) | Self::Rescale(a) => vec![*a],
            Self::Add(a, b) | Self::Sub(a, b) | Self::Mul(a, b) => vec![*a, *b],
        }
    }
}

/// A packed program.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {
    /// Slots of a ciphertext.
    pub slots: usize,
    /// The instructions; operands come first.
    pub instructions: Vec<Instruction>,
    /// For each instruction, its layer in `layers`.
    pub layer_of: Vec<u32>,
    /// Names of the layers: those of the graph's nodes.
    pub layers: Vec<String>,
    /// The plaintexts.
    pub plaintexts: Vec<Plaintext>,
    /// Where the input lies.
    pub input: Layout,
    /// Where the output lies.
    pub output: Layout,
    /// The output's ciphertexts.
    pub outputs: Vec<ValueId>,
    /// For each layer, where its result lies: values and layout, and the factor a channel that is still missing.
    pub results: Vec<LayerResult>,
}

/// Where the result of a graph node lies in the program.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerResult {
    /// Index in [`Program::layers`].
    pub layer: u32,
    /// Its ciphertexts.
    pub values: Vec<ValueId>,
    /// Its layout.
    pub layout: Layout,
    /// True value = factor x slot value, one a channel.
    pub factor: Vec<f64>,
}

impl LayerResult {
    /// The layer's tensor from the slots of its ciphertexts, that of the first film in a batch.
    ///
    /// # Panics
    /// If there are fewer ciphertexts or slots than the layout says.
    #[must_use]
    pub fn unpack(&self, slots: &[Vec<Complex64>]) -> Vec<f64> {
        self.unpack_film(slots, 0)
    }

    /// As [`LayerResult::unpack`], the tensor of film `film`.
    ///
    /// # Panics
    /// If there are fewer films, ciphertexts or slots than that.
    #[must_use]
    pub fn unpack_film(&self, slots: &[Vec<Complex64>], film: usize) -> Vec<f64> {
        let mut tensor = self.layout.unpack_film(slots, film);
        let positions = self.layout.shape().height * self.layout.shape().width;
        tensor.iter_mut().enumerate().for_each(|(i, v)| *v *= self.factor[i / positions]);
        tensor
    }
}

/// Plaintexts that repeat less than so many times a ciphertext are masks, which repeat from film to film; weights repeat row by row.
const LONG: usize = 8;

impl Program {
    /// Whether a plaintext is long enough to be kept transformed in full where several linear maps share it. The others are
    /// transformed on every run.
    #[must_use]
    pub fn is_long(&self, plain: PlainId) -> bool {
        self.plaintexts[plain.0 as usize].values.len() >= self.slots / LONG
    }

    /// For each instruction, whether its result is better left undivided: a linear map that is rotated or conjugated next, and
    /// sums of such. They are divided when something else reads them.
    #[must_use]
    pub fn undivided(&self) -> Vec<bool> {
        let mut moved = vec![false; self.instructions.len()];
        for instruction in &self.instructions {
            if let Instruction::Rotate { input, .. }
            | Instruction::SumRotations { input, .. }
            | Instruction::Conjugate { input, .. } = instruction
            {
                moved[input.index()] = true;
            }
        }
        let mut undivided = vec![false; self.instructions.len()];
        for (v, instruction) in self.instructions.iter().enumerate() {
            undivided[v] = match instruction {
                Instruction::Linear { .. } => moved[v],
                Instruction::Rotate { input, .. }
                | Instruction::SumRotations { input, .. }
                | Instruction::Conjugate { input, .. } => undivided[input.index()],
                Instruction::Add(a, b) => undivided[a.index()] && undivided[b.index()],
                _ => false,
            };
        }
        undivided
    }
}

/// Collects instructions; equal plaintexts are stored once.
#[derive(Debug)]
pub(crate) struct Builder {
    slots: usize,
    instructions: Vec<Instruction>,
    layer_of: Vec<u32>,
    layers: Vec<String>,
    plaintexts: Vec<Plaintext>,
    known: HashMap<[u8; 32], PlainId>,
    results: Vec<LayerResult>,
}

impl Builder {
    pub(crate) fn new(slots: usize) -> Self {
        let layers = vec!["input".to_owned()];
        let (instructions, layer_of, plaintexts) = (vec![], vec![], vec![]);
        Self { slots, instructions, layer_of, layers, plaintexts, known: HashMap::new(), results: vec![] }
    }

    /// Everything pushed from now on belongs to this layer.
    pub(crate) fn layer(&mut self, name: &str) {
        self.layers.push(name.to_owned());
    }

    pub(crate) fn push(&mut self, instruction: Instruction) -> ValueId {
        self.instructions.push(instruction);
        self.layer_of.push(self.layers.len() as u32 - 1);
        ValueId(self.instructions.len() as u32 - 1)
    }

    /// Notes where the result of the current layer lies.
    pub(crate) fn result(&mut self, values: &[ValueId], layout: Layout, factor: &[f64]) {
        let layer = self.layers.len() as u32 - 1;
        self.results.push(LayerResult { layer, values: values.to_vec(), layout, factor: factor.to_vec() });
    }

    /// Stores a plaintext at its shortest period, once.
    pub(crate) fn plain(&mut self, mut values: Vec<Complex64>) -> PlainId {
        while values.len() > 1 {
            let (first, second) = values.split_at(values.len() / 2);
            if first != second {
                break;
            }
            values.truncate(values.len() / 2);
        }
        let hash = hash(&values);
        let next = PlainId(self.plaintexts.len() as u32);
        let id = *self.known.entry(hash).or_insert(next);
        if id == next {
            self.plaintexts.push(Plaintext { values });
        }
        id
    }

    pub(crate) fn rotate(&mut self, input: ValueId, by: i64) -> ValueId {
        let by = by.rem_euclid(self.slots as i64) as u32;
        if by == 0 { input } else { self.push(Instruction::Rotate { input, by }) }
    }

    pub(crate) fn finish(self, input: Layout, output: Layout, outputs: Vec<ValueId>) -> Program {
        let Self { slots, instructions, layer_of, layers, plaintexts, results, .. } = self;
        Program { slots, instructions, layer_of, layers, plaintexts, input, output, outputs, results }
    }
}

/// Digest of the values, through a small buffer.
fn hash(values: &[Complex64]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = [0u8; 4096];
    for chunk in values.chunks(buffer.len() / 16) {
        for (bytes, v) in buffer.chunks_exact_mut(16).zip(chunk) {
            let (re, im) = bytes.split_at_mut(8);
            re.copy_from_slice(&v.re.to_le_bytes());
            im.copy_from_slice(&v.im.to_le_bytes());
        }
        hasher.update(&buffer[..16 * chunk.len()]);
    }
    *hasher.finalize().as_bytes()
}
