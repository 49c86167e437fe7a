//! The clear interpreter: the graph in `f64`, straight from the definitions.

use super::{AvgPool, Conv2d, Graph, NodeId, Op, Shape};
use crate::GraphError;

impl Graph {
    /// Computes the result for one input, `[channels, height, width]` row-major.
    ///
    /// # Errors
    /// An input of the wrong length.
    pub fn run(&self, input: &[f64]) -> Result<Vec<f64>, GraphError> {
        let mut values = self.run_all(input)?;
        Ok(values.swap_remove(self.output().0))
    }

    /// As [`Graph::run`], but returns the value of every node, in the order of [`Graph::nodes`].
    ///
    /// # Errors
    /// An input of the wrong length.
    pub fn run_all(&self, input: &[f64]) -> Result<Vec<Vec<f64>>, GraphError> {
        let shape = self.input_shape();
        if input.len() != shape.len() {
            return Err(GraphError::InputLength { expected: shape.len(), got: input.len(), shape });
        }
        let mut values: Vec<Vec<f64>> = Vec::with_capacity(self.nodes().len());
        for node in self.nodes() {
            let operand = |k: usize| (&values[node.inputs()[k].0], self.node(node.inputs()[k]).shape());
            let value = match node.op() {
                Op::Input { .. } => input.to_vec(),
                Op::Conv2d(c) => conv2d(c, operand(0), node.shape()),
                Op::Linear(l) => {
                    let x = operand(0).0;
                    let rows = l.weight.chunks(x.len()).zip(&l.bias);
                    rows.map(|(w, b)| b + w.iter().zip(x).map(|(w, x)| w * x).sum::<f64>()).collect()
                }
                Op::AvgPool(p) => avg_pool(*p, operand(0), node.shape()),
                Op::GlobalAvgPool => {
                    let (x, s) = operand(0);
                    let n = s.height * s.width;
                    x.chunks(n).map(|c| c.iter().sum::<f64>() / n as f64).collect()
                }
                Op::Polynomial(p) => by_channel(operand(0), |c, v| {
                    p.channel(c).iter().rev().fold(0.0, |sum, coefficient| sum * v + coefficient)
                }),
                Op::ChannelAffine(a) => by_channel(operand(0), |c, v| a.scale[c] * v + a.shift[c]),
                Op::Add => operand(0).0.iter().zip(operand(1).0).map(|(a, b)| a + b).collect(),
                Op::ChannelMul => {
                    let gate = operand(1).0;
                    by_channel(operand(0), |c, v| gate[c] * v)
                }
            };
            values.push(value);
        }
        Ok(values)
    }

    /// The nodes that the result depends on.
    #[must_use]
    pub fn reachable(&self) -> Vec<bool> {
        let mut reached = vec![false; self.nodes().len()];
        reached[self.output().0] = true;
        for i in (0..self.nodes().len()).rev() {
            if reached[i] {
                for NodeId(j) in self.nodes()[i].inputs() {
                    reached[*j] = true;
                }
            }
        }
        reached
    }
}

fn by_channel((x, shape): (&Vec<f64>, Shape), f: impl Fn(usize, f64) -> f64) -> Vec<f64> {
    let n = shape.height * shape.width;
    x.iter().enumerate().map(|(i, v)| f(i / n, *v)).collect()
}

fn conv2d(conv: &Conv2d, (x, input): (&Vec<f64>, Shape), output: Shape) -> Vec<f64> {
    let [kh, kw] = conv.kernel;
    let (per_group_in, per_group_out) = (input.channels / conv.groups, output.channels / conv.groups);
    let positions = output.height * output.width;
    let mut y = vec![0.0; output.len()];
    for (o, plane) in y.chunks_mut(positions).enumerate() {
        for (p, v) in plane.iter_mut().enumerate() {
            *v = conv.bias.at(o, p, positions);
        }
        for i in 0..per_group_in {
            let channel = o / per_group_out * per_group_in + i;
            let source = &x[channel * input.height * input.width..][..input.height * input.width];
            for ky in 0..kh {
                for kx in 0..kw {
                    let w = conv.weight[((o * per_group_in + i) * kh + ky) * kw + kx];
                    for oy in 0..output.height {
                        let Some(iy) = inside(oy * conv.stride + ky, conv.padding, input.height) else {
                            continue;
                        };
                        for ox in 0..output.width {
                            if let Some(ix) = inside(ox * conv.stride + kx, conv.padding, input.width) {
                                plane[oy * output.width + ox] += w * source[iy * input.width + ix];
                            }
                        }
                    }
                }
            }
        }
    }
    y
}

