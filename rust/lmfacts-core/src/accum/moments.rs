//! Central moments, dim by dim and of single numbers.
//!
//! The state is (n, mean, M2, M3, M4, min, max) with `Mk` the sum of the k-th powers of the deviations from the mean, and the mean in two
//! numbers (`kernel::MomentRows` says why). Power sums about zero are never stored: where |mean| / std is 100, as in residual outlier dims, their fourth power would lose eight digits.
//! Formulas: Pébay, "Formulas for Robust, One-Pass Parallel Computation of Covariances and Arbitrary-Order Statistical Moments",
//! SAND2008-6212.

use crate::dtype::Element;
use crate::kernel::{DimSums, Kernels, MergeWeights, MomentRows, central};

/// Moments of every dim over a set of rows.
#[derive(Debug)]
pub struct DimMoments {
    n_rows: u64,
    mean: Vec<f64>,
    mean_rest: Vec<f64>,
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
        let Self { n_rows, mean, mean_rest, m2, m3, m4, min, max, n_nonfinite, n_at_least, all_finite } = source;
        (self.n_rows, self.all_finite) = (*n_rows, *all_finite);
        self.mean.clone_from(mean);
        self.mean_rest.clone_from(mean_rest);
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
            mean_rest: vec![0.0; n_dims],
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
        for list in [&mut self.mean, &mut self.mean_rest, &mut self.m2, &mut self.m3, &mut self.m4, &mut self.min, &mut self.max]
        {
            list.resize(n_dims, 0.0);
        }
        self.n_nonfinite.resize(n_dims, 0);
        self.n_at_least.resize(n_dims, 0);
    }

    fn rows_mut(&mut self) -> MomentRows<'_> {
        MomentRows {
            mean: &mut self.mean,
            mean_rest: &mut self.mean_rest,
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

    fn dim(&self, dim: usize) -> ScalarMoments {
        ScalarMoments {
            n: self.n_rows - self.n_nonfinite[dim],
            mean: self.mean[dim],
            mean_rest: self.mean_rest[dim],
            m2: self.m2[dim],
            m3: self.m3[dim],
            m4: self.m4[dim],
            min: self.min[dim],
            max: self.max[dim],
        }
    }

    fn set_dim(&mut self, dim: usize, moments: &ScalarMoments) {
        self.mean[dim] = moments.mean;
        self.mean_rest[dim] = moments.mean_rest;
        self.m2[dim] = moments.m2;
        self.m3[dim] = moments.m3;
        self.m4[dim] = moments.m4;
        self.min[dim] = moments.min;
        self.max[dim] = moments.max;
    }

    /// Merges the rows of another set of the same number of dims.
    pub fn merge<E: Element>(&mut self, kernels: &Kernels<E>, other: &mut Self) {
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

    /// The six lists mean, m2, m3, m4, min, max, one after the other.
    pub fn to_values(&self) -> Vec<f64> {
        [&self.mean, &self.m2, &self.m3, &self.m4, &self.min, &self.max].into_iter().flatten().copied().collect()
    }

    /// What rounding took from each mean.
    pub fn mean_rests(&self) -> &[f64] {
        &self.mean_rest
    }

    /// The two lists of non-finite values and of values at or above the threshold, one after the other.
    pub fn to_counts(&self) -> Vec<u64> {
        [&self.n_nonfinite, &self.n_at_least].into_iter().flatten().copied().collect()
    }

    /// The moments that `to_values`, `mean_rests` and `to_counts` gave, or none if the lengths do not fit.
    pub fn from_values(n_rows: u64, n_dims: usize, values: &[f64], mean_rests: &[f64], counts: &[u64]) -> Option<Self> {
        if values.len() != 6 * n_dims || mean_rests.len() != n_dims || counts.len() != 2 * n_dims {
            return None;
        }
        let list = |index: usize| values[index * n_dims..(index + 1) * n_dims].to_vec();
        let n_nonfinite = counts[..n_dims].to_vec();
        if n_nonfinite.iter().any(|&n| n > n_rows) {
            return None;
        }
        Some(Self {
            n_rows,
            mean: list(0),
            m2: list(1),
            m3: list(2),
            m4: list(3),
            min: list(4),
            max: list(5),
            mean_rest: mean_rests.to_vec(),
            all_finite: n_nonfinite.iter().all(|&n| n == 0),
            n_nonfinite,
            n_at_least: counts[n_dims..].to_vec(),
        })
    }

    /// Bytes held.
    pub fn n_bytes(&self) -> usize {
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
    pub mean_rest: f64,
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
        Self { n: 0, mean: 0.0, mean_rest: 0.0, m2: 0.0, m3: 0.0, m4: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY }
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
            let ([mean, mean_rest], [m2, m3, m4]) = central(n as f64, pivot[index], powers.map(|power| power[index]));
            Self { n, mean, mean_rest, m2, m3, m4, min: min[index], max: max[index] }
        })
    }

    /// Merges another stream.
    pub fn merge(&mut self, other: &Self) {
        if self.n == 0 {
            *self = *other;
        } else if other.n > 0 {
            let weights = MergeWeights::new(self.n as f64, other.n as f64);
            let (mean, delta) = weights.merge_means([self.mean, self.mean_rest], [other.mean, other.mean_rest]);
            [self.mean, self.mean_rest] = mean;
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

    /// The moments that `to_values` gave, with the mean's rest.
    pub const fn from_values([n, mean, m2, m3, m4, min, max]: [f64; 7], mean_rest: f64) -> Self {
        Self { n: n as u64, mean, mean_rest, m2, m3, m4, min, max }
    }
}
