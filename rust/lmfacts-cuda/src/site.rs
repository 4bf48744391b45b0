//! One update of a site: which kernels run, in what shape, on what.

#![allow(unsafe_code)]

use lmfacts_core::{Error, Statistics};

use crate::error::Result;
use crate::layout::SiteLayout;
use crate::own_kernels::{OWN, grid};
use crate::program::{Kernel, Program};
use crate::tensor::DeviceRows;
use crate::tokens::TokensLayout;
use crate::twins::twin;
use crate::{Launch, Launcher};

/// The most outliers that the kernels keep.
pub const MAX_K: usize = 512;

twin! {
    /// The argument of the main pass's kernels; addresses are those of device memory.
    struct Arguments as Update {
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
}

twin! {
    /// The argument of a statistic's own kernels.
    struct StatisticArguments as StatisticUpdate {
        call: Arguments,
        state: usize,
        scratch: usize,
    }
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
    /// Address and bytes of scratch memory. Updates on one stream may share it.
    pub scratch: (usize, usize),
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
    /// # Errors `Error::Layout` if the rows have another number of dims than the layout or the scratch memory is too small; those of
    /// [`Launcher::launch_raw`].
    ///
    /// # Safety
    /// - The rows, the tokens' description, the state and the scratch memory must lie in memory of the launcher's device, be as large as
    ///   their layouts
    ///   say, and stay until the stream has come past the update.
    /// - The tokens' description must have been written earlier on the stream, for as many tokens as there are rows.
    /// - Nothing else may use the state or the scratch memory meanwhile.
    pub unsafe fn queue(&self, launcher: &dyn Launcher) -> Result<()> {
        let Self { layout, rows, tokens, state, scratch: (scratch_address, scratch_bytes), stream } = *self;
        let limits = launcher.limits();
        let scratch = layout.scratch(rows.n_rows as usize, limits);
        let misfit = |expected: String, got: String| Err(Error::Layout { expected, got }.into());
        if rows.n_dims as usize != layout.n_dims {
            return misfit(format!("{} dims, as before", layout.n_dims), rows.n_dims.to_string());
        }
        if scratch.n_bytes > scratch_bytes {
            return misfit(format!("{} bytes of scratch memory", scratch.n_bytes), scratch_bytes.to_string());
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
            quantities: scratch.quantities.at(scratch_address),
            blocks: scratch.blocks.at(scratch_address),
            row_inverses: scratch.row_inverses.at(scratch_address),
            row_maxima: scratch.row_maxima.at(scratch_address),
            partials: scratch.partials.at(scratch_address),
            candidates: scratch.candidates.at(scratch_address),
            n_candidates: scratch.n_candidates.at(scratch_address),
            contenders: scratch.contenders.at(scratch_address),
            k: layout.config.k as u32,
            n_splits: scratch.n_splits as u32,
            n_candidate_slots: scratch.n_candidate_slots as u32,
            n_collectors: limits.n_multiprocessors,
            by_block: u32::from(layout.keeps(Statistics::BLOCK_CODES)),
            threshold: float_at_least(layout.config.threshold),
        };
        let program = Program::Values(layout.dtype);
        for (kernel, grid, n_threads) in self.shapes(limits.n_multiprocessors, scratch.n_splits as u32) {
            let shared_bytes = if kernel == Kernel::CODES { program.table_bytes(limits) } else { 0 };
            let launch = Launch { kernel, program, grid, n_threads, shared_bytes, arguments: &arguments, stream };
            // SAFETY: the kernels of values take `Arguments`; what the addresses point to is vouched for by the caller.
            unsafe { launch.queue(launcher) }?;
        }
        for (index, own) in OWN.iter().enumerate().filter(|(_, own)| layout.keeps(own.statistic)) {
            let (state, scratch_address) = (layout.own[index].at(state), scratch.own[index].at(scratch_address));
            let arguments = StatisticArguments { call: arguments, state, scratch: scratch_address };
            for &(name, blocks) in own.kernels {
                let (kernel, grid) = (Kernel::own(name), grid(blocks, rows.n_dims, scratch.n_parts as u32));
                let launch = Launch { kernel, program, grid, n_threads: 256, shared_bytes: 0, arguments: &arguments, stream };
                // SAFETY: the kernels of statistics take `StatisticArguments`; the rest as above.
                unsafe { launch.queue(launcher) }?;
            }
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
        let (dims, dims_of_a_block) = match (rows.aligned, layout.keeps(Statistics::UNIT_SUMS)) {
            (false, _) => (Kernel::DIMS_ONE_BY_ONE, 32),
            (true, true) => (Kernel::DIMS_WITH_UNITS, 128),
            (true, false) => (Kernel::DIMS, 128),
        };
        // The tasks of `finish`, for each population: moments of 32 dims, of quantities of tokens, outliers, maxima.
        let n_groups = if layout.keeps(Statistics::SEQUENCE_BLOCKS) { 9 } else { 1 };
        let n_tasks = rows.n_dims.div_ceil(32) + 3 * n_groups + 1 + u32::from(layout.keeps(Statistics::SEQUENCE_BLOCKS));
        let mut shapes = vec![
            (Kernel::ROWS, [rows.n_rows.div_ceil(8).min(8 * n_multiprocessors), 1, 1], 256),
            (Kernel::CODES, [n_counting, 1, 1], 1024),
            (dims, [rows.n_dims.div_ceil(dims_of_a_block), n_splits, 2], 128),
        ];
        if config.k > 0 {
            shapes.push((Kernel::COLLECT, [n_multiprocessors, 1, 1], 256));
        }
        shapes.push((Kernel::FINISH, [2 * n_tasks, 1, 1], 256));
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
