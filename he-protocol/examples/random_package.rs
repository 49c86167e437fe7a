//! Makes a model package without any training: a network of random, range-safe weights, planned at 128-bit security. For measuring a
//! service; it diagnoses nothing.
//!
//! `cargo run --release -p he-protocol --example random_package -- DIR [ARCHITECTURE] [SIDE] [CHANNELS] [FILMS] [MIB]`
//! (`lenet`, `vggnet`, `hefnet` or `resnet20` and so on; side and channels of the latent; films in a batch; memory for keys).

use std::collections::BTreeMap;
use std::path::Path;

use he_model::zoo::{Architecture, Recipe, random, random_input};
use he_model::{HeModel, Offsets, PlanOptions, Preprocessing, Ranges, Shape, plan};
use he_protocol::{Card, Package};
use he_runtime::Circuit;

/// Labels of the NIH data set.
const LABELS: usize = 14;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let folder = arguments.first().ok_or("expected a folder for the package")?;
    let argument = |i: usize, default: &str| arguments.get(i).cloned().unwrap_or_else(|| default.into());
    let name = argument(1, "resnet20");
    let architecture: Architecture = name.parse()?;
    let side: usize = argument(2, "32").parse()?;
    let input = Shape::new(argument(3, "4").parse()?, side, side);
    let (films, budget): (usize, usize) = (argument(4, "1").parse()?, argument(5, "4096").parse()?);
    let recipe =
        Recipe { architecture, input, labels: LABELS, se: false, post_add_activation: false, shrink: 1 };
    let graph = random(&recipe, 1)?;
    let plan = plan(&graph, &PlanOptions { films, max_key_bytes: budget << 20, ..PlanOptions::default() })?;
    let mut ranges = Ranges::new(&graph);
    for seed in 0..8 {
        ranges.observe(&graph, &random_input(input, seed))?;
    }
    let model = HeModel {
        plan,
        labels: (1..=LABELS).map(|i| format!("finding {i}")).collect(),
        preprocessing: Preprocessing::unknown(8 * side, input),
        ranges,
        graph,
        offsets: Offsets::new(),
        notes: BTreeMap::new(),
    };
    let trace = Circuit::new(&model)?.trace;
    let temporary = tempfile::tempdir()?;
    let file = temporary.path().join("model.safetensors");
    model.save(&file)?;
    let note = ("weights".to_owned(), "random: for measurements, no diagnosis".to_owned());
    let card = Card { notes: BTreeMap::from([note]), ..Card::default() };
    let package = Package::create(Path::new(folder), name.parse()?, &file, None, card)?;
    println!("{} {input} -> {folder}, package {}", architecture.title(), package.digest);
    println!(
        "N = 2^{}, {} in a ciphertext, {} keys of {} MiB, predicted {:.1} s of one thread a ciphertext",
        model.plan.ring.log_ring_degree,
        model.plan.packing.films(),
        trace.key_count,
        trace.key_bytes >> 20,
        trace.seconds()
    );
    Ok(())
}
