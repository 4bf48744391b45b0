//! The levels of x86-64. A file compiles the generic bodies with its instructions switched on.

#![allow(unsafe_code)]

use super::lines::{LINE, Lines};
use crate::dtype::F16;

pub(super) mod avx2;
pub(super) mod avx512;

/// Asks for the memory at a place ahead of its use, into the second cache: the first has no room for rows to come.
#[inline(always)]
pub(super) fn prefetch<T>(place: *const T) {
    use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
    // SAFETY: an instruction that every x86-64 processor has, and that reads nothing a program could see.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(place.cast()) }
}

/// The same word, in a register of its own: words to which the same is done would else be put side by side into a vector, and what they
/// hold be taken out of it again piece by piece.
#[inline(always)]
pub(super) fn in_one_register(mut word: u64) -> u64 {
    // SAFETY: no instruction at all.
    unsafe { std::arch::asm!("/* {0} */", inout(reg) word, options(pure, nomem, nostack, preserves_flags)) };
    word
}

/// Writes four values of each of four columns as rows.
#[inline(always)]
pub(super) fn turn_square(columns: &Lines<f32>, first_column: usize, first_row: usize, rows: &mut Lines<f32>) {
    use std::arch::x86_64::{_MM_TRANSPOSE4_PS, _mm_loadu_ps, _mm_storeu_ps};
    let place = |lines: &Lines<f32>, line: usize, value: usize| lines[line].0[value..value + 4].as_ptr();
    // SAFETY: four values are read or written at each place, and every x86-64 processor has the instructions.
    unsafe {
        let [mut a, mut b, mut c, mut d] =
            [0, 1, 2, 3].map(|index| _mm_loadu_ps(place(columns, first_column + index, first_row)));
        _MM_TRANSPOSE4_PS(&mut a, &mut b, &mut c, &mut d);
        for (index, values) in [a, b, c, d].into_iter().enumerate() {
            _mm_storeu_ps(rows[first_row + index].0[first_column..first_column + 4].as_mut_ptr(), values);
        }
    }
}

/// Eight float16 values at a time.
///
/// # Safety
/// The processor has F16C.
#[inline(always)]
unsafe fn widen_halves(values: &[F16; LINE]) -> [f32; LINE] {
    use std::arch::x86_64::{_mm_loadu_si128, _mm256_cvtph_ps, _mm256_storeu_ps};
    let mut wide = [0.0; LINE];
    for first in [0, 8] {
        // SAFETY: eight values are read and written, and the caller promises the instruction.
        unsafe {
            let eight = _mm_loadu_si128(values[first..first + 8].as_ptr().cast());
            _mm256_storeu_ps(wide[first..first + 8].as_mut_ptr(), _mm256_cvtph_ps(eight));
        }
    }
    wide
}

/// Defines a level: how many dims and how many rows it handles at a time, how many of a group's lanes a pass over rows has registers for
/// (and a quarter of how many f32 lanes a pass over one row has), which features it needs, and its table of kernels.
macro_rules! level {
    ($level:expr, $lanes:literal, $rows:literal, $row_lanes:literal, $enable:literal, [$($feature:tt),+]) => {
        use crate::dtype::Element;
        use crate::kernel::{
            CodeTable, CodeTables, DimSums, Kernels, Level, MomentRows, PowerSums, RowFigures, ScaledSums, SketchRow, SketchTable, UnitRow, generic,
            rows,
        };

        pub(in crate::kernel) fn is_available() -> bool {
            $(std::arch::is_x86_feature_detected!($feature))&&+
        }

        pub(in crate::kernel) fn kernels<E: Element>() -> Kernels<E> {
            Kernels {
                level: $level,
                absmax: absmax::<E>,
                codes: codes::<E>,
                begin: begin::<E>,
                row_pass: row_pass::<E, CodeTable>,
                row_pass_apart: row_pass::<E, CodeTables>,
                row_sums: row_pass::<E, ()>,
                moments_of: moments_of::<E>,
                count_reached: count_reached::<E>,
                unit_sums: unit_sums::<E>,
                merge_moments,
                divide_columns: divide_columns::<E>,
                divide_columns_in_f32: divide_columns_in_f32::<E>,
                divide_row,
                sketch: sketch::<E>,
                sketch_columns: sketch_columns::<E>,
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
        fn begin<E: Element>(rows: &[&[E]], sums: &mut [DimSums<E>]) {
            rows::begin(rows, sums);
        }

        #[target_feature(enable = $enable)]
        fn row_pass<E: Element, C: rows::Counters>(
            rows: &[&[E]],
            counters: &mut C,
            sums: &mut [DimSums<E>],
            figures: &mut [RowFigures],
        ) {
            rows::row_pass::<E, $rows, $row_lanes, C>(rows, counters, sums, figures);
        }

        #[target_feature(enable = $enable)]
        fn moments_of<E: Element>(n_rows: usize, sums: &[DimSums<E>], out: &mut MomentRows<'_>) {
            rows::moments_of(n_rows, sums, out);
        }

        #[target_feature(enable = $enable)]
        fn count_reached<E: Element>(rows: &[&[E]], threshold: f64, sums: &[DimSums<E>], n_at_least: &mut [u64]) {
            rows::count_reached(rows, threshold, sums, n_at_least);
        }

        #[target_feature(enable = $enable)]
        fn unit_sums<E: Element>(tile: &[UnitRow<'_, E>], sums: &mut [f64], squares: &mut [f64]) {
            generic::unit_sums::<E, $lanes>(tile, sums, squares);
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
            generic::divide_row::<{ 4 * $row_lanes }>(row, inverse_scale)
        }

        #[target_feature(enable = $enable)]
        fn sketch<E: Element>(values: &[E], row: SketchRow, first_place: usize, table: &mut SketchTable) {
            crate::kernel::sketch::sketch::<E, Own>(values, row, first_place, table);
        }

        #[target_feature(enable = $enable)]
        fn sketch_columns<E: Element>(columns: &[&[E]], first_column: usize, table: &mut SketchTable) {
            crate::kernel::sketch::sketch_columns::<E, Own>(columns, first_column, table);
        }

        #[target_feature(enable = $enable)]
        fn merge_moments(n_a: f64, a: &mut MomentRows<'_>, n_b: f64, b: &MomentRows<'_>) {
            generic::merge_moments(n_a, a, n_b, b);
        }
    };
}
pub(super) use level;
