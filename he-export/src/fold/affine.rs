//! Affine maps a channel, `y = s x + t`, moved into their neighbours.

use he_model::{Bias, ChannelAffine, Conv2d, GraphLiteral, Linear, NodeId, Op, Polynomial, Shape};

use super::literal::{bypass, is_only_reader, readers};

/// `c_1 x + c_0` is an affine map.
pub(super) fn from_polynomial(g: &mut GraphLiteral, shapes: &[Shape]) -> bool {
    for (node, shape) in g.nodes.iter_mut().zip(shapes) {
        if let Op::Polynomial(p) = &node.op
            && p.degree() <= 1
        {
            let part =
                |k: usize| (0..shape.channels).map(|c| p.channel(c).get(k).copied().unwrap_or(0.0)).collect();
            node.op = Op::ChannelAffine(ChannelAffine { scale: part(1), shift: part(0) });
            return true;
        }
    }
    false
}

/// Each affine node with its number, its map and its operand.
fn affines(g: &GraphLiteral) -> Vec<(usize, ChannelAffine, usize)> {
    let found = g.nodes.iter().enumerate().filter_map(|(i, n)| match &n.op {
        Op::ChannelAffine(a) => Some((i, a.clone(), n.inputs[0].0)),
        _ => None,
    });
    found.collect()
}

/// `s (W x + b) + t = (s W) x + (s b + t)`, and the same on the coefficients of a polynomial or of an affine map.
///
/// A batch norm after a convolution is this case: `w' = w g / sqrt(v + eps)`, `b' = (b - m) g / sqrt(v + eps) + beta`.
pub(super) fn into_previous(g: &mut GraphLiteral, shapes: &[Shape]) -> bool {
    for (i, a, before) in affines(g) {
        if !is_only_reader(g, before, i) {
            continue;
        }
        let positions = shapes[before].height * shapes[before].width;
        let done = match &mut g.nodes[before].op {
            Op::Conv2d(c) => {
                scale_rows(&mut c.weight, &a.scale);
                c.bias = affine_bias(&c.bias, &a, positions);
                true
            }
            Op::Linear(l) => {
                scale_rows(&mut l.weight, &a.scale);
                l.bias = l.bias.iter().enumerate().map(|(o, b)| a.scale[o] * b + a.shift[o]).collect();
                true
            }
            Op::Polynomial(p) => {
                *p = affine_polynomial(p, &a);
                true
            }
            Op::ChannelAffine(first) => {
                for c in 0..a.scale.len() {
                    first.shift[c] = a.scale[c] * first.shift[c] + a.shift[c];
                    first.scale[c] *= a.scale[c];
                }
                true
            }
            _ => false,
        };
        if done {
            bypass(g, i);
            return true;
        }
    }
    false
}

fn scale_rows(weight: &mut [f64], scale: &[f64]) {
    let row = weight.len() / scale.len();
    for (row, s) in weight.chunks_mut(row).zip(scale) {
        row.iter_mut().for_each(|w| *w *= s);
    }
}

fn affine_bias(bias: &Bias, a: &ChannelAffine, positions: usize) -> Bias {
    match bias {
        Bias::None => Bias::Channel(a.shift.clone()),
        Bias::Channel(b) => {
            Bias::Channel(b.iter().enumerate().map(|(c, b)| a.scale[c] * b + a.shift[c]).collect())
        }
        Bias::Position(b) => Bias::Position(
            b.iter().enumerate().map(|(i, b)| a.scale[i / positions] * b + a.shift[i / positions]).collect(),
        ),
    }
}

fn affine_polynomial(p: &Polynomial, a: &ChannelAffine) -> Polynomial {
    let alike = |v: &[f64]| v.iter().all(|x| *x == v[0]);
    let row = |c: usize| {
        let mut row: Vec<f64> = p.channel(c).iter().map(|k| k * a.scale[c]).collect();
        row[0] += a.shift[c];
        row
    };
    if p.coefficients.len() == p.terms && alike(&a.scale) && alike(&a.shift) {
        return Polynomial::shared(&row(0));
    }
    Polynomial::per_channel(&(0..a.scale.len()).map(row).collect::<Vec<_>>())
}

