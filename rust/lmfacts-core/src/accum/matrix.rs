//! A weight matrix: the statistics of its values, and those that are left when the scales of its columns and rows are taken off.
//!
//! Heavy tails of a trained matrix are mostly a matter of scale: some columns, or rows, are larger than others. So the values are counted
//! twice: as they are, and as `x_ij / c_j / r_i`, where `c_j` is the root mean square of column j and `r_i` that of row i after the
//! columns were divided. The scaled values are rounded to float32. A matrix is read where it lies, two times, and never copied.

use std::ops::Range;

use super::codes::CodeHistogram;
use super::moments::ScalarMoments;
use super::site::{SiteAccumulator, chunk_rows};
use super::sketch::{PANEL_ROWS, Sketch};
use crate::config::{SiteConfig, Statistics};
use crate::dtype::{Bf16, Dtype, Element, F8E4M3, F8E5M2, F16};
use crate::error::{Error, Result};
use crate::kernel::{CodeTable, Kernels, Level, central};
use crate::parallel::{Pool, split};
use crate::state::{Arrays, SiteState};
use crate::tokens::{Population, TokenBatch};
use crate::view::{BufferView, Rows};

/// Rows whose statistics are merged at a time, for each thread.
const SEGMENTS_PER_TURN: usize = 4;

/// The mean of a row's scaled values from which their moments are not told from sums about zero: of values of one size and sign, as a
/// matrix of rank one has them, these would leave nothing but what was rounded.
const LARGEST_MEAN: f64 = 0.5;

/// What is measured of a matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct MatrixState {
    /// The values: every row is a token at the position that is its index, every column a dim.
    pub values: SiteState,
    /// Mean of each row.
    pub row_means: Vec<f64>,
    /// Root mean square of each row.
    pub row_rms: Vec<f64>,
    /// Codes (float32) of the scaled values that occur, ascending.
    pub scaled_codes: Vec<u16>,
    /// How often each occurs.
    pub scaled_counts: Vec<u64>,
    /// Moments of the scaled values.
    pub scaled_moments: ScalarMoments,
    /// The count sketch of the finite values, 4,096 buckets: where an entry goes, and with which sign, is a function of its row and column
    /// in the matrix as it is used, not as it is stored.
    pub sketch: Vec<f64>,
}

impl MatrixState {
    /// All but the values' own state, as named arrays.
    pub fn arrays(&self) -> Arrays {
        let mut arrays = Arrays::default();
        arrays.push_list("row_means", self.row_means.clone());
        arrays.push_list("row_rms", self.row_rms.clone());
        arrays.push_list("scaled_codes", self.scaled_codes.clone());
        arrays.push_list("scaled_counts", self.scaled_counts.clone());
        arrays.push_list("scaled_moments", self.scaled_moments.to_values().to_vec());
        arrays.push_list("sketch", self.sketch.clone());
        arrays
    }
}

/// How a matrix lies in a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orientation {
    /// The stored rows are its rows.
    Rows,
    /// The stored rows are its columns.
    Columns,
}

/// Measures a matrix whose leading axes count `n_rows`; what is left of a row is its columns.
///
/// Rows and columns with a NaN or an infinity in them, and those that are all zero, have no scale: their scaled values are left out.
/// `stored` says what the sketch takes for the matrix; all else is of the tensor as it is stored.
///
/// # Errors
/// `Error::Layout` and `Error::Dtype` as for [`SiteAccumulator::update`].
pub fn measure_matrix(view: &BufferView<'_>, n_rows: usize, stored: Orientation, k: usize, pool: &Pool) -> Result<MatrixState> {
    match view.dtype() {
        Dtype::F64 => measure::<f64>(view, n_rows, stored, k, pool),
        Dtype::F32 => measure::<f32>(view, n_rows, stored, k, pool),
        Dtype::Bf16 => measure::<Bf16>(view, n_rows, stored, k, pool),
        Dtype::F16 => measure::<F16>(view, n_rows, stored, k, pool),
        Dtype::F8E4M3 => measure::<F8E4M3>(view, n_rows, stored, k, pool),
        Dtype::F8E5M2 => measure::<F8E5M2>(view, n_rows, stored, k, pool),
    }
}

