//! What the planner says where a network does not fit.

#![allow(clippy::unwrap_used)]

use he_model::program::Instruction;
use he_model::zoo::{Architecture, Recipe, random};
use he_model::{Graph, ModelError, PlanOptions, Shape, ValueId, plan};

fn gated(depth: usize) -> Graph {
    let input = Shape::new(4, 32, 32);
    let architecture = Architecture::ResNet(depth);
    let recipe = Recipe { architecture, input, labels: 14, se: true, post_add_activation: false, shrink: 1 };
    random(&recipe, 1).unwrap()
}

#[test]
fn the_first_layer_without_a_level_is_named() {
    for (depth, least) in [(44, 21 * 6), (56, 27 * 6)] {
        let graph = gated(depth);
        let error = plan(&graph, &PlanOptions::default()).unwrap_err();
        let text = error.to_string();
        let ModelError::Levels { layer, levels, needed, bits, bound, log_ring_degree, larger } = error else {
            panic!("{text}")
        };
        assert_eq!((log_ring_degree, bound, larger), (17, 3523, None), "{text}");
        assert!(needed > least && needed > levels, "{text}");
        assert!(bits > bound && bits as usize >= 30 * needed, "{text}");
        // Everything before the layer fits, and it is a late one.
        assert!(layer.starts_with("layer3.") || layer.starts_with("layer2."), "{text}");
        assert!(graph.nodes().iter().any(|n| n.name() == layer), "{text}");
        assert!(text.contains(&layer) && text.contains("fewer blocks"), "{text}");
    }
}

/// There are levels for it, but keys of several digits: the budget that would do is named, not levels.
#[test]
fn a_budget_for_keys_that_would_do_is_named() {
    let options = PlanOptions { log_ring_degree: Some(17), precise: Some(false), ..PlanOptions::default() };
    let recipe = Recipe {
        architecture: Architecture::ResNet(56),
        input: Shape::new(4, 32, 32),
        labels: 14,
        se: false,
        post_add_activation: false,
        shrink: 1,
    };
    let error = plan(&random(&recipe, 1).unwrap(), &options).unwrap_err();
    let ModelError::KeyBudget { needed, budget } = error else { panic!("{error}") };
    assert!(budget == 4096 && needed > 4096, "{error}");
}

/// Found with trained gates: masks of 9 bits and means of 11 swamped them, where random weights had hidden it.
#[test]
fn no_plaintext_is_left_with_few_bits() {
    use Architecture::{HefNet, ResNet, VggNet};
    for (architecture, shrink) in [(HefNet, 2), (VggNet, 2), (ResNet(8), 4)] {
        let input = Shape::new(3, 16, 16);
        let recipe = Recipe { architecture, input, labels: 8, se: true, post_add_activation: false, shrink };
        let graph = random(&recipe, 1).unwrap();
        for precise in [false, true] {
            let options = PlanOptions { precise: Some(precise), ..PlanOptions::default() };
            let plan = plan(&graph, &options).unwrap();
            let program = plan.program(&graph).unwrap();
            let primes: Vec<f64> = plan.ring.modulus_bits.iter().map(|b| f64::from(*b).exp2()).collect();
            let schedule = plan.schedule(&program, &primes).unwrap();
            // With a prime each, masks and weights have nearly all of its bits; otherwise they share one.
            let least = if precise { 25.0 } else { 13.0 };
            for (v, instruction) in program.instructions().iter().enumerate() {
                let multiplies =
                    matches!(instruction, Instruction::Linear { .. } | Instruction::MulPlain { .. });
                let bits = schedule.steps[v].plain_scale.log2();
                let layer = program.layer_name(ValueId(v as u32));
                assert!(!multiplies || bits >= least, "{layer} of {}: {bits} bits", architecture.name());
            }
        }
    }
}

#[test]
fn a_larger_ring_is_recommended_where_there_is_one() {
    let options = PlanOptions { log_ring_degree: Some(15), precise: Some(false), ..PlanOptions::default() };
    let input = Shape::new(4, 8, 8);
    let architecture = Architecture::ResNet(20);
    let recipe = Recipe { architecture, input, labels: 2, se: false, post_add_activation: false, shrink: 4 };
    let error = plan(&random(&recipe, 1).unwrap(), &options).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, ModelError::Levels { larger: Some(16), log_ring_degree: 15, .. }), "{text}");
}