/// The mean of `s x + t` is `s mean(x) + t`: after the mean, the map meets the next layer.
///
/// Where the map could go into the layer before, it is gone already; here a sum or a gate stands before it.
pub(super) fn before_mean(g: &mut GraphLiteral, _: &[Shape]) -> bool {
    for (i, _, _) in affines(g) {
        if let [mean] = readers(g, i)[..]
            && g.output != NodeId(i)
            && matches!(g.nodes[mean].op, Op::AvgPool(_) | Op::GlobalAvgPool)
        {
            let pool = g.nodes[mean].clone();
            let affine = g.nodes[i].clone();
            // The two change places; whoever read the mean still reads the later one.
            g.nodes[i].op = pool.op;
            g.nodes[i].name = pool.name;
            g.nodes[mean].op = affine.op;
            g.nodes[mean].name = affine.name;
            return true;
        }
    }
    false
}

/// `s (x g) = x (s g)`: a factor after a gate goes into the gate's polynomial.
pub(super) fn into_gate(g: &mut GraphLiteral, _: &[Shape]) -> bool {
    for (i, a, product) in affines(g) {
        if !matches!(g.nodes[product].op, Op::ChannelMul)
            || a.shift.iter().any(|t| *t != 0.0)
            || !is_only_reader(g, product, i)
        {
            continue;
        }
        let gate = g.nodes[product].inputs[1].0;
        if !is_only_reader(g, gate, product) {
            continue;
        }
        if let Op::Polynomial(p) = &mut g.nodes[gate].op {
            *p = affine_polynomial(p, &a);
            bypass(g, i);
            return true;
        }
    }
    false
}

/// `W (s x + t) + b = (W s) x + (W t + b)`.
///
/// The constant `t` meets zero padding: at the border the window sees fewer of them, so the bias depends on the position.
pub(super) fn into_next(g: &mut GraphLiteral, shapes: &[Shape]) -> bool {
    for (i, a, _) in affines(g) {
        let next = readers(g, i);
        let linear = |n: &usize| matches!(g.nodes[*n].op, Op::Conv2d(_) | Op::Linear(_));
        if next.is_empty() || g.output == NodeId(i) || !next.iter().all(linear) {
            continue;
        }
        for n in next {
            match &mut g.nodes[n].op {
                Op::Conv2d(c) => conv_of_affine(c, &a, shapes[i], shapes[n]),
                Op::Linear(l) => linear_of_affine(l, &a, shapes[i]),
                _ => {}
            }
        }
        bypass(g, i);
        return true;
    }
    false
}

fn conv_of_affine(c: &mut Conv2d, a: &ChannelAffine, input: Shape, output: Shape) {
    let constant: Vec<f64> = (0..input.len()).map(|v| a.shift[v / (input.height * input.width)]).collect();
    let positions = output.height * output.width;
    let sums = if a.shift.iter().all(|t| *t == 0.0) {
        vec![0.0; output.len()]
    } else {
        window_sums(c, &constant, input, output)
    };
    let bias: Vec<f64> = sums
        .iter()
        .enumerate()
        .map(|(v, s)| s + c.bias.at(v / positions, v % positions, positions))
        .collect();
    let uniform =
        bias.chunks(positions).all(|plane| plane.iter().all(|b| (b - plane[0]).abs() <= f64::EPSILON));
    c.bias = if uniform {
        Bias::Channel(bias.chunks(positions).map(|plane| plane[0]).collect())
    } else {
        Bias::Position(bias)
    };
    let (ins, outs) = (input.channels / c.groups, output.channels / c.groups);
    let taps = c.kernel[0] * c.kernel[1];
    for (k, taps) in c.weight.chunks_mut(taps).enumerate() {
        let (o, i) = (k / ins, k % ins);
        taps.iter_mut().for_each(|w| *w *= a.scale[o / outs * ins + i]);
    }
}

