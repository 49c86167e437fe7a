//! The operations that a network spends its time in, at N = 2^16 with 40 limbs (1200 bits) and 128-bit security.
//!
//! Prints one line an operation: median wall time, and median processor time of the thread where the system tells it; then the
//! table of targets. Run with `cargo bench -p ckks --bench targets`; a word after `--` keeps only the lines that contain it,
//! `threads=2` sets the number of threads.
#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Instant;

use ckks::{
    Ciphertext, Diagonal, Encoder, Encryptor, EvaluationKeyRequest, EvaluationKeys, Evaluator, KeyGenerator,
    LinearTerm, LinearTransform, Parameters, ParametersLiteral, SecretDistribution, SecretKey, Security,
    Wire,
};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

const SCALE: f64 = (1u64 << 30) as f64;

/// Nanoseconds that this thread has spent on a processor, where Linux says so.
fn thread_time() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok()
}

struct Report {
    filter: Option<String>,
    pool: rayon::ThreadPool,
    /// Wall time of each line, in milliseconds.
    medians: RefCell<BTreeMap<String, f64>>,
}

/// Lines, targets in milliseconds, and what other libraries take, one thread each.
const TARGETS: [(&str, f64, &str); 5] = [
    ("rotate, top level", 70.0, "763-803 ms"),
    ("rotate, hoisted, one of 8, top level", 25.0, "367 ms"),
    ("square + relinearize + rescale, top level", 85.0, "0.8-1.0 s"),
    ("square + relinearize + rescale, half the levels", 35.0, "0.3 s"),
    ("encrypt with the public key, with encoding", 60.0, "181-338 ms"),
];
/// Megabytes of one rotation key on the wire and in memory, and how much faster two threads should rotate than one.
const KEY_TARGETS: (usize, usize) = (60, 120);
const THREADS_TARGET: f64 = 1.7;

impl Report {
    /// Whether a line of this name, or one that begins so, may be asked for.
    fn wants(&self, name: &str) -> bool {
        self.filter.as_ref().is_none_or(|f| f.contains(name) || name.contains(f.as_str()))
    }

    /// Median of several runs, in milliseconds, divided by `share`.
    fn line<T>(&self, name: &str, share: f64, run: impl FnMut() -> T + Send) {
        if self.filter.as_ref().is_some_and(|f| !name.contains(f.as_str())) {
            return;
        }
        let (wall, cpu) = self.pool.install(move || measure(run));
        println!("{name:58} {:9.2} ms   thread {:9.2} ms", wall / share, cpu / share);
        self.medians.borrow_mut().insert(name.to_owned(), wall / share);
    }

    /// The targets, of the lines that were measured.
    fn table(&self, (wire, memory): (usize, usize), two_threads: Option<f64>) {
        let verdict = |met: bool| if met { "met" } else { "missed" };
        println!("\n{:58} {:>9} {:>12} {:>12}", "", "target", "measured", "elsewhere");
        for (name, target, elsewhere) in TARGETS {
            if let Some(&median) = self.medians.borrow().get(name) {
                let verdict = verdict(median <= target);
                println!("{name:58} {target:6.0} ms {median:9.1} ms {elsewhere:>12}   {verdict}");
            }
        }
        let (wire_target, memory_target) = KEY_TARGETS;
        let met = verdict(wire <= wire_target && memory <= memory_target);
        let (targets, sizes) = (format!("{wire_target}/{memory_target}"), format!("{wire}/{memory}"));
        println!(
            "{:58} {targets:>6} MB {sizes:>9} MB {:>12}   {met}",
            "one rotation key, wire/memory", "345 MB"
        );
        if let (Some(two), Some(one)) = (two_threads, self.medians.borrow().get(TARGETS[0].0)) {
            let (ratio, name) = (one / two, "rotation, two threads over one");
            println!(
                "{name:58} {THREADS_TARGET:6.1} x  {ratio:9.2} x  {:>12}   {}",
                "",
                verdict(ratio >= THREADS_TARGET)
            );
        }
    }
}

