//! Known updates for `benches/guard.py`, which tells whether they became slower.
//!
//! Two ways to call it; both write one JSON object a line.
//!
//! - `guard counts LEVEL`: one update of each case inside `measured`, so that an emulator can count the instructions of these calls
//!   and of nothing else. The first update of an accumulator, which makes its tables, comes before.
//! - `guard ratios`: at the level in use, the time of an update over the time of a plain histogram of the same values, in turn. Both
//!   meet the same machine, so the ratio moves far less than the times do.
//!
//! Each case's codes are compared with the plain histogram's first.
#![allow(clippy::print_stdout, reason = "the lines are what it is for")]

mod support;

use std::hint::black_box;

use lmfacts_core::dtype::{Bf16, F16};
use lmfacts_core::{BufferView, Level, Pool, SiteAccumulator, SiteConfig, Statistics, TokenBatch};
use support::data::{Distribution, Sample};
use support::naive;
use support::paired::seconds;

/// Dims of a case.
const N_DIMS: usize = 1024;
/// Tokens of an update whose instructions are counted.
const N_COUNTED: usize = 256;
/// Tokens of an update that is timed.
const N_TIMED: usize = 2048;
/// Tokens of a sequence.
const N_POSITIONS: usize = 128;
/// Rounds of an update and a plain histogram.
const N_ROUNDS: usize = 21;

/// What is done with a case.
#[derive(Clone, Copy)]
enum Act {
    Count,
    Time,
}

fn tokens(n: usize) -> TokenBatch {
    let index = 0..n as i64;
    let (sequence, position) = index.clone().map(|i| (i / N_POSITIONS as i64, i % N_POSITIONS as i64)).unzip();
    TokenBatch::new(sequence, position, index.collect(), &vec![true; n]).expect("lists of one length")
}

/// What is counted. Its name is known to `benches/guard.py`.
#[inline(never)]
fn measured(site: &mut SiteAccumulator, view: &BufferView<'_>, tokens: &TokenBatch, pool: &Pool) {
    site.update(view, tokens, pool).expect("an update that fits");
}

/// The reference of the ratios.
#[inline(never)]
fn plain_histogram<S: Sample>(values: &[S], table: &mut [u32]) {
    for value in values {
        table[usize::from(value.code_by_definition())] += 1;
    }
}

fn case<S: Sample>(act: Act, level: Level, distribution: Distribution, kind: &str, config: SiteConfig) {
    let n_tokens = match act {
        Act::Count => N_COUNTED,
        Act::Time => N_TIMED,
    };
    let values: Vec<S> = distribution.values(n_tokens * N_DIMS);
    let view = BufferView::from_slice(&values, &[n_tokens, N_DIMS]).expect("a shape that counts the values");
    let (tokens, pool) = (tokens(n_tokens), Pool::new(1).expect("the caller's thread"));
    let mut site = SiteAccumulator::at_level(config, level).expect("a level that this processor has");
    site.update(&view, &tokens, &pool).expect("an update that fits");
    let mut counts = naive::counted_codes(&site.state());
    assert!(counts == naive::codes(&values), "the codes differ from a plain loop\'s");
    let name = format!("{}/{}{kind}", S::NAME, distribution.name());
    match act {
        Act::Count => {
            measured(&mut site, black_box(&view), &tokens, &pool);
            println!(r#"{{"case": "{name}", "n_values": {}}}"#, values.len());
        }
        Act::Time => {
            let mut ratios = Vec::new();
            for _ in 0..N_ROUNDS {
                let own = seconds(|| measured(&mut site, &view, &tokens, &pool));
                ratios.push(own / seconds(|| plain_histogram(black_box(&values), &mut counts)));
            }
            println!(r#"{{"case": "{name}", "ratios": {ratios:?}}}"#);
        }
    }
}

fn all_cases(act: Act, level: Level) {
    let plain = SiteConfig::default();
    for distribution in Distribution::ALL {
        case::<f32>(act, level, distribution, "", plain);
        case::<Bf16>(act, level, distribution, "", plain);
        case::<F16>(act, level, distribution, "", plain);
        case::<f64>(act, level, distribution, "", plain);
    }
    let stream =
        SiteConfig { statistics: plain.statistics.with(Statistics::UNIT_SUMS).with(Statistics::SEQUENCE_BLOCKS), ..plain };
    let in_detail = stream.statistics.with(Statistics::BLOCK_CODES).with(Statistics::DIM_HISTOGRAMS);
    case::<f32>(act, level, Distribution::Gaussian, ", residual stream", stream);
    case::<f32>(act, level, Distribution::Gaussian, ", in detail", SiteConfig { statistics: in_detail, ..stream });
}

fn main() {
    // Cargo adds --bench when it runs a benchmark itself.
    let arguments: Vec<_> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["counts", name] => {
            let level = Level::ALL.into_iter().find(|level| level.name() == name && level.is_available());
            all_cases(Act::Count, level.expect("a level that this processor, or its emulator, has"));
        }
        ["ratios"] => all_cases(Act::Time, Level::selected().expect("a level that this processor has")),
        _ => println!("a part of `make bench-guard`: guard counts LEVEL | guard ratios"),
    }
}
