//! How devices keep a statistic that has kernels of its own there.
//!
//! The kernels of a site's main pass keep some statistics on the way. Any other says here what memory it takes on a device, which kernels
//! work on it, and what is read from it; the kernels are in `lmfacts-cuda`, in a file that has the statistic's name. This crate knows no
//! device: these are sizes, names and bytes.

use crate::config::SiteConfig;
use crate::state::Arrays;
use crate::tokens::Population;

/// What the memory that a call works in depends on.
#[derive(Debug, Clone, Copy)]
pub struct DeviceCall {
    /// What the site records.
    pub config: SiteConfig,
    /// Dims of each row.
    pub n_dims: usize,
    /// Rows, padding included.
    pub n_rows: usize,
    /// Parts that kernels divide the rows into, where they do.
    pub n_parts: usize,
}

/// The blocks of threads, 256 each, that a kernel runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocks {
    /// Along the first axis one for each 32 dims, along the second one for each part of the rows.
    DimsAndParts,
    /// Along the first axis one for each 32 dims, along the second one for each population.
    DimsAndPopulations,
    /// One for each population.
    Populations,
}

/// A statistic with kernels of its own on devices.
pub trait OnDevice {
    /// The kernels, in the order in which they run after those of the main pass.
    const KERNELS: &'static [(&'static str, Blocks)];

    /// Bytes of its state, which is zeros at first.
    fn state_bytes(config: &SiteConfig, n_dims: usize) -> usize;

    /// Bytes that a call works in, of any content at first.
    fn scratch_bytes(_call: &DeviceCall) -> usize {
        0
    }

    /// Adds what the state says of a population to `arrays`.
    fn save_state(state: &[u8], config: &SiteConfig, n_dims: usize, population: Population, arrays: &mut Arrays);
}
