//! The planner: packing, ring degree, levels and primes, chosen by predicted cost.
//!
//! For each ring degree, from the smallest, every packing that fits is lowered and traced; the fastest one that
//! respects the security bound and the budget for keys wins. One prime of 30 bits serves a level; two remain at the output,
//! so that results of up to 2^28 at a scale of 2^30 cannot wrap around.

use ckks::KeyShape;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::ModelError;
use crate::executable::Executable;
use crate::graph::{Conv2d, Graph, NodeId, Op};
use crate::interpret::trace::{Costs, Trace};
use crate::lower::lower;
use crate::packing::{Packing, Room, RowCopies};
use crate::parameters::{PRIME_BITS, Ring, RingParameters, SecurityLevel};
use crate::program::{Instruction, Program, ValueId};
use crate::schedule::{Chain, Schedule, depth, schedule};

/// Level of the output: two primes.
pub const BASE_LEVEL: usize = 1;

/// log2 of the scale between layers on row copies. Masks and weights share a prime there, and their rounding is nearly all of the
/// error of the logits; two convolutions and the square between them take three primes, 90 bits, of which the scale
/// before the square is lost to them. Nothing is rounded at the scale between layers, which only says how the rest
/// is shared: at 23, with what squares have less, 32 bits for each of the two convolutions.
const COPIES_SCALE_BITS: u32 = 23;

/// Wide stages may make a plan this much slower.
const WIDE_TIME: f64 = 1.4;

/// Weights and masks with a prime each may make a plan this much slower, or by so many seconds of one thread: what shares a prime is
/// off by up to 2^-13 of its size, which networks of few layers, and those are quick, do not average out.
const PRECISE_TIME: (f64, f64) = (2.0, 2.0);

/// What fewer keys may cost in time where the budget does not ask for them.
const KEYS_TIME: f64 = 1.03;

/// What the user may decide.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlanOptions {
    /// log2 of the ring degree; chosen if not given.
    pub log_ring_degree: Option<u32>,
    /// What the parameters must promise.
    pub security: SecurityLevel,
    /// Most bytes that the evaluation keys may take in memory.
    pub max_key_bytes: usize,
    /// Weights and masks with a prime each: more precise, more levels. Chosen if not given: where it does not cost a
    /// larger ring.
    pub precise: Option<bool>,
    /// Bits of the weights where weights and mask share a prime.
    pub weight_bits: u32,
    /// Films that a batch has to hold at least; rounded up to a power of two.
    pub films: usize,
    /// Most residual stages whose values have half a prime more of scale (see [`RowCopies::wide_stages`]).
    pub wide_stages: usize,
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self {
            log_ring_degree: None,
            security: SecurityLevel::Classical128,
            max_key_bytes: 4 << 30,
            precise: None,
            weight_bits: 15,
            films: 1,
            wide_stages: 2,
        }
    }
}

/// What was chosen. Together with the graph it determines the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// How tensors lie in slots.
    pub packing: Packing,
    /// The ring.
    pub ring: RingParameters,
    /// log2 of the scale between layers.
    pub scale_bits: u32,
    /// Level of the output.
    pub base_level: usize,
}

impl Plan {
    /// The packed program of a graph under this plan.
    ///
    /// # Errors
    /// As [`lower`].
    pub fn program(&self, graph: &Graph) -> Result<Program, ModelError> {
        let slots = self.packing.slots();
        if slots != self.ring.slots() {
            let reason = format!("the packing has {slots} slots, the ring {}", self.ring.slots());
            return Err(ModelError::NoParameters { reason });
        }
        lower(graph, &self.packing)
    }

    /// Levels and scales with the real primes, q_0 first.
    ///
    /// # Errors
    /// As [`schedule`].
    pub fn schedule(&self, program: &Program, primes: &[f64]) -> Result<Schedule, ModelError> {
        let scale = f64::from(self.scale_bits).exp2();
        schedule(program, &Chain { primes: primes.to_vec(), scale, base_level: self.base_level })
    }

