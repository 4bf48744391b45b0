//! The bodies of the kernels, written once for every level.
//!
//! They are `inline(always)` so that each level's wrapper compiles a copy with its own instructions. Groups of lanes are arrays of a
//! constant length that the compiler keeps in vector registers.

use super::{CodeTable, MomentRows, ROW_LANES, UnitRow};
use crate::dtype::{Element, GROUP};

const KEY_LANES: usize = 64;

#[inline(always)]
pub(super) fn absmax<E: Element>(row: &[E]) -> E::Key {
    let mut largest = [E::Key::default(); KEY_LANES];
    let (groups, tail) = row.as_chunks::<KEY_LANES>();
    for group in groups {
        for lane in 0..KEY_LANES {
            largest[lane] = largest[lane].max(group[lane].key());
        }
    }
    let in_groups = largest.into_iter().max().unwrap_or_default();
    tail.iter().map(|value| value.key()).fold(in_groups, Ord::max)
}

#[inline(always)]
pub(super) fn codes<E: Element>(row: &[E], table: &mut CodeTable) {
    let (groups, tail) = row.as_chunks::<GROUP>();
    for group in groups {
        E::each_code(group, |word| word, |_, code| table[usize::from(code)] += 1);
    }
    for value in tail {
        table[usize::from(value.code())] += 1;
    }
}

