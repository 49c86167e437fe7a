//! Means: rotations and sums, no plaintext and no level. The division is left to the next linear map as a factor.

use super::{Lowering, Tensor};
use crate::ModelError;
use crate::graph::{AvgPool, Bias, Conv2d, NodeId};
use crate::layout::{Grid, Layout};
use crate::packing::Packing;
use crate::program::{Instruction, ValueId, rounds};

/// From this weight of keys on, rounds of sums double instead of quadrupling, and sums are conjugated without keys for rotations that are
/// followed by a conjugation.
pub(super) const FEWER_KEYS: u32 = 2;

impl Lowering<'_> {
    /// The sum over a window lands on the window's first cell; the other cells hold sums nobody asked for, which
    /// the next mask empties. The stride becomes dilation.
    pub(super) fn avg_pool(&mut self, id: NodeId, pool: AvgPool, x: Tensor) -> Result<Tensor, ModelError> {
        let Layout::Grid(grid) = x.layout else { return Ok(x) };
        if !pool.stride.is_power_of_two() {
            return Err(self.unsupported(id, "its stride is not a power of two"));
        }
        let x = if x.is_clean() { x } else { self.clean(x) };
        let shape = self.graph.node(id).shape();
        let to = self.packing.strided(&grid, shape, pool.stride);
        if matches!(self.packing, Packing::Dense(_))
            && (grid.ciphertexts() > 1 || to.row_phases > 1 && grid.row_phases > 1)
        {
            return self.pool_as_conv(id, pool, x, &grid, to);
        }
        // A stride multiplies the phases of a cell: channels move between ciphertexts.
        if pool.stride > 1 && grid.ciphertexts() > 1 {
            return self.gathered_pool(pool, &grid, to, x);
        }
        let (mut values, mut support) = (x.values.clone(), x.support.clone());
        for step in [grid.cell(0, 1), grid.cell(1, 0)] {
            for (v, s) in values.iter_mut().zip(&mut support) {
                (*v, *s) = self.run_of_sums(*v, s, pool.kernel, step, grid.lanes);
            }
        }
        let n = (pool.kernel * pool.kernel) as f64;
        let factor = x.factor.iter().map(|f| f / n).collect();
        Ok(Tensor { values, layout: Layout::Grid(to), factor, support })
    }

    /// A mean is a convolution of each channel with itself: one level.
    fn pool_as_conv(
        &mut self,
        id: NodeId,
        pool: AvgPool,
        x: Tensor,
        from: &Grid,
        to: Grid,
    ) -> Result<Tensor, ModelError> {
        let (channels, taps) = (from.shape.channels, pool.kernel * pool.kernel);
        let conv = Conv2d {
            out_channels: channels,
            kernel: [pool.kernel; 2],
            stride: pool.stride,
            padding: 0,
            groups: channels,
            weight: vec![1.0 / taps as f64; channels * taps],
            bias: Bias::None,
        };
        self.conv_dense(id, &conv, x, from, to)
    }

    /// Pools each ciphertext and moves the result into the phase where the wider period expects it: with dilation
    /// d s, ciphertext k of the input is the k mod s-th block of phases of ciphertext k / s of the output.
    fn gathered_pool(
        &mut self,
        pool: AvgPool,
        grid: &Grid,
        to: Grid,
        x: Tensor,
    ) -> Result<Tensor, ModelError> {
        let mut values: Vec<ValueId> = vec![];
        for (k, v) in x.values.iter().enumerate() {
            let mut sum = *v;
            let mut support = x.support[k].clone();
            for step in [grid.cell(0, 1), grid.cell(1, 0)] {
                (sum, support) = self.run_of_sums(sum, &support, pool.kernel, step, grid.lanes);
            }
            // Sums nobody asked for lie where another block goes: a mask empties them.
            let channels = (grid.shape.channels - k * grid.period()).min(grid.period());
            let part = Grid { shape: crate::Shape { channels, ..to.shape }, ..to };
            let n = (pool.kernel * pool.kernel) as f64;
            let mask = Layout::Grid(part).fill(|c, _| x.factor[k * grid.period() + c] / n);
            for mask in mask {
                let clean = self.masked(sum, mask);
                let block = k % pool.stride;
                let moved = self.builder.rotate(clean, -((block * grid.period()) as i64));
                match values.get_mut(k / pool.stride) {
                    Some(value) => *value = self.builder.push(Instruction::Add(*value, moved)),
                    None => values.push(moved),
                }
            }
        }
        Ok(Tensor::unit(values, Layout::Grid(to)))
    }

    /// `sum over j < n of rotate_(j step cells)(v)` by doubling, with the cells that it reaches.
    fn run_of_sums(
        &mut self,
        v: ValueId,
        support: &[bool],
        n: usize,
        step: isize,
        lanes: usize,
    ) -> (ValueId, Vec<bool>) {
        let rotate = |s: &[bool], by: isize| {
            let n = s.len() as isize;
            (0..n).map(|i| s[(i + by).rem_euclid(n) as usize]).collect::<Vec<bool>>()
        };
        let or = |a: &[bool], b: &[bool]| a.iter().zip(b).map(|(a, b)| *a || *b).collect::<Vec<bool>>();
        // `run` is the sum over `length` steps; `sum` covers the low bits of n that were used up.
        let (mut run, mut run_support, mut length) = (v, support.to_vec(), 1usize);
        let mut sum: Option<(ValueId, Vec<bool>, usize)> = None;
        loop {
            if n & length != 0 {
                sum = Some(match sum {
                    None => (run, run_support.clone(), length),
                    Some((s, support, covered)) => {
                        let by = step * covered as isize;
                        let moved = self.builder.rotate(run, by as i64 * lanes as i64);
                        let value = self.builder.push(Instruction::Add(s, moved));
                        (value, or(&support, &rotate(&run_support, by)), covered + length)
                    }
                });
            }
            if length * 2 > n {
                break;
            }
            let by = step * length as isize;
            let moved = self.builder.rotate(run, by as i64 * lanes as i64);
            run = self.builder.push(Instruction::Add(run, moved));
            run_support = or(&run_support, &rotate(&run_support, by));
            length *= 2;
        }
        sum.map_or((v, support.to_vec()), |(v, s, _)| (v, s))
    }

    /// The sum of all periods of a film's slots: in every period where the film is alone, in the first one where it is not.
    pub(super) fn sum_of_periods(&mut self, v: ValueId, period: usize, grid: &Grid) -> ValueId {
        self.sum_of_steps(v, period, grid.film_slots() / period)
    }

    /// The sum of the rotations by 0, `step`, 2 `step` .. (`count` - 1) `step`.
    pub(super) fn sum_of_steps(&mut self, v: ValueId, step: usize, count: usize) -> ValueId {
        let step = step as u32;
        if count <= 1 {
            return v;
        }
        // Rounds of four need keys that rounds of two do not.
        let radix = if self.packing.frame().key_weight < FEWER_KEYS { 4 } else { 2 };
        self.rotations.extend(rounds(step, count, radix).concat().into_iter().map(i64::from));
        self.builder.push(Instruction::SumRotations { input: v, step, count, radix })
    }

    /// Sums over all cells of the same phase, whether they hold a pixel or zero: every period of slots then holds the
    /// sum of all pixels, a periodic vector.
    pub(super) fn global_pool(&mut self, id: NodeId, x: Tensor) -> Result<Tensor, ModelError> {
        let Layout::Grid(grid) = x.layout else { return Ok(x) };
        if grid.row_phases > 1 {
            return self.gathered_mean(id, &x, &grid);
        }
        let x = if x.is_clean() { x } else { self.clean(x) };
        let mut values = Vec::with_capacity(x.values.len());
        for v in &x.values {
            values.push(self.sum_of_periods(*v, grid.period(), &grid));
        }
        let n = (grid.shape.height * grid.shape.width) as f64;
        let features = grid.shape.channels;
        let (slots, period, films) = (grid.slots, grid.period(), grid.films);
        let layout = Layout::Vector { features, slots, period, films };
        let factor = x.factor.iter().map(|f| f / n).collect();
        Ok(Tensor { values, layout, factor, support: vec![] })
    }
}