fn measure<E: Element>(view: &BufferView<'_>, n_rows: usize, stored: Orientation, k: usize, pool: &Pool) -> Result<MatrixState> {
    let rows = view.rows::<E>(n_rows)?;
    let mut values = SiteAccumulator::new(SiteConfig { k, threshold: f64::MAX, statistics: Statistics::OUTLIERS })?;
    // Positions from 1, so that no row is taken for a sequence's first token.
    let positions = (1..=n_rows as i64).collect();
    let tokens = TokenBatch::new(vec![0; n_rows], positions, vec![-1; n_rows], &vec![true; n_rows])?;
    values.update(view, &tokens, pool)?;

    let level = Level::selected()?;
    let missing = || Error::Setting { setting: "level", expected: "one that this processor has".into(), got: level.to_string() };
    let kernels = Kernels::<E>::at(level).ok_or_else(missing)?;
    let inverse_columns = inverse_column_rms(&values, rows.n_dims());
    let float_kernels = Kernels::<f32>::at(level).ok_or_else(missing)?;
    let some_without_scale = inverse_columns.contains(&0.0);
    let inverse_in_f32 = in_f32::<E>(&inverse_columns);
    let scaling = Scaling { kernels, float_kernels, rows, inverse_columns, inverse_in_f32, some_without_scale, stored };
    let (rows, scaled, sketch) = scaling.run(pool);
    let (row_means, row_rms) = rows.into_iter().unzip();
    let (scaled_codes, scaled_counts) = scaled.codes.sparse();
    Ok(MatrixState {
        values: values.state(),
        row_means,
        row_rms,
        scaled_codes,
        scaled_counts,
        scaled_moments: scaled.moments,
        sketch: sketch.buckets(),
    })
}

/// 1 / RMS of each column; 0 for a column without a scale.
fn inverse_column_rms(values: &SiteAccumulator, n_columns: usize) -> Vec<f64> {
    let Some(moments) = values.dim_moments(Population::Rest) else { return vec![0.0; n_columns] };
    let n_rows = moments.n_rows() as f64;
    let inverse = |(mean, m2): (f64, f64)| 1.0 / (m2 / n_rows + mean * mean).sqrt();
    (0..n_columns).map(|column| moments.finite_dim(column).map(inverse).filter(|rms| rms.is_finite()).unwrap_or(0.0)).collect()
}

/// The scales as f32, if f32 holds them and the values that they are to divide.
fn in_f32<E: Element>(inverse_columns: &[f64]) -> Option<Vec<f32>> {
    let normal = f64::from(f32::MIN_POSITIVE)..=f64::from(f32::MAX);
    let all_fit = E::DTYPE != Dtype::F64 && inverse_columns.iter().all(|inverse| *inverse == 0.0 || normal.contains(inverse));
    all_fit.then(|| inverse_columns.iter().map(|&inverse| inverse as f32).collect())
}

/// Sums of the first four powers of the values about a pivot.
fn powers_about(pivot: f64, values: &[f32]) -> [f64; 4] {
    values.iter().fold([0.0; 4], |[first, second, third, fourth], &value| {
        let difference = f64::from(value) - pivot;
        let square = difference * difference;
        [first + difference, second + square, third + square * difference, fourth + square * square]
    })
}

/// The second reading of a matrix.
struct Scaling<'a, E: Element> {
    kernels: Kernels<E>,
    float_kernels: Kernels<f32>,
    rows: Rows<'a, E>,
    inverse_columns: Vec<f64>,
    inverse_in_f32: Option<Vec<f32>>,
    some_without_scale: bool,
    stored: Orientation,
}

/// Codes and moments of scaled values.
#[derive(Default)]
struct Scaled {
    codes: CodeHistogram,
    moments: ScalarMoments,
}

/// Mean and root mean square of a row.
type RowScale = (f64, f64);

/// What a thread works in.
struct Scratch<E> {
    gathered: Vec<E>,
    scaled: Vec<f32>,
    spare: Vec<E>,
}

struct Worker {
    segments: Range<usize>,
    table: Box<CodeTable>,
    done: Vec<(Vec<RowScale>, ScalarMoments, Sketch)>,
}

