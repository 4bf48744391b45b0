//! The platform's baseline: the reference that every other level must equal, and the only level on platforms without one of their own.
//! On AArch64 the baseline has NEON, which the compiler uses.

use super::lines::Baseline as Own;
use super::table::{compile_kernels, kernels};
use crate::dtype::GROUP;

/// All their sums fit the registers, of which AArch64 (whose baseline has NEON) has twice as many.
const DIMS: usize = if cfg!(target_arch = "aarch64") { 4 } else { 2 };
const ROWS: usize = 2;
const ROW_LANES: usize = GROUP;
const FLOATS: usize = generic::FLOAT_LANES;

kernels!(compile_kernels Scalar [inline]);
