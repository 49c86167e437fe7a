//! VQGANs in the layout of taming-transformers, whose names are those of this workspace already.
//!
//! Wrappers and larger networks put something before every name (`module.`, `_orig_mod.`, `first_stage_model.`, or the key of a
//! dictionary): what stands before the first convolution of the encoder is dropped everywhere. Below it the file must
//! hold the configured network, no less and no more; what belongs to training alone is left out.
//!
//! What a film of one channel needs and a network of three has is folded: `conv_in` summed over its inputs is exact for a grey film
//! given three times, and `conv_out` averaged over its outputs is the grey of what it would paint.

use std::path::Path;

use serde_json::{Value, json};
use vqgan::{Vqgan, VqganConfig};

use super::read_pytorch;
use crate::{
    Config, Result, Session,
    checkpoint::{Checkpoint, Kind, refusal},
    state::{State, apply, collect, not_finite, seeded},
};

/// The tensor by which a VQGAN is found in a file.
const ANCHOR: &str = "encoder.conv_in.weight";
/// What a VQGAN consists of; a file may hold other networks (discriminator, perceptual distance) beside it.
const PARTS: [&str; 5] = ["encoder.", "decoder.", "quantize.", "quant_conv.", "post_quant_conv."];
/// How often and by which vectors codes were chosen: codebooks that follow averages keep it for their training.
const OF_TRAINING: [&str; 2] = [".cluster_size", ".embed_avg"];

const DESCRIBE: &str =
    "describe the network of the file in [vqgan.model]: width, multipliers, blocks, attention, codes";

/// The weights of a VQGAN of the given shape from a PyTorch file; other networks beside it are left out.
///
/// # Errors
///
/// As [`read_pytorch`], or a tensor is missing, superfluous, not finite, or has another shape than the configuration asks for.
pub fn read_vqgan(path: &Path, config: &VqganConfig) -> Result<Vqgan> {
    let refuse = |problem| refusal(path, problem, DESCRIBE);
    let mut state = network_of(read_pytorch(path)?).map_err(refuse)?;
    to_grey(&mut state);
    let device = burn::tensor::Device::flex();
    // As `load_vqgan`: builders take turns.
    let net = seeded(&device, 0, || config.init(&device))?;
    check_names(&collect(&net), &state).map_err(refuse)?;
    if let Some((name, value)) = not_finite(&state) {
        let problem = format!("tensor {name:?} holds {value}: the training that made it went wrong");
        return Err(refusal(path, problem, "take an earlier checkpoint of that training"));
    }
    apply(net, &state).map_err(refuse)
}

/// The tensors of the VQGAN, without what stands before their names.
fn network_of(state: State) -> std::result::Result<State, String> {
    let before = state.keys().filter_map(|name| name.strip_suffix(ANCHOR));
    let mut prefixes = before.filter(|prefix| prefix.is_empty() || prefix.ends_with('.')).collect::<Vec<_>>();
    prefixes.sort_by_key(|prefix| prefix.len());
    let prefix = match prefixes[..] {
        [] => {
            return Err(format!(
                "it has no tensor {ANCHOR:?}, whatever stands before it; {}",
                names_of(&state)
            ));
        }
        [first, second, ..] if first.len() == second.len() => {
            return Err(format!("it has two networks, under {first:?} and {second:?}"));
        }
        [first, ..] => first.to_owned(),
    };
    let part = |name: String| {
        let name = name.strip_prefix(&prefix)?;
        let wanted = PARTS.iter().any(|part| name.starts_with(part));
        let of_training = OF_TRAINING.iter().any(|end| name.ends_with(end));
        (wanted && !of_training).then(|| name.to_owned())
    };
    Ok(state.into_iter().filter_map(|(name, tensor)| Some((part(name)?, tensor))).collect())
}

/// Refuses what is missing and what nothing asks for.
fn check_names(expected: &State, found: &State) -> std::result::Result<(), String> {
    if let Some(missing) = expected.keys().find(|name| !found.contains_key(*name)) {
        let names = names_of(found);
        return Err(format!("it has no tensor {missing:?}, which the configuration asks for; {names}"));
    }
    match found.keys().find(|name| !expected.contains_key(*name)) {
        Some(extra) => Err(format!("it has a tensor {extra:?} that the configured network has no place for")),
        None => Ok(()),
    }
}

/// The first names of a file, for a message.
fn names_of(state: &State) -> String {
    const SHOWN: usize = 6;
    let first = state.keys().take(SHOWN).map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    match state.len().saturating_sub(SHOWN) {
        0 => format!("it has {first}"),
        rest => format!("it has {first} and {rest} more"),
    }
}

