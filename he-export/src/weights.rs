//! Named tensors of a trained network, from memory or from a safetensors file.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use crate::ExportError;

/// A larger file is refused unread; ResNet56 takes 4 MB.
const MAX_BYTES: u64 = 2 << 30;

/// Tensors that a checkpoint may hold besides the weights: the state of its optimizer, and PyTorch's counters.
fn is_besides(name: &str) -> bool {
    name.starts_with("optimizer") || name.ends_with("num_batches_tracked")
}

/// Shape and values of each tensor, by name.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Weights {
    tensors: BTreeMap<String, (Vec<usize>, Vec<f64>)>,
}

impl From<BTreeMap<String, (Vec<usize>, Vec<f32>)>> for Weights {
    fn from(tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>) -> Self {
        let wide = |v: Vec<f32>| v.into_iter().map(f64::from).collect();
        Self { tensors: tensors.into_iter().map(|(n, (shape, v))| (n, (shape, wide(v)))).collect() }
    }
}

impl Weights {
    /// Reads all floating-point tensors of a safetensors file (f64, f32, f16 or bf16).
    ///
    /// # Errors
    /// A file that is missing, too large, cut short or damaged.
    pub fn read(path: &Path) -> Result<Self, ExportError> {
        let io = |source| ExportError::Io { path: path.into(), source };
        let size = fs::metadata(path).map_err(io)?.len();
        if size > MAX_BYTES {
            let reason = format!("it has {size} bytes, more than any classifier needs");
            return Err(ExportError::Malformed { path: path.into(), reason });
        }
        let bytes = fs::read(path).map_err(io)?;
        Self::from_bytes(&bytes).map_err(|reason| ExportError::Malformed { path: path.into(), reason })
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let file = SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
        let mut weights = Self::default();
        for (name, view) in file.tensors() {
            if !is_besides(&name) {
                let values = floats(&view).ok_or_else(|| format!("tensor `{name}` is {:?}", view.dtype()))?;
                weights.insert(name, view.shape().to_vec(), values);
            }
        }
        Ok(weights)
    }

    /// Adds or replaces a tensor.
    pub fn insert(&mut self, name: impl Into<String>, shape: Vec<usize>, values: Vec<f64>) {
        self.tensors.insert(name.into(), (shape, values));
    }

    /// Takes a tensor out.
    pub fn remove(&mut self, name: &str) -> Option<(Vec<usize>, Vec<f64>)> {
        self.tensors.remove(name)
    }

    /// All tensors by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[usize], &[f64])> {
        self.tensors
            .iter()
            .map(|(name, (shape, values))| (name.as_str(), shape.as_slice(), values.as_slice()))
    }
}

/// Hands tensors out, checked, and remembers which were asked for.
pub(crate) struct Reader<'a> {
    weights: &'a Weights,
    architecture: &'a str,
    read: BTreeSet<String>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(weights: &'a Weights, architecture: &'a str) -> Self {
        Self { weights, architecture, read: BTreeSet::new() }
    }

    /// The values of a tensor of the given shape.
    pub(crate) fn get(&mut self, name: &str, expected: &[usize]) -> Result<Vec<f64>, ExportError> {
        let architecture = || self.architecture.to_owned();
        let Some((shape, values)) = self.weights.tensors.get(name) else {
            let (name, shape) = (name.to_owned(), expected.to_vec());
            return Err(ExportError::MissingTensor { name, shape, architecture: architecture() });
        };
        if shape != expected || values.len() != expected.iter().product::<usize>() {
            let (name, expected, got) = (name.to_owned(), expected.to_vec(), shape.clone());
            return Err(ExportError::WrongShape { name, expected, got, architecture: architecture() });
        }
        if let Some(value) = values.iter().find(|v| !v.is_finite()) {
            return Err(ExportError::BadValue { name: name.to_owned(), value: *value });
        }
        self.read.insert(name.to_owned());
        Ok(values.clone())
    }

    /// Refuses tensors that nobody asked for.
    pub(crate) fn finish(self) -> Result<(), ExportError> {
        let unknown = self.weights.tensors.keys().find(|n| !self.read.contains(*n) && !is_besides(n));
        match unknown {
            Some(name) => {
                let architecture = self.architecture.to_owned();
                Err(ExportError::UnknownTensor { name: name.clone(), architecture })
            }
            None => Ok(()),
        }
    }
}

fn floats(view: &TensorView<'_>) -> Option<Vec<f64>> {
    let bytes = view.data();
    Some(match view.dtype() {
        Dtype::F64 => numbers(bytes, f64::from_le_bytes),
        Dtype::F32 => numbers(bytes, |b| f64::from(f32::from_le_bytes(b))),
        Dtype::BF16 => numbers(bytes, |b| bf16::from_le_bytes(b).to_f64()),
        Dtype::F16 => numbers(bytes, |b| f16::from_le_bytes(b).to_f64()),
        // Counters and the like carry no weight.
        Dtype::I64 | Dtype::I32 | Dtype::U8 | Dtype::BOOL => vec![],
        _ => return None,
    })
}

fn numbers<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> f64) -> Vec<f64> {
    bytes.as_chunks().0.iter().map(|chunk| read(*chunk)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_float_type_is_read_and_a_cut_file_refused() {
        let f32s = 1.5f32.to_le_bytes();
        let bf16 = [0xc0, 0x3f];
        // 1/3 to eleven bits, and the smallest number of all.
        let f16 = [0x55, 0x35, 0x01, 0x00];
        let views = vec![
            ("a", TensorView::new(Dtype::F32, vec![1], &f32s).unwrap()),
            ("b", TensorView::new(Dtype::BF16, vec![1, 1], &bf16).unwrap()),
            ("c", TensorView::new(Dtype::F16, vec![2], &f16).unwrap()),
            ("optimizer.step", TensorView::new(Dtype::F32, vec![], &f32s).unwrap()),
        ];
        let bytes = safetensors::serialize(views, None).unwrap();
        let weights = Weights::from_bytes(&bytes).unwrap();
        let all: Vec<_> = weights.iter().collect();
        let halves = [0.333_251_953_125, 2f64.powi(-24)];
        let expected = vec![("a", &[1][..], &[1.5][..]), ("b", &[1, 1], &[1.5]), ("c", &[2], &halves)];
        assert_eq!(all, expected);
        assert!(Weights::from_bytes(&bytes[..bytes.len() - 1]).is_err());
        assert!(matches!(Weights::read(Path::new("no/such.safetensors")), Err(ExportError::Io { .. })));
    }
}
