//! The first rung of the ladder: the packed program in the clear computes what the graph computes, on every kind of
//! layer and on small versions of every network.

#![allow(clippy::unwrap_used)]

use he_model::interpret::clear::ClearInterpreter;
use he_model::program::{Instruction, PlainScale};
use he_model::zoo::{Architecture, Recipe, random, random_input};
use he_model::{
    AvgPool, Bias, ChannelAffine, Conv2d, Dense, Frame, Graph, GraphLiteral, Guarded, Linear, NodeId, Op,
    Packing, Polynomial, RowCopies, Shape, lower,
};

const FRAME: Frame = Frame { slots: 4096, lanes: 4, films: 1, weight_bits: 16, key_weight: 1 };
const PACKING: Packing = guarded(FRAME);

const fn guarded(frame: Frame) -> Packing {
    Packing::Guarded(Guarded { frame, guard: 4, precise: false })
}

const fn copies(frame: Frame, guard: usize) -> Packing {
    Packing::RowCopies(RowCopies { frame, guard, wide_stages: 0 })
}

fn check(graph: &Graph, packing: &Packing) {
    let program = lower(graph, packing).unwrap();
    println!("{packing:?}");
    let x = random_input(graph.input_shape(), 7);
    let (got, layers) = ClearInterpreter::run_layers(&program, &x).unwrap();
    let want = graph.run_all(&x).unwrap();
    for (result, tensor) in program.results().iter().zip(&layers) {
        let name = &program.layers()[result.layer as usize];
        let node = graph.find(name).unwrap();
        close(name, tensor, &want[node.0]);
    }
    close("output", &got, &want[graph.output().0]);
    if packing.films() > 1 {
        let films: Vec<Vec<f64>> =
            (0..packing.films()).map(|film| random_input(graph.input_shape(), 20 + film as u64)).collect();
        let outputs = ClearInterpreter::run_batch(&program, &films.concat()).unwrap();
        assert_eq!(outputs.len(), packing.films());
        for (film, got) in films.iter().zip(&outputs) {
            close("output of a batch", got, &graph.run(film).unwrap());
        }
    }
}

fn close(name: &str, got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len(), "{name}");
    assert!(got.iter().all(|v| v.is_finite()), "layer {name}");
    let worst = got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst < 1e-9, "layer {name} differs by {worst:e}");
}

fn weights(n: usize) -> Vec<f64> {
    random_input(Shape::vector(n), n as u64)
}

fn conv(x: usize, out: usize, k: usize, stride: usize, padding: usize, groups: usize) -> Op {
    Op::Conv2d(Conv2d {
        out_channels: out,
        kernel: [k, k],
        stride,
        padding,
        groups,
        weight: weights(out * x / groups * k * k),
        bias: Bias::Channel(weights(out)),
    })
}

fn chain(shape: Shape, ops: Vec<Op>) -> Graph {
    let mut g = GraphLiteral::new(shape);
    let mut at = g.input();
    for (i, op) in ops.into_iter().enumerate() {
        at = g.push(format!("op{i}"), op, &[at]);
    }
    Graph::new(g.finish(at)).unwrap()
}

#[test]
fn convolutions_of_every_kind() {
    for (channels, out, k, stride, groups) in [
        (3, 4, 1, 1, 1),
        (3, 4, 3, 1, 1),
        (3, 4, 5, 1, 1),
        (4, 8, 3, 2, 1),
        (4, 8, 1, 2, 1),
        (8, 16, 3, 1, 4),
        (3, 9, 3, 1, 3),
        (6, 10, 3, 2, 2),
        (13, 7, 5, 1, 1),
    ] {
        let op = conv(channels, out, k, stride, k / 2, groups);
        check(&chain(Shape::new(channels, 8, 8), vec![op]), &PACKING);
    }
    // Two strides: phases on both sides; no padding; an image that is not square, of odd sides.
    let two = vec![conv(4, 8, 3, 2, 1, 1), conv(8, 16, 3, 2, 1, 2), conv(16, 5, 3, 1, 1, 1)];
    check(&chain(Shape::new(4, 8, 8), two), &PACKING);
    check(&chain(Shape::new(3, 7, 9), vec![conv(3, 5, 3, 1, 0, 1), conv(5, 6, 3, 2, 1, 1)]), &PACKING);
}