/// Joins the lanes, a power of two of them, in halves: 16 to 8 to 4 to 2 to 1.
#[inline(always)]
pub(super) fn fold_lanes<T: Copy, const LANES: usize>(mut lanes: [T; LANES], join: impl Fn(T, T) -> T) -> T {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] = join(lanes[lane], lanes[lane + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// The sum of the lanes, added in halves.
#[inline(always)]
pub(super) fn sum_lanes<const LANES: usize>(lanes: [f64; LANES]) -> f64 {
    fold_lanes(lanes, |a, b| a + b)
}

#[inline(always)]
pub(super) fn unit_sums<E: Element, const LANES: usize>(tile: &[UnitRow<'_, E>], sums: &mut [f64], squares: &mut [f64]) {
    let n_dims = sums.len();
    let mut dim = 0;
    while dim + LANES <= n_dims {
        add_units::<E, LANES>(tile, dim, group_of(sums, dim), group_of(squares, dim));
        dim += LANES;
    }
    while dim < n_dims {
        add_units::<E, 1>(tile, dim, group_of(sums, dim), group_of(squares, dim));
        dim += 1;
    }
}

/// Adds the rows of a tile, each divided by its norm, to the sums of one group of dims.
#[inline(always)]
fn add_units<E: Element, const LANES: usize>(
    tile: &[UnitRow<'_, E>],
    dim: usize,
    sums: &mut [f64; LANES],
    squares: &mut [f64; LANES],
) {
    let (mut sum, mut square) = (*sums, *squares);
    for (row, inverse_norm) in tile {
        let x = load::<E, LANES>(row, dim);
        for lane in 0..LANES {
            let unit = x[lane] * inverse_norm;
            sum[lane] += unit;
            square[lane] += unit * unit;
        }
    }
    (*sums, *squares) = (sum, square);
}

#[inline(always)]
pub(super) fn block_sums<E: Element, const LANES: usize>(
    tile: &[UnitRow<'_, E>],
    sums: &mut [f64],
    squares: &mut [f64],
    units: &mut [f64],
) {
    let n_dims = sums.len();
    let mut dim = 0;
    while dim + LANES <= n_dims {
        add_rows::<E, LANES>(tile, dim, [group_of(sums, dim), group_of(squares, dim), group_of(units, dim)]);
        dim += LANES;
    }
    while dim < n_dims {
        add_rows::<E, 1>(tile, dim, [group_of(sums, dim), group_of(squares, dim), group_of(units, dim)]);
        dim += 1;
    }
}

/// Adds the rows of a tile, their squares, and the rows times their factors, to the sums of one group of dims.
#[inline(always)]
fn add_rows<E: Element, const LANES: usize>(tile: &[UnitRow<'_, E>], dim: usize, totals: [&mut [f64; LANES]; 3]) {
    let [sums, squares, units] = totals;
    let (mut sum, mut square, mut unit) = (*sums, *squares, *units);
    for (row, factor) in tile {
        let x = load::<E, LANES>(row, dim);
        for lane in 0..LANES {
            sum[lane] += x[lane];
            square[lane] += x[lane] * x[lane];
            unit[lane] += x[lane] * factor;
        }
    }
    (*sums, *squares, *units) = (sum, square, unit);
}

#[inline(always)]
fn load<E: Element, const LANES: usize>(row: &[E], dim: usize) -> [f64; LANES] {
    let mut values = [0.0; LANES];
    let group = &row[dim..dim + LANES];
    for lane in 0..LANES {
        values[lane] = group[lane].widen();
    }
    values
}

/// The values of a group of dims. The lists share one length, which the caller's loop has checked.
#[inline(always)]
fn group_of<T, const LANES: usize>(list: &mut [T], dim: usize) -> &mut [T; LANES] {
    let (group, _) = list[dim..].split_first_chunk_mut().unwrap_or_else(|| unreachable!("the group lies within the dims"));
    group
}

/// The mean (rounded, and its rest) and M2, M3, M4 of `n` numbers from the sums of the powers of their distances to a pivot.
#[inline(always)]
pub(crate) fn central(n: f64, pivot: f64, [t1, t2, t3, t4]: [f64; 4]) -> ([f64; 2], [f64; 3]) {
    let delta = t1 / n;
    let delta2 = delta * delta;
    let (mean, rest) = add(pivot, delta);
    let m2 = t2 - n * delta2;
    let m3 = t3 - 3.0 * delta * t2 + 2.0 * n * delta2 * delta;
    let m4 = t4 - 4.0 * delta * t3 + 6.0 * delta2 * t2 - 3.0 * n * delta2 * delta2;
    ([mean, rest], [at_least_zero(m2), m3, at_least_zero(m4)])
}

/// The rounded sum of two numbers, and what rounding took from it (Knuth's two-sum).
#[inline(always)]
fn add(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let b_in_sum = sum - a;
    (sum, (a - (sum - b_in_sum)) + (b - b_in_sum))
}

/// A sum of even powers; rounding may leave it a hair below zero.
#[inline(always)]
fn at_least_zero(sum: f64) -> f64 {
    if sum < 0.0 { 0.0 } else { sum }
}

/// Sums of a row as it is, and of the squares of its values divided by their columns' scales.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScaledSums {
    pub(crate) sum: f64,
    pub(crate) square: f64,
    pub(crate) scaled_square: f64,
}

#[inline(always)]
pub(super) fn divide_columns<E: Element>(row: &[E], inverse_columns: &[f64], out: &mut [f32]) -> ScaledSums {
    let (mut sum, mut square, mut scaled) = ([0.0; ROW_LANES], [0.0; ROW_LANES], [0.0; ROW_LANES]);
    let mut take = |lane: usize, value: E, inverse: f64, out: &mut f32| {
        let x = value.widen();
        *out = (x * inverse) as f32;
        let y = f64::from(*out);
        sum[lane] += x;
        square[lane] += x * x;
        scaled[lane] += y * y;
    };
    let (groups, tail) = row.as_chunks::<ROW_LANES>();
    let (inverse_groups, inverse_tail) = inverse_columns.as_chunks::<ROW_LANES>();
    let (out_groups, out_tail) = out.as_chunks_mut::<ROW_LANES>();
    for ((group, inverse), out) in groups.iter().zip(inverse_groups).zip(out_groups) {
        for lane in 0..ROW_LANES {
            take(lane, group[lane], inverse[lane], &mut out[lane]);
        }
    }
    for lane in 0..tail.len() {
        take(lane, tail[lane], inverse_tail[lane], &mut out_tail[lane]);
    }
    ScaledSums { sum: sum_lanes(sum), square: sum_lanes(square), scaled_square: sum_lanes(scaled) }
}

/// As `divide_columns`, for types that f32 holds: the products, and the sums of up to `FLOAT_DEPTH` of their squares in a lane, are f32.
#[inline(always)]
pub(super) fn divide_columns_in_f32<E: Element>(row: &[E], inverse_columns: &[f32], out: &mut [f32]) -> ScaledSums {
    let (mut sum, mut square, mut scaled) = ([0.0; ROW_LANES], [0.0; ROW_LANES], [0.0; ROW_LANES]);
    let blocks = row.chunks(ROW_LANES * FLOAT_DEPTH).zip(inverse_columns.chunks(ROW_LANES * FLOAT_DEPTH));
    for ((row, inverse_columns), out) in blocks.zip(out.chunks_mut(ROW_LANES * FLOAT_DEPTH)) {
        let mut in_block = [0f32; ROW_LANES];
        let mut take = |lane: usize, value: E, inverse: f32, out: &mut f32| {
            let x = value.widen();
            let y = x as f32 * inverse;
            *out = y;
            sum[lane] += x;
            square[lane] += x * x;
            in_block[lane] += y * y;
        };
        let (groups, tail) = row.as_chunks::<ROW_LANES>();
        let (inverse_groups, inverse_tail) = inverse_columns.as_chunks::<ROW_LANES>();
        let (out_groups, out_tail) = out.as_chunks_mut::<ROW_LANES>();
        for ((group, inverse), out) in groups.iter().zip(inverse_groups).zip(out_groups) {
            for lane in 0..ROW_LANES {
                take(lane, group[lane], inverse[lane], &mut out[lane]);
            }
        }
        for lane in 0..tail.len() {
            take(lane, tail[lane], inverse_tail[lane], &mut out_tail[lane]);
        }
        add_widened(&mut scaled, &in_block);
    }
    ScaledSums { sum: sum_lanes(sum), square: sum_lanes(square), scaled_square: sum_lanes(scaled) }
}

/// Sums of the first four powers of some values about zero, and their extremes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PowerSums {
    pub(crate) powers: [f64; 4],
    pub(crate) min: f64,
    pub(crate) max: f64,
}

/// Lanes of a sum in f32, and how many values a lane takes before it is added to the sum in f64.
pub(super) const FLOAT_LANES: usize = 32;
const FLOAT_DEPTH: usize = 32;

/// Multiplies by `inverse_scale` and sums. The values are rounded to f32 already; so are the sums of up to `FLOAT_DEPTH` powers in a lane.
///
/// `LANES` of the lanes are summed at a time, as many as the registers hold; a block is so short that it is read again from the first cache.
#[inline(always)]
pub(super) fn divide_row<const LANES: usize>(row: &mut [f32], inverse_scale: f64) -> PowerSums {
    const { assert!(FLOAT_LANES.is_multiple_of(LANES), "the lanes are taken in whole parts") };
    let scale = inverse_scale as f32;
    let mut totals = [[0.0; FLOAT_LANES]; 4];
    let (mut min, mut max) = ([f32::INFINITY; FLOAT_LANES], [f32::NEG_INFINITY; FLOAT_LANES]);
    for block in row.chunks_mut(FLOAT_LANES * FLOAT_DEPTH) {
        for first in (0..FLOAT_LANES).step_by(LANES) {
            divide_lanes::<LANES>(block, first, scale, &mut totals, group_of(&mut min, first), group_of(&mut max, first));
        }
    }
    PowerSums {
        powers: totals.map(sum_lanes),
        min: f64::from(min.into_iter().fold(f32::INFINITY, f32::min)) + 0.0,
        max: f64::from(max.into_iter().fold(f32::NEG_INFINITY, f32::max)) + 0.0,
    }
}

/// Some lanes of a block of `divide_row`, from `first` on.
#[inline(always)]
fn divide_lanes<const LANES: usize>(
    block: &mut [f32],
    first: usize,
    scale: f32,
    totals: &mut [[f64; FLOAT_LANES]; 4],
    min: &mut [f32; LANES],
    max: &mut [f32; LANES],
) {
    let (mut s1, mut s2, mut s3, mut s4) = ([0f32; LANES], [0f32; LANES], [0f32; LANES], [0f32; LANES]);
    let (mut low, mut high) = (*min, *max);
    let mut take = |lane: usize, value: &mut f32| {
        let x = *value * scale;
        *value = x;
        let x2 = x * x;
        s1[lane] += x;
        s2[lane] += x2;
        s3[lane] += x2 * x;
        s4[lane] += x2 * x2;
        low[lane] = if x < low[lane] { x } else { low[lane] };
        high[lane] = if x > high[lane] { x } else { high[lane] };
    };
    let (groups, tail) = block.as_chunks_mut::<FLOAT_LANES>();
    for group in groups {
        for (lane, value) in group_of::<f32, LANES>(group, first).iter_mut().enumerate() {
            take(lane, value);
        }
    }
    for (lane, value) in tail.iter_mut().skip(first).take(LANES).enumerate() {
        take(lane, value);
    }
    (*min, *max) = (low, high);
    // One list after the other: side by side, the compiler would gather across the lists.
    let [t1, t2, t3, t4] = totals;
    add_widened::<LANES>(group_of(t1, first), &s1);
    add_widened::<LANES>(group_of(t2, first), &s2);
    add_widened::<LANES>(group_of(t3, first), &s3);
    add_widened::<LANES>(group_of(t4, first), &s4);
}

#[inline(always)]
fn add_widened<const LANES: usize>(totals: &mut [f64; LANES], sums: &[f32; LANES]) {
    for lane in 0..LANES {
        totals[lane] += f64::from(sums[lane]);
    }
}

/// Chan's and Pébay's pairwise formulas (SAND2008-6212), with the same counts for every dim.
#[inline(always)]
pub(super) fn merge_moments(n_a: f64, a: &mut MomentRows<'_>, n_b: f64, b: &MomentRows<'_>) {
    let n_dims = a.mean.len();
    let (a_mean, a_mean_lo) = (&mut a.mean[..n_dims], &mut a.mean_lo[..n_dims]);
    let (a_m2, a_m3) = (&mut a.m2[..n_dims], &mut a.m3[..n_dims]);
    let (a_m4, a_min, a_max) = (&mut a.m4[..n_dims], &mut a.min[..n_dims], &mut a.max[..n_dims]);
    let (b_mean, b_mean_lo) = (&b.mean[..n_dims], &b.mean_lo[..n_dims]);
    let (b_m2, b_m3) = (&b.m2[..n_dims], &b.m3[..n_dims]);
    let (b_m4, b_min, b_max) = (&b.m4[..n_dims], &b.min[..n_dims], &b.max[..n_dims]);
    let weights = MergeWeights::new(n_a, n_b);
    for dim in 0..n_dims {
        let (mean, delta) = weights.merge_means([a_mean[dim], a_mean_lo[dim]], [b_mean[dim], b_mean_lo[dim]]);
        let merged = weights.merge(delta, [a_m2[dim], a_m3[dim], a_m4[dim]], [b_m2[dim], b_m3[dim], b_m4[dim]]);
        [a_mean[dim], a_mean_lo[dim]] = mean;
        [a_m2[dim], a_m3[dim], a_m4[dim]] = merged;
        a_min[dim] = if b_min[dim] < a_min[dim] { b_min[dim] } else { a_min[dim] };
        a_max[dim] = if b_max[dim] > a_max[dim] { b_max[dim] } else { a_max[dim] };
    }
}

/// The factors of the pairwise formulas that depend on the counts alone.
pub(crate) struct MergeWeights {
    share_a: f64,
    share_b: f64,
    between: f64,
    skew: f64,
    spread: f64,
}

impl MergeWeights {
    #[inline(always)]
    pub(crate) fn new(n_a: f64, n_b: f64) -> Self {
        let n = n_a + n_b;
        let (share_a, share_b) = (n_a / n, n_b / n);
        Self {
            share_a,
            share_b,
            between: n_a * share_b,
            skew: share_a - share_b,
            spread: share_a * share_a - share_a * share_b + share_b * share_b,
        }
    }

    /// The mean of the union, and the difference of the means, b minus a; a mean is a rounded number and its rest.
    #[inline(always)]
    pub(crate) fn merge_means(&self, a: [f64; 2], b: [f64; 2]) -> ([f64; 2], f64) {
        let delta = (b[0] - a[0]) + (b[1] - a[1]);
        let (mean, rest) = add(a[0], a[1] + delta * self.share_b);
        ([mean, rest], delta)
    }

    /// M2, M3 and M4 of the union; `delta` is the difference of the means, b minus a.
    #[inline(always)]
    pub(crate) fn merge(&self, delta: f64, a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
        let delta2 = delta * delta;
        let between2 = delta2 * self.between;
        [
            a[0] + b[0] + between2,
            a[1] + b[1] + between2 * delta * self.skew + 3.0 * delta * (self.share_a * b[0] - self.share_b * a[0]),
            a[2] + b[2]
                + between2 * delta2 * self.spread
                + 6.0 * delta2 * (self.share_a * self.share_a * b[0] + self.share_b * self.share_b * a[0])
                + 4.0 * delta * (self.share_a * b[1] - self.share_b * a[1]),
        ]
    }
}
