//! Linear layers with nothing between them multiply out.

use he_model::{GraphLiteral, Linear, Op, Shape};

use super::literal::{bypass, is_only_reader};

/// `W2 (W1 x + b1) + b2 = (W2 W1) x + (W2 b1 + b2)`.
pub(super) fn merge(g: &mut GraphLiteral, shapes: &[Shape]) -> bool {
    for i in 1..g.nodes.len() {
        let before = g.nodes[i].inputs[0].0;
        let (Op::Linear(second), Op::Linear(first)) = (&g.nodes[i].op, &g.nodes[before].op) else { continue };
        if !is_only_reader(g, before, i) {
            continue;
        }
        let inputs = shapes[g.nodes[before].inputs[0].0].len();
        let mut merged = Linear {
            outputs: second.outputs,
            weight: vec![0.0; second.outputs * inputs],
            bias: second.bias.clone(),
        };
        for o in 0..second.outputs {
            for k in 0..first.outputs {
                let w = second.weight[o * first.outputs + k];
                merged.bias[o] += w * first.bias[k];
                let row = &first.weight[k * inputs..][..inputs];
                merged.weight[o * inputs..][..inputs].iter_mut().zip(row).for_each(|(m, f)| *m += w * f);
            }
        }
        g.nodes[i].op = Op::Linear(merged);
        bypass(g, before);
        return true;
    }
    false
}

#[cfg(test)]
mod tests {
    use he_model::{Graph, NodeId};

    use super::super::fold;
    use super::*;

    #[test]
    fn three_layers_become_one() {
        let numbers = |n: usize, seed| he_model::zoo::random_input(Shape::vector(n), seed);
        let linear = |i: usize, o: usize| {
            Op::Linear(Linear { outputs: o, weight: numbers(i * o, 1), bias: numbers(o, 2) })
        };
        let mut g = GraphLiteral::new(Shape::new(2, 3, 3));
        let a = g.push("a", linear(18, 7), &[NodeId(0)]);
        let b = g.push("b", linear(7, 9), &[a]);
        let c = g.push("c", linear(9, 4), &[b]);
        let graph = Graph::new(g.finish(c)).unwrap();
        let (after, folds) = fold(&graph).unwrap();
        assert_eq!(after.nodes().len(), 2);
        assert_eq!(folds.applied, vec![("two linear layers into one".to_owned(), 2)]);
        let x = numbers(18, 3);
        for (a, b) in graph.run(&x).unwrap().iter().zip(after.run(&x).unwrap()) {
            assert!((a - b).abs() < 1e-12);
        }
    }
}
