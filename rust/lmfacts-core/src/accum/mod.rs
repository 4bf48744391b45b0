//! What is kept of a site.
//!
//! Every accumulator can be updated, merged with another of its kind, turned into a state and restored from one, under these laws
//! (`tests/laws.rs` tests them):
//!
//! - merging is associative and commutative, an empty accumulator is its identity, and updating with the parts of some data in any
//!   order is the same as merging accumulators of the parts;
//! - for counts, codes, minima, maxima and outliers "the same" means the same bits; for moments it means equal within
//!   1e-12 of the sum of the terms' magnitudes;
//! - NaN and infinity are counted and change no finite moment.

mod accumulator;
mod codes;
mod device;
mod dim_blocks;
mod dim_histograms;
mod dim_places;
mod free_lists;
mod main_pass;
mod matrix;
mod moments;
mod outliers;
mod population;
mod population_codes;
mod scratch;
mod sequence_blocks;
mod site;
mod sketch;
mod tables;
mod token_maxima;
mod token_norms;
mod unit_sums;
mod value_blocks;

pub use codes::CodeHistogram;
pub use device::{Blocks, DeviceCall, OnDevice};
pub use dim_blocks::DimBlocks;
pub use dim_histograms::{DimHistograms, N_BINS};
pub use dim_places::DimPlaces;
pub(crate) use free_lists::FreeLists;
pub use matrix::{MatrixState, Orientation, measure_matrix};
pub use moments::{DimMoments, ScalarMoments};
pub use outliers::{Outlier, Outliers};
pub use population_codes::PopulationCodes;
pub use sequence_blocks::{N_BLOCKS, N_MAXIMA, SequenceBlocks};
pub use site::SiteAccumulator;
pub use token_maxima::TokenMaxima;
pub use token_norms::{TOKEN_QUANTITIES, TokenNorms};
pub use unit_sums::UnitSums;
pub use value_blocks::{BlocksOf16, BlocksOf32, N_COLUMNS, N_LARGEST};

use crate::config::Statistics;

/// The statistics beside the main pass's: calls a macro with the field, the type and the constant in [`Statistics`] of each.
///
/// To add one: a file with its type, which is an `Accumulator` and a `Statistic` (`accumulator.rs`), and a line here and among the
/// modules. States, merging, threads and the boundary to Python go by this list.
macro_rules! for_each_statistic {
    ($do:ident) => {
        $do! {
            /// The norms of the tokens.
            token_norms: TokenNorms as TOKEN_NORMS,
            /// The largest values and their places.
            outliers: Outliers as OUTLIERS,
            /// The sums of unit vectors that the mean cosine between tokens needs.
            unit_sums: UnitSums as UNIT_SUMS,
            /// Tokens and norms by blocks of sequences, and the largest value of each of the first sequences.
            sequence_blocks: SequenceBlocks as SEQUENCE_BLOCKS,
            /// A coarse histogram of each dim, of all tokens but the first of sequences.
            dim_histograms: DimHistograms as DIM_HISTOGRAMS,
            /// Where the largest value of each dim stands.
            dim_places: DimPlaces as DIM_PLACES,
            /// How large the largest value of a token is.
            token_maxima: TokenMaxima as TOKEN_MAXIMA,
            /// Sums of each dim by blocks of sequences, of all tokens but the first of sequences.
            dim_blocks: DimBlocks as DIM_BLOCKS,
            /// Values with the largest of their block of 16.
            blocks_of_16: BlocksOf16 as BLOCKS_OF_16,
            /// Values with the largest of their block of 32.
            blocks_of_32: BlocksOf32 as BLOCKS_OF_32,
        }
    };
}
use for_each_statistic;

/// The statistics among them that have kernels of their own on devices: calls a macro with the file of the kernels (`kernels/FILE.cu` in
/// `lmfacts-cuda`), the type, which is [`OnDevice`], and the constant of each.
#[macro_export]
#[doc(hidden)]
macro_rules! for_each_statistic_on_devices {
    ($do:ident) => {
        $do! {
            dim_histograms: $crate::device::DimHistograms as DIM_HISTOGRAMS,
            dim_places: $crate::device::DimPlaces as DIM_PLACES,
            token_maxima: $crate::device::TokenMaxima as TOKEN_MAXIMA,
            dim_blocks: $crate::device::DimBlocks as DIM_BLOCKS,
            blocks_of_16: $crate::device::BlocksOf16 as BLOCKS_OF_16,
            blocks_of_32: $crate::device::BlocksOf32 as BLOCKS_OF_32,
        }
    };
}

impl Default for Statistics {
    /// What every site of a model keeps.
    fn default() -> Self {
        Self::TOKEN_NORMS.with(Self::OUTLIERS)
    }
}
