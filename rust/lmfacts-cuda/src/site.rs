//! One update of a site: which kernels run, in what shape, on what.

#![allow(unsafe_code)]

use lmfacts_core::Error;

use crate::error::Result;
use crate::layout::SiteLayout;
use crate::program::{Kernel, Program};
use crate::tensor::DeviceRows;
use crate::tokens::TokensLayout;
use crate::{Launch, Launcher};

/// The most outliers that the kernels keep.
pub const MAX_K: usize = 512;

/// `Update` of `kernels/values.cu`: the same fields in the same order. Addresses are those of device memory.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Arguments {
    values: usize,
    outer_stride: i64,
    inner_stride: i64,
    n_rows: u32,
    inner_rows: u32,
    n_dims: u32,
    aligned: u32,
    sequence: usize,
    position: usize,
    token_id: usize,
    row_lists: usize,
    row_counts: usize,
    codes: usize,
    norm_codes: usize,
    dim_moments: usize,
    dim_counts: usize,
    unit_sums: usize,
    token_moments: usize,
    n_tokens: usize,
    n_calls: usize,
    outliers: usize,
    n_outliers: usize,
    maxima: usize,
    has_maximum: usize,
    dim_bins: usize,
    quantities: usize,
    blocks: usize,
    row_inverses: usize,
    row_maxima: usize,
    partials: usize,
    candidates: usize,
    n_candidates: usize,
    contenders: usize,
    k: u32,
    n_splits: u32,
    n_candidate_slots: u32,
    n_collectors: u32,
    by_block: u32,
    threshold: f32,
}

/// A tensor and the buffers that an update reads and writes, all in memory of one device.
#[derive(Debug, Clone, Copy)]
pub struct SiteUpdate<'a> {
    /// Where in the buffers things lie.
    pub layout: &'a SiteLayout,
    /// The values.
    pub rows: DeviceRows,
    /// Address of the tokens that `TokensCall` described; one for each row.
    pub tokens: usize,
    /// Address of the site's state.
    pub state: usize,
    /// Address and bytes of room to work in. Updates on one stream may share it.
    pub room: (usize, usize),
    /// The stream's handle.
    pub stream: usize,
}

/// The smallest float32 that is not below a threshold.
fn float_at_least(threshold: f64) -> f32 {
    let rounded = threshold as f32;
    if f64::from(rounded) < threshold { rounded.next_up() } else { rounded }
}

