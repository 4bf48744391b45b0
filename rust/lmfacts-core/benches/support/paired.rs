//! Times beside those of a pure read of the same memory, taken in turn: their ratio is the share of the read bandwidth.
//!
//! With `LMFACTS_BENCH_SECONDS`, and the number of benchmarks in `LMFACTS_BENCH_CASES`, each has its share of the time that is left; it
//! takes more or fewer rounds, and after the end none begins.

use std::cell::LazyCell;
use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, Throughput};

use super::data::Sample;

/// Bytes of a buffer that lies in memory: several times what the last-level cache of one core's share usually holds.
pub const IN_MEMORY: usize = 64 << 20;

/// Rounds of each benchmark; also the samples that Criterion is told of, which wants no fewer.
const N_SAMPLES: usize = 10;
/// Rounds where there is time for more.
const MOST_SAMPLES: usize = 40;
/// Rounds where there is time for fewer.
const FEWEST_SAMPLES: usize = 3;

/// One benchmark's times.
struct Case {
    id: String,
    n_values: usize,
    n_bytes: usize,
    seconds: Vec<f64>,
    read_s: Vec<f64>,
}

/// The time of all benchmarks, and for how many of them it has to do.
#[derive(Clone, Copy)]
struct Budget {
    end: Instant,
    n_cases: usize,
}

/// All benchmarks of a process.
pub struct Report {
    cases: Vec<Case>,
    budget: Option<Budget>,
}

impl Default for Report {
    fn default() -> Self {
        let number = |name| std::env::var(name).ok().map(|text| text.parse::<f64>().expect("a number of seconds or benchmarks"));
        let budget = number("LMFACTS_BENCH_SECONDS").map(|seconds| Budget {
            end: Instant::now() + Duration::from_secs_f64(seconds.max(0.0)),
            n_cases: number("LMFACTS_BENCH_CASES").map_or(1, |n| n as usize),
        });
        Self { cases: Vec::new(), budget }
    }
}

impl Report {
    /// Times work on values that lie in memory, each time followed by a pure read of them.
    ///
    /// `prepare` is called only if the benchmark was not filtered out; it gives the work, after its answer was checked.
    pub fn in_memory<S: Sample, W: FnMut()>(
        &mut self,
        criterion: &mut Criterion,
        (group, id): (&str, &str),
        values: &LazyCell<Vec<S>, impl FnOnce() -> Vec<S>>,
        prepare: impl Fn() -> W,
    ) {
        let time_left = self.budget.map(|budget| budget.end.saturating_duration_since(Instant::now()));
        if time_left == Some(Duration::ZERO) {
            return;
        }
        let n_left = self.budget.map_or(1, |budget| budget.n_cases.saturating_sub(self.cases.len()).max(1));
        let share = time_left.map(|left| left / n_left as u32);
        let mut times = (Vec::new(), Vec::new());
        let mut n_told = 0;
        let mut benches = criterion.benchmark_group(group);
        benches
            .throughput(Throughput::Elements((IN_MEMORY / size_of::<S>()) as u64))
            .sample_size(N_SAMPLES)
            .sampling_mode(SamplingMode::Flat)
            .nresamples(2000)
            .warm_up_time(Duration::from_millis(1))
            .measurement_time(Duration::from_secs(10)); // not taken: see below
        benches.bench_function(id, |bencher| {
            // A pass over so much memory is long enough to be timed by itself, however many Criterion asks for: all rounds are timed the
            // first time it asks, and then it is told of one after the other.
            if times.0.is_empty() {
                times = rounds(prepare(), || S::read(values), share);
            }
            bencher.iter_custom(|n_iterations| {
                let own = times.0[n_told % times.0.len()];
                n_told += 1;
                Duration::from_secs_f64(own * n_iterations as f64)
            });
        });
        benches.finish();
        if !times.0.is_empty() {
            let (seconds, read_s) = times;
            let (n_values, n_bytes) = (values.len(), size_of_val(&values[..]));
            self.cases.push(Case { id: format!("{group}/{id}"), n_values, n_bytes, seconds, read_s });
        }
    }

    /// Prints rates and shares, and writes the times to the file that `LMFACTS_BENCH_TIMES` names, one JSON object a line.
    ///
    /// # Panics
    /// If the file cannot be written.
    #[allow(clippy::print_stdout, reason = "a benchmark prints")]
    pub fn finish(&self) {
        if self.cases.is_empty() {
            return;
        }
        println!("\n{:44} {:>8} {:>8} {:>24}", "values in memory", "Gel/s", "GB/s", "share of a pure read");
        let mut lines = String::new();
        for case in &self.cases {
            let time = median(case.seconds.clone());
            let share = median(case.read_s.iter().zip(&case.seconds).map(|(read, own)| read / own).collect());
            let (values, bytes) = (case.n_values as f64 / time / 1e9, case.n_bytes as f64 / time / 1e9);
            println!("{:44} {values:8.2} {bytes:8.2} {:22.0} %", case.id, 100.0 * share);
            let Case { id, n_values, n_bytes, seconds, read_s } = case;
            let _ = writeln!(
                lines,
                r#"{{"id": "{id}", "n_values": {n_values}, "n_bytes": {n_bytes}, "seconds": {seconds:?}, "read_s": {read_s:?}}}"#
            );
        }
        if let Some(path) = std::env::var_os("LMFACTS_BENCH_TIMES") {
            std::fs::write(path, lines).expect("LMFACTS_BENCH_TIMES names a file that can be written");
        }
    }
}

/// Seconds of work and of a read, in turn, after a round that does not count.
fn rounds<T>(mut work: impl FnMut(), mut read: impl FnMut() -> T, share: Option<Duration>) -> (Vec<f64>, Vec<f64>) {
    let start = Instant::now();
    let mut times = (Vec::new(), Vec::new());
    work();
    read();
    let is_enough = |n: usize| match share {
        None => n == N_SAMPLES,
        Some(share) => n >= FEWEST_SAMPLES && (n == MOST_SAMPLES || start.elapsed() >= share),
    };
    while !is_enough(times.0.len()) {
        times.0.push(seconds(&mut work));
        times.1.push(seconds(&mut read));
    }
    times
}

/// Wall time of one call.
pub fn seconds<T>(work: impl FnOnce() -> T) -> f64 {
    let start = Instant::now();
    black_box(work());
    start.elapsed().as_secs_f64()
}

/// The middle value, or the mean of the middle two.
///
/// # Panics
/// If there are none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    if values.len() % 2 == 1 { values[half] } else { f64::midpoint(values[half - 1], values[half]) }
}