    /// Operations, keys and predicted cost.
    ///
    /// # Errors
    /// As [`RingParameters::plan`] and [`schedule`].
    pub fn trace(&self, program: &Program) -> Result<Trace, ModelError> {
        self.trace_in(&self.ring.plan()?, program)
    }

    /// As [`Self::trace`], in the planned ring.
    fn trace_in(&self, ring: &Ring, program: &Program) -> Result<Trace, ModelError> {
        let schedule = self.schedule(program, &ring.primes())?;
        Ok(Trace::new(&Executable::new(program, &schedule)?, ring, &Costs::default()))
    }
}

/// Chooses a plan for a graph.
///
/// # Errors
/// [`ModelError::Levels`] with what is missing at the largest ring, [`ModelError::KeyBudget`], or the reason why the graph cannot be packed.
pub fn plan(graph: &Graph, options: &PlanOptions) -> Result<Plan, ModelError> {
    let degrees = match options.log_ring_degree {
        Some(n) => n..=n,
        None => 13..=SecurityLevel::LARGEST_DEGREE,
    };
    let mut last = None;
    // Without and with a prime each for weights and masks.
    let mut best: [Option<(f64, Plan)>; 2] = [None, None];
    let mut found_at = None;
    let least = least_depth(graph, |_| 1) + BASE_LEVEL + 1;
    for log_n in degrees {
        // A ring twice as large is rarely faster; one step is worth a try.
        let done = best.iter().flatten().any(|(_, p)| p.packing.kind().is_exact() && is_roomy(graph, p));
        if found_at.is_some_and(|n| log_n > n + 1) || done {
            break;
        }
        // Nothing is packed where the primes cannot fit.
        if let Err(error) = RingParameters::choose(log_n, least, options.security) {
            last = Some(error);
            continue;
        }
        let precisions = options.precise.map_or(vec![true, false], |p| vec![p]);
        for precise in precisions {
            let (found, error) = at_degree(graph, options, log_n, precise);
            last = telling(last, error);
            let Some((cost, plan)) = found else { continue };
            found_at.get_or_insert(log_n);
            let settled = few_digits(&plan);
            let best = &mut best[usize::from(precise)];
            if best.as_ref().is_none_or(|(c, _)| cost < *c) {
                *best = Some((cost, plan));
            }
            // Where the primes are no burden, sharing them gains little.
            if settled {
                break;
            }
        }
    }
    let [shared, precise] = best;
    let best = match (shared, precise) {
        (Some(shared), Some(precise)) if is_too_slow(precise.0, shared.0) => Some(shared),
        (shared, precise) => precise.or(shared),
    };
    if let Some((seconds, plan)) = best {
        return Ok(widened(graph, options, seconds, plan));
    }
    let none = || ModelError::NoParameters { reason: "no ring degree was allowed".into() };
    let last = last.unwrap_or_else(none);
    if matches!(last, ModelError::NoParameters { .. } | ModelError::Ring(_)) {
        return Err(levels_missing(graph, options).unwrap_or(last));
    }
    Err(last)
}

/// The plan with as many wide stages as security, the budget for keys and [`WIDE_TIME`] allow.
fn widened(graph: &Graph, options: &PlanOptions, seconds: f64, plan: Plan) -> Plan {
    let Packing::RowCopies(copies) = plan.packing else { return plan };
    for wide_stages in (1..=options.wide_stages).rev() {
        let tried = [0, 1, 2, 8].into_par_iter().filter_map(|key_weight| {
            let packing = Packing::RowCopies(RowCopies { wide_stages, ..copies }).with_key_weight(key_weight);
            attempt(graph, options, plan.ring.log_ring_degree, packing).ok()
        });
        let fastest = tried.collect::<Vec<_>>().into_iter().min_by(|a, b| a.seconds.total_cmp(&b.seconds));
        if let Some(wide) = fastest.filter(|wide| wide.seconds <= WIDE_TIME * seconds) {
            return wide.plan;
        }
    }
    plan
}