impl SiteUpdate<'_> {
    /// Queues the update.
    ///
    /// # Errors `Error::Layout` if the rows have another number of dims than the layout or the room is too small; those of
    /// [`Launcher::launch_raw`].
    ///
    /// # Safety
    /// - The rows, the tokens' description, the state and the room must lie in memory of the launcher's device, be as large as
    ///   their layouts
    ///   say, and stay until the stream has come past the update.
    /// - The tokens' description must have been written earlier on the stream, for as many tokens as there are rows.
    /// - Nothing else may use the state or the room meanwhile.
    pub unsafe fn queue(&self, launcher: &dyn Launcher) -> Result<()> {
        let Self { layout, rows, tokens, state, room: (room_address, room_bytes), stream } = *self;
        let limits = launcher.limits();
        let room = layout.room(rows.n_rows as usize, limits);
        let misfit = |expected: String, got: String| Err(Error::Layout { expected, got }.into());
        if rows.n_dims as usize != layout.n_dims {
            return misfit(format!("{} dims, as before", layout.n_dims), rows.n_dims.to_string());
        }
        if room.n_bytes > room_bytes {
            return misfit(format!("{} bytes of room", room.n_bytes), room_bytes.to_string());
        }
        if rows.n_rows == 0 {
            return Ok(());
        }
        let of_tokens = TokensLayout::new(rows.n_rows as usize);
        let arguments = Arguments {
            values: rows.address,
            outer_stride: rows.outer_stride,
            inner_stride: rows.inner_stride,
            n_rows: rows.n_rows,
            inner_rows: rows.inner_rows,
            n_dims: rows.n_dims,
            aligned: u32::from(rows.aligned),
            sequence: of_tokens.sequence.at(tokens),
            position: of_tokens.position.at(tokens),
            token_id: of_tokens.token_id.at(tokens),
            row_lists: of_tokens.row_lists.at(tokens),
            row_counts: of_tokens.row_counts.at(tokens),
            codes: layout.codes.at(state),
            norm_codes: layout.norm_codes.at(state),
            dim_moments: layout.dim_moments.at(state),
            dim_counts: layout.dim_counts.at(state),
            unit_sums: layout.unit_sums.at(state),
            token_moments: layout.token_moments.at(state),
            n_tokens: layout.n_tokens.at(state),
            n_calls: layout.n_calls.at(state),
            outliers: layout.outliers.at(state),
            n_outliers: layout.n_outliers.at(state),
            maxima: layout.maxima.at(state),
            has_maximum: layout.has_maximum.at(state),
            dim_bins: layout.dim_bins.at(state),
            quantities: room.quantities.at(room_address),
            blocks: room.blocks.at(room_address),
            row_inverses: room.row_inverses.at(room_address),
            row_maxima: room.row_maxima.at(room_address),
            partials: room.partials.at(room_address),
            candidates: room.candidates.at(room_address),
            n_candidates: room.n_candidates.at(room_address),
            contenders: room.contenders.at(room_address),
            k: layout.config.k as u32,
            n_splits: room.n_splits as u32,
            n_candidate_slots: room.n_candidate_slots as u32,
            n_collectors: limits.n_multiprocessors,
            by_block: u32::from(layout.config.detail),
            threshold: float_at_least(layout.config.threshold),
        };
        let program = Program::Values(layout.dtype);
        for (kernel, grid, n_threads) in self.shapes(limits.n_multiprocessors, room.n_splits as u32) {
            let shared_bytes = if kernel == Kernel::Codes { program.table_bytes(limits) } else { 0 };
            let launch = Launch { kernel, program, grid, n_threads, shared_bytes, arguments: &arguments, stream };
            // SAFETY: the kernels of values take `Arguments`; what the addresses point to is vouched for by the caller.
            unsafe { launch.queue(launcher) }?;
        }
        Ok(())
    }

    /// The kernels in the order in which they run, with their blocks and threads.
    fn shapes(&self, n_multiprocessors: u32, n_splits: u32) -> Vec<(Kernel, [u32; 3], u32)> {
        let Self { layout, rows, .. } = self;
        let n_values = u64::from(rows.n_rows) * u64::from(rows.n_dims);
        let config = &layout.config;
        // A block of `codes` that counts less than 64 Ki values spends its time on clearing and adding up.
        let n_counting = u32::try_from(n_values.div_ceil(1 << 16)).unwrap_or(u32::MAX).clamp(1, n_multiprocessors);
        let (dims, dims_of_a_block) = match (rows.aligned, config.unit_sums) {
            (false, _) => (Kernel::DimsOneByOne, 32),
            (true, true) => (Kernel::DimsWithUnits, 128),
            (true, false) => (Kernel::Dims, 128),
        };
        // The tasks of `finish`, for each population: moments of 32 dims, of quantities of tokens, outliers, maxima.
        let n_groups = if config.blocks { 9 } else { 1 };
        let n_tasks = rows.n_dims.div_ceil(32) + 3 * n_groups + 1 + u32::from(config.blocks);
        let mut shapes = vec![
            (Kernel::Rows, [rows.n_rows.div_ceil(8).min(8 * n_multiprocessors), 1, 1], 256),
            (Kernel::Codes, [n_counting, 1, 1], 1024),
            (dims, [rows.n_dims.div_ceil(dims_of_a_block), n_splits, 2], 128),
        ];
        if config.detail {
            let n_bin_splits = (4 * n_multiprocessors).div_ceil(rows.n_dims.div_ceil(32)).clamp(1, rows.n_rows.div_ceil(64));
            shapes.push((Kernel::DimBins, [rows.n_dims.div_ceil(32), n_bin_splits, 1], 256));
        }
        if config.k > 0 {
            shapes.push((Kernel::Collect, [n_multiprocessors, 1, 1], 256));
        }
        shapes.push((Kernel::Finish, [2 * n_tasks, 1, 1], 256));
        shapes
    }
}

impl<A> Launch<'_, A> {
    /// Queues the launch.
    ///
    /// # Errors
    /// Those of [`Launcher::launch_raw`].
    ///
    /// # Safety
    /// As for [`Launcher::launch_raw`].
    pub(crate) unsafe fn queue(&self, launcher: &dyn Launcher) -> Result<()> {
        let Launch { kernel, program, grid, n_threads, shared_bytes, arguments, stream } = *self;
        // SAFETY: the launch only passes the address on; the size goes beside it.
        let arguments = unsafe { &*std::ptr::from_ref(arguments).cast::<()>() };
        let raw = Launch { kernel, program, grid, n_threads, shared_bytes, arguments, stream };
        // SAFETY: the caller vouches for the arguments.
        unsafe { launcher.launch_raw(&raw, size_of::<A>()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_is_reached_by_the_same_float32_values() {
        assert_eq!(float_at_least(6.0), 6.0);
        assert!(f64::from(float_at_least(0.1)) >= 0.1 && f64::from(float_at_least(0.1).next_down()) < 0.1);
        assert_eq!(float_at_least(1e300), f32::INFINITY);
        assert_eq!(float_at_least(f64::INFINITY), f32::INFINITY);
    }
}
