//! A trained network without training: random weights, random statistics, in Burn and as named tensors.
#![allow(dead_code, clippy::unwrap_used)] // each test file uses a part

use std::collections::BTreeMap;

use burn::{
    store::{BurnToPyTorchAdapter, ModuleSnapshot, PyTorchToBurnAdapter, SafetensorsStore},
    tensor::{Device, Tensor, TensorData},
};
use classifier::{Architecture, Classifier, ClassifierConfig};
use he_export::Weights;
use he_model::zoo::random_input;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

pub type State = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

pub fn small(architecture: Architecture) -> ClassifierConfig {
    let plain = matches!(architecture, Architecture::VggNet | Architecture::HefNet);
    let side = if plain { 16 } else { 8 };
    let mut config = ClassifierConfig::new(architecture, [3, side, side], 4);
    config.width_divisor = if plain { 4 } else { 8 };
    config.se_reduction = 4;
    config
}

/// A network with statistics and coefficients as training would leave them, and its tensors.
pub fn trained(config: &ClassifierConfig, seed: u64) -> (Classifier, State) {
    let device = Device::flex();
    let mut model = Classifier::from_config(config, &device).unwrap();
    let mut store = SafetensorsStore::from_bytes(None).with_to_adapter(BurnToPyTorchAdapter);
    model.save_into(&mut store).unwrap();
    let mut state = read(&store.get_bytes().unwrap());
    for (i, (name, (_, values))) in state.iter_mut().enumerate() {
        let shape = he_model::Shape::vector(values.len());
        let noise = random_input(shape, seed + i as u64);
        let normalization = name.contains("bn") || name.contains(".bn.");
        for (v, r) in values.iter_mut().zip(noise) {
            let r = r as f32;
            *v = match name.rsplit('.').next() {
                Some("coefficients") => *v * (1.0 + 0.2 * r) + if *v == 0.0 { 0.01 * r } else { 0.0 },
                Some("running_var") => 1.0 + 0.5 * r,
                Some("weight") if normalization => 1.0 + 0.3 * r,
                Some("weight" | "bias") if !normalization => *v,
                _ => 0.2 * r,
            };
        }
    }
    let mut store = SafetensorsStore::from_bytes(Some(bytes(&state))).with_from_adapter(PyTorchToBurnAdapter);
    model.load_from(&mut store).unwrap();
    (model, state)
}

pub fn weights(state: &State) -> Weights {
    Weights::from(state.clone())
}

/// Logits of one latent as Burn computes them.
pub fn burn_logits(model: &Classifier, config: &ClassifierConfig, latent: &[f32]) -> Vec<f64> {
    let [c, h, w] = config.latent;
    let x = Tensor::<4>::from_data(TensorData::new(latent.to_vec(), [1, c, h, w]), &Device::flex());
    model.forward(x).into_data().iter::<f32>().map(f64::from).collect()
}

pub fn latent(config: &ClassifierConfig, seed: u64) -> Vec<f32> {
    let [c, h, w] = config.latent;
    random_input(he_model::Shape::new(c, h, w), seed).into_iter().map(|v| v as f32).collect()
}

pub fn bytes(state: &State) -> Vec<u8> {
    let data: Vec<(String, Vec<usize>, Vec<u8>)> = state
        .iter()
        .map(|(n, (s, v))| (n.clone(), s.clone(), v.iter().flat_map(|x| x.to_le_bytes()).collect()))
        .collect();
    let views = data.iter().map(|(n, s, d)| (n, TensorView::new(Dtype::F32, s.clone(), d).unwrap()));
    safetensors::serialize(views, None).unwrap()
}

fn read(bytes: &[u8]) -> State {
    let file = SafeTensors::deserialize(bytes).unwrap();
    let values = |v: &TensorView<'_>| -> Vec<f32> {
        v.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    };
    file.tensors().into_iter().map(|(n, v)| (n, (v.shape().to_vec(), values(&v)))).collect()
}

pub fn close(what: &str, a: &[f64], b: &[f64], tolerance: f64) {
    assert_eq!(a.len(), b.len(), "{what}");
    let size = a.iter().fold(1.0f64, |m, v| m.max(v.abs()));
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() <= tolerance * size, "{what}: {a} against {b}");
    }
}