/// What is missing where the primes do not fit: the packing with fewest levels at the largest ring degree allowed, up to the first
/// layer for which no level is left. `None` if nothing can be packed there, or it would fit.
fn levels_missing(graph: &Graph, options: &PlanOptions) -> Option<ModelError> {
    let log_n = options.log_ring_degree.unwrap_or(SecurityLevel::LARGEST_DEGREE);
    let bound = options.security.bound(log_n).ok()??;
    let packings = packings(graph, 1 << (log_n - 1), options.precise.unwrap_or(false), options);
    let programs = packings.iter().filter_map(|p| lower(graph, p).ok());
    let program = programs.min_by_key(depth)?;
    let holds = |limbs: &usize| least_bits(*limbs) <= bound;
    let levels = (1..).take_while(holds).last()?.saturating_sub(BASE_LEVEL + 1);
    let layer = first_layer_beyond(&program, levels)?.to_owned();
    let needed = depth(&program);
    let bits = least_bits(needed + BASE_LEVEL + 1);
    let fits = |n: &u32| matches!(options.security.bound(*n), Ok(Some(bound)) if bound >= bits);
    let larger = (log_n + 1..=SecurityLevel::LARGEST_DEGREE).find(fits);
    let log_ring_degree = log_n;
    Some(ModelError::Levels { layer, levels, needed, bits, bound, log_ring_degree, larger })
}

/// Bits of the smallest chain and special primes for `limbs` primes.
fn least_bits(limbs: usize) -> u32 {
    (limbs + KeyShape::least_special(limbs)) as u32 * PRIME_BITS
}

/// The first layer in whose course more than `levels` primes are used up.
fn first_layer_beyond(program: &Program, levels: usize) -> Option<&str> {
    let mut used = vec![0usize; program.instructions().len()];
    for (v, instruction) in program.instructions().iter().enumerate() {
        let before = instruction.operands().iter().map(|o| used[o.index()]).max().unwrap_or(0);
        used[v] = before + usize::from(matches!(instruction, Instruction::Rescale(_)));
        if used[v] > levels {
            return Some(program.layer_name(ValueId(v as u32)));
        }
    }
    None
}

/// A lower bound on the levels of a graph in a packing, without packing it: with a prime each for weights and mask, convolutions of
/// stride 1 that read beyond the image take two.
fn least_depth_packed(graph: &Graph, packing: &Packing) -> usize {
    let masks = packing.kind().masks(graph.input_shape());
    least_depth(graph, |conv| {
        let masked = conv.padding > 0 && conv.stride == 1 && masks;
        1 + usize::from(packing.is_precise() && masked)
    })
}

/// A lower bound on the levels of a graph, with those of a convolution.
fn least_depth(graph: &Graph, convolution: impl Fn(&Conv2d) -> usize) -> usize {
    let mut depth: Vec<usize> = Vec::with_capacity(graph.nodes().len());
    for node in graph.nodes() {
        let at = |k: usize| depth[node.inputs()[k].0];
        depth.push(match node.op() {
            Op::Input { .. } => 0,
            Op::AvgPool(_) | Op::GlobalAvgPool | Op::ChannelAffine(_) => at(0),
            // Merges with the pool and what lies before it, or with the square of what does.
            Op::Linear(_) if matches!(graph.node(node.inputs()[0]).op(), Op::GlobalAvgPool) => at(0),
            Op::Linear(_) if is_squeezed(graph, node.inputs()[0]) => at(0),
            Op::Conv2d(c) => at(0) + convolution(c),
            Op::Linear(_) => at(0) + 1,
            Op::Polynomial(p) => at(0) + p.degree().max(1).next_power_of_two().ilog2() as usize,
            Op::Add => at(0).max(at(1)),
            // The last product of a polynomial gate can be the one with the image.
            Op::ChannelMul => (at(0) + 1).max(at(1)),
        });
    }
    depth[graph.output().0]
}