/// Sums or averages a convolution of three colours to one of grey; any other tensor is left alone.
fn to_grey(state: &mut State) {
    if let Some((shape, values)) = state.get_mut("encoder.conv_in.weight")
        && let [out, 3, height, width] = shape[..]
    {
        let window = height * width;
        *values = values
            .chunks_exact(3 * window)
            .flat_map(|colours| (0..window).map(|i| (0..3).map(|c| colours[c * window + i]).sum()))
            .collect();
        *shape = vec![out, 1, height, width];
    }
    for name in ["decoder.conv_out.weight", "decoder.conv_out.bias"] {
        if let Some((shape, values)) = state.get_mut(name)
            && shape.first() == Some(&3)
        {
            let one = values.len() / 3;
            *values = (0..one).map(|i| (0..3).map(|c| values[c * one + i]).sum::<f32>() / 3.0).collect();
            shape[0] = 1;
        }
    }
}

/// Reads a PyTorch VQGAN and writes it as the VQGAN of a run, where the later stages look for it.
///
/// # Errors
///
/// As [`read_vqgan`], the configuration cannot be used, or the run has a VQGAN already.
pub fn import_vqgan(config: &Config, session: &Session<'_>, path: &Path) -> Result<String> {
    config.validate()?;
    let net = read_vqgan(path, &config.vqgan.model)?;
    let target = session.vqgan_model();
    if target.exists() {
        let advice = "choose another run folder, or remove that file";
        return Err(refusal(&target, "the run has a VQGAN already".into(), advice));
    }
    session.write_config(config)?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let checkpoint = Checkpoint {
        kind: Kind::Vqgan,
        model: json!(config.vqgan.model),
        run: json!(config),
        extra: json!({ "imported_from": name.map_or(Value::Null, Value::String) }),
        tensors: collect(&net),
    };
    checkpoint.save(&target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_become_grey() {
        let mut state = State::new();
        state.insert("encoder.conv_in.weight".into(), (vec![1, 3, 1, 2], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
        state.insert("decoder.conv_out.bias".into(), (vec![3], vec![1.0, 2.0, 6.0]));
        state.insert("decoder.conv_out.weight".into(), (vec![3, 1, 1, 1], vec![0.0, 3.0, 6.0]));
        to_grey(&mut state);
        assert_eq!(state["encoder.conv_in.weight"], (vec![1, 1, 1, 2], vec![9.0, 12.0]));
        assert_eq!(state["decoder.conv_out.bias"], (vec![1], vec![3.0]));
        assert_eq!(state["decoder.conv_out.weight"], (vec![1, 1, 1, 1], vec![3.0]));
        let grey = state.clone();
        to_grey(&mut state);
        assert_eq!(state, grey);
    }

    fn named(names: &[&str]) -> State {
        names.iter().map(|name| ((*name).to_owned(), (vec![1], vec![0.5]))).collect()
    }

    #[test]
    fn a_network_is_found_below_what_stands_before_it() {
        let prefixes = ["", "module.", "_orig_mod.module.", "first_stage_model.", "net.ema."];
        for prefix in prefixes {
            let names =
                [ANCHOR, "quantize.embedding.weight", "quantize.cluster_size", "loss.discriminator.weight"];
            let names = names.map(|name| format!("{prefix}{name}"));
            let mut state = named(&names.each_ref().map(String::as_str));
            state.extend(named(&[
                "model.diffusion_model.out.weight",
                "a_moving_average_of_it_all.encoder.conv_in.weight",
            ]));
            let found = network_of(state).unwrap();
            assert_eq!(found.keys().collect::<Vec<_>>(), [ANCHOR, "quantize.embedding.weight"], "{prefix}");
        }
        let two = network_of(named(&["a.encoder.conv_in.weight", "b.encoder.conv_in.weight"])).unwrap_err();
        assert!(two.contains("\"a.\"") && two.contains("\"b.\""), "{two}");
        let none = network_of(named(&["layer1.weight", "my_encoder.conv_in.weight"])).unwrap_err();
        assert!(none.contains("\"layer1.weight\""), "{none}");
    }

    #[test]
    fn what_is_missing_or_superfluous_is_named() {
        let expected = named(&["encoder.a", "encoder.b"]);
        let missing = check_names(&expected, &named(&["encoder.a"])).unwrap_err();
        assert!(missing.contains("\"encoder.b\"") && missing.contains("it has \"encoder.a\""), "{missing}");
        let extra = check_names(&expected, &named(&["encoder.a", "encoder.b", "encoder.c"])).unwrap_err();
        assert!(extra.contains("\"encoder.c\""), "{extra}");
    }
}
