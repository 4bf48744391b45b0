//! Times beside those of a pure read of the same memory, taken in turn: their ratio is the share of the read bandwidth.

use std::cell::LazyCell;
use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, Throughput};

use super::data::Sample;

/// Bytes of a buffer that lies in memory: several times what the last-level cache of one core's share usually holds.
pub const IN_MEMORY: usize = 64 << 20;

/// Samples of each benchmark.
const N_SAMPLES: usize = 10;

/// One benchmark's times.
struct Case {
    id: String,
    n_values: usize,
    n_bytes: usize,
    seconds: Vec<f64>,
    read_s: Vec<f64>,
}

/// All benchmarks of a process.
#[derive(Default)]
pub struct Report {
    cases: Vec<Case>,
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
        let mut prepared = None;
        let mut times = (Vec::new(), Vec::new());
        let mut benches = criterion.benchmark_group(group);
        benches
            .throughput(Throughput::Elements((IN_MEMORY / size_of::<S>()) as u64))
            .sample_size(N_SAMPLES)
            .sampling_mode(SamplingMode::Flat)
            .nresamples(2000)
            .warm_up_time(Duration::from_millis(1))
            .measurement_time(Duration::from_secs(10)); // not taken: see below
        benches.bench_function(id, |bencher| {
            let work = prepared.get_or_insert_with(&prepare);
            bencher.iter_custom(|n_iterations| {
                // A pass over so much memory is long enough to be timed by itself, however many Criterion asks for.
                let own = seconds(&mut *work);
                times.0.push(own);
                times.1.push(seconds(|| S::read(values)));
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