impl<E: Element> Scaling<'_, E> {
    fn run(&self, pool: &Pool) -> (Vec<RowScale>, Scaled, Sketch) {
        let (n_rows, n_columns) = (self.rows.n_rows(), self.rows.n_dims());
        let segment_rows = chunk_rows::<E>(n_columns);
        let n_segments = n_rows.div_ceil(segment_rows);
        let per_turn = (pool.n_threads() * SEGMENTS_PER_TURN).min((u32::MAX as usize / (segment_rows * n_columns)).max(1));
        let mut tables: Vec<Box<CodeTable>> = (0..pool.n_threads()).map(|_| CodeHistogram::zeroed_table()).collect();
        let (mut scaled, mut sketch) = (Scaled::default(), Sketch::default());
        let mut rows = Vec::with_capacity(n_rows);
        let mut n_in_tables = 0;
        for start in (0..n_segments).step_by(per_turn) {
            let turn = start..n_segments.min(start + per_turn);
            n_in_tables += turn.len() * segment_rows * n_columns;
            let mut workers: Vec<_> = split(&turn, pool.n_threads())
                .zip(tables.drain(..))
                .map(|(segments, table)| Worker { segments, table, done: Vec::new() })
                .collect();
            pool.run(&mut workers, |worker| {
                let mut scratch =
                    Scratch { gathered: vec![E::narrow(0.0); n_columns], scaled: vec![0f32; n_columns], spare: Vec::new() };
                for segment in worker.segments.clone() {
                    let range = segment * segment_rows..n_rows.min((segment + 1) * segment_rows);
                    worker.done.push(self.segment(range, &mut scratch, &mut worker.table));
                }
            });
            for worker in workers {
                for (scales, moments, part) in worker.done {
                    rows.extend(scales);
                    scaled.moments.merge(&moments);
                    sketch.merge(&part);
                }
                tables.push(worker.table);
            }
            // Folding 65,536 counters costs as much as counting as many values.
            if n_in_tables > 1 << 30 || turn.end == n_segments {
                scaled.codes.table(n_in_tables as u64);
                for table in &mut tables {
                    scaled.codes.drain_table(table);
                }
                n_in_tables = 0;
            }
        }
        (rows, scaled, sketch)
    }

    /// Some stored rows, a panel after the other.
    fn segment(
        &self,
        range: Range<usize>,
        scratch: &mut Scratch<E>,
        table: &mut CodeTable,
    ) -> (Vec<RowScale>, ScalarMoments, Sketch) {
        let (mut scales, mut merged, mut sketch) = (Vec::with_capacity(range.len()), ScalarMoments::default(), Sketch::default());
        for start in range.clone().step_by(PANEL_ROWS) {
            let panel = start..range.end.min(start + PANEL_ROWS);
            for row in panel.clone() {
                let (scale, moments) = self.row(row, scratch, table, &mut sketch);
                scales.push(scale);
                merged.merge(&moments);
            }
            if self.stored == Orientation::Columns {
                let all_finite = scales[scales.len() - panel.len()..].iter().all(|(_, rms)| rms.is_finite());
                sketch.add_columns(&self.kernels, &self.rows, panel, all_finite, &mut scratch.spare);
            }
        }
        (scales, merged, sketch)
    }

    /// The mean and RMS of a row as it is, and the moments of its scaled values, whose codes are counted.
    fn row(&self, row: usize, scratch: &mut Scratch<E>, table: &mut CodeTable, sketch: &mut Sketch) -> (RowScale, ScalarMoments) {
        let Scratch { gathered, scaled, spare } = scratch;
        let all_scaled = scaled.as_mut_slice();
        let values = if self.rows.is_contiguous() {
            self.rows.slice(row)
        } else {
            self.rows.gather(row, gathered);
            gathered.as_slice()
        };
        let sums = match &self.inverse_in_f32 {
            Some(inverse_columns) => self.kernels.divide_columns_in_f32(values, inverse_columns, all_scaled),
            None => self.kernels.divide_columns(values, &self.inverse_columns, all_scaled),
        };
        let n = values.len() as f64;
        let scale = (sums.sum / n, (sums.square / n).sqrt());
        if self.stored == Orientation::Rows {
            sketch.add_row(&self.kernels, row, values, scale.1.is_finite(), spare);
        }
        if !scale.1.is_finite() {
            return (scale, ScalarMoments::default());
        }
        let mut n_scaled = all_scaled.len();
        if self.some_without_scale {
            n_scaled = 0;
            for column in (0..all_scaled.len()).filter(|&column| self.inverse_columns[column] > 0.0) {
                all_scaled[n_scaled] = all_scaled[column];
                n_scaled += 1;
            }
        }
        let scaled = &mut all_scaled[..n_scaled];
        // A column without a scale was multiplied by 0 and added nothing.
        let inverse_rms = 1.0 / (sums.scaled_square / n_scaled as f64).sqrt();
        if !inverse_rms.is_finite() || inverse_rms == 0.0 {
            return (scale, ScalarMoments::default());
        }
        let sums = self.float_kernels.divide_row(scaled, inverse_rms);
        self.float_kernels.codes(scaled, table);
        // Scaled values have root mean square 1 about zero, so that zero is as good a pivot as their mean, unless the mean is most of it.
        let (pivot, powers) = match sums.powers[0] / n_scaled as f64 {
            mean if mean.abs() > LARGEST_MEAN => (mean, powers_about(mean, scaled)),
            _ => (0.0, sums.powers),
        };
        let ([mean, mean_lo], [m2, m3, m4]) = central(n_scaled as f64, pivot, powers);
        (scale, ScalarMoments { n: n_scaled as u64, mean, mean_lo, m2, m3, m4, min: sums.min, max: sums.max })
    }
}