/// Whether this is the activation of a matrix of means.
fn is_squeezed(graph: &Graph, act: NodeId) -> bool {
    let below = |id: NodeId| graph.node(id).inputs().first().copied();
    let matrix = below(act).filter(|id| matches!(graph.node(*id).op(), Op::Linear(_)));
    let pool = matrix.and_then(below);
    matches!(graph.node(act).op(), Op::Polynomial(_))
        && pool.is_some_and(|id| matches!(graph.node(id).op(), Op::GlobalAvgPool))
}

/// True if a larger ring cannot help: every tensor fits one ciphertext, and key switches have at most two digits.
fn is_roomy(graph: &Graph, plan: &Plan) -> bool {
    few_digits(plan) && graph.nodes().iter().all(|n| n.shape().len() <= plan.packing.slots())
}

/// Whether a plan with a prime each for weights and masks is slower than [`PRECISE_TIME`] allows; both in seconds.
fn is_too_slow(precise: f64, shared: f64) -> bool {
    let (times, more) = PRECISE_TIME;
    precise > (times * shared).max(shared + more)
}

/// True if key switches have at most two digits.
fn few_digits(plan: &Plan) -> bool {
    plan.ring.plan().is_ok_and(|ring| {
        let top = ring.max_level();
        ring.switch_shape(top).digits(top + 1) <= 2
    })
}

/// The error that says most about what to do: of budgets for keys the smallest that would do, before what else comes last.
fn telling(known: Option<ModelError>, new: Option<ModelError>) -> Option<ModelError> {
    match (known, new) {
        (Some(ModelError::KeyBudget { needed, budget }), Some(new)) => Some(match new {
            ModelError::KeyBudget { needed: less, budget } if less < needed => {
                ModelError::KeyBudget { needed: less, budget }
            }
            _ => ModelError::KeyBudget { needed, budget },
        }),
        (known, new) => new.or(known),
    }
}

/// The best plan at one ring degree, or the last reason why there is none.
fn at_degree(
    graph: &Graph,
    options: &PlanOptions,
    log_n: u32,
    precise: bool,
) -> (Option<(f64, Plan)>, Option<ModelError>) {
    let slots = 1usize << (log_n - 1);
    let (mut best, mut last): (Option<(f64, Plan)>, _) = (None, None);
    let most = options.films.checked_next_power_of_two();
    if most.is_none_or(|films| films > slots) {
        let reason = format!("a batch of {} films has more films than {slots} slots", options.films);
        return (None, Some(ModelError::NoParameters { reason }));
    }
    let packings = packings(graph, slots, precise, options);
    let tried: Vec<_> =
        packings.into_par_iter().flat_map_iter(|p| attempts(graph, options, log_n, p)).collect();
    for tried in tried {
        match tried {
            Ok(Attempt { seconds, plan, .. }) => {
                if best.as_ref().is_none_or(|(s, _)| seconds < *s) {
                    best = Some((seconds, plan));
                }
            }
            Err(error) => last = telling(last, Some(error)),
        }
    }
    (best, last)
}

/// What one packing gives, with fewer and fewer keys: only where more need more than the budget, or fit it at the price of larger ones.
fn attempts(
    graph: &Graph,
    options: &PlanOptions,
    log_n: u32,
    packing: Packing,
) -> Vec<Result<Attempt, ModelError>> {
    let least = least_depth_packed(graph, &packing) + BASE_LEVEL + 1;
    if let Err(error) = RingParameters::choose(log_n, least, options.security) {
        return vec![Err(error)];
    }
    let mut tried = vec![];
    for key_weight in [0, 1, 2, 8, 32] {
        tried.push(attempt(graph, options, log_n, packing.with_key_weight(key_weight)));
        let fewer_would_help = match tried.last() {
            Some(Ok(found)) => !found.fits,
            Some(Err(error)) => matches!(error, ModelError::KeyBudget { .. }),
            None => false,
        };
        if !fewer_would_help {
            break;
        }
    }
    tried
}

/// The best plan with one packing.
struct Attempt {
    /// Predicted, of one thread.
    seconds: f64,
    plan: Plan,
    /// True if the budget for keys leaves every choice of tiers.
    fits: bool,
}

