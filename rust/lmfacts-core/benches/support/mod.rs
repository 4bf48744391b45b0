//! What the benchmarks share: values to read, plain loops to compare with, and times beside those of a pure read.
#![allow(dead_code, unreachable_pub, reason = "each benchmark is a crate of its own and uses a part of this one")]

pub mod data;
pub mod naive;
pub mod paired;

use lmfacts_core::Level;

/// Values of a token in every benchmark.
pub const N_DIMS: usize = 4096;

/// The levels that this processor has, lowest first.
pub fn levels() -> Vec<Level> {
    Level::ALL.into_iter().filter(|level| level.is_available()).collect()
}

/// Whether every combination was asked for, and not only those whose speed can differ.
pub fn full() -> bool {
    std::env::var_os("LMFACTS_BENCH_FULL").is_some_and(|value| !value.is_empty())
}
