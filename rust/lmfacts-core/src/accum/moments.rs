//! Central moments, dim by dim and of single numbers.
//!
//! The state is (n, mean, M2, M3, M4, min, max) with `Mk` the sum of the k-th powers of the deviations from the mean, and the mean in two
//! numbers (`kernel::MomentRows` says why). Power sums about zero are never stored: where |mean| / std is 100, as in residual outlier dims, their fourth power would lose eight digits.
//! Formulas: Pébay, "Formulas for Robust, One-Pass Parallel Computation of Covariances and Arbitrary-Order Statistical Moments",
//! SAND2008-6212.

use super::accumulator::{Accumulator, Shape};
use crate::dtype::Element;
use crate::error::{Error, Result};
use crate::kernel::{DimSums, Kernels, MergeWeights, MomentRows, central};
use crate::state::Arrays;

const MOMENTS: &str = "moments";
const MEAN_LO: &str = "mean_rests";
const COUNTS: &str = "dim_counts";

/// Moments of every dim over a set of rows.
#[derive(Debug)]
pub struct DimMoments {
    n_rows: u64,
    mean: Vec<f64>,
    mean_lo: Vec<f64>,
    m2: Vec<f64>,
    m3: Vec<f64>,
    m4: Vec<f64>,
    min: Vec<f64>,
    max: Vec<f64>,
    n_nonfinite: Vec<u64>,
    n_at_least: Vec<u64>,
    all_finite: bool,
}

impl Clone for DimMoments {
    fn clone(&self) -> Self {
        let mut copy = Self::new(0);
        copy.clone_from(self);
        copy
    }

    /// Copies into the memory that is there, where it suffices.
    fn clone_from(&mut self, source: &Self) {
        let Self { n_rows, mean, mean_lo, m2, m3, m4, min, max, n_nonfinite, n_at_least, all_finite } = source;
        (self.n_rows, self.all_finite) = (*n_rows, *all_finite);
        self.mean.clone_from(mean);
        self.mean_lo.clone_from(mean_lo);
        self.m2.clone_from(m2);
        self.m3.clone_from(m3);
        self.m4.clone_from(m4);
        self.min.clone_from(min);
        self.max.clone_from(max);
        self.n_nonfinite.clone_from(n_nonfinite);
        self.n_at_least.clone_from(n_at_least);
    }
}

impl DimMoments {
    /// No rows of `n_dims` dims.
    pub fn new(n_dims: usize) -> Self {
        Self {
            n_rows: 0,
            mean: vec![0.0; n_dims],
            mean_lo: vec![0.0; n_dims],
            m2: vec![0.0; n_dims],
            m3: vec![0.0; n_dims],
            m4: vec![0.0; n_dims],
            min: vec![f64::INFINITY; n_dims],
            max: vec![f64::NEG_INFINITY; n_dims],
            n_nonfinite: vec![0; n_dims],
            n_at_least: vec![0; n_dims],
            all_finite: true,
        }
    }

    /// Whether no row was taken in.
    pub(super) const fn is_empty(&self) -> bool {
        self.n_rows == 0
    }

    /// How many dims.
    pub fn n_dims(&self) -> usize {
        self.mean.len()
    }

    /// Becomes no rows of `n_dims` dims, in the memory that it has. What its lists hold means nothing until rows are merged or set.
    pub(super) fn clear(&mut self, n_dims: usize) {
        self.n_rows = 0;
        for list in [&mut self.mean, &mut self.mean_lo, &mut self.m2, &mut self.m3, &mut self.m4, &mut self.min, &mut self.max] {
            list.resize(n_dims, 0.0);
        }
        self.n_nonfinite.resize(n_dims, 0);
        self.n_at_least.resize(n_dims, 0);
    }

