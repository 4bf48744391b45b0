//! Which kernels there are, and the sources and options they are compiled with.

use std::fmt;

use lmfacts_core::Dtype;
use lmfacts_core::device::{N_BINS, N_BLOCKS, N_CODES, N_MAXIMA, TOKEN_QUANTITIES};

use crate::layout::{DIMS_BLOCKS, Moments, N_PARTIALS, N_TOKEN_GROUPS, Outlier};
use crate::own_kernels::OWN;
use crate::twins::{Twin, numbers};
use crate::{Limits, site, tokens};

const PRELUDE: &str = include_str!("../kernels/prelude.cu");
const VALUES: &str = include_str!("../kernels/values.cu");
const TOKENS: &str = include_str!("../kernels/tokens.cu");
const OF_VALUES: [&str; 6] = [
    include_str!("../kernels/moments.cu"),
    include_str!("../kernels/rows.cu"),
    include_str!("../kernels/codes.cu"),
    include_str!("../kernels/dims.cu"),
    include_str!("../kernels/outliers.cu"),
    include_str!("../kernels/finish.cu"),
];

/// What is compiled and loaded together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Program {
    /// The kernel that describes the tokens of a pass.
    Tokens,
    /// The kernels that count values of a type.
    Values(Dtype),
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tokens => f.write_str("tokens"),
            Self::Values(dtype) => write!(f, "{dtype} values"),
        }
    }
}

/// A kernel, by the function's name in the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel(&'static str);

#[allow(missing_docs)] // each is described in its source
impl Kernel {
    pub const TOKENS: Self = Self("tokens");
    pub const ROWS: Self = Self("rows");
    pub const CODES: Self = Self("codes");
    pub const DIMS: Self = Self("dims");
    pub const DIMS_WITH_UNITS: Self = Self("dims_with_units");
    pub const DIMS_ONE_BY_ONE: Self = Self("dims_one_by_one");
    pub const COLLECT: Self = Self("collect");
    pub const FINISH: Self = Self("finish");
}

impl Kernel {
    /// The kernels of the main pass.
    const OF_VALUES: [Self; 7] =
        [Self::ROWS, Self::CODES, Self::DIMS, Self::DIMS_WITH_UNITS, Self::DIMS_ONE_BY_ONE, Self::COLLECT, Self::FINISH];

    /// One of a statistic that has kernels of its own.
    pub(crate) const fn own(name: &'static str) -> Self {
        Self(name)
    }

    /// All kernels of a program.
    pub fn of(program: Program) -> Vec<Self> {
        let own = || OWN.iter().flat_map(|own| own.kernels).map(|&(name, _)| Self(name));
        match program {
            Program::Tokens => vec![Self::TOKENS],
            Program::Values(_) => Self::OF_VALUES.into_iter().chain(own()).collect(),
        }
    }

    /// The function's name in the source.
    pub const fn name(self) -> &'static str {
        self.0
    }
}

impl Program {
    /// Whether there are kernels for values of this type.
    pub const fn counts(dtype: Dtype) -> bool {
        matches!(dtype, Dtype::F32 | Dtype::Bf16 | Dtype::F16)
    }

    /// The keys that have a counter in a block's shared memory: how many, and the first of them.
    ///
    /// A key is a magnitude's code and then its sign. All tables begin at zero where a block can have 160 KiB (A100, Hopper and
    /// later data-centre parts) and reach to 2^33 for bfloat16 and float32 and to 2^5 for float16, 2^11 where it can have 208
    /// KiB. With less, a table of 96 KiB takes magnitudes from 2^-63 to 2^33, or for float16 from 2^-8 to 2^4, beside the two
    /// zeros.
    pub(crate) const fn table(self, limits: Limits) -> (u32, u32) {
        let is_f16 = matches!(self, Self::Values(Dtype::F16));
        match limits.shared_bytes {
            shared if is_f16 && shared >= 4 * (53_248 + 1024) => (53_248, 0),
            shared if shared >= 4 * (40_960 + 256) => (40_960, 0),
            _ if is_f16 => (24_576, 2 * (7 << 10)),
            _ => (24_576, 2 * (64 << 7)),
        }
    }

