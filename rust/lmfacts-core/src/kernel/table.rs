//! Which kernels there are.

#![allow(unsafe_code)]

use super::generic::{PowerSums, ScaledSums};
#[cfg(target_arch = "x86_64")]
use super::x86_64;
use super::{CodeTable, CodeTables, DimSums, Level, MomentRows, RowFigures, SketchRow, SketchTable, UnitRow, scalar};
use crate::dtype::Element;

/// The kernels: calls a macro with what it is given and then each of them, as a method of [`Kernels`] and its body.
///
/// To add one: its body, in `generic`, `rows` or `sketch`, and an entry here. A body's parameters are the type of the values, `E`, and
/// what a level's file says of its registers: see [`compile_kernels`].
macro_rules! kernels {
    ($do:ident $($given:tt)*) => {
        $do! {
            $($given)*

            /// The key of the largest magnitude; NaN counts as larger than infinity.
            pub fn absmax(row: &[E]) -> E::Key = generic::absmax::<E>;

            /// Counts the codes of finite values (of any values for 16-bit types).
            pub fn codes(row: &[E], table: &mut CodeTable) = generic::codes::<E>;

            /// Begins the sums of a chunk of rows: each of [`DimSums::n_groups`] is empty but for its pivot.
            pub fn begin(rows: &[&[E]], sums: &mut [DimSums<E>]) = rows::begin::<E>;

            /// Counts the codes of rows into `table`, adds them to `sums` and sets their figures. A NaN or an infinity spoils the sums of
            /// its row and its dim, and the codes of NaN are those that `Element::code` gives; `absmax` tells.
            pub fn row_pass(rows: &[&[E]], table: &mut CodeTable, sums: &mut [DimSums<E>], figures: &mut [RowFigures])
                = rows::row_pass::<E, ROWS, ROW_LANES, CodeTable>;

            /// As [`Self::row_pass`], for rows of which many neighbours are equal: a count is the sum over the tables.
            pub(crate) fn row_pass_interleaved(
                rows: &[&[E]], tables: &mut CodeTables, sums: &mut [DimSums<E>], figures: &mut [RowFigures],
            ) = rows::row_pass::<E, ROWS, ROW_LANES, CodeTables>;

            /// As [`Self::row_pass`], without codes.
            pub fn row_sums(rows: &[&[E]], sums: &mut [DimSums<E>], figures: &mut [RowFigures])
                = rows::row_sums::<E, ROWS, ROW_LANES>;

            /// The central moments that the sums of `n_rows` finite rows give, written to `out`.
            pub fn moments_of(n_rows: usize, sums: &[DimSums<E>], out: &mut MomentRows<'_>) = rows::moments_of::<E>;

            /// Adds to `n_at_least` how often |x| reached the threshold, dim by dim, in the finite rows that gave these sums.
            pub fn count_reached(rows: &[&[E]], threshold: f64, sums: &[DimSums<E>], n_at_least: &mut [u64])
                = rows::count_reached::<E>;

            /// Notes `block` for the dims whose largest magnitude grew since it was called last, or since the sums were begun.
            pub(crate) fn mark_largest(block: u32, sums: &mut [DimSums<E>]) = rows::mark_largest::<E>;

            /// Merges the moments of `n_b` rows into those of `n_a` rows; both numbers are positive and the same for every dim.
            pub fn merge_moments(n_a: f64, a: &mut MomentRows<'_>, n_b: f64, b: &MomentRows<'_>) = generic::merge_moments;

            /// Adds the rows of a tile, each divided by its norm, to `sums` and their squares to `squares`.
            pub(crate) fn unit_sums(tile: &[UnitRow<'_, E>], sums: &mut [f64], squares: &mut [f64])
                = generic::unit_sums::<E, DIMS>;

            /// Adds the rows of a tile to `sums`, their squares to `squares`, and each row times its factor to `units`.
            pub(crate) fn block_sums(tile: &[UnitRow<'_, E>], sums: &mut [f64], squares: &mut [f64], units: &mut [f64])
                = generic::block_sums::<E, DIMS>;

            /// Multiplies each value by its column's inverse scale; gives the sums of the row before and after.
            pub(crate) fn divide_columns(row: &[E], inverse_columns: &[f64], out: &mut [f32]) -> ScaledSums
                = generic::divide_columns::<E>;

            /// As `divide_columns`, in f32 arithmetic, for types whose values f32 holds.
            pub(crate) fn divide_columns_in_f32(row: &[E], inverse_columns: &[f32], out: &mut [f32]) -> ScaledSums
                = generic::divide_columns_in_f32::<E>;

            /// Multiplies a row by its inverse scale, in place, and gives the sums of its powers.
            pub(crate) fn divide_row(row: &mut [f32], inverse_scale: f64) -> PowerSums = generic::divide_row::<FLOATS>;

            /// Adds neighbouring entries of a row of a matrix, all finite, to its sketch: the first has that place.
            pub fn sketch(values: &[E], row: SketchRow, first_place: usize, table: &mut SketchTable) = sketch::sketch::<E, Own>;

            /// Adds neighbouring columns of a matrix, at most [`SKETCH_COLUMNS`](super::SKETCH_COLUMNS) and all finite, to its sketch: the
            /// first is that one.
            pub(crate) fn sketch_columns(columns: &[&[E]], first_column: usize, table: &mut SketchTable)
                = sketch::sketch_columns::<E, Own>;
        }
    };
}
pub(super) use kernels;

macro_rules! define_table {
    ($(
        $(#[$about:meta])* $visibility:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? = $body:expr;
    )*) => {
        /// The kernels of one level for one element type.
        ///
        /// The table can only be had for a level that the processor has, which is what makes its methods safe to call.
        #[derive(Debug, Clone, Copy)]
        pub struct Kernels<E: Element> {
            pub(super) level: Level,
            $(pub(super) $name: unsafe fn($($type),*) $(-> $result)?,)*
        }

        impl<E: Element> Kernels<E> {
            $(
                $(#[$about])*
                $visibility fn $name(&self, $($argument: $type),*) $(-> $result)? {
                    // SAFETY: `at` checked that the processor has the level.
                    unsafe { (self.$name)($($argument),*) }
                }
            )*
        }
    };
}
kernels!(define_table);

impl<E: Element> Kernels<E> {
    /// The kernels of a level, or none if this processor lacks it.
    pub fn at(level: Level) -> Option<Self> {
        level.is_available().then(|| match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => x86_64::avx2::kernels(),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => x86_64::avx512::kernels(),
            _ => scalar::kernels(),
        })
    }

    /// The level these kernels were compiled for.
    pub const fn level(&self) -> Level {
        self.level
    }
}

/// Compiles all kernels for a level, under an attribute that switches on its instructions, and defines `kernels`, which gives them.
///
/// The level's file says what the bodies are to fit:
/// - `DIMS`: how many dims are handled at a time where a kernel takes group by group,
/// - `ROWS`: how many rows where it goes along them,
/// - `ROW_LANES`: how many of a group's lanes there are then registers for,
/// - `FLOATS`: how many f32 lanes there are registers for in a pass over one row,
/// - `Own`: the level's own instructions.
macro_rules! compile_kernels {
    ($level:ident $attribute:tt $(
        $(#[$about:meta])* $visibility:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? = $body:expr;
    )*) => {
        use $crate::dtype::Element;
        use $crate::kernel::generic::{self, PowerSums, ScaledSums};
        use $crate::kernel::{
            CodeTable, CodeTables, DimSums, Kernels, Level, MomentRows, RowFigures, SketchRow, SketchTable, UnitRow, rows, sketch,
        };

        pub(in $crate::kernel) fn kernels<E: Element>() -> Kernels<E> {
            Kernels { level: Level::$level, $($name: $name::<E>,)* }
        }

        $(
            #$attribute
            #[allow(clippy::extra_unused_type_parameters, reason = "some bodies are the same for all types")]
            fn $name<E: Element>($($argument: $type),*) $(-> $result)? {
                $body($($argument),*)
            }
        )*
    };
}
pub(super) use compile_kernels;
