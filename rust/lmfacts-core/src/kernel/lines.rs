//! What is done with lines of values in instructions that the compiler does not find by itself: float16 values become f32, and columns rows.

use crate::dtype::F16;

/// Values of a line; of f32 they are a line of the cache.
pub(crate) const LINE: usize = 16;
/// A line that begins where a line of the cache does, so that it is not read or written in two parts.
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(64))]
pub struct Line<T>(pub(super) [T; LINE]);
/// As many lines as one has values.
pub(crate) type Lines<T> = [Line<T>; LINE];

/// What a level does in its own instructions.
pub trait Instructions {
    /// Float16 values, exactly.
    fn widen_halves(values: &[F16; LINE]) -> [f32; LINE];

    /// Writes columns as rows.
    #[inline(always)]
    fn turn(columns: &Lines<f32>, rows: &mut Lines<f32>) {
        for first_column in (0..LINE).step_by(4) {
            for first_row in (0..LINE).step_by(4) {
                turn_square(columns, first_column, first_row, rows);
            }
        }
    }
}

/// The instructions that every processor of the platform has.
#[derive(Debug)]
pub(crate) struct Baseline;

impl Instructions for Baseline {
    #[inline(always)]
    fn widen_halves(values: &[F16; LINE]) -> [f32; LINE] {
        let mut wide = [0.0; LINE];
        for lane in 0..LINE {
            wide[lane] = values[lane].to_f32();
        }
        wide
    }
}

#[cfg(target_arch = "x86_64")]
use super::x86_64::turn_square;

/// Writes four values of each of four columns as rows.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn turn_square(columns: &Lines<f32>, first_column: usize, first_row: usize, rows: &mut Lines<f32>) {
    for row in first_row..first_row + 4 {
        for column in first_column..first_column + 4 {
            rows[row].0[column] = columns[column].0[row];
        }
    }
}

/// A type of which columns can be written as rows.
pub trait Turned: Sized {
    /// Writes columns as rows.
    fn turn<I: Instructions>(columns: &Lines<Self>, rows: &mut Lines<Self>);
}

impl Turned for f32 {
    #[inline(always)]
    fn turn<I: Instructions>(columns: &Lines<Self>, rows: &mut Lines<Self>) {
        I::turn(columns, rows);
    }
}

impl Turned for f64 {
    #[inline(always)]
    fn turn<I: Instructions>(columns: &Lines<Self>, rows: &mut Lines<Self>) {
        for (column, values) in columns.iter().enumerate() {
            for (row, &value) in rows.iter_mut().zip(&values.0) {
                row.0[column] = value;
            }
        }
    }
}
