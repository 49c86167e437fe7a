//! Prints what the planner chooses for random networks of every architecture: `cargo run --release -p he-model --example plans`.

use he_model::zoo::{Architecture, Recipe, random};
use he_model::{PlanOptions, Shape, plan};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Optionally the budget for keys, in MiB.
    let budget = std::env::args().nth(1).and_then(|v| v.parse().ok()).unwrap_or(4096usize);
    let options = PlanOptions { max_key_bytes: budget << 20, ..PlanOptions::default() };
    let sides = [Shape::new(4, 8, 8), Shape::new(8, 16, 16), Shape::new(4, 32, 32)];
    for architecture in
        [Architecture::LeNet, Architecture::VggNet, Architecture::HefNet, Architecture::ResNet(20)]
    {
        for (input, se) in sides.into_iter().flat_map(|s| [(s, false), (s, true)]) {
            let recipe =
                Recipe { architecture, input, labels: 14, se, post_add_activation: false, shrink: 1 };
            let name = format!("{}{} {input}", architecture.title(), if se { "+SE" } else { "" });
            let graph = match random(&recipe, 1) {
                Ok(graph) => graph,
                // VGGNet has four pools, for which 8 rows are too few.
                Err(error) => {
                    println!("{name}: {error}");
                    continue;
                }
            };
            let start = std::time::Instant::now();
            match plan(&graph, &options) {
                Err(error) => println!("{name:24} {error}"),
                Ok(plan) => {
                    let took = start.elapsed().as_secs_f64();
                    let trace = plan.trace(&plan.program(&graph)?)?;
                    println!(
                        "{name:24} N=2^{} {:?} depth {:2} limbs {:2}+{:2} keys {:3} = {:5} MiB, {:6.2} s predicted (planned in {took:.1} s)",
                        plan.ring.log_ring_degree,
                        plan.packing,
                        trace.depth,
                        plan.ring.modulus_bits.len(),
                        plan.ring.special_bits.len(),
                        trace.key_count,
                        trace.key_bytes >> 20,
                        trace.seconds(),
                    );
                }
            }
        }
    }
    Ok(())
}
