//! The tokens of a pass, described on the device.

#![allow(unsafe_code)]

use lmfacts_core::Error;

use crate::error::Result;
use crate::layout::Section;
use crate::program::{Kernel, Program};
use crate::tensor::DeviceTensor;
use crate::twins::twin;
use crate::{Launch, Launcher};

/// DLPack's kinds of numbers that are floating.
const FLOATING: [u8; 2] = [2, 4];

twin! {
    /// A tensor that a call was given.
    struct Argument as Argument {
        data: usize,
        row_stride: i64,
        column_stride: i64,
        bytes: u32,
        is_float: u32,
    }
}

twin! {
    /// The argument of the kernel that describes tokens.
    struct Arguments as Tokens {
        ids: Argument,
        real_given: Argument,
        starts: Argument,
        earlier: Argument,
        length: Argument,
        n_rows: u32,
        n_columns: u32,
        n_earlier: u32,
        continues: u32,
        sequence: usize,
        position: usize,
        token_id: usize,
        real: usize,
        row_lists: usize,
        row_counts: usize,
        last: usize,
        begun: usize,
        totals: usize,
    }
}

/// Where in the description's buffer each list lies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TokensLayout {
    pub(crate) sequence: Section,
    pub(crate) position: Section,
    pub(crate) token_id: Section,
    pub(crate) row_lists: Section,
    pub(crate) row_counts: Section,
    real: Section,
    n_bytes: usize,
}

impl TokensLayout {
    pub(crate) const fn new(n_tokens: usize) -> Self {
        let lists = 8 * n_tokens;
        Self {
            sequence: Section { start: 0, n_bytes: lists },
            position: Section { start: lists, n_bytes: lists },
            token_id: Section { start: 2 * lists, n_bytes: lists },
            row_lists: Section { start: 3 * lists, n_bytes: lists },
            row_counts: Section { start: 4 * lists, n_bytes: 8 },
            real: Section { start: 4 * lists + 8, n_bytes: n_tokens },
            n_bytes: 4 * lists + 8 + n_tokens,
        }
    }
}

/// What a call says of its tokens and the buffers that describing them writes, all in memory of one device.
#[derive(Debug, Clone, Copy)]
pub struct TokensCall {
    /// Sequences side by side, and columns of each.
    pub shape: (usize, usize),
    /// Token ids [rows, columns], integers of 32 or 64 bits, if they were given.
    pub ids: Option<DeviceTensor>,
    /// [rows, columns]: not zero for real tokens; all are if there is none.
    pub real: Option<DeviceTensor>,
    /// [rows or 1, columns] of integers: zero where a sequence begins inside a row.
    pub starts: Option<DeviceTensor>,
    /// [rows, 1], integers of 32 or 64 bits: real tokens of each row that earlier passes have read.
    pub earlier: Option<DeviceTensor>,
    /// The same for all rows, if that is not given.
    pub n_earlier: usize,
    /// One number: if zero, the pass does not go on with anything.
    pub length: Option<DeviceTensor>,
    /// Whether the pass goes on with the sequences of the one before.
    pub continues: bool,
    /// Address and bytes of the buffer for the description.
    pub tokens: (usize, usize),
    /// Address and bytes of what is remembered from pass to pass: zeros at first.
    pub memory: (usize, usize),
    /// The stream's handle.
    pub stream: usize,
}

impl TokensCall {
    /// Bytes of the description of so many tokens.
    pub const fn tokens_bytes(n_tokens: usize) -> usize {
        TokensLayout::new(n_tokens).n_bytes
    }

    /// Bytes to remember from pass to pass, for up to so many sequences side by side: three counts (sequences, tokens, passes),
    /// then a number and a count for each.
    pub const fn memory_bytes(n_rows: usize) -> usize {
        3 * 8 + n_rows * (8 + 4)
    }