/// Position `padded - padding` if it lies in `0..side`.
fn inside(padded: usize, padding: usize, side: usize) -> Option<usize> {
    padded.checked_sub(padding).filter(|p| *p < side)
}

fn avg_pool(pool: AvgPool, (x, input): (&Vec<f64>, Shape), output: Shape) -> Vec<f64> {
    let mut y = Vec::with_capacity(output.len());
    for c in 0..output.channels {
        for oy in 0..output.height {
            for ox in 0..output.width {
                let mut sum = 0.0;
                for ky in 0..pool.kernel {
                    for kx in 0..pool.kernel {
                        let (iy, ix) = (oy * pool.stride + ky, ox * pool.stride + kx);
                        sum += x[(c * input.height + iy) * input.width + ix];
                    }
                }
                y.push(sum / (pool.kernel * pool.kernel) as f64);
            }
        }
    }
    y
}

#[cfg(test)]
mod tests {
    use crate::{AvgPool, Bias, ChannelAffine, Conv2d, Graph, GraphLiteral, Linear, Op, Polynomial, Shape};

    fn one(shape: Shape, op: Op, x: &[f64]) -> Vec<f64> {
        let mut g = GraphLiteral::new(shape);
        let n = g.push("it", op, &[g.input()]);
        Graph::new(g.finish(n)).unwrap().run(x).unwrap()
    }

    #[test]
    fn every_operation_follows_its_formula() {
        let x: Vec<f64> = (0..9).map(f64::from).collect();
        let ones = Conv2d {
            out_channels: 1,
            kernel: [3, 3],
            stride: 2,
            padding: 1,
            groups: 1,
            weight: vec![1.0; 9],
            bias: Bias::Position(vec![0.0, 100.0, 200.0, 300.0]),
        };
        let y = one(Shape::new(1, 3, 3), Op::Conv2d(ones), &x);
        assert_eq!(y, vec![8.0, 112.0, 220.0, 324.0]);
        let grouped = Conv2d {
            out_channels: 2,
            kernel: [1, 1],
            stride: 1,
            padding: 0,
            groups: 2,
            weight: vec![2.0, 3.0],
            bias: Bias::None,
        };
        assert_eq!(one(Shape::vector(2), Op::Conv2d(grouped), &[1.0, 10.0]), vec![2.0, 30.0]);
        let linear = Linear { outputs: 1, weight: vec![1.0, 2.0], bias: vec![0.5] };
        assert_eq!(one(Shape::new(1, 1, 2), Op::Linear(linear), &[3.0, 4.0]), vec![11.5]);
        let pool = AvgPool { kernel: 2, stride: 1 };
        assert_eq!(one(Shape::new(1, 3, 3), Op::AvgPool(pool), &x), vec![2.0, 3.0, 5.0, 6.0]);
        assert_eq!(one(Shape::new(1, 3, 3), Op::GlobalAvgPool, &x), vec![4.0]);
        let p = Polynomial::per_channel(&[vec![1.0, 2.0], vec![0.0, 0.0, 1.0]]);
        assert_eq!(one(Shape::vector(2), Op::Polynomial(p), &[3.0, 3.0]), vec![7.0, 9.0]);
        let a = ChannelAffine { scale: vec![2.0, -1.0], shift: vec![1.0, 0.0] };
        assert_eq!(one(Shape::vector(2), Op::ChannelAffine(a), &[3.0, 3.0]), vec![7.0, -3.0]);
    }

    #[test]
    fn sums_and_gates_take_two_operands() {
        let mut g = GraphLiteral::new(Shape::new(2, 1, 2));
        let mean = g.push("mean", Op::GlobalAvgPool, &[g.input()]);
        let gate = g.push("gate", Op::ChannelMul, &[g.input(), mean]);
        let sum = g.push("sum", Op::Add, &[gate, g.input()]);
        let graph = Graph::new(g.finish(sum)).unwrap();
        assert_eq!(graph.run(&[1.0, 3.0, 2.0, 2.0]).unwrap(), vec![3.0, 9.0, 6.0, 6.0]);
        assert!(graph.run(&[1.0]).is_err());
    }
}