#[test]
fn a_bias_may_differ_from_position_to_position() {
    let Op::Conv2d(mut c) = conv(3, 4, 3, 1, 1, 1) else { unreachable!() };
    c.bias = Bias::Position(weights(4 * 36));
    check(&chain(Shape::new(3, 6, 6), vec![Op::Conv2d(c)]), &PACKING);
}

#[test]
fn means_fold_into_what_follows() {
    let pool = |kernel, stride| Op::AvgPool(AvgPool { kernel, stride });
    let shape = Shape::new(4, 8, 8);
    check(&chain(shape, vec![pool(2, 2), conv(4, 8, 5, 1, 2, 1)]), &PACKING);
    check(&chain(shape, vec![pool(2, 2), pool(2, 2), conv(4, 8, 3, 1, 1, 1)]), &PACKING);
    check(&chain(shape, vec![pool(3, 1), conv(4, 4, 3, 1, 1, 1)]), &PACKING);
    check(&chain(shape, vec![pool(3, 2), Op::GlobalAvgPool]), &PACKING);
    check(&chain(shape, vec![pool(2, 2), Op::GlobalAvgPool]), &PACKING);
    check(&chain(shape, vec![pool(2, 2)]), &PACKING);
    // More channels than lanes: the channels of several ciphertexts move together.
    check(&chain(Shape::new(10, 8, 8), vec![pool(2, 2), conv(10, 12, 3, 1, 1, 2)]), &PACKING);
}

#[test]
fn linear_layers_read_vectors_and_images() {
    let linear = |inputs: usize, outputs| {
        Op::Linear(Linear { outputs, weight: weights(inputs * outputs), bias: weights(outputs) })
    };
    let shape = Shape::new(6, 4, 4);
    check(&chain(shape, vec![Op::GlobalAvgPool, linear(6, 11), linear(11, 3)]), &PACKING);
    check(&chain(shape, vec![conv(6, 8, 3, 2, 1, 1), linear(32, 5)]), &PACKING);
    check(&chain(Shape::vector(20), vec![linear(20, 7)]), &PACKING);
}

#[test]
fn polynomials_of_every_kind() {
    let poly = |c: &[f64]| Op::Polynomial(Polynomial::shared(c));
    let shape = Shape::new(3, 4, 4);
    for p in [
        vec![0.0, 0.0, 1.0],
        vec![0.3, 0.6, 0.1],
        vec![0.3, -0.6, -0.1],
        vec![0.3, 0.6, 1e-7],
        vec![0.5, 0.2, 0.1, -0.004],
        vec![0.5, 0.2, 0.1, 1e-9],
        vec![0.5, 0.25, 0.0, -0.02, 0.003],
        vec![0.1, 0.2, 0.0, 0.3, 0.0, 0.01, 0.02],
        vec![0.25, 2.0],
        vec![0.25],
    ] {
        check(&chain(shape, vec![conv(3, 3, 3, 1, 1, 1), poly(&p), conv(3, 3, 3, 1, 1, 1)]), &PACKING);
        check(&chain(shape, vec![poly(&p)]), &PACKING);
    }
    let mixed = Polynomial::per_channel(&[vec![0.0, 1.0, 0.2], vec![0.1, 0.5, -0.3], vec![1.0, 0.0, 0.7]]);
    check(&chain(shape, vec![Op::Polynomial(mixed), conv(3, 3, 3, 1, 1, 1)]), &PACKING);
    let affine = ChannelAffine { scale: vec![1.0, -2.0, 0.5], shift: vec![0.0, 1.0, 2.0] };
    check(&chain(shape, vec![Op::ChannelAffine(affine), conv(3, 3, 3, 1, 1, 1)]), &PACKING);
}