    fn rows_mut(&mut self) -> MomentRows<'_> {
        MomentRows {
            mean: &mut self.mean,
            mean_lo: &mut self.mean_lo,
            m2: &mut self.m2,
            m3: &mut self.m3,
            m4: &mut self.m4,
            min: &mut self.min,
            max: &mut self.max,
        }
    }

    /// Becomes the moments of these finite rows alone, whose sums are given; what it held is forgotten.
    pub fn set_to_finite<E: Element>(&mut self, kernels: &Kernels<E>, rows: &[&[E]], sums: &[DimSums<E>], threshold: f64) {
        self.n_nonfinite.fill(0);
        self.n_at_least.fill(0);
        self.all_finite = true;
        self.n_rows = rows.len() as u64;
        kernels.moments_of(rows.len(), sums, &mut self.rows_mut());
        kernels.count_reached(rows, threshold, sums, &mut self.n_at_least);
    }

    /// Becomes the moments of the finite values of these rows; NaN and infinity are counted beside them.
    pub fn set_to_any<E: Element>(&mut self, rows: &[&[E]], threshold: f64) {
        self.n_rows = rows.len() as u64;
        self.all_finite = true;
        let mut column = Vec::with_capacity(rows.len());
        for dim in 0..self.n_dims() {
            let values = || rows.iter().map(|row| row[dim].widen());
            column.clear();
            column.extend(values().filter(|value| value.is_finite()));
            let moments = ScalarMoments::of(column.iter().copied());
            self.n_nonfinite[dim] = (rows.len() - column.len()) as u64;
            self.n_at_least[dim] = values().filter(|value| value.abs() >= threshold).count() as u64;
            self.all_finite &= column.len() == rows.len();
            self.set_dim(dim, &moments);
        }
    }

    /// The smallest and the largest finite value of each dim; +inf and -inf where there is none.
    pub(super) fn extremes(&self) -> (&[f64], &[f64]) {
        (&self.min, &self.max)
    }

    fn dim(&self, dim: usize) -> ScalarMoments {
        ScalarMoments {
            n: self.n_rows - self.n_nonfinite[dim],
            mean: self.mean[dim],
            mean_lo: self.mean_lo[dim],
            m2: self.m2[dim],
            m3: self.m3[dim],
            m4: self.m4[dim],
            min: self.min[dim],
            max: self.max[dim],
        }
    }

    fn set_dim(&mut self, dim: usize, moments: &ScalarMoments) {
        self.mean[dim] = moments.mean;
        self.mean_lo[dim] = moments.mean_lo;
        self.m2[dim] = moments.m2;
        self.m3[dim] = moments.m3;
        self.m4[dim] = moments.m4;
        self.min[dim] = moments.min;
        self.max[dim] = moments.max;
    }

    /// Rows taken in.
    pub(super) const fn n_rows(&self) -> u64 {
        self.n_rows
    }

    /// Mean and sum of squared deviations of a dim, or none if one of its values is not finite.
    pub(super) fn finite_dim(&self, dim: usize) -> Option<(f64, f64)> {
        (self.n_nonfinite[dim] == 0).then(|| (self.mean[dim], self.m2[dim]))
    }

    /// Adds moments to `arrays`: of mean, m2, m3, m4, min, max a list of one value for each dim, what rounding took from each mean, and two
    /// lists of counts, of values that are not finite and of those at or above the threshold.
    pub fn save_lists(arrays: &mut Arrays, moments: [&[f64]; 6], mean_lo: Vec<f64>, counts: [&[u64]; 2]) {
        let n_dims = mean_lo.len();
        arrays.push_table(MOMENTS, [6, n_dims], moments.concat());
        arrays.push_list(MEAN_LO, mean_lo);
        arrays.push_table(COUNTS, [2, n_dims], counts.concat());
    }
}

impl Accumulator for DimMoments {
    const NAME: &'static str = MOMENTS;

    fn new(shape: &Shape) -> Self {
        Self::new(shape.n_dims)
    }

    fn merge<E: Element>(&mut self, kernels: &Kernels<E>, other: &mut Self) {
        if other.n_rows == 0 {
            return;
        }
        if self.n_rows == 0 {
            self.clone_from(other);
            return;
        }
        if self.all_finite && other.all_finite {
            let (n_a, n_b) = (self.n_rows as f64, other.n_rows as f64);
            kernels.merge_moments(n_a, &mut self.rows_mut(), n_b, &other.rows_mut());
        } else {
            for dim in 0..self.n_dims() {
                let mut moments = self.dim(dim);
                moments.merge(&other.dim(dim));
                self.set_dim(dim, &moments);
                self.n_nonfinite[dim] += other.n_nonfinite[dim];
            }
            self.all_finite &= other.all_finite;
        }
        self.n_rows += other.n_rows;
        for (count, more) in self.n_at_least.iter_mut().zip(&other.n_at_least) {
            *count += more;
        }
    }

    fn save(&self, arrays: &mut Arrays) {
        let moments = [&self.mean[..], &self.m2, &self.m3, &self.m4, &self.min, &self.max];
        Self::save_lists(arrays, moments, self.mean_lo.clone(), [&self.n_nonfinite, &self.n_at_least]);
    }

