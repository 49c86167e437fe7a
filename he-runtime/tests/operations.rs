//! What is traced is what is executed: operation by operation, layer by layer.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use he_model::zoo::{Architecture, Recipe, random, random_input};
use he_model::{HeModel, Offsets, PlanOptions, Preprocessing, Ranges, SecurityLevel, Shape, plan};
use he_runtime::client::{KeyBundle, encrypt};
use he_runtime::{Circuit, Server};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

fn model(recipe: &Recipe, options: &PlanOptions) -> HeModel {
    let graph = random(recipe, 2).unwrap();
    HeModel {
        plan: plan(&graph, options).unwrap(),
        labels: (0..recipe.labels).map(|i| format!("label {i}")).collect(),
        preprocessing: Preprocessing::unknown(64, recipe.input),
        ranges: Ranges::new(&graph),
        graph,
        offsets: Offsets::new(),
        notes: BTreeMap::new(),
    }
}

/// Every layer of a run counts what the trace says of it.
fn check(model: &HeModel) {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let spec = Circuit::new(model).unwrap().spec;
    let keys = KeyBundle::generate(&spec, &mut rng).unwrap();
    let latent = random_input(model.graph.input_shape(), 1);
    let encrypted = encrypt(&spec, &keys.client, &latent, &mut rng).unwrap();
    let server = Server::new(model, keys.server).unwrap();
    let (_, layers) = server.run(&encrypted, &mut |_| {}, &AtomicBool::new(false)).unwrap();
    let traced = &server.circuit().trace.layers;
    assert_eq!(layers.len(), traced.len());
    for (executed, traced) in layers.iter().zip(traced) {
        assert_eq!(executed.name, traced.name);
        assert_eq!(executed.operations, traced.operations, "{} of {:?}", traced.name, model.plan.packing);
    }
    // A network that does something in every way that is counted.
    let all = traced.iter().map(|layer| layer.operations);
    let sum = all.reduce(|mut sum, layer| {
        sum += layer;
        sum
    });
    let sum = sum.unwrap();
    let least = [sum.decompositions, sum.key_products, sum.divisions, sum.plaintext_products];
    assert!(least.iter().all(|n| *n > 10) && sum.ciphertext_products > 1 && sum.sums > 0, "{sum:?}");
}

#[test]
fn what_is_traced_is_what_is_executed() {
    use Architecture::{LeNet, ResNet};
    let options = |log_ring_degree| PlanOptions {
        log_ring_degree: Some(log_ring_degree),
        security: SecurityLevel::InsecureForTests,
        ..PlanOptions::default()
    };
    let recipe = |architecture, side, shrink, se| {
        let input = Shape::new(3, side, side);
        Recipe { architecture, input, labels: 5, se, post_add_activation: false, shrink }
    };
    for (recipe, options) in [
        (recipe(LeNet, 8, 8, false), PlanOptions { precise: Some(true), ..options(11) }),
        (recipe(LeNet, 16, 4, true), PlanOptions { precise: Some(false), ..options(11) }),
        (recipe(ResNet(20), 8, 8, false), PlanOptions { precise: Some(true), ..options(11) }),
        // On row copies, with wide stages, and with gates.
        (recipe(ResNet(20), 8, 2, false), PlanOptions { precise: Some(false), ..options(13) }),
        (recipe(ResNet(20), 8, 2, true), PlanOptions { precise: Some(false), ..options(13) }),
        // On several ciphertexts, and a batch.
        (recipe(ResNet(8), 16, 4, false), PlanOptions { precise: Some(false), ..options(10) }),
        (recipe(ResNet(20), 8, 8, true), PlanOptions { precise: Some(false), films: 2, ..options(12) }),
    ] {
        check(&model(&recipe, &options));
    }
}

#[test]
fn keys_of_few_tiers_and_digits_change_no_counts_but_those_traced() {
    let recipe = Recipe {
        architecture: Architecture::ResNet(20),
        input: Shape::new(3, 8, 8),
        labels: 5,
        se: false,
        post_add_activation: false,
        shrink: 2,
    };
    let options = PlanOptions {
        log_ring_degree: Some(12),
        security: SecurityLevel::InsecureForTests,
        precise: Some(false),
        ..PlanOptions::default()
    };
    let mut model = model(&recipe, &options);
    model.plan.ring.special_bits.truncate(10);
    model.plan.ring.skipped_tiers.clear();
    check(&model);
}
