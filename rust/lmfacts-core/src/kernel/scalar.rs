//! The platform's baseline: the reference that every other level must equal, and the only level on platforms without one of their own.
//! On AArch64 the baseline has NEON, which the compiler uses.

use super::lines::Baseline;
use super::{CodeTable, CodeTables, Kernels, Level, generic, rows, sketch};
use crate::dtype::{Element, GROUP};

/// Dims that are handled together: all their sums fit the registers, of which AArch64 (whose baseline has NEON) has twice as many.
const LANES: usize = if cfg!(target_arch = "aarch64") { 4 } else { 2 };
/// Rows that are passed over side by side.
const ROWS: usize = 2;

pub(super) fn kernels<E: Element>() -> Kernels<E> {
    Kernels {
        level: Level::Scalar,
        absmax: generic::absmax::<E>,
        codes: generic::codes::<E>,
        begin: rows::begin::<E>,
        row_pass: rows::row_pass::<E, ROWS, GROUP, CodeTable>,
        row_pass_apart: rows::row_pass::<E, ROWS, GROUP, CodeTables>,
        row_sums: rows::row_pass::<E, ROWS, GROUP, ()>,
        moments_of: rows::moments_of::<E>,
        count_reached: rows::count_reached::<E>,
        unit_sums: generic::unit_sums::<E, LANES>,
        merge_moments: generic::merge_moments,
        divide_columns: generic::divide_columns::<E>,
        divide_columns_in_f32: generic::divide_columns_in_f32::<E>,
        divide_row: generic::divide_row::<{ generic::FLOAT_LANES }>,
        sketch: sketch::sketch::<E, Baseline>,
        sketch_columns: sketch::sketch_columns::<E, Baseline>,
    }
}