#[test]
fn sums_match_the_factors_of_their_arms() {
    for coefficients in [[0.1, 0.6, 0.1], [0.1, 0.6, -0.1], [0.0, 0.0, 1.0], [0.0, 0.0, -1.0]] {
        let mut g = GraphLiteral::new(Shape::new(3, 6, 6));
        let c = g.push("conv", conv(3, 3, 3, 1, 1, 1), &[NodeId(0)]);
        let a = g.push("act", Op::Polynomial(Polynomial::shared(&coefficients)), &[c]);
        let s = g.push("add", Op::Add, &[NodeId(0), a]);
        let b = g.push("act2", Op::Polynomial(Polynomial::shared(&coefficients)), &[s]);
        let d = g.push("conv2", conv(3, 4, 3, 2, 1, 1), &[b]);
        check(&Graph::new(g.finish(d)).unwrap(), &PACKING);
    }
}

#[test]
fn whole_networks() {
    for architecture in
        [Architecture::LeNet, Architecture::VggNet, Architecture::HefNet, Architecture::ResNet(20)]
    {
        for (se, post_add_activation) in [(false, false), (true, false), (false, true), (true, true)] {
            let input = Shape::new(4, 16, 16);
            let recipe = Recipe { architecture, input, labels: 5, se, post_add_activation, shrink: 4 };
            let graph = random(&recipe, 3).unwrap();
            check(&graph, &guarded(Frame { slots: 2048, ..FRAME }));
            check(
                &graph,
                &Packing::Guarded(Guarded {
                    frame: Frame { slots: 8192, lanes: 16, ..FRAME },
                    guard: 4,
                    precise: true,
                }),
            );
        }
    }
}

#[test]
fn resnet20_at_the_size_of_the_paper() {
    let input = Shape::new(4, 32, 32);
    let architecture = Architecture::ResNet(20);
    let recipe = Recipe { architecture, input, labels: 14, se: false, post_add_activation: false, shrink: 1 };
    let graph = random(&recipe, 3).unwrap();
    check(
        &graph,
        &Packing::Guarded(Guarded {
            frame: Frame { slots: 1 << 15, lanes: 16, ..FRAME },
            guard: 1,
            precise: false,
        }),
    );
}

#[test]
fn convolutions_on_row_copies() {
    let packing = copies(Frame { lanes: 8, ..FRAME }, 8);
    for (channels, out, k, stride, groups) in [
        (3, 8, 3, 1, 1),
        (8, 8, 3, 1, 1),
        (8, 16, 3, 2, 1),
        (8, 16, 1, 2, 1),
        (8, 8, 3, 1, 4),
        (5, 7, 1, 1, 1),
    ] {
        let op = conv(channels, out, k, stride, k / 2, groups);
        let graph = chain(Shape::new(channels, 8, 8), vec![op]);
        let program = lower(&graph, &packing).unwrap();
        let conjugates = program.instructions().iter().filter(|i| matches!(i, Instruction::Conjugate { .. }));
        assert_eq!(conjugates.count() > 0, k == 3, "the copies were not used");
        check(&graph, &packing);
    }
    // Two strides: two, then four pieces.
    let two = vec![
        conv(4, 8, 3, 1, 1, 1),
        conv(8, 16, 3, 2, 1, 1),
        conv(16, 16, 3, 1, 1, 1),
        conv(16, 32, 3, 2, 1, 1),
        conv(32, 32, 3, 1, 1, 2),
    ];
    check(&chain(Shape::new(4, 8, 8), two.clone()), &packing);
    check(&chain(Shape::new(4, 8, 8), two), &copies(*packing.frame(), 24));
}