/// Packs, and takes the fewest keys within the budget that cost at most [`KEYS_TIME`] of the fastest choice.
fn attempt(
    graph: &Graph,
    options: &PlanOptions,
    log_n: u32,
    packing: Packing,
) -> Result<Attempt, ModelError> {
    let program = lower(graph, &packing)?;
    let limbs = depth(&program) + BASE_LEVEL + 1;
    let ring = RingParameters::choose(log_n, limbs, options.security)?;
    let scale_bits = if packing.kind().shares_scale() { COPIES_SCALE_BITS } else { PRIME_BITS };
    let mut plan = Plan { packing, ring, scale_bits, base_level: BASE_LEVEL };
    // Without tiers of keys of their own for some levels, those of a higher tier serve: fewer keys, at some cost in time.
    let whole = plan.ring.plan()?;
    let tops: Vec<usize> = whole.tiers().iter().map(|t| t.top_level).rev().skip(1).collect();
    let needs = plan.trace_in(&whole, &program)?.keys;
    let mut choices: Vec<(usize, Vec<usize>)> = vec![];
    for skipped in 0..1usize << tops.len() {
        let chosen = tops.iter().enumerate().filter(|(i, _)| skipped >> i & 1 == 1);
        let skipped: Vec<usize> = chosen.map(|(_, top)| *top).collect();
        choices.push((needs.keys(&whole.skipping(&skipped)?).1, skipped));
    }
    choices.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
    let least = choices.first().map_or(0, |c| c.0);
    let within = choices.partition_point(|c| c.0 <= options.max_key_bytes);
    let fits = within == choices.len();
    let mut timed: Vec<(f64, Plan)> = vec![];
    for (_, skipped) in choices.into_iter().take(within) {
        let seconds = plan.trace_in(&whole.skipping(&skipped)?, &program)?.seconds();
        plan.ring.skipped_tiers = skipped;
        timed.push((seconds, plan.clone()));
    }
    let fastest = timed.iter().fold(f64::INFINITY, |s, (t, _)| s.min(*t));
    let chosen = timed.into_iter().find(|(seconds, _)| *seconds <= KEYS_TIME * fastest);
    let (needed, budget) = (least >> 20, options.max_key_bytes >> 20);
    let (seconds, plan) = chosen.ok_or(ModelError::KeyBudget { needed, budget })?;
    Ok(Attempt { seconds, plan, fits })
}

/// The packings worth trying.
fn packings(graph: &Graph, slots: usize, precise: bool, options: &PlanOptions) -> Vec<Packing> {
    let films = options.films.checked_next_power_of_two().unwrap_or(slots).min(slots);
    Packing::candidates(&Room { graph, slots, films, weight_bits: options.weight_bits, precise })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Shape;
    use crate::zoo::{Architecture, Recipe, random};

    /// Found with ResNet32 and gates: the bound was above what packing gives, so that nothing was tried.
    #[test]
    #[allow(clippy::unwrap_used)]
    fn the_least_depth_is_a_lower_bound() {
        for architecture in [Architecture::LeNet, Architecture::HefNet, Architecture::ResNet(8)] {
            for (se, post_add_activation) in [(false, false), (true, false), (false, true), (true, true)] {
                let input = Shape::new(4, 8, 8);
                let recipe = Recipe { architecture, input, labels: 5, se, post_add_activation, shrink: 8 };
                let graph = random(&recipe, 3).unwrap();
                let mut lowered = 0;
                for (precise, slots) in [(true, 128), (false, 128), (true, 1024), (false, 1024)] {
                    for packing in packings(&graph, slots, precise, &PlanOptions::default()) {
                        let Ok(program) = lower(&graph, &packing) else { continue };
                        let (least, found) = (least_depth_packed(&graph, &packing), depth(&program));
                        let name = architecture.name();
                        assert!(least <= found, "{name} se {se}: {least} of {found} in {packing:?}");
                        lowered += 1;
                    }
                }
                assert!(lowered > 10, "{lowered}");
            }
        }
    }
}