/// The convolution of one tensor, without bias.
fn window_sums(c: &Conv2d, x: &[f64], input: Shape, output: Shape) -> Vec<f64> {
    let (ins, outs) = (input.channels / c.groups, output.channels / c.groups);
    let [kh, kw] = c.kernel;
    let mut sums = Vec::with_capacity(output.len());
    for o in 0..output.channels {
        for oy in 0..output.height {
            for ox in 0..output.width {
                let mut sum = 0.0;
                for (i, ky, kx) in
                    (0..ins).flat_map(|i| (0..kh).flat_map(move |ky| (0..kw).map(move |kx| (i, ky, kx))))
                {
                    let y = (oy * c.stride + ky).checked_sub(c.padding).filter(|y| *y < input.height);
                    let z = (ox * c.stride + kx).checked_sub(c.padding).filter(|z| *z < input.width);
                    if let (Some(y), Some(z)) = (y, z) {
                        let channel = o / outs * ins + i;
                        sum += c.weight[((o * ins + i) * kh + ky) * kw + kx]
                            * x[(channel * input.height + y) * input.width + z];
                    }
                }
                sums.push(sum);
            }
        }
    }
    sums
}

fn linear_of_affine(l: &mut Linear, a: &ChannelAffine, input: Shape) {
    let positions = input.height * input.width;
    for (row, b) in l.weight.chunks_mut(input.len()).zip(&mut l.bias) {
        for (v, w) in row.iter_mut().enumerate() {
            *b += *w * a.shift[v / positions];
            *w *= a.scale[v / positions];
        }
    }
}

#[cfg(test)]
mod tests {
    use he_model::{AvgPool, Graph};

    use super::super::fold;
    use super::*;

    fn numbers(n: usize, seed: u64) -> Vec<f64> {
        he_model::zoo::random_input(Shape::vector(n), seed)
    }

    fn affine(channels: usize, seed: u64) -> Op {
        Op::ChannelAffine(ChannelAffine {
            scale: numbers(channels, seed),
            shift: numbers(channels, seed + 1),
        })
    }

    fn conv(x: usize, out: usize, stride: usize, padding: usize, groups: usize) -> Op {
        let weight = numbers(out * x / groups * 9, 7);
        let bias = Bias::Channel(numbers(out, 8));
        Op::Conv2d(Conv2d { out_channels: out, kernel: [3, 3], stride, padding, groups, weight, bias })
    }