#[test]
fn resnet20_on_row_copies_at_full_size() {
    let recipe = Recipe {
        architecture: Architecture::ResNet(20),
        input: Shape::new(4, 32, 32),
        labels: 14,
        se: false,
        post_add_activation: false,
        shrink: 1,
    };
    let packing = copies(Frame { slots: 1 << 15, lanes: 16, ..FRAME }, 32);
    check(&random(&recipe, 3).unwrap(), &packing);
}

/// A residual block with a gate, and the mean and matrix of a residual sum, on row copies.
fn pooled(se: bool, shape: Shape, gate: &[f64]) -> Graph {
    let channels = shape.channels;
    let linear = |inputs: usize, outputs: usize| {
        Op::Linear(Linear { outputs, weight: weights(inputs * outputs), bias: weights(outputs) })
    };
    let mut g = GraphLiteral::new(shape);
    let act = || Op::Polynomial(Polynomial::shared(&[0.0, 0.6, 0.1]));
    let c1 = g.push("conv1", conv(channels, channels, 3, 1, 1, 1), &[NodeId(0)]);
    let a = g.push("act", act(), &[c1]);
    let Op::Conv2d(mut second) = conv(channels, channels, 3, 1, 1, 2) else { unreachable!() };
    second.bias = Bias::Position(weights(shape.len()));
    let mut x = g.push("conv2", Op::Conv2d(second), &[a]);
    if se {
        let s = g.push("pool", Op::GlobalAvgPool, &[x]);
        let s = g.push("fc1", linear(channels, 2), &[s]);
        let s = g.push("se.act", act(), &[s]);
        let s = g.push("fc2", linear(2, channels), &[s]);
        let s = g.push("gate", Op::Polynomial(Polynomial::shared(gate)), &[s]);
        x = g.push("mul", Op::ChannelMul, &[x, s]);
    }
    let x = g.push("add", Op::Add, &[x, a]);
    let x = g.push("mean", Op::GlobalAvgPool, &[x]);
    let x = g.push("fc", linear(channels, 5), &[x]);
    Graph::new(g.finish(x)).unwrap()
}

#[test]
fn a_mean_and_a_matrix_merge_with_the_convolution_before_them() {
    let shape = Shape::new(8, 8, 8);
    for (slots, guard, lanes) in
        [(2048, 8, 16), (4096, 8, 16), (4096, 24, 16), (8192, 56, 16), (16384, 120, 16), (1024, 8, 8)]
    {
        let packing = copies(Frame { slots, lanes, ..FRAME }, guard);
        let plain = pooled(false, shape, &[]);
        let program = lower(&plain, &packing).unwrap();
        // Two convolutions, a square, and nothing more for mean and matrix.
        assert_eq!(he_model::schedule::depth(&program), 3, "{slots} slots");
        check(&plain, &packing);
        for gate in [[0.5, 0.197, 0.0, -0.004], [0.4, 0.2, 0.05, 0.01]] {
            let gated = pooled(true, shape, &gate);
            let program = lower(&gated, &packing).unwrap();
            // conv1, act, conv2 with pool, fc1 and fc2, act, cubic with product (2), mean and matrix.
            assert_eq!(he_model::schedule::depth(&program), 7, "{slots} slots");
            // With room for copies without imaginary parts the mean reads those of the convolution, right behind it.
            let maps = program.instructions().iter().map(|i| match i {
                Instruction::Linear { inputs, scale: PlainScale::Fill, .. } => Some(inputs),
                _ => None,
            });
            let maps: Vec<_> = maps.collect();
            let together = maps.windows(2).filter(|pair| pair[0].is_some() && pair[0] == pair[1]).count();
            assert_eq!(together, usize::from(guard >= 24), "{slots} slots");
            check(&gated, &packing);
        }
    }
    // The gate without row copies.
    check(&pooled(true, shape, &[0.4, 0.2, 0.05, 0.01]), &PACKING);
}

