//! Speed of a whole update: all statistics of a site in one pass.
//!
//!     cargo bench --package lmfacts-core --bench updates [-- REGEX]
//!
//! An id is `update/dtype/distribution/level/threads`. The values (64 MiB of them) are each time followed by a pure read of the same
//! buffer on one thread. Two threads, and values other than Gaussian ones, are timed at the best level only, unless
//! `LMFACTS_BENCH_FULL` is set. Before an update is timed, its state is compared with the scalar level's on one thread, bit for bit,
//! and its codes and moments with those of plain loops.

mod support;

use std::cell::LazyCell;

use criterion::Criterion;
use lmfacts_core::dtype::{Bf16, F16};
use lmfacts_core::{BufferView, Level, Pool, SiteAccumulator, SiteConfig, SiteState, TokenBatch};
use support::data::{Distribution, Sample};
use support::paired::{IN_MEMORY, Report};
use support::{N_DIMS, full, levels, naive};

/// Tokens of a sequence.
const N_POSITIONS: usize = 256;
/// Tokens of the update that is checked.
const N_CHECKED: usize = 512;

/// Sequences one after the other.
fn tokens(n: usize) -> TokenBatch {
    let index = 0..n as i64;
    let (sequence, position) = index.clone().map(|i| (i / N_POSITIONS as i64, i % N_POSITIONS as i64)).unzip();
    TokenBatch::new(sequence, position, index.collect(), &vec![true; n]).expect("lists of one length")
}

fn update<S: Sample>(site: &mut SiteAccumulator, values: &[S], tokens: &TokenBatch, pool: &Pool) {
    let view = BufferView::from_slice(values, &[tokens.len(), N_DIMS]).expect("a shape that counts the values");
    site.update(&view, tokens, pool).expect("an update that fits");
}

fn state<S: Sample>(level: Level, values: &[S], tokens: &TokenBatch, pool: &Pool) -> SiteState {
    let mut site = SiteAccumulator::at_level(SiteConfig::default(), level).expect("a level that this processor has");
    update(&mut site, values, tokens, pool);
    site.state()
}

/// Asserts that an update says what the scalar one says on one thread, and what plain loops say.
fn check<S: Sample>(level: Level, values: &[S], pool: &Pool) {
    let tokens = tokens(N_CHECKED);
    let values = &values[..N_CHECKED * N_DIMS];
    let found = state(level, values, &tokens, pool);
    let expected = state(Level::Scalar, values, &tokens, &Pool::new(1).expect("the caller's thread"));
    assert!(found == expected, "the state differs from the scalar level's");
    let counts = naive::counted_codes(&found);
    assert!(counts == naive::codes(values), "the codes differ from a plain loop\'s");
    let is_rest = |&(row, _): &(usize, &[S])| row % N_POSITIONS != 0;
    let rest: Vec<_> = values.chunks_exact(N_DIMS).enumerate().filter(is_rest).map(|(_, row)| row).collect();
    let moments = found.populations[1].arrays.table::<f64, 2>("moments", [6, N_DIMS]).expect("the moments of the dims");
    for (list, plain) in moments.chunks_exact(N_DIMS).zip(naive::dim_moments(&rest)) {
        naive::assert_close("moments", list, &plain, rest.len() as f64, 1e-9);
    }
}

fn bench<S: Sample>(criterion: &mut Criterion, report: &mut Report, pools: &[Pool]) {
    let best = levels().pop();
    for distribution in Distribution::ALL {
        let values = LazyCell::new(|| distribution.buffer::<S>(IN_MEMORY));
        let tokens = tokens(IN_MEMORY / size_of::<S>() / N_DIMS);
        for level in levels() {
            for pool in pools {
                let n_threads = pool.n_threads();
                if !full() && best != Some(level) && (n_threads > 1 || distribution != Distribution::Gaussian) {
                    continue;
                }
                let threads = if n_threads == 1 { "1-thread".into() } else { format!("{n_threads}-threads") };
                let id = format!("{}/{}/{}/{threads}", S::NAME, distribution.name(), level.name());
                report.in_memory(criterion, ("update", &id), &values, || {
                    check(level, &values, pool);
                    let mut site = SiteAccumulator::at_level(SiteConfig::default(), level).expect("an available level");
                    let (values, tokens) = (&values, &tokens);
                    move || update(&mut site, values, tokens, pool)
                });
            }
        }
    }
}

fn main() {
    let mut criterion = Criterion::default().without_plots().configure_from_args();
    let mut report = Report::default();
    let pools = [1, 2].map(|n| Pool::new(n).expect("two threads"));
    bench::<f32>(&mut criterion, &mut report, &pools);
    bench::<Bf16>(&mut criterion, &mut report, &pools);
    bench::<F16>(&mut criterion, &mut report, &pools);
    bench::<f64>(&mut criterion, &mut report, &pools);
    criterion.final_summary();
    report.finish();
}
