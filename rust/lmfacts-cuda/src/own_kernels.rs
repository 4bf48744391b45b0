//! The statistics that have kernels of their own, beside those of the main pass: their list is in `lmfacts-core`.

use lmfacts_core::device::{Blocks, DeviceCall, OnDevice};
use lmfacts_core::state::Arrays;
use lmfacts_core::{Population, SiteConfig, Statistics};

/// What is known of one of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OwnKernels {
    pub(crate) statistic: Statistics,
    pub(crate) kernels: &'static [(&'static str, Blocks)],
    pub(crate) source: &'static str,
    pub(crate) state_bytes: fn(&SiteConfig, usize) -> usize,
    pub(crate) scratch_bytes: fn(&DeviceCall) -> usize,
    pub(crate) save_state: fn(&[u8], &SiteConfig, usize, Population, &mut Arrays),
}

impl OwnKernels {
    const fn of<S: OnDevice>(statistic: Statistics, source: &'static str) -> Self {
        Self {
            statistic,
            kernels: S::KERNELS,
            source,
            state_bytes: S::state_bytes,
            scratch_bytes: S::scratch_bytes,
            save_state: S::save_state,
        }
    }
}

macro_rules! list {
    ($($file:ident: $type:ty as $constant:ident,)*) => {
        /// All of them. Their kernels are in files that have their names.
        pub(crate) const OWN: [OwnKernels; [$(stringify!($file)),*].len()] = [
            $(OwnKernels::of::<$type>(
                Statistics::$constant,
                include_str!(concat!("../kernels/", stringify!($file), ".cu")),
            ),)*
        ];
    };
}
lmfacts_core::for_each_statistic_on_devices!(list);

/// Blocks along three axes, for so many dims and parts of the rows.
pub(crate) const fn grid(blocks: Blocks, n_dims: u32, n_parts: u32) -> [u32; 3] {
    match blocks {
        Blocks::DimsAndParts => [n_dims.div_ceil(32), n_parts, 1],
        Blocks::DimsAndPopulations => [n_dims.div_ceil(32), 2, 1],
        Blocks::Populations => [2, 1, 1],
    }
}