    /// Bytes of shared memory that the table takes, with the slots behind it.
    pub(crate) const fn table_bytes(self, limits: Limits) -> u32 {
        4 * (self.table(limits).0 + 4)
    }

    /// The definitions and the architecture, as options of the compiler.
    pub fn options(self, architecture: (i32, i32), limits: Limits) -> Vec<String> {
        let number = match self {
            Self::Values(Dtype::Bf16) => 1,
            Self::Values(Dtype::F16) => 2,
            _ => 0,
        };
        let (n_slots, first_key) = self.table(limits);
        vec![
            format!("--gpu-architecture=sm_{}{}", architecture.0, architecture.1),
            "--std=c++17".into(),
            "-diag-suppress=177".into(), // a function of one type is not used by another
            format!("-DLMFACTS_DTYPE={number}"),
            format!("-DLMFACTS_SLOTS={n_slots}"),
            format!("-DLMFACTS_FIRST_KEY={first_key}"),
        ]
    }
}

/// The source of a program, with or without what stands for CUDA in it.
pub fn source(program: Program, with_prelude: bool) -> String {
    let prelude = if with_prelude { PRELUDE } else { "" };
    let values = [prelude, VALUES, &twins_of_values()].concat();
    match program {
        Program::Tokens => [&values, TOKENS, &tokens::Argument::assertions(), &tokens::Arguments::assertions()].concat(),
        Program::Values(_) => {
            let own = OWN.map(|own| own.source).concat();
            [values, OF_VALUES.concat(), numbers(&[("N_PARTIALS", N_PARTIALS), ("DIMS_BLOCKS", DIMS_BLOCKS)]), own].concat()
        }
    }
}

/// What `kernels/values.cu` has to have as it is here.
fn twins_of_values() -> String {
    let numbers = numbers(&[
        ("N_CODES", N_CODES),
        ("N_SEQUENCE_BLOCKS", N_BLOCKS),
        ("N_MAXIMA", N_MAXIMA),
        ("N_DIM_BINS", N_BINS),
        ("N_TOKEN_GROUPS", N_TOKEN_GROUPS),
        ("N_TOKEN_QUANTITIES", TOKEN_QUANTITIES.len()),
    ]);
    let structs =
        [Moments::assertions(), Outlier::assertions(), site::Arguments::assertions(), site::StatisticArguments::assertions()];
    [numbers, structs.concat()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(kib: u32) -> Limits {
        Limits { n_multiprocessors: 1, shared_bytes: kib << 10 }
    }

    #[test]
    fn a_table_fits_the_shared_memory_it_was_chosen_for() {
        for kib in [99, 163, 227] {
            for dtype in [Dtype::F32, Dtype::Bf16, Dtype::F16] {
                let program = Program::Values(dtype);
                assert!(program.table_bytes(limits(kib)) + 1024 <= kib << 10, "{dtype} in {kib} KiB");
            }
        }
        assert_eq!(Program::Values(Dtype::Bf16).table(limits(163)), (40_960, 0));
        assert_eq!(Program::Values(Dtype::F16).table(limits(163)), (40_960, 0));
        assert_eq!(Program::Values(Dtype::F16).table(limits(227)), (53_248, 0));
    }

    #[test]
    fn every_kernel_is_in_the_source_of_its_program_alone() {
        let programs = [Program::Tokens, Program::Values(Dtype::Bf16)];
        for kernel in programs.into_iter().flat_map(Kernel::of) {
            for program in programs {
                let is_there = source(program, false).contains(&format!(" {}(ARGUMENTS(", kernel.name()));
                assert_eq!(is_there, Kernel::of(program).contains(&kernel), "{kernel:?}");
            }
        }
    }
}
