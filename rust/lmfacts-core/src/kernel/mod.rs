//! The inner loops, at the best level that the processor has.
//!
//! Each loop is written once, in `rows`, `generic` and `sketch`, over fixed-size groups of independent lanes. A level's file compiles those same bodies with
//! that level's instructions switched on and the number of lanes that fits its registers. No loop lets the compiler reorder a
//! floating-point sum: a dim is summed down its own lane in row order, and a sum across dims always runs over the same number of lanes,
//! which are added in a fixed order. What a level does in instructions of its own (`lines`) rounds nothing. So every level gives the
//! same bits, and the scalar one is the oracle for the others.
//!
//! The level is chosen at run time, once: wheels are built for the baseline of their platform and still use AVX-512 where it is.

mod generic;
mod lines;
mod rows;
mod scalar;
mod sketch;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86_64;

use std::fmt;
use std::sync::OnceLock;

use crate::dtype::Element;
use crate::error::{Error, Result};

pub(crate) use generic::{MergeWeights, PowerSums, ScaledSums, central};
pub(crate) use lines::{Instructions, LINE, Turned};
pub use rows::DimSums;
pub(crate) use sketch::SKETCH_COLUMNS;
pub use sketch::{SKETCH_BUCKETS, SKETCH_GROUPS, SKETCH_LANES, SketchRow};

/// Number of different codes, and so of counters in a table.
pub const N_CODES: usize = 1 << 16;

/// Lanes of a sum across a matrix's columns; fixed, so that the result does not depend on the level.
pub(crate) const ROW_LANES: usize = 16;

/// Counters of a code that values of which many are equal are counted into.
pub(crate) const N_TABLES: usize = 4;

/// Rows whose unit vectors are added together, group of dims by group: so many that the group's sums are seldom loaded and stored, so few
/// that rows a power of two apart do not drive each other out of the first-level cache.
pub(crate) const TILE_ROWS: usize = 32;

/// A table of 32-bit counters, one for each code.
pub type CodeTable = [u32; N_CODES];

/// Several such tables: a count is the sum over a code's counters. These stand together; a power of two apart, a processor that compares
/// the lower bits of addresses first would take them for one.
///
/// A code's counters stand at its [`slot`].
pub(crate) type CodeTables = [[u32; N_TABLES]; N_CODES];

/// Where the counters of a code stand in [`CodeTables`]; as it is its own inverse, also the code whose counters stand there.
///
/// With ten bits of mantissa the codes of small integers are multiples of 256. Left where they are, their counters would have the same lower
/// address bits, which standing together avoids within a code, and would share one set of the cache.
#[inline(always)]
pub(crate) fn slot<E: Element>(code: u16) -> u16 {
    slots::<E>(code.into()) as u16
}

/// The slots of up to four codes, each in 16 bits of a word.
#[inline(always)]
fn slots<E: Element>(codes: u64) -> u64 {
    if E::CODE_MANTISSA_BITS > 8 { in_one_register(codes ^ (codes >> 8 & 0x00ff_00ff_00ff_00ff)) } else { codes }
}

/// The buckets of a sketch, group by group. A group is two lines of the cache, and no access to it touches a third.
#[derive(Debug, Clone)]
#[repr(align(128))]
pub struct SketchTable(pub [[f64; SKETCH_LANES]; SKETCH_GROUPS]);

impl Default for SketchTable {
    fn default() -> Self {
        Self(std::array::from_fn(|_| [0.0; SKETCH_LANES]))
    }
}

/// A set of instructions that kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Whatever the platform's baseline is; on AArch64 that has NEON, and the level's name is `neon`.
    Scalar,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ and VL.
    Avx512,
}

impl Level {
    /// All levels, lowest first.
    pub const ALL: [Self; 3] = [Self::Scalar, Self::Avx2, Self::Avx512];

    /// The name used by `LMFACTS_SIMD` and in run files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scalar if cfg!(target_arch = "aarch64") => "neon",
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }

    /// Whether this processor can run it.
    pub fn is_available(self) -> bool {
        match self {
            Self::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => x86_64::avx2::is_available(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => x86_64::avx512::is_available(),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 => false,
        }
    }

    /// The level in use: the highest available one, unless the environment variable `LMFACTS_SIMD` names another.
    ///
    /// # Errors
    /// `Error::Setting` if the variable names no level, or one that this processor lacks.
    pub fn selected() -> Result<Self> {
        static SELECTED: OnceLock<Result<Level>> = OnceLock::new();
        SELECTED
            .get_or_init(|| match std::env::var("LMFACTS_SIMD") {
                Ok(name) if !name.is_empty() => Self::by_name(&name),
                _ => Ok(Self::ALL.into_iter().rfind(|level| level.is_available()).unwrap_or(Self::Scalar)),
            })
            .clone()
    }

    fn by_name(name: &str) -> Result<Self> {
        let available = Self::ALL.into_iter().filter(|level| level.is_available());
        let names: Vec<_> = available.clone().map(Self::name).collect();
        available.into_iter().find(|level| level.name() == name).ok_or_else(|| Error::Setting {
            setting: "LMFACTS_SIMD",
            expected: format!("one of {} (what this processor has)", names.join(", ")),
            got: name.into(),
        })
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(target_arch = "x86_64")]
use x86_64::{in_one_register, prefetch};

/// The same word, on processors where it has to be said that it belongs into one register.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn in_one_register(word: u64) -> u64 {
    word
}