    fn restore(arrays: &Arrays, shape: &Shape, n_tokens: u64) -> Result<Self> {
        let n_dims = shape.n_dims;
        let moments = arrays.table::<f64, 2>(MOMENTS, [6, n_dims])?;
        let mean_lo = arrays.table::<f64, 1>(MEAN_LO, [n_dims])?;
        let (n_nonfinite, n_at_least) = arrays.table::<u64, 2>(COUNTS, [2, n_dims])?.split_at(n_dims);
        if let Some(most) = n_nonfinite.iter().max().filter(|&&most| most > n_tokens) {
            let expected = format!("at most {n_tokens} values of a dim");
            return Err(Error::State { field: COUNTS.into(), expected, got: most.to_string() });
        }
        let list = |index: usize| moments[index * n_dims..(index + 1) * n_dims].to_vec();
        Ok(Self {
            n_rows: n_tokens,
            mean: list(0),
            m2: list(1),
            m3: list(2),
            m4: list(3),
            min: list(4),
            max: list(5),
            mean_lo: mean_lo.to_vec(),
            all_finite: n_nonfinite.iter().all(|&n| n == 0),
            n_nonfinite: n_nonfinite.to_vec(),
            n_at_least: n_at_least.to_vec(),
        })
    }

    fn n_bytes(&self) -> usize {
        9 * 8 * self.mean.capacity()
    }
}

/// Moments of a stream of single numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScalarMoments {
    /// How many numbers.
    pub n: u64,
    /// Their mean, rounded; 0 of none.
    pub mean: f64,
    /// What rounding took from the mean.
    pub mean_lo: f64,
    /// Sum of squared deviations.
    pub m2: f64,
    /// Sum of cubed deviations.
    pub m3: f64,
    /// Sum of fourth powers of deviations.
    pub m4: f64,
    /// The smallest; +infinity of none.
    pub min: f64,
    /// The largest; -infinity of none.
    pub max: f64,
}

impl Default for ScalarMoments {
    fn default() -> Self {
        Self { n: 0, mean: 0.0, mean_lo: 0.0, m2: 0.0, m3: 0.0, m4: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY }
    }
}

impl ScalarMoments {
    /// The moments of these finite numbers, in two passes: their mean, then sums about it.
    pub fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let [moments] = Self::of_each(values.map(|value| [value]));
        moments
    }

    /// The moments of several quantities, side by side.
    pub(super) fn of_each<const N: usize>(values: impl Iterator<Item = [f64; N]> + Clone) -> [Self; N] {
        let (mut n, mut pivot) = (0, [0.0; N]);
        for value in values.clone() {
            n += 1;
            for index in 0..N {
                pivot[index] += value[index];
            }
        }
        if n == 0 {
            return [Self::default(); N];
        }
        pivot = pivot.map(|sum| sum / n as f64);
        let mut powers = [[0.0; N]; 4];
        let (mut min, mut max) = ([f64::INFINITY; N], [f64::NEG_INFINITY; N]);
        for value in values {
            for index in 0..N {
                let y = value[index] - pivot[index];
                let y2 = y * y;
                powers[0][index] += y;
                powers[1][index] += y2;
                powers[2][index] += y2 * y;
                powers[3][index] += y2 * y2;
                min[index] = min[index].min(value[index] + 0.0);
                max[index] = max[index].max(value[index] + 0.0);
            }
        }
        std::array::from_fn(|index| {
            let ([mean, mean_lo], [m2, m3, m4]) = central(n as f64, pivot[index], powers.map(|power| power[index]));
            Self { n, mean, mean_lo, m2, m3, m4, min: min[index], max: max[index] }
        })
    }

    /// Merges another stream.
    pub fn merge(&mut self, other: &Self) {
        if self.n == 0 {
            *self = *other;
        } else if other.n > 0 {
            let weights = MergeWeights::new(self.n as f64, other.n as f64);
            let (mean, delta) = weights.merge_means([self.mean, self.mean_lo], [other.mean, other.mean_lo]);
            [self.mean, self.mean_lo] = mean;
            [self.m2, self.m3, self.m4] = weights.merge(delta, [self.m2, self.m3, self.m4], [other.m2, other.m3, other.m4]);
            self.n += other.n;
            self.min = self.min.min(other.min);
            self.max = self.max.max(other.max);
        }
    }

    /// n, mean, m2, m3, m4, min, max.
    pub const fn to_values(self) -> [f64; 7] {
        [self.n as f64, self.mean, self.m2, self.m3, self.m4, self.min, self.max]
    }

    /// The moments that `to_values` gave, with what rounding took from the mean.
    pub const fn from_values([n, mean, m2, m3, m4, min, max]: [f64; 7], mean_lo: f64) -> Self {
        Self { n: n as u64, mean, mean_lo, m2, m3, m4, min, max }
    }
}
