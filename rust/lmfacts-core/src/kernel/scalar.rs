//! The platform's baseline: the reference that every other level must equal, and the only level on platforms without one of their own.
//! On AArch64 the baseline has NEON, which the compiler uses.

use super::{Kernels, Level, N_TABLES, generic};
use crate::dtype::Element;

/// Dims that are handled together: all their sums fit the registers, of which AArch64 (whose baseline has NEON) has twice as many.
const LANES: usize = if cfg!(target_arch = "aarch64") { 4 } else { 2 };

pub(super) fn kernels<E: Element>() -> Kernels<E> {
    Kernels {
        level: Level::Scalar,
        absmax: generic::absmax::<E>,
        codes: generic::codes::<E>,
        row_pass: generic::row_pass::<E, 1>,
        row_pass_apart: generic::row_pass::<E, N_TABLES>,
        fold_rows: generic::fold_rows::<E>,
        unit_sums: generic::unit_sums::<E, LANES>,
        dim_moments: generic::dim_moments::<E, LANES>,
        merge_moments: generic::merge_moments,
        divide_columns: generic::divide_columns::<E>,
        divide_columns_in_f32: generic::divide_columns_in_f32::<E>,
        divide_row: generic::divide_row,
    }
}