    /// Folds a chain, compares the results, and returns what is left.
    fn folded(shape: Shape, ops: Vec<Op>) -> Vec<&'static str> {
        let mut g = GraphLiteral::new(shape);
        let mut at = g.input();
        for (i, op) in ops.into_iter().enumerate() {
            at = g.push(format!("op{i}"), op, &[at]);
        }
        same(&Graph::new(g.finish(at)).unwrap())
    }

    fn same(graph: &Graph) -> Vec<&'static str> {
        let (after, _) = fold(graph).unwrap();
        let x = numbers(graph.input_shape().len(), 99);
        for (a, b) in graph.run(&x).unwrap().iter().zip(after.run(&x).unwrap()) {
            assert!((a - b).abs() < 1e-10, "{a} became {b}");
        }
        after.nodes().iter().map(|n| n.op().kind()).collect()
    }

    #[test]
    fn affine_maps_go_into_the_layer_before() {
        let s = Shape::new(4, 5, 6);
        assert_eq!(folded(s, vec![conv(4, 6, 1, 1, 2), affine(6, 1)]), ["input", "conv2d"]);
        assert_eq!(folded(s, vec![conv(4, 6, 1, 1, 2), affine(6, 1), affine(6, 3)]), ["input", "conv2d"]);
        let square = Op::Polynomial(Polynomial::shared(&[0.3, -1.0, 0.7]));
        assert_eq!(folded(s, vec![square, affine(4, 1)]), ["input", "polynomial"]);
    }

    #[test]
    fn affine_maps_go_into_the_layers_after_and_padding_makes_the_bias_depend_on_the_position() {
        let s = Shape::new(4, 5, 6);
        for (stride, padding, groups) in [(1, 1, 1), (2, 1, 2), (1, 0, 1), (1, 2, 4)] {
            let left = folded(s, vec![affine(4, 1), conv(4, 8, stride, padding, groups)]);
            assert_eq!(left, ["input", "conv2d"]);
        }
        let linear = Op::Linear(Linear { outputs: 3, weight: numbers(360, 5), bias: numbers(3, 6) });
        assert_eq!(folded(s, vec![affine(4, 1), linear]), ["input", "linear"]);

        let mut g = GraphLiteral::new(s);
        let a = g.push("a", affine(4, 1), &[NodeId(0)]);
        let c = g.push("c", conv(4, 4, 1, 1, 1), &[a]);
        let (graph, _) = fold(&Graph::new(g.finish(c)).unwrap()).unwrap();
        assert!(matches!(graph.nodes()[1].op(), Op::Conv2d(Conv2d { bias: Bias::Position(_), .. })));
    }

    #[test]
    fn a_straight_polynomial_disappears() {
        let s = Shape::new(2, 4, 4);
        let straight = Op::Polynomial(Polynomial::shared(&[0.3, -1.0, 0.0]));
        assert_eq!(folded(s, vec![conv(2, 4, 1, 1, 1), straight]), ["input", "conv2d"]);
    }

    #[test]
    fn a_map_between_a_sum_and_a_mean_goes_into_the_linear_layer() {
        let s = Shape::new(2, 4, 4);
        for mean in [Op::GlobalAvgPool, Op::AvgPool(AvgPool { kernel: 4, stride: 4 })] {
            let mut g = GraphLiteral::new(s);
            let sum = g.push("sum", Op::Add, &[NodeId(0), NodeId(0)]);
            let a = g.push("a", affine(2, 1), &[sum]);
            let mean = g.push("mean", mean, &[a]);
            let linear = Op::Linear(Linear { outputs: 3, weight: numbers(6, 5), bias: numbers(3, 6) });
            let out = g.push("linear", linear, &[mean]);
            let left = same(&Graph::new(g.finish(out)).unwrap());
            assert_eq!((left.len(), left[1], left[3]), (4, "add", "linear"));
        }
    }

    #[test]
    fn a_factor_after_a_gate_goes_into_the_gate() {
        let mut g = GraphLiteral::new(Shape::new(2, 4, 4));
        let mean = g.push("mean", Op::GlobalAvgPool, &[NodeId(0)]);
        let gate = g.push("gate", Op::Polynomial(Polynomial::shared(&[0.5, 0.2, 0.0, -0.01])), &[mean]);
        let product = g.push("product", Op::ChannelMul, &[NodeId(0), gate]);
        let gain = ChannelAffine { scale: vec![0.3, 0.4], shift: vec![0.0, 0.0] };
        let gain = g.push("gain", Op::ChannelAffine(gain), &[product]);
        let sum = g.push("sum", Op::Add, &[gain, NodeId(0)]);
        let left = same(&Graph::new(g.finish(sum)).unwrap());
        assert_eq!(left, ["input", "global_avg_pool", "polynomial", "channel_mul", "add"]);
    }

    #[test]
    fn what_others_read_too_stays() {
        let mut g = GraphLiteral::new(Shape::new(2, 4, 4));
        let c = g.push("c", conv(2, 2, 1, 1, 1), &[NodeId(0)]);
        let a = g.push("a", affine(2, 1), &[c]);
        let sum = g.push("sum", Op::Add, &[a, c]);
        let left = same(&Graph::new(g.finish(sum)).unwrap());
        assert_eq!(left, ["input", "conv2d", "channel_affine", "add"]);
    }
}
