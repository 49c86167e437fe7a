//! Measures random networks end to end: `cargo run --release -p he-runtime --example networks -- resnet20 32 4`
//! (architecture, side and channels of the latent, `se` or `-`, MiB of memory for keys,
//! `true` or `false` for precise or not).
//! `SIMULATE=n` runs the packed program with modelled noise on n latents and prints what the logits are off by.
//! `LAYERS=1` prints every layer, `PLAN=1` stops after planning, `RUNS` is the number of
//! runs (2: the first one also pays for memory), `FILMS` the size of the batch (1), `WIDE` the most wide stages, `SHRINK` a divisor of all widths.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use he_model::zoo::{Architecture, Recipe, random, random_input};
use he_model::{HeModel, Offsets, PlanOptions, Preprocessing, Ranges, Shape, plan};
use he_runtime::client::{KeyBundle, decrypt_batch, encrypt_batch};
use he_runtime::simulate::simulate;
use he_runtime::{Circuit, Server};
use rand::SeedableRng;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument = |i: usize, default: &str| arguments.get(i).cloned().unwrap_or_else(|| default.into());
    let architecture: Architecture = argument(0, "lenet").parse()?;
    let side: usize = argument(1, "8").parse()?;
    let input = Shape::new(argument(2, "4").parse()?, side, side);
    let se = argument(3, "") == "se";
    let shrink = std::env::var("SHRINK").ok().and_then(|v| v.parse().ok()).unwrap_or(1);
    let recipe = Recipe { architecture, input, labels: 14, se, post_add_activation: false, shrink };
    let graph = random(&recipe, 1)?;
    let start = Instant::now();
    let budget: usize = argument(4, "4096").parse()?;
    let precise = argument(5, "").parse().ok();
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse().ok());
    let films = number("FILMS").unwrap_or(1);
    let mut options = PlanOptions { max_key_bytes: budget << 20, precise, films, ..PlanOptions::default() };
    options.wide_stages = number("WIDE").unwrap_or(options.wide_stages);
    let plan = plan(&graph, &options)?;
    println!(
        "{} {input}: planned in {:.1} s: {:?}",
        architecture.title(),
        start.elapsed().as_secs_f64(),
        plan.packing
    );
    println!(
        "ring degree 2^{}, {}+{} primes",
        plan.ring.log_ring_degree,
        plan.ring.modulus_bits.len(),
        plan.ring.special_bits.len()
    );
    let labels = (0..14).map(|i| format!("label {i}")).collect();
    let preprocessing = Preprocessing::unknown(256, input);
    let model = HeModel {
        plan,
        labels,
        preprocessing,
        ranges: Ranges::new(&graph),
        graph,
        offsets: Offsets::new(),
        notes: BTreeMap::new(),
    };
    let circuit = Circuit::new(&model)?;
    let spec = circuit.spec.clone();
    println!(
        "predicted {:.2} s of one thread, {} keys, {} MiB",
        circuit.trace.seconds(),
        circuit.trace.key_count,
        circuit.trace.key_bytes >> 20
    );
    println!("depth {}, tiers {:?}", circuit.trace.depth, circuit.ring.tiers());
    if let Some(latents) = number("SIMULATE") {
        simulated(&model, &circuit, latents)?;
    }
    if std::env::var_os("PLAN").is_some() {
        for l in circuit.trace.layers.iter().filter(|_| std::env::var_os("LAYERS").is_some()) {
            let counts = l.operations;
            println!(
                "  {:24} level {:3}: {:3} decompositions, {:4} key products, {:4} divisions, {:4} plaintext products, {:8.1} ms predicted",
                l.name,
                l.level,
                counts.decompositions,
                counts.key_products,
                counts.divisions,
                counts.plaintext_products,
                l.milliseconds
            );
        }
        return Ok(());
    }
    let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
    let start = Instant::now();
    let keys = KeyBundle::generate(&spec, &mut rng)?;
    println!(
        "keys in {:.1} s: {}, {} MiB",
        start.elapsed().as_secs_f64(),
        keys.server.count(),
        keys.server.bytes() >> 20
    );
    let latents: Vec<Vec<f64>> = (0..films as u64).map(|film| random_input(input, 7 + film)).collect();
    let encrypted = encrypt_batch(&spec, &keys.client, &latents, &mut rng)?;
    // From here on only what an evaluating process holds; Linux resets the peak on request.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let start = Instant::now();
    let server = Server::new(&model, keys.server)?;
    println!("prepared in {:.1} s, {} MiB", start.elapsed().as_secs_f64(), server.bytes() >> 20);
    let runs = std::env::var("RUNS").ok().and_then(|v| v.parse().ok()).unwrap_or(2);
    for _ in 0..runs {
        let (start, before) = (Instant::now(), cpu_seconds());
        let (result, times) = server.run(&encrypted, &mut |_| {}, &AtomicBool::new(false))?;
        println!(
            "run in {:.2} s, {:.2} s of all cores",
            start.elapsed().as_secs_f64(),
            cpu_seconds() - before
        );
        let mut error = 0.0f64;
        for (got, latent) in decrypt_batch(&spec, &keys.client, &result, films)?.iter().zip(&latents) {
            let want = model.graph.run(latent)?;
            error = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(error, f64::max);
        }
        println!("largest logit difference {error:.2e}, peak memory {} MiB", peak_mebibytes());
        if std::env::var_os("LAYERS").is_some() {
            for t in times {
                println!(
                    "  {:24} {:8.1} ms, predicted {:8.1}",
                    t.name,
                    t.time.as_secs_f64() * 1e3,
                    t.predicted_milliseconds
                );
            }
        }
    }
    Ok(())
}

/// Processor time of this process so far, in seconds; zero where the system does not say.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    fields.filter_map(|f| f.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// Peak memory of this process since the last reset; zero where the system does not say.
fn peak_mebibytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|v| v.parse::<usize>().ok()).unwrap_or(0) / 1024
}

/// Prints how far the logits of simulated runs are off.
fn simulated(model: &HeModel, circuit: &Circuit, latents: usize) -> Result<(), Box<dyn std::error::Error>> {
    let mut rng = rand::rngs::StdRng::seed_from_u64(1);
    let mut errors: Vec<f64> = vec![];
    for seed in 0..latents as u64 {
        let latent = random_input(circuit.executable.input().shape(), seed);
        let clear = model.graph.run(&latent)?;
        let noisy = simulate(circuit, &[&latent], &mut rng)?.remove(0).logits;
        errors.extend(clear.iter().zip(noisy).map(|(a, b)| (a - b).abs()));
    }
    let mean_square = errors.iter().map(|e| e * e).sum::<f64>() / errors.len().max(1) as f64;
    let largest = errors.iter().copied().fold(0.0, f64::max);
    println!(
        "simulated error of a logit: {:.1e} root mean square, {largest:.1e} at most",
        mean_square.sqrt()
    );
    Ok(())
}
