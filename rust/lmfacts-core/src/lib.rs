//! Streaming statistics of a tensor's values, exact where they can be.
//!
//! A [`BufferView`] describes a tensor that lies in somebody else's memory; a [`TokenBatch`] says which tokens its rows are; a
//! [`SiteAccumulator`] takes both in and keeps, in memory that does not grow with the number of tokens, for the first tokens of
//! sequences and for all others apart: the histogram of all 65,536 codes, central moments of every dim, the tokens' norms and the
//! largest values with their places.
//!
//! Invariants, whatever the processor and however the values are cut into calls, ordered, or spread over threads: counts, codes, minima,
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
//! This crate knows neither Python nor files.

mod accum;
mod config;
pub mod dlpack;
mod dtype;
mod error;
mod kernel;
mod parallel;
mod state;
mod tokens;
mod view;

pub use accum::*;
pub use config::{SiteConfig, Statistics};
pub use dtype::{Bf16, Dtype, Element, F8E4M3, F8E5M2, F16, GROUP};
pub use error::{Error, Result};
pub use kernel::{
    CodeTable, DimSums, Kernels, Level, MomentRows, N_CODES, RowFigures, SKETCH_BUCKETS, SKETCH_GROUPS, SKETCH_LANES, SketchRow,
    SketchTable,
};
pub use parallel::{MaxThreadsFn, OpenMp, ParallelFn, Pool};
pub use state::{Arrays, NamedArray, Number, PopulationState, SiteState, Values};
pub use tokens::{Population, TokenBatch};
pub use view::{BufferView, MAX_AXES, Rows};
