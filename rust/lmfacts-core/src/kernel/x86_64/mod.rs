//! The levels of x86-64. A file compiles the generic bodies with its instructions switched on.

#![allow(unsafe_code)]

pub(super) mod avx2;
pub(super) mod avx512;

/// Defines a level: which features it needs, how many dims it handles at a time, and its table of kernels.
macro_rules! level {
    ($level:expr, $lanes:literal, $enable:literal, [$($feature:tt),+]) => {
        use crate::dtype::Element;
        use crate::kernel::{CodeTable, Kernels, Level, MomentRows, PowerSums, RowFigures, RowLanes, ScaledSums, UnitRow, generic};

        pub(in crate::kernel) fn is_available() -> bool {
            $(std::arch::is_x86_feature_detected!($feature))&&+
        }

        pub(in crate::kernel) fn kernels<E: Element>() -> Kernels<E> {
            Kernels {
                level: $level,
                absmax: absmax::<E>,
                codes: codes::<E>,
                row_pass: row_pass::<E>,
                fold_rows: fold_rows::<E>,
                unit_sums: unit_sums::<E>,
                dim_moments: dim_moments::<E>,
                merge_moments,
                divide_columns: divide_columns::<E>,
                divide_columns_in_f32: divide_columns_in_f32::<E>,
                divide_row,
            }
        }

        #[target_feature(enable = $enable)]
        fn absmax<E: Element>(row: &[E]) -> E::Key {
            generic::absmax(row)
        }

        #[target_feature(enable = $enable)]
        fn codes<E: Element>(row: &[E], table: &mut CodeTable) {
            generic::codes(row, table);
        }

        #[target_feature(enable = $enable)]
        fn row_pass<E: Element>(row: &[E], table: &mut CodeTable, lanes: &mut RowLanes<E>) {
            generic::row_pass(row, table, lanes);
        }

        #[target_feature(enable = $enable)]
        fn fold_rows<E: Element>(lanes: &[RowLanes<E>], out: &mut [RowFigures]) {
            generic::fold_rows(lanes, out);
        }

        #[target_feature(enable = $enable)]
        fn unit_sums<E: Element>(tile: &[UnitRow<'_, E>], sums: &mut [f64], squares: &mut [f64]) {
            generic::unit_sums::<E, $lanes>(tile, sums, squares);
        }

        #[target_feature(enable = $enable)]
        fn dim_moments<E: Element>(rows: &[&[E]], threshold: f64, out: &mut MomentRows<'_>, n_at_least: &mut [u64]) {
            generic::dim_moments::<E, $lanes>(rows, threshold, out, n_at_least);
        }

        #[target_feature(enable = $enable)]
        fn divide_columns<E: Element>(row: &[E], inverse_columns: &[f64], out: &mut [f32]) -> ScaledSums {
            generic::divide_columns(row, inverse_columns, out)
        }

        #[target_feature(enable = $enable)]
        fn divide_columns_in_f32<E: Element>(row: &[E], inverse_columns: &[f32], out: &mut [f32]) -> ScaledSums {
            generic::divide_columns_in_f32(row, inverse_columns, out)
        }

        #[target_feature(enable = $enable)]
        fn divide_row(row: &mut [f32], inverse_scale: f64) -> PowerSums {
            generic::divide_row(row, inverse_scale)
        }

        #[target_feature(enable = $enable)]
        fn merge_moments(n_a: f64, a: &mut MomentRows<'_>, n_b: f64, b: &MomentRows<'_>) {
            generic::merge_moments(n_a, a, n_b, b);
        }
    };
}
pub(super) use level;