#[test]
fn a_strided_shortcut_rides_with_the_convolution_beside_it() {
    let packing = copies(Frame { lanes: 8, ..FRAME }, 8);
    let mut g = GraphLiteral::new(Shape::new(8, 8, 8));
    let c1 = g.push("conv1", conv(8, 16, 3, 2, 1, 1), &[NodeId(0)]);
    let a = g.push("act", Op::Polynomial(Polynomial::shared(&[0.0, 0.6, 0.1])), &[c1]);
    let c2 = g.push("conv2", conv(16, 16, 3, 1, 1, 1), &[a]);
    let s = g.push("shortcut", conv(8, 16, 1, 2, 0, 1), &[NodeId(0)]);
    let x = g.push("add", Op::Add, &[c2, s]);
    let graph = Graph::new(g.finish(x)).unwrap();
    for guard in [8, 24] {
        let packing = copies(*packing.frame(), guard);
        let program = lower(&graph, &packing).unwrap();
        // Copies and weights of two convolutions, nothing for the shortcut.
        let maps = program.instructions().iter().filter(|i| matches!(i, Instruction::Linear { .. }));
        assert_eq!(maps.count(), 4);
        check(&graph, &packing);
    }
}

#[test]
fn batches_of_films_on_row_copies_and_guard_cells() {
    let shape = Shape::new(8, 8, 8);
    let frame = Frame { lanes: 8, films: 2, ..FRAME };
    let convolutions =
        [conv(8, 8, 3, 1, 1, 1), conv(8, 16, 3, 2, 1, 1), conv(16, 16, 3, 1, 1, 4), conv(16, 32, 3, 2, 1, 1)];
    for packing in [
        copies(frame, 8),
        copies(Frame { films: 4, ..frame }, 8),
        copies(Frame { lanes: 4, ..frame }, 24),
        guarded(Frame { films: 2, slots: 8192, ..FRAME }),
    ] {
        for n in 1..=convolutions.len() {
            check(&chain(shape, convolutions[..n].to_vec()), &packing);
        }
        check(&pooled(false, shape, &[]), &packing);
        check(&pooled(true, shape, &[0.4, 0.2, 0.05, 0.01]), &packing);
    }
    let pool = |kernel, stride| Op::AvgPool(AvgPool { kernel, stride });
    let packing = guarded(Frame { films: 2, ..FRAME });
    check(&chain(Shape::new(4, 8, 8), vec![pool(2, 2), conv(4, 8, 3, 1, 1, 1), Op::GlobalAvgPool]), &packing);
    check(&chain(Shape::new(10, 8, 8), vec![pool(2, 2), conv(10, 12, 3, 1, 1, 2)]), &packing);
    let linear = Op::Linear(Linear { outputs: 7, weight: weights(140), bias: weights(7) });
    check(&chain(Shape::vector(20), vec![linear]), &packing);
}

#[test]
fn dense_convolutions_on_several_ciphertexts() {
    let shape = Shape::new(4, 8, 8);
    let pool = |kernel, stride| Op::AvgPool(AvgPool { kernel, stride });
    let linear = Op::Linear(Linear { outputs: 5, weight: weights(16 * 5), bias: weights(5) });
    let networks = [
        vec![conv(4, 6, 3, 1, 1, 1)],
        vec![conv(4, 6, 5, 1, 2, 1), conv(6, 6, 3, 1, 1, 3)],
        vec![
            conv(4, 8, 3, 2, 1, 1),
            conv(8, 8, 3, 1, 1, 1),
            conv(8, 16, 3, 2, 1, 1),
            conv(16, 16, 3, 1, 1, 1),
        ],
        vec![conv(4, 8, 1, 2, 0, 1), conv(8, 16, 3, 2, 1, 1), Op::GlobalAvgPool, linear.clone()],
        vec![
            conv(4, 8, 3, 1, 1, 1),
            pool(2, 2),
            conv(8, 16, 3, 1, 1, 1),
            pool(2, 2),
            Op::GlobalAvgPool,
            linear,
        ],
        vec![pool(3, 1), conv(4, 3, 3, 1, 0, 1), Op::GlobalAvgPool],
    ];
    for (slots, lanes, row_phases, films) in [
        (256, 4, false, 1),
        (256, 4, true, 1),
        (512, 4, true, 2),
        (512, 4, false, 2),
        (128, 2, true, 1),
        (64, 1, true, 1),
        (1024, 4, true, 1),
        (1024, 4, false, 4),
    ] {
        let frame = Frame { slots, lanes, films, ..FRAME };
        let dense = |precise| Packing::Dense(Dense { frame, precise, row_phases });
        for packing in [dense(false), dense(true)] {
            for network in &networks {
                check(&chain(shape, network.clone()), &packing);
            }
            check(&pooled(false, shape, &[]), &packing);
            check(&pooled(true, shape, &[0.4, 0.2, 0.05, 0.01]), &packing);
        }
    }
}