/// Asks for the memory at a place ahead of its use, where there is an instruction for that.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn prefetch<T>(_place: *const T) {}

/// The central moments of some rows, dim by dim, in borrowed storage: seven lists of one value for each dim.
///
/// A mean is kept as a sum of two numbers, the second smaller than the rounding of the first. What matters when moments are merged is
/// the difference of two means; where |mean| / std is 10,000, one rounded number for each would cost it four digits.
#[derive(Debug)]
pub struct MomentRows<'a> {
    /// Mean, rounded.
    pub mean: &'a mut [f64],
    /// What rounding took from the mean.
    pub mean_rest: &'a mut [f64],
    /// Sum of squared deviations from the mean.
    pub m2: &'a mut [f64],
    /// Sum of cubed deviations.
    pub m3: &'a mut [f64],
    /// Sum of fourth powers of deviations.
    pub m4: &'a mut [f64],
    /// Smallest value.
    pub min: &'a mut [f64],
    /// Largest value.
    pub max: &'a mut [f64],
}

/// A row, and 1 / its norm.
pub(crate) type UnitRow<'a, E> = (&'a [E], f64);

/// The figures of a row.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RowFigures {
    /// The key of the largest magnitude; NaN counts as larger than infinity.
    pub absmax: u64,
    /// The sum of its values.
    pub sum: f64,
    /// The sum of their squares.
    pub square: f64,
}

