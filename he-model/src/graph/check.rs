//! From literal to graph: names, order, operands, shapes and array lengths.

use std::collections::HashSet;

use networks::Window;

use super::{Bias, Conv2d, GraphLiteral, Node, NodeId, NodeLiteral, Op, Shape};
use crate::GraphError;

pub(super) fn check(literal: GraphLiteral) -> Result<(Vec<Node>, NodeId), GraphError> {
    if literal.nodes.is_empty() {
        return Err(GraphError::Empty);
    }
    let mut names = HashSet::new();
    let mut nodes: Vec<Node> = Vec::with_capacity(literal.nodes.len());
    for (index, node) in literal.nodes.into_iter().enumerate() {
        if node.name.is_empty() {
            return Err(GraphError::Unnamed { index });
        }
        if !names.insert(node.name.clone()) {
            return Err(GraphError::DuplicateName { name: node.name });
        }
        let shape = shape_of(&node, index, &nodes)?;
        finite(&node)?;
        nodes.push(Node { literal: node, shape });
    }
    if literal.output.0 >= nodes.len() {
        return Err(GraphError::NoOutput { output: literal.output.0, nodes: nodes.len() });
    }
    Ok((nodes, literal.output))
}

fn shape_of(node: &NodeLiteral, index: usize, before: &[Node]) -> Result<Shape, GraphError> {
    let name = || node.name.clone();
    let kind = node.op.kind();
    if let Some(late) = node.inputs.iter().find(|i| i.0 >= index) {
        return Err(GraphError::NotBefore { node: name(), input: late.0 });
    }
    if node.inputs.len() != node.op.operands() {
        let (expected, got) = (node.op.operands(), node.inputs.len());
        return Err(GraphError::Operands { node: name(), kind, expected, got });
    }
    if matches!(node.op, Op::Input { .. }) != (index == 0) {
        return Err(GraphError::InputPosition { node: name() });
    }
    let operand = |k: usize| before[node.inputs[k].0].shape;
    let refuse = |reason: String| {
        let input = node.inputs.first().map_or(Shape::new(0, 0, 0), |i| before[i.0].shape);
        Err(GraphError::Shape { node: name(), kind, input, reason })
    };
    let shape = match &node.op {
        Op::Input { shape } => *shape,
        Op::Conv2d(c) => match conv_shape(c, operand(0)) {
            Ok(shape) => shape,
            Err(reason) => return refuse(reason),
        },
        Op::Linear(l) => Shape::vector(l.outputs),
        Op::AvgPool(p) => {
            let x = operand(0);
            let window = Window { kernel: [p.kernel; 2], stride: p.stride, padding: 0 };
            match window.over(x) {
                Some([height, width]) => Shape::new(x.channels, height, width),
                None => return refuse(format!("a window of {} with stride {}", p.kernel, p.stride)),
            }
        }
        Op::GlobalAvgPool => Shape::vector(operand(0).channels),
        Op::Polynomial(_) | Op::ChannelAffine(_) => operand(0),
        Op::Add => {
            if operand(0) != operand(1) {
                return refuse(format!("the other operand has shape {}", operand(1)));
            }
            operand(0)
        }
        Op::ChannelMul => {
            if operand(1) != Shape::vector(operand(0).channels) {
                return refuse(format!("the gate has shape {}", operand(1)));
            }
            operand(0)
        }
    };
    if !shape.is_bounded() {
        return refuse(format!("its result would have the shape {shape}"));
    }
    lengths(node, node.inputs.first().map_or(shape, |_| operand(0)), shape)?;
    Ok(shape)
}

fn conv_shape(c: &Conv2d, x: Shape) -> Result<Shape, String> {
    let [kh, kw] = c.kernel;
    if kh == 0 || kw == 0 || c.stride == 0 || c.groups == 0 || c.out_channels == 0 {
        return Err("kernel, stride, groups and output channels must not be zero".into());
    }
    if !x.channels.is_multiple_of(c.groups) || !c.out_channels.is_multiple_of(c.groups) {
        return Err(format!("{} groups do not divide its channels into {}", c.groups, c.out_channels));
    }
    match (Window { kernel: c.kernel, stride: c.stride, padding: c.padding }).over(x) {
        Some([height, width]) => Ok(Shape::new(c.out_channels, height, width)),
        None => Err(format!("a kernel of {kh}x{kw} with padding {} is larger than it", c.padding)),
    }
}