fn measure<T>(mut run: impl FnMut() -> T) -> (f64, f64) {
    run();
    let (mut walls, mut cpus) = (Vec::new(), Vec::new());
    let start = Instant::now();
    while walls.len() < 5 || (start.elapsed().as_secs_f64() < 1.0 && walls.len() < 99) {
        let (cpu, wall) = (thread_time(), Instant::now());
        let result = run();
        walls.push(wall.elapsed().as_secs_f64() * 1e3);
        cpus.push(thread_time().zip(cpu).map_or(f64::NAN, |(b, a)| (b - a) as f64 / 1e6));
        drop(result);
    }
    let median = |v: &mut Vec<f64>| {
        v.sort_by(f64::total_cmp);
        v[v.len() / 2]
    };
    (median(&mut walls), median(&mut cpus))
}

struct Setup {
    parameters: Parameters,
    encoder: Encoder,
    encryptor: Encryptor,
    evaluator: Evaluator,
    keys: EvaluationKeys,
}

/// 40 limbs of 30 bits and 18 special primes: log2(QP) = 1740 of 1747 bits.
fn setup() -> Setup {
    let literal = ParametersLiteral {
        log_ring_degree: 16,
        modulus_bits: vec![30; 40],
        special_bits: vec![30; 18],
        secret: SecretDistribution::UniformTernary,
        security: Security::Classical128,
        bootstrap: None,
    };
    let parameters = literal.build().unwrap();
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let secret = SecretKey::generate(&parameters, &mut rng);
    let generator = KeyGenerator::new(&parameters, &secret).unwrap();
    let rotations = (1..=8).chain([16, 32, 48]);
    let request = EvaluationKeyRequest {
        relinearization: vec![39, 19, 4],
        rotations: rotations.flat_map(|k| [(k, 39), (k, 19), (k, 4)]).collect(),
        conjugations: Vec::new(),
    };
    Setup {
        encoder: Encoder::new(&parameters),
        encryptor: Encryptor::new(&parameters, generator.public_key(&mut rng)).unwrap(),
        evaluator: Evaluator::new(&parameters),
        keys: generator.evaluation_keys(&request, &mut rng).unwrap(),
        parameters,
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let threads = arguments.iter().find_map(|a| a.strip_prefix("threads=")?.parse().ok()).unwrap_or(1);
    let filter = arguments.into_iter().find(|a| !a.contains('='));
    let report = Report {
        filter,
        pool: rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap(),
        medians: RefCell::default(),
    };
    println!(
        "N = 2^16, 40 limbs of 30 bits, 18 special primes, {threads} thread(s), {}",
        ckks::instruction_set()
    );
    let s = setup();
    for tier in s.parameters.key_tiers() {
        println!("keys up to level {:2}: {:?}", tier.top_level, tier.shape);
    }
    let mut rng = ChaCha20Rng::seed_from_u64(2);
    let slots: Vec<f64> = (0..s.parameters.slots()).map(|i| (i as f64).sin()).collect();
    report.line("encode", 1.0, || s.encoder.encode_real(&slots, SCALE, 39).unwrap());
    report.line("encrypt with the public key, with encoding", 1.0, || {
        let plaintext = s.encoder.encode_real(&slots, SCALE, 39).unwrap();
        s.encryptor.encrypt(&plaintext, &mut rng).unwrap()
    });
    let plaintext = s.encoder.encode_real(&slots, SCALE, 39).unwrap();
    let fresh = s.encryptor.encrypt(&plaintext, &mut rng).unwrap();
    for (name, level) in [("top level", 39), ("half the levels", 19), ("level 4", 4)] {
        let a = s.evaluator.drop_level(&fresh, level).unwrap();
        operations(&report, &s, name, &a);
    }
    let key = s.keys.galois(s.parameters.galois_element(1), 39).unwrap();
    let wire = key.to_bytes(&s.parameters).unwrap().len();
    let sizes = (wire >> 20, key.bytes() >> 20);
    let two_threads = (threads == 1 && report.medians.borrow().contains_key(TARGETS[0].0)).then(|| {
        let two = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let (evaluator, fresh, keys) = (&s.evaluator, &fresh, &s.keys);
        two.install(|| measure(|| evaluator.rotate(fresh, 1, keys).unwrap())).0
    });
    let Setup { parameters, encoder, evaluator, keys, .. } = s;
    drop(keys);
    for level in [30, 19, 9].into_iter().filter(|_| report.wants("convolution")) {
        let keys = {
            let request = EvaluationKeyRequest {
                relinearization: Vec::new(),
                rotations: (1..16).chain([16, 32, 48]).map(|k| (k, level)).collect(),
                conjugations: Vec::new(),
            };
            let secret = SecretKey::generate(&parameters, &mut rng);
            let generator = KeyGenerator::new(&parameters, &secret).unwrap();
            generator.evaluation_keys(&request, &mut rng).unwrap()
        };
        let a = evaluator.drop_level(&fresh, level).unwrap();
        convolution(&report, (&encoder, &evaluator, &keys), &a);
    }
    report.table(sizes, two_threads);
}

/// The linear map of a ResNet20 convolution: 16 baby and 4 giant steps, 64 products with periodic weights.
fn convolution(
    report: &Report,
    (encoder, evaluator, keys): (&Encoder, &Evaluator, &EvaluationKeys),
    a: &Ciphertext,
) {
    let limbs = a.level() + 1;
    for period in [1024, 4096] {
        let weights: Vec<f64> = (0..period).map(|i| (i as f64).cos()).collect();
        let plain = encoder.encode_periodic_real(&weights, SCALE).unwrap();
        let terms = [0, 16, 32, 48].into_iter().flat_map(|giant| {
            let plain = &plain;
            (0..16).map(move |baby| LinearTerm { giant, baby, plaintext: Diagonal::from(plain.clone()) })
        });
        let map = LinearTransform::new(terms.collect()).unwrap();
        let name = format!("convolution, 16 x 4 steps, period {period}, {limbs} limbs");
        report.line(&name, 1.0, || evaluator.linear_transform_and_rescale(a, &map, 1, keys).unwrap());
    }
}

fn operations(report: &Report, s: &Setup, at: &str, a: &Ciphertext) {
    let (evaluator, keys, level) = (&s.evaluator, &s.keys, a.level());
    report.line(&format!("rotate, {at}"), 1.0, || evaluator.rotate(a, 1, keys).unwrap());
    let eight: Vec<i64> = (1..=8).collect();
    report.line(&format!("rotate, hoisted, one of 8, {at}"), 8.0, || {
        evaluator.rotate_hoisted(a, &eight, keys).unwrap()
    });
    report.line(&format!("square + relinearize + rescale, {at}"), 1.0, || {
        evaluator.relinearize_and_rescale(&evaluator.square(a).unwrap(), 1, keys).unwrap()
    });
    report.line(&format!("rescale, {at}"), 1.0, || evaluator.rescale(a).unwrap());
    let plaintext = s.encoder.encode_real(&[0.5; 100], SCALE, level).unwrap();
    report.line(&format!("plaintext product, {at}"), 1.0, || evaluator.mul_plain(a, &plaintext).unwrap());
    for period in [16, 1024, 4096] {
        let weights: Vec<f64> = (0..period).map(|i| (i as f64).cos()).collect();
        let plain = s.encoder.encode_periodic_real(&weights, SCALE).unwrap();
        let terms = [0, 16, 32, 48].into_iter().flat_map(|giant| {
            let plain = &plain;
            (0..8).map(move |baby| LinearTerm { giant, baby, plaintext: Diagonal::from(plain.clone()) })
        });
        let map = LinearTransform::new(terms.collect()).unwrap();
        let name = format!("linear map, 8 baby, 4 giant steps, period {period}, {at}");
        report.line(&name, 1.0, || evaluator.linear_transform_and_rescale(a, &map, 1, keys).unwrap());
    }
}