    /// Queues the description.
    ///
    /// # Errors
    /// `Error::Layout` if the shapes do not fit each other or the buffers are too small; those of [`Launcher::launch_raw`].
    ///
    /// # Safety
    /// - All that is given must lie in memory of the launcher's device and stay until the stream has come past the call.
    /// - Nothing else may use the buffers meanwhile.
    pub unsafe fn queue(&self, launcher: &dyn Launcher) -> Result<()> {
        let (n_rows, n_columns) = self.shape;
        let n_tokens = n_rows * n_columns;
        let layout = TokensLayout::new(n_tokens);
        let needed = (layout.n_bytes, Self::memory_bytes(n_rows));
        if n_tokens >= u32::MAX as usize || needed.0 > self.tokens.1 || needed.1 > self.memory.1 {
            let got = format!("{} and {} bytes for {n_rows} x {n_columns} tokens", self.tokens.1, self.memory.1);
            return Err(Error::Layout { expected: format!("buffers of {} and {} bytes", needed.0, needed.1), got }.into());
        }
        let arguments = Arguments {
            ids: argument(self.ids.as_ref(), n_rows, n_columns)?,
            real_given: argument(self.real.as_ref(), n_rows, n_columns)?,
            starts: argument(self.starts.as_ref(), n_rows, n_columns)?,
            earlier: argument(self.earlier.as_ref(), n_rows, 1)?,
            length: argument(self.length.as_ref(), 1, 1)?,
            n_rows: n_rows as u32,
            n_columns: n_columns as u32,
            n_earlier: self.n_earlier as u32,
            continues: u32::from(self.continues),
            sequence: layout.sequence.at(self.tokens.0),
            position: layout.position.at(self.tokens.0),
            token_id: layout.token_id.at(self.tokens.0),
            real: layout.real.at(self.tokens.0),
            row_lists: layout.row_lists.at(self.tokens.0),
            row_counts: layout.row_counts.at(self.tokens.0),
            last: self.memory.0 + 3 * 8,
            begun: self.memory.0 + 3 * 8 + self.memory_rows() * 8,
            totals: self.memory.0,
        };
        let launch = Launch {
            kernel: Kernel::TOKENS,
            program: Program::Tokens,
            grid: [1, 1, 1],
            n_threads: 512,
            shared_bytes: 0,
            arguments: &arguments,
            stream: self.stream,
        };
        // SAFETY: the kernel takes these arguments; what they point to is vouched for by the caller.
        unsafe { launch.queue(launcher) }
    }

    /// For how many sequences the memory was made: the lists in it must not move when fewer come.
    const fn memory_rows(&self) -> usize {
        (self.memory.1 - 3 * 8) / (8 + 4)
    }
}

/// A tensor of [rows, columns], or one row for all, as the kernel reads it.
fn argument(tensor: Option<&DeviceTensor>, n_rows: usize, n_columns: usize) -> Result<Argument> {
    let Some(tensor) = tensor else { return Ok(Argument::default()) };
    let (shape, strides) = (tensor.shape(), tensor.strides());
    let expected = || format!("a tensor of shape [{n_rows}, {n_columns}], or of one row for all");
    let misfit = |got: String| Error::Layout { expected: expected(), got };
    let (row, column) = match (shape, strides) {
        (&[columns], &[stride]) => ((1, 0), (columns, stride)),
        (&[rows, columns], &[row_stride, stride]) => ((rows, row_stride), (columns, stride)),
        _ => return Err(misfit(format!("shape {shape:?}")).into()),
    };
    if column.0 != n_columns as i64 || (row.0 != n_rows as i64 && row.0 != 1) {
        return Err(misfit(format!("shape {shape:?}")).into());
    }
    let (kind, bits) = tensor.kind;
    if ![8, 16, 32, 64].contains(&bits) {
        return Err(misfit(format!("numbers of {bits} bits")).into());
    }
    Ok(Argument {
        data: tensor.address,
        row_stride: if row.0 == 1 { 0 } else { row.1 },
        column_stride: column.1,
        bytes: u32::from(bits / 8),
        is_float: u32::from(FLOATING.contains(&kind)),
    })
}
