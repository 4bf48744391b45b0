//! Streaming statistics of a tensor's values, exact where they can be.
//!
//! A [`BufferView`] describes a tensor that lies in somebody else's memory; a [`TokenBatch`] says which tokens its rows are; a
//! [`SiteAccumulator`] takes both in and keeps, in memory that does not grow with the number of tokens, separately for the first
//! tokens of sequences and for all others: the histogram of all 65,536 codes, central moments of every dim, the tokens' norms and the
//! largest values with their places.
//!
//! Invariants, whatever the processor and however the values are divided into calls, ordered, or spread over threads: counts, codes, minima,
//! maxima and outliers have the same bits; moments agree to 1e-12. For the same calls in the same order, all bits are the same on any
//! number of threads and at every level of instructions.
//!
//! ```
//! use lmfacts_core::{BufferView, Pool, SiteAccumulator, SiteConfig, TokenBatch};
//!
//! let values = [0.5f32, -1.0, 2.0, 8.0, 0.0, 1.0]; // 3 tokens x 2 dims
//! let view = BufferView::from_slice(&values, &[1, 3, 2])?;
//! let tokens = TokenBatch::new(vec![0; 3], vec![0, 1, 2], vec![-1; 3], &[true; 3])?;
//! let mut site = SiteAccumulator::new(SiteConfig::default())?;
//! site.update(&view, &tokens, &Pool::new(1)?)?;
//! let [first, rest] = site.state().populations;
//! assert_eq!((first.n_tokens, rest.n_tokens), (1, 2));
//! assert_eq!(rest.arrays.list::<f64>("outlier_values")?[0], 8.0);
//! # Ok::<(), lmfacts_core::Error>(())
//! ```
//!
//! Other element types are in [`dtype`], what a state consists of in [`state`], weight matrices in [`matrix`], tensors of other libraries in
//! [`dlpack`], and threads that are shared with an OpenMP runtime in [`openmp`]. This crate knows neither Python nor files.

mod accum;
mod config;
pub mod dlpack;
pub mod dtype;
mod error;
mod kernel;
pub mod packing;
mod parallel;
pub mod state;
mod tokens;
mod view;

pub use accum::SiteAccumulator;
pub use config::{SiteConfig, Statistics};
pub use dtype::{Dtype, Element};
pub use error::{Error, Result};
pub use kernel::Level;
pub use parallel::Pool;
pub use state::SiteState;
pub use tokens::{Population, TokenBatch};
pub use view::BufferView;

/// Weight matrices: the statistics of their values, as they are and without the scales of columns and rows.
pub mod matrix {
    pub use crate::accum::{MatrixState, Orientation, ScalarMoments, measure_matrix};
}

/// Sharing the threads of an OpenMP runtime that the process has loaded.
pub mod openmp {
    pub use crate::parallel::{MaxThreadsFn, OpenMp, ParallelFn};
}

/// What `lmfacts-cuda` needs to keep the same statistics on a device. No part of the crate's interface: it may change in any version.
#[doc(hidden)]
pub mod device {
    pub use crate::accum::*;
    pub use crate::kernel::N_CODES;
    pub use crate::view::MAX_AXES;
}

/// The inner loops, for benchmarks. No part of the crate's interface either.
#[doc(hidden)]
pub mod kernels {
    pub use crate::accum::CodeHistogram;
    pub use crate::kernel::{
        CodeTable, DimSums, Kernels, MomentRows, RowFigures, SKETCH_BUCKETS, SKETCH_GROUPS, SKETCH_LANES, SketchRow, SketchTable,
    };
}

// The example in the README runs too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
