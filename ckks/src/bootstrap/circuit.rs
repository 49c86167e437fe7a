//! What a bootstrap computes with, made once for a set of parameters: the encoded maps and the series.

use crate::Encoder;
use crate::bootstrap::plan::{BootstrapPlan, FROM_SPARSE_SPECIAL};
use crate::bootstrap::scales::Scales;
use crate::bootstrap::series::Series;
use crate::bootstrap::shapes::{BABIES, MATRICES};
use crate::bootstrap::transform::{self, SlotMatrix};
use crate::error::Result;
use crate::evaluator::LinearTransform;
use crate::parameters::Parameters;

/// The maps, the series and the scales of a bootstrap.
#[derive(Debug)]
pub(crate) struct Circuit {
    /// From slots to coefficients, in the order of application.
    pub(crate) to_coefficients: [LinearTransform; MATRICES],
    /// From coefficients to slots. The first has no giant steps: its rotations come by keys from the sparse secret.
    pub(crate) to_slots: [LinearTransform; MATRICES],
    /// Of x = v + I: cos(2 pi (x - 1/4) / 2^doublings).
    pub(crate) series: Series,
    pub(crate) scales: Scales,
}

impl Circuit {
    /// Encodes the maps. Takes about a second and 0.4 GiB at N = 2^16, most of it the first map to slots.
    pub(crate) fn new(p: &Parameters, plan: &BootstrapPlan) -> Result<Self> {
        let encoder = Encoder::new(p);
        let scales = Scales::new(p, plan);
        let [a, b, c] = transform::slots_to_coefficients(p.slots());
        let (levels, special) = (plan.input_levels(), |level| p.key_shape(level).special);
        let encode = |matrix: &SlotMatrix, level: usize, scale: f64| {
            matrix.encode(&encoder, (level, special(level)), scale, BABIES)
        };
        let to_coefficients = [
            encode(&a, levels[0], scales.to_coefficients[0])?,
            encode(&b, levels[1], scales.to_coefficients[1])?,
            encode(&c, levels[2], scales.to_coefficients[2])?,
        ];
        let [a, b, c] = transform::coefficients_to_slots(p.slots());
        let levels = plan.output_levels();
        let to_slots = [
            a.encode(&encoder, (levels[0], FROM_SPARSE_SPECIAL), scales.to_slots[0], p.slots())?,
            encode(&b, levels[1], scales.to_slots[1])?,
            encode(&c, levels[2], scales.to_slots[2])?,
        ];
        Ok(Self { to_coefficients, to_slots, series: Series::fit(plan)?, scales })
    }
}
