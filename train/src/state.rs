//! The weights of a module as named tensors, in the names and layouts of PyTorch.
//!
//! Normalisation layers say `weight` and `bias`, linear layers are `[out, in]`, enum variants leave no trace in a name:
//! what `state_dict()` of the same network in PyTorch would hold.

use std::collections::BTreeMap;

use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::{Device, Tensor, TensorData},
};
use burn_store::{BurnToPyTorchAdapter, ModuleSnapshot, PyTorchToBurnAdapter, bridge};

/// Named f32 tensors: shape and values.
pub type State = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// The first value that is no number or infinite, and the name of its tensor.
pub(crate) fn not_finite(state: &State) -> Option<(&str, f32)> {
    state.iter().find_map(|(name, (_, values))| {
        values.iter().find(|value| !value.is_finite()).map(|&value| (name.as_str(), value))
    })
}

/// The same tensors under names that begin with `prefix`.
pub(crate) fn prefixed(prefix: &str, state: State) -> impl Iterator<Item = (String, (Vec<usize>, Vec<f32>))> {
    state.into_iter().map(move |(name, tensor)| (format!("{prefix}{name}"), tensor))
}

/// All floating-point parameters and buffers of a module.
pub fn collect<M: Module>(module: &M) -> State {
    // `valid` folds pending running statistics into their values.
    let tensors = module.valid().collect(None, Some(Box::new(BurnToPyTorchAdapter)), true);
    tensors
        .into_iter()
        .filter_map(|tensor| {
            let name = tensor.name.clone();
            let data = bridge::into_data(tensor).ok()?;
            let shape = data.shape().to_vec();
            Some((name, (shape, data.iter::<f32>().collect())))
        })
        .collect()
}

/// The module with the weights of `state`; tensors that the module does not have are ignored.
///
/// # Errors
///
/// Says which parameter is missing or has another shape.
pub fn apply<M: Module>(mut module: M, state: &State) -> Result<M, String> {
    let expected = collect(&module);
    for (name, (shape, _)) in &expected {
        match state.get(name) {
            None => return Err(format!("it has no tensor {name:?}, which the configuration asks for")),
            Some((found, _)) if found != shape => {
                return Err(format!("tensor {name:?}: expected shape {shape:?}, found {found:?}"));
            }
            Some(_) => {}
        }
    }
    let tensors = expected
        .keys()
        .filter_map(|name| {
            let (shape, values) = state.get(name)?;
            let data = TensorData::new(values.clone(), shape.clone());
            Some(bridge::from_data(data, name.clone(), None))
        })
        .collect();
    let result = module.apply(tensors, None, Some(Box::new(PyTorchToBurnAdapter)), true);
    match (result.errors.first(), result.missing.first()) {
        (Some(error), _) => Err(error.to_string()),
        (None, Some((name, _))) => Err(format!("it has no tensor for {name:?}")),
        (None, None) => Ok(module),
    }
}

/// Builds a module whose random weights depend on `seed` alone.
///
/// Burn's random state is global to the process, so builders take turns, and the weights, which Burn draws
/// when they are first looked at, are looked at here.
///
/// # Errors
///
/// As `build`.
pub fn seeded<M: Module, E>(
    device: &Device,
    seed: u64,
    build: impl FnOnce() -> Result<M, E>,
) -> Result<M, E> {
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    device.seed(seed);
    let module = build()?;
    module.visit(&mut Touch);
    Ok(module)
}

struct Touch;

impl ModuleVisitor for Touch {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let _ = param.val();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};

    #[derive(Module, Debug)]
    struct Small {
        bn: BatchNorm,
        fc: Linear,
    }

    fn small(seed: u64) -> Small {
        let device = Device::flex();
        let bn = || BatchNormConfig::new(3).init(&device);
        let fc = || LinearConfig::new(3, 2).init(&device);
        seeded(&device, seed, || Ok::<_, ()>(Small { bn: bn(), fc: fc() })).unwrap()
    }

    #[test]
    fn names_and_layouts_are_those_of_pytorch_and_come_back() {
        let module = small(1);
        let state = collect(&module);
        let names = state.keys().map(String::as_str).collect::<Vec<_>>();
        assert_eq!(
            names,
            ["bn.bias", "bn.running_mean", "bn.running_var", "bn.weight", "fc.bias", "fc.weight"]
        );
        assert_eq!(state["fc.weight"].0, [2, 3]);
        let other = apply(small(2), &state).unwrap();
        assert_eq!(collect(&other), state);
        assert_eq!(collect(&small(1)), state);
        assert_ne!(collect(&small(2)), state);
    }

    #[test]
    fn another_architecture_is_refused_by_name() {
        let mut state = collect(&small(1));
        if let Some((shape, values)) = state.get_mut("fc.weight") {
            *shape = vec![4, 3];
            values.resize(12, 0.0);
        }
        assert!(
            apply(small(1), &state)
                .unwrap_err()
                .contains("\"fc.weight\": expected shape [2, 3], found [4, 3]")
        );
        state.remove("bn.weight");
        assert!(apply(small(1), &state).unwrap_err().contains("\"bn.weight\""));
    }
}