type AbsmaxFn<E> = unsafe fn(&[E]) -> <E as Element>::Key;
type CodesFn<E> = unsafe fn(&[E], &mut CodeTable);
type BeginFn<E> = unsafe fn(&[&[E]], &mut [DimSums<E>]);
type RowPassFn<E, C> = unsafe fn(&[&[E]], &mut C, &mut [DimSums<E>], &mut [RowFigures]);
type MomentsFn<E> = unsafe fn(usize, &[DimSums<E>], &mut MomentRows<'_>);
type CountReachedFn<E> = unsafe fn(&[&[E]], f64, &[DimSums<E>], &mut [u64]);
type UnitSumsFn<E> = unsafe fn(&[UnitRow<'_, E>], &mut [f64], &mut [f64]);
type DivideColumnsFn<E> = unsafe fn(&[E], &[f64], &mut [f32]) -> ScaledSums;
type DivideColumnsInF32Fn<E> = unsafe fn(&[E], &[f32], &mut [f32]) -> ScaledSums;
type DivideRowFn = unsafe fn(&mut [f32], f64) -> PowerSums;
type SketchFn<E> = unsafe fn(&[E], SketchRow, usize, &mut SketchTable);
type SketchColumnsFn<E> = unsafe fn(&[&[E]], usize, &mut SketchTable);
type MergeFn = unsafe fn(f64, &mut MomentRows<'_>, f64, &MomentRows<'_>);

/// The kernels of one level for one element type.
///
/// The table can only be had for a level that the processor has, which is what makes its methods safe to call.
#[derive(Debug, Clone, Copy)]
pub struct Kernels<E: Element> {
    level: Level,
    absmax: AbsmaxFn<E>,
    codes: CodesFn<E>,
    begin: BeginFn<E>,
    row_pass: RowPassFn<E, CodeTable>,
    row_pass_apart: RowPassFn<E, CodeTables>,
    row_sums: RowPassFn<E, ()>,
    moments_of: MomentsFn<E>,
    count_reached: CountReachedFn<E>,
    unit_sums: UnitSumsFn<E>,
    merge_moments: MergeFn,
    divide_columns: DivideColumnsFn<E>,
    divide_columns_in_f32: DivideColumnsInF32Fn<E>,
    divide_row: DivideRowFn,
    sketch: SketchFn<E>,
    sketch_columns: SketchColumnsFn<E>,
}

#[allow(unsafe_code)]
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

    /// The key of the largest magnitude; NaN counts as larger than infinity.
    pub fn absmax(&self, row: &[E]) -> E::Key {
        // SAFETY: `at` checked that the processor has the level.
        unsafe { (self.absmax)(row) }
    }

    /// Counts the codes of finite values (of any values for 16-bit types).
    pub fn codes(&self, row: &[E], table: &mut CodeTable) {
        // SAFETY: as in `absmax`.
        unsafe { (self.codes)(row, table) }
    }

    /// Begins the sums of a chunk of rows: each of [`DimSums::n_groups`] is empty but for its pivot.
    pub fn begin(&self, rows: &[&[E]], sums: &mut [DimSums<E>]) {
        // SAFETY: as in `absmax`.
        unsafe { (self.begin)(rows, sums) }
    }

    /// Counts the codes of rows into `table`, adds them to `sums` and sets their figures. A NaN or an infinity spoils the sums of its
    /// row and its dim, and the codes of NaN are those that `Element::code` gives; `absmax` tells.
    pub fn row_pass(&self, rows: &[&[E]], table: &mut CodeTable, sums: &mut [DimSums<E>], figures: &mut [RowFigures]) {
        // SAFETY: as in `absmax`.
        unsafe { (self.row_pass)(rows, table, sums, figures) }
    }

    /// As [`Self::row_pass`], for rows of which many neighbours are equal: a count is the sum over the tables.
    pub(crate) fn row_pass_apart(
        &self,
        rows: &[&[E]],
        tables: &mut CodeTables,
        sums: &mut [DimSums<E>],
        figures: &mut [RowFigures],
    ) {
        // SAFETY: as in `absmax`.
        unsafe { (self.row_pass_apart)(rows, tables, sums, figures) }
    }

    /// As [`Self::row_pass`], without codes.
    pub fn row_sums(&self, rows: &[&[E]], sums: &mut [DimSums<E>], figures: &mut [RowFigures]) {
        // SAFETY: as in `absmax`.
        unsafe { (self.row_sums)(rows, &mut (), sums, figures) }
    }

    /// The central moments that the sums of `n_rows` finite rows give, written to `out`.
    pub fn moments_of(&self, n_rows: usize, sums: &[DimSums<E>], out: &mut MomentRows<'_>) {
        // SAFETY: as in `absmax`.
        unsafe { (self.moments_of)(n_rows, sums, out) }
    }

    /// Adds to `n_at_least` how often |x| reached the threshold, dim by dim, in the finite rows that gave these sums.
    pub fn count_reached(&self, rows: &[&[E]], threshold: f64, sums: &[DimSums<E>], n_at_least: &mut [u64]) {
        // SAFETY: as in `absmax`.
        unsafe { (self.count_reached)(rows, threshold, sums, n_at_least) }
    }

    /// Adds the rows of a tile, each divided by its norm, to `sums` and their squares to `squares`.
    pub(crate) fn unit_sums(&self, tile: &[UnitRow<'_, E>], sums: &mut [f64], squares: &mut [f64]) {
        // SAFETY: as in `absmax`.
        unsafe { (self.unit_sums)(tile, sums, squares) }
    }

    /// Multiplies each value by its column's inverse scale; gives the sums of the row before and after.
    pub(crate) fn divide_columns(&self, row: &[E], inverse_columns: &[f64], out: &mut [f32]) -> ScaledSums {
        // SAFETY: as in `absmax`.
        unsafe { (self.divide_columns)(row, inverse_columns, out) }
    }

    /// As `divide_columns`, in f32 arithmetic, for types whose values f32 holds.
    pub(crate) fn divide_columns_in_f32(&self, row: &[E], inverse_columns: &[f32], out: &mut [f32]) -> ScaledSums {
        // SAFETY: as in `absmax`.
        unsafe { (self.divide_columns_in_f32)(row, inverse_columns, out) }
    }

    /// Multiplies a row by its inverse scale, in place, and gives the sums of its powers.
    pub(crate) fn divide_row(&self, row: &mut [f32], inverse_scale: f64) -> PowerSums {
        // SAFETY: as in `absmax`.
        unsafe { (self.divide_row)(row, inverse_scale) }
    }

    /// Adds neighbouring entries of a row of a matrix, all finite, to its sketch: the first has that place.
    pub fn sketch(&self, values: &[E], row: SketchRow, first_place: usize, table: &mut SketchTable) {
        // SAFETY: as in `absmax`.
        unsafe { (self.sketch)(values, row, first_place, table) }
    }

    /// Adds neighbouring columns of a matrix, at most [`SKETCH_COLUMNS`] and all finite, to its sketch: the first is that one.
    pub(crate) fn sketch_columns(&self, columns: &[&[E]], first_column: usize, table: &mut SketchTable) {
        // SAFETY: as in `absmax`.
        unsafe { (self.sketch_columns)(columns, first_column, table) }
    }

    /// Merges the moments of `n_b` rows into those of `n_a` rows; both numbers are positive and the same for every dim.
    pub fn merge_moments(&self, n_a: f64, a: &mut MomentRows<'_>, n_b: f64, b: &MomentRows<'_>) {
        // SAFETY: as in `absmax`.
        unsafe { (self.merge_moments)(n_a, a, n_b, b) }
    }
}
