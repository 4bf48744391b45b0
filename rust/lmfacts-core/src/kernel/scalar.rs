//! The platform's baseline: the reference that every other level must equal, and the only level on platforms without one of their own.

use super::{Kernels, Level, generic};
use crate::dtype::Element;

pub(super) fn kernels<E: Element>() -> Kernels<E> {
    Kernels {
        level: Level::Scalar,
        absmax: generic::absmax::<E>,
        codes: generic::codes::<E>,
        row_pass: generic::row_pass::<E>,
        fold_rows: generic::fold_rows::<E>,
        unit_sums: generic::unit_sums::<E, 2>,
        dim_moments: generic::dim_moments::<E, 2>,
        merge_moments: generic::merge_moments,
        divide_columns: generic::divide_columns::<E>,
        divide_columns_in_f32: generic::divide_columns_in_f32::<E>,
        divide_row: generic::divide_row,
    }
}
