//! The inner loops, at the best level that the processor has.
//!
//! Each loop is written once, in `rows`, `generic` and `sketch`, over fixed-size groups of independent lanes, and is listed once, in
//! `table`. A level's file compiles those same bodies with that level's instructions switched on and the number of lanes that fits its
//! registers. No loop lets the compiler reorder a
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
mod table;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86_64;

use std::fmt;
use std::sync::OnceLock;

use crate::dtype::Element;
use crate::error::{Error, Result};

pub(crate) use generic::{MergeWeights, central};
pub(crate) use lines::{Instructions, LINE, Turned};
pub use rows::DimSums;
pub(crate) use sketch::SKETCH_COLUMNS;
pub use sketch::{SKETCH_BUCKETS, SKETCH_GROUPS, SKETCH_LANES, SketchRow};
pub use table::Kernels;

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
    pub mean_lo: &'a mut [f64],
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