#[test]
fn whole_networks_dense_and_in_batches() {
    for architecture in
        [Architecture::LeNet, Architecture::VggNet, Architecture::HefNet, Architecture::ResNet(20)]
    {
        for (se, post_add_activation) in [(false, false), (true, true)] {
            let input = Shape::new(4, 16, 16);
            let recipe = Recipe { architecture, input, labels: 5, se, post_add_activation, shrink: 4 };
            let graph = random(&recipe, 3).unwrap();
            check(&graph, &copies(FRAME, 16));
            for (slots, lanes, films) in [(512, 2, 1), (1024, 4, 1), (2048, 4, 2)] {
                // The vector of a gate is not repeated from row to row.
                for row_phases in [false, true].into_iter().filter(|phases| !(se && *phases)) {
                    let frame = Frame { slots, lanes, films, ..FRAME };
                    check(&graph, &Packing::Dense(Dense { frame, precise: films == 1, row_phases }));
                }
            }
            check(&graph, &guarded(Frame { films: 2, ..FRAME }));
            check(&graph, &copies(Frame { slots: 8192, films: 2, ..FRAME }, 16));
        }
    }
}

/// Rescalings that wait behind masks, with wide stages or without, leave every layer as it is. They change how many there are only as
/// the description of wide stages says.
#[test]
fn waiting_rescalings_and_wide_stages_change_scales_only() {
    let recipe = Recipe {
        architecture: Architecture::ResNet(14),
        input: Shape::new(3, 16, 16),
        labels: 5,
        se: false,
        post_add_activation: false,
        shrink: 2,
    };
    let graph = random(&recipe, 3).unwrap();
    let frame = Frame { slots: 8192, lanes: 8, ..FRAME };
    let packing = |wide_stages| Packing::RowCopies(RowCopies { frame, guard: 16, wide_stages });
    let depth = |wide_stages| {
        let program = lower(&graph, &packing(wide_stages)).unwrap();
        let scales: Vec<PlainScale> = program
            .instructions()
            .iter()
            .filter_map(|i| match i {
                Instruction::Linear { scale, .. } if *scale != PlainScale::Fill => Some(*scale),
                _ => None,
            })
            .collect();
        let waiting = scales.iter().filter(|s| matches!(s, PlainScale::Waiting { .. })).count();
        assert_eq!(waiting + 1, scales.len(), "all masks but the one on the input");
        check(&graph, &packing(wide_stages));
        he_model::schedule::depth(&program)
    };
    // Two blocks a stage. The first stage has one more value, that of the stem; the last one has one less, which merges with the mean.
    let plain = depth(0);
    assert_eq!([depth(1), depth(2), depth(3), depth(4)], [plain + 3, plain + 5, plain + 6, plain + 6]);
    // A gate multiplies values between layers: such stages are not made wide.
    let gated = random(&Recipe { se: true, ..recipe }, 3).unwrap();
    let depth = |wide_stages| he_model::schedule::depth(&lower(&gated, &packing(wide_stages)).unwrap());
    assert_eq!(depth(3), depth(0));
}
