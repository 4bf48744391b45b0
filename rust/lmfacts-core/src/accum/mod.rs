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

mod codes;
mod dim_histograms;
mod matrix;
mod moments;
mod outliers;
mod sequence_blocks;
mod site;
mod site_state;
mod sketch;
mod summary;
mod tables;
mod token_norms;
mod unit_sums;
mod workspace;

pub use codes::CodeHistogram;
pub use dim_histograms::{DimHistograms, N_BINS};
pub use matrix::{MatrixState, Orientation, measure_matrix};
pub use moments::{DimMoments, ScalarMoments};
pub use outliers::{Outlier, Outliers};
pub use sequence_blocks::{N_BLOCKS, N_MAXIMA, SequenceBlocks};
pub use site::{SiteAccumulator, SiteConfig};
pub use site_state::{PopulationState, SiteState};
pub use summary::Summary;
pub use token_norms::{TOKEN_QUANTITIES, TokenNorms};
pub use unit_sums::UnitSums;