fn lengths(node: &NodeLiteral, input: Shape, output: Shape) -> Result<(), GraphError> {
    let length = |array, expected: Option<usize>, got| match expected {
        Some(e) if e == got => Ok(()),
        e => {
            let expected = e.unwrap_or(usize::MAX);
            Err(GraphError::Length { node: node.name.clone(), array, expected, got })
        }
    };
    let product = |f: &[usize]| f.iter().try_fold(1usize, |a, b| a.checked_mul(*b));
    match &node.op {
        Op::Conv2d(c) => {
            let weight = [c.out_channels, input.channels / c.groups, c.kernel[0], c.kernel[1]];
            length("weight", product(&weight), c.weight.len())?;
            match &c.bias {
                Bias::None => Ok(()),
                Bias::Channel(b) => length("bias", Some(c.out_channels), b.len()),
                Bias::Position(b) => length("bias", Some(output.len()), b.len()),
            }
        }
        Op::Linear(l) => {
            length("weight", product(&[l.outputs, input.len()]), l.weight.len())?;
            length("bias", Some(l.outputs), l.bias.len())
        }
        Op::Polynomial(p) => {
            let rows = if p.terms > 0 && p.coefficients.len() == p.terms { 1 } else { input.channels };
            length("coefficients", product(&[rows, p.terms.max(1)]), p.coefficients.len())
        }
        Op::ChannelAffine(a) => {
            length("scale", Some(input.channels), a.scale.len())?;
            length("shift", Some(input.channels), a.shift.len())
        }
        _ => Ok(()),
    }
}

fn finite(node: &NodeLiteral) -> Result<(), GraphError> {
    for (array, values) in node.op.arrays() {
        if values.iter().any(|v| !v.is_finite()) {
            return Err(GraphError::NotFinite { node: node.name.clone(), array });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Graph, Polynomial};

    fn square() -> Op {
        Op::Polynomial(Polynomial::shared(&[0.0, 0.0, 1.0]))
    }

    fn conv(out_channels: usize, groups: usize, weight: usize) -> Op {
        Op::Conv2d(Conv2d {
            out_channels,
            kernel: [3, 3],
            stride: 1,
            padding: 1,
            groups,
            weight: vec![0.5; weight],
            bias: Bias::None,
        })
    }

    #[test]
    fn a_cycle_is_refused_by_name() {
        let mut g = GraphLiteral::new(Shape::new(1, 4, 4));
        let a = g.push("first", square(), &[NodeId(2)]);
        let b = g.push("second", square(), &[a]);
        let error = Graph::new(g.finish(b)).unwrap_err();
        assert_eq!(error, GraphError::NotBefore { node: "first".into(), input: 2 });
    }

    #[test]
    fn wrong_lengths_shapes_and_values_are_refused_by_name() {
        let try_op = |op: Op| {
            let mut g = GraphLiteral::new(Shape::new(4, 4, 4));
            let n = g.push("it", op, &[g.input()]);
            Graph::new(g.finish(n)).unwrap_err()
        };
        assert!(matches!(try_op(conv(8, 1, 7)), GraphError::Length { expected: 288, got: 7, .. }));
        assert!(matches!(try_op(conv(8, 3, 7)), GraphError::Shape { .. }));
        assert!(matches!(
            try_op(Op::AvgPool(crate::AvgPool { kernel: 5, stride: 1 })),
            GraphError::Shape { .. }
        ));
        let nan = Op::Polynomial(Polynomial::shared(&[f64::NAN]));
        assert!(matches!(try_op(nan), GraphError::NotFinite { .. }));
        let none = Op::Polynomial(Polynomial::shared(&[]));
        assert!(matches!(try_op(none), GraphError::Length { .. }));
        assert!(matches!(try_op(Op::Add), GraphError::Operands { expected: 2, got: 1, .. }));
        let second = Op::Input { shape: Shape::vector(1) };
        assert!(matches!(try_op(second), GraphError::Operands { .. }));
    }

    #[test]
    fn a_huge_shape_is_refused_before_anything_is_allocated() {
        let error = Graph::new(GraphLiteral::new(Shape::new(usize::MAX, usize::MAX, 2))).unwrap_err();
        assert!(matches!(error, GraphError::Shape { .. }));
    }
}
